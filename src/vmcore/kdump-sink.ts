import { viewOf } from "../core/bytes.ts";
import type { PageStorage } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";
import { MAX_FLAT_BITMAP } from "../io/flattened.ts";
import type { Output } from "../io/output.ts";
import { type Batch, PageBatches, type PageThreads } from "../io/page-threads.ts";
import {
  BLOCK,
  CODEC_FLAGS,
  DESCRIPTOR_SIZE,
  type KdumpLayout,
  BITMAP_WINDOW as WINDOW,
} from "./kdump-header.ts";
import type { MemorySink } from "./sink.ts";

/** What lies between pages of a batch: pages of it from `page` on, or pages of zeros that share one place. */
interface Piece {
  readonly zeros: boolean;
  readonly page: number;
  readonly count: number;
}

export interface KdumpSinkOptions {
  readonly layout: KdumpLayout;
  readonly output: Output;
  readonly codec: PageStorage;
  /** Whether pages of zeros share one place (makedumpfile's -d 1), or each is compressed and stored. */
  readonly shareZeros: boolean;
  readonly threads: PageThreads;
  /** Whether all in front of the pages is written, of zeros too, as to a stream in which a hole is a record lost. */
  readonly dense: boolean;
}

/** Writes bitmaps, page descriptors and compressed pages; the headers are its caller's. */
export class KdumpSink implements MemorySink {
  readonly #output: Output;
  readonly #batches: PageBatches<Piece>;
  readonly #ram: BitmapWriter;
  readonly #dumped: BitmapWriter;
  readonly #descriptors: StagedWriter;
  readonly #pages: StagedWriter;
  /** Up to where descriptors are filled up: there are fewer than planned where pages were unreadable. */
  readonly #descriptorsEnd: number;
  readonly #descriptor = Buffer.alloc(DESCRIPTOR_SIZE);
  readonly #fields = viewOf(this.#descriptor);
  /** Where the page of all zeros is that all share; it comes first, as readers expect it. */
  readonly #zeros: number | undefined;

  constructor(options: KdumpSinkOptions) {
    const { layout, output, codec, threads, dense } = options;
    this.#output = output;
    this.#batches = new PageBatches(threads, { kind: "pack", codec, pageSize: BLOCK }, (batch) =>
      this.#land(batch),
    );
    const size = layout.dumpedBitmap - layout.ramBitmap;
    const whole = dense && size <= MAX_FLAT_BITMAP;
    this.#ram = new BitmapWriter(output, layout.ramBitmap, size, whole);
    this.#dumped = new BitmapWriter(output, layout.dumpedBitmap, size, whole);
    this.#descriptors = new StagedWriter(output, layout.descriptors);
    this.#pages = new StagedWriter(output, layout.data);
    this.#descriptorsEnd = dense ? layout.data : 0;
    this.#zeros = options.shareZeros ? this.#pages.append(Buffer.alloc(BLOCK), 0, BLOCK) : undefined;
  }

  async data(bytes: Buffer, from: number, length: number, address: number): Promise<void> {
    this.#mark({ start: address, end: address + length });
    for (let done = 0; done < length; ) {
      const { buffers, count } = this.#batches.open;
      const place = count * BLOCK;
      const part = Math.min(length - done, buffers.input.length - place);
      bytes.copy(buffers.input, place, from + done, from + done + part);
      await this.#add(part / BLOCK);
      done += part;
    }
  }

  async zeros(range: Range): Promise<void> {
    this.#mark(range);
    const pages = (range.end - range.start) / BLOCK;
    if (this.#zeros !== undefined) {
      this.#batches.open.notes.push({ zeros: true, page: 0, count: pages });
      await this.#batches.advance();
      return;
    }
    for (let done = 0; done < pages; ) {
      const { buffers, count } = this.#batches.open;
      const place = count * BLOCK;
      const part = Math.min((pages - done) * BLOCK, buffers.input.length - place);
      buffers.input.fill(0, place, place + part);
      await this.#add(part / BLOCK);
      done += part / BLOCK;
    }
  }

  excluded({ start, end }: Range): void {
    this.#ram.set(start / BLOCK, end / BLOCK);
  }

  /** Writes what is left; returns the length of the file. */
  async finish(): Promise<number> {
    await this.#batches.drain();
    await this.#output.drain?.();
    this.#ram.finish();
    this.#dumped.finish();
    this.#descriptors.fillTo(this.#descriptorsEnd);
    this.#descriptors.flush();
    this.#pages.flush();
    return this.#pages.end;
  }

  async #add(pages: number): Promise<void> {
    const { open } = this.#batches;
    open.notes.push({ zeros: false, page: open.count, count: pages });
    open.count += pages;
    await this.#batches.advance();
  }

  #mark({ start, end }: Range): void {
    this.#ram.set(start / BLOCK, end / BLOCK);
    this.#dumped.set(start / BLOCK, end / BLOCK);
  }

  async #land({ buffers, notes }: Batch<Piece>): Promise<void> {
    for (const { zeros, page, count } of notes) {
      for (let i = page; i < page + count; i++) {
        if (zeros) this.#describe(this.#zeros!, BLOCK, "none");
        else {
          const size = buffers.size[i]!;
          this.#describe(this.#pages.append(buffers.output, i * BLOCK, size), size, buffers.codecOf(i));
        }
      }
    }
    await this.#output.drain?.();
  }

  #describe(offset: number, size: number, codec: PageStorage): void {
    this.#fields.setBigUint64(0, BigInt(offset), true);
    this.#fields.setUint32(8, size, true);
    this.#fields.setUint32(12, CODEC_FLAGS[codec], true);
    this.#descriptors.append(this.#descriptor, 0, DESCRIPTOR_SIZE);
  }
}

