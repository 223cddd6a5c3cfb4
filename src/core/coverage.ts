/** Coverage of memory, in bytes; the four add up to its size. */
export interface Coverage {
  present: number;
  zero: number;
  /** Left out on purpose by whoever made the dump. */
  excluded: number;
  /** Not in the input, which should have it. */
  missing: number;
}

export const noCoverage = (): Coverage => ({ present: 0, zero: 0, excluded: 0, missing: 0 });

/** All of them together. */
export function sumOf(coverages: readonly Coverage[]): Coverage {
  const total = noCoverage();
  for (const { present, zero, excluded, missing } of coverages) {
    total.present += present;
    total.zero += zero;
    total.excluded += excluded;
    total.missing += missing;
  }
  return total;
}
