import { u64be } from "../core/bytes.ts";
import { CorruptError, UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource, SourceExtent } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";
import { CachedSource } from "./cached-source.ts";

/**
 * The stream that `makedumpfile -F` and QEMU's kdump formats write where they cannot seek: a header of 4 KiB, then
 * records {i64 offset, i64 size, bytes}, big endian, until one of -1 and -1. Records come in any order; later ones
 * overwrite earlier ones.
 */
export const FLAT_SIGNATURE = "makedumpfile\0\0\0\0";
/** Bitmaps of a dump that are longer, as of memory at both ends of 4 TiB, may have holes that no record tells of. */
export const MAX_FLAT_BITMAP = 128 * 2 ** 20;
const HEADER_SIZE = 4096;
const RECORD_HEADER = 16;
const END_MARK = 0xffff_ffff;
/** 60 bytes of memory each while they are put in order; makedumpfile's and QEMU's hold 4 KiB to some hundred. */
const MAX_RECORDS = 1 << 21;
/** Records below this size are read many at a time. */
const SMALL = 16 * 1024;
/** Record headers read between two looks at signals. */
const CHECKPOINT_RECORDS = 4096;

/** The file that a flattened stream describes. What no record wrote reads as zeros, as in a file. */
export class FlattenedSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  /** Whether the stream's end mark is there. */
  readonly whole: boolean;
  /** Offset in the stream behind what was read of it. */
  readonly end: number;
  readonly #stream: ByteSource;
  readonly #starts: Float64Array;
  readonly #ends: Float64Array;
  readonly #at: Float64Array;

  private constructor(stream: ByteSource, pieces: Pieces, whole: boolean, end: number) {
    this.name = stream.name;
    this.#stream = stream;
    this.whole = whole;
    this.end = end;
    ({ starts: this.#starts, ends: this.#ends, at: this.#at } = pieces);
    this.size = this.#ends.at(-1) ?? 0;
  }

  /** Whether a source begins as a flattened stream does. */
  static matches(source: ByteSource): boolean {
    const bytes = Buffer.alloc(FLAT_SIGNATURE.length);
    return source.read(0, bytes) === bytes.length && bytes.toString("latin1") === FLAT_SIGNATURE;
  }

  /**
   * Reads the header of every record.
   * @throws CorruptError for a record that cannot be; UnsupportedError for more than two million of them
   */
  static async open(stream: ByteSource, checkpoint?: JobContext["checkpoint"]): Promise<FlattenedSource> {
    const records = new PieceList();
    const header = Buffer.alloc(RECORD_HEADER);
    const many = new CachedSource(stream);
    let at = HEADER_SIZE;
    let whole = false;
    let last = SMALL;
    for (let count = 1; (last < SMALL ? many : stream).read(at, header) === RECORD_HEADER; count++) {
      if (header.readUInt32BE(0) === END_MARK && header.readUInt32BE(8) === END_MARK) {
        whole = true;
        at += RECORD_HEADER;
        break;
      }
      const offset = u64be(header, 0);
      const size = u64be(header, 8);
      last = size;
      if (!(size > 0 && offset + size <= Number.MAX_SAFE_INTEGER)) {
        throw new CorruptError("a record of the flattened stream has an impossible offset or size", {
          where: { offset: at },
          hint: "the stream is damaged from there on",
        });
      }
      if (count > MAX_RECORDS) {
        throw new UnsupportedError(`the flattened stream has more than ${MAX_RECORDS} records`, {
          hint: "makedumpfile -R VMCORE < FILE puts it in order",
        });
      }
      at += RECORD_HEADER;
      const end = Math.min(at + size, stream.size);
      if (end > at) records.add(offset, offset + (end - at), at);
      at += size;
      if (count % CHECKPOINT_RECORDS === 0) await checkpoint?.();
    }
    return new FlattenedSource(stream, resolved(records), whole, Math.min(at, stream.size));
  }

  read(offset: number, target: Uint8Array): number {
    const length = Math.max(0, Math.min(target.length, this.size - offset));
    let done = 0;
    for (let i = this.#indexAt(offset); done < length; ) {
      const at = offset + done;
      const start = this.#starts[i];
      if (start === undefined || start > at) {
        const gap = Math.min(length - done, (start ?? this.size) - at);
        target.fill(0, done, done + gap);
        done += gap;
        continue;
      }
      const part = Math.min(length - done, this.#ends[i]! - at);
      const got = this.#stream.read(this.#at[i]! + (at - start), target.subarray(done, done + part));
      done += got;
      if (got < part) break;
      i++;
    }
    return done;
  }

  /** What no record wrote is a hole; of the rest nothing is told. */
  extent(offset: number, limit: number): SourceExtent | undefined {
    const start = this.#starts[this.#indexAt(offset)];
    if (start === undefined || start <= offset) return undefined;
    return { hole: true, end: Math.min(start, limit) };
  }

  /** Bytes of the file that no record wrote, ascending. */
  *gaps(): Generator<Range> {
    let written = 0;
    for (let i = 0; i < this.#starts.length; i++) {
      const start = this.#starts[i]!;
      if (start > written) yield { start: written, end: start };
      written = this.#ends[i]!;
    }
  }

  /** Index of the piece that holds `offset`, else of the first one behind it. */
  #indexAt(offset: number): number {
    let [low, high] = [0, this.#ends.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ends[middle]! <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

interface Pieces {
  readonly starts: Float64Array;
  readonly ends: Float64Array;
  readonly at: Float64Array;
}

/** Bytes [start, end) of the file and where they are in the stream, one after another: 24 bytes of memory each. */
class PieceList {
  starts = new Float64Array(1024);
  ends = new Float64Array(1024);
  at = new Float64Array(1024);
  count = 0;

  add(start: number, end: number, at: number): void {
    if (this.count === this.starts.length) {
      [this.starts, this.ends, this.at] = [grown(this.starts), grown(this.ends), grown(this.at)];
    }
    this.starts[this.count] = start;
    this.ends[this.count] = end;
    this.at[this.count++] = at;
  }

  /** Adds, to the last one where the bytes go on in the file and in the stream. */
  append(start: number, end: number, at: number): void {
    const last = this.count - 1;
    const goesOn =
      last >= 0 &&
      this.ends[last] === start &&
      this.at[last]! + (this.ends[last]! - this.starts[last]!) === at;
    if (goesOn) this.ends[last] = end;
    else this.add(start, end, at);
  }

  get pieces(): Pieces {
    const { starts, ends, at, count } = this;
    return {
      starts: starts.subarray(0, count),
      ends: ends.subarray(0, count),
      at: at.subarray(0, count),
    };
  }
}

function grown(old: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(2 * old.length);
  larger.set(old);
  return larger;
}

/** Disjoint pieces, ascending, of records in the order of the stream; where they overlap the latest counts. */
function resolved({ starts, ends, at, count }: PieceList): Pieces {
  const order = Uint32Array.from({ length: count }, (_, i) => i).sort(
    (a, b) => starts[a]! - starts[b]! || a - b,
  );
  const pieces = new PieceList();
  const active = new Latest();
  let next = 0;
  let position = 0;
  for (;;) {
    while (next < count && starts[order[next]!]! <= position) active.push(order[next++]!);
    while (active.top !== undefined && ends[active.top]! <= position) active.pop();
    const top = active.top;
    if (top === undefined) {
      if (next === count) return pieces.pieces;
      position = starts[order[next]!]!;
      continue;
    }
    const until = next < count ? Math.min(ends[top]!, starts[order[next]!]!) : ends[top]!;
    pieces.append(position, until, at[top]! + (position - starts[top]!));
    position = until;
  }
}

/** A heap with the largest number on top. */
class Latest {
  readonly #items: number[] = [];

  get top(): number | undefined {
    return this.#items[0];
  }

  push(item: number): void {
    const items = this.#items;
    let at = items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      if (items[parent]! >= item) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  pop(): void {
    const items = this.#items;
    const item = items.pop();
    if (item === undefined || items.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child + 1 < items.length && items[child + 1]! > items[child]!) child++;
      if (child >= items.length || items[child]! <= item) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = item;
  }
}
