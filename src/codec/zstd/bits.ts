import { viewOf } from "../../core/bytes.ts";

/** Bytes that must lie readable before and after a bit stream: reads are 32 bits wide and may run over by one step. */
export const BIT_STREAM_MARGIN = 16;

/**
 * A bit stream read from its end to its start (RFC 8878 §4.1, §5.2.1). `left` counts the bits not yet read; below
 * zero the stream was too short, which callers check once a step instead of once a bit field.
 */
export class BackwardBits {
  left = 0;
  readonly #view: DataView;
  #start = 0;

  /** @param bytes holds every stream to be read, with BIT_STREAM_MARGIN bytes on either side */
  constructor(bytes: Uint8Array) {
    this.#view = viewOf(bytes);
  }

  /**
   * Starts on the stream in bytes [start, end); its last byte carries the end mark, the highest set bit.
   * @returns false when there is no end mark
   */
  open(start: number, end: number): boolean {
    const last = end > start ? this.#view.getUint8(end - 1) : 0;
    this.#start = start;
    this.left = (end - start) * 8 - Math.clz32(last) + 23;
    return last !== 0;
  }

  /** Next `count` bits, 0 to 25. */
  read(count: number): number {
    this.left -= count;
    return this.#at(this.left) & ((1 << count) - 1);
  }

  /** Next `count` bits, 0 to 31. */
  readLong(count: number): number {
    if (count <= 25) return this.read(count);
    const high = this.read(count - 16);
    return high * 0x1_0000 + this.read(16);
  }

  /** The 25 bits from bit `position` of the stream upwards, with rubbish above them. */
  #at(position: number): number {
    return this.#view.getUint32(this.#start + (position >> 3), true) >>> (position & 7);
  }
}

/** Position of the highest set bit; `value` is at least 1. */
export const highestBit = (value: number): number => 31 - Math.clz32(value);
