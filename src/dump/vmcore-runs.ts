import { ADDRESS_LIMIT, alignDown, alignUp, PAGE_SIZE } from "../core/address.ts";
import type { PageState } from "../core/memory.ts";
import { overlay, type Range, sizeOf } from "../core/ranges.ts";
import type { ProgramHeader } from "../elf/header.ts";

/** Memory at `paddr` whose first `filesz` bytes of `memsz` lie in the file from `offset` on. */
export type Segment = Pick<ProgramHeader, "paddr" | "memsz" | "filesz" | "offset">;

/** A run of physical memory of one state. */
export interface Run extends Range {
  readonly state: Exclude<PageState, "zero">;
  /** Where the file has its bytes, in one piece; undefined where it has none, or in pieces. */
  readonly offset: number | undefined;
}

/** What segments say of physical memory; both lists are ascending and disjoint. */
export interface VmcoreRuns {
  /** Whole pages. */
  readonly runs: readonly Run[];
  /** What segments that begin or end inside a page have of it: each within one page. */
  readonly pieces: readonly Run[];
}

/** No dump has a page in more pieces, each of which is a read by itself. */
const MAX_PIECES = 16;

/**
 * Segments may overlap, in what they have and in what they leave out: of a page, the first segment of the file that
 * has all of it counts, then several that have it together, then that one of them left it out on purpose.
 */
export function layOut(segments: readonly Segment[], fileSize: number): VmcoreRuns {
  const runs: Run[] = [];
  const ends: Run[] = [];
  for (const segment of segments) addSegment(runs, ends, segment, fileSize);
  const pieces = overlay(ends, layerOf, cut);
  addSeams(runs, pieces);
  return { runs: joined(overlay(runs, layerOf, cut)), pieces };
}

function layerOf({ state, offset }: Run): number {
  if (state === "present") return offset === undefined ? 1 : 0;
  return state === "excluded" ? 2 : 3;
}

function addSegment(
  runs: Run[],
  ends: Run[],
  { paddr, memsz, filesz, offset }: Segment,
  fileSize: number,
): void {
  // p_paddr is all ones where makedumpfile knows no physical address.
  if (!(paddr + memsz <= ADDRESS_LIMIT)) return;
  const dumped = Math.min(filesz, memsz);
  const presentEnd = paddr + Math.max(0, Math.min(dumped, fileSize - offset));
  const first = alignUp(paddr, PAGE_SIZE);
  const last = Math.max(first, alignDown(presentEnd, PAGE_SIZE));
  const dumpedEnd = Math.max(last, alignDown(paddr + dumped, PAGE_SIZE));
  const add = (list: Run[], state: Run["state"], start: number, end: number): void => {
    const at = state === "present" ? offset + (start - paddr) : undefined;
    if (end > start) list.push({ start, end, state, offset: at });
  };
  add(ends, "present", paddr, Math.min(first, presentEnd));
  add(runs, "present", first, last);
  add(ends, "present", last, presentEnd);
  add(runs, "absent", last, dumpedEnd);
  add(runs, "excluded", dumpedEnd, alignDown(paddr + memsz, PAGE_SIZE));
}

/** Pages that segments have together: one ends inside them, another begins there. */
function addSeams(runs: Run[], pieces: readonly Run[]): void {
  for (let i = 0; i < pieces.length; ) {
    const start = alignDown(pieces[i]!.start, PAGE_SIZE);
    const end = start + PAGE_SIZE;
    const first = i;
    let known = 0;
    for (; i < pieces.length && pieces[i]!.start < end; i++) known += sizeOf(pieces[i]!);
    const whole = known === PAGE_SIZE && i - first <= MAX_PIECES;
    if (whole) runs.push({ start, end, state: "present", offset: undefined });
  }
}

const cut = ({ start: from, state, offset }: Run, start: number, end: number): Run => ({
  start,
  end,
  state,
  offset: offset === undefined ? undefined : offset + (start - from),
});

/** Joins, in place, what touches and is alike, in the file too. */
function joined(runs: Run[]): Run[] {
  let count = 0;
  let last: Run | undefined;
  for (const run of runs) {
    if (last !== undefined && isContinued(last, run)) {
      last = { ...last, end: run.end };
      runs[count - 1] = last;
    } else {
      last = run;
      runs[count++] = run;
    }
  }
  runs.length = count;
  return runs;
}

const isContinued = (run: Run, next: Run): boolean =>
  run.end === next.start &&
  run.state === next.state &&
  next.offset === (run.offset === undefined ? undefined : run.offset + sizeOf(run));
