import { alignDown, alignUp, PAGE_SIZE } from "./address.ts";
import type { Range } from "./ranges.ts";

/** Random-access bytes: a file, a flattened stream put in order, a slice of memory in tests. Synchronous by design. */
export interface ByteSource {
  /** What to call it in messages: the file's name as the user gave it. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /**
   * Fills `target` from `offset` and returns how many bytes it got; fewer than asked only at the end of the source.
   * @throws IoError when the operating system fails the read
   */
  read(offset: number, target: Uint8Array): number;
  /** Set for the contents of a compressed file: no other tool reads it by its name. */
  readonly unpacking?: Unpacking | undefined;
  /**
   * Whether the bytes from `offset` on are a hole of a sparse file, which reads as zeros, and where that ends; at most
   * `limit`. Absent, or `undefined`, where the system does not tell: then everything has to be read.
   */
  extent?(offset: number, limit: number): SourceExtent | undefined;
}

/** How to unpack a file for tools that do not read it compressed. */
export interface Unpacking {
  /** Name of what comes out. */
  readonly name: string;
  /** For a shell. */
  readonly command: string;
}

export interface SourceExtent {
  readonly hole: boolean;
  readonly end: number;
}

/**
 * What is known of a page: its bytes (`present`); that it holds only zeros (`zero`); that whoever made the dump
 * left it out on purpose (`excluded`); that it should be there and is not (`absent`). Never interchangeable.
 */
export type PageState = "present" | "zero" | "excluded" | "absent";

/** The longest run of one state from an address; where its bytes lie raw and contiguous, `at` says where. */
export interface Extent extends Range {
  readonly state: PageState;
  readonly at?: { readonly source: ByteSource; readonly offset: number };
}

/**
 * An extent that lies raw in a source, cut where a hole begins or ends: whole pages of a hole are `zero` without
 * being read. `start` and `end` are page-aligned, `offset` need not be.
 * @param holes false: the system is not asked for holes, all of it is `present`
 */
export function rawExtent(
  start: number,
  end: number,
  source: ByteSource,
  offset: number,
  holes = true,
): Extent {
  const at = { source, offset };
  const known = holes ? source.extent?.(offset, offset + (end - start)) : undefined;
  if (known === undefined) return { start, end, state: "present", at };
  const length = known.end - offset;
  if (known.hole && length >= PAGE_SIZE) {
    return { start, end: Math.min(end, start + alignDown(length, PAGE_SIZE)), state: "zero" };
  }
  // A page that is in part a hole is data.
  return {
    start,
    end: Math.min(end, start + Math.max(PAGE_SIZE, alignUp(length, PAGE_SIZE))),
    state: "present",
    at,
  };
}

/** How a page is stored in a dump; `none`: as it is. */
export type PageStorage = "none" | "zlib" | "lzo" | "snappy" | "zstd";

/** A compressed page of a dump. */
export interface PackedBlock {
  /** Of its bytes in the dump. */
  readonly size: number;
  readonly codec: PageStorage;
  /** Reads them; fewer at the end of the dump. */
  read(target: Uint8Array): number;
}

/** Memory whose pages are compressed one by one, for whoever unpacks many at once. */
export interface PackedPages {
  /** Bytes of an unpacked block, a power of two from 4096 to 65 536. */
  readonly blockSize: number;
  /** The block at an address that it divides, of memory that is present; undefined where it is not to be found. */
  blockAt(address: number): PackedBlock | undefined;
}

/**
 * The physical memory of one machine, whoever holds it: a dump format, a host through EPT, a qemu process.
 * Addresses are bytes below 2^52; ranges are page-aligned, ascending and disjoint.
 */
export interface PhysicalMemory {
  readonly ranges: readonly Range[];
  /**
   * The extent that starts at `address`, cut at `limit`; outside every range it is `absent` up to the next one.
   * @param holes false when only what is missing matters: holes of a sparse file then count as `present`, which saves
   *   the system calls that look for them
   */
  extentAt(address: number, limit: number, holes?: boolean): Extent;
  /** Reads the whole page that contains `address`; `target` (4096 bytes) is filled unless absent or excluded. */
  readPage(address: number, target: Uint8Array): PageState;
  /** Of memory that is present without lying raw in a file. */
  readonly packed?: PackedPages | undefined;
}

/** Why a virtual address has no physical one: at which table level (1 = leaf) the walk ended, and how. */
export interface NotMapped {
  readonly mapped: false;
  readonly level: number;
  readonly reason: "not-present" | "reserved-bits" | "table-missing" | "non-canonical";
}

/** One translation; `size` is the page size in bytes, `physical` the address of the byte asked for. */
export interface Mapping {
  readonly mapped: true;
  readonly physical: number;
  readonly size: number;
  readonly writable: boolean;
  readonly user: boolean;
  readonly executable: boolean;
}

/** A virtual address space over a physical memory; an unmapped address is a value, not an exception. */
export interface AddressSpace {
  translate(virtual: bigint): Mapping | NotMapped;
}

const pageScratch = Buffer.allocUnsafeSlow(PAGE_SIZE);

/**
 * Copies bytes at a physical address into `target`, across pages.
 * @returns how many leading bytes are known (present or zero); fewer than asked where a page is absent or excluded
 */
export function readPhysical(memory: PhysicalMemory, address: number, target: Uint8Array): number {
  let done = 0;
  while (done < target.length) {
    const at = address + done;
    const inPage = at % PAGE_SIZE;
    const state = memory.readPage(at - inPage, pageScratch);
    if (state === "absent" || state === "excluded") break;
    const length = Math.min(PAGE_SIZE - inPage, target.length - done);
    target.set(pageScratch.subarray(inPage, inPage + length), done);
    done += length;
  }
  return done;
}
