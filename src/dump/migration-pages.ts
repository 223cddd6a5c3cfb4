import { PAGE_SIZE } from "../core/address.ts";
import { UnsupportedError } from "../core/errors.ts";

/** How a page is in the stream: its bytes, a zlib stream behind its length, one byte it is filled with, a delta. */
export type PageKind = "raw" | "zlib" | "fill" | "delta";

/** Where the last copy of a page is. */
export interface PagePlace {
  readonly kind: PageKind;
  /** Offset in the source; of a delta, in the table of deltas. */
  readonly offset: number;
}

/** What is known of a page before its bytes are looked at. */
export type PagePresence = "present" | "zero" | "absent";

/** Where a RAMBlock's pages are. */
export interface PageMap {
  /** Of a page below the block's end. */
  presence(page: number): PagePresence;
  /** The first page from `page` on, below `limit`, that is known otherwise than `page`. */
  runEnd(page: number, limit: number): number;
  /** Of a page that is present. */
  placeOf(page: number): PagePlace;
  /** Offset of the block's first page, where all lie raw and in order. */
  readonly contiguousAt?: number | undefined;
}

/** Guest pages whose places are kept together: 2 MiB. */
const GROUP = 512;
/** Bytes of the header of a page's item in the stream that continues a RAMBlock, and of such an item of zeros. */
const HEADER = 8;
const ZERO_ITEM = HEADER + 1;
const PAGE_ITEM = HEADER + PAGE_SIZE;

/** Of a place, offset · kinds + kind: 16-bit words of it, least significant first. */
const WORDS = 3;
const WORD = 2 ** 16;
/** 112 GiB of which every page has a place of its own: 168 MiB. */
const MAX_SCATTERED = 57_344;

const KINDS: readonly PageKind[] = ["raw", "zlib", "fill", "delta"];
const KIND_COUNT = KINDS.length;

/**
 * Where the pages of one RAMBlock are in a migration stream. Pages are sent in order but for those that were written
 * to meanwhile, so a group that came in one piece needs its first offset only: the rest follows from which of its pages
 * are zeros. Other groups have an offset for each page. A guest of 64 GiB that was paused takes some 5 MiB, one that
 * changed every page while it was sent 100 MiB.
 */
export class PageIndex implements PageMap {
  readonly pages: number;
  /** Bit by page: something came for it; and that was zeros. */
  readonly #sent: Uint32Array;
  readonly #zero: Uint32Array;
  /** By group in one piece: offset of its first item's header; 0 while it has none. */
  readonly #starts: Float64Array;
  /** By other group: a place for each page, 0 where there is none. */
  readonly #scattered = new Map<number, Uint16Array>();
  readonly #budget: { scattered: number };
  /** The group that items are being added to in one piece, the page and the offset that come next. */
  #open = -1;
  #nextPage = 0;
  #nextOffset = 0;

  /** @param budget shared by the blocks of a stream */
  constructor(pages: number, budget: { scattered: number }) {
    this.pages = pages;
    this.#sent = new Uint32Array(Math.ceil(pages / 32));
    this.#zero = new Uint32Array(Math.ceil(pages / 32));
    this.#starts = new Float64Array(Math.ceil(pages / GROUP));
    this.#budget = budget;
  }

