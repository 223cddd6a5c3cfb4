import { unpackers } from "../codec/pages.ts";
import { u64 } from "../core/bytes.ts";
import type { PageStorage } from "../core/memory.ts";

/** Bytes of a page_desc_t: u64 offset, u32 size, u32 flags, u64 page_flags (makedumpfile `diskdump_mod.h`). */
export const DESCRIPTOR_SIZE = 24;
/** Every flag that says how a page is compressed. */
const COMPRESSED = 0x27;

/** By the flag of a page descriptor (DUMP_DH_COMPRESSED_*). */
const STORAGE: Readonly<Record<number, PageStorage>> = {
  0: "none",
  1: "zlib",
  2: "lzo",
  4: "snappy",
  32: "zstd",
};

/** How a page with these flags is stored; undefined where they say two things at once. */
export const storageOf = (flags: number): PageStorage | undefined => STORAGE[flags & COMPRESSED];

/** Where the bytes of a page frame are. */
export interface PageDescriptor {
  readonly offset: number;
  readonly size: number;
  readonly flags: number;
}

export const decodeDescriptor = (view: DataView, at: number, littleEndian = true): PageDescriptor => ({
  offset: u64(view, at, littleEndian),
  size: view.getUint32(at + 8, littleEndian),
  flags: view.getUint32(at + 12, littleEndian),
});

/** What a page's bytes must be in. */
export interface PageBounds {
  readonly blockSize: number;
  /** Where headers, bitmaps and descriptors end. */
  readonly data: number;
  /** Bytes of the file. */
  readonly size: number;
}

/** What can be wrong with a descriptor by itself. */
export type DescriptorFault = "unwritten" | "tables" | "size" | "outside" | "flags" | "raw-size";

/** Why no page is where a descriptor says; undefined when there may be one. */
export function descriptorFault(
  { offset, size, flags }: PageDescriptor,
  bounds: PageBounds,
): DescriptorFault | undefined {
  if (offset === 0 && size === 0) return "unwritten";
  if (size === 0 || size > bounds.blockSize) return "size";
  if (offset < bounds.data) return "tables";
  if (!(offset + size <= bounds.size)) return "outside";
  if (flags === 0) return size === bounds.blockSize ? undefined : "raw-size";
  return Object.hasOwn(STORAGE, flags) ? undefined : "flags";
}

/**
 * Unpacks a page, or copies one that is as it was.
 * @returns bytes written to `block`; undefined when they are damaged, or too many for it
 */
export function unpackPage(packed: Buffer, flags: number, block: Buffer): number | undefined {
  const storage = storageOf(flags);
  if (storage === undefined) return undefined;
  return storage === "none" ? packed.copy(block) : unpackers[storage](packed, block);
}
