import { PAGE_SIZE } from "../core/address.ts";
import { viewOf } from "../core/bytes.ts";
import type { AddressSpace, PhysicalMemory } from "../core/memory.ts";
import { readVirtual } from "./virtual.ts";

/** Pages kept (1 MiB): structures are read field by field, and lie close together. */
const CACHED_PAGES = 256;
const PAGE_MASK = BigInt(PAGE_SIZE - 1);

/**
 * Reads a kernel's data at its virtual addresses. What is not mapped or not in the dump is `undefined`, never zero.
 * Little-endian, 64-bit pointers (x86-64).
 */
export class KernelReader {
  readonly memory: PhysicalMemory;
  readonly space: AddressSpace;
  readonly #pages = new Map<bigint, DataView | undefined>();

  constructor(memory: PhysicalMemory, space: AddressSpace) {
    this.memory = memory;
    this.space = space;
  }

  u8(address: bigint): number | undefined {
    const at = this.#at(address, 1);
    return at?.view.getUint8(at.offset);
  }

  u16(address: bigint): number | undefined {
    const at = this.#at(address, 2);
    return at?.view.getUint16(at.offset, true);
  }

  u32(address: bigint): number | undefined {
    const at = this.#at(address, 4);
    return at?.view.getUint32(at.offset, true);
  }

  i32(address: bigint): number | undefined {
    const at = this.#at(address, 4);
    return at?.view.getInt32(at.offset, true);
  }

  /** A 64-bit value or pointer. */
  u64(address: bigint): bigint | undefined {
    const at = this.#at(address, 8);
    return at?.view.getBigUint64(at.offset, true);
  }

  /** All of `length` bytes, or undefined; the caller bounds `length`. */
  bytes(address: bigint, length: number): Buffer | undefined {
    const target = Buffer.alloc(length);
    return this.read(address, target) === length ? target : undefined;
  }

  /** @returns how many leading bytes of `target` are known and were filled */
  read(address: bigint, target: Uint8Array): number {
    return readVirtual(this.memory, this.space, address, target);
  }

  /** The Latin-1 text before the NUL, at most `limit` bytes; undefined where it is not known or has no end. */
  text(address: bigint, limit: number): string | undefined {
    const target = Buffer.alloc(limit);
    const known = target.subarray(0, this.read(address, target));
    const end = known.indexOf(0);
    return end < 0 ? undefined : known.toString("latin1", 0, end);
  }

  #at(address: bigint, size: number): { view: DataView; offset: number } | undefined {
    const offset = Number(address & PAGE_MASK);
    if (offset + size > PAGE_SIZE) {
      const bytes = this.bytes(address, size);
      return bytes && { view: viewOf(bytes), offset: 0 };
    }
    const view = this.#page(address - BigInt(offset));
    return view && { view, offset };
  }

  #page(address: bigint): DataView | undefined {
    if (this.#pages.has(address)) return this.#pages.get(address);
    const page = this.bytes(address, PAGE_SIZE);
    const view = page && viewOf(page);
    if (this.#pages.size >= CACHED_PAGES) this.#pages.delete(this.#pages.keys().next().value!);
    this.#pages.set(address, view);
    return view;
  }
}
