import { bytesText } from "../core/text.ts";

/** A moment of a running job. */
export interface ProgressState {
  readonly label: string;
  readonly done: number;
  readonly total: number;
  /** Since the job began. */
  readonly seconds: number;
}

/** `copying 1.2 GiB of 5.0 GiB  24%  812.0 MiB/s  5 s left`. */
export function progressLine({ label, done, total, seconds }: ProgressState): string {
  const percent = total === 0 ? 100 : Math.floor((done / total) * 100);
  const parts = [`${label} ${bytesText(done)} of ${bytesText(total)}`, `${String(percent).padStart(3)}%`];
  if (seconds > 0 && done > 0) {
    const rate = done / seconds;
    parts.push(`${bytesText(rate)}/s`, `${Math.ceil((total - done) / rate)} s left`);
  }
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
