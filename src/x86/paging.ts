import { PAGE_SIZE } from "../core/address.ts";
import { viewOf } from "../core/bytes.ts";
import type { AddressSpace, Mapping, NotMapped, PhysicalMemory } from "../core/memory.ts";
import { LeafCursor, readTable } from "./paging-cursor.ts";
import { EntryLevel, EntryRights, LEAF, NOT_PRESENT, TABLE, unpackRights } from "./paging-entries.ts";
import { type PagingShape, shapeFor } from "./paging-shapes.ts";
import type { X86State } from "./state.ts";

/** Tables one `mappings` call reads at most: all of 128 GiB mapped by 4 KiB pages, about a second of work. */
export const TABLE_LIMIT = 65_536;
/** Runs one `mappings` call yields at most. */
const RUN_LIMIT = 1_048_576;
/** Table pages `translate` keeps (256 KiB): walks repeat in their upper levels. */
const CACHED_TABLES = 64;

/** A run of virtual addresses that maps to as long a run of physical ones, with equal rights throughout. */
export interface MappedRun {
  readonly virtual: bigint;
  readonly physical: number;
  /** Bytes. */
  readonly size: number;
  readonly writable: boolean;
  readonly user: boolean;
  readonly executable: boolean;
}

/** A run of virtual addresses and the physical address of its first byte; undefined where nothing is mapped. */
export interface AddressRun {
  readonly physical: number | undefined;
  /** Bytes. */
  readonly size: number;
}

/** How an enumeration ended. */
export interface WalkEnd {
  /** False when a limit ended it before the range was done. */
  readonly complete: boolean;
  /** Where an incomplete one would go on. */
  readonly resumeAt?: bigint;
  readonly tablesRead: number;
  /** Tables whose page the memory does not hold; what they map is not in the runs. */
  readonly tablesMissing: number;
}

export interface PageTablesOptions {
  /** Default `TABLE_LIMIT`. */
  readonly tableLimit?: number;
}

/** The address space that page tables in a physical memory define. Depth is fixed by the shape: tables that refer
 * to themselves end a walk like any others. */
export class PageTables implements AddressSpace {
  readonly shape: PagingShape;
  /** Physical address of the root table. */
  readonly root: number;
  readonly #memory: PhysicalMemory;
  readonly #tableLimit: number;
  readonly #levels: readonly EntryLevel[];
  readonly #rights: EntryRights;
  readonly #cache = new TableCache();

  /** @param root what CR3 (or its like) holds: bits that are no address are ignored */
  constructor(memory: PhysicalMemory, root: number, shape: PagingShape, options: PageTablesOptions = {}) {
    this.#memory = memory;
    this.shape = shape;
    this.root = Number(BigInt(root) & shape.rootMask);
    this.#tableLimit = options.tableLimit ?? TABLE_LIMIT;
    this.#levels = shape.levels.map((level, i) => new EntryLevel(shape, level, shape.levels.length - i));
    this.#rights = new EntryRights(shape);
  }

