import { PAGE_SIZE } from "../core/address.ts";
import { type PhysicalMemory, readPhysical } from "../core/memory.ts";
import { EntryLevel } from "../x86/paging-entries.ts";
import type { PagingShape } from "../x86/paging-shapes.ts";
import type { KernelReader } from "./reader.ts";
import type { KernelSymbols } from "./symbols.ts";
import { type KernelTypes, offsetOf } from "./types.ts";
import { type CursorKind, UserCursor } from "./user-cursor.ts";
import type { EntryContext } from "./user-entries.ts";

/** Tables that `runsOf` reads at most: those of 2 TiB of 4 KiB pages. Of a smaller machine no more than it has pages. */
const TABLE_LIMIT = 2 ** 20;

/** Entries and tables that a run is made of at most, so that whoever walks can stop: some milliseconds of work. */
const RUN_ENTRIES = 2 ** 16;
const RUN_TABLES = 256;

const PAGE = BigInt(PAGE_SIZE);

/** How a page in memory was found: `EntryKind`. */
export type InMemoryKind = "present" | "prot-none" | "migration";

/**
 * What the page tables say of an address. `size`: bytes of the page, or of the hole that an entry is, both aligned.
 * `unknown`: a table is not in the dump, an entry makes no sense, or the address is none of user space.
 */
export type UserPage =
  | {
      readonly state: "in-memory";
      readonly kind: InMemoryKind;
      /** Of the byte asked for. */
      readonly physical: number;
      readonly size: number;
    }
  /** Type and offset as kernels with the L1TF fix (4.18+ and stable kernels) have them. */
  | { readonly state: "swapped"; readonly type: number; readonly offset: number; readonly size: number }
  | { readonly state: "untouched"; readonly size: number }
  | {
      readonly state: "unknown";
      readonly reason: "table-missing" | "senseless" | "not-user";
      readonly size: number;
    };

/** A run of pages of one state, the longest but for very long ones; those in memory are contiguous there. */
export type UserRun = { readonly virtual: bigint; readonly size: number } & (
  | { readonly state: "in-memory"; readonly kind: InMemoryKind; readonly physical: number }
  | { readonly state: "swapped" | "untouched" | "unknown" }
);

/** How `runsOf` ended. */
export interface RunsEnd {
  /** False when the table limit ended it. */
  readonly complete: boolean;
  /** Where an incomplete one would go on. */
  readonly resumeAt?: bigint;
  readonly tablesRead: number;
  /** Tables that the dump does not hold. */
  readonly tablesMissing: number;
}

/** A process's memory by its page tables (x86-64 Linux), the lower half of its addresses. */
export class ProcessMemory {
  readonly memory: PhysicalMemory;
  /** Physical address of the root table. */
  readonly root: number;
  readonly #levels: readonly EntryLevel[];
  readonly #context: EntryContext;
  readonly #tableLimit: number;
  readonly #cursor: UserCursor;
  /** Pages of user space. */
  readonly #end: number;

  /**
   * @param root physical; bits that are no address are ignored
   * @param shape 4 or 5 levels of long mode, without the encryption bit (`withoutAddressBits`)
   */
  constructor(
    memory: PhysicalMemory,
    root: number,
    shape: PagingShape,
    options: { readonly swapFiles?: number | undefined; readonly tableLimit?: number } = {},
  ) {
    this.memory = memory;
    this.root = Number(BigInt(root) & shape.rootMask);
    this.#levels = shape.levels.map((level, i) => new EntryLevel(shape, level, shape.levels.length - i));
    const physicalBits = shape.levels.length === 5 ? 52 : 46;
    this.#context = { memory, swapFiles: options.swapFiles, physicalBits };
    const pages = memory.ranges.reduce((sum, { start, end }) => sum + (end - start) / PAGE_SIZE, 0);
    this.#tableLimit = Math.min(options.tableLimit ?? TABLE_LIMIT, Math.ceil(pages) + shape.levels.length);
    this.#end = 2 ** (shape.addressBits - 13);
    this.#cursor = new UserCursor(memory, this.root, this.#levels, this.#context);
  }

  /**
   * By a process's mm_struct, whose pgd is a virtual address of the direct map.
   * @param symbols of the kernel: `nr_swapfiles`, where it has it, tells swap entries from special ones
   * @returns undefined when the types lack mm_struct.pgd or it leads nowhere
   */
  static of(
    reader: KernelReader,
    types: KernelTypes,
    mm: bigint,
    shape: PagingShape,
    symbols?: KernelSymbols,
  ): ProcessMemory | undefined {
    const offset = offsetOf(types, "mm_struct.pgd");
    const pgd = offset === undefined ? undefined : reader.u64(mm + BigInt(offset));
    const mapping = pgd === undefined ? undefined : reader.space.translate(pgd);
    if (mapping?.mapped !== true) return undefined;
    const counter = symbols?.addressOf("nr_swapfiles");
    const swapFiles = counter === undefined ? undefined : reader.u32(counter);
    return new ProcessMemory(reader.memory, mapping.physical, shape, { swapFiles });
  }

