import { LANDMARKS, type Landmark } from "./landmarks.ts";
import type { Signature } from "./signature.ts";
import { SIGNATURES } from "./signatures/index.ts";

export interface SignatureMatch {
  readonly signature: Signature;
  readonly groups: readonly (string | undefined)[];
}

interface Candidate<T> {
  readonly start: string;
  readonly item: T;
}

/** Lines by their first two characters, in the order of the list. */
const keyOf = (text: string, at: number): number =>
  ((text.charCodeAt(at) & 0xff) << 8) | (text.charCodeAt(at + 1) & 0xff);

/** 1 for the first two characters of every line that may tell something. */
const MARKED = new Uint8Array(0x10000);

function bucketsOf<T extends { readonly starts?: readonly string[] }>(
  items: readonly T[],
): Map<number, Candidate<T>[]> {
  const buckets = new Map<number, Candidate<T>[]>();
  for (const item of items) {
    for (const start of item.starts ?? []) {
      const key = keyOf(start, 0);
      MARKED[key] = 1;
      buckets.set(key, [...(buckets.get(key) ?? []), { start, item }]);
    }
  }
  return buckets;
}

const BY_START = bucketsOf(SIGNATURES);
const LANDMARKS_BY_START = bucketsOf(LANDMARKS);
const FLOATING = SIGNATURES.filter(({ contains }) => contains !== undefined);
const ANY_FLOATING = new RegExp(
  [...new Set(FLOATING.map(({ contains }) => contains!.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")))].join("|"),
);

const NEXT_FLOATING = new RegExp(ANY_FLOATING.source, "g");

/** Beginnings of all lines that may tell something, by their first two characters. */
const STARTS = new Map<number, string[]>();
for (const [key, candidates] of [...BY_START, ...LANDMARKS_BY_START]) {
  STARTS.set(key, [...new Set([...(STARTS.get(key) ?? []), ...candidates.map(({ start }) => start)])]);
}

/** Whether a line that begins at `at` may be one that a signature or landmark matches by its beginning. */
export function mayTell(text: string, at: number): boolean {
  const key = keyOf(text, at);
  return MARKED[key] === 1 && STARTS.get(key)!.some((start) => text.startsWith(start, at));
}

/** Whether a piece of text is in it that only a line that tells something has. */
export const mayTellInside = (text: string): boolean => ANY_FLOATING.test(text);

/** Where the next such piece is, from `from` on; Infinity without one. */
export function nextInside(text: string, from: number): number {
  NEXT_FLOATING.lastIndex = from;
  return NEXT_FLOATING.exec(text)?.index ?? Number.POSITIVE_INFINITY;
}

/** The first signature of the list that a line, freed of its prefix, matches. */
export function matchSignature(text: string): SignatureMatch | undefined {
  if (text.length < 2) return undefined;
  for (const { start, item } of BY_START.get(keyOf(text, 0)) ?? []) {
    const groups = text.startsWith(start) ? item.pattern.exec(text) : null;
    if (groups !== null) return { signature: item, groups };
  }
  if (!mayTellInside(text)) return undefined;
  for (const signature of FLOATING) {
    const groups = text.includes(signature.contains!) ? signature.pattern.exec(text) : null;
    if (groups !== null) return { signature, groups };
  }
  return undefined;
}

/** The landmark that a line is, and what it is about. */
export function matchLandmark(
  text: string,
): { readonly landmark: Landmark; readonly about: string } | undefined {
  if (text.length < 2) return undefined;
  for (const { start, item } of LANDMARKS_BY_START.get(keyOf(text, 0)) ?? []) {
    const groups = text.startsWith(start) ? item.pattern.exec(text) : null;
    if (groups !== null) return { landmark: item, about: groups[1] ?? "" };
  }
  return undefined;
}
