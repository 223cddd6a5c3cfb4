import { PAGE_SIZE } from "../core/address.ts";
import { viewOf } from "../core/bytes.ts";
import type { PhysicalMemory } from "../core/memory.ts";
import { readTable } from "../x86/paging-cursor.ts";
import type { EntryLevel } from "../x86/paging-entries.ts";
import { type EntryContext, type EntryKind, UserEntries } from "./user-entries.ts";

/** The table of one level that a cursor has in hand. */
class TableInHand {
  readonly page = Buffer.allocUnsafeSlow(PAGE_SIZE);
  readonly view = viewOf(this.page);
  /** Physical address of the table; −1 when there is none. */
  address = -1;
  /** First page number that the table covers. */
  base = 0;
}

/** What an entry says; `missing`: the table that it refers to is not in the dump. */
export type CursorKind = Exclude<EntryKind, "table"> | "missing";

/** A place in the page tables of a process, with one table of each level in hand: neighbours cost one entry each. */
export class UserCursor {
  kind: CursorKind = "untouched";
  /** Of a page in memory: physical address of the page looked for, which may lie within a huge one. */
  physical = 0;
  /** Pages from the one looked for to the end of what the entry covers. */
  pages = 0;
  /** Bytes that the entry covers. */
  size = 0;
  tablesRead = 0;
  tablesMissing = 0;
  readonly #memory: PhysicalMemory;
  readonly #root: number;
  readonly #levels: readonly EntryLevel[];
  readonly #tables: readonly TableInHand[];
  readonly #entries: UserEntries;
  /** Index of the table that was looked into last; −1 before the root was. */
  #depth = -1;

  /** @param levels the root's first */
  constructor(memory: PhysicalMemory, root: number, levels: readonly EntryLevel[], context: EntryContext) {
    this.#memory = memory;
    this.#root = root;
    this.#levels = levels;
    this.#tables = levels.map(() => new TableInHand());
    this.#entries = new UserEntries(context);
  }

  /** @param page number of a page that the tables can map */
  seek(page: number): void {
    while (this.#depth > 0 && !this.#covers(this.#depth, page)) this.#depth--;
    if (this.#depth < 0 && this.#load(0, this.#root, 0)) this.#depth = 0;
    let start = 0;
    let span = this.#levels[0]!.span * this.#levels[0]!.entries;
    let kind: EntryKind | "missing" = this.#depth < 0 ? "missing" : "table";
    while (kind === "table") {
      const level = this.#levels[this.#depth]!;
      const { view, base } = this.#tables[this.#depth]!;
      const index = Math.floor((page - base) / level.span);
      ({ span } = level);
      start = base + index * span;
      const low = level.low(view, 0, index);
      const high = level.high(view, 0, index);
      kind = this.#entries.decode(level, low, high);
      if (kind !== "table") break;
      if (this.#load(this.#depth + 1, level.tableAddress(low, high), start)) this.#depth++;
      else kind = "missing";
    }
    this.kind = kind;
    this.physical = this.#entries.physical + (page - start) * PAGE_SIZE;
    this.pages = start + span - page;
    this.size = span * PAGE_SIZE;
  }

  /** Of the swap entry in hand. */
  get type(): number {
    return this.#entries.type;
  }

  get offset(): number {
    return this.#entries.offset;
  }

  #covers(depth: number, page: number): boolean {
    const { span, entries } = this.#levels[depth]!;
    const { base } = this.#tables[depth]!;
    return page >= base && page < base + span * entries;
  }

  #load(depth: number, address: number, base: number): boolean {
    const table = this.#tables[depth]!;
    table.base = base;
    // A table in hand counts too: one that refers to itself would never come to the limit.
    this.tablesRead++;
    if (table.address === address) return true;
    const known = readTable(this.#memory, address, table.page);
    table.address = known ? address : -1;
    if (!known) this.tablesMissing++;
    return known;
  }
}
