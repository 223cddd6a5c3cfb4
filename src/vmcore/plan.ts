import { alignUp, PAGE_SIZE } from "../core/address.ts";
import { UnsupportedError } from "../core/errors.ts";
import { type Range, totalSize } from "../core/ranges.ts";
import { elfHeadersSize } from "../elf/encode.ts";
import type { Guest } from "../guest/guest.ts";
import { VCPU_NOTES_SIZE, VMCOREINFO_NOTE_LIMIT } from "./notes.ts";

export type VmcoreFormat = "elf" | "raw";

/** A run of guest-physical memory that is there, and where in the file it goes. */
interface PlannedLoad extends Range {
  readonly offset: number;
}

/**
 * Everything that will be written, with offsets, before a byte is written. What the headers say of the kernel is
 * known only after its memory was read once, so room for it is set aside.
 */
export interface VmcorePlan {
  readonly format: VmcoreFormat;
  readonly loads: readonly PlannedLoad[];
  /** What the guest has and the input has not; never in the file. */
  readonly missing: readonly Range[];
  readonly notesOffset: number;
  readonly size: number;
}

/** 65 535 program headers need section header 0, which makedumpfile and vmcore-dmesg of 2022 cannot read. */
const MAX_LOADS = 1 << 20;
/** Holes of a sparse input count too; neighbours join into one load. */
const MAX_STEPS = 1 << 24;

/**
 * Lays out a vmcore: ELF header and program headers at 64, notes, then memory at page-aligned offsets; or a raw
 * image, where the file offset is the guest-physical address.
 * @throws UnsupportedError when the guest's memory is in more than a million pieces
 */
export function planVmcore(guest: Guest, format: VmcoreFormat): VmcorePlan {
  const { present, missing } = survey(guest);
  if (format === "raw") {
    const loads = present.map(({ start, end }) => ({ start, end, offset: start }));
    return { format, loads, missing, notesOffset: 0, size: loads.at(-1)?.end ?? 0 };
  }
  // One entry for the notes, one for the kernel image.
  const notesOffset = elfHeadersSize(present.length + 2);
  const notesRoom = guest.vcpus.length * VCPU_NOTES_SIZE + VMCOREINFO_NOTE_LIMIT;
  let offset = alignUp(notesOffset + notesRoom, PAGE_SIZE);
  const loads: PlannedLoad[] = [];
  for (const { start, end } of present) {
    loads.push({ start, end, offset });
    offset += end - start;
  }
  return { format, loads, missing, notesOffset, size: offset };
}

/** What is there and what is not, each as the longest runs. */
function survey({ ranges, memory }: Guest): { present: Range[]; missing: Range[] } {
  const present: { start: number; end: number }[] = [];
  const missing: { start: number; end: number }[] = [];
  let steps = 0;
  for (const range of ranges) {
    for (let at = range.start; at < range.end; steps++) {
      const extent = memory.extentAt(at, range.end);
      const list = extent.state === "present" || extent.state === "zero" ? present : missing;
      const last = list.at(-1);
      if (last?.end === at) last.end = extent.end;
      else list.push({ start: at, end: extent.end });
      if (list.length > MAX_LOADS || steps > MAX_STEPS) {
        throw new UnsupportedError(`the guest's memory is in more than ${MAX_LOADS} pieces`);
      }
      at = extent.end;
    }
  }
  return { present, missing };
}

/** Bytes of memory the file will hold, zero pages included. */
export const plannedBytes = (plan: VmcorePlan): number => totalSize(plan.loads);
