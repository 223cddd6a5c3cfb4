import { PAGE_SIZE } from "../core/address.ts";
import { viewOf } from "../core/bytes.ts";
import type { PhysicalMemory } from "../core/memory.ts";
import { type EntryLevel, type EntryRights, LEAF, TABLE } from "./paging-entries.ts";

/** Fills `target` with a table's page; false when the memory does not hold it. */
export function readTable(memory: PhysicalMemory, page: number, target: Buffer): boolean {
  const state = memory.readPage(page, target);
  return state === "present" || state === "zero";
}

/** The table of one level that a cursor has in hand. */
class TableInHand {
  readonly page = Buffer.allocUnsafeSlow(PAGE_SIZE);
  readonly view = viewOf(this.page);
  /** Where the table starts in `page`: not 0 for PAE's root only. */
  offset = 0;
  /** First page number that the table's entry 0 covers. */
  base = 0;
  /** The entry to look at next. */
  index = 0;
  /** AND of the entries that led to the table. */
  rightsLow = -1;
  rightsHigh = -1;
}

/** Depth-first over the leaves of a range of page numbers, with one table of each level in hand. */
export class LeafCursor {
  /** The leaf in hand, cut to the range: first page, page count, physical address, packed rights. */
  page = 0;
  pages = 0;
  physical = 0;
  rights = 0;
  tablesRead = 0;
  tablesMissing = 0;
  /** The page whose table the limit kept from being read. */
  stoppedAt: number | undefined;
  readonly #memory: PhysicalMemory;
  readonly #levels: readonly EntryLevel[];
  readonly #rights: EntryRights;
  readonly #tableLimit: number;
  readonly #tables: readonly TableInHand[];
  readonly #first: number;
  readonly #end: number;
  #depth: number;

  /** @param range page numbers, counted without the gap between the canonical halves */
  constructor(
    memory: PhysicalMemory,
    levels: readonly EntryLevel[],
    rights: EntryRights,
    start: {
      readonly root: number;
      readonly first: number;
      readonly end: number;
      readonly tableLimit: number;
    },
  ) {
    this.#memory = memory;
    this.#levels = levels;
    this.#rights = rights;
    this.#tableLimit = start.tableLimit;
    this.#tables = levels.map(() => new TableInHand());
    this.#first = start.first;
    this.#end = start.end;
    this.#depth = this.#load(0, start.root, 0) ? 0 : -1;
  }

  /** Moves to the next leaf; false at the end of the range or when the limit stops it. */
  next(): boolean {
    while (this.#depth >= 0) {
      const level = this.#levels[this.#depth]!;
      const table = this.#tables[this.#depth]!;
      const index = level.nextPresent(table.view, table.offset, table.index);
      const start = table.base + index * level.span;
      if (index === level.entries || start >= this.#end) {
        this.#depth--;
        continue;
      }
      table.index = index + 1;
      const low = level.low(table.view, table.offset, index);
      const high = level.high(table.view, table.offset, index);
      const kind = level.kindOf(low, high);
      if (kind === LEAF) {
        this.#take(level, table, low, high, start);
        return true;
      }
      if (kind === TABLE && !this.#descend(level, table, low, high, start)) return false;
    }
    return false;
  }

  /** Takes the table an entry refers to in hand, or leaves it out when it is missing; false at the limit. */
  #descend(level: EntryLevel, table: TableInHand, low: number, high: number, start: number): boolean {
    if (this.tablesRead >= this.#tableLimit) {
      this.stoppedAt = Math.max(start, this.#first);
      this.#depth = -1;
      return false;
    }
    if (!this.#load(this.#depth + 1, level.tableAddress(low, high), start)) return true;
    const below = this.#tables[++this.#depth]!;
    const keep = level.rightless ? -1 : 0;
    below.rightsLow = table.rightsLow & ((low ^ this.#rights.invertLow) | keep);
    below.rightsHigh = table.rightsHigh & ((high ^ this.#rights.invertHigh) | keep);
    return true;
  }

  #load(depth: number, address: number, base: number): boolean {
    const table = this.#tables[depth]!;
    table.offset = address % PAGE_SIZE;
    table.base = base;
    table.index = Math.max(0, Math.floor((this.#first - base) / this.#levels[depth]!.span));
    // A table that is missing costs a read too: both count against the limit.
    this.tablesRead++;
    if (readTable(this.#memory, address - table.offset, table.page)) return true;
    this.tablesMissing++;
    return false;
  }

  #take(level: EntryLevel, table: TableInHand, low: number, high: number, start: number): void {
    this.page = Math.max(start, this.#first);
    this.pages = Math.min(start + level.span, this.#end) - this.page;
    this.physical = level.leafAddress(low, high) + (this.page - start) * PAGE_SIZE;
    this.rights = this.#rights.pack(
      table.rightsLow & (low ^ this.#rights.invertLow),
      table.rightsHigh & (high ^ this.#rights.invertHigh),
    );
  }
}
