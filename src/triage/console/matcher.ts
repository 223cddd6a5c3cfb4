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

/** Beginnings of all lines that may tell something, by their first two characters. */
const STARTS = new Map<number, Buffer[]>();
for (const [key, candidates] of [...BY_START, ...LANDMARKS_BY_START]) {
  const starts = new Set(candidates.map(({ start }) => start));
  STARTS.set(key, [...(STARTS.get(key) ?? []), ...[...starts].map((start) => Buffer.from(start, "latin1"))]);
}

/** Whether a text that begins at `at` may be one that a signature or landmark matches by its beginning. */
export function mayBegin(bytes: Uint8Array, at: number): boolean {
  const key = (bytes[at]! << 8) | bytes[at + 1]!;
  if (MARKED[key] === 0) return false;
  for (const start of STARTS.get(key)!) if (isAt(start, bytes, at)) return true;
  return false;
}

function isAt(start: Uint8Array, bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < start.length; i++) if (bytes[at + i] !== start[i]) return false;
  return true;
}

/** Whether a signature matches a text by its beginning. */
export const beginsSignature = (text: string): boolean =>
  text.length >= 2 && matchByStart(text) !== undefined;

function matchByStart(text: string): SignatureMatch | undefined {
  for (const { start, item } of BY_START.get(keyOf(text, 0)) ?? []) {
    const groups = text.startsWith(start) ? item.pattern.exec(text) : null;
    if (groups !== null) return { signature: item, groups };
  }
  return undefined;
}

/** The first signature of the list that a line, freed of its prefix, matches. */
export function matchSignature(text: string): SignatureMatch | undefined {
  if (text.length < 2) return undefined;
  const match = matchByStart(text);
  if (match !== undefined || !ANY_FLOATING.test(text)) return match;
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
