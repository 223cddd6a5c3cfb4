import { UsageError } from "../../core/errors.ts";

/** How the numbers without 0x of one input are meant; "unknown" where they read as either. */
export type Base = "hex" | "decimal" | "unknown";

/**
 * The base of an input's bare numbers: what the user says, else hex where one of them has a letter or a zero in front;
 * numbers below 8 are the same in both.
 */
export function baseOf(numbers: readonly string[], asked: "hex" | "decimal" | undefined): Base {
  if (asked !== undefined) return asked;
  const bare = numbers.filter((number) => /^[0-9a-f]+$/i.test(number));
  if (bare.some((number) => /[a-f]/i.test(number) || /^0[0-9]/.test(number))) return "hex";
  return bare.some((number) => number.length > 1 || number > "7") ? "unknown" : "hex";
}

/**
 * A number of at most eight digits; undefined when the text is none.
 * @throws UsageError when its base is not known
 */
export function numberIn(text: string, base: Base): number | undefined {
  if (/^0x[0-9a-f]{1,8}$/i.test(text)) return Number.parseInt(text, 16);
  if (!/^[0-9a-f]{1,8}$/i.test(text)) return undefined;
  if (base === "unknown") {
    throw new UsageError("numbers without 0x can be hexadecimal or decimal, and nothing here tells which", {
      hint: "pass --numbers hex or --numbers decimal",
    });
  }
  if (base === "hex") return Number.parseInt(text, 16);
  return /^[0-9]+$/.test(text) ? Number.parseInt(text, 10) : undefined;
}
