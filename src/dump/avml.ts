import { u64, viewOf } from "../core/bytes.ts";
import { CorruptError, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";
import { hex } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { EM_X86_64 } from "../elf/constants.ts";
import { ChunkIndex } from "./avml-index.ts";
import { type AvmlBlock, AvmlMemory, CHUNK_SIZE } from "./avml-memory.ts";
import { type DumpFiles, type DumpFormat, hasMagic, type MachineDump } from "./format.ts";
import { LIME_HEADER_SIZE, MAX_LIME_RANGES, readLimeHeader } from "./lime-header.ts";

const MAGIC = "AVML";
/** Headers of chunks between two checkpoints. */
const CHECKPOINT = 4096;

/**
 * Compressed images of AVML (`src/image.rs`, `src/io/snappy.rs`): blocks of memory, each a LiME header, a stream in
 * snappy's framing format and the stream's length. AVML leaves out blocks that are all zeros and does not say so: what
 * no block has counts as not there.
 */
export const AVML: DumpFormat = {
  name: "avml",
  matches: (source) => hasMagic(source, MAGIC),
  open: openAvml,
};

async function openAvml(source: ByteSource, { checkpoint }: DumpFiles): Promise<MachineDump> {
  const index = new ChunkIndex();
  const blocks: AvmlBlock[] = [];
  const warnings: Warning[] = [];
  for (let offset = 0; offset < source.size; ) {
    const range = rangeAt(source, offset);
    if (range === undefined || blocks.length === MAX_LIME_RANGES) {
      warnings.push(damaged(offset));
      break;
    }
    const first = index.count;
    const stream = new BlockWalk(source, offset + LIME_HEADER_SIZE, range, index);
    for (let n = 1; stream.next(); n++) if (n % CHECKPOINT === 0) await checkpoint?.();
    if (index.count > first) blocks.push({ ...range, known: stream.known, first, last: index.count });
    if (!stream.isWhole()) {
      warnings.push(damaged(stream.offset));
      break;
    }
    offset = stream.offset + 8;
    await checkpoint?.();
  }
  const memory = new AvmlMemory(source, index, ascending(blocks));
  return { memory, notes: [], cpus: [], machine: EM_X86_64, warnings };
}

/**
 * The range of the block at `offset`; undefined where there is none.
 * @throws CorruptError, UnsupportedError when the first is none
 */
function rangeAt(source: ByteSource, offset: number): Range | undefined {
  const header = readLimeHeader(source, offset);
  if (header?.magic === MAGIC && header.version === 2 && header.range !== undefined) return header.range;
  if (offset > 0) return undefined;
  if (header !== undefined && header.version !== 2) {
    throw new UnsupportedError(`an AVML image of version ${header.version}: only version 2 is read`, {
      where: { offset: 4 },
    });
  }
  throw new CorruptError("the first block of the image has no range", { where: { offset: 8 } });
}

/** @throws CorruptError when blocks overlap: AVML joins them first */
function ascending(blocks: readonly AvmlBlock[]): AvmlBlock[] {
  const sorted = [...blocks].sort((a, b) => a.start - b.start);
  for (const [i, { start }] of sorted.entries()) {
    if (i > 0 && sorted[i - 1]!.end > start)
      throw new CorruptError(`two blocks of the image hold the memory at ${hex(start)}`);
  }
  return sorted;
}

const damaged = (offset: number): Warning => ({
  code: "DMP020",
  message: `the image is cut or damaged at offset ${hex(offset)}: what follows is left out`,
  hint: "copy the image again, or take it again",
  where: { offset },
});

/** Kinds of chunks (snappy framing_format.txt §4); 0x02 to 0x7f must be understood, 0x80 and above may be skipped. */
const PACKED = 0;
const RAW = 1;
const FIRST_SKIPPABLE = 0x80;

/** Walks over the chunks of one block's stream without unpacking them. */
class BlockWalk {
  /** Of the next chunk, or of what is none. */
  offset: number;
  /** Address up to which chunks were found. */
  known: number;
  readonly #source: ByteSource;
  readonly #start: number;
  readonly #end: number;
  readonly #index: ChunkIndex;
  /** Header, checksum and the length in front of a packed block. */
  readonly #head = Buffer.alloc(13);

  constructor(source: ByteSource, offset: number, { start, end }: Range, index: ChunkIndex) {
    this.#source = source;
    this.#start = offset;
    this.#end = end;
    this.#index = index;
    this.offset = offset;
    this.known = start;
  }

  /** Takes the next chunk; false when the block is complete, or what comes is no chunk of it. */
  next(): boolean {
    if (this.known === this.#end) return false;
    const got = this.#source.read(this.offset, this.#head);
    const end = this.offset + 4 + this.#head.readUIntLE(1, 3);
    if (got < 4 || end > this.#source.size) return false;
    const kind = this.#head[0]!;
    if (kind === PACKED || kind === RAW) {
      const size = kind === RAW ? end - this.offset - 8 : lengthOf(this.#head.subarray(8, got));
      if (!(size > 0 && size <= CHUNK_SIZE && this.known + size <= this.#end)) return false;
      this.#index.add(this.known, this.offset, size);
      this.known += size;
    } else if (kind < FIRST_SKIPPABLE) return false;
    this.offset = end;
    return true;
  }

  /** Whether the block is complete and the length behind its stream is right. */
  isWhole(): boolean {
    const bytes = Buffer.alloc(8);
    if (this.known < this.#end || this.#source.read(this.offset, bytes) < 8) return false;
    return u64(viewOf(bytes), 0) === this.offset - this.#start;
  }
}

/** The length in front of a snappy block: seven bits a byte, the lowest first; NaN where it is cut or too long. */
function lengthOf(bytes: Uint8Array): number {
  let value = 0;
  for (let at = 0; at < bytes.length; at++) {
    value += (bytes[at]! & 0x7f) * 2 ** (7 * at);
    if (bytes[at]! < 0x80) return value;
  }
  return Number.NaN;
}
