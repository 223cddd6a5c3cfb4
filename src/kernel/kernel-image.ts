import type { PhysicalMemory } from "../core/memory.ts";
import type { MappedRun, PageTables } from "../x86/paging.ts";
import { type Checkpoint, presentChunks } from "./chunks.ts";
import { START_KERNEL_MAP } from "./kernel-tables.ts";

/** Where the kernel's image (text, rodata, data, bss) is mapped; one block, virtually and physically. */
export interface KernelImage {
  /** Of `_text`, 2 MiB-aligned. */
  readonly virtual: bigint;
  readonly physical: number;
  /** Bytes up to the end of the last mapped page; the kernel unmaps what it freed in between. */
  readonly size: number;
}

const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** `MIN_KERNEL_ALIGN`: text begins at a multiple of it, virtually and physically. */
const IMAGE_ALIGN = 2 * MIB;
/** Text of the smallest kernels; PTI's user tables map less. */
const MIN_TEXT = MIB;
/** `KERNEL_IMAGE_SIZE` with KASLR: the image lies somewhere in this much, modules behind it. */
const MAX_IMAGE_SIZE = GIB;
/** Freed init sections leave holes of some MiB; behind a larger one come modules. */
const MAX_HOLE = 64 * MIB;
/** 64 MiB of modules in single pages, four times over. */
const IMAGE_RUNS = 65_536;

/**
 * The kernel's image in the range Linux keeps for it, by page tables.
 * @param imageSize NUMBER(KERNEL_IMAGE_SIZE) where known
 */
export function findImage(tables: PageTables, imageSize = MAX_IMAGE_SIZE): KernelImage | undefined {
  const end = START_KERNEL_MAP + BigInt(Math.min(imageSize, MAX_IMAGE_SIZE));
  let image: KernelImage | undefined;
  for (const run of tables.mappings(START_KERNEL_MAP, end, IMAGE_RUNS)) {
    if (image === undefined) {
      if (startsImage(run)) image = { virtual: run.virtual, physical: run.physical, size: run.size };
      continue;
    }
    const distance = Number(run.virtual - image.virtual);
    if (distance > image.size + MAX_HOLE) break;
    if (run.physical === image.physical + distance) image = { ...image, size: distance + run.size };
  }
  return image;
}

const startsImage = (run: MappedRun): boolean =>
  run.executable &&
  !run.user &&
  run.size >= MIN_TEXT &&
  run.physical % IMAGE_ALIGN === 0 &&
  run.virtual % BigInt(IMAGE_ALIGN) === 0n;

/** From the start of the upper half up to CPU_ENTRY_AREA, which no kernel moves: KASLR keeps the direct map within. */
const DIRECT_MAP_FROM = { 48: 0xffff_8000_0000_0000n, 57: 0xff00_0000_0000_0000n } as const;
const DIRECT_MAP_TO = 0xffff_fe00_0000_0000n;
/** page_offset_base is a multiple of it (PUD_SIZE; `kernel_randomize_memory`). */
const DIRECT_MAP_ALIGN = BigInt(GIB);
/** The direct map is the first thing there; before it lie at most a hypervisor's hole and the LDT. */
const DIRECT_MAP_RUNS = 4096;

/**
 * PAGE_OFFSET, the virtual address of physical 0 in the direct map of all RAM: the lowest base, of the runs mapped
 * in the upper half, at which the page-table root and the image are mapped too.
 */
export function findDirectMap(tables: PageTables, image: KernelImage | undefined): bigint | undefined {
  const from = tables.shape.addressBits === 57 ? DIRECT_MAP_FROM[57] : DIRECT_MAP_FROM[48];
  const known = image === undefined ? [tables.root] : [tables.root, image.physical];
  for (const run of tables.mappings(from, DIRECT_MAP_TO, DIRECT_MAP_RUNS)) {
    const base = run.virtual - BigInt(run.physical);
    if (base < from || base % DIRECT_MAP_ALIGN !== 0n) continue;
    if (known.every((physical) => mapsTo(tables, base + BigInt(physical), physical))) return base;
  }
  return undefined;
}

function mapsTo(tables: PageTables, virtual: bigint, physical: number): boolean {
  const mapping = tables.translate(virtual);
  return mapping.mapped && mapping.physical === physical && !mapping.user;
}

const BANNER_START = Buffer.from("Linux version ");
const BANNER = /^Linux version (\d+\.\d+[\x21-\x7e]{0,64}) \(/;
const BANNER_BYTES = BANNER_START.length + 80;

/**
 * The release in `linux_banner` ("Linux version RELEASE (…"), which lies in every kernel's rodata: the first in
 * `[from, to)`.
 */
export async function findBanner(
  memory: PhysicalMemory,
  from: number,
  to: number,
  checkpoint?: Checkpoint,
): Promise<string | undefined> {
  let tail = Buffer.alloc(0);
  let next = from;
  for (const { address, bytes } of presentChunks(memory, from, to)) {
    const text = address === next ? Buffer.concat([tail, bytes]) : bytes;
    const release = bannerIn(text);
    if (release !== undefined) return release;
    tail = Buffer.from(text.subarray(Math.max(0, text.length - BANNER_BYTES)));
    next = address + bytes.length;
    await checkpoint?.();
  }
  return undefined;
}

/** Whether every page of `[from, to)` is known: what was not found there is not there. */
export function isWhole(memory: PhysicalMemory, from: number, to: number): boolean {
  for (let address = from; address < to; ) {
    const { state, end } = memory.extentAt(address, to);
    if (state === "absent" || state === "excluded") return false;
    address = end;
  }
  return true;
}

function bannerIn(text: Buffer): string | undefined {
  for (let at = text.indexOf(BANNER_START); at >= 0; at = text.indexOf(BANNER_START, at + 1)) {
    const match = BANNER.exec(text.toString("latin1", at, at + BANNER_BYTES));
    if (match !== null) return match[1];
  }
  return undefined;
}
