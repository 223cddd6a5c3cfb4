import { CR0_PG, CR3_FRAME, CR4_LA57, CR4_PAE, CR4_PSE, EFER_LMA } from "./registers.ts";
import type { X86State } from "./state.ts";

/**
 * Kinds of page tables as data: one literal each, one walker for all (`paging.ts`). A new kind (EPT, NPT, a
 * platform's encryption bit) is one more literal. Masks are written as in the manuals, bit 0 lowest.
 */

/** One level of tables, in the order a walk meets them: the root's first. */
export interface TableLevel {
  /** Lowest bit of the virtual address that indexes this level's table. */
  readonly shift: number;
  /** How many bits index it. */
  readonly bits: number;
  /** Whether an entry maps a page: never, always (the last level), or when the shape's `largeBit` is set. */
  readonly leaf: "never" | "large" | "always";
  /** Bits that must be 0 in an entry that refers to a table. */
  readonly reserved: bigint;
  /** Bits that must be 0 in an entry that maps a page. */
  readonly leafReserved: bigint;
  /** This level's entries hold no access rights and restrict nothing (PAE's PDPTEs). */
  readonly rightless?: true;
  /** Physical-address bits 32 and up that a leaf holds lower down (PSE-36). */
  readonly leafHighAddress?: { readonly mask: bigint; readonly shift: number };
}

/** A bit of an entry that grants an access when 1 (`allows`) or when 0; all levels must grant it. */
export interface RightBit {
  readonly mask: bigint;
  readonly allows: boolean;
}

export interface PagingShape {
  readonly name: string;
  readonly entryBytes: 4 | 8;
  /** Width of a translated address in bits; what lies above must repeat the top bit (`sign`) or be 0 (`zero`). */
  readonly addressBits: number;
  readonly extension: "sign" | "zero";
  /** Bits of the register that points to the root which hold the root's physical address. */
  readonly rootMask: bigint;
  /** An entry is present when any of these bits is set. */
  readonly present: bigint;
  /** An entry is present too when one of `set` is set and none of `clear` (bits 31:0). */
  readonly presentToo?: { readonly set: bigint; readonly clear: bigint };
  readonly largeBit: bigint;
  /** Bits of an entry that hold a physical address. */
  readonly address: bigint;
  /** A right without a bit is granted always. */
  readonly writable?: RightBit;
  readonly user?: RightBit;
  readonly executable?: RightBit;
  readonly levels: readonly TableLevel[];
}

const bit = (position: number): bigint => 1n << BigInt(position);
/** Bits `high` down to `low`, both included, as the manuals write them. */
const bits = (high: number, low: number): bigint => bit(high + 1) - bit(low);

/** The L flag of a code-segment descriptor's upper half. */
const SEGMENT_LONG = 1 << 21;

const PS = bit(7);
const WRITABLE: RightBit = { mask: bit(1), allows: true };
const USER: RightBit = { mask: bit(2), allows: true };
const EXECUTABLE: RightBit = { mask: bit(63), allows: false };

/** SDM Vol. 3A §4.5, Tables 4-14 to 4-20. Bit 12 of a large leaf is PAT. */
const LONG_LEVELS = {
  pml5: { shift: 48, bits: 9, leaf: "never", reserved: PS, leafReserved: 0n },
  pml4: { shift: 39, bits: 9, leaf: "never", reserved: PS, leafReserved: 0n },
  pdpt: { shift: 30, bits: 9, leaf: "large", reserved: 0n, leafReserved: bits(29, 13) },
  pd: { shift: 21, bits: 9, leaf: "large", reserved: 0n, leafReserved: bits(20, 13) },
  pt: { shift: 12, bits: 9, leaf: "always", reserved: 0n, leafReserved: 0n },
} as const satisfies Record<string, TableLevel>;

/** 4-level paging of long mode (SDM Vol. 3A §4.5). AMD's nested tables have this shape too. */
export const FOUR_LEVEL: PagingShape = {
  name: "4-level",
  entryBytes: 8,
  addressBits: 48,
  extension: "sign",
  rootMask: CR3_FRAME,
  present: bit(0),
  largeBit: PS,
  address: bits(51, 12),
  writable: WRITABLE,
  user: USER,
  executable: EXECUTABLE,
  levels: [LONG_LEVELS.pml4, LONG_LEVELS.pdpt, LONG_LEVELS.pd, LONG_LEVELS.pt],
};

/** 5-level paging, CR4.LA57 (SDM Vol. 3A §4.5). */
export const FIVE_LEVEL: PagingShape = {
  ...FOUR_LEVEL,
  name: "5-level",
  addressBits: 57,
  levels: [LONG_LEVELS.pml5, ...FOUR_LEVEL.levels],
};

/**
 * PAE paging (SDM Vol. 3A §4.4, Tables 4-8 to 4-11): four PDPTEs at a 32-byte boundary, no rights in them. Their
 * reserved bits are checked when CR3 is loaded, not in walks: QEMU's TCG sets bit 5 (accessed) in them afterwards.
 */
export const PAE: PagingShape = {
  ...FOUR_LEVEL,
  name: "PAE",
  addressBits: 32,
  extension: "zero",
  rootMask: bits(31, 5),
  levels: [
    {
      shift: 30,
      bits: 2,
      leaf: "never",
      reserved: bits(2, 1) | bits(8, 6) | bits(63, 52),
      leafReserved: 0n,
      rightless: true,
    },
    { shift: 21, bits: 9, leaf: "large", reserved: bits(62, 52), leafReserved: bits(20, 13) | bits(62, 52) },
    { shift: 12, bits: 9, leaf: "always", reserved: 0n, leafReserved: bits(62, 52) },
  ],
};

