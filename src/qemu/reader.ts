import { PAGE_SIZE } from "../core/address.ts";
import { cString, u64, viewOf } from "../core/bytes.ts";
import type { ProcessImage } from "../core/process.ts";
import { rangeAt } from "../core/ranges.ts";

/** Pages kept: QEMU's structures of a large machine touch a few thousand. */
const SLOTS = 2048;
const EMPTY = -1;

/**
 * Reads words and strings of a qemu process through a direct-mapped cache of pages. What is not in the core reads as
 * `undefined`: pointers are followed on trust and checked by what they lead to.
 */
export class ProcessReader {
  readonly image: ProcessImage;
  readonly #arena = Buffer.alloc(SLOTS * PAGE_SIZE);
  readonly #view = viewOf(this.#arena);
  readonly #tags = new Float64Array(SLOTS).fill(EMPTY);
  readonly #lengths = new Uint16Array(SLOTS);

  constructor(image: ProcessImage) {
    this.image = image;
  }

  /** Where in the arena `length` bytes at `address` lie, when they are in the core and in one page. */
  #locate(address: number, length: number): number | undefined {
    if (!(address >= 0 && address < Number.MAX_SAFE_INTEGER)) return undefined;
    const inPage = address % PAGE_SIZE;
    const page = address - inPage;
    const slot = (page / PAGE_SIZE) % SLOTS;
    const base = slot * PAGE_SIZE;
    if (this.#tags[slot] !== page) {
      this.#tags[slot] = page;
      this.#lengths[slot] = this.image.read(page, this.#arena.subarray(base, base + PAGE_SIZE));
    }
    return inPage + length <= this.#lengths[slot]! ? base + inPage : undefined;
  }

  /** Word at an 8-byte aligned address; `Infinity` for values of 2^53 and above. */
  u64(address: number): number | undefined {
    if (address % 8 !== 0) return undefined;
    const at = this.#locate(address, 8);
    return at === undefined ? undefined : u64(this.#view, at);
  }

  u32(address: number): number | undefined {
    if (address % 4 !== 0) return undefined;
    const at = this.#locate(address, 4);
    return at === undefined ? undefined : this.#view.getUint32(at, true);
  }

  u8(address: number): number | undefined {
    const at = this.#locate(address, 1);
    return at === undefined ? undefined : this.#arena[at];
  }

  /** A pointer to something writable: heap, .data or .bss. */
  pointer(address: number): number | undefined {
    const value = this.u64(address);
    return value !== undefined && this.isWritable(value) ? value : undefined;
  }

  isWritable(address: number): boolean {
    return rangeAt(this.image.mappings, address)?.writable === true;
  }

  /** A copy of `length` bytes; `undefined` when any of them is missing. */
  bytes(address: number, length: number): Buffer | undefined {
    const target = Buffer.alloc(length);
    return this.image.read(address, target) === length ? target : undefined;
  }

  /** As many of `length` bytes as there are, in the cache where they lie in one page of it. */
  #upTo(address: number, length: number): Buffer {
    const at = this.#locate(address, length);
    if (at !== undefined) return this.#arena.subarray(at, at + length);
    const target = Buffer.alloc(length);
    return target.subarray(0, this.image.read(address, target));
  }

  /** NUL-terminated printable ASCII of 1 to `limit` bytes. */
  string(address: number, limit = 255): string | undefined {
    const text = cString(this.#upTo(address, limit + 1), 0, limit + 1);
    return text !== undefined && /^[\x20-\x7e]+$/.test(text) ? text : undefined;
  }
}
