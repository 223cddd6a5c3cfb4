import type { ProcessMapping } from "../core/process.ts";
import { indexAtOrAbove } from "../core/ranges.ts";

/** How much of a range of process memory a core holds. */
export interface DumpedPart {
  /** Bytes that the core claims to hold and that lie beyond the end of the file. */
  readonly truncated: number;
  /** Bytes that the core does not claim to hold, mapped or not. */
  readonly absent: number;
  /** Address of the first of them; the start of the range when there are none. */
  readonly firstAbsent: number;
}

/** Tells how much of any range a core holds, in the time of a binary search however many mappings there are. */
export class DumpedMemory {
  readonly #mappings: readonly ProcessMapping[];
  /** Bytes below each mapping that are in the file, and that the core claims to hold. */
  readonly #present: Float64Array;
  readonly #dumped: Float64Array;
  /** For each mapping the first address from its start on that the core does not claim to hold. */
  readonly #nextAbsent: Float64Array;

  /** @param mappings ascending and disjoint */
  constructor(mappings: readonly ProcessMapping[]) {
    this.#mappings = mappings;
    this.#present = new Float64Array(mappings.length + 1);
    this.#dumped = new Float64Array(mappings.length + 1);
    for (const [i, { start, presentEnd, dumpedEnd }] of mappings.entries()) {
      this.#present[i + 1] = this.#present[i]! + (presentEnd - start);
      this.#dumped[i + 1] = this.#dumped[i]! + (dumpedEnd - start);
    }
    this.#nextAbsent = new Float64Array(mappings.length);
    for (let i = mappings.length - 1; i >= 0; i--) {
      const { end, dumpedEnd } = mappings[i]!;
      const joins = dumpedEnd === end && mappings[i + 1]?.start === end;
      this.#nextAbsent[i] = joins ? this.#nextAbsent[i + 1]! : dumpedEnd;
    }
  }

  partOf(start: number, end: number): DumpedPart {
    const present = this.#below(end, "present") - this.#below(start, "present");
    const dumped = this.#below(end, "dumped") - this.#below(start, "dumped");
    const absent = end - start - dumped;
    return {
      truncated: dumped - present,
      absent,
      firstAbsent: absent > 0 ? this.#firstAbsent(start) : start,
    };
  }

  /** Bytes below an address that are in the file, or that the core claims to hold. */
  #below(address: number, what: "present" | "dumped"): number {
    const i = indexAtOrAbove(this.#mappings, address);
    const sums = what === "present" ? this.#present : this.#dumped;
    const mapping = this.#mappings[i];
    if (mapping === undefined || mapping.start >= address) return sums[i]!;
    const end = what === "present" ? mapping.presentEnd : mapping.dumpedEnd;
    return sums[i]! + Math.min(address, end) - mapping.start;
  }

  #firstAbsent(start: number): number {
    const i = indexAtOrAbove(this.#mappings, start);
    const mapping = this.#mappings[i];
    if (mapping === undefined || mapping.start > start) return start;
    return Math.max(start, this.#nextAbsent[i]!);
  }
}
