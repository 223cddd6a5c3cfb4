import { PAGE_SIZE } from "../core/address.ts";
import type { PagingShape, RightBit, TableLevel } from "./paging-shapes.ts";

/** What an entry of a page table is. */
export const NOT_PRESENT = 0;
export const TABLE = 1;
export const LEAF = 2;
const RESERVED_BITS = 3;

/** Rights of a mapping, packed so that runs compare by one number. */
const WRITABLE = 1;
const USER = 2;
const EXECUTABLE = 4;

const TWO_32 = 0x1_0000_0000;

/** The two words of a 64-bit mask, signed as JavaScript's bitwise operators want them. */
const lowOf = (mask: bigint): number => Number(BigInt.asIntN(32, mask));
const highOf = (mask: bigint): number => Number(BigInt.asIntN(32, mask >> 32n));

/** One level of a shape, ready to decode entries as two words: no bigint per entry, masks in fields of their own. */
export class EntryLevel {
  /** 1 for the last level, as the manuals count. */
  readonly number: number;
  readonly entries: number;
  /** Pages that one entry covers. */
  readonly span: number;
  readonly rightless: boolean;
  readonly #entryBytes: number;
  readonly #presentLow: number;
  readonly #presentHigh: number;
  readonly #presentTooLow: number;
  readonly #presentTooHigh: number;
  readonly #absentTooLow: number;
  readonly #largeLow: number;
  readonly #largeHigh: number;
  readonly #leafAlways: boolean;
  readonly #reservedLow: number;
  readonly #reservedHigh: number;
  readonly #leafReservedLow: number;
  readonly #leafReservedHigh: number;
  readonly #addressLow: number;
  readonly #addressHigh: number;
  readonly #leafAddressLow: number;
  readonly #leafAddressHigh: number;
  readonly #leafExtraLow: number;
  readonly #leafExtraFactor: number;

  constructor(shape: PagingShape, level: TableLevel, number: number) {
    this.number = number;
    this.entries = 2 ** level.bits;
    this.span = 2 ** level.shift / PAGE_SIZE;
    this.rightless = level.rightless === true;
    this.#entryBytes = shape.entryBytes;
    this.#presentLow = lowOf(shape.present);
    this.#presentHigh = highOf(shape.present);
    this.#presentTooLow = lowOf(shape.presentToo?.set ?? 0n);
    this.#presentTooHigh = highOf(shape.presentToo?.set ?? 0n);
    this.#absentTooLow = lowOf(shape.presentToo?.clear ?? 0n);
    const large = level.leaf === "large" ? shape.largeBit : 0n;
    this.#largeLow = lowOf(large);
    this.#largeHigh = highOf(large);
    this.#leafAlways = level.leaf === "always";
    this.#reservedLow = lowOf(level.reserved);
    this.#reservedHigh = highOf(level.reserved);
    this.#leafReservedLow = lowOf(level.leafReserved);
    this.#leafReservedHigh = highOf(level.leafReserved);
    this.#addressLow = lowOf(shape.address);
    this.#addressHigh = highOf(shape.address);
    const leafAddress = (shape.address >> BigInt(level.shift)) << BigInt(level.shift);
    this.#leafAddressLow = lowOf(leafAddress);
    this.#leafAddressHigh = highOf(leafAddress);
    this.#leafExtraLow = lowOf(level.leafHighAddress?.mask ?? 0n);
    this.#leafExtraFactor = 2 ** (level.leafHighAddress?.shift ?? 0);
  }

  /** Bits 31–0 of an entry of the table at `offset`. */
  low(view: DataView, offset: number, index: number): number {
    return view.getInt32(offset + index * this.#entryBytes, true);
  }

  /** Bits 63–32 of an entry; 0 where entries have 32 bits. */
  high(view: DataView, offset: number, index: number): number {
    return this.#entryBytes === 8 ? view.getInt32(offset + index * 8 + 4, true) : 0;
  }

  /** Index of the first present entry from `index` on; `entries` when there is none. */
  nextPresent(view: DataView, offset: number, index: number): number {
    let next = index;
    while (
      next < this.entries &&
      !this.#isPresent(this.low(view, offset, next), this.high(view, offset, next))
    ) {
      next++;
    }
    return next;
  }

  /** One of NOT_PRESENT, TABLE, LEAF, RESERVED_BITS. */
  kindOf(low: number, high: number): number {
    if (!this.#isPresent(low, high)) return NOT_PRESENT;
    if (this.#leafAlways || ((low & this.#largeLow) | (high & this.#largeHigh)) !== 0) {
      return ((low & this.#leafReservedLow) | (high & this.#leafReservedHigh)) === 0 ? LEAF : RESERVED_BITS;
    }
    return ((low & this.#reservedLow) | (high & this.#reservedHigh)) === 0 ? TABLE : RESERVED_BITS;
  }

  /** Physical address, in bytes, of the table that a TABLE entry refers to. */
  tableAddress(low: number, high: number): number {
    return ((high & this.#addressHigh) >>> 0) * TWO_32 + ((low & this.#addressLow) >>> 0);
  }

  /** Physical address, in bytes, of the page that a LEAF entry maps. */
  leafAddress(low: number, high: number): number {
    const address = ((high & this.#leafAddressHigh) >>> 0) * TWO_32 + ((low & this.#leafAddressLow) >>> 0);
    return address + ((low & this.#leafExtraLow) >>> 0) * this.#leafExtraFactor;
  }

  #isPresent(low: number, high: number): boolean {
    if (((low & this.#presentLow) | (high & this.#presentHigh)) !== 0) return true;
    return (
      ((low & this.#presentTooLow) | (high & this.#presentTooHigh)) !== 0 && (low & this.#absentTooLow) === 0
    );
  }
}

/**
 * How a shape spells access rights. Entries of all levels are ANDed after the bits that deny are inverted; a right
 * is granted when its bit is left over, or when the shape has no bit for it.
 */
export class EntryRights {
  /** Bits to invert in every entry so that 1 grants. */
  readonly invertLow: number;
  readonly invertHigh: number;
  readonly #masks: readonly { readonly low: number; readonly high: number; readonly right: number }[];
  readonly #always: number;

  constructor(shape: PagingShape) {
    const bits: readonly (readonly [RightBit | undefined, number])[] = [
      [shape.writable, WRITABLE],
      [shape.user, USER],
      [shape.executable, EXECUTABLE],
    ];
    let inverted = 0n;
    let always = 0;
    const masks = [];
    for (const [bit, right] of bits) {
      if (bit === undefined) always |= right;
      else masks.push({ low: lowOf(bit.mask), high: highOf(bit.mask), right });
      if (bit?.allows === false) inverted |= bit.mask;
    }
    this.invertLow = lowOf(inverted);
    this.invertHigh = highOf(inverted);
    this.#masks = masks;
    this.#always = always;
  }

  /** Packed rights of the AND of all entries of a walk. */
  pack(low: number, high: number): number {
    let rights = this.#always;
    for (const mask of this.#masks) {
      if (((low & mask.low) | (high & mask.high)) !== 0) rights |= mask.right;
    }
    return rights;
  }
}

/** The rights of a mapping as its interface spells them. */
export const unpackRights = (rights: number) => ({
  writable: (rights & WRITABLE) !== 0,
  user: (rights & USER) !== 0,
  executable: (rights & EXECUTABLE) !== 0,
});
