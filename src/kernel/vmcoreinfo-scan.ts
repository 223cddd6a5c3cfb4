import { PAGE_SIZE } from "../core/address.ts";
import { latin1, viewOf } from "../core/bytes.ts";
import { type PhysicalMemory, readPhysical } from "../core/memory.ts";
import type { PageTables } from "../x86/paging.ts";
import type { X86State } from "../x86/state.ts";
import { presentChunks } from "./chunks.ts";
import {
  START_KERNEL_MAP,
  type TablesState,
  tablesOfStates,
  tablesOfVmcoreinfo,
  type VcpuTables,
} from "./kernel-tables.ts";
import { viewOfVmcoreinfo32 } from "./linux-32.ts";
import { MAX_VMCOREINFO_BYTES, Vmcoreinfo } from "./vmcoreinfo.ts";

/** One VMCOREINFO in memory. */
export interface VmcoreinfoHit {
  /** Physical address of the page it begins in. */
  readonly address: number;
  /** The ELF note that /sys/kernel/vmcoreinfo points to, or the bare text the kernel copies into it. */
  readonly form: "note" | "data";
  readonly vmcoreinfo: Vmcoreinfo;
  /** Whether all of the note is in memory. */
  readonly whole: boolean;
  readonly tables: TablesState;
  /** Whether a vCPU's own page tables do. */
  readonly running: boolean;
}

export interface VmcoreinfoSearch {
  /** The first hit, unless memory contradicts it. */
  readonly best: VmcoreinfoHit | undefined;
  /** All, best first: page tables that work, then CRASHTIME, then the kernel a vCPU runs, then notes. */
  readonly hits: readonly VmcoreinfoHit[];
  /** Candidates beyond `CANDIDATE_LIMIT`, not looked at. */
  readonly overlooked: number;
}

export interface VmcoreinfoSearchOptions {
  /** vCPUs of the same machine: they tell the kernel that runs from one that ran before. */
  readonly states?: readonly X86State[];
}

/** Linux keeps one note and one or two data pages; a page of a file may look like one. */
export const CANDIDATE_LIMIT = 256;

const NAME = Buffer.from("VMCOREINFO\0\0");
const TEXT_START = Buffer.from("OSRELEASE=");
/** namesz, descsz, type, then the name: the text follows. */
const NOTE_HEADER = 12 + NAME.length;
const NAMESZ = 11;
const NT_VMCOREINFO = 0;
/** "OSRE" as a little-endian word. */
const TEXT_MAGIC = TEXT_START.readUInt32LE(0);

interface Candidate {
  readonly address: number;
  readonly form: "note" | "data";
  /** Bytes of text. */
  readonly size: number;
}

/**
 * Looks for VMCOREINFO in pages as they pass by: the kernel keeps note and text in whole pages (since 4.13), the
 * note page-aligned, so one word of each page decides.
 */
export class VmcoreinfoScanner {
  readonly #memory: PhysicalMemory;
  readonly #states: readonly X86State[];
  #spaces: readonly VcpuTables[] | undefined;
  readonly #candidates: Candidate[] = [];
  readonly #addresses = new Set<number>();
  readonly #hits: VmcoreinfoHit[] = [];
  #judged = 0;
  #overlooked = 0;

  /** @param memory what the pages given to `scan` are of: the rest of a note is read from it */
  constructor(memory: PhysicalMemory, options: VmcoreinfoSearchOptions = {}) {
    this.#memory = memory;
    this.#states = options.states ?? [];
  }

  /**
   * Takes a run of whole pages, in any order; costs one word a page.
   * @param address physical, page-aligned
   * @returns whether there is a candidate that was not there before
   */
  scan(bytes: Uint8Array, address: number): boolean {
    const view = viewOf(bytes);
    let news = false;
    for (let page = 0; page + PAGE_SIZE <= bytes.length; page += PAGE_SIZE) {
      const word = view.getUint32(page, true);
      if (word === NAMESZ || word === TEXT_MAGIC) {
        const candidate = candidateAt(bytes.subarray(page, page + PAGE_SIZE), address + page);
        if (candidate !== undefined) news = this.#add(candidate) || news;
      }
    }
    return news;
  }

