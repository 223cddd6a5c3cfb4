import { CorruptError } from "../../core/errors.ts";
import { BackwardBits } from "./bits.ts";
import { type FseTable, fseTable, readFseTable, rleTable } from "./fse.ts";

/** A block regenerates at most this many bytes (RFC 8878 §3.1.1.2.4). */
export const MAX_BLOCK_SIZE = 128 * 1024;
const MIN_MATCH = 3;
const MAX_SEQUENCES = Math.floor(MAX_BLOCK_SIZE / MIN_MATCH);

/** One of the three alphabets of a sequence: RFC 8878 §3.1.1.3.2.1 and Appendix A. */
interface Alphabet {
  readonly symbols: number;
  readonly maxAccuracyLog: number;
  readonly predefined: FseTable;
}

const LITERAL_LENGTHS: Alphabet = {
  symbols: 36,
  maxAccuracyLog: 9,
  predefined: fseTable(
    [
      4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1,
      -1, -1,
    ],
    6,
  ),
};
const OFFSETS: Alphabet = {
  symbols: 32,
  maxAccuracyLog: 8,
  predefined: fseTable(
    [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1],
    5,
  ),
};
const MATCH_LENGTHS: Alphabet = {
  symbols: 53,
  maxAccuracyLog: 9,
  predefined: fseTable(
    [
      1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
      1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
    6,
  ),
};

/** Extra bits of each length code, and from them the first length of each code. */
const LITERAL_BITS = Uint8Array.of(
  ...zeros(16),
  1,
  1,
  1,
  1,
  2,
  2,
  3,
  3,
  4,
  6,
  7,
  8,
  9,
  10,
  11,
  12,
  13,
  14,
  15,
  16,
);
const MATCH_BITS = Uint8Array.of(
  ...zeros(32),
  1,
  1,
  1,
  1,
  2,
  2,
  3,
  3,
  4,
  4,
  5,
  7,
  8,
  9,
  10,
  11,
  12,
  13,
  14,
  15,
  16,
);
/** Offset code c stands for 2^c plus c extra bits. */
const OFFSET_BASE = Float64Array.from({ length: 32 }, (_, code) => 2 ** code);
const LITERAL_BASE = baselines(LITERAL_BITS, 0);
const MATCH_BASE = baselines(MATCH_BITS, MIN_MATCH);

function zeros(count: number): number[] {
  return new Array<number>(count).fill(0);
}

function baselines(bits: Uint8Array, first: number): Uint32Array {
  const base = new Uint32Array(bits.length);
  let next = first;
  for (let code = 0; code < bits.length; code++) {
    base[code] = next;
    next += 2 ** bits[code]!;
  }
  return base;
}

/** Decodes sequences sections into columns; keeps the tables that Repeat_Mode reuses and the recent offsets. */
export class SequencesDecoder {
  readonly literalLength = new Uint32Array(MAX_SEQUENCES);
  readonly matchLength = new Uint32Array(MAX_SEQUENCES);
  readonly offset = new Uint32Array(MAX_SEQUENCES);
  readonly #bits: BackwardBits;
  readonly #bytes: Uint8Array;
  readonly #recent = new Uint32Array(3);
  #tables: (FseTable | undefined)[] = [];

  /** @param bytes the block, with the margin of BackwardBits */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#bits = new BackwardBits(bytes);
    this.reset();
  }

  /** Start of a frame. */
  reset(): void {
    this.#recent.set([1, 4, 8]);
    this.#tables = [];
  }

  /**
   * Decodes the section in bytes [start, end) (RFC 8878 §3.1.1.3.2).
   * @returns how many sequences there are; offsets are distances, resolved from repeated ones
   * @throws CorruptError
   */
  decode(start: number, end: number): number {
    const { count, behind } = this.#count(start, end);
    if (count === 0) {
      if (behind !== end) throw damaged();
      return 0;
    }
    const modes = this.#bytes[behind]!;
    if (behind >= end || (modes & 3) !== 0) throw damaged();
    let at = behind + 1;
    at = this.#table(0, LITERAL_LENGTHS, modes >> 6, at, end);
    at = this.#table(1, OFFSETS, (modes >> 4) & 3, at, end);
    at = this.#table(2, MATCH_LENGTHS, (modes >> 2) & 3, at, end);
    if (!this.#bits.open(at, end)) throw damaged();
    this.#decodeColumns(count);
    return count;
  }

  #count(start: number, end: number): { count: number; behind: number } {
    const [first, second, third] = [this.#bytes[start]!, this.#bytes[start + 1]!, this.#bytes[start + 2]!];
    const size = first < 128 ? 1 : first < 255 ? 2 : 3;
    const count =
      size === 1 ? first : size === 2 ? (first - 128) * 256 + second : second + third * 256 + 0x7f00;
    if (start + size > end || count > MAX_SEQUENCES) throw damaged();
    return { count, behind: start + size };
  }

  /** Takes over the table of one alphabet by its compression mode and returns the offset behind its description. */
  #table(index: number, alphabet: Alphabet, mode: number, at: number, end: number): number {
    if (mode === 0) this.#tables[index] = alphabet.predefined;
    else if (mode === 1) {
      if (at >= end || this.#bytes[at]! >= alphabet.symbols) throw damaged();
      this.#tables[index] = rleTable(this.#bytes[at]!);
      return at + 1;
    } else if (mode === 2) {
      const read = readFseTable(this.#bytes, at, end, alphabet.maxAccuracyLog, alphabet.symbols);
      this.#tables[index] = read.table;
      return read.end;
    } else if (this.#tables[index] === undefined) throw damaged();
    return at;
  }

  #decodeColumns(count: number): void {
    const bits = this.#bits;
    const [literals, offsets, matches] = this.#tables as [FseTable, FseTable, FseTable];
    let literalState = bits.read(literals.accuracyLog);
    let offsetState = bits.read(offsets.accuracyLog);
    let matchState = bits.read(matches.accuracyLog);
    for (let i = 0; i < count; i++) {
      const offsetCode = offsets.symbol[offsetState]!;
      const matchCode = matches.symbol[matchState]!;
      const literalCode = literals.symbol[literalState]!;
      const offsetValue = OFFSET_BASE[offsetCode]! + bits.readLong(offsetCode);
      this.matchLength[i] = MATCH_BASE[matchCode]! + bits.read(MATCH_BITS[matchCode]!);
      const literalLength = LITERAL_BASE[literalCode]! + bits.read(LITERAL_BITS[literalCode]!);
      this.literalLength[i] = literalLength;
      this.offset[i] = this.#distance(offsetValue, literalLength);
      if (i + 1 < count) {
        literalState = literals.baseline[literalState]! + bits.read(literals.bitCount[literalState]!);
        matchState = matches.baseline[matchState]! + bits.read(matches.bitCount[matchState]!);
        offsetState = offsets.baseline[offsetState]! + bits.read(offsets.bitCount[offsetState]!);
      }
      if (bits.left < 0) throw damaged();
    }
    if (bits.left !== 0) throw damaged();
  }

  /** Resolves an Offset_Value: above 3 a new distance, else one of the recent ones (RFC 8878 §3.1.1.5). */
  #distance(value: number, literalLength: number): number {
    const recent = this.#recent;
    if (value > 3) {
      recent[2] = recent[1]!;
      recent[1] = recent[0]!;
      recent[0] = value - 3;
      return value - 3;
    }
    const index = literalLength === 0 ? value : value - 1;
    if (index === 0) return recent[0]!;
    // A distance of zero is invalid; the copier refuses it.
    const distance = index === 3 ? recent[0]! - 1 : recent[index]!;
    if (index > 1) recent[2] = recent[1]!;
    recent[1] = recent[0]!;
    recent[0] = distance;
    return distance;
  }
}

const damaged = (): CorruptError => new CorruptError("zstd: a sequences section is invalid");
