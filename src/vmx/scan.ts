import { PAGE_SIZE } from "../core/address.ts";
import { isZero } from "../core/bytes.ts";
import type { PhysicalMemory } from "../core/memory.ts";
import { fieldNamed } from "./fields.ts";
import { offsetOf, REGION_HEADER, type VmcsLayout } from "./layout.ts";
import { decodeRegion, isShadow, revisionOf, type VmcsRegion } from "./region.ts";
import { type Score, scoreRegion } from "./score.ts";
import { settleLayout } from "./settle.ts";

/** A page that is a VMCS by one layout at least. What is decoded of it is several times its size, and not kept. */
export class VmcsCandidate {
  /** Physical address. */
  readonly address: number;
  readonly layout: VmcsLayout;
  /** The page, 4096 bytes. */
  readonly bytes: Buffer;

  constructor(address: number, layout: VmcsLayout, bytes: Buffer) {
    this.address = address;
    this.layout = layout;
    this.bytes = bytes;
  }

  /** Bit 31 of the first dword. */
  get shadow(): boolean {
    return isShadow(this.bytes);
  }

  /** Decoded at each call. */
  get region(): VmcsRegion {
    return decodeRegion(this.bytes, this.layout);
  }

  /** Reckoned at each call. */
  get score(): Score {
    return scoreRegion(this.region, this.bytes);
  }
}

/** What a scan found of one machine's physical memory, ascending by address. */
export interface VmcsScan {
  readonly candidates: readonly VmcsCandidate[];
  /** Pages with a known revision identifier and nothing else: VMXON regions, one a processor. */
  readonly vmxonRegions: readonly number[];
  /** Pages that begin with a known revision identifier by chance, and the best score among them. */
  readonly rejected: { readonly pages: number; readonly best: number };
  /** Whether there were more candidates than are kept. */
  readonly overflowed: boolean;
}

/** Below this share of passed checks a page is a VMCS by chance only; real ones pass all, or all but one or two. */
const ACCEPT = 0.75;
/** Checks worth less than this cannot tell: VMware's six known fields are too few. */
const ENOUGH = 12;
/** 4096 vCPUs, half of them with a VMCS for a nested guest: 24 MiB of pages, as JSON 60 MiB more. */
export const MAX_CANDIDATES = 6144;
const MAX_VMXON = 8192;

/** Physical addresses have at most 52 bits. */
const NO_ADDRESS = 1n << 52n;
const LINK_POINTER = fieldNamed("VMCS_LINK_POINTER")!.encoding;

/**
 * Finds VMCS regions in physical memory: a page-aligned page that begins with the revision identifier of a layout and
 * is plausible by it. Bit 31 of the first dword, the shadow indicator, does not count.
 */
export class VmcsScanner {
  readonly #byRevision = new Map<number, VmcsLayout[]>();
  /** Layouts that go with any revision. */
  readonly #always: readonly VmcsLayout[];
  readonly #candidates: VmcsCandidate[] = [];
  readonly #vmxon: number[] = [];
  #rejected = { pages: 0, best: 0 };
  #overflowed = false;

  constructor(layouts: readonly VmcsLayout[]) {
    this.#always = layouts.filter(({ revisionId }) => revisionId === undefined);
    for (const layout of layouts) {
      if (layout.revisionId === undefined) continue;
      for (const revision of [layout.revisionId, ...(layout.otherRevisions ?? [])]) {
        const list = this.#byRevision.get(revision) ?? [];
        list.push(layout);
        this.#byRevision.set(revision, list);
      }
    }
  }

