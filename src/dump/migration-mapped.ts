import { PAGE_SIZE } from "../core/address.ts";
import { CorruptError, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { Bitmap } from "./bitmap.ts";
import type { PageMap, PagePlace, PagePresence } from "./migration-pages.ts";
import type { StreamReader } from "./migration-reader.ts";

const VERSION = 1;
const HEADER_SIZE = 28;

/** Where mapped-ram puts a RAMBlock's pages. */
export interface MappedBlock {
  /** Offset of the bitmap of pages that are not zeros. */
  readonly bitmap: number;
  /** Offset of the first page. */
  readonly pages: number;
}

/**
 * Reads struct MappedRamHeader (QEMU `migration/ram.c`, since 9.0; docs/devel/migration/mapped-ram.rst) behind a
 * RAMBlock, and passes the block's pages. Offsets in it are from the start of the file that QEMU wrote; the bitmap
 * follows the header, which tells where that is now.
 * @returns undefined for a block that was left out
 * @throws StreamEnd, CorruptError, UnsupportedError
 */
export function readMappedHeader(reader: StreamReader, size: number): MappedBlock | undefined {
  const at = reader.position;
  const version = reader.u32();
  const pageSize = reader.u64();
  const bitmap = reader.u64();
  const pages = reader.u64();
  if (version !== VERSION || pageSize !== PAGE_SIZE) {
    throw new UnsupportedError(`mapped-ram of version ${version} with pages of ${pageSize} bytes`, {
      where: { offset: at },
    });
  }
  if (bitmap === 0 && pages === 0) return undefined;
  const moved = at + HEADER_SIZE - bitmap;
  if (!(pages >= bitmap + Math.ceil(size / PAGE_SIZE / 8)) || !Number.isSafeInteger(pages + moved + size)) {
    throw new CorruptError("a RAMBlock's pages overlap their bitmap", { where: { offset: at } });
  }
  reader.position = pages + moved + size;
  return { bitmap: bitmap + moved, pages: pages + moved };
}

/**
 * The pages of a RAMBlock at fixed places. QEMU writes the bitmap last: in a file that is not whole, a bit that is clear
 * says nothing.
 */
export class MappedPages implements PageMap {
  readonly contiguousAt: number;
  readonly #bitmap: Bitmap;
  readonly #rest: PagePresence;

  constructor(source: ByteSource, { bitmap, pages }: MappedBlock, count: number, whole: boolean) {
    this.contiguousAt = pages;
    this.#bitmap = Bitmap.plain({ source, offset: bitmap, size: count });
    this.#rest = whole ? "zero" : "absent";
  }

  presence(page: number): PagePresence {
    return this.#bitmap.has(page) ? "present" : this.#rest;
  }

  runEnd(page: number, limit: number): number {
    return this.#bitmap.runAt(page, limit).end;
  }

  placeOf(page: number): PagePlace {
    return { kind: "raw", offset: this.contiguousAt + page * PAGE_SIZE };
  }
}
