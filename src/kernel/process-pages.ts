import { PAGE_SIZE } from "../core/address.ts";
import type { LinuxKernel } from "./open-kernel.ts";
import { PageCache } from "./page-cache.ts";
import { type InMemoryKind, ProcessMemory, type RunsEnd, type UserRun } from "./process-memory.ts";
import { listVmas, type Vma, type VmaList, vmaAt } from "./vmas.ts";

/** Pages of a file: LONG_MAX bytes (MAX_LFS_FILESIZE of 64-bit machines). */
const MAX_INDEX = 2 ** 51;
/** VM_UFFD_MISSING (include/linux/mm.h): a userfaultfd handler fills what is not there, as in post-copy migration. */
const UFFD_MISSING = 0x200n;

/** A run that is as long, or of as many pieces, is not joined with the next: whoever walks can stop. */
const LONG_RUN = 2 ** 30;
const MAX_JOINED = 1024;

/**
 * Where a run of a process's pages is. `zero`: never written, reads as zero. `in-file`: only in a file on disk, or of
 * a device. `unmapped`: no VMA is there. `unknown`: the dump does not tell, or a userfaultfd handler has the content.
 */
export type BackedRun = { readonly virtual: bigint; readonly size: number } & (
  | {
      readonly state: "in-memory";
      /** `page-cache`: the process has not touched it, its file or shared memory has it. */
      readonly kind: InMemoryKind | "page-cache";
      readonly physical: number;
    }
  | { readonly state: "swapped" | "zero" | "in-file" | "unmapped" | "unknown" }
);

/** A process's memory by its page tables and, where they do not tell, by its VMAs and the page cache. */
export class ProcessPages {
  readonly #memory: ProcessMemory;
  readonly #vmas: VmaList;
  readonly #cache: PageCache;

  constructor(memory: ProcessMemory, vmas: VmaList, cache: PageCache) {
    this.#memory = memory;
    this.#vmas = vmas;
    this.#cache = cache;
  }

  /**
   * @param mm address of the process's mm_struct
   * @returns undefined where the kernel does not tell its page tables
   */
  static of({ reader, types, symbols, shape }: LinuxKernel, mm: bigint): ProcessPages | undefined {
    const memory = ProcessMemory.of(reader, types, mm, shape, symbols);
    if (memory === undefined) return undefined;
    const cache = new PageCache(reader, types, symbols, shape.levels.length);
    return new ProcessPages(memory, listVmas(reader, types, mm), cache);
  }

  /**
   * The pages from `from` to `to`, ascending and without gaps, as the longest runs, but for very long ones.
   * @returns how the walk over the page tables ended, as the generator's return value
   */
  *runsOf(from: bigint, to: bigint): Generator<BackedRun, RunsEnd> {
    let open: BackedRun | undefined;
    let pieces = 0;
    const runs = this.#memory.runsOf(from, to);
    for (let step = runs.next(); ; step = runs.next()) {
      if (step.done) {
        if (open !== undefined) yield open;
        return step.value;
      }
      for (const run of this.#partsOf(step.value)) {
        const joined: BackedRun | undefined = open && joinedRun(open, run, pieces);
        pieces = joined === undefined ? 1 : pieces + 1;
        if (open !== undefined && joined === undefined) yield open;
        open = joined ?? run;
      }
    }
  }

  *#partsOf(run: UserRun): Generator<BackedRun> {
    if (run.state === "in-memory") return yield run;
    if (run.state !== "untouched") return yield { virtual: run.virtual, size: run.size, state: run.state };
    const end = run.virtual + BigInt(run.size);
    for (let at = run.virtual; at < end; ) {
      const vma = vmaAt(this.#vmas, at);
      const next = vma?.end ?? this.#nextStart(at) ?? end;
      const stop = next < end ? next : end;
      if (vma?.file !== undefined) yield* this.#fileParts(vma, vma.file, at, stop);
      else
        yield {
          virtual: at,
          size: Number(stop - at),
          state: vma === undefined ? this.#gap : untouchedIn(vma),
        };
      at = stop;
    }
  }

  /** What is where no VMA is known. */
  get #gap(): "unmapped" | "unknown" {
    return this.#vmas.outcome.complete ? "unmapped" : "unknown";
  }

  *#fileParts(vma: Vma, file: bigint, from: bigint, end: bigint): Generator<BackedRun> {
    const mapping = this.#cache.mappingOf(file);
    const backing = mapping === undefined ? undefined : this.#cache.backingOf(mapping);
    for (let at = from; at < end; ) {
      const index = Number(vma.pageOffset + (at - vma.start) / BigInt(PAGE_SIZE));
      const sense = index < MAX_INDEX;
      const page = mapping === undefined || !sense ? undefined : this.#cache.pageOf(mapping, index);
      const size = page === undefined ? Number(end - at) : Math.min(page.pages * PAGE_SIZE, Number(end - at));
      const place = { virtual: at, size };
      if (page?.state === "in-memory") {
        yield { ...place, state: "in-memory", kind: "page-cache", physical: page.physical };
      } else {
        const state = stateOf(page?.state, backing);
        yield { ...place, state: state === "zero" ? untouchedIn(vma) : state };
      }
      at += BigInt(size);
    }
  }

  /** Where the first VMA above an address begins. */
  #nextStart(address: bigint): bigint | undefined {
    const { vmas } = this.#vmas;
    let low = 0;
    let high = vmas.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (vmas[middle]!.start <= address) low = middle + 1;
      else high = middle;
    }
    return vmas[low]?.start;
  }
}

/** What a page is that was never there. */
const untouchedIn = ({ flags }: Vma): "zero" | "unknown" =>
  (flags & UFFD_MISSING) === 0n ? "zero" : "unknown";

function stateOf(
  cached: "swapped" | "none" | "unknown" | undefined,
  backing: ReturnType<PageCache["backingOf"]>,
): "swapped" | "zero" | "in-file" | "unknown" {
  if (cached === undefined || cached === "unknown" || backing === undefined) return "unknown";
  if (backing === "file") return "in-file";
  return cached === "swapped" ? "swapped" : "zero";
}

/** @param pieces that `run` was joined of */
function joinedRun(run: BackedRun, next: BackedRun, pieces: number): BackedRun | undefined {
  if (run.size >= LONG_RUN || pieces >= MAX_JOINED) return undefined;
  const size = run.size + next.size;
  if (run.state !== "in-memory") return run.state === next.state ? { ...run, size } : undefined;
  const joins =
    next.state === "in-memory" && next.kind === run.kind && next.physical === run.physical + run.size;
  return joins ? { ...run, size } : undefined;
}
