import { viewOf } from "../core/bytes.ts";
import type { Range } from "../core/ranges.ts";
import { type Budget, STRUCTURE } from "./budget.ts";
import { qomType } from "./qom.ts";
import type { ProcessReader } from "./reader.ts";

/**
 * virtio-mem plugs a region of RAM block by block (QEMU `hw/virtio/virtio-mem.c`): the region maps all of it, and a
 * bitmap says which blocks the guest has. The region points at its RamDiscardManager, which is the device itself, or
 * since QEMU 11 an object that lists the devices: struct VirtIOMEM {…; int32_t bitmap_size; unsigned long *bitmap;
 * (memory slots since 8.2;) HostMemoryBackend *memdev; …}.
 */
const MANAGER_SEARCH = { from: 8, to: 80 } as const;
/** struct Object, whose members point at anything. */
const OBJECT_SIZE = 40;
/** VirtIODevice and VirtIOMEM take about 1 KiB. */
const MAX_INSTANCE = 64 * 1024;
/** How far in front of memdev the bitmap may be. */
const BITMAP_REACH = 64;
/** VIRTIO_MEM_MIN_BLOCK_SIZE. */
const MIN_BLOCK = 2 ** 20;
/** 8 TiB in blocks of 2 MiB, the smallest in use. */
const MAX_BLOCKS = 2 ** 22;
/** 1 TiB of which every other block of 2 MiB is plugged. */
const MAX_RUNS = 2 ** 18;

/**
 * Which parts of a RAM region the guest has plugged, as offsets into it.
 * @param region address of the memory region; @param nameOffset of its name; @param backend address of its owner
 * @returns `undefined` when the region is no virtio-mem device's, "unreadable" when its bitmap was not found
 */
export function pluggedParts(
  reader: ProcessReader,
  region: number,
  nameOffset: number,
  backend: number,
  size: number,
  budget: Budget,
): Range[] | "unreadable" | undefined {
  for (let at = MANAGER_SEARCH.from; at < MANAGER_SEARCH.to; at += 8) {
    const manager = reader.pointer(region + nameOffset + at);
    const device = manager === undefined ? undefined : findDevice(reader, manager, budget);
    if (device !== undefined) return readBitmap(reader, device, backend, size, budget) ?? "unreadable";
  }
  return undefined;
}

const isDevice = (reader: ProcessReader, address: number): boolean =>
  qomType(reader, address)?.name === "virtio-mem";

/** The device a RamDiscardManager is, or has in its list of sources. */
function findDevice(reader: ProcessReader, manager: number, budget: Budget): number | undefined {
  if (!budget.take(STRUCTURE)) return undefined;
  if (isDevice(reader, manager)) return manager;
  const type = qomType(reader, manager);
  if (type?.name !== "ram-discard-manager" || type.instanceSize > MAX_INSTANCE) return undefined;
  for (const entry of pointersIn(reader, manager + OBJECT_SIZE, type.instanceSize - OBJECT_SIZE)) {
    const isNext = (pointer: number) => budget.take(STRUCTURE) && isDevice(reader, pointer);
    const device = pointersIn(reader, entry, OBJECT_SIZE).find(isNext);
    if (device !== undefined) return device;
  }
  return undefined;
}

function pointersIn(reader: ProcessReader, address: number, length: number): number[] {
  const found: number[] = [];
  for (let at = 0; at + 8 <= length; at += 8) {
    const pointer = reader.pointer(address + at);
    if (pointer !== undefined) found.push(pointer);
  }
  return found;
}

function readBitmap(
  reader: ProcessReader,
  device: number,
  backend: number,
  size: number,
  budget: Budget,
): Range[] | undefined {
  const instanceSize = Math.min(qomType(reader, device)?.instanceSize ?? 0, MAX_INSTANCE);
  for (let at = 0; at + 8 <= instanceSize && budget.take(); at += 8) {
    if (reader.u64(device + at) !== backend) continue;
    for (let bitmap = at - 8; bitmap >= Math.max(8, at - BITMAP_REACH); bitmap -= 8) {
      const runs = runsAt(reader, device + bitmap, size, budget);
      if (runs !== undefined) return runs;
    }
  }
  return undefined;
}

/** {int32_t bitmap_size; unsigned long *bitmap} with the pointer at `address`, when they fit the region's size. */
function runsAt(reader: ProcessReader, address: number, size: number, budget: Budget): Range[] | undefined {
  const bitmap = reader.pointer(address);
  const bits = reader.u32(address - 8);
  if (bitmap === undefined || bits === undefined || bits === 0 || bits > MAX_BLOCKS) return undefined;
  if (size % bits !== 0) return undefined;
  const blockSize = size / bits;
  if (blockSize < MIN_BLOCK || !Number.isInteger(Math.log2(blockSize))) return undefined;
  const words = Math.ceil(bits / 64);
  const bytes = budget.take(words) ? reader.bytes(bitmap, words * 8) : undefined;
  return bytes === undefined ? undefined : runsOf(bytes, bits, blockSize);
}

/**
 * Runs of set bits (QEMU bitmaps are arrays of little-endian longs) as byte ranges; `undefined` when there are more
 * than any guest's.
 */
function runsOf(bitmap: Buffer, bits: number, blockSize: number): Range[] | undefined {
  const view = viewOf(bitmap);
  const runs: { start: number; end: number }[] = [];
  for (let bit = 0; bit < bits; bit++) {
    if ((view.getUint8(bit >>> 3) & (1 << (bit & 7))) === 0) continue;
    const start = bit * blockSize;
    const last = runs.at(-1);
    if (last?.end === start) last.end += blockSize;
    else if (runs.length === MAX_RUNS) return undefined;
    else runs.push({ start, end: start + blockSize });
  }
  return runs;
}
