import type { Range } from "./ranges.ts";

const GIB = 2 ** 30;

/** Where a kind of machine has no RAM, in an order of size and address. */
interface RamLayout {
  /** Holes in RAM of so many bytes, ascending. */
  readonly holes: (ram: number) => readonly Range[];
  /** End of the addresses that the layout is known for. */
  readonly limit: number;
}

const holeBelow4G = (start: number): Range => ({ start, end: 4 * GIB });

/** QEMU moves RAM above 4 GiB to 1 TiB where it would reach the reserved range of AMD's IOMMU (hw/i386/pc.c). */
const AMD_HYPERTRANSPORT = 0xfd_0000_0000;

/** Firecracker src/vmm/src/arch/x86_64/layout.rs: FIRST_ADDR_PAST_64BITS_MMIO and what lies below. */
const FIRECRACKER_MMIO64: Range = { start: 256 * GIB, end: 512 * GIB };

/**
 * How machines split RAM that lies in one file: QEMU's pc.ram or memory-backend-file, Firecracker's memory file. Of
 * QEMU the default of max-ram-below-4g and of machine types since 2.0 (hw/i386/pc_piix.c, pc_q35.c, microvm.c).
 */
export const RAM_LAYOUTS = {
  pc: {
    holes: (ram) => [holeBelow4G(ram >= 3.5 * GIB ? 3 * GIB : 3.5 * GIB)],
    limit: AMD_HYPERTRANSPORT,
  },
  q35: {
    holes: (ram) => [holeBelow4G(ram >= 2.75 * GIB ? 2 * GIB : 2.75 * GIB)],
    limit: AMD_HYPERTRANSPORT,
  },
  microvm: { holes: () => [holeBelow4G(3 * GIB)], limit: 2 ** 52 },
  firecracker: { holes: () => [holeBelow4G(3 * GIB), FIRECRACKER_MMIO64], limit: 2 ** 52 },
  /** Before it had PCI (commit 7c623e89b4da, May 2025). */
  "firecracker-mmio": { holes: () => [holeBelow4G(3.25 * GIB)], limit: 2 ** 52 },
} as const satisfies Readonly<Record<string, RamLayout>>;

export type RamLayoutName = keyof typeof RAM_LAYOUTS;

export const isLayoutName = (text: string): text is RamLayoutName => Object.hasOwn(RAM_LAYOUTS, text);