  /** Looks at whole pages; call it with ascending addresses. */
  scan(bytes: Buffer, address: number): void {
    for (let at = 0; at + PAGE_SIZE <= bytes.length; at += PAGE_SIZE) {
      const revision = bytes.readUInt32LE(at) & 0x7fff_ffff;
      const layouts = this.#byRevision.get(revision);
      if (layouts === undefined && (this.#always.length === 0 || revision === 0)) continue;
      this.#look(bytes.subarray(at, at + PAGE_SIZE), address + at, layouts ?? []);
    }
  }

  get result(): VmcsScan {
    return {
      candidates: this.#candidates,
      vmxonRegions: this.#vmxon,
      rejected: this.#rejected,
      overflowed: this.#overflowed,
    };
  }

  #look(page: Buffer, address: number, layouts: readonly VmcsLayout[]): void {
    if (isBare(page)) {
      const isProcessor = layouts.some(({ kind }) => kind !== "nested");
      if (isProcessor && this.#vmxon.length < MAX_VMXON) this.#vmxon.push(address);
      return;
    }
    let best: { readonly layout: VmcsLayout; readonly value: number } | undefined;
    for (const layout of [...layouts, ...this.#always]) {
      if (!mayFit(page, layout)) continue;
      const { known, value } = scoreRegion(decodeRegion(page, layout), page);
      if (known >= ENOUGH && (best === undefined || value > best.value)) best = { layout, value };
    }
    if (best === undefined || best.value < ACCEPT) {
      // A layout for any revision looks at every page.
      if (layouts.length > 0) this.#reject(best?.value ?? 0);
    } else if (this.#candidates.length >= MAX_CANDIDATES) this.#overflowed = true;
    else this.#candidates.push(new VmcsCandidate(address, best.layout, Buffer.from(page)));
  }

  #reject(score: number): void {
    this.#rejected = { pages: this.#rejected.pages + 1, best: Math.max(this.#rejected.best, score) };
  }
}

/**
 * Adds the shadow VMCSs that link pointers lead to. KVM keeps neither host state nor controls in one, so that by itself
 * it does not look like a VMCS.
 */
export function withLinkedShadows(memory: PhysicalMemory, scan: VmcsScan): VmcsScan {
  const known = new Set(scan.candidates.map(({ address }) => address));
  const shadows = scan.candidates.flatMap(({ layout, region }) => {
    const link = region.values.get(LINK_POINTER);
    if (region.shadow || link === undefined || link >= NO_ADDRESS || known.has(Number(link))) return [];
    const address = Number(link);
    known.add(address);
    const bytes = Buffer.alloc(PAGE_SIZE);
    const state = address % PAGE_SIZE === 0 ? memory.readPage(address, bytes) : "absent";
    const isIts = state === "present" && isShadow(bytes) && revisionOf(bytes) === region.revisionId;
    return isIts ? [new VmcsCandidate(address, layout, bytes)] : [];
  });
  const candidates = [...scan.candidates, ...shadows].sort((a, b) => a.address - b.address);
  return { ...scan, candidates };
}

/** The scan with what the layouts of its candidates leave open settled by the candidates themselves. */
export function settleScan(scan: VmcsScan): VmcsScan {
  const pages = new Map<VmcsLayout, Buffer[]>();
  for (const { layout, bytes } of scan.candidates) {
    const list = pages.get(layout);
    if (list === undefined) pages.set(layout, [bytes]);
    else list.push(bytes);
  }
  const settled = new Map([...pages].map(([layout, own]) => [layout, settleLayout(layout, own)]));
  const candidates = scan.candidates.map(
    ({ address, layout, bytes }) => new VmcsCandidate(address, settled.get(layout)!, bytes),
  );
  return { ...scan, candidates };
}

/** Whether a page holds a revision identifier and nothing else. */
const isBare = (page: Buffer): boolean =>
  page.readUInt32LE(4) === 0 && isZero(page, REGION_HEADER, PAGE_SIZE - REGION_HEADER);

/** The cheapest test first: nearly every VMCS has a link pointer of all ones, any other is a page's address. */
function mayFit(page: Buffer, layout: VmcsLayout): boolean {
  const offset = offsetOf(layout, LINK_POINTER);
  if (offset === undefined || offset + 8 > page.length) return true;
  const low = page.readUInt32LE(offset);
  const high = page.readUInt32LE(offset + 4);
  return (low === 0xffff_ffff && high === 0xffff_ffff) || (low % PAGE_SIZE === 0 && high < 0x10_0000);
}