  translate(address: bigint): UserPage {
    const cursor = this.#cursor;
    const page = this.#pageOf(address);
    if (page === undefined) return { state: "unknown", reason: "not-user", size: PAGE_SIZE };
    cursor.seek(page);
    const { size, kind } = cursor;
    switch (kind) {
      case "missing":
        return { state: "unknown", reason: "table-missing", size };
      case "senseless":
        return { state: "unknown", reason: "senseless", size };
      case "swapped":
        return { state: "swapped", type: cursor.type, offset: cursor.offset, size };
      case "untouched":
        return { state: "untouched", size };
      default: {
        const physical = cursor.physical + Number(address % PAGE);
        return { state: "in-memory", kind, physical, size };
      }
    }
  }

  /**
   * What the tables say of the pages from `from` to `to`, ascending and without gaps up to the end of user space; each
   * table is read once.
   * @param from, to user addresses; pages that they cut are whole
   * @returns how the enumeration ended, as the generator's return value
   */
  *runsOf(from: bigint, to: bigint): Generator<UserRun, RunsEnd> {
    const cursor = new UserCursor(this.memory, this.root, this.#levels, this.#context);
    const end = this.#pageOf(to + PAGE - 1n) ?? this.#end;
    let run: OpenRun | undefined;
    let entries = 0;
    let tables = 0;
    let page = this.#pageOf(from) ?? end;
    while (page < end && cursor.tablesRead <= this.#tableLimit) {
      cursor.seek(page);
      const pages = Math.min(cursor.pages, end - page);
      const { kind, physical } = cursor;
      const isLong = entries >= RUN_ENTRIES || cursor.tablesRead - tables >= RUN_TABLES;
      if (run === undefined || isLong || !joins(run, kind, physical)) {
        if (run !== undefined) yield closed(run);
        run = { kind, page, pages: 0, physical };
        entries = 0;
        tables = cursor.tablesRead;
      }
      entries++;
      run.pages += pages;
      page += pages;
    }
    if (run !== undefined) yield closed(run);
    const { tablesRead, tablesMissing } = cursor;
    if (page >= end) return { complete: true, tablesRead, tablesMissing };
    return { complete: false, resumeAt: BigInt(page) * PAGE, tablesRead, tablesMissing };
  }

  /**
   * Copies bytes at a user address into `target`.
   * @returns how many leading bytes are known: in memory and in the dump, by the page tables alone
   */
  read(address: bigint, target: Uint8Array): number {
    let done = 0;
    while (done < target.length) {
      const at = address + BigInt(done);
      const page = this.translate(at);
      if (page.state !== "in-memory") break;
      const length = Math.min(PAGE_SIZE - Number(at % PAGE), target.length - done);
      const got = readPhysical(this.memory, page.physical, target.subarray(done, done + length));
      done += got;
      if (got < length) break;
    }
    return done;
  }

  #pageOf(address: bigint): number | undefined {
    const page = Number(address / PAGE);
    return address >= 0n && page < this.#end ? page : undefined;
  }
}

interface OpenRun {
  readonly kind: CursorKind;
  readonly page: number;
  pages: number;
  readonly physical: number;
}

const isInMemory = (kind: CursorKind): kind is InMemoryKind =>
  kind === "present" || kind === "prot-none" || kind === "migration";

/** Whether pages go on a run; that tables are missing or senseless is one state of runs. */
function joins(run: OpenRun, kind: CursorKind, physical: number): boolean {
  if (isInMemory(kind)) return kind === run.kind && physical === run.physical + run.pages * PAGE_SIZE;
  return !isInMemory(run.kind) && stateOf(run.kind) === stateOf(kind);
}

const stateOf = (kind: Exclude<CursorKind, InMemoryKind>): "swapped" | "untouched" | "unknown" =>
  kind === "swapped" || kind === "untouched" ? kind : "unknown";

function closed({ kind, page, pages, physical }: OpenRun): UserRun {
  const virtual = BigInt(page) * PAGE;
  const size = pages * PAGE_SIZE;
  return isInMemory(kind)
    ? { virtual, size, state: "in-memory", kind, physical }
    : { virtual, size, state: stateOf(kind) };
}
