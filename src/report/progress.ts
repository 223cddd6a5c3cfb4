import { bytesText } from "../core/text.ts";

/** A moment of a running job. */
export interface ProgressState {
  readonly label: string;
  readonly done: number;
  /** 0 where it is not known. */
  readonly total: number;
  /** Since the job began. */
  readonly seconds: number;
}

/** `copying 1.2 GiB of 5.0 GiB  24%  812.0 MiB/s  5 s left`; of a stream there is no telling how long it is. */
export function progressLine({ label, done, total, seconds }: ProgressState): string {
  const rate = seconds > 0 && done > 0 ? done / seconds : undefined;
  const speed = rate === undefined ? [] : [`${bytesText(rate)}/s`];
  if (total === 0) return [`${label} ${bytesText(done)}`, ...speed].join("  ");
  const percent = Math.floor((done / total) * 100);
  const parts = [`${label} ${bytesText(done)} of ${bytesText(total)}`, `${String(percent).padStart(3)}%`];
  if (rate !== undefined) parts.push(...speed, `${Math.ceil((total - done) / rate)} s left`);
  return parts.join("  ");
}

/**
 * A line of guestcore/progress/1.
 * @param finished whether this part of the job has ended, well or not
 */
export const progressJson = ({ label, done, total, seconds }: ProgressState, finished: boolean): string =>
  JSON.stringify({
    schema: "guestcore/progress/1",
    label,
    done,
    total,
    seconds: Number(seconds.toFixed(1)),
    finished,
  });
