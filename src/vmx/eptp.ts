import { EPT_FIVE_LEVEL, EPT_FOUR_LEVEL, type PagingShape } from "../x86/paging-shapes.ts";

/** The EPT pointer (Intel SDM Vol. 3C Table 25-9). */
export interface EptPointer {
  /** Physical address of the root table. */
  readonly root: number;
  readonly shape: PagingShape;
  readonly memoryType: "UC" | "WB";
  /** Whether the processor sets accessed and dirty flags. */
  readonly accessedDirty: boolean;
}

const MEMORY_TYPES: Readonly<Record<number, EptPointer["memoryType"]>> = { 0: "UC", 6: "WB" };
const SHAPES: Readonly<Record<number, PagingShape>> = { 3: EPT_FOUR_LEVEL, 4: EPT_FIVE_LEVEL };
const ACCESSED_DIRTY = 1 << 6;
/** Bit 7, supervisor shadow-stack control, may be set; 11:8 are reserved. */
const RESERVED = 0xf00;
const ADDRESS_END = 1n << 52n;

/** Decodes an EPTP; undefined when it has reserved bits, or a memory type or walk length that is none. */
export function decodeEptPointer(value: bigint): EptPointer | undefined {
  const low = Number(value & 0xfffn);
  const memoryType = MEMORY_TYPES[low & 7];
  const shape = SHAPES[(low >>> 3) & 7];
  const root = value & ~0xfffn;
  if (memoryType === undefined || shape === undefined || (low & RESERVED) !== 0) return undefined;
  if (root === 0n || root >= ADDRESS_END) return undefined;
  return { root: Number(root), shape, memoryType, accessedDirty: (low & ACCESSED_DIRTY) !== 0 };
}
