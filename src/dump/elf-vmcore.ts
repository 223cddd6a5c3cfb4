import { ADDRESS_LIMIT, alignDown, alignUp, PAGE_SIZE } from "../core/address.ts";
import {
  type ByteSource,
  type Extent,
  type PageState,
  type PhysicalMemory,
  rawExtent,
} from "../core/memory.ts";
import { indexAtOrAbove, makeDisjoint, mergeRanges, type Range } from "../core/ranges.ts";
import { PT_LOAD } from "../elf/constants.ts";
import type { ElfFile, ProgramHeader } from "../elf/header.ts";

/** A run of physical memory of an ELF vmcore and where its bytes are. */
interface Load extends Range {
  /** End of what the file holds (p_filesz, or the end of a truncated file). */
  readonly presentEnd: number;
  /** End of what the file claims to hold (p_filesz). */
  readonly dumpedEnd: number;
  readonly offset: number;
}

/**
 * Physical memory of an ELF vmcore: /proc/vmcore, makedumpfile -E, QEMU's dump-guest-memory, or our own. Aliases of
 * the same memory (the kernel image beside the direct map) collapse. What p_filesz leaves out of p_memsz was
 * *excluded* by whoever filtered the dump (makedumpfile -E -d); what the file ends before is *absent*.
 */
export class ElfVmcore implements PhysicalMemory {
  readonly ranges: readonly Range[];
  readonly #loads: readonly Load[];
  readonly #source: ByteSource;

  constructor(source: ByteSource, elf: ElfFile) {
    this.#source = source;
    const loads = elf.programs.map((program) => toLoad(source, program)).filter((load) => load !== undefined);
    this.#loads = makeDisjoint(loads, cutFront).ranges;
    this.ranges = mergeRanges(this.#loads);
  }

  extentAt(address: number, limit: number, holes = true): Extent {
    const load = this.#loads[indexAtOrAbove(this.#loads, address)];
    if (load === undefined || load.start >= limit) return { start: address, end: limit, state: "absent" };
    if (load.start > address) return { start: address, end: load.start, state: "absent" };
    if (address < load.presentEnd) {
      const offset = load.offset + (address - load.start);
      return rawExtent(address, Math.min(limit, load.presentEnd), this.#source, offset, holes);
    }
    const state: PageState = address < load.dumpedEnd ? "absent" : "excluded";
    const end = state === "absent" ? load.dumpedEnd : load.end;
    return { start: address, end: Math.min(limit, end), state };
  }

  readPage(address: number, target: Uint8Array): PageState {
    const page = alignDown(address, PAGE_SIZE);
    const { state, at, end } = this.extentAt(page, page + PAGE_SIZE);
    if (state === "zero") target.fill(0, 0, PAGE_SIZE);
    if (at === undefined) return state;
    const got = at.source.read(at.offset, target.subarray(0, end - page));
    return got === PAGE_SIZE ? "present" : "absent";
  }
}

function toLoad(source: ByteSource, program: ProgramHeader): Load | undefined {
  if (program.type !== PT_LOAD || program.memsz === 0) return undefined;
  const { paddr, memsz, filesz, offset } = program;
  // p_paddr is all ones where makedumpfile knows no physical address.
  if (!(paddr + memsz <= ADDRESS_LIMIT)) return undefined;
  // /proc/vmcore has ranges that begin or end inside a page; the cut pages count as not there.
  const start = alignUp(paddr, PAGE_SIZE);
  const end = alignDown(paddr + memsz, PAGE_SIZE);
  if (end <= start) return undefined;
  const bound = (limit: number) => Math.max(start, Math.min(end, alignDown(limit, PAGE_SIZE)));
  return {
    start,
    end,
    dumpedEnd: bound(paddr + Math.min(filesz, memsz)),
    presentEnd: bound(paddr + Math.max(0, Math.min(filesz, memsz, source.size - offset))),
    offset: offset + (start - paddr),
  };
}

const cutFront = (load: Load, start: number): Load => ({
  ...load,
  start,
  presentEnd: Math.max(start, load.presentEnd),
  dumpedEnd: Math.max(start, load.dumpedEnd),
  offset: load.offset + (start - load.start),
});