  translate(virtual: bigint): Mapping | NotMapped {
    const linear = BigInt.asUintN(this.shape.addressBits, virtual);
    if (virtual !== canonical(this.shape, linear)) {
      return { mapped: false, level: this.#levels.length, reason: "non-canonical" };
    }
    const page = Number(linear >> 12n);
    let table = this.root;
    let rightsLow = -1;
    let rightsHigh = -1;
    for (const level of this.#levels) {
      const offset = table % PAGE_SIZE;
      const view = this.#cache.load(this.#memory, table - offset);
      if (view === undefined) return { mapped: false, level: level.number, reason: "table-missing" };
      const index = Math.floor(page / level.span) % level.entries;
      const low = level.low(view, offset, index);
      const high = level.high(view, offset, index);
      const kind = level.kindOf(low, high);
      if (kind !== LEAF && kind !== TABLE) {
        const reason = kind === NOT_PRESENT ? "not-present" : "reserved-bits";
        return { mapped: false, level: level.number, reason };
      }
      if (!level.rightless) {
        rightsLow &= low ^ this.#rights.invertLow;
        rightsHigh &= high ^ this.#rights.invertHigh;
      }
      if (kind === LEAF) {
        const size = level.span * PAGE_SIZE;
        const within = (page % level.span) * PAGE_SIZE + Number(linear & 0xfffn);
        const physical = level.leafAddress(low, high) + within;
        return { mapped: true, physical, size, ...unpackRights(this.#rights.pack(rightsLow, rightsHigh)) };
      }
      table = level.tableAddress(low, high);
    }
    throw new RangeError("a paging shape's last level must map pages");
  }

  /**
   * The longest run from `virtual` on that is mapped to contiguous physical memory, or not mapped at all; at most
   * `limit` bytes. Both are multiples of the page size.
   */
  runAt(virtual: bigint, limit: number): AddressRun {
    const first = this.translate(virtual);
    if (!first.mapped) {
      const span = this.#levels[this.#levels.length - first.level]!.span * PAGE_SIZE;
      return { physical: undefined, size: Math.min(limit, span - Number(virtual % BigInt(span))) };
    }
    let size = restOfPage(first, virtual);
    while (size < limit) {
      const at = virtual + BigInt(size);
      const next = this.translate(at);
      if (!next.mapped || next.physical !== first.physical + size) break;
      size += restOfPage(next, at);
    }
    return { physical: first.physical, size: Math.min(size, limit) };
  }

  /**
   * What `[from, to)` maps, ascending, as the longest runs; addresses that are not canonical are skipped.
   * @param to may be 2^64 @param tableLimit the limit of these tables unless given
   * @returns how the enumeration ended, as the generator's return value
   */
  *mappings(
    from: bigint,
    to: bigint,
    limit = RUN_LIMIT,
    tableLimit = this.#tableLimit,
  ): Generator<MappedRun, WalkEnd> {
    const first = linearPage(this.shape, from);
    const end = linearPage(this.shape, to + 0xfffn);
    const start = { root: this.root, first, end, tableLimit };
    const cursor = new LeafCursor(this.#memory, this.#levels, this.#rights, start);
    // Runs never cross the gap of addresses that are not canonical.
    const gap = this.shape.extension === "sign" ? 2 ** (this.shape.addressBits - 13) : -1;
    const incomplete = (page: number): WalkEnd => ({
      complete: false,
      resumeAt: this.#virtualOf(page),
      tablesRead: cursor.tablesRead,
      tablesMissing: cursor.tablesMissing,
    });
    let yielded = 0;
    let page = 0;
    let pages = 0;
    let physical = 0;
    let rights = 0;
    while (cursor.next()) {
      const joins =
        cursor.page === page + pages &&
        cursor.physical === physical + pages * PAGE_SIZE &&
        cursor.rights === rights &&
        cursor.page !== gap;
      if (joins && pages > 0) {
        pages += cursor.pages;
        continue;
      }
      if (pages > 0) {
        yield this.#run(page, pages, physical, rights);
        yielded++;
      }
      if (yielded >= limit) return incomplete(cursor.page);
      ({ page, pages, physical, rights } = cursor);
    }
    if (pages > 0) yield this.#run(page, pages, physical, rights);
    if (cursor.stoppedAt !== undefined) return incomplete(cursor.stoppedAt);
    return { complete: true, tablesRead: cursor.tablesRead, tablesMissing: cursor.tablesMissing };
  }

  #virtualOf(page: number): bigint {
    return canonical(this.shape, BigInt(page) << 12n);
  }

  #run(page: number, pages: number, physical: number, rights: number): MappedRun {
    return { virtual: this.#virtualOf(page), physical, size: pages * PAGE_SIZE, ...unpackRights(rights) };
  }
}

/** Bytes from `virtual` to the end of its page, which may be a large one. */
const restOfPage = ({ size }: Mapping, virtual: bigint): number => size - Number(virtual % BigInt(size));

/** The address space a processor is in; undefined while paging is off. */
export function pageTablesOf(
  memory: PhysicalMemory,
  state: X86State,
  options?: PageTablesOptions,
): PageTables | undefined {
  const shape = shapeFor(state);
  return shape && new PageTables(memory, Number(state.cr3 & shape.rootMask), shape, options);
}

/** The 64-bit address whose low `addressBits` bits are `linear`. */
const canonical = (shape: PagingShape, linear: bigint): bigint =>
  shape.extension === "sign" ? BigInt.asUintN(64, BigInt.asIntN(shape.addressBits, linear)) : linear;

/** Page number of an address counted without the gap; an address in the gap becomes the gap's place. */
function linearPage(shape: PagingShape, virtual: bigint): number {
  const size = 1n << BigInt(shape.addressBits);
  if (shape.extension === "zero") return Number((virtual < size ? virtual : size) >> 12n);
  const half = size >> 1n;
  const gapEnd = (1n << 64n) - half;
  if (virtual < half) return Number(virtual >> 12n);
  return Number((virtual < gapEnd ? half : virtual - gapEnd + half) >> 12n);
}

/** Direct-mapped cache of table pages; a slot takes memory when it is first used. */
class TableCache {
  readonly #slots: { readonly bytes: Buffer; readonly view: DataView; page: number }[] = [];

  /** A page's bytes; undefined when the memory does not hold them. */
  load(memory: PhysicalMemory, page: number): DataView | undefined {
    const index = (page / PAGE_SIZE) % CACHED_TABLES;
    const slot = this.#slots[index] ?? this.#newSlot(index);
    if (slot.page !== page) {
      slot.page = -1;
      if (!readTable(memory, page, slot.bytes)) return undefined;
      slot.page = page;
    }
    return slot.view;
  }

  #newSlot(index: number) {
    const bytes = Buffer.allocUnsafeSlow(PAGE_SIZE);
    const slot = { bytes, view: viewOf(bytes), page: -1 };
    this.#slots[index] = slot;
    return slot;
  }
}
