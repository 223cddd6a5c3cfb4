import { packers, unpackers } from "../codec/pages.ts";
import type { PackedBlock, PageStorage } from "../core/memory.ts";

const CODECS: readonly PageStorage[] = ["none", "zlib", "lzo", "snappy", "zstd"];

/** Bytes of pages in a batch; a whole number of blocks of any size up to 64 KiB. */
const BATCH_BYTES = 1 << 20;
const MAX_PAGES = BATCH_BYTES / 4096;

/** What is done to each page of a batch, the same for all. */
export interface PageJob {
  readonly kind: "pack" | "unpack";
  /** What to pack with; a page that is unpacked says it itself. */
  readonly codec: PageStorage;
  /** Bytes of a page, at most 64 KiB. */
  readonly pageSize: number;
}

/** Memory of one batch, shared by all threads. */
export class BatchBuffers {
  readonly shared: SharedArrayBuffer;
  readonly input: Buffer;
  readonly output: Buffer;
  /** Per page: where its packed bytes are (in `input` to unpack), how many, how they are packed, whether it went well. */
  readonly at: Int32Array;
  readonly size: Int32Array;
  readonly #codec: Uint8Array;
  readonly ok: Uint8Array;

  constructor(shared: SharedArrayBuffer = new SharedArrayBuffer(2 * BATCH_BYTES + 10 * MAX_PAGES)) {
    this.shared = shared;
    this.input = Buffer.from(shared, 0, BATCH_BYTES);
    this.output = Buffer.from(shared, BATCH_BYTES, BATCH_BYTES);
    let offset = 2 * BATCH_BYTES;
    const next = (bytes: number) => {
      offset += bytes;
      return offset - bytes;
    };
    this.at = new Int32Array(shared, next(4 * MAX_PAGES), MAX_PAGES);
    this.size = new Int32Array(shared, next(4 * MAX_PAGES), MAX_PAGES);
    this.#codec = new Uint8Array(shared, next(MAX_PAGES), MAX_PAGES);
    this.ok = new Uint8Array(shared, next(MAX_PAGES), MAX_PAGES);
  }

  codecOf(page: number): PageStorage {
    return CODECS[this.#codec[page]!]!;
  }

  /** Says of a page how it is packed, and that its bytes are in `input` at `at`. */
  describe(page: number, at: number, { size, codec }: Pick<PackedBlock, "codec" | "size">): void {
    this.at[page] = at;
    this.size[page] = size;
    this.#codec[page] = CODECS.indexOf(codec);
  }
}

/** Whether this machine can pack with a codec. */
export const canPack = (codec: PageStorage): boolean => codec === "none" || packers[codec] !== undefined;

/** Pages of one size that a batch holds. */
export const pagesInBatch = (pageSize: number): number => BATCH_BYTES / pageSize;

/**
 * Packs or unpacks the first `count` pages of a batch. Page i of `input` is packed to `output` at the same place, with its
 * size and codec in the table, as it is where it does not become shorter. Packed bytes that the table names are unpacked
 * to page i of `output`; `ok` says whether a whole page came out.
 */
export function runPageJob({ kind, codec, pageSize }: PageJob, batch: BatchBuffers, count: number): void {
  if (kind === "pack") for (let page = 0; page < count; page++) packPage(batch, page, codec, pageSize);
  else for (let page = 0; page < count; page++) unpackPage(batch, page, pageSize);
}

function packPage(batch: BatchBuffers, page: number, codec: PageStorage, pageSize: number): void {
  const at = page * pageSize;
  const input = batch.input.subarray(at, at + pageSize);
  // One byte less: what does not become shorter is stored as it is.
  const room = batch.output.subarray(at, at + pageSize - 1);
  const packed = codec === "none" ? undefined : packers[codec]!(input, room);
  if (packed === undefined) input.copy(batch.output, at);
  batch.describe(page, at, { size: packed ?? pageSize, codec: packed === undefined ? "none" : codec });
}

function unpackPage(batch: BatchBuffers, page: number, pageSize: number): void {
  const at = batch.at[page]!;
  const packed = batch.input.subarray(at, at + batch.size[page]!);
  const target = batch.output.subarray(page * pageSize, (page + 1) * pageSize);
  const codec = batch.codecOf(page);
  const size = codec === "none" ? packed.copy(target) : unpackers[codec](packed, target);
  batch.ok[page] = size === pageSize ? 1 : 0;
}
