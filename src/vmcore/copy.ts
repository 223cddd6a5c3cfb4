import { PAGE_SIZE } from "../core/address.ts";
import { isZero } from "../core/bytes.ts";
import { type Coverage, noCoverage } from "../core/coverage.ts";
import { CorruptError, IoError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource, Extent, PageState, PhysicalMemory } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";
import { hex } from "../core/text.ts";
import { type Batch, PageBatches, type PageThreads } from "../io/page-threads.ts";
import type { MemorySink } from "./sink.ts";

/** Bytes per read: measured best between 64 KiB and 1 MiB, and larger means longer runs. */
const CHUNK = 1 << 20;
/** How much is copied between two looks at signals. */
const CHECKPOINT = 64 * 2 ** 20;
/** The same where a page may be in thousands of pieces. */
const GATHERED = 16 * PAGE_SIZE;

export interface CopyOptions {
  readonly memory: PhysicalMemory;
  readonly context: Pick<JobContext, "checkpoint" | "progress">;
  /** Who takes the memory; without it the memory is only read and counted. */
  readonly sink?: MemorySink;
  /** Takes note of a page that cannot be read although it should be there; without it that is the end. */
  readonly lost?: ((address: number) => void) | undefined;
  /** Threads to unpack compressed pages with. */
  readonly threads?: PageThreads;
  /** Sees every run of memory read, page-aligned. */
  readonly observe?: (bytes: Buffer, address: number) => void;
  /** False where `observe` takes its time: signals are looked for after every MiB. */
  readonly patient?: boolean;
}

/** A stretch of memory as it comes out of a batch: pages that were unpacked from `page` on, or none. */
interface Piece extends Range {
  readonly state: PageState;
  readonly page: number;
}

/** Hands a machine's memory on in runs of non-zero pages; zero pages are told from them and counted. */
export class MemoryCopier {
  readonly #options: CopyOptions;
  readonly #buffer = Buffer.allocUnsafeSlow(CHUNK);
  readonly #unpacking: PageBatches<Piece> | undefined;
  /** Which pages of a run cannot be read. */
  readonly #unreadable = new Uint8Array(CHUNK / PAGE_SIZE);
  #coverage = noCoverage();
  #done = 0;
  #untilCheckpoint = CHECKPOINT;

  constructor(options: CopyOptions) {
    this.#options = options;
    const { memory, threads } = options;
    if (memory.packed === undefined || threads === undefined) return;
    const job = { kind: "unpack", codec: "none", pageSize: memory.packed.blockSize } as const;
    this.#unpacking = new PageBatches(threads, job, (batch) => this.#land(batch));
  }

  /** Copies one range. */
  async copy(range: Range): Promise<Coverage> {
    this.#coverage = noCoverage();
    for (let at = range.start; at < range.end; ) {
      const extent = this.#options.memory.extentAt(at, range.end);
      if (extent.state !== "present") await this.#pass(extent);
      else if (extent.at !== undefined) await this.#copyRun(extent.at.source, extent.at.offset, extent);
      else if (this.#unpacking !== undefined) await this.#unpack(extent);
      else await this.#copyPages(extent);
      at = extent.end;
    }
    await this.#unpacking?.drain();
    return this.#coverage;
  }

  async #copyRun(source: ByteSource, from: number, run: Range): Promise<void> {
    await this.#unpacking?.drain();
    for (let done = 0; done < run.end - run.start; done += CHUNK) {
      const length = Math.min(CHUNK, run.end - run.start - done);
      if (source.read(from + done, this.#buffer.subarray(0, length)) < length) {
        throw new IoError(`${source.name} became shorter while it was read, at offset ${hex(from + done)}`);
      }
      await this.#take(this.#buffer, 0, length, run.start + done);
      await this.#advance(length);
    }
  }

  /** Memory that does not lie raw in a file is gathered page by page into the same buffer. */
  async #copyPages(run: Range): Promise<void> {
    await this.#unpacking?.drain();
    for (let at = run.start; at < run.end; at += CHUNK) {
      const length = Math.min(CHUNK, run.end - at);
      for (let page = 0; page < length; page += PAGE_SIZE) {
        const target = this.#buffer.subarray(page, page + PAGE_SIZE);
        const state = this.#options.memory.readPage(at + page, target);
        // The plan counts on what extentAt promised.
        this.#unreadable[page / PAGE_SIZE] = state === "absent" || state === "excluded" ? 1 : 0;
        if (page % GATHERED === 0) await this.#options.context.checkpoint();
      }
      await this.#takeReadable(this.#buffer, 0, at, length);
    }
  }

