import type { ByteSource } from "../core/memory.ts";
import { bytesText } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { EM_X86_64 } from "../elf/constants.ts";
import type { DumpFiles, DumpFormat, MachineDump } from "./format.ts";
import { cpusOf } from "./sadump-cpus.ts";
import { diskSetOf } from "./sadump-disk-set.ts";
import { readSadumpHeader, type SadumpHeader } from "./sadump-header.ts";
import { kdumpTraces } from "./sadump-kdump.ts";
import { mediaOf } from "./sadump-media.ts";
import { foreign, type SadumpMembers } from "./sadump-members.ts";
import { framesOf, SadumpMemory } from "./sadump-memory.ts";
import { smramStates } from "./sadump-smram.ts";
import { hasPartition, SADUMP_BLOCK } from "./sadump-structs.ts";

/** A dump in one partition, or on the disks of a set. */
export const SADUMP: DumpFormat = {
  name: "sadump",
  parts: true,
  matches: (source) => hasPartition(source, 0),
  open: openSadump,
};

/** A dump that was backed up to a file, or to several. */
export const SADUMP_MEDIA: DumpFormat = {
  name: "sadump-media",
  parts: true,
  matches: (source) => !hasPartition(source, 0) && hasPartition(source, SADUMP_BLOCK),
  open: openSadump,
};

async function openSadump(source: ByteSource, files: DumpFiles): Promise<MachineDump> {
  const header = readSadumpHeader(source);
  const frames = await framesOf(source, header, files.checkpoint);
  const { needed } = frames;
  const { pieces, warnings } = await membersOf(source, header, needed, files);
  const memory = new SadumpMemory(frames, pieces);
  const { cpus, warnings: order } = cpusOf(memory, smramStates(source, header));
  const told = [...warnings, ...cutWarnings(pieces, needed)];
  const kdump = await kdumpTraces(memory, cpus, files.checkpoint);
  // Registers that the crashed kernel kept are those of its own; SMRAM has the kdump kernel's.
  if (kdump !== undefined) {
    const kept = kdump.notes.length > 0 ? [] : cpus;
    return { ...kdump, cpus: kept, machine: EM_X86_64, warnings: [...told, ...kdump.warnings] };
  }
  return {
    memory,
    notes: [],
    cpus,
    machine: EM_X86_64,
    warnings: [...told, ...order],
  };
}

function membersOf(
  source: ByteSource,
  header: SadumpHeader,
  needed: number,
  files: DumpFiles,
): SadumpMembers | Promise<SadumpMembers> {
  const { medium, diskSet, data } = header;
  if (medium !== undefined) return mediaOf(source, { ...header, medium }, needed, files);
  if (diskSet !== undefined) return diskSetOf(source, header, diskSet, files);
  const [other] = files.parts ?? [];
  if (other !== undefined) throw foreign(other, "this is no part of the dump, which is in one partition");
  return { pieces: [{ start: 0, end: needed, source, offset: data }], warnings: [] };
}

/** Tells of blocks that are not in the files. */
function cutWarnings(pieces: SadumpMembers["pieces"], needed: number): Warning[] {
  let there = 0;
  for (const { start, end, source, offset } of pieces) {
    there += Math.max(0, Math.min(Math.min(end, needed) - start, source.size - offset));
  }
  if (there >= needed) return [];
  const message = `the dump is cut: ${bytesText(needed - there)} of ${bytesText(needed)} of memory are not in the file`;
  return [{ code: "DMP010", message, hint: "copy it again; further files of a dump are named with --part" }];
}
