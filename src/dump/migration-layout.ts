import { PAGE_SIZE } from "../core/address.ts";
import { overlay, type Range } from "../core/ranges.ts";
import type { MachineKind, ShadowPiece } from "./migration-machine.ts";
import type { RamBlock } from "./migration-ram.ts";

/** A range of guest-physical memory and the RAMBlock that is there. */
export interface Segment extends Range {
  readonly block: RamBlock;
  /** Offset of `start` in the block. */
  readonly offset: number;
}

/** How a machine's memory may lie: its RAMBlocks in order, how much is below 4 GiB, where the rest begins. */
export interface Arrangement {
  readonly order: readonly RamBlock[];
  readonly below: number;
  readonly above: number;
}

/** What lies over memory, or shows through it. */
export interface Firmware {
  readonly kind: MachineKind | undefined;
  readonly blocks: readonly RamBlock[];
  readonly shadow: readonly ShadowPiece[];
}

const MiB = 2 ** 20;
const FOUR_GIB = 2 ** 32;
/** Where a VGA adapter shows its memory. */
const VGA_HOLE: Range = { start: 0xa_0000, end: 0xc_0000 };
/** Option ROMs, and the last part of the firmware. */
const OPTION_ROMS: Range = { start: 0xc_0000, end: 0xe_0000 };
const MAX_ISA_BIOS = 0x2_0000;

/** RAMBlocks of VGA adapters, behind their path: they take the hole below 0xc0000. */
const VGA = /(^|\/)(vga\.vram|qxl\.vgavram)$/;

/** A segment that may be a hole. */
interface Layer extends Range {
  readonly block: RamBlock | undefined;
  readonly offset: number;
  readonly depth: number;
}

/** The machine's address space, ascending and disjoint: memory, and the firmware where that is read. */
export function layOutMachine(arrangement: Arrangement, firmware: Firmware): Segment[] {
  const layers: Layer[] = [...firmwareLayers(firmware)];
  for (const segment of memorySegments(arrangement)) layers.push({ ...segment, depth: 1 });
  const laid = overlay(
    layers.filter(({ start, end }) => end > start),
    ({ depth }) => depth,
    (layer, start, end) => ({ ...layer, start, end, offset: layer.offset + (start - layer.start) }),
  );
  return laid.flatMap(({ start, end, block, offset }) =>
    block === undefined ? [] : [{ start, end, block, offset }],
  );
}

/** Blocks one after the other, cut where the hole below 4 GiB begins. */
function* memorySegments({ order, below, above }: Arrangement): Generator<Segment> {
  let position = 0;
  for (const block of order) {
    const low = Math.min(block.size, Math.max(0, below - position));
    if (low > 0) yield { start: position, end: position + low, block, offset: 0 };
    if (low < block.size) {
      const start = above + (position + low - below);
      yield { start, end: start + (block.size - low), block, offset: low };
    }
    position += block.size;
  }
}

function* firmwareLayers({ kind, blocks, shadow }: Firmware): Generator<Layer> {
  const named = (name: string) => blocks.find((block) => block.name === name);
  const bios = named("pc.bios");
  if (bios !== undefined) {
    yield { start: FOUR_GIB - bios.size, end: FOUR_GIB, block: bios, offset: 0, depth: 0 };
  }
  if (blocks.some(({ name }) => VGA.test(name))) yield hole(VGA_HOLE);
  const isaBios = named("isa-bios") ?? bios;
  const isaSize = Math.min(MAX_ISA_BIOS, isaBios?.size ?? 0);
  const roms: Layer[] = [];
  if (isaBios !== undefined) {
    roms.push({ start: MiB - isaSize, end: MiB, block: isaBios, offset: isaBios.size - isaSize, depth: 0 });
  }
  const optionRoms = named("pc.rom");
  if (optionRoms !== undefined) {
    const end = Math.min(OPTION_ROMS.end, OPTION_ROMS.start + optionRoms.size);
    roms.push({ start: OPTION_ROMS.start, end, block: optionRoms, offset: 0, depth: 0 });
  }
  if (kind === "microvm" || kind === "isapc") {
    // Nothing there can be made to show memory.
    yield* roms;
    return;
  }
  for (const piece of shadow) if (!piece.ram) yield* romsIn(roms, piece);
}

/** What is on the bus in a piece whose memory is hidden. */
function* romsIn(roms: readonly Layer[], piece: Range): Generator<Layer> {
  for (const rom of roms) {
    const start = Math.max(rom.start, piece.start);
    const end = Math.min(rom.end, piece.end);
    if (start < end) yield { ...rom, start, end, offset: rom.offset + (start - rom.start) };
  }
  yield hole(piece);
}

const hole = ({ start, end }: Range): Layer => ({ start, end, block: undefined, offset: 0, depth: 0 });

/** Blocks that are the firmware's or a device's and never memory that Linux is given. */
const FIRMWARE = /^(\/rom@|pc\.bios$|pc\.rom$|isa-bios$|system\.flash\d|etc\/)/;
const DEVICE = /^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\/|vram|\.rom$|^ram ?fb/i;
/** Memory of the machine as QEMU calls it when nobody gave it another name. */
const MACHINE_RAM = /^(pc|microvm)\.ram$/;

/** The RAMBlocks that may be the machine's memory: its own, or those that users made and named. */
export function memoryBlocks(blocks: readonly RamBlock[]): readonly RamBlock[] {
  const own = blocks.filter(({ name }) => MACHINE_RAM.test(name));
  return own.length > 0 ? own : blocks.filter(({ name }) => !FIRMWARE.test(name) && !DEVICE.test(name));
}

/** Blocks that may hold memory and have no place: what was plugged in (DIMMs, virtio-mem). */
export const otherMemory = (blocks: readonly RamBlock[], placed: readonly RamBlock[]): RamBlock[] =>
  blocks.filter(
    (block) =>
      !placed.includes(block) &&
      !FIRMWARE.test(block.name) &&
      !/vram|vga|rom$|ivshmem/i.test(block.name) &&
      block.size >= MiB,
  );

/** Whether every page of a block came. */
export function isWhole({ pages, size }: RamBlock): boolean {
  const count = size / PAGE_SIZE;
  for (let page = 0; page < count; page = pages.runEnd(page, count)) {
    if (pages.presence(page) === "absent") return false;
  }
  return true;
}

/** Pages of a block that came. */
export function hasPages({ pages, size }: RamBlock): boolean {
  const count = size / PAGE_SIZE;
  return pages.presence(0) !== "absent" || pages.runEnd(0, count) < count;
}
