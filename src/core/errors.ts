/**
 * The closed set of errors. Decoders throw a fixed, grep-able sentence; callers add context with `cause`;
 * the command line joins the chain outward and prints one `hint:` line. Exit codes are API (README).
 */

/** Where in which file something is wrong. Offsets are bytes from the start of the file. */
export interface Where {
  readonly file?: string;
  readonly offset?: number;
}

export interface ErrorDetails {
  readonly where?: Where;
  /** One sentence: what the user can do about it. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
}

/** Base of every error guestcore throws on purpose. Anything else that escapes is a bug (exit 70). */
export abstract class GuestcoreError extends Error {
  /** Stable machine-readable kind, part of the JSON output. */
  abstract readonly code: string;
  abstract readonly exitCode: number;
  readonly hint: string | undefined;
  #where: Where | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.#where = details.where;
    this.hint = details.hint;
  }

  get where(): Where | undefined {
    return this.#where;
  }

  /** Adds the file a decoder was reading, which it does not know itself; a file already named stays. */
  in(file: string): this {
    this.#where = { file, ...this.#where };
    return this;
  }
}

/** Runs a job on a file: what it throws names the file. */
export async function naming<T>(file: string, job: () => Promise<T> | T): Promise<T> {
  try {
    return await job();
  } catch (error) {
    if (
      error instanceof UnsupportedError ||
      error instanceof CorruptError ||
      error instanceof UnavailableError ||
      error instanceof IoError
    ) {
      throw error.in(file);
    }
    throw error;
  }
}

/** Bad flags, an output that exists, an output that is the input. */
export class UsageError extends GuestcoreError {
  override readonly name = "UsageError";
  readonly code = "usage";
  readonly exitCode = 2;
}

/** The input is not a file this job can work on. */
export class UnsupportedError extends GuestcoreError {
  override readonly name = "UnsupportedError";
  readonly code = "unsupported";
  readonly exitCode = 3;
}

/** The input is of the right kind but damaged where the job needs it. */
export class CorruptError extends GuestcoreError {
  override readonly name = "CorruptError";
  readonly code = "corrupt";
  readonly exitCode = 4;
}

/** The input is healthy, but what the job needs is not in it. */
export class UnavailableError extends GuestcoreError {
  override readonly name = "UnavailableError";
  readonly code = "unavailable";
  readonly exitCode = 5;
}

/** Done, with gaps, and the user asked for `--strict`. */
export class GapsError extends GuestcoreError {
  override readonly name = "GapsError";
  readonly code = "gaps";
  readonly exitCode = 6;
}

/** The operating system refused: ENOSPC, EIO, EACCES … The message names the file itself, the decoders' errors do not. */
export class IoError extends GuestcoreError {
  override readonly name = "IoError";
  readonly code = "io";
  readonly exitCode = 7;
}

/** Signals that ask to stop, and the exit status after each: 128 + its number (signal(7)). */
export const SIGNAL_STATUS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;
export type StopSignal = keyof typeof SIGNAL_STATUS;

/** A signal arrived while a job ran. */
export class InterruptedError extends GuestcoreError {
  override readonly name = "InterruptedError";
  readonly code = "interrupted";
  readonly exitCode: number;

  constructor(signal: StopSignal) {
    super(`interrupted by ${signal}`);
    this.exitCode = SIGNAL_STATUS[signal];
  }
}

/** Exit status of a bug in guestcore itself. */
export const INTERNAL_ERROR_EXIT = 70;
