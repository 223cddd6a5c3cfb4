import { PAGE_SIZE } from "../core/address.ts";
import { isZero } from "../core/bytes.ts";
import { type Coverage, noCoverage } from "../core/coverage.ts";
import type { ByteSource, PhysicalMemory } from "../core/memory.ts";
import { hex } from "../core/text.ts";
import { type Checked, type CheckReport, FOUND, stepOf } from "./check-report.ts";

const CHUNK = 1 << 20;
/** Pages read one by one between two looks at signals. */
const CHECKPOINT_PAGES = 256;
/** Segments of a damaged file may all claim the same bytes: they are not read more often. */
const MAX_ROUNDS = 4;

/** Reads the part of a run that begins at `at`, into the buffer, and counts it. */
type ReadPart = (at: number, length: number) => void;

/**
 * Reads what a dump has of memory, all of it or every n-th page with the first and the last. Pages of zeros are told
 * from others only where everything is read.
 */
export class PageReader {
  readonly coverage: Coverage = noCoverage();
  readonly #report: CheckReport;
  readonly #step: number;
  readonly #buffer = Buffer.allocUnsafeSlow(CHUNK);
  #total = 0;
  #read = 0;
  /** Bytes that may still be read of each file. */
  readonly #budgets = new Map<ByteSource, number>();
  /** Reads the last page seen; undefined when it was read. */
  #last: (() => void) | undefined;

  /**
   * @param pages about how many there are
   */
  constructor(pages: number, report: CheckReport) {
    this.#report = report;
    this.#step = stepOf(pages, report);
  }

  /** A run that lies raw in a file. */
  async raw(source: ByteSource, offset: number, length: number, address: number): Promise<void> {
    await this.#run(length, (at, part) => this.#readRaw(source, offset + at, part, address + at));
  }

  /** A run, of whole pages, that a memory gives page by page. */
  async pages(memory: PhysicalMemory, start: number, end: number): Promise<void> {
    await this.#run(end - start, (at, part) => this.#readPages(memory, start + at, part));
  }

  /** Everything is seen: the last page is read. */
  finish(): Checked {
    this.#last?.();
    return { coverage: this.coverage, pages: { total: this.#total, read: this.#read } };
  }

  async #run(length: number, read: ReadPart): Promise<void> {
    const seen = this.#total;
    this.#total += Math.ceil(length / PAGE_SIZE);
    if (this.#step > 1) return await this.#sample(seen, length, read);
    for (let at = 0; at < length; at += CHUNK) {
      read(at, Math.min(CHUNK, length - at));
      await this.#report.checkpoint();
    }
  }

  /** @param seen pages before this run */
  async #sample(seen: number, length: number, read: ReadPart): Promise<void> {
    const step = this.#step;
    const pages = Math.ceil(length / PAGE_SIZE);
    // What is not read is there as far as tables tell; what is read is counted anew.
    this.coverage.present += length;
    const readPage = (page: number) => {
      const at = page * PAGE_SIZE;
      const part = Math.min(PAGE_SIZE, length - at);
      this.coverage.present -= part;
      read(at, part);
    };
    let count = 0;
    for (let page = (step - (seen % step)) % step; page < pages; page += step) {
      readPage(page);
      if (++count % CHECKPOINT_PAGES === 0) await this.#report.checkpoint();
    }
    const last = seen + pages - 1;
    this.#last = last % step === 0 ? undefined : () => readPage(pages - 1);
  }

  #readRaw(source: ByteSource, offset: number, length: number, address: number): void {
    const budget = this.#budgets.get(source) ?? MAX_ROUNDS * source.size;
    if (budget <= 0) {
      const message = () =>
        `the bytes at offset ${hex(offset)} are claimed more than ${MAX_ROUNDS} times over, and not read again`;
      this.#report.find(FOUND.unread, message, { offset, address });
      this.coverage.present += length;
      return;
    }
    this.#budgets.set(source, budget - length);
    if (source.read(offset, this.#buffer.subarray(0, length)) < length) {
      const message = `the file became shorter while it was read: the ${length} bytes at offset ${hex(offset)} are gone`;
      this.#report.find(FOUND.pageUnreadable, message, { offset, address });
      this.coverage.missing += length;
      return;
    }
    for (let at = 0; at < length; at += PAGE_SIZE) this.#count(at, Math.min(PAGE_SIZE, length - at));
  }

  #readPages(memory: PhysicalMemory, address: number, length: number): void {
    for (let at = 0; at < length; at += PAGE_SIZE) {
      const state = memory.readPage(address + at, this.#buffer.subarray(at, at + PAGE_SIZE));
      if (state === "present" || state === "zero") {
        this.#count(at, PAGE_SIZE);
        continue;
      }
      this.coverage.missing += PAGE_SIZE;
      const message = `the page at ${hex(address + at)} cannot be read: its bytes are damaged, or not what the tables say`;
      this.#report.find(FOUND.pageUnreadable, message, { address: address + at });
    }
  }

  /** A page that is in the buffer. */
  #count(at: number, length: number): void {
    this.#read++;
    const zero = this.#step === 1 && isZero(this.#buffer, at, length);
    this.coverage[zero ? "zero" : "present"] += length;
  }
}
