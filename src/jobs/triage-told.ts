import { GuestcoreError, InterruptedError } from "../core/errors.ts";

/** What is told of in its place, while the others say what they know. */
export const isTold = (error: unknown): error is GuestcoreError =>
  error instanceof GuestcoreError && !(error instanceof InterruptedError);
