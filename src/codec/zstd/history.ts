import { CorruptError } from "../../core/errors.ts";
import { MAX_BLOCK_SIZE } from "./sequences.ts";

/** Where decoded bytes go, and where matches that reach far back read them again. */
export interface UnpackedBytes {
  /** Appends bytes [start, end). */
  append(bytes: Buffer, start: number, end: number): void;
  /** Fills target[start, end) with bytes that were appended, from `position` on. */
  readBack(position: number, target: Buffer, start: number, end: number): void;
}

/** Kept in memory; matches beyond it are read back. Covers the whole window of `zstd -1` to `-22` without --long. */
const KEEP = 8 * 1024 * 1024;
const CAPACITY = 2 * KEEP;
/** Below this a byte loop beats the call of copyWithin. */
const SHORT = 24;

const NOWHERE: UnpackedBytes = { append: () => {}, readBack: () => {} };

/**
 * The output of a decoder: the newest bytes in memory, all older ones behind `UnpackedBytes`, so that a window of
 * 128 MiB (`zstd --long=27`) or 2 GiB costs no memory.
 */
export class History {
  #sink: UnpackedBytes = NOWHERE;
  readonly #bytes = Buffer.allocUnsafeSlow(CAPACITY);
  /** Output position of #bytes[0]. */
  #base = 0;
  #fill = 0;
  #appended = 0;
  #frameStart = 0;

  /** Start of a stream. */
  open(sink: UnpackedBytes): void {
    this.#sink = sink;
    this.#base = 0;
    this.#fill = 0;
    this.#appended = 0;
    this.#frameStart = 0;
  }

  /** Bytes of output so far. */
  get position(): number {
    return this.#base + this.#fill;
  }

  /** Matches never reach back over the start of their frame. */
  startFrame(): void {
    this.#frameStart = this.position;
  }

  /** Makes room for one block; the one before is flushed. */
  startBlock(): void {
    if (this.#fill + MAX_BLOCK_SIZE <= CAPACITY) return;
    this.#bytes.copyWithin(0, this.#fill - KEEP, this.#fill);
    this.#base += this.#fill - KEEP;
    this.#fill = KEEP;
    this.#appended = KEEP;
  }

  /** Hands a complete block to the sink. */
  flush(): void {
    if (this.#fill > this.#appended) this.#sink.append(this.#bytes, this.#appended, this.#fill);
    this.#appended = this.#fill;
  }

  /** What was decoded since the last flush. */
  newest(): Buffer {
    return this.#bytes.subarray(this.#appended, this.#fill);
  }

  fill(value: number, length: number): void {
    this.#bytes.fill(value, this.#fill, this.#fill + length);
    this.#fill += length;
  }

  literals(source: Buffer, start: number, length: number): void {
    const to = this.#fill + length;
    if (length < SHORT) {
      for (let at = this.#fill, from = start; at < to; ) this.#bytes[at++] = source[from++]!;
    } else source.copy(this.#bytes, this.#fill, start, start + length);
    this.#fill = to;
  }

  /**
   * Repeats `length` bytes from `distance` bytes back; the two may overlap.
   * @throws CorruptError when that is before the start of the frame
   */
  match(distance: number, length: number): void {
    const bytes = this.#bytes;
    let from = this.#fill - distance;
    let at = this.#fill;
    const to = at + length;
    if (distance === 0 || this.#base + from < this.#frameStart) {
      throw new CorruptError("zstd: a match reaches back over the start of its frame");
    }
    if (from < 0) {
      const far = Math.min(length, -from);
      this.#sink.readBack(this.#base + from, bytes, at, at + far);
      at += far;
      from += far;
    }
    if (to - at < SHORT) {
      while (at < to) bytes[at++] = bytes[from++]!;
    } else if (distance === 1) bytes.fill(bytes[from]!, at, to);
    else {
      // Overlapping: what was copied doubles the pattern.
      while (at < to) {
        const piece = Math.min(to - at, at - from);
        bytes.copyWithin(at, from, from + piece);
        at += piece;
      }
    }
    this.#fill = to;
  }
}
