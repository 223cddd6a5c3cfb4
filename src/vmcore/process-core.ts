import { alignUp, PAGE_SIZE } from "../core/address.ts";
import { type Coverage, noCoverage } from "../core/coverage.ts";
import { UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { PhysicalMemory } from "../core/memory.ts";
import { indexAtOrAbove, type Range } from "../core/ranges.ts";
import { EM_X86_64, ET_CORE, PT_LOAD, PT_NOTE } from "../elf/constants.ts";
import { elfHeadersSize, encodeElfHeaders } from "../elf/encode.ts";
import type { ProgramHeader } from "../elf/header.ts";
import type { Output } from "../io/output.ts";
import { MemoryCopier } from "./copy.ts";
import { type LostPages, MAX_LOST_RUNS } from "./lost-pages.ts";
import { type MissingRange, type PlannedLoad, plannedBytes, survey, type VmcorePlan } from "./plan.ts";
import { PositionedSink } from "./sink.ts";
import { readable, threadsFor } from "./write.ts";

/** A mapping of a process, by its virtual addresses. */
export interface CoreMapping extends Range {
  /** PF_* of its segments. */
  readonly flags: number;
  /** `left-out`: registers of devices, or addresses set aside that nothing can be read from. */
  readonly contents: "memory" | "left-out";
}

/** Everything that will be in the core, with offsets. Addresses of loads are the process's own. */
export interface CorePlan extends VmcorePlan {
  /** Ascending and disjoint. */
  readonly mappings: readonly CoreMapping[];
}

/** gdb, and our own reader, take 2^18 program headers for damage; some are kept for pages that turn out unreadable. */
const MAX_SEGMENTS = 2 ** 18 - 2 * MAX_LOST_RUNS;

/**
 * Lays out a process core: header, program headers and notes, then memory at page-aligned offsets.
 * @param memory of which the addresses are the process's virtual ones
 * @param notesSize bytes of the notes
 * @throws UnsupportedError when the memory is in a quarter of a million pieces or more
 */
export async function planCore(
  memory: PhysicalMemory,
  mappings: readonly CoreMapping[],
  notesSize: number,
  checkpoint?: JobContext["checkpoint"],
): Promise<CorePlan> {
  const runs: Range[] = [];
  const missing: MissingRange[] = [];
  let gathered = 0;
  let headers = 1;
  for (const mapping of mappings) {
    headers++;
    if (mapping.contents === "left-out") continue;
    const found = await survey({ ranges: [mapping], memory }, checkpoint);
    for (const run of found.present) runs.push(run);
    for (const gap of found.missing) missing.push(gap);
    gathered += found.gathered;
    headers += found.present.length;
    if (headers > MAX_SEGMENTS) {
      throw new UnsupportedError(`the process's memory is in more than ${MAX_SEGMENTS} pieces`, {
        hint: "extract writes its guest as a vmcore, which may have more",
      });
    }
  }
  const spare = Math.min(MAX_LOST_RUNS, Math.ceil(gathered / PAGE_SIZE));
  const notesOffset = elfHeadersSize(headers + spare);
  let size = alignUp(notesOffset + notesSize, PAGE_SIZE);
  const loads = runs.map(({ start, end }): PlannedLoad => {
    const offset = size;
    size += end - start;
    return { start, end, offset };
  });
  return { format: "elf", mappings, loads, missing, notesOffset, size, gathered, headers };
}

export interface WriteCoreOptions {
  readonly memory: PhysicalMemory;
  readonly plan: CorePlan;
  readonly notes: Buffer;
  /** Undefined: the memory is read and counted. */
  readonly output: Output | undefined;
  readonly context: Pick<JobContext, "checkpoint" | "progress">;
  /** Takes pages that turn out to be unreadable; in a stream the first of them is the end. */
  readonly lost: LostPages;
}

/** Writes a planned core and makes it complete. @returns what there was of each mapping */
export async function writeCore(options: WriteCoreOptions): Promise<Coverage[]> {
  const { memory, plan, output, context, lost } = options;
  const threads = threadsFor({ guest: { memory }, plan });
  const header = () => {
    const bytes = encodeCoreHeader(readable(plan, lost), options.notes);
    output?.write(bytes, 0, bytes.length, 0);
  };
  if (output?.seekable === false) header();
  try {
    const sink = output && { sink: new PositionedSink(output, plan.loads) };
    const taken = output?.seekable === false ? {} : { lost: lost.add };
    const copier = new MemoryCopier({ memory, context, threads, ...sink, ...taken });
    context.progress.start(plannedBytes(plan), output === undefined ? "reading" : "copying");
    const coverages: Coverage[] = [];
    for (const mapping of plan.mappings) {
      coverages.push(mapping.contents === "memory" ? await copier.copy(mapping) : noCoverage());
    }
    context.progress.finish();
    if (output?.seekable === true) header();
    output?.finish(plan.size);
    return coverages;
  } finally {
    await threads.close();
  }
}

/**
 * Header, program headers and notes as the kernel writes them: one PT_NOTE, then the mappings ascending. What p_filesz leaves
 * out of p_memsz was not dumped, so a mapping with gaps takes several segments.
 */
function encodeCoreHeader(plan: Pick<CorePlan, "mappings" | "loads" | "notesOffset">, notes: Buffer): Buffer {
  const { mappings, loads, notesOffset } = plan;
  const note = { type: PT_NOTE, flags: 0, offset: notesOffset, vaddr: 0n, paddr: 0 };
  const programs: ProgramHeader[] = [{ ...note, filesz: notes.length, memsz: 0, align: 4 }];
  let behind = alignUp(notesOffset + notes.length, PAGE_SIZE);
  for (const { start, end, flags } of mappings) {
    const segment = (from: number, filesz: number, to: number) => {
      const place = { type: PT_LOAD, flags, offset: behind, vaddr: BigInt(from), paddr: 0 };
      programs.push({ ...place, filesz, memsz: to - from, align: PAGE_SIZE });
    };
    let i = indexAtOrAbove(loads, start);
    const first = loads[i];
    const known = first !== undefined && first.start < end ? first.start : end;
    if (known > start) segment(start, 0, known);
    for (; i < loads.length && loads[i]!.start < end; i++) {
      const load = loads[i]!;
      const next = loads[i + 1];
      behind = load.offset;
      segment(load.start, load.end - load.start, next !== undefined && next.start < end ? next.start : end);
      behind = load.offset + (load.end - load.start);
    }
  }
  const header = Buffer.alloc(notesOffset + notes.length);
  encodeElfHeaders(ET_CORE, { machine: EM_X86_64 }, programs).copy(header);
  notes.copy(header, notesOffset);
  return header;
}
