/** `KSYM_NAME_LEN` since 6.1, 128 before (include/linux/kallsyms.h): a name and its NUL. */
export const KSYM_NAME_LEN = 512;
/** A kernel with everything built in has some 300 000. */
export const MAX_SYMBOLS = 2 ** 20;
/** Of all names of a table: on average they take 20 to 30 bytes. */
const MAX_NAME_BYTES = 24 * 2 ** 20;

/** Names and types of symbols, in order, to be looked up by name; some 35 bytes a symbol. */
export class SymbolNames {
  readonly size: number;
  readonly #bytes: Buffer;
  /** Where the name of symbol i begins; that of i + 1 is where it ends. */
  readonly #starts: Uint32Array;
  readonly #types: Uint8Array;
  /** Hash → the first symbol with it, and symbol → the next one with the same hash; −1: none. */
  readonly #heads: Int32Array;
  readonly #next: Int32Array;

  /** @param bytes all names, each behind the other @param starts one more than there are types */
  constructor(bytes: Buffer, starts: Uint32Array, types: Uint8Array) {
    this.size = types.length;
    this.#bytes = bytes;
    this.#starts = starts;
    this.#types = types;
    this.#heads = new Int32Array(2 ** Math.ceil(Math.log2(this.size + 1))).fill(-1);
    this.#next = new Int32Array(this.size);
    // Backwards, so that of symbols with the same name the first is found first.
    for (let i = this.size - 1; i >= 0; i--) {
      let hash = FNV_OFFSET;
      for (let at = starts[i]!; at < starts[i + 1]!; at++) hash = mix(hash, bytes[at]!);
      const slot = this.#slot(hash);
      this.#next[i] = this.#heads[slot]!;
      this.#heads[slot] = i;
    }
  }

  /** The name of symbol `index` (< `size`). */
  name(index: number): string {
    return this.#bytes.toString("latin1", this.#starts[index], this.#starts[index + 1]);
  }

  /** The type of symbol `index` (< `size`), a letter as nm(1) has it. */
  type(index: number): string {
    return String.fromCharCode(this.#types[index]!);
  }

  /** The indices of all symbols of a name, ascending. */
  *indicesOf(name: string): Generator<number> {
    let hash = FNV_OFFSET;
    for (let i = 0; i < name.length; i++) hash = mix(hash, name.charCodeAt(i));
    for (let i = this.#heads[this.#slot(hash)]!; i >= 0; i = this.#next[i]!) {
      if (this.name(i) === name) yield i;
    }
  }

  #slot(hash: number): number {
    return (hash >>> 0) & (this.#heads.length - 1);
  }
}

/** FNV-1a, 32 bits. */
const FNV_OFFSET = 0x811c_9dc5 | 0;
const mix = (hash: number, byte: number): number => Math.imul(hash ^ byte, 0x0100_0193);

/** Collects names one by one. */
export class SymbolNamesBuilder {
  #bytes: Buffer = Buffer.allocUnsafeSlow(2 ** 16);
  #used = 0;
  #starts = new Uint32Array(2 ** 12);
  #types = new Uint8Array(2 ** 12);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** @returns false when there is no room for more: then nothing was added */
  add(name: Uint8Array, length: number, type: number): boolean {
    if (this.#size >= MAX_SYMBOLS || this.#used + length > MAX_NAME_BYTES) return false;
    if (this.#used + length > this.#bytes.length) this.#growBytes();
    // The start of the next one is written too.
    if (this.#size + 1 >= this.#starts.length) this.#growSymbols();
    for (let i = 0; i < length; i++) this.#bytes[this.#used + i] = name[i]!;
    this.#types[this.#size++] = type;
    this.#used += length;
    this.#starts[this.#size] = this.#used;
    return true;
  }

  /** What was added. The builder is of no use after it. */
  build(): SymbolNames {
    return new SymbolNames(
      Buffer.from(this.#bytes.subarray(0, this.#used)),
      this.#starts.slice(0, this.#size + 1),
      this.#types.slice(0, this.#size),
    );
  }

  #growBytes(): void {
    const larger = Buffer.allocUnsafeSlow(this.#bytes.length * 2);
    this.#bytes.copy(larger, 0, 0, this.#used);
    this.#bytes = larger;
  }

  #growSymbols(): void {
    const starts = new Uint32Array(this.#starts.length * 2);
    starts.set(this.#starts);
    this.#starts = starts;
    const types = new Uint8Array(this.#types.length * 2);
    types.set(this.#types);
    this.#types = types;
  }
}
