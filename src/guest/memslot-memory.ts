import { alignDown, PAGE_SIZE } from "../core/address.ts";
import type { Extent, PackedPages, PageState, PhysicalMemory } from "../core/memory.ts";
import { indexAtOrAbove, joinAscending, makeDisjoint, type Range, rangeAt, sizeOf } from "../core/ranges.ts";
import type { RunsEnd } from "../kernel/process-memory.ts";
import type { BackedRun, ProcessPages } from "../kernel/process-pages.ts";
import { MEM_GUEST_MEMFD, type Memslot } from "../kvm/memslots.ts";
import { Pace } from "./pace.ts";
import { WalkBudget } from "./second-level.ts";

/** What a guest's memory is, by the page tables of its VMM, in bytes. */
export interface MemslotFacts {
  /** In the host's memory, whether the dump has it or not. */
  readonly inMemory: number;
  /** Of that, found in the page cache alone: the VMM has it mapped and never touched it. */
  readonly pageCache: number;
  /** Never touched by anyone: it reads as zeros. */
  readonly untouched: number;
  readonly swapped: number;
  /** Only in a file on the host's disk, or of a device. */
  readonly inFile: number;
  /** Nothing is mapped there, or the dump does not tell. */
  readonly unknown: number;
  /** Page tables of the VMM that the dump lacks. */
  readonly tablesMissing: number;
  /** False when a bound ended the walk. */
  readonly complete: boolean;
}

/** A range of guest-physical memory that is contiguous in the host's, from `physical` on. */
export interface HostRun extends Range {
  readonly physical: number;
}

/**
 * A guest's physical memory as its VMM holds it: memslots lead to the VMM's addresses, its page tables and the page
 * cache to the host's memory. A page that nobody touched is zero, one in swap or in a file is absent. Where the dump
 * does not tell, second-level tables may.
 */
export class MemslotMemory implements PhysicalMemory {
  readonly ranges: readonly Range[];
  /** Of address space 0, ascending by address. */
  readonly slots: readonly Memslot[];
  readonly facts: MemslotFacts;
  readonly #host: PhysicalMemory;
  readonly #pages: ProcessPages;
  readonly #known: readonly KnownSlot[];
  readonly #fallback: PhysicalMemory | undefined;
  /** Runs of a slot in order: memory is mostly read so. */
  #runs: SlotRuns | undefined;

  private constructor(
    host: PhysicalMemory,
    pages: ProcessPages,
    { slots, facts }: Survey,
    fallback: PhysicalMemory | undefined,
  ) {
    this.#host = host;
    this.#pages = pages;
    this.#known = slots;
    this.#fallback = fallback;
    this.slots = slots;
    this.facts = facts;
    this.ranges = joinAscending(slots);
  }

  /**
   * Walks the VMM's page tables once, to know what there is.
   * @param slots of one VM; those of address spaces other than 0 are left out, as is what others below overlap
   * @param fallback the guest's memory by second-level tables
   */
  static async open(
    host: PhysicalMemory,
    pages: ProcessPages,
    slots: readonly Memslot[],
    fallback: PhysicalMemory | undefined,
    options: { readonly budget?: WalkBudget; readonly checkpoint?: () => Promise<void> } = {},
  ): Promise<MemslotMemory> {
    const { budget = new WalkBudget(host), checkpoint } = options;
    const own = disjoint(slots.filter(({ addressSpace }) => addressSpace === 0));
    return new MemslotMemory(host, pages, await survey(pages, own, budget, checkpoint), fallback);
  }

  extentAt(address: number, limit: number, holes = true): Extent {
    const slot = this.#known[indexAtOrAbove(this.#known, address)];
    if (slot === undefined || slot.start >= limit) return { start: address, end: limit, state: "absent" };
    if (slot.start > address) return { start: address, end: slot.start, state: "absent" };
    const page = alignDown(address, PAGE_SIZE);
    const run = this.#runAt(slot, page);
    const end = Math.min(limit, slot.end, page + run.size);
    const place = { start: address, end };
    if (run.state === "in-memory") {
      const from = run.physical + (address - page);
      const extent = this.#host.extentAt(from, from + (end - address), holes);
      return { ...extent, start: address, end: address + (extent.end - extent.start) };
    }
    if (run.state === "zero") return { ...place, state: "zero" };
    return this.#fallback?.extentAt(address, end, holes) ?? { ...place, state: "absent" };
  }

