import { PAGE_SIZE } from "../core/address.ts";

/** Machines of QEMU that a PC's memory is in. */
export type MachineKind = "i440fx" | "q35" | "microvm" | "isapc";

const KINDS: readonly (readonly [RegExp, MachineKind])[] = [
  [/^(pc-q35-|q35$)/, "q35"],
  [/^microvm/, "microvm"],
  [/^isapc/, "isapc"],
  // pc-i440fx-7.2, pc-1.3, Red Hat's rhel6.6.0.
  [/^(pc$|pc-|rhel\d|xenfv)/, "i440fx"],
];

/** By the name of a machine type; undefined for one that is no PC, or is not known. */
export const machineKind = (name: string): MachineKind | undefined =>
  KINDS.find(([pattern]) => pattern.test(name))?.[1];

const GiB = 2 ** 30;
/** Types from before memory was split at a multiple of 1 GiB (gigabyte_align, QEMU 2.0). */
const UNALIGNED = /^(pc-(i440fx-|q35-)?[01]\.|rhel6)/;

/**
 * How much of a machine's memory lies below 4 GiB when nobody says otherwise (-machine max-ram-below-4g): QEMU
 * `hw/i386/pc_piix.c` pc_init1, `pc_q35.c` pc_q35_init, `microvm.c` microvm_memory_init.
 * @param size of all memory in bytes
 */
export function defaultSplit(kind: MachineKind | undefined, name: string, size: number): number {
  const [limit, low] = SPLITS[kind ?? "i440fx"];
  return size < limit ? size : UNALIGNED.test(name) ? limit : low;
}

/** Memory of this size and more is split, and how much of it is low then. */
const SPLITS: Readonly<Record<MachineKind, readonly [limit: number, low: number]>> = {
  i440fx: [3.5 * GiB, 3 * GiB],
  q35: [2.75 * GiB, 2 * GiB],
  microvm: [3 * GiB, 3 * GiB],
  isapc: [Number.POSITIVE_INFINITY, 0],
};

/** Every split that one of the rules gives, and those that users choose. */
export const COMMON_SPLITS: readonly number[] = [3, 2, 3.5, 2.75, 1].map((size) => size * GiB);

const KiB64 = 65_536;
const MiB = 2 ** 20;

/**
 * How much memory lies below 4 GiB by what QEMU told the firmware through the clock's memory (`hw/i386/pc.c`
 * pc_cmos_init): bytes 0x17 and 0x34 have the size below 4 GiB, 0x5b the size above in pieces of 64 KiB.
 * @param size of all memory in bytes
 * @returns undefined when that does not fit
 */
export function cmosSplit(cmos: Buffer, size: number): number | undefined {
  const above = cmos.readUIntLE(0x5b, 3);
  const units = cmos.readUInt16LE(0x34);
  const low = units === 0 ? MiB + cmos.readUInt16LE(0x17) * 1024 : 16 * MiB + units * KiB64;
  // Less than 64 KiB is not told.
  const below = above === 0 && size > low && size - low < KiB64 ? size : low;
  // Of a damaged clock: memory is cut between pages.
  const isRight =
    below % PAGE_SIZE === 0 && below <= size && Math.floor((size - below) / KiB64) % 2 ** 24 === above;
  return isRight ? below : undefined;
}

/** Bytes of the clock's memory that are read. */
export const CMOS_SIZE = 128;

/** Where the chipset keeps the seven registers of what is read below 1 MiB (PAM). */
const PAM_AT: Readonly<Partial<Record<MachineKind, number>>> = { i440fx: 0x59, q35: 0x90 };
const PAM_SIZE = 7;
const READ_ENABLE = 1;

/** A piece of the address space below 1 MiB, and whether memory is read there, or else what is on the bus. */
export interface ShadowPiece {
  readonly start: number;
  readonly end: number;
  readonly ram: boolean;
}

/**
 * What is read at 0xc0000 to 0xfffff (QEMU `hw/pci-host/pam.c`; Intel 82441FX §3.2.17): the first register is of the 64
 * KiB at 0xf0000, each half of the others of 16 KiB.
 * @param config of the host bridge's PCI function
 */
export function shadowOf(kind: MachineKind, config: Buffer | undefined): readonly ShadowPiece[] {
  const at = PAM_AT[kind];
  if (at === undefined || config === undefined) return [];
  const pam = config.subarray(at, at + PAM_SIZE);
  const pieces: ShadowPiece[] = [];
  for (let i = 0; i < 12; i++) {
    const start = 0xc_0000 + i * 0x4000;
    const bits = pam[1 + Math.floor(i / 2)]! >> (i % 2 === 0 ? 0 : 4);
    pieces.push({ start, end: start + 0x4000, ram: (bits & READ_ENABLE) !== 0 });
  }
  pieces.push({ start: 0xf_0000, end: 0x10_0000, ram: ((pam[0]! >> 4) & READ_ENABLE) !== 0 });
  return pieces;
}

/** Bytes of the host bridge's configuration that are read. */
export const CONFIG_SIZE = 256;