/** 32-bit paging without CR4.PSE: bit 7 of a PDE is ignored (SDM Vol. 3A §4.3). */
export const THIRTY_TWO_BIT: PagingShape = {
  name: "32-bit",
  entryBytes: 4,
  addressBits: 32,
  extension: "zero",
  rootMask: bits(31, 12),
  present: bit(0),
  largeBit: PS,
  address: bits(31, 12),
  writable: WRITABLE,
  user: USER,
  levels: [
    { shift: 22, bits: 10, leaf: "never", reserved: 0n, leafReserved: 0n },
    { shift: 12, bits: 10, leaf: "always", reserved: 0n, leafReserved: 0n },
  ],
};

/** 32-bit paging with 4 MiB pages and PSE-36: bits 20:13 are address bits 39:32 (SDM Vol. 3A Table 4-4). */
export const THIRTY_TWO_BIT_PSE: PagingShape = {
  ...THIRTY_TWO_BIT,
  name: "32-bit PSE",
  levels: [
    {
      shift: 22,
      bits: 10,
      leaf: "large",
      reserved: 0n,
      leafReserved: bit(21),
      leafHighAddress: { mask: bits(20, 13), shift: 19 },
    },
    { shift: 12, bits: 10, leaf: "always", reserved: 0n, leafReserved: 0n },
  ],
};

/** SDM Vol. 3C §29.3, Tables 29-1 to 29-7. Bits 5:3 of an entry that maps a page are its memory type. */
const EPT_LEVELS = {
  pml5: { shift: 48, bits: 9, leaf: "never", reserved: bits(7, 3), leafReserved: 0n },
  pml4: { shift: 39, bits: 9, leaf: "never", reserved: bits(7, 3), leafReserved: 0n },
  pdpt: { shift: 30, bits: 9, leaf: "large", reserved: bits(6, 3), leafReserved: bits(29, 12) },
  pd: { shift: 21, bits: 9, leaf: "large", reserved: bits(6, 3), leafReserved: bits(20, 12) },
  pt: { shift: 12, bits: 9, leaf: "always", reserved: 0n, leafReserved: 0n },
} as const satisfies Record<string, TableLevel>;

/**
 * 4-level EPT (SDM Vol. 3C §29.3.2). Present is what can be read: KVM marks MMIO by entries for write and execute
 * only, a misconfiguration. What it has taken all access from, to see whether the guest uses it, still is memory:
 * "readable" is then saved in bit 54 (Linux `arch/x86/kvm/mmu/spte.h`, SHADOW_ACC_TRACK_SAVED_BITS_SHIFT).
 */
export const EPT_FOUR_LEVEL: PagingShape = {
  name: "EPT 4-level",
  entryBytes: 8,
  addressBits: 48,
  extension: "zero",
  rootMask: bits(51, 12),
  present: bit(0),
  presentToo: { set: bit(54), clear: bits(2, 0) },
  largeBit: PS,
  address: bits(51, 12),
  writable: WRITABLE,
  executable: { mask: bit(2), allows: true },
  levels: [EPT_LEVELS.pml4, EPT_LEVELS.pdpt, EPT_LEVELS.pd, EPT_LEVELS.pt],
};

/** 5-level EPT (SDM Vol. 3C §29.3.2). */
export const EPT_FIVE_LEVEL: PagingShape = {
  ...EPT_FOUR_LEVEL,
  name: "EPT 5-level",
  addressBits: 57,
  levels: [EPT_LEVELS.pml5, ...EPT_FOUR_LEVEL.levels],
};

/**
 * AMD's nested tables are those of the host's own paging mode (APM Vol. 2 §15.25), counted from 0. KVM marks MMIO by
 * bit 51, which no processor that it does so on has as an address bit (`kvm_mmu_set_mmio_spte_mask`).
 */
const nested = (shape: PagingShape): PagingShape => ({
  ...shape,
  name: shape.name.replace("-level", "-level NPT"),
  extension: "zero",
  levels: shape.levels.map((level) => ({ ...level, leafReserved: level.leafReserved | bit(51) })),
});
export const NPT_FOUR_LEVEL: PagingShape = nested(FOUR_LEVEL);
export const NPT_FIVE_LEVEL: PagingShape = nested(FIVE_LEVEL);

/**
 * The shape with some bits no longer part of a physical address: the memory-encryption bit of AMD's SME and SEV
 * (APM Vol. 2 §7.10), which tables and registers carry and the memory bus does not.
 */
export function withoutAddressBits(shape: PagingShape, mask: bigint): PagingShape {
  if (mask === 0n) return shape;
  const levels = shape.levels.map((level) => ({ ...level, leafReserved: level.leafReserved & ~mask }));
  return { ...shape, address: shape.address & ~mask, rootMask: shape.rootMask & ~mask, levels };
}

/** The paging mode a processor is in (SDM Vol. 3A §4.1.1); undefined while paging is off. */
export function shapeFor(state: X86State): PagingShape | undefined {
  if ((state.cr0 & CR0_PG) === 0n) return undefined;
  if ((state.cr4 & CR4_PAE) === 0n) return (state.cr4 & CR4_PSE) !== 0n ? THIRTY_TWO_BIT_PSE : THIRTY_TWO_BIT;
  if (!inLongMode(state)) return PAE;
  return (state.cr4 & CR4_LA57) !== 0n ? FIVE_LEVEL : FOUR_LEVEL;
}

/** EFER.LMA, or where EFER is unknown what only long mode allows: CS.L, or a wide instruction pointer or table. */
function inLongMode({ efer, rip, gdt, idt, segments }: X86State): boolean {
  if (efer !== undefined) return (efer & EFER_LMA) !== 0n;
  return (segments.cs.flags & SEGMENT_LONG) !== 0 || (rip | gdt.base | idt.base) >> 32n !== 0n;
}
