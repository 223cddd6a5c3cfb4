import { PAGE_SIZE } from "../core/address.ts";
import { CorruptError } from "../core/errors.ts";
import { type Range, totalSize } from "../core/ranges.ts";
import { bytesText, hex, plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";

/** Runs of pages that may be lost; more than that is a dump to be taken again. */
export const MAX_LOST_RUNS = 4096;

/** Pages that were planned as present and turned out to be unreadable while they were copied. */
export class LostPages {
  readonly #runs: { start: number; end: number }[] = [];

  /** Ascending, disjoint and page-aligned. */
  get runs(): readonly Range[] {
    return this.#runs;
  }

  /**
   * Takes note of the page at an address; called in ascending order.
   * @throws CorruptError when there are too many
   */
  readonly add = (address: number): void => {
    const last = this.#runs.at(-1);
    if (last?.end === address) last.end += PAGE_SIZE;
    else this.#runs.push({ start: address, end: address + PAGE_SIZE });
    if (this.#runs.length <= MAX_LOST_RUNS) return;
    throw new CorruptError(`more than ${MAX_LOST_RUNS} pages, the last at ${hex(address)}, cannot be read`, {
      hint: "the dump is damaged, or became shorter while it was read; guestcore verify FILE says what else is",
    });
  };

  /** What is to be told, when any was lost. */
  warnings(): Warning[] {
    const [first] = this.#runs;
    if (first === undefined) return [];
    const size = totalSize(this.#runs);
    return [
      {
        code: "DMP007",
        message: `${plural(size / PAGE_SIZE, "page")} (${bytesText(size)}) cannot be read although the dump has them, the first at ${hex(first.start)}: they count as missing`,
        hint: "the dump is damaged there; copy it again",
      },
    ];
  }
}

/** What is left of ranges of memory without what was lost; `cut` returns the part of one. */
export function withoutLost<R extends Range>(
  ranges: readonly R[],
  lost: readonly Range[],
  cut: (range: R, start: number, end: number) => R,
): R[] {
  const left: R[] = [];
  let next = 0;
  for (const range of ranges) {
    let at = range.start;
    for (; next < lost.length && lost[next]!.start < range.end; next++) {
      const { start, end } = lost[next]!;
      if (start > at) left.push(cut(range, at, start));
      at = Math.max(at, end);
      // The rest of it may be in the next range.
      if (end > range.end) break;
    }
    if (at < range.end) left.push(at === range.start ? range : cut(range, at, range.end));
  }
  return left;
}
