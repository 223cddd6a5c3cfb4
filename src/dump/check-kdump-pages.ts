import { PAGE_SIZE } from "../core/address.ts";
import { isZero, viewOf } from "../core/bytes.ts";
import { type Coverage, noCoverage } from "../core/coverage.ts";
import type { ByteSource } from "../core/memory.ts";
import { hex, plural } from "../core/text.ts";
import { CachedSource } from "../io/cached-source.ts";
import { bitmapChunks, type PageCounts, type PlacedHeader, setBits } from "./check-kdump-bitmaps.ts";
import { DESCRIPTOR_FAULTS } from "./check-kdump-faults.ts";
import { type Checked, type CheckReport, type FindingKind, FOUND, stepOf } from "./check-report.ts";
import {
  DESCRIPTOR_SIZE,
  decodeDescriptor,
  descriptorFault,
  type PageBounds,
  type PageDescriptor,
  unpackPage,
} from "./kdump-page.ts";
import { isSame, LowestShared } from "./lowest-shared.ts";
import { OverlapFinder } from "./overlap-finder.ts";

/** Pages looked at between two looks at signals: some take a millisecond each. */
const CHECKPOINT_PAGES = 64;

/** A page frame that was dumped, and where its descriptor is. */
interface DumpedPage {
  readonly pfn: number;
  readonly at: number;
  readonly descriptor: PageDescriptor;
}

/**
 * Checks every page descriptor of a dump, and of each page, or every n-th, that it can be unpacked to its length.
 * Descriptors that overlap are found in a second pass, for which only those out of order are remembered.
 */
export async function checkPages(
  source: ByteSource,
  header: PlacedHeader,
  counts: PageCounts,
  report: CheckReport,
): Promise<Checked> {
  return await new PageCheck(source, header, counts, report).run();
}

class PageCheck {
  readonly #source: ByteSource;
  readonly #header: PlacedHeader;
  readonly #bounds: PageBounds;
  readonly #window: { readonly start: number; readonly end: number };
  readonly #report: CheckReport;
  readonly #step: number;
  readonly #cached: CachedSource;
  readonly #packed: Buffer;
  /** Room for a page that is too long, which is told from one that is damaged. */
  readonly #block: Buffer;
  readonly #overlaps = new OverlapFinder();
  readonly #coverage: Coverage = noCoverage();
  /** Pages that do not share the page of zeros. */
  #ordinary = 0;
  #read = 0;
  /** The page of zeros that many descriptors share. */
  #zeros: PageDescriptor | undefined;
  /** The first in the file of those that are not the page of zeros. */
  #lowest: DumpedPage | undefined;
  /** The last page that could be read and was not. */
  #last: DumpedPage | undefined;

  constructor(
    source: ByteSource,
    header: PlacedHeader,
    { dumped, excluded }: PageCounts,
    report: CheckReport,
  ) {
    const { blockSize, descriptors, split, maxMapnr } = header;
    this.#source = source;
    this.#header = header;
    this.#bounds = { blockSize, data: descriptors + DESCRIPTOR_SIZE * dumped, size: source.size };
    this.#window = split ?? { start: 0, end: maxMapnr };
    this.#report = report;
    this.#step = stepOf(dumped, report);
    this.#coverage.excluded = excluded * blockSize;
    this.#cached = new CachedSource(source);
    this.#packed = Buffer.allocUnsafeSlow(blockSize);
    this.#block = Buffer.allocUnsafeSlow(2 * blockSize);
  }

