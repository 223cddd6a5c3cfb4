import { alignDown, PAGE_SIZE } from "../core/address.ts";
import { CorruptError, UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import { type MappedBlock, MappedPages, readMappedHeader } from "./migration-mapped.ts";
import { PageIndex, type PageMap, type PagePlace, scatteredBudget } from "./migration-pages.ts";
import type { StreamReader } from "./migration-reader.ts";

/** Memory that QEMU sends under a name. */
export interface RamBlock {
  /** As in the stream: "pc.ram", "0000:00:02.0/vga.vram", "/rom@etc/acpi/tables". */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly pages: PageMap;
  /** Whether the stream may have left it out, because other processes share it (x-ignore-shared). */
  readonly ignorable: boolean;
}

/** A page that was sent as its difference from the copy before. */
export interface Delta {
  /** Undefined for zeros. */
  readonly before: PagePlace | undefined;
  /** How many differences lead to the page. */
  readonly depth: number;
  /** Of the encoded bytes. */
  readonly offset: number;
  readonly length: number;
}

/** What the capabilities of a migration change in the list of blocks (QEMU `migration/ram.c` ram_save_setup). */
export interface RamFlavour {
  readonly mappedRam: boolean;
  readonly ignoreShared: boolean;
  /** Blocks of large pages tell their size. */
  readonly postcopy: boolean;
}

/** What the sections brought. */
export interface RamContents {
  readonly blocks: readonly RamBlock[];
  readonly deltas: readonly Delta[];
  /** Pages whose last copy could not be taken: differences from nothing, or too many of them. */
  readonly lost: number;
  /** Whether other channels carried pages, which are not in the stream. */
  readonly multifd: boolean;
  /** Pages that came in the stream. */
  readonly items: number;
}

/** RAM_SAVE_FLAG_* of QEMU `migration/ram.h`. */
const ZERO = 0x02;
const MEM_SIZE = 0x04;
const PAGE = 0x08;
const EOS = 0x10;
const CONTINUE = 0x20;
const XBZRLE = 0x40;
const COMPRESS_PAGE = 0x100;
const MULTIFD_FLUSH = 0x200;
const OF_PAGE = ZERO | PAGE | XBZRLE | COMPRESS_PAGE;

/** ENCODING_FLAG_XBZRLE. */
const XBZRLE_ENCODED = 1;
/** compressBound() of zlib for a page, and room to spare. */
const MAX_COMPRESSED = PAGE_SIZE + 64;

/** 4 TiB: two bits are kept of each page. */
const MAX_RAM = 2 ** 42;
const MAX_BLOCKS = 4096;
/** Differences kept, some 60 MiB of memory, and of one page. */
const MAX_DELTAS = 2 ** 19;
const MAX_CHAIN = 1024;

/** Items between two looks at signals: 256 MiB of pages, or 600 KiB of zeros. */
const CHECKPOINT_ITEMS = 65_536;

interface Block {
  readonly name: string;
  readonly size: number;
  /** Pages that came in the stream. */
  readonly index: PageIndex;
  readonly mapped: MappedBlock | undefined;
}

/** The sections "ram" of a stream, version 4, in their order. */
export class RamSections {
  readonly #flavour: RamFlavour;
  readonly #checkpoint: JobContext["checkpoint"] | undefined;
  readonly #budget = scatteredBudget();
  readonly #blocks = new Map<string, Block>();
  readonly #deltas: Delta[] = [];
  #current: Block | undefined;
  #announced = 0;
  #lost = 0;
  #items = 0;
  #multifd = false;

  constructor(flavour: RamFlavour, checkpoint: JobContext["checkpoint"] | undefined) {
    this.#flavour = flavour;
    this.#checkpoint = checkpoint;
  }

  /**
   * Reads the items of one section, up to its end mark.
   * @throws StreamEnd when the stream ends before
   * @throws CorruptError for what is no item, or of no block
   * @throws UnsupportedError for more memory than is read, or in more places
   */
  async read(reader: StreamReader): Promise<void> {
    for (let n = 1; ; n++) {
      if (n % CHECKPOINT_ITEMS === 0) await this.#checkpoint?.();
      const at = reader.position;
      const high = reader.u32();
      const low = reader.u32();
      const flags = low % PAGE_SIZE;
      const address = high * 2 ** 32 + alignDown(low, PAGE_SIZE);
      if ((flags & OF_PAGE) !== 0) this.#readPage(reader, address, flags, at);
      else if (flags === MEM_SIZE) this.#readBlocks(reader, address, at);
      else if (flags === MULTIFD_FLUSH) this.#multifd = true;
      else if (flags === EOS) return;
      else throw noItem(flags, at);
    }
  }

  /** @param whole whether the sections came to their end */
  contents(source: ByteSource, whole: boolean): RamContents {
    const blocks = [...this.#blocks.values()].map(({ name, size, index, mapped }): RamBlock => {
      const pages = mapped === undefined ? index : new MappedPages(source, mapped, index.pages, whole);
      return { name, size, pages, ignorable: this.#flavour.ignoreShared && mapped === undefined };
    });
    const [deltas, lost, items] = [this.#deltas, this.#lost, this.#items];
    // With mapped-ram they write to the same file.
    const multifd = this.#multifd && !this.#flavour.mappedRam;
    return { blocks, deltas, lost, items, multifd };
  }

  #readPage(reader: StreamReader, address: number, flags: number, at: number): void {
    const { index } = this.#blockOf(reader, flags, at);
    const page = address / PAGE_SIZE;
    if (!(page < index.pages)) {
      throw new CorruptError("a page lies beyond the end of its RAMBlock", { where: { offset: at } });
    }
    const offset = reader.position;
    switch (flags & ~CONTINUE) {
      case ZERO:
        if (reader.u8() === 0) index.addZero(page, offset);
        else index.addPacked(page, "fill", offset);
        break;
      case PAGE:
        reader.skip(PAGE_SIZE);
        index.addRaw(page, offset);
        break;
      case COMPRESS_PAGE:
        reader.skip(lengthOf(reader.u32(), MAX_COMPRESSED, at));
        index.addPacked(page, "zlib", offset);
        break;
      case XBZRLE:
        this.#readDelta(reader, index, page, at);
        break;
      default:
        throw noItem(flags, at);
    }
    this.#items++;
  }

  #readDelta(reader: StreamReader, index: PageIndex, page: number, at: number): void {
    if (reader.u8() !== XBZRLE_ENCODED) throw noItem(XBZRLE, at);
    const length = lengthOf(reader.u16(), PAGE_SIZE, at);
    const offset = reader.position;
    reader.skip(length);
    const presence = index.presence(page);
    const before = presence === "present" ? index.placeOf(page) : undefined;
    const depth = before?.kind === "delta" ? this.#deltas[before.offset]!.depth + 1 : 1;
    if (presence === "absent" || depth > MAX_CHAIN || this.#deltas.length === MAX_DELTAS) {
      this.#lost++;
      index.drop(page);
      return;
    }
    index.addPacked(page, "delta", this.#deltas.push({ before, depth, offset, length }) - 1);
  }

  /** The block an item is of: named, or that of the item before. */
  #blockOf(reader: StreamReader, flags: number, at: number): Block {
    if ((flags & CONTINUE) === 0) this.#current = this.#blocks.get(reader.text());
    if (this.#current !== undefined) return this.#current;
    throw new CorruptError("a page is of a RAMBlock that was not announced", { where: { offset: at } });
  }

  #readBlocks(reader: StreamReader, total: number, at: number): void {
    for (let left = total; left > 0; ) {
      const name = reader.text();
      const size = reader.u64();
      if (!(size > 0 && size <= left) || size % PAGE_SIZE !== 0 || this.#blocks.size === MAX_BLOCKS) {
        throw new CorruptError("the list of RAMBlocks does not add up", { where: { offset: at } });
      }
      left -= size;
      this.#readBlock(reader, name, size);
    }
  }

  #readBlock(reader: StreamReader, name: string, size: number): void {
    const { mappedRam, ignoreShared, postcopy } = this.#flavour;
    if (postcopy && isLargePage(reader)) reader.skip(8);
    if (ignoreShared) reader.skip(8);
    const mapped = mappedRam ? readMappedHeader(reader, size) : undefined;
    // Told again when the size of a block changed: what came before still holds.
    if (this.#blocks.get(name)?.size === size) return;
    this.#announced += size;
    if (this.#announced > MAX_RAM) {
      throw new UnsupportedError("the stream is of a machine with more than 4 TiB of memory");
    }
    const index = new PageIndex(size / PAGE_SIZE, this.#budget);
    this.#blocks.set(name, { name, size, index, mapped });
  }
}

/**
 * Whether the size of a block's pages comes next: a power of two above 4 KiB in 64 bits. A further block begins with the
 * length of its name, which is not 0, and the end mark is less.
 */
function isLargePage(reader: StreamReader): boolean {
  const next = reader.lookAhead(8);
  if (next.length < 8) return false;
  const size = next.readUInt32BE(0) === 0 ? next.readUInt32BE(4) : 0;
  return size > PAGE_SIZE && Number.isInteger(Math.log2(size));
}

function lengthOf(length: number, limit: number, at: number): number {
  if (length <= limit) return length;
  throw new CorruptError("a compressed page is longer than a page", { where: { offset: at } });
}

/** RAM_SAVE_FLAG_HOOK of RDMA is among them: it cannot be in a file. */
const noItem = (flags: number, at: number): CorruptError =>
  new CorruptError(`the memory section has an item with the unknown flags 0x${flags.toString(16)}`, {
    where: { offset: at },
  });
