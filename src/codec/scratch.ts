/** Memory for what may become longer than the room for it. */
export class Scratch {
  #bytes = Buffer.allocUnsafeSlow(8192);

  /** At least `size` bytes. */
  of(size: number): Buffer {
    if (this.#bytes.length < size) this.#bytes = Buffer.allocUnsafeSlow(size);
    return this.#bytes;
  }

  /** Hands over the first `size` bytes; undefined when they do not fit. */
  to(output: Buffer, size: number): number | undefined {
    return size > output.length ? undefined : this.#bytes.copy(output, 0, 0, size);
  }
}
