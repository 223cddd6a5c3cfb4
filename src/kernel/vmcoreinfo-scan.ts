import { PAGE_SIZE } from "../core/address.ts";
import { latin1, viewOf } from "../core/bytes.ts";
import { type PhysicalMemory, readPhysical } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";
import type { PageTables } from "../x86/paging.ts";
import type { X86State } from "../x86/state.ts";
import { type Checkpoint, presentChunks } from "./chunks.ts";
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
  /** Physical address of the note's header, or of the text. */
  readonly address: number;
  /** The ELF note that /sys/kernel/vmcoreinfo points to, or the bare text the kernel copies into it. */
  readonly form: "note" | "data";
  /** Whether a crashed kernel finished it (CRASHTIME). */
  readonly crashed: boolean;
  /** Whether all of the note is in memory. */
  readonly whole: boolean;
  readonly tables: TablesState;
  /** Whether a vCPU's own page tables do. */
  readonly running: boolean;
}

/** The one to use, with its text; those of the others are read again when asked for. */
export interface FoundVmcoreinfo extends VmcoreinfoHit {
  readonly vmcoreinfo: Vmcoreinfo;
}

export interface VmcoreinfoSearch {
  /** The first hit, unless memory contradicts it. */
  readonly best: FoundVmcoreinfo | undefined;
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
/** What tells a note from others. */
const NOTE_START = NOTE_HEADER + TEXT_START.length;
/** Where the name begins, and its first word, "VMCO". */
const NAME_AT = 12;
const NAME_MAGIC = NAME.readUInt32LE(0);
/** "OSRE" as a little-endian word. */
const TEXT_MAGIC = TEXT_START.readUInt32LE(0);

interface Candidate {
  readonly address: number;
  readonly form: "note" | "data";
  /** Bytes of text. */
  readonly size: number;
}

/**
 * Looks for VMCOREINFO in pages as they pass by. Since 4.13 the kernel keeps note and text in pages of their own;
 * before, both were arrays in .bss, the note one of words. So a text counts at the start of a page, a note wherever a
 * word can be.
 */
export class VmcoreinfoScanner {
  readonly #memory: PhysicalMemory;
  readonly #states: readonly X86State[];
  #spaces: readonly VcpuTables[] | undefined;
  readonly #candidates: Candidate[] = [];
  readonly #addresses = new Set<number>();
  readonly #hits: VmcoreinfoHit[] = [];
  #judged = 0;
  #best: FoundVmcoreinfo | undefined;
  #overlooked = 0;

  /** @param memory what the pages given to `scan` are of: the rest of a note is read from it */
  constructor(memory: PhysicalMemory, options: VmcoreinfoSearchOptions = {}) {
    this.#memory = memory;
    this.#states = options.states ?? [];
  }

  /**
   * Takes a run of whole pages, in any order; a note that goes on in pages not given is read from the memory.
   * @param address physical, page-aligned
   * @returns whether there is a candidate that was not there before
   */
  scan(bytes: Uint8Array, address: number): boolean {
    const view = viewOf(bytes);
    let news = false;
    for (let page = 0; page + PAGE_SIZE <= bytes.length; page += PAGE_SIZE) {
      if (view.getUint32(page, true) !== TEXT_MAGIC || !isText(bytes, page)) continue;
      news = this.#add({ address: address + page, form: "data", size: PAGE_SIZE }) || news;
    }
    const words = wordsOf(bytes);
    for (let i = words.indexOf(NAME_MAGIC); i >= 0; i = words.indexOf(NAME_MAGIC, i + 1)) {
      const size = this.#noteSize(bytes, i * 4 - NAME_AT, address);
      if (size === undefined) continue;
      news = this.#add({ address: address + i * 4 - NAME_AT, form: "note", size }) || news;
    }
    return news;
  }

  /** Size of the text of a note at `bytes[at]`, where `at` may lie outside; `undefined` when none is there. */
  #noteSize(bytes: Uint8Array, at: number, address: number): number | undefined {
    if (at >= 0 && at + NOTE_START <= bytes.length) return noteSize(bytes.subarray(at, at + NOTE_START));
    const start = Buffer.alloc(NOTE_START);
    const known = address + at >= 0 ? readPhysical(this.#memory, address + at, start) : 0;
    return known === NOTE_START ? noteSize(start) : undefined;
  }

