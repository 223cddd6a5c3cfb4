import type { JobContext } from "../core/job.ts";
import { indexAtOrAbove, rangeAt } from "../core/ranges.ts";
import { EM_386, EM_X86_64, ET_CORE, PF_R, PF_W, PF_X, PT_LOAD, PT_NOTE } from "../elf/constants.ts";
import { encodeElfHeaders } from "../elf/encode.ts";
import type { ProgramHeader } from "../elf/header.ts";
import type { Guest, GuestRange } from "../guest/guest.ts";
import type { Output } from "../io/output.ts";
import { type Coverage, MemoryCopier } from "./copy.ts";
import {
  encodeCarried,
  encodePrstatus,
  encodePrstatus32,
  encodeQemuNote,
  encodeVmcoreinfo,
} from "./notes.ts";
import { MAX_IMAGE_LOADS, plannedBytes, type VmcorePlan } from "./plan.ts";

/**
 * p_align of every PT_LOAD is 0, as in /proc/vmcore: crash takes a page-aligned first PT_LOAD with any other value
 * for an old netdump, which has no KASLR (crash `netdump.c` is_netdump).
 */
const LOAD_ALIGN = 0;

/** What the headers say of the kernel inside; all of it is known only once the memory has been read. */
export interface KernelView {
  /** Whether the guest runs a 32-bit kernel: tools then want EM_386 and its registers. */
  readonly is32Bit?: boolean;
  /** Text of the VMCOREINFO note, at most 64 KiB. */
  readonly vmcoreinfo: Buffer | undefined;
  /** Virtual address of physical address 0 in the direct map; undefined writes p_vaddr = p_paddr. */
  readonly pageOffset: bigint | undefined;
  /** Where the kernel image is mapped; it gets a PT_LOAD of its own over the same bytes. */
  readonly image: { readonly virtual: bigint; readonly physical: number; readonly size: number } | undefined;
}

export interface RangeCoverage extends GuestRange {
  readonly coverage: Coverage;
}

export interface WriteOptions {
  readonly guest: Guest;
  readonly plan: VmcorePlan;
  readonly output: Output;
  readonly context: Pick<JobContext, "checkpoint" | "progress">;
  readonly observe?: (bytes: Buffer, address: number) => void;
  /** Called once: after the memory was copied, or before when the output takes bytes in order only. */
  readonly kernel: () => KernelView | Promise<KernelView>;
}

/** Writes a planned vmcore and makes it complete. */
export async function writeVmcore(options: WriteOptions): Promise<RangeCoverage[]> {
  const { guest, plan, output, kernel } = options;
  const header = async () => encodeVmcoreHeader(plan, guest, await kernel());
  const writeHeader = async () => {
    if (plan.format === "raw") return;
    const bytes = await header();
    output.write(bytes, 0, bytes.length, 0);
  };
  if (!output.seekable) await writeHeader();
  const ranges = await copyGuest(guest, plan, options);
  if (output.seekable) await writeHeader();
  output.finish(plan.size);
  return ranges;
}

/** Copies, or without an output only reads and counts, every range of the guest. */
export async function copyGuest(
  guest: Guest,
  plan: VmcorePlan,
  options: Pick<WriteOptions, "context" | "observe"> & { readonly output?: Output },
): Promise<RangeCoverage[]> {
  const { context, observe, output } = options;
  const copier = new MemoryCopier({
    memory: guest.memory,
    context,
    ...(output === undefined ? {} : { output }),
    ...(observe === undefined ? {} : { observe }),
  });
  const offsetOf = (address: number): number => {
    const load = rangeAt(plan.loads, address);
    return load === undefined ? 0 : load.offset + (address - load.start);
  };
  context.progress.start(plannedBytes(plan), output === undefined ? "reading" : "copying");
  const ranges: RangeCoverage[] = [];
  for (const range of guest.ranges) ranges.push({ ...range, coverage: await copier.copy(range, offsetOf) });
  context.progress.finish();
  return ranges;
}

/**
 * Header, program headers and notes in the one layout that crash, drgn, makedumpfile, vmcore-dmesg and gdb all open:
 * no section headers, one PT_NOTE and it first, PT_LOADs ascending by p_paddr with direct-map p_vaddr, then the
 * kernel image at its own virtual address.
 */
function encodeVmcoreHeader(plan: VmcorePlan, { vcpus, notes: carried }: Guest, kernel: KernelView): Buffer {
  const notes = Buffer.concat([
    encodeCarried(carried ?? []),
    ...vcpus.map((vcpu) => (kernel.is32Bit === true ? encodePrstatus32(vcpu) : encodePrstatus(vcpu))),
    ...vcpus.map((vcpu) => encodeQemuNote(vcpu.state)),
    ...(kernel.vmcoreinfo === undefined ? [] : [encodeVmcoreinfo(kernel.vmcoreinfo)]),
  ]);
  const programs: ProgramHeader[] = [
    {
      type: PT_NOTE,
      flags: 0,
      offset: plan.notesOffset,
      vaddr: 0n,
      paddr: 0,
      filesz: notes.length,
      memsz: notes.length,
      align: 4,
    },
  ];
  for (const { start, end, offset } of plan.loads) {
    programs.push({
      type: PT_LOAD,
      flags: PF_R | PF_W | PF_X,
      offset,
      vaddr: BigInt(start) + (kernel.pageOffset ?? 0n),
      paddr: start,
      filesz: end - start,
      memsz: end - start,
      align: LOAD_ALIGN,
    });
  }
  programs.push(...imageHeaders(plan, kernel.image));
  const header = Buffer.alloc(plan.notesOffset + notes.length);
  encodeElfHeaders(ET_CORE, kernel.is32Bit === true ? EM_386 : EM_X86_64, programs).copy(header);
  notes.copy(header, plan.notesOffset);
  return header;
}

/** One PT_LOAD for each load that the image reaches into, over the same bytes of the file. */
function imageHeaders({ loads }: VmcorePlan, image: KernelView["image"]): ProgramHeader[] {
  if (image === undefined) return [];
  const end = image.physical + image.size;
  const headers: ProgramHeader[] = [];
  for (let i = indexAtOrAbove(loads, image.physical); i < loads.length; i++) {
    const load = loads[i]!;
    if (load.start >= end || headers.length === MAX_IMAGE_LOADS) break;
    const from = Math.max(load.start, image.physical);
    const size = Math.min(load.end, end) - from;
    headers.push({
      type: PT_LOAD,
      flags: PF_R | PF_W | PF_X,
      offset: load.offset + (from - load.start),
      vaddr: image.virtual + BigInt(from - image.physical),
      paddr: from,
      filesz: size,
      memsz: size,
      align: LOAD_ALIGN,
    });
  }
  return headers;
}