  /** Where pages of the guest are in the host's memory, ascending: those that are there. */
  *hostRuns(): Generator<HostRun> {
    for (const { start, end, physical } of this.placedRuns()) {
      if (physical !== undefined) yield { start, end, physical };
    }
  }

  /** The same and what lies between them, whose `physical` is undefined: no piece takes long to be found. */
  *placedRuns(): Generator<Range & { readonly physical: number | undefined }> {
    for (const slot of this.#known) {
      for (const run of runsOfSlot(this.#pages, slot, slot.hva, slot.hva + BigInt(sizeOf(slot)))) {
        const start = slot.start + Number(run.virtual - slot.hva);
        const physical = run.state === "in-memory" ? run.physical : undefined;
        yield { start, end: start + run.size, physical };
      }
    }
  }

  readPage(address: number, target: Uint8Array): PageState {
    const page = alignDown(address, PAGE_SIZE);
    const run = this.#pageAt(page);
    if (run?.state === "in-memory") return this.#host.readPage(run.physical, target);
    if (run?.state === "zero") {
      target.fill(0, 0, PAGE_SIZE);
      return "zero";
    }
    return run === undefined ? "absent" : (this.#fallback?.readPage(page, target) ?? "absent");
  }

  /** The host's compressed pages, where they are of the size of the guest's. */
  get packed(): PackedPages | undefined {
    const { packed } = this.#host;
    if (packed?.blockSize !== PAGE_SIZE) return undefined;
    return {
      blockSize: PAGE_SIZE,
      blockAt: (address) => {
        const run = this.#pageAt(address);
        if (run?.state === "in-memory") return packed.blockAt(run.physical);
        return this.#fallback?.packed?.blockAt(address);
      },
    };
  }

  /** What is at a page: of the runs in hand, or looked up by itself. */
  #pageAt(page: number): BackedRun | undefined {
    const known = this.#runs?.at(page);
    if (known !== undefined) return known;
    const slot = rangeAt(this.#known, page);
    if (slot === undefined) return undefined;
    const virtual = slot.hva + BigInt(page - slot.start);
    return firstRun(this.#pages, slot, virtual, virtual + BigInt(PAGE_SIZE));
  }

  /** What is at a page, and as far as it goes. */
  #runAt(slot: KnownSlot, page: number): BackedRun {
    const known = this.#runs?.seek(slot, page);
    if (known !== undefined) return known;
    this.#runs = new SlotRuns(this.#pages, slot, page);
    return this.#runs.seek(slot, page) ?? { virtual: 0n, size: slot.end - page, state: "unknown" };
  }
}

/** A slot, and up to where the VMM's page tables tell of it. */
interface KnownSlot extends Memslot {
  readonly knownEnd: number;
}

/** The runs of a slot from a page on, one at a time. */
class SlotRuns {
  readonly #slot: KnownSlot;
  readonly #runs: Iterator<BackedRun>;
  #run: BackedRun | undefined;

  constructor(pages: ProcessPages, slot: KnownSlot, page: number) {
    this.#slot = slot;
    const end = slot.hva + BigInt(sizeOf(slot));
    this.#runs = runsOfSlot(pages, slot, slot.hva + BigInt(page - slot.start), end);
  }

  /** The rest of the run in hand from a page on; undefined when the page is not of it. */
  at(page: number): BackedRun | undefined {
    const run = this.#run;
    if (run === undefined) return undefined;
    const skipped = page - this.#slot.start - Number(run.virtual - this.#slot.hva);
    if (skipped < 0 || skipped >= run.size) return undefined;
    const rest = { virtual: run.virtual + BigInt(skipped), size: run.size - skipped };
    return run.state === "in-memory"
      ? { ...run, ...rest, physical: run.physical + skipped }
      : { ...run, ...rest };
  }

  /** The same; where the page is the next one behind the run in hand, of the next run. */
  seek(slot: KnownSlot, page: number): BackedRun | undefined {
    if (slot !== this.#slot) return undefined;
    const known = this.at(page);
    if (known !== undefined) return known;
    const run = this.#run;
    const next = run === undefined ? undefined : run.virtual + BigInt(run.size);
    if (next !== undefined && next !== slot.hva + BigInt(page - slot.start)) return undefined;
    this.#run = this.#runs.next().value;
    return this.at(page);
  }
}

/**
 * What is at a slot's addresses, which need not be all of it with a guest_memfd: private pages are in that one's file
 * alone, unless it can be mapped (6.18+). What is not in memory there tells nothing of the guest's page then.
 */
function* runsAt(
  pages: ProcessPages,
  { flags }: Memslot,
  from: bigint,
  end: bigint,
): Generator<BackedRun, RunsEnd> {
  const runs = pages.runsOf(from, end);
  if ((flags & MEM_GUEST_MEMFD) === 0) return yield* runs;
  for (let step = runs.next(); ; step = runs.next()) {
    if (step.done) return step.value;
    const run = step.value;
    const isElsewhere = run.state === "zero" || run.state === "unmapped" || run.state === "in-file";
    yield isElsewhere ? { virtual: run.virtual, size: run.size, state: "unknown" } : run;
  }
}

function* runsOfSlot(pages: ProcessPages, slot: KnownSlot, from: bigint, end: bigint): Generator<BackedRun> {
  const known = slot.hva + BigInt(slot.knownEnd - slot.start);
  if (from < known) yield* runsAt(pages, slot, from, known < end ? known : end);
  const rest = from < known ? known : from;
  if (rest < end) yield { virtual: rest, size: Number(end - rest), state: "unknown" };
}

const firstRun = (pages: ProcessPages, slot: KnownSlot, from: bigint, end: bigint): BackedRun | undefined =>
  runsOfSlot(pages, slot, from, end).next().value;

/** KVM lets no two slots overlap; a damaged one that does is cut to what is new. */
const disjoint = (slots: readonly Memslot[]): Memslot[] =>
  makeDisjoint(slots, (slot, start) => ({ ...slot, start, hva: slot.hva + BigInt(start - slot.start) }))
    .ranges;

interface Survey {
  readonly slots: readonly KnownSlot[];
  readonly facts: MemslotFacts;
}

/** Runs that cost as much as a table: as many as one has at most. */
const RUNS_OF_TABLE = 512;

/** Walks the page tables under all slots; what is left when the budget is spent is unknown. */
async function survey(
  pages: ProcessPages,
  slots: readonly Memslot[],
  budget: WalkBudget,
  checkpoint: (() => Promise<void>) | undefined,
): Promise<Survey> {
  const sizes = { "in-memory": 0, zero: 0, swapped: 0, "in-file": 0, unmapped: 0, unknown: 0 };
  let pageCache = 0;
  let tablesMissing = 0;
  let complete = true;
  const pace = new Pace();
  const known: KnownSlot[] = [];
  for (const slot of slots) {
    let runs = 0;
    let size = 0;
    if (budget.tables > 0) {
      const walk = runsAt(pages, slot, slot.hva, slot.hva + BigInt(sizeOf(slot)));
      let step = walk.next();
      for (; step.done !== true; step = walk.next()) {
        const run = step.value;
        sizes[run.state] += run.size;
        size += run.size;
        if (run.state === "in-memory" && run.kind === "page-cache") pageCache += run.size;
        runs++;
        if (pace.isDue(run.size)) await checkpoint?.();
      }
      const end = step.value;
      tablesMissing += end.tablesMissing;
      budget.tables = Math.max(0, budget.tables - end.tablesRead - Math.ceil(runs / RUNS_OF_TABLE));
    }
    complete &&= size === sizeOf(slot);
    sizes.unknown += sizeOf(slot) - size;
    known.push({ ...slot, knownEnd: slot.start + size });
  }
  const facts = {
    inMemory: sizes["in-memory"],
    pageCache,
    untouched: sizes.zero,
    swapped: sizes.swapped,
    inFile: sizes["in-file"],
    unknown: sizes.unmapped + sizes.unknown,
    tablesMissing,
    complete,
  };
  return { slots: known, facts };
}
