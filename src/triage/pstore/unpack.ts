import { unpack842 } from "../../codec/842.ts";
import { inflateBeginning, unpackDeflate } from "../../codec/inflate.ts";
import { unpackLz4 } from "../../codec/lz4.ts";
import { unpackSomeLzo } from "../../codec/lzo.ts";
import type { Unpacked } from "../../codec/unpacked.ts";
import { unpackSomeZstd } from "../../codec/zstd/some.ts";
import { latin1 } from "../../core/bytes.ts";
import { headerOf, looksLikeLog, REASONS } from "./record.ts";

export type Algorithm = "zlib" | "deflate" | "lzo" | "lz4" | "zstd" | "842";

/** Most that a record unpacks to: the largest buffer that pstore makes of one is some 2.3 times as large as the zone. */
export const MAX_UNPACKED = 2 ** 20;

export interface UnpackedRecord extends Unpacked {
  readonly algorithm: Algorithm;
}

interface Candidate {
  readonly algorithm: Algorithm;
  /** Whether the first bytes may be its: what is said for sure only by what comes out. */
  readonly suits: (bytes: Uint8Array) => boolean;
  readonly unpack: (bytes: Uint8Array) => Unpacked;
}

/**
 * In this order. No record says how it was packed: of several algorithms only the right one gives a text that begins as
 * every dump does. zlib: Linux 3.12 to 4.16; deflate, LZO, LZ4, 842 and zstd through the crypto API until 6.5; deflate
 * alone since (fs/pstore/platform.c).
 */
const CANDIDATES: readonly Candidate[] = [
  {
    algorithm: "zstd",
    suits: (bytes) => bytes[0] === 0x28 && bytes[1] === 0xb5 && bytes[2] === 0x2f && bytes[3] === 0xfd,
    unpack: (bytes) => unpackSomeZstd(bytes, MAX_UNPACKED),
  },
  {
    algorithm: "zlib",
    suits: (bytes) => {
      const [first = 0, second = 0] = bytes;
      return (first & 15) === 8 && ((first << 8) | second) % 31 === 0 && mayInflate(bytes, true);
    },
    unpack: (bytes) => unpackDeflate(bytes, true, MAX_UNPACKED),
  },
  {
    algorithm: "lzo",
    // A run of literals, which the first line of a dump is: 0 and its length, its length, or above 17.
    suits: ([first = 0]) => first !== 0x10 && first !== 0x11,
    unpack: (bytes) => unpackSomeLzo(bytes, MAX_UNPACKED),
  },
  {
    algorithm: "lz4",
    suits: ([first = 0]) => first >> 4 >= 1,
    unpack: (bytes) => unpackLz4(bytes, MAX_UNPACKED),
  },
  {
    algorithm: "842",
    // Eight literals: nothing is there yet that an index could find.
    suits: ([first = 0xff]) => first >> 3 === 0,
    unpack: (bytes) => unpack842(bytes, MAX_UNPACKED),
  },
  {
    algorithm: "deflate",
    suits: (bytes) => mayInflate(bytes, false),
    unpack: (bytes) => unpackDeflate(bytes, false, MAX_UNPACKED),
  },
];

/**
 * Unpacks a record by the first algorithm that makes one of it.
 * @param log whether a line of the log will do as the beginning, as in powerpc's NVRAM
 * @param appended whether others may follow it
 * @returns undefined when none does
 */
export function unpackRecord(bytes: Uint8Array, log = false, appended = false): UnpackedRecord | undefined {
  for (const { algorithm, suits, unpack } of CANDIDATES) {
    if (!suits(bytes) || !mayBeLiteral(algorithm, bytes, log)) continue;
    const unpacked = unpack(algorithm === "lz4" && appended ? firstBlock(bytes) : bytes);
    if (headerOf(unpacked.bytes) !== undefined || (log && looksLikeLog(unpacked.bytes))) {
      return { algorithm, ...unpacked };
    }
  }
  return undefined;
}

/** LZO and LZ4 have the first line as it is in their first bytes: looking for it saves unpacking what is not theirs. */
function mayBeLiteral(algorithm: Algorithm, bytes: Uint8Array, log: boolean): boolean {
  if (algorithm !== "lzo" && algorithm !== "lz4") return true;
  const head = latin1(bytes.subarray(0, 64));
  return REASONS.some((reason) => head.includes(reason)) || (log && head.includes("["));
}

/** The first line of a dump, as it stands in the first bytes of an LZ4 block. */
const FIRST_LINE = new RegExp(`(?:${REASONS.join("|")})#\\d{1,9} Part\\d{1,9}\\n`, "g");
/** A token, and what its length of literals goes on in. */
const MAX_TOKEN = 4;
/** Blocks that are tried as the end of the first. */
const MAX_TRIED = 64;

/** An LZ4 block has no end mark: the next one begins with a token and the first line of a dump, behind literals of this. */
function firstBlock(bytes: Uint8Array): Uint8Array {
  const lines = [...latin1(bytes).matchAll(FIRST_LINE)].slice(1, MAX_TRIED);
  for (const { index } of lines) {
    for (let start = index - MAX_TOKEN; start < index; start++) {
      if (start <= 0 || literalsAt(bytes, start) !== index) continue;
      const block = bytes.subarray(0, start);
      if (unpackLz4(block, MAX_UNPACKED).fault === undefined) return block;
    }
  }
  return bytes;
}

/** Where the literals of an LZ4 token begin. */
function literalsAt(bytes: Uint8Array, token: number): number {
  let at = token + 1;
  if (bytes[token]! >> 4 !== 15) return at;
  while (bytes[at] === 255) at++;
  return at + 1;
}

/** Bytes of a stream that tell whether a text comes out: tables of codes take some hundred. */
const PROBES = [512, 128];

/** Whether the beginning of a stream gives that of a dump: most of what is tried is no stream at all. */
function mayInflate(bytes: Uint8Array, wrapped: boolean): boolean {
  return PROBES.some((length) => {
    const head = inflateBeginning(bytes.subarray(0, length), wrapped, MAX_UNPACKED);
    return head !== undefined && (headerOf(head) !== undefined || looksLikeLog(head));
  });
}