  async run(): Promise<Checked> {
    await this.#findZeros();
    await this.#forEach("verifying", (page) => this.#check(page));
    if (this.#last !== undefined) this.#unpack(this.#last);
    await this.#findOverlaps();
    const total = this.#ordinary + (this.#zeros === undefined ? 0 : 1);
    return { coverage: this.#coverage, pages: { total, read: this.#read } };
  }

  /** Calls back with every page that was dumped. */
  async #forEach(label: string, visit: (page: DumpedPage) => void): Promise<void> {
    const { progress } = this.#report;
    const { start, end } = this.#window;
    progress.start((end - start) * this.#header.blockSize, label);
    try {
      await this.#visitAll(visit);
    } finally {
      progress.finish();
    }
  }

  async #visitAll(visit: (page: DumpedPage) => void): Promise<void> {
    const { start, end } = this.#window;
    const { blockSize, descriptors, layout } = this.#header;
    const table = new CachedSource(this.#source);
    const bytes = Buffer.alloc(DESCRIPTOR_SIZE);
    const view = viewOf(bytes);
    let index = 0;
    for (const { first, bits, dumped } of bitmapChunks(this.#source, this.#header)) {
      for (const bit of setBits(dumped, Math.max(0, start - first), Math.min(bits, end - first))) {
        const at = descriptors + DESCRIPTOR_SIZE * index++;
        // One that is cut is as one that is not there.
        if (table.read(at, bytes) < DESCRIPTOR_SIZE) bytes.fill(0);
        visit({ pfn: first + bit, at, descriptor: decodeDescriptor(view, 0, layout.littleEndian) });
        if (index % CHECKPOINT_PAGES !== 0) continue;
        this.#report.progress.update((first + bit - start) * blockSize);
        await this.#report.checkpoint();
      }
      await this.#report.checkpoint();
    }
  }

  #check(page: DumpedPage): void {
    const { pfn, descriptor } = page;
    const { offset, size } = descriptor;
    const { blockSize } = this.#header;
    const fault = descriptorFault(descriptor, this.#bounds);
    if (fault !== undefined) {
      const [kind, sentence] = DESCRIPTOR_FAULTS[fault];
      this.#tell(kind, page, () => sentence(descriptor, this.#bounds));
      this.#coverage.missing += blockSize;
      return;
    }
    if (this.#isZeros(page)) {
      this.#coverage.zero += blockSize;
      return;
    }
    this.#overlaps.add({ start: offset, end: offset + size, owner: pfn });
    if (this.#lowest === undefined || offset < this.#lowest.descriptor.offset) this.#lowest = page;
    if (this.#ordinary++ % this.#step === 0) {
      this.#last = undefined;
      this.#unpack(page);
    } else {
      this.#last = page;
      this.#coverage.present += blockSize;
    }
  }

  /**
   * Finds the page of zeros that many descriptors share, which comes before all others (makedumpfile
   * `write_kdump_pages_cyclic`, QEMU `write_dump_pages`): where that is depends on how many pages were to be dumped, and
   * some of them may have turned out to be unreadable. It is unpacked once.
   */
  async #findZeros(): Promise<void> {
    const lowest = new LowestShared();
    await this.#visitAll(({ descriptor }) => {
      if (descriptorFault(descriptor, this.#bounds) === undefined) lowest.add(descriptor);
    });
    const { found } = lowest;
    if (found === undefined || this.#unpacked(found) !== this.#header.blockSize) return;
    if (!this.#isBlockZero()) return;
    this.#zeros = found;
    this.#read++;
  }

  #isZeros({ descriptor }: DumpedPage): boolean {
    return this.#zeros !== undefined && isSame(this.#zeros, descriptor);
  }

  #unpack(page: DumpedPage): void {
    const { blockSize } = this.#header;
    // A page that was put off is counted already.
    if (page === this.#last) this.#coverage.present -= blockSize;
    const length = this.#unpacked(page.descriptor);
    this.#read++;
    if (length === blockSize) {
      const zero = this.#step === 1 && this.#isBlockZero();
      this.#coverage[zero ? "zero" : "present"] += blockSize;
      return;
    }
    this.#coverage.missing += blockSize;
    if (length === undefined) {
      this.#tell(FOUND.pagePacked, page, () => "its bytes are damaged: they cannot be unpacked");
    } else {
      this.#tell(FOUND.pageLength, page, () => `it unpacks to ${length} bytes, and not to ${blockSize}`);
    }
  }

  #unpacked({ offset, size, flags }: PageDescriptor): number | undefined {
    const packed = this.#packed.subarray(0, size);
    // A window on the file is of use where all of it passes by.
    const reader = this.#step === 1 ? this.#cached : this.#source;
    return reader.read(offset, packed) < size ? undefined : unpackPage(packed, flags, this.#block);
  }

  #isBlockZero(): boolean {
    for (let at = 0; at < this.#header.blockSize; at += PAGE_SIZE) {
      if (!isZero(this.#block, at, PAGE_SIZE)) return false;
    }
    return true;
  }

  async #findOverlaps(): Promise<void> {
    const { dropped } = this.#overlaps;
    if (dropped > 0) {
      const message = `${plural(dropped + 1, "page")} and more are out of order: not all of them are compared with each other`;
      this.#report.find(FOUND.overlapUnknown, message, { offset: this.#header.descriptors });
    }
    this.#checkZeros();
    if (!this.#overlaps.any) return;
    await this.#forEach("comparing pages", (page) => {
      const { pfn, descriptor } = page;
      const { offset, size } = descriptor;
      if (descriptorFault(descriptor, this.#bounds) !== undefined || this.#isZeros(page)) return;
      const other = this.#overlaps.overlapOf({ start: offset, end: offset + size, owner: pfn });
      if (other !== undefined) {
        this.#tellOverlap(page, `the page at ${hex(this.#addressOf(other.owner))}`);
      }
    });
  }

  /** Whether pages begin inside the page of zeros, which is in front of all others. */
  #checkZeros(): void {
    const [zeros, lowest] = [this.#zeros, this.#lowest];
    if (zeros === undefined || lowest === undefined || lowest.descriptor.offset >= zeros.offset + zeros.size)
      return;
    this.#tellOverlap(lowest, "the page of zeros that others share");
  }

  #tellOverlap(page: DumpedPage, others: string): void {
    const at = hex(page.descriptor.offset);
    this.#tell(FOUND.pageOverlap, page, () => `its bytes at offset ${at} overlap those of ${others}`);
  }

  #tell(kind: FindingKind, { pfn, at }: DumpedPage, what: () => string): void {
    const address = this.#addressOf(pfn);
    this.#report.find(kind, () => `page at ${hex(address)}: ${what()}`, { offset: at, address });
  }

  #addressOf(pfn: number): number {
    return this.#header.base + pfn * this.#header.blockSize;
  }
}
