import { alignUp, PAGE_SIZE } from "../core/address.ts";
import { UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { PhysicalMemory } from "../core/memory.ts";
import { type Range, totalSize } from "../core/ranges.ts";
import { elfHeadersSize } from "../elf/encode.ts";
import type { Guest } from "../guest/guest.ts";
import { BITMAP_WINDOW, BLOCK, type KdumpLayout, layOutKdump } from "./kdump-header.ts";
import { MAX_LOST_RUNS } from "./lost-pages.ts";
import { encodeCarried, VCPU_NOTES_SIZE, VMCOREINFO_NOTE_LIMIT } from "./notes.ts";

/** `flat`: a kdump-compressed dump as the flattened stream that can be piped. */
export type VmcoreFormat = "elf" | "kdump" | "flat" | "raw" | "lime";

/** A run of guest-physical memory that is there, and where in the file it goes; in a kdump there is no one place. */
export interface PlannedLoad extends Range {
  readonly offset: number;
}

/** A run of guest-physical memory that is not in the input, or was left out of it on purpose. */
export interface MissingRange extends Range {
  readonly state: "absent" | "excluded";
}

/**
 * Everything that will be written, with offsets, before a byte is written. What the headers say of the kernel is
 * known only after its memory was read once, so room for it is set aside.
 */
export interface VmcorePlan {
  readonly format: VmcoreFormat;
  readonly loads: readonly PlannedLoad[];
  /** What the guest has and the input has not; never in the file. */
  readonly missing: readonly MissingRange[];
  readonly notesOffset: number;
  readonly size: number;
  /** Bytes of memory that do not lie raw in the input, but compressed or in pieces. */
  readonly gathered: number;
  /** Program headers there is room for; 0 in other formats than ELF. */
  readonly headers: number;
  /** Of a kdump-compressed dump; `size` is then what it is at most. */
  readonly kdump?: KdumpLayout;
}

/** 65 535 program headers need section header 0, which makedumpfile and vmcore-dmesg of 2022 cannot read. */
const MAX_LOADS = 1 << 20;
/** The kernel image takes some dozen MiB; in memory with more holes the last of it stays without its own address. */
export const MAX_IMAGE_LOADS = 1024;
/** u32 magic, u32 version, u64 first address, u64 last address, u64 reserved (LiME `lime.h`). */
export const LIME_HEADER_SIZE = 32;
/** Neighbours join into one load: 1 TiB whose pages all lie apart in the input. */
const MAX_STEPS = 2 ** 28;

/**
 * Lays out a vmcore: ELF header and program headers at 64, notes, then memory at page-aligned offsets; or a raw
 * image, where the file offset is the guest-physical address.
 * @throws UnsupportedError when the guest's memory is in more than a million pieces
 */
export async function planVmcore(
  guest: Guest,
  format: VmcoreFormat,
  checkpoint?: JobContext["checkpoint"],
): Promise<VmcorePlan> {
  const { present, missing, gathered } = await survey(guest, checkpoint);
  const others = { format, missing, gathered, headers: 0 };
  if (format === "raw") {
    const loads = present.map(({ start, end }) => ({ start, end, offset: start }));
    return { ...others, loads, notesOffset: 0, size: loads.at(-1)?.end ?? 0 };
  }
  if (format === "lime") {
    const { loads, size } = placed(present, 0, LIME_HEADER_SIZE);
    return { ...others, loads, notesOffset: 0, size };
  }
  const notesRoom = notesRoomOf(guest);
  if (format !== "elf") {
    const bytes = totalSize(present);
    const kdump = layOutKdump(Math.ceil(guest.ranges.at(-1)!.end / BLOCK), notesRoom, bytes / BLOCK);
    const loads = present.map((range) => ({ ...range, offset: 0 }));
    return { ...others, loads, notesOffset: kdump.notes, size: kdump.data + bytes, kdump };
  }
  // One entry for the notes, one for each load that the kernel image may reach into.
  const headers = 1 + present.length + Math.min(present.length, MAX_IMAGE_LOADS);
  // Each run of pages that turns out to be unreadable may cut a load in two, and the kernel image in it.
  const spare = Math.min(MAX_LOST_RUNS, Math.ceil(gathered / PAGE_SIZE));
  const notesOffset = elfHeadersSize(headers + spare + Math.min(spare, MAX_IMAGE_LOADS));
  const { loads, size } = placed(present, alignUp(notesOffset + notesRoom, PAGE_SIZE), 0);
  return { format, loads, missing, gathered, notesOffset, size, headers };
}

/** Room for the notes of a vmcore. */
function notesRoomOf({ notes, vcpus }: Guest): number {
  return encodeCarried(notes ?? []).length + vcpus.length * VCPU_NOTES_SIZE + VMCOREINFO_NOTE_LIMIT;
}

/** One load behind the other, each behind a header of its own. */
function placed(
  ranges: readonly Range[],
  start: number,
  header: number,
): { readonly loads: PlannedLoad[]; readonly size: number } {
  let size = start;
  const loads = ranges.map((range) => {
    const offset = size + header;
    size = offset + (range.end - range.start);
    return { ...range, offset };
  });
  return { loads, size };
}

/** Extents looked at between two looks at signals. */
const CHECKPOINT_STEPS = 16_384;

/** What is there and what is not, each as the longest runs; and how many bytes have to be gathered page by page. */
export async function survey(
  { ranges, memory }: { readonly ranges: readonly Range[]; readonly memory: PhysicalMemory },
  checkpoint?: JobContext["checkpoint"],
): Promise<{ present: Range[]; missing: MissingRange[]; gathered: number }> {
  const present: Range[] = [];
  const missing: MissingRange[] = [];
  let gathered = 0;
  let steps = 0;
  for (const range of ranges) {
    for (let at = range.start; at < range.end; steps++) {
      const { state, end, at: place } = memory.extentAt(at, range.end, false);
      if (state === "present" && place === undefined) gathered += end - at;
      if (state === "present" || state === "zero") append(present, { start: at, end }, () => true);
      else append(missing, { start: at, end, state }, (last) => last.state === state);
      if (present.length + missing.length > MAX_LOADS) throw tooManyPieces(MAX_LOADS);
      if (steps > MAX_STEPS) throw tooManyPieces(MAX_STEPS);
      if (steps % CHECKPOINT_STEPS === CHECKPOINT_STEPS - 1) await checkpoint?.();
      at = end;
    }
  }
  return { present, missing, gathered };
}

/** Adds a range to an ascending list, to its last one where that touches and `joins`. */
function append<R extends Range>(list: R[], range: R, joins: (last: R) => boolean): void {
  const last = list.at(-1);
  if (last !== undefined && last.end === range.start && joins(last)) {
    list[list.length - 1] = { ...last, end: range.end };
  } else list.push(range);
}

const tooManyPieces = (limit: number): UnsupportedError =>
  new UnsupportedError(`the guest's memory is in more than ${limit} pieces`);

/** Bytes of memory the file will hold, zero pages included. */
export const plannedBytes = (plan: VmcorePlan): number => totalSize(plan.loads);

/** Bytes of a kdump-compressed dump's bitmaps that are no holes, and of its descriptors; none in other formats. */
export function kdumpTables({ kdump, loads, missing }: VmcorePlan): {
  readonly bitmaps: number;
  readonly descriptors: number;
} {
  if (kdump === undefined) return { bitmaps: 0, descriptors: 0 };
  const excluded = missing.filter(({ state }) => state === "excluded");
  const ram = [...loads, ...excluded].sort((left, right) => left.start - right.start);
  const most = kdump.dumpedBitmap - kdump.ramBitmap;
  const bitmap = (ranges: readonly Range[]) => Math.min(most, windowsIn(ranges) * BITMAP_WINDOW);
  return { bitmaps: bitmap(ram) + bitmap(loads), descriptors: kdump.data - kdump.descriptors };
}

/** Windows of a bitmap with a bit of ascending ranges. */
function windowsIn(ranges: readonly Range[]): number {
  const memory = 8 * BITMAP_WINDOW * BLOCK;
  let [count, next] = [0, 0];
  for (const { start, end } of ranges) {
    const [first, after] = [Math.max(next, Math.floor(start / memory)), Math.ceil(end / memory)];
    count += Math.max(0, after - first);
    next = Math.max(next, after);
  }
  return count;
}