  /** Compressed pages are sent off in batches, and come back to `#land` in the same order. */
  async #unpack(run: Range): Promise<void> {
    const packed = this.#options.memory.packed!;
    const batches = this.#unpacking!;
    const { blockSize } = packed;
    if (run.start % blockSize !== 0 || run.end % blockSize !== 0) {
      await this.#copyPages(run);
      return;
    }
    for (let at = run.start; at < run.end; at += blockSize) {
      const { buffers, count, notes } = batches.open;
      const block = packed.blockAt(at);
      const place = count * blockSize;
      const size = block === undefined || block.size > blockSize ? 0 : block.size;
      const got = size === 0 ? 0 : block!.read(buffers.input.subarray(place, place + size));
      // Nothing unpacks to a whole page of no bytes.
      buffers.describe(count, place, got < size || size === 0 ? NO_BLOCK : block!);
      const last = notes.at(-1);
      if (last?.state === "present" && last.end === at)
        notes[notes.length - 1] = { ...last, end: at + blockSize };
      else notes.push({ start: at, end: at + blockSize, state: "present", page: count });
      batches.open.count++;
      await batches.advance();
    }
  }

  async #land({ buffers, notes }: Batch<Piece>): Promise<void> {
    const { blockSize } = this.#options.memory.packed!;
    for (const piece of notes) {
      const { start, end, state, page } = piece;
      const length = end - start;
      if (state !== "present") {
        await this.#skip(piece);
        continue;
      }
      for (let at = 0; at < length; at += PAGE_SIZE) {
        this.#unreadable[at / PAGE_SIZE] = 1 - buffers.ok[page + Math.floor(at / blockSize)]!;
      }
      await this.#takeReadable(buffers.output, page * blockSize, start, length);
    }
  }

  /** Hands on what of a run could be read, as `#unreadable` says of its pages. */
  async #takeReadable(bytes: Buffer, from: number, address: number, length: number): Promise<void> {
    const pages = this.#unreadable.subarray(0, length / PAGE_SIZE);
    for (let start = 0; start < length; ) {
      const bad = pages[start / PAGE_SIZE] === 1;
      let end = start + PAGE_SIZE;
      while (end < length && (pages[end / PAGE_SIZE] === 1) === bad) end += PAGE_SIZE;
      if (bad) for (let at = start; at < end; at += PAGE_SIZE) this.#lose(address + at);
      else await this.#take(bytes, from + start, end - start, address + start);
      start = end;
    }
    await this.#advance(length);
  }

  #lose(address: number): void {
    const { lost } = this.#options;
    if (lost === undefined) {
      throw new CorruptError(`the page at ${hex(address)} is not what the dump says: it cannot be read`, {
        hint: "it is damaged, or the file became shorter; guestcore verify FILE says what else is",
      });
    }
    lost(address);
    this.#coverage.missing += PAGE_SIZE;
  }

  /** Memory without bytes, in its turn. */
  async #pass({ start, end, state }: Extent): Promise<void> {
    const piece = { start, end, state, page: 0 };
    if (this.#unpacking === undefined) {
      await this.#skip(piece);
      return;
    }
    this.#unpacking.open.notes.push(piece);
    await this.#unpacking.advance();
  }

  async #skip(range: Piece): Promise<void> {
    const { sink } = this.#options;
    const coverage = this.#coverage;
    const length = range.end - range.start;
    if (range.state === "zero") {
      coverage.zero += length;
      await sink?.zeros(range);
      await this.#advance(length);
    } else if (range.state === "excluded") {
      coverage.excluded += length;
      await sink?.excluded(range);
    } else coverage.missing += length;
  }

  /** Hands on runs of non-zero and of zero pages. */
  async #take(bytes: Buffer, from: number, length: number, address: number): Promise<void> {
    const { sink, observe } = this.#options;
    observe?.(bytes.subarray(from, from + length), address);
    for (let start = 0; start < length; ) {
      const zero = isZero(bytes, from + start, PAGE_SIZE);
      let end = start + PAGE_SIZE;
      while (end < length && isZero(bytes, from + end, PAGE_SIZE) === zero) end += PAGE_SIZE;
      if (zero) {
        this.#coverage.zero += end - start;
        await sink?.zeros({ start: address + start, end: address + end });
      } else {
        this.#coverage.present += end - start;
        await sink?.data(bytes, from + start, end - start, address + start);
      }
      start = end;
    }
  }

  async #advance(length: number): Promise<void> {
    this.#done += length;
    this.#options.context.progress.update(this.#done);
    this.#untilCheckpoint -= length;
    if (this.#untilCheckpoint > 0) return;
    this.#untilCheckpoint = this.#options.patient === false ? CHUNK : CHECKPOINT;
    await this.#options.context.checkpoint();
  }
}

const NO_BLOCK = { size: 0, codec: "none" } as const;
