import type { Finding } from "../finding.ts";

const SAME_WORDS = 12;
/** Titles without addresses and numbers, for a comparison of what two sources wrote of one failure. */
const bare = (text: string): string =>
  text
    .slice(0, 400)
    .toLowerCase()
    .replace(/0x[0-9a-f]+|\d+/g, "")
    .replace(/[^a-z]+/g, " ")
    .trim();

/** Whether two findings are of one failure: equal signatures, or one title within the other. */
export function isSame(a: Finding, b: Finding): boolean {
  if (a.signature !== undefined && a.signature === b.signature) return true;
  const [one, other] = [bare(a.title), bare(b.title)];
  const [short, long] = one.length < other.length ? [one, other] : [other, one];
  return short.length >= SAME_WORDS ? long.includes(short) : short === long;
}
