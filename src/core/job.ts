import type { Warning } from "./warnings.ts";

/** How a job tells how far it is. Implementations decide whether and how to show it. */
export interface ProgressSink {
  /** @param total bytes of work, 0 where that is not known; @param label what is being done, e.g. "copying" */
  start(total: number, label: string): void;
  update(done: number): void;
  finish(): void;
}

/** What a job needs of its surroundings; the command line and tests each bring their own. */
export interface JobContext {
  readonly progress: ProgressSink;
  readonly warn: (warning: Warning) => void;
  /**
   * Awaited by long loops every few dozen megabytes: lets signals in.
   * @throws InterruptedError when one came
   */
  readonly checkpoint: () => Promise<void>;
  /** Where compressed inputs may be unpacked, in order of preference. */
  readonly temporaryDirectories: readonly string[];
}
