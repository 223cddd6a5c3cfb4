import type { Where } from "../core/errors.ts";
import { hex64 } from "../core/text.ts";
import { VERSION } from "../core/version.ts";
import type { Warning } from "../core/warnings.ts";

/** A file a job read. */
export interface InputFacts {
  readonly path: string;
  readonly size: number;
}

const TOOL = { name: "guestcore", version: VERSION } as const;

/**
 * The envelope of every JSON output. Keys are only ever added; a 64-bit value is a string "0x…" of 16 digits, a size
 * or offset a number.
 */
export function envelope(
  kind: string,
  inputs: readonly InputFacts[],
  warnings: readonly Warning[],
  result: unknown,
): string {
  return serialise({
    schema: `guestcore/${kind}/1`,
    tool: TOOL,
    inputs: inputs.map(({ path, size }) => ({ path, size })),
    warnings: warnings.map(({ code, message, hint, where }) => ({ code, message, hint, where })),
    result,
  });
}

/** What a failed job prints instead; `code` is that of the error class. */
export function errorEnvelope(error: {
  readonly code: string;
  readonly message: string;
  readonly hint: string | undefined;
  readonly where: Where | undefined;
}): string {
  const { code, message, hint, where } = error;
  return serialise({ schema: "guestcore/error/1", tool: TOOL, error: { code, message, hint, where } });
}

/** One value a line, for lists that are read as they come. */
export const jsonLine = (value: unknown): string => serialise(value, 0);

/** A value as `envelope` would write it so deep inside. Strings have no line breaks in JSON. */
export const jsonElement = (value: unknown, depth: number): string => {
  const margin = "  ".repeat(depth);
  return margin + serialise(value).trimEnd().replaceAll("\n", `\n${margin}`);
};

const serialise = (value: unknown, indent = 2): string =>
  `${JSON.stringify(value, (_key, item) => (typeof item === "bigint" ? hex64(item) : item), indent)}\n`;