const STAGE = 1 << 20;

/** Gathers what is appended from a place on into large writes. */
class StagedWriter {
  readonly #output: Output;
  readonly #stage = Buffer.allocUnsafeSlow(STAGE);
  #position: number;
  #length = 0;

  constructor(output: Output, position: number) {
    this.#output = output;
    this.#position = position;
  }

  /** Offset in the file of what comes next. */
  get end(): number {
    return this.#position + this.#length;
  }

  /** At most a MiB; returns its offset in the file. */
  append(bytes: Buffer, start: number, length: number): number {
    if (this.#length + length > STAGE) this.flush();
    bytes.copy(this.#stage, this.#length, start, start + length);
    this.#length += length;
    return this.end - length;
  }

  /** Appends zeros up to an offset in the file. */
  fillTo(end: number): void {
    for (let left = end - this.end; left > 0; left = end - this.end) {
      this.append(ZEROS, 0, Math.min(left, ZEROS.length));
    }
  }

  flush(): void {
    if (this.#length > 0) this.#output.write(this.#stage, 0, this.#length, this.#position);
    this.#position += this.#length;
    this.#length = 0;
  }
}

const WINDOW_BITS = 8 * WINDOW;
const ZEROS = Buffer.alloc(WINDOW);

/** Writes a bitmap, least significant bit first, whose bits are set in ascending order; windows without any are holes. */
class BitmapWriter {
  readonly #output: Output;
  readonly #offset: number;
  readonly #size: number;
  readonly #whole: boolean;
  readonly #bytes = Buffer.alloc(WINDOW);
  #window = 0;
  /** Behind the last window that was written. */
  #next = 0;
  #used = false;

  /**
   * @param size of the bitmap, in bytes
   * @param whole whether there are no holes
   */
  constructor(output: Output, offset: number, size: number, whole: boolean) {
    this.#output = output;
    this.#offset = offset;
    this.#size = size;
    this.#whole = whole;
  }

  set(from: number, to: number): void {
    for (let at = from; at < to; ) {
      const window = Math.floor(at / WINDOW_BITS);
      if (window !== this.#window) {
        this.flush();
        this.#window = window;
      }
      const end = Math.min(to, (window + 1) * WINDOW_BITS);
      this.#fill(at - window * WINDOW_BITS, end - window * WINDOW_BITS);
      at = end;
    }
  }

  finish(): void {
    this.flush();
    this.#fillTo(Math.ceil(this.#size / WINDOW));
  }

  flush(): void {
    if (!this.#used) return;
    this.#fillTo(this.#window);
    this.#write(this.#bytes, this.#window);
    this.#bytes.fill(0);
    this.#used = false;
  }

  #fillTo(window: number): void {
    if (!this.#whole) return;
    while (this.#next < window) this.#write(ZEROS, this.#next);
  }

  #write(bytes: Buffer, window: number): void {
    const at = window * WINDOW;
    this.#output.write(bytes, 0, Math.min(WINDOW, this.#size - at), this.#offset + at);
    this.#next = window + 1;
  }

  #fill(from: number, to: number): void {
    this.#used = true;
    let at = from;
    while (at < to) {
      if (at % 8 === 0 && to - at >= 8) {
        const whole = Math.floor((to - at) / 8);
        this.#bytes.fill(0xff, at / 8, at / 8 + whole);
        at += 8 * whole;
      } else {
        this.#bytes[at >> 3]! |= 1 << (at & 7);
        at++;
      }
    }
  }
}
