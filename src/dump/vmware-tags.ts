import { Parser } from "binary-parser";
import { cString, u64, viewOf } from "../core/bytes.ts";
import { CorruptError, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { plural } from "../core/text.ts";
import { CachedSource } from "../io/cached-source.ts";
import type { DumpFiles } from "./format.ts";

/**
 * VMware's state files (.vmss of a suspended machine, .vmsn of a snapshot): a table of groups, each a chain of named,
 * indexed values. Sources: crash vmware_vmss.h, volatility's vmware address space, illumos mdb_vmss.c.
 */

/** By the first word: written whole, in part, restored once, not to be restored. */
const WIDE_IDS = [0xbed2bed2, 0xbed3bed3, 0xbad1bad1, 0xbed1bed1, 0xbad2bad2];
/** Written before sizes had 64 bits. */
const NARROW_IDS = [0xbed0bed0, 0xbad0bad0];

const HEADER_SIZE = 12;
const GROUP_SIZE = 80;
const GROUP_NAME = 64;
/** State files have about a hundred. */
const MAX_GROUPS = 4096;
/** Values of 1024 vCPUs with room to spare. */
const MAX_TAGS = 1 << 22;
/** Values between two looks at signals. */
const CHECKPOINT = 4096;

const header = new Parser().endianness("little").uint32("id").uint32("version").uint32("groups");

function idOf(source: ByteSource): number {
  const bytes = Buffer.alloc(4);
  return source.read(0, bytes) === bytes.length ? bytes.readUInt32LE(0) : 0;
}

export const isVmwareState = (source: ByteSource): boolean =>
  [...WIDE_IDS, ...NARROW_IDS].includes(idOf(source));

/** Where the values of a group begin, and how many bytes they are by the table. */
export interface VmwareGroup {
  readonly position: number;
  readonly size: number;
}

/**
 * Reads the table of groups, by their names.
 * @throws UnsupportedError for a file of the old kind; CorruptError when the file ends inside the table
 */
export function readGroups(source: ByteSource): ReadonlyMap<string, VmwareGroup> {
  if (NARROW_IDS.includes(idOf(source))) {
    throw new UnsupportedError("a VMware state file with 32-bit sizes, as old products wrote it", {
      hint: "resume the machine in a newer product and suspend it again",
    });
  }
  const bytes = Buffer.alloc(HEADER_SIZE);
  const got = source.read(0, bytes);
  const count = got < HEADER_SIZE ? 0 : (header.parse(bytes) as { groups: number }).groups;
  const table = Buffer.alloc(Math.min(count, MAX_GROUPS) * GROUP_SIZE);
  if (count === 0 || count > MAX_GROUPS || source.read(HEADER_SIZE, table) < table.length) {
    throw new CorruptError(`the header counts ${plural(count, "group")}, which are not in the file`, {
      where: { offset: 8 },
      hint: "the state file is truncated, or damaged at its start",
    });
  }
  const view = viewOf(table);
  const groups = new Map<string, VmwareGroup>();
  for (let at = 0; at < table.length; at += GROUP_SIZE) {
    const name = cString(table, at, GROUP_NAME);
    if (name === undefined || groups.has(name)) continue;
    groups.set(name, { position: u64(view, at + GROUP_NAME), size: u64(view, at + GROUP_SIZE - 8) });
  }
  return groups;
}

/** One value of a group. */
export interface VmwareTag {
  readonly name: string;
  /** Up to three, e.g. the vCPU and the number of a control register. */
  readonly indexes: readonly number[];
  /** Where its bytes are, and how many. */
  readonly offset: number;
  readonly size: number;
  readonly kind: "value" | "block" | "compressed block";
}

const BLOCK = 63;
const COMPRESSED_BLOCK = 62;
/** Sizes in the file and in memory, and of the padding in front of the bytes. */
const BLOCK_HEADER = 18;
/** Two bytes, a name, three indexes, the header of a block. */
const MAX_TAG_HEAD = 2 + 255 + 12 + BLOCK_HEADER;

/** Walks over the values of one group. */
export class TagWalk {
  /** Whether the group's end mark was reached; false when the file ends before, or what follows is no value. */
  whole = false;
  #offset: number;
  #left = MAX_TAGS;
  readonly #source: CachedSource;
  readonly #head = Buffer.alloc(MAX_TAG_HEAD);
  readonly #checkpoint: DumpFiles["checkpoint"];

  constructor(source: ByteSource, position: number, checkpoint: DumpFiles["checkpoint"]) {
    this.#checkpoint = checkpoint;
    this.#source = new CachedSource(source);
    this.#offset = position;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<VmwareTag> {
    for (let tag = this.#next(), n = 1; tag !== undefined; tag = this.#next(), n++) {
      yield tag;
      if (n % CHECKPOINT === 0) await this.#checkpoint?.();
    }
  }

  #next(): VmwareTag | undefined {
    if (!Number.isFinite(this.#offset) || this.#left-- === 0) return undefined;
    const head = this.#head.subarray(0, this.#source.read(this.#offset, this.#head));
    if (head.length < 2) return undefined;
    const [flags, nameLength] = [head[0]!, head[1]!];
    this.whole = flags === 0 && nameLength === 0;
    const indexesAt = 2 + nameLength;
    const at = indexesAt + 4 * (flags >> 6);
    const isBlock = (flags & 63) >= COMPRESSED_BLOCK;
    if (nameLength === 0 || head.length < at + (isBlock ? BLOCK_HEADER : 0)) return undefined;
    const view = viewOf(head);
    const size = isBlock ? u64(view, at) : flags & 63;
    const padding = isBlock ? BLOCK_HEADER + view.getUint16(at + 16, true) : 0;
    const offset = this.#offset + at + padding;
    this.#offset = offset + size;
    return {
      name: head.toString("latin1", 2, indexesAt),
      indexes: Array.from({ length: flags >> 6 }, (_, i) => view.getUint32(indexesAt + 4 * i, true)),
      offset,
      size,
      kind: kindOf(flags & 63),
    };
  }

  /** The bytes of a value, at most `limit` of them; fewer at the end of the file. */
  bytesOf({ offset, size }: VmwareTag, limit: number): Buffer {
    const bytes = Buffer.alloc(Math.min(size, limit));
    return bytes.subarray(0, this.#source.read(offset, bytes));
  }
}

function kindOf(size: number): VmwareTag["kind"] {
  if (size === BLOCK) return "block";
  return size === COMPRESSED_BLOCK ? "compressed block" : "value";
}

/** A number of one, two, four or eight bytes, little-endian; undefined for any other length. */
export function numberOf(bytes: Buffer): bigint | undefined {
  if (bytes.length === 8) return bytes.readBigUInt64LE();
  return [1, 2, 4].includes(bytes.length) ? BigInt(bytes.readUIntLE(0, bytes.length)) : undefined;
}
