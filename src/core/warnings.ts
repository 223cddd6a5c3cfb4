import type { Where } from "./errors.ts";

/**
 * Something the user must know although the job went on. `code` is stable (`guestcore explain CODE`);
 * `message` is one true line; `hint` says what would have avoided it or cures it.
 */
export interface Warning {
  readonly code: string;
  readonly message: string;
  readonly hint?: string;
  readonly where?: Where;
}
