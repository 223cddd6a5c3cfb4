import { UnsupportedError } from "../core/errors.ts";

/** 256 GiB in chunks of 64 KiB: 84 MiB of index. */
const MAX_CHUNKS = 1 << 22;

/** Where the chunks of a compressed image are, in the order of the file: 20 bytes of memory for each 64 KiB. */
export class ChunkIndex {
  count = 0;
  #addresses = new Float64Array(1 << 10);
  #offsets = new Float64Array(1 << 10);
  #sizes = new Uint32Array(1 << 10);

  /**
   * @param address of the first byte in the chunk; @param offset of its four-byte header; @param size of its contents
   * @throws UnsupportedError for too many
   */
  add(address: number, offset: number, size: number): void {
    if (this.count === MAX_CHUNKS) {
      throw new UnsupportedError("a compressed AVML image of more than 256 GiB", {
        hint: "avml-convert IMAGE OUT makes a LiME image of it, which is read whatever its size",
      });
    }
    if (this.count === this.#sizes.length) this.#grow();
    this.#addresses[this.count] = address;
    this.#offsets[this.count] = offset;
    this.#sizes[this.count++] = size;
  }

  addressOf(index: number): number {
    return this.#addresses[index]!;
  }

  offsetOf(index: number): number {
    return this.#offsets[index]!;
  }

  sizeOf(index: number): number {
    return this.#sizes[index]!;
  }

  /** The last of the chunks `first` to `end` that begins at or below an address; they ascend. */
  find(address: number, first: number, end: number): number {
    let low = first;
    let high = end - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#addresses[middle]! <= address) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #grow(): void {
    const length = 2 * this.count;
    const [addresses, offsets, sizes] = [this.#addresses, this.#offsets, this.#sizes];
    this.#addresses = new Float64Array(length);
    this.#offsets = new Float64Array(length);
    this.#sizes = new Uint32Array(length);
    this.#addresses.set(addresses);
    this.#offsets.set(offsets);
    this.#sizes.set(sizes);
  }
}
