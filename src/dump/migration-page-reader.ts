import { unpackers } from "../codec/pages.ts";
import { PAGE_SIZE } from "../core/address.ts";
import type { ByteSource } from "../core/memory.ts";
import { CachedSource } from "../io/cached-source.ts";
import { applyDelta } from "./migration-delta.ts";
import type { PagePlace } from "./migration-pages.ts";
import type { Delta } from "./migration-ram.ts";

/** How far behind the last page another begins that is read with it. */
const AHEAD = 64 * 1024;
/** compressBound() of zlib for a page, and room to spare. */
const MAX_COMPRESSED = PAGE_SIZE + 64;

/** Unpacks pages of a stream by their places. */
export class PageReader {
  readonly source: ByteSource;
  readonly #ahead: CachedSource;
  readonly #deltas: readonly Delta[];
  readonly #packed = Buffer.allocUnsafeSlow(MAX_COMPRESSED);
  readonly #page = Buffer.allocUnsafeSlow(PAGE_SIZE);
  #last = 0;

  constructor(source: ByteSource, deltas: readonly Delta[]) {
    this.source = source;
    this.#ahead = new CachedSource(source);
    this.#deltas = deltas;
  }

  /** Fills `target` with a page; false when its bytes are not what they should be. */
  read(place: PagePlace, target: Uint8Array): boolean {
    if (!this.#unpack(place)) return false;
    target.set(this.#page);
    return true;
  }

  #unpack(place: PagePlace): boolean {
    const steps: Delta[] = [];
    let from: PagePlace | undefined = place;
    while (from?.kind === "delta") {
      const delta: Delta = this.#deltas[from.offset]!;
      steps.push(delta);
      from = delta.before;
    }
    if (from === undefined) this.#page.fill(0);
    else if (!this.#unpackWhole(from)) return false;
    return steps.reverse().every((delta) => this.#apply(delta));
  }

  #unpackWhole({ kind, offset }: PagePlace): boolean {
    if (kind === "raw") return this.#readBytes(offset, this.#page);
    if (kind === "fill") {
      const byte = this.#packed.subarray(0, 1);
      if (!this.#readBytes(offset, byte)) return false;
      this.#page.fill(byte[0]!);
      return true;
    }
    const length = this.#packed.subarray(0, 4);
    if (!this.#readBytes(offset, length)) return false;
    const packed = this.#packed.subarray(0, length.readUInt32BE(0));
    return this.#readBytes(offset + 4, packed) && unpackers.zlib(packed, this.#page) === PAGE_SIZE;
  }

  #apply({ offset, length }: Delta): boolean {
    const bytes = this.#packed.subarray(0, length);
    return this.#readBytes(offset, bytes) && applyDelta(bytes, this.#page);
  }

  /** Pages come in order for whoever copies them, and at random for whoever follows page tables. */
  #readBytes(offset: number, target: Buffer): boolean {
    const isNext = offset >= this.#last && offset <= this.#last + AHEAD;
    this.#last = offset;
    return (isNext ? this.#ahead : this.source).read(offset, target) === target.length;
  }
}
