import { alignDown, PAGE_SIZE } from "../core/address.ts";
import { UnsupportedError } from "../core/errors.ts";
import type { Extent, PackedPages, PageState, PhysicalMemory } from "../core/memory.ts";
import { indexAtOrAbove, type Range, rangeAt } from "../core/ranges.ts";
import { type AddressRun, type MappedRun, PageTables } from "../x86/paging.ts";
import type { PagingShape } from "../x86/paging-shapes.ts";

/** Guest-physical addresses have at most 52 bits (Intel SDM Vol. 3A §4.1.4), whatever the tables could translate. */
const ADDRESS_END = 1n << 52n;
const MAX_RANGES = 1 << 20;
/** The VGA window and the gaps between PCI devices are larger, or not: an estimate for people. */
export const LARGE_GAP = 16 * 2 ** 20;
/** Enough for the tables of a small host's guests. */
const MIN_TABLES = 16_384;
/** All of 16 TiB mapped by 4 KiB pages, under a minute of work; the largest VMs there are have 12 TiB. */
const MAX_TABLES = 8 * 2 ** 20;
/** Tables read between two looks at signals, some 20 ms; going on reads those above the next again. */
const CHECKPOINT_TABLES = 1024;

type Checkpoint = () => Promise<void>;

/**
 * How many tables may be read for all guests of a host together: as many as the dump holds pages, and as many again,
 * but never more than 8 Mi. Hostile tables lead everywhere, and to each other.
 */
export class WalkBudget {
  tables: number;

  constructor(host: PhysicalMemory) {
    const tables = Math.ceil((2 * presentSize(host)) / PAGE_SIZE);
    this.tables = Math.min(MAX_TABLES, Math.max(MIN_TABLES, tables));
  }
}

function presentSize(memory: PhysicalMemory): number {
  let size = 0;
  for (const { start, end } of memory.ranges) {
    for (let at = start; at < end; ) {
      const extent = memory.extentAt(at, end, false);
      if (extent.state === "present") size += extent.end - extent.start;
      at = extent.end;
    }
  }
  return size;
}

/** What the second-level tables of a guest map, in bytes. */
export interface SecondLevelFacts {
  /** Mapped to memory that the host's dump knows. */
  readonly mapped: number;
  /** Mapped to addresses that are no memory of the host: a passed-through device. */
  readonly foreign: number;
  /**
   * Not mapped, in gaps of less than 16 MiB between what is: memory the guest never touched, the hypervisor's alone, or
   * what KVM has unmapped since, and what missing tables map.
   * Whether larger gaps are memory the tables do not tell.
   */
  readonly untouched: number;
  readonly tablesRead: number;
  /** Tables that the dump does not hold; what they map is unknown. */
  readonly tablesMissing: number;
  /** False when a bound ended the walk: tables made to waste time. */
  readonly complete: boolean;
}

/**
 * A guest's physical memory as its hypervisor's second-level tables (EPT, NPT) show it in the host's. A page is in the
 * state the host's dump has it in. Tables are filled as the guest touches its memory, so that a page not mapped is
 * *absent*: never touched, or known to the hypervisor alone.
 */
export class SecondLevelMemory implements PhysicalMemory {
  readonly ranges: readonly Range[];
  readonly facts: SecondLevelFacts;
  readonly #host: PhysicalMemory;
  readonly #tables: PageTables;

  private constructor(host: PhysicalMemory, tables: PageTables, { ranges, facts }: Survey) {
    this.#host = host;
    this.#tables = tables;
    this.ranges = ranges;
    this.facts = facts;
  }

  /**
   * Walks the tables once, to know what they map.
   * @throws UnsupportedError when the guest's memory is in more than a million pieces
   */
  static async open(
    host: PhysicalMemory,
    root: number,
    shape: PagingShape,
    options: { readonly budget?: WalkBudget; readonly checkpoint?: Checkpoint } = {},
  ): Promise<SecondLevelMemory> {
    const { budget = new WalkBudget(host), checkpoint } = options;
    const tables = new PageTables(host, root, shape);
    const found = await survey(host, tables, budget.tables, checkpoint);
    budget.tables = Math.max(0, budget.tables - found.facts.tablesRead);
    return new SecondLevelMemory(host, tables, found);
  }

  /**
   * Where the guest sees bytes of the host's memory, the first of several places.
   * @param physical their host-physical addresses, ascending; those that the guest does not see are not in the result
   */
  async guestAddressesOf(
    physical: readonly number[],
    checkpoint?: Checkpoint,
  ): Promise<ReadonlyMap<number, number>> {
    const found = new Map<number, number>();
    await walk(this.#tables, this.facts.tablesRead, checkpoint, (run) => {
      const end = run.physical + run.size;
      for (let i = indexFrom(physical, run.physical); i < physical.length && physical[i]! < end; i++) {
        const address = physical[i]!;
        if (!found.has(address)) found.set(address, Number(run.virtual) + (address - run.physical));
      }
      return found.size < physical.length;
    });
    return found;
  }

  /** Where a page of the guest's is in the host's memory, and as far as it goes; at most up to `limit`. */
  hostRunAt(address: number, limit: number): AddressRun {
    return this.#tables.runAt(BigInt(address), limit - address);
  }

  extentAt(address: number, limit: number, holes = true): Extent {
    const range = this.ranges[indexAtOrAbove(this.ranges, address)];
    if (range === undefined || range.start >= limit) return { start: address, end: limit, state: "absent" };
    if (range.start > address) return { start: address, end: range.start, state: "absent" };
    const page = alignDown(address, PAGE_SIZE);
    const run = this.#tables.runAt(BigInt(page), Math.min(limit, range.end) - page);
    const end = Math.min(limit, page + run.size);
    if (run.physical === undefined) return { start: address, end, state: "absent" };
    const shift = address - page;
    const from = run.physical + shift;
    const host = this.#host.extentAt(from, from + (end - address), holes);
    return { ...host, start: address, end: address + (host.end - host.start) };
  }

  readPage(address: number, target: Uint8Array): PageState {
    const mapping = this.#tables.translate(BigInt(alignDown(address, PAGE_SIZE)));
    return mapping.mapped ? this.#host.readPage(mapping.physical, target) : "absent";
  }

  /** The host's compressed pages, where they are of the size that the tables map at least. */
  get packed(): PackedPages | undefined {
    const { packed } = this.#host;
    if (packed?.blockSize !== PAGE_SIZE) return undefined;
    return {
      blockSize: PAGE_SIZE,
      blockAt: (address) => {
        const mapping = this.#tables.translate(BigInt(address));
        return mapping.mapped ? packed.blockAt(mapping.physical) : undefined;
      },
    };
  }
}