  /** What the pages seen so far hold. */
  get result(): VmcoreinfoSearch {
    for (; this.#judged < this.#candidates.length; this.#judged++) {
      this.#spaces ??= tablesOfStates(this.#memory, this.#states);
      const hit = judgeCandidate(this.#memory, this.#spaces, this.#candidates[this.#judged]!);
      if (hit !== undefined) this.#hits.push(hit);
    }
    const hits = this.#hits.toSorted(byRank);
    const best = hits.find(({ tables }) => tables !== "wrong");
    if (best?.address !== this.#best?.address) this.#best = best && this.#textOf(best);
    return { best: this.#best, hits, overlooked: this.#overlooked };
  }

  #textOf(hit: VmcoreinfoHit): FoundVmcoreinfo | undefined {
    const candidate = this.#candidates.find(({ address }) => address === hit.address);
    const found = candidate && readCandidate(this.#memory, candidate);
    return found && { ...hit, vmcoreinfo: found.vmcoreinfo };
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
 * Searches a whole memory, reading only what is present, up to the first note whose kernel is intact (and, given
 * vCPUs, runs).
 */
export async function findVmcoreinfo(
  memory: PhysicalMemory,
  options: VmcoreinfoSearchOptions & { readonly checkpoint?: Checkpoint } = {},
): Promise<VmcoreinfoSearch> {
  const scanner = new VmcoreinfoScanner(memory, options);
  const needRunning = (options.states?.length ?? 0) > 0;
  for (const { address, bytes } of presentChunks(memory, 0, Number.POSITIVE_INFINITY)) {
    await options.checkpoint?.();
    if (!scanner.scan(bytes, address)) continue;
    const { best } = scanner.result;
    if (best?.form === "note" && best.whole && best.tables === "work" && (best.running || !needRunning))
      break;
  }
  return scanner.result;
}

/** Says that there were more candidates than are looked at (KRN007). */
export function overlookedWarnings({ overlooked }: VmcoreinfoSearch): Warning[] {
  if (overlooked === 0) return [];
  const message = `${overlooked} more places in memory look like VMCOREINFO than the ${CANDIDATE_LIMIT} that were looked at`;
  return [{ code: "KRN007", message }];
}

const isText = (bytes: Uint8Array, at: number): boolean =>
  TEXT_START.equals(bytes.subarray(at, at + TEXT_START.length));

/** Bytes of text behind a note's first `NOTE_START` bytes; `undefined` when it is no VMCOREINFO. */
function noteSize(start: Uint8Array): number | undefined {
  const view = viewOf(start);
  const size = view.getUint32(4, true);
  const wellFormed =
    view.getUint32(0, true) === NAMESZ &&
    view.getUint32(8, true) === NT_VMCOREINFO &&
    NAME.equals(start.subarray(NAME_AT, NOTE_HEADER)) &&
    isText(start, NOTE_HEADER);
  return wellFormed && size <= MAX_VMCOREINFO_BYTES ? size : undefined;
}

/** The bytes as words; a search for one goes at the speed of memory. */
function wordsOf(bytes: Uint8Array): Uint32Array {
  const { buffer, byteOffset, length } = wordAligned(bytes);
  return new Uint32Array(buffer, byteOffset, Math.floor(length / 4));
}

const wordAligned = (bytes: Uint8Array): Uint8Array =>
  bytes.byteOffset % 4 === 0 ? bytes : Uint8Array.from(bytes);

/** A candidate's text parsed; undefined when it names no kernel. */
function readCandidate(
  memory: PhysicalMemory,
  { address, form, size }: Candidate,
): { vmcoreinfo: Vmcoreinfo; whole: boolean } | undefined {
  const bytes = Buffer.alloc(size);
  const known = readPhysical(memory, form === "note" ? address + NOTE_HEADER : address, bytes);
  const whole = known === size;
  const text = latin1(bytes.subarray(0, known));
  // The last line of a text that is cut short may be cut short too.
  const vmcoreinfo = new Vmcoreinfo(whole ? text : text.slice(0, text.lastIndexOf("\n") + 1));
  const isKernel = vmcoreinfo.osrelease !== undefined && vmcoreinfo.symbol("swapper_pg_dir") !== undefined;
  return isKernel ? { vmcoreinfo, whole } : undefined;
}

/** A candidate compared with what else memory and vCPUs say. */
function judgeCandidate(
  memory: PhysicalMemory,
  spaces: readonly VcpuTables[],
  candidate: Candidate,
): VmcoreinfoHit | undefined {
  const found = readCandidate(memory, candidate);
  if (found === undefined) return undefined;
  const { vmcoreinfo, whole } = found;
  const { tables, imageOffset } = judge(memory, vmcoreinfo);
  const running = spaces.some(({ tables: space }) => runs(space, vmcoreinfo, imageOffset));
  const { address, form } = candidate;
  return { address, form, crashed: vmcoreinfo.crashTime !== undefined, whole, tables, running };
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
  TABLES_RANK[hit.tables] * 32 +
  (hit.crashed ? 16 : 0) +
  (hit.running ? 8 : 0) +
  (hit.form === "note" ? 4 : 0) +
  (hit.whole ? 2 : 0) +
  // Elsewhere may be a copy that a program made.
  (hit.address % PAGE_SIZE === 0 ? 1 : 0);
