import { alignUp, PAGE_SIZE } from "../core/address.ts";
import { viewOf } from "../core/bytes.ts";
import { GuestcoreError } from "../core/errors.ts";
import type { ByteSource, PhysicalMemory } from "../core/memory.ts";
import { readPhysical } from "../core/memory.ts";
import { mergeRanges, type Range } from "../core/ranges.ts";
import { bytesText, hex } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { ELF_MAGIC, EM_X86_64, ET_CORE, PT_LOAD } from "../elf/constants.ts";
import { type ElfFile, readElf } from "../elf/header.ts";
import { type Note, readNotes } from "../elf/notes.ts";
import { pageTablesOf } from "../x86/paging.ts";
import type { X86State } from "../x86/state.ts";
import type { DumpedCpu, DumpFiles } from "./format.ts";
import { RelocatedMemory, type Relocation } from "./relocated-memory.ts";

/** What is left of the crashed kernel where its kdump kernel ran already. */
export interface KdumpTraces {
  /** With the lowest memory read from where it was saved. */
  readonly memory: PhysicalMemory;
  /** As /proc/vmcore would have had them: registers by processor, VMCOREINFO. */
  readonly notes: readonly Note[];
  readonly warnings: readonly Warning[];
}

/** The crash kernel's memory is in one piece; it takes at most some GiB, and its kernel lies in it. */
const REACH = 2 * 2 ** 30;
const CHUNK = 2 ** 20;
/** Cores of processes may lie in memory, too. */
const MAX_CANDIDATES = 64;
const ELF_WORD = Buffer.from(ELF_MAGIC, "latin1").readUInt32LE();
/** KEXEC_BACKUP_SRC_END: purgatory saves the first 640 KiB, where the kdump kernel starts its processors. */
const BACKUP_END = 0xa_0000;

/**
 * Looks for the ELF header that the crashed kernel left for /proc/vmcore (elfcorehdr), when processors run two kernels:
 * then kdump had begun. Its notes lead to each processor's registers and to VMCOREINFO, and a segment whose bytes lie
 * elsewhere tells where the lowest memory was saved (Linux before 5.6; kexec-tools crashdump-x86.c).
 * @returns undefined where processors run one kernel, or none
 */
export async function kdumpTraces(
  memory: PhysicalMemory,
  cpus: readonly DumpedCpu[],
  checkpoint: DumpFiles["checkpoint"],
): Promise<KdumpTraces | undefined> {
  const kernels = new Set<number>();
  for (const { state, inGuest } of cpus) {
    const kernel = inGuest === undefined ? kernelOf(memory, state) : undefined;
    if (kernel !== undefined) kernels.add(kernel);
  }
  if (kernels.size < 2) return undefined;
  const near = [...kernels].map((kernel) => ({ start: Math.max(0, kernel - REACH), end: kernel + REACH }));
  let candidates = 0;
  for (const window of mergeRanges(near)) {
    for await (const address of elfHeaders(memory, window, checkpoint)) {
      const found = candidates++ < MAX_CANDIDATES ? tracesAt(memory, address) : undefined;
      if (found !== undefined) return found;
    }
  }
  const message = "processors run two kernels, so kdump had begun, but its ELF header was not found";
  return { memory, notes: [], warnings: [{ code: "DMP013", message }] };
}

/** Where the kernel's text is that the processor runs: physical address of the handler of its first interrupt vector. */
function kernelOf(memory: PhysicalMemory, state: X86State): number | undefined {
  const tables = pageTablesOf(memory, state);
  const gate = tables?.translate(state.idt.base);
  if (tables === undefined || gate?.mapped !== true) return undefined;
  const bytes = Buffer.alloc(16);
  if (readPhysical(memory, gate.physical, bytes) < bytes.length) return undefined;
  const view = viewOf(bytes);
  const low = BigInt(view.getUint16(0, true)) | (BigInt(view.getUint16(6, true)) << 16n);
  const handler = tables.translate(low | (BigInt(view.getUint32(8, true)) << 32n));
  return handler.mapped && handler.executable ? handler.physical : undefined;
}

const isCore = (bytes: Buffer, at: number): boolean =>
  bytes.readUInt32LE(at) === ELF_WORD &&
  bytes.readUInt16LE(at + 16) === ET_CORE &&
  bytes.readUInt16LE(at + 18) === EM_X86_64;

