import { alignUp, PAGE_SIZE } from "../core/address.ts";
import { UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { type Range, totalSize } from "../core/ranges.ts";
import { elfHeadersSize } from "../elf/encode.ts";
import type { Guest } from "../guest/guest.ts";
import { encodeCarried, VCPU_NOTES_SIZE, VMCOREINFO_NOTE_LIMIT } from "./notes.ts";

export type VmcoreFormat = "elf" | "raw";

/** A run of guest-physical memory that is there, and where in the file it goes. */
interface PlannedLoad extends Range {
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
  /** Program headers there is room for; 0 in a raw image. */
  readonly headers: number;
}

/** 65 535 program headers need section header 0, which makedumpfile and vmcore-dmesg of 2022 cannot read. */
const MAX_LOADS = 1 << 20;
/** The kernel image takes some dozen MiB; in memory with more holes the last of it stays without its own address. */
export const MAX_IMAGE_LOADS = 1024;
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
  const { present, missing } = await survey(guest, checkpoint);
  if (format === "raw") {
    const loads = present.map(({ start, end }) => ({ start, end, offset: start }));
    return { format, loads, missing, notesOffset: 0, size: loads.at(-1)?.end ?? 0, headers: 0 };
  }
  // One entry for the notes, one for each load that the kernel image may reach into.
  const headers = 1 + present.length + Math.min(present.length, MAX_IMAGE_LOADS);
  const notesOffset = elfHeadersSize(headers);
  const carried = encodeCarried(guest.notes ?? []).length;
  const notesRoom = carried + guest.vcpus.length * VCPU_NOTES_SIZE + VMCOREINFO_NOTE_LIMIT;
  let offset = alignUp(notesOffset + notesRoom, PAGE_SIZE);
  const loads: PlannedLoad[] = [];
  for (const { start, end } of present) {
    loads.push({ start, end, offset });
    offset += end - start;
  }
  return { format, loads, missing, notesOffset, size: offset, headers };
}

/** Extents looked at between two looks at signals. */
const CHECKPOINT_STEPS = 16_384;

/** What is there and what is not, each as the longest runs. */
async function survey(
  { ranges, memory }: Guest,
  checkpoint?: JobContext["checkpoint"],
): Promise<{ present: Range[]; missing: MissingRange[] }> {
  const present: Range[] = [];
  const missing: MissingRange[] = [];
  let steps = 0;
  for (const range of ranges) {
    for (let at = range.start; at < range.end; steps++) {
      const { state, end } = memory.extentAt(at, range.end, false);
      if (state === "present" || state === "zero") append(present, { start: at, end }, () => true);
      else append(missing, { start: at, end, state }, (last) => last.state === state);
      if (present.length + missing.length > MAX_LOADS) throw tooManyPieces(MAX_LOADS);
      if (steps > MAX_STEPS) throw tooManyPieces(MAX_STEPS);
      if (steps % CHECKPOINT_STEPS === CHECKPOINT_STEPS - 1) await checkpoint?.();
      at = end;
    }
  }
  return { present, missing };
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