interface Survey {
  readonly ranges: readonly Range[];
  readonly facts: SecondLevelFacts;
}

type WalkFacts = Pick<SecondLevelFacts, "complete" | "tablesRead" | "tablesMissing">;

/**
 * Visits what the tables map, ascending, with looks at signals in between; a long run may come in pieces.
 * @param limit tables read at most, but for the root @param visit false ends the walk
 */
async function walk(
  tables: PageTables,
  limit: number,
  checkpoint: Checkpoint | undefined,
  visit: (run: MappedRun) => boolean,
): Promise<WalkFacts> {
  let tablesRead = 0;
  let tablesMissing = 0;
  for (let from = 0n; ; ) {
    const some = Math.min(CHECKPOINT_TABLES, limit - tablesRead);
    const mappings = tables.mappings(from, ADDRESS_END, Number.POSITIVE_INFINITY, some);
    let step = mappings.next();
    for (; step.done !== true; step = mappings.next()) {
      if (!visit(step.value)) return { complete: false, tablesRead, tablesMissing };
    }
    const end = step.value;
    tablesRead += end.tablesRead;
    tablesMissing += end.tablesMissing;
    if (end.resumeAt === undefined) return { complete: true, tablesRead, tablesMissing };
    if (tablesRead >= limit) return { complete: false, tablesRead, tablesMissing };
    from = end.resumeAt;
    await checkpoint?.();
  }
}

async function survey(
  host: PhysicalMemory,
  tables: PageTables,
  limit: number,
  checkpoint: Checkpoint | undefined,
): Promise<Survey> {
  const ranges: { start: number; end: number }[] = [];
  let mapped = 0;
  let foreign = 0;
  const end = await walk(tables, limit, checkpoint, ({ virtual, physical, size }) => {
    for (const part of partsInHost(host, physical, size)) {
      const start = Number(virtual) + (part.start - physical);
      const end = start + (part.end - part.start);
      const last = ranges.at(-1);
      if (last?.end === start) last.end = end;
      else ranges.push({ start, end });
      if (ranges.length > MAX_RANGES) {
        throw new UnsupportedError(`the guest's memory is in more than ${MAX_RANGES} pieces`);
      }
      mapped += part.end - part.start;
    }
    foreign += size;
    return true;
  });
  const untouched = gapsIn(ranges).reduce((sum, gap) => sum + (gap < LARGE_GAP ? gap : 0), 0);
  return {
    ranges,
    facts: { mapped, foreign: foreign - mapped, untouched, ...end },
  };
}

/** Index of the first number that is not below `value`. */
function indexFrom(ascending: readonly number[], value: number): number {
  let [low, high] = [0, ascending.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ascending[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The parts of a physical range that are memory of the host, in its dump or left out of it. */
function* partsInHost({ ranges }: PhysicalMemory, start: number, size: number): Generator<Range> {
  const end = start + size;
  for (let i = indexAtOrAbove(ranges, start); i < ranges.length; i++) {
    const range = ranges[i]!;
    if (range.start >= end) return;
    yield { start: Math.max(start, range.start), end: Math.min(end, range.end) };
  }
}

const gapsIn = (ranges: readonly Range[]): number[] =>
  ranges.slice(1).map(({ start }, i) => start - ranges[i]!.end);

/**
 * Whether an address is that of a root of second-level tables in this memory: what it refers to is in memory.
 * `empty`: it refers to nothing, as when KVM has just dropped what it mapped; `missing`: the dump does not hold the page.
 */
export function tablesAt(
  host: PhysicalMemory,
  root: number,
  shape: PagingShape,
): "tables" | "empty" | "no-table" | "missing" {
  const page = Buffer.allocUnsafe(PAGE_SIZE);
  const state = host.readPage(root, page);
  if (state === "absent" || state === "excluded") return "missing";
  const [level] = shape.levels;
  const granted = shape.user?.mask ?? 0n;
  let tables = 0;
  for (let at = 0; level !== undefined && at < PAGE_SIZE; at += 8) {
    const entry = page.readBigUInt64LE(at);
    if ((entry & shape.present) === 0n) continue;
    const sound = (entry & level.reserved) === 0n && (entry & granted) === granted;
    if (!sound || rangeAt(host.ranges, Number(entry & shape.address)) === undefined) return "no-table";
    tables++;
  }
  return tables > 0 ? "tables" : "empty";
}