  /** What the pages seen so far hold. */
  get result(): VmcoreinfoSearch {
    for (; this.#judged < this.#candidates.length; this.#judged++) {
      this.#spaces ??= tablesOfStates(this.#memory, this.#states);
      const hit = readCandidate(this.#memory, this.#spaces, this.#candidates[this.#judged]!);
      if (hit !== undefined) this.#hits.push(hit);
    }
    const hits = this.#hits.toSorted(byRank);
    return { best: hits.find(({ tables }) => tables !== "wrong"), hits, overlooked: this.#overlooked };
  }

  #add(candidate: Candidate): boolean {
    if (this.#addresses.has(candidate.address)) return false;
    if (this.#candidates.length >= CANDIDATE_LIMIT) {
      this.#overlooked++;
      return false;
    }
    this.#addresses.add(candidate.address);
    this.#candidates.push(candidate);
    return true;
  }
}

/**
 * Searches a whole memory, reading only what is present.
 * @param options.exhaustive also look behind the first note whose kernel is intact (and, given vCPUs, runs), as a
 *   machine with a crashed and a capture kernel needs
 */
export function findVmcoreinfo(
  memory: PhysicalMemory,
  options: VmcoreinfoSearchOptions & { readonly exhaustive?: boolean } = {},
): VmcoreinfoSearch {
  const scanner = new VmcoreinfoScanner(memory, options);
  const needRunning = (options.states?.length ?? 0) > 0;
  for (const { address, bytes } of presentChunks(memory, 0, Number.POSITIVE_INFINITY)) {
    if (!scanner.scan(bytes, address) || options.exhaustive === true) continue;
    const { best } = scanner.result;
    if (best?.form === "note" && best.whole && best.tables === "work" && (best.running || !needRunning))
      break;
  }
  return scanner.result;
}

function candidateAt(page: Uint8Array, address: number): Candidate | undefined {
  const textAt = (offset: number) => TEXT_START.equals(page.subarray(offset, offset + TEXT_START.length));
  if (textAt(0)) return { address, form: "data", size: PAGE_SIZE };
  const view = viewOf(page);
  const size = view.getUint32(4, true);
  const wellFormed =
    view.getUint32(0, true) === NAMESZ &&
    view.getUint32(8, true) === NT_VMCOREINFO &&
    NAME.equals(page.subarray(12, NOTE_HEADER)) &&
    textAt(NOTE_HEADER);
  return wellFormed && size <= MAX_VMCOREINFO_BYTES ? { address, form: "note", size } : undefined;
}

/** A candidate's text parsed and judged; undefined when it names no kernel. */
function readCandidate(
  memory: PhysicalMemory,
  spaces: readonly VcpuTables[],
  { address, form, size }: Candidate,
): VmcoreinfoHit | undefined {
  const bytes = Buffer.alloc(size);
  const known = readPhysical(memory, form === "note" ? address + NOTE_HEADER : address, bytes);
  const whole = known === size;
  const text = latin1(bytes.subarray(0, known));
  // The last line of a text that is cut short may be cut short too.
  const vmcoreinfo = new Vmcoreinfo(whole ? text : text.slice(0, text.lastIndexOf("\n") + 1));
  if (vmcoreinfo.osrelease === undefined || vmcoreinfo.symbol("swapper_pg_dir") === undefined)
    return undefined;
  const { tables, imageOffset } = judge(memory, vmcoreinfo);
  const running = spaces.some(({ tables: space }) => runs(space, vmcoreinfo, imageOffset));
  return { address, form, vmcoreinfo, whole, tables, running };
}

interface Judgement {
  readonly tables: TablesState;
  /** Virtual − physical within the kernel's image, where VMCOREINFO tells. */
  readonly imageOffset: bigint | undefined;
}

/** Tries the page tables that VMCOREINFO names. */
function judge(memory: PhysicalMemory, vmcoreinfo: Vmcoreinfo): Judgement {
  const { state } = tablesOfVmcoreinfo(memory, vmcoreinfo);
  const { physBase } = vmcoreinfo;
  if (state !== "unknown" && physBase !== undefined) {
    return { tables: state, imageOffset: START_KERNEL_MAP - BigInt(physBase) };
  }
  const view = viewOfVmcoreinfo32(memory, vmcoreinfo);
  return { tables: view === undefined ? "unknown" : "work", imageOffset: view?.pageOffset };
}

/** Whether page tables map the kernel's text, and to where VMCOREINFO says. */
function runs(tables: PageTables, vmcoreinfo: Vmcoreinfo, imageOffset: bigint | undefined): boolean {
  const text = vmcoreinfo.symbol("_stext");
  const mapping = text === undefined ? undefined : tables.translate(text);
  if (text === undefined || !mapping?.mapped) return false;
  return imageOffset === undefined || mapping.physical === Number(text - imageOffset);
}

const byRank = (a: VmcoreinfoHit, b: VmcoreinfoHit): number => rank(b) - rank(a) || a.address - b.address;

const TABLES_RANK: Readonly<Record<TablesState, number>> = { work: 3, unknown: 2, missing: 1, wrong: 0 };

/** A note that a crashed kernel finished is the one somebody wants; a reboot leaves old ones behind. */
const rank = (hit: VmcoreinfoHit): number =>
  TABLES_RANK[hit.tables] * 16 +
  (hit.vmcoreinfo.crashTime !== undefined ? 8 : 0) +
  (hit.running ? 4 : 0) +
  (hit.form === "note" ? 2 : 0) +
  (hit.whole ? 1 : 0);
