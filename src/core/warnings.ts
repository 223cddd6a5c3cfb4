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

/**
 * Codes that tell of damage: something that was in the file once, and is cut, wrong or cannot be read. The others tell what
 * a format does not have, what was left out on purpose, or what was taken for granted.
 */
export const DAMAGE_CODES: ReadonlySet<string> = new Set([
  ...["CORE001", "CORE002", "CORE003", "CORE004", "CORE005"],
  ...["DMP001", "DMP002", "DMP007", "DMP010", "DMP020", "DMP024"],
  ...["DMP025", "DMP026", "DMP027", "DMP029", "DMP030", "DMP039", "DMP040"],
  "GST010",
  "GST011",
]);

/** Whether a warning tells of damage: `verify` calls such a dump damaged, and `--strict` does not let it pass. */
export const isDamage = ({ code }: Pick<Warning, "code">): boolean => DAMAGE_CODES.has(code);
