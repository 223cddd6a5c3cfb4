import type { Coverage } from "../core/coverage.ts";
import { CorruptError, UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { PageStorage, PhysicalMemory } from "../core/memory.ts";
import { totalSize } from "../core/ranges.ts";
import { NT_PRSTATUS } from "../elf/constants.ts";
import type { Guest, GuestRange } from "../guest/guest.ts";
import { FlatOutput } from "../io/flat-output.ts";
import type { Output } from "../io/output.ts";
import { PageThreads } from "../io/page-threads.ts";
import { type CopyOptions, MemoryCopier } from "./copy.ts";
import { encodeVmcoreHeader } from "./elf-headers.ts";
import { encodeKdumpHeader, type KdumpLayout } from "./kdump-header.ts";
import { KdumpSink } from "./kdump-sink.ts";
import type { KernelView } from "./kernel-view.ts";
import { LimeSink } from "./lime-sink.ts";
import { type LostPages, withoutLost } from "./lost-pages.ts";
import { encodeNotes } from "./notes.ts";
import { plannedBytes, type VmcorePlan } from "./plan.ts";
import { PositionedSink } from "./sink.ts";

export interface RangeCoverage extends GuestRange {
  readonly coverage: Coverage;
}

/** How pages are stored in a kdump-compressed dump. */
export interface KdumpStyle {
  readonly codec: PageStorage;
  /** makedumpfile's -d of the dump this is made from; 1 is added where pages of zeros share one place. */
  readonly dumpLevel: number;
  readonly shareZeros: boolean;
  /** Whether the dump that this is made from broke off: readers are told that memory is missing, which bitmaps do not say. */
  readonly incomplete?: boolean;
}

export interface WriteOptions {
  readonly guest: Guest;
  readonly plan: VmcorePlan;
  readonly output: Output;
  readonly context: Pick<JobContext, "checkpoint" | "progress">;
  readonly observe?: (bytes: Buffer, address: number) => void;
  /**
   * Where pages go that turn out to be unreadable. They have no segment in an ELF vmcore and no bit in the bitmaps of a kdump;
   * headers of a stream of ELF, and of LiME, promise them, so there the first of them is the end, as it is without this.
   */
  readonly lost?: LostPages;
  /** Called once: after the memory was copied, or before when the output takes bytes in order only. */
  readonly kernel: () => KernelView | Promise<KernelView>;
  /** Of a plan for a kdump-compressed dump; by default pages are compressed with zlib. */
  readonly kdump?: KdumpStyle;
}

export interface WrittenVmcore {
  readonly ranges: RangeCoverage[];
  /** Length of the file or stream in bytes. */
  readonly size: number;
}

/** Writes a planned vmcore and makes it complete. */
export async function writeVmcore(options: WriteOptions): Promise<WrittenVmcore> {
  const { plan } = options;
  const threads = threadsFor(options);
  try {
    if (plan.kdump !== undefined) return await writeKdump(options, plan.kdump, threads);
    return await writePlaced(options, threads);
  } finally {
    await threads.close();
  }
}

/**
 * Below so many bytes threads take longer to start than they save: zlib and zstd take two to five times as long to pack a
 * page as it takes to read and write it, everything else less (`npm run bench`).
 */
const WORTH_PACKING = 128 * 2 ** 20;
const WORTH_THREADS = 2 ** 30;

/** Threads to unpack and pack pages with, as many as are worth it. */
export function threadsFor({
  guest: { memory },
  plan,
  kdump,
}: Pick<WriteOptions, "plan" | "kdump"> & { readonly guest: Pick<Guest, "memory"> }): PageThreads {
  const bytes = plannedBytes(plan);
  const isSlow = plan.kdump !== undefined && ["zlib", "zstd"].includes(kdump?.codec ?? "zlib");
  const useful = plan.kdump !== undefined || memory.packed !== undefined;
  const worth = useful && bytes >= (isSlow ? WORTH_PACKING : WORTH_THREADS);
  return new PageThreads(worth ? undefined : 0);
}

/** Reads all of a machine's memory that can be read, once, compressed pages with several threads. */
export async function readMemory(
  memory: PhysicalMemory,
  label: string,
  context: Pick<JobContext, "checkpoint" | "progress">,
  observe: (bytes: Buffer, address: number) => void,
): Promise<void> {
  const size = totalSize(memory.ranges);
  const threads = new PageThreads(memory.packed !== undefined && size >= WORTH_THREADS ? undefined : 0);
  try {
    const copier = new MemoryCopier({ memory, context, observe, threads, lost: () => {}, patient: false });
    context.progress.start(size, label);
    for (const range of memory.ranges) await copier.copy(range);
    context.progress.finish();
  } finally {
    await threads.close();
  }
}

/** Formats in which every page has its place. */
async function writePlaced(options: WriteOptions, threads: PageThreads): Promise<WrittenVmcore> {
  const { guest, plan, output, kernel } = options;
  const lost = (plan.format === "elf" && output.seekable) || plan.format === "raw" ? options.lost : undefined;
  const writeHeader = async () => {
    if (plan.format !== "elf") return;
    const bytes = encodeVmcoreHeader(readable(plan, lost), guest, await kernel());
    output.write(bytes, 0, bytes.length, 0);
  };
  if (!output.seekable) await writeHeader();
  const lime = plan.format === "lime" ? new LimeSink(output, plan.loads) : undefined;
  const sink = lime ?? new PositionedSink(output, plan.loads);
  const ranges = await copyGuest(guest, plan, { ...options, sink, threads, lost });
  lime?.finish();
  if (output.seekable) await writeHeader();
  await output.finish(plan.size);
  return { ranges, size: plan.size };
}

/**
 * The plan of what could be read of it.
 * @throws CorruptError when that is nothing
 */
export function readable<P extends VmcorePlan>(plan: P, lost: LostPages | undefined): P {
  if (lost === undefined || lost.runs.length === 0) return plan;
  const loads = withoutLost(plan.loads, lost.runs, (load, start, end) => ({
    start,
    end,
    offset: load.offset + (start - load.start),
  }));
  if (loads.length === 0) throw new CorruptError("none of the memory that the dump has can be read");
  return { ...plan, loads };
}

/** A kdump-compressed dump, or the flattened stream of one. */
async function writeKdump(
  options: WriteOptions,
  layout: KdumpLayout,
  threads: PageThreads,
): Promise<WrittenVmcore> {
  const { guest, plan, kernel, lost } = options;
  const {
    codec,
    shareZeros,
    dumpLevel,
    incomplete = false,
  } = options.kdump ?? { codec: "zlib", shareZeros: true, dumpLevel: 0 };
  const flat = plan.format === "flat" ? new FlatOutput(options.output) : undefined;
  const output = flat ?? options.output;
  const sink = new KdumpSink({ layout, output, codec, shareZeros, threads, dense: flat !== undefined });
  const ranges = await copyGuest(guest, plan, { ...options, sink, threads, lost });
  const size = await sink.finish();
  const view = await kernel();
  if (view.is32Bit === true) throw kdumpOf("a 32-bit machine");
  const notes = encodeNotes(guest, view);
  const header = encodeKdumpHeader(layout, {
    codec,
    incomplete,
    dumpLevel: levelOf(dumpLevel, shareZeros, ranges),
    utsname: view.utsname ?? [],
    time: view.crashTime ?? 0,
    physBase: view.physBase ?? 0n,
    cpus: cpusOf(guest),
    notesSize: notes.bytes.length,
    ...notes.vmcoreinfo,
  });
  const rest = layout.ramBitmap - header.length - notes.bytes.length;
  const head = Buffer.concat([header, notes.bytes, Buffer.alloc(flat === undefined ? 0 : rest)]);
  output.write(head, 0, head.length, 0);
  await output.finish(size);
  return { ranges, size: flat?.length ?? size };
}

/** makedumpfile's kinds of pages but zeros: cache, private cache, user data, free. */
const EXCLUDES_MORE = 30;

/** Readers take what is left out of a dump of level 1 for zeros. Where pages were left out, it is not known which kinds. */
function levelOf(from: number, shareZeros: boolean, ranges: readonly RangeCoverage[]): number {
  const excluded = ranges.some(({ coverage }) => coverage.excluded > 0);
  const level = excluded && (from & EXCLUDES_MORE) === 0 ? from | EXCLUDES_MORE : from;
  return shareZeros ? level | 1 : level;
}

/** Headers of other machines are laid out in other ways. */
export const kdumpOf = (machine: string): UnsupportedError =>
  new UnsupportedError(`a kdump-compressed dump of ${machine} is not written`, {
    hint: "--format elf is: crash and makedumpfile of that machine read it",
  });

/** Processors that the notes are of. */
const cpusOf = ({ vcpus, notes = [] }: Guest): number =>
  vcpus.length + notes.filter(({ name, type }) => name === "CORE" && type === NT_PRSTATUS).length;

/** Hands on, or without a sink only reads and counts, every range of the guest. */
export async function copyGuest(
  guest: Guest,
  plan: VmcorePlan,
  options: Pick<CopyOptions, "context" | "observe" | "sink" | "threads"> & {
    readonly lost?: LostPages | undefined;
  },
): Promise<RangeCoverage[]> {
  const { context, sink } = options;
  const copier = new MemoryCopier({ ...options, lost: options.lost?.add, memory: guest.memory });
  context.progress.start(plannedBytes(plan), sink === undefined ? "reading" : "copying");
  const ranges: RangeCoverage[] = [];
  for (const range of guest.ranges) ranges.push({ ...range, coverage: await copier.copy(range) });
  context.progress.finish();
  return ranges;
}