/** Pages of a window that begin like a core of x86-64. */
async function* elfHeaders(
  memory: PhysicalMemory,
  window: Range,
  checkpoint: DumpFiles["checkpoint"],
): AsyncGenerator<number> {
  const buffer = Buffer.allocUnsafeSlow(CHUNK);
  let sinceCheckpoint = 0;
  for (const range of memory.ranges) {
    const end = Math.min(range.end, window.end);
    for (let at = Math.max(range.start, window.start); at < end; ) {
      const extent = memory.extentAt(at, Math.min(end, at + CHUNK), false);
      const known =
        extent.at === undefined
          ? 0
          : extent.at.source.read(extent.at.offset, buffer.subarray(0, extent.end - at));
      for (let page = 0; page + PAGE_SIZE <= known; page += PAGE_SIZE) {
        if (isCore(buffer, page)) yield at + page;
      }
      at = extent.end;
      sinceCheckpoint += CHUNK;
      if (sinceCheckpoint >= 64 * CHUNK) {
        sinceCheckpoint = 0;
        await checkpoint?.();
      }
    }
  }
}

/** What an ELF header in memory leads to; undefined where it is none for /proc/vmcore. */
function tracesAt(memory: PhysicalMemory, address: number): KdumpTraces | undefined {
  const elf = coreAt(memory, address);
  if (elf === undefined) return undefined;
  const { notes } = readNotes(sourceAt(memory, 0), elf);
  const isCrashed = notes.some(({ name, desc }) => name === "VMCOREINFO" && desc.includes("CRASHTIME="));
  if (!isCrashed) return undefined;
  const saved = relocationOf(memory, elf);
  const low =
    saved === undefined
      ? ""
      : `${bytesText(saved.end - saved.start)} of low memory are read from ${hex(saved.to)}, `;
  const message = `kdump had begun: ${low}registers and VMCOREINFO are those that the crashed kernel kept`;
  return {
    memory: saved === undefined ? memory : new RelocatedMemory(memory, saved),
    notes,
    warnings: [{ code: "DMP013", message }],
  };
}

/** The crash kernel's memory, in which the header lies, is in no segment of its own. */
function coreAt(memory: PhysicalMemory, address: number): ElfFile | undefined {
  try {
    const elf = readElf(sourceAt(memory, address));
    if (elf.header.bits !== 64) return undefined;
    const isOwn = ({ type: kind, paddr, memsz }: ElfFile["programs"][number]) =>
      kind === PT_LOAD && paddr <= address && address < paddr + memsz;
    return elf.programs.some(isOwn) ? undefined : elf;
  } catch (error) {
    if (error instanceof GuestcoreError && error.code !== "io") return undefined;
    throw error;
  }
}

/** Physical memory from `base` on as a file. */
const sourceAt = (memory: PhysicalMemory, base: number): ByteSource => ({
  name: `memory at ${hex(base)}`,
  size: Math.max(0, (memory.ranges.at(-1)?.end ?? 0) - base),
  read: (offset, target) => readPhysical(memory, base + offset, target),
});

/** Where the lowest memory was saved; as makedumpfile and crash see it, only where anything was written there. */
function relocationOf(memory: PhysicalMemory, { programs }: ElfFile): Relocation | undefined {
  const segment = programs.find(
    ({ type, paddr, memsz, offset }) => type === PT_LOAD && paddr < BACKUP_END && paddr + memsz <= offset,
  );
  if (segment === undefined) return undefined;
  const { paddr: start, memsz, offset: to } = segment;
  const end = alignUp(start + memsz, PAGE_SIZE);
  const isAligned = start % PAGE_SIZE === 0 && to % PAGE_SIZE === 0 && end <= BACKUP_END;
  return isAligned && holdsAnything(memory, to, end - start) ? { start, end, to } : undefined;
}

function holdsAnything(memory: PhysicalMemory, address: number, size: number): boolean {
  const page = Buffer.alloc(PAGE_SIZE);
  for (let at = address; at < address + size; at += PAGE_SIZE) {
    if (memory.readPage(at, page) === "present" && page.some((byte) => byte !== 0)) return true;
  }
  return false;
}
