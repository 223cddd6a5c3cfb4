import { viewOf } from "../../core/bytes.ts";
import { CorruptError } from "../../core/errors.ts";
import { decodeHuffman, type HuffmanTable, readHuffmanTable } from "./huffman.ts";

/** The literals section of a block: sizes from its header, and where the content starts. */
interface LiteralsHeader {
  readonly type: number;
  readonly streams: 1 | 4;
  readonly regenerated: number;
  readonly compressed: number;
  readonly content: number;
}

const RAW = 0;
const RLE = 1;
const TREELESS = 3;

/** Decodes literals sections; keeps the Huffman table that a Treeless_Literals_Block reuses. */
export class LiteralsDecoder {
  readonly #target: Buffer;
  #table: HuffmanTable | undefined;

  /** @param target receives the literals; its length is the most a block may have */
  constructor(target: Buffer) {
    this.#target = target;
  }

  /** Forgets the table of the frame before. */
  reset(): void {
    this.#table = undefined;
  }

  /**
   * Decodes the section at the start of bytes [start, end) (RFC 8878 §3.1.1.3.1).
   * @returns the number of literals and the offset behind the section
   * @throws CorruptError
   */
  decode(bytes: Buffer, start: number, end: number): { readonly count: number; readonly end: number } {
    const header = readHeader(bytes, start);
    const { type, regenerated, content } = header;
    const stored = type === RAW ? regenerated : type === RLE ? 1 : header.compressed;
    const behind = content + stored;
    if (behind > end || regenerated > this.#target.length) throw damaged();
    if (type === RAW) bytes.copy(this.#target, 0, content, behind);
    else if (type === RLE) this.#target.fill(bytes[content]!, 0, regenerated);
    else this.#decodeStreams(bytes, header, behind);
    return { count: regenerated, end: behind };
  }

  #decodeStreams(bytes: Buffer, header: LiteralsHeader, end: number): void {
    let start = header.content;
    if (header.type !== TREELESS) {
      const tree = readHuffmanTable(bytes, start, end);
      this.#table = tree.table;
      start = tree.end;
    }
    const table = this.#table;
    if (table === undefined) throw damaged();
    const view = viewOf(bytes);
    if (header.streams === 1) {
      decodeHuffman(table, bytes, view, start, end, this.#target, 0, header.regenerated);
      return;
    }
    // A jump table of three sizes; the fourth stream takes the rest.
    let from = start + 6;
    const share = (header.regenerated + 3) >> 2;
    for (let i = 0; i < 4; i++) {
      const to = i === 3 ? end : from + bytes[start + 2 * i]! + bytes[start + 2 * i + 1]! * 256;
      const last = i === 3 ? header.regenerated : share * (i + 1);
      if (from > end || to > end || last > header.regenerated) throw damaged();
      decodeHuffman(table, bytes, view, from, to, this.#target, share * i, last);
      from = to;
    }
  }
}

function readHeader(bytes: Buffer, at: number): LiteralsHeader {
  const first = bytes[at]!;
  const type = first & 3;
  const format = (first >> 2) & 3;
  if (type === RAW || type === RLE) {
    // Size formats 0 and 2 are one: the size takes the bit as well.
    const size = format === 1 ? 2 : format === 3 ? 3 : 1;
    const regenerated = size === 1 ? first >> 3 : bytes.readUIntLE(at, size) >> 4;
    return { type, streams: 1, regenerated, compressed: 0, content: at + size };
  }
  const size = format === 3 ? 5 : format === 2 ? 4 : 3;
  const bits = format === 3 ? 18 : format === 2 ? 14 : 10;
  const sizes = Math.floor(bytes.readUIntLE(at, size) / 16);
  return {
    type,
    streams: format === 0 ? 1 : 4,
    regenerated: sizes % 2 ** bits,
    compressed: Math.floor(sizes / 2 ** bits),
    content: at + size,
  };
}

const damaged = (): CorruptError => new CorruptError("zstd: a literals section is invalid");