  /** A page of zeros; `offset` is where its fill byte is. */
  addZero(page: number, offset: number): void {
    this.#addItem(page, offset, ZERO_ITEM);
    setBit(this.#sent, page);
    setBit(this.#zero, page);
  }

  /** The bytes of a page. */
  addRaw(page: number, offset: number): void {
    this.#addItem(page, offset, PAGE_ITEM);
    this.#addPlace(page, 0, offset);
  }

  /** A page in any other form. */
  addPacked(page: number, kind: Exclude<PageKind, "raw">, offset: number): void {
    this.#scatter(Math.floor(page / GROUP));
    this.#addPlace(page, KINDS.indexOf(kind), offset);
  }

  /** Forgets a page: what came for it last cannot be read. */
  drop(page: number): void {
    this.#scatter(Math.floor(page / GROUP));
    clearBit(this.#sent, page);
    clearBit(this.#zero, page);
  }

  presence(page: number): PagePresence {
    if (!hasBit(this.#sent, page)) return "absent";
    return hasBit(this.#zero, page) ? "zero" : "present";
  }

  runEnd(page: number, limit: number): number {
    const sent = hasBit(this.#sent, page);
    const zero = hasBit(this.#zero, page);
    let end = page + 1;
    while (end < limit) {
      const word = end >>> 5;
      // Whole words at a time.
      if (end % 32 === 0 && end + 32 <= limit && this.#isUniform(word, sent, zero)) end += 32;
      else if (hasBit(this.#sent, end) === sent && hasBit(this.#zero, end) === zero) end++;
      else break;
    }
    return end;
  }

  placeOf(page: number): PagePlace {
    const group = Math.floor(page / GROUP);
    const places = this.#scattered.get(group);
    const place = places === undefined ? this.#orderedPlace(page, group) : placeIn(places, page % GROUP);
    return { kind: KINDS[place % KIND_COUNT]!, offset: Math.floor(place / KIND_COUNT) };
  }

  #isUniform(word: number, sent: boolean, zero: boolean): boolean {
    return this.#sent[word] === (sent ? ALL : 0) && this.#zero[word] === (zero ? ALL : 0);
  }

  /** An item that may be the next of a group in one piece; otherwise the group is taken apart. */
  #addItem(page: number, offset: number, size: number): void {
    const group = Math.floor(page / GROUP);
    if (this.#scattered.has(group)) return;
    const header = offset - HEADER;
    if (this.#starts[group] === 0) this.#starts[group] = header;
    else if (group !== this.#open || page < this.#nextPage || header !== this.#nextOffset) {
      this.#scatter(group);
      return;
    }
    this.#open = group;
    this.#nextPage = page + 1;
    this.#nextOffset = header + size;
  }

  #addPlace(page: number, kind: number, offset: number): void {
    setBit(this.#sent, page);
    clearBit(this.#zero, page);
    const places = this.#scattered.get(Math.floor(page / GROUP));
    if (places !== undefined) putPlace(places, page % GROUP, offset * KIND_COUNT + kind);
  }

  /** Gives each page of a group a place of its own. */
  #scatter(group: number): void {
    if (this.#scattered.has(group)) return;
    if (--this.#budget.scattered < 0) {
      throw new UnsupportedError(
        "the stream's pages are in too many places: too many were sent more than once",
        {
          hint: "pause the guest before its state is saved: virsh save does, and virsh dump without --live",
        },
      );
    }
    const places = new Uint16Array(GROUP * WORDS);
    this.#scattered.set(group, places);
    if (this.#starts[group] === 0) return;
    const first = group * GROUP;
    const end = Math.min(first + GROUP, this.pages);
    let header = this.#starts[group]!;
    for (let page = first; page < end; page++) {
      if (!hasBit(this.#sent, page)) continue;
      const isZero = hasBit(this.#zero, page);
      if (!isZero) putPlace(places, page % GROUP, (header + HEADER) * KIND_COUNT);
      header += isZero ? ZERO_ITEM : PAGE_ITEM;
    }
  }

  #orderedPlace(page: number, group: number): number {
    let header = this.#starts[group]!;
    const first = group * GROUP;
    for (let word = first >>> 5; word <= page >>> 5; word++) {
      // Of the last word the pages below `page`.
      const mask = word === page >>> 5 ? 2 ** (page % 32) - 1 : ALL;
      const sent = this.#sent[word]! & mask;
      const zeros = bitCount(this.#zero[word]! & mask);
      header += zeros * ZERO_ITEM + (bitCount(sent) - zeros) * PAGE_ITEM;
    }
    return (header + HEADER) * KIND_COUNT;
  }
}

const placeIn = (places: Uint16Array, page: number): number =>
  places[WORDS * page]! + places[WORDS * page + 1]! * WORD + places[WORDS * page + 2]! * WORD ** 2;

function putPlace(places: Uint16Array, page: number, place: number): void {
  places[WORDS * page] = place % WORD;
  places[WORDS * page + 1] = Math.floor(place / WORD) % WORD;
  places[WORDS * page + 2] = Math.floor(place / WORD ** 2);
}

/** Offsets must be below: what a place has room for. */
export const MAX_OFFSET: number = WORD ** WORDS / KIND_COUNT;

/** The budget that the blocks of a stream share. */
export const scatteredBudget = (): { scattered: number } => ({ scattered: MAX_SCATTERED });

const ALL = 0xffff_ffff;

const hasBit = (bits: Uint32Array, page: number): boolean =>
  ((bits[Math.floor(page / 32)]! >>> (page % 32)) & 1) === 1;

function setBit(bits: Uint32Array, page: number): void {
  bits[Math.floor(page / 32)]! |= 1 << (page % 32);
}

function clearBit(bits: Uint32Array, page: number): void {
  bits[Math.floor(page / 32)]! &= ~(1 << (page % 32));
}

/** Bits set in a word (Warren, Hacker's Delight §5-1). */
function bitCount(word: number): number {
  const pairs = word - ((word >>> 1) & 0x5555_5555);
  const nibbles = (pairs & 0x3333_3333) + ((pairs >>> 2) & 0x3333_3333);
  return Math.imul((nibbles + (nibbles >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}
