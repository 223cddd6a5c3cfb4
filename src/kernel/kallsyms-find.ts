import { PAGE_SIZE } from "../core/address.ts";
import type { AddressTables } from "./kallsyms-addresses.ts";
import {
  isType,
  type LengthForm,
  lengthAt,
  lengthBytes,
  MAX_COMPRESSED_NAMES,
  MAX_TOKEN_TABLE,
  readTokens,
  TOKEN_INDEX_BYTES,
  type Tokens,
} from "./kallsyms-names.ts";
import type { KernelImage } from "./kernel-image.ts";
import type { KernelReader } from "./reader.ts";
import { MAX_SYMBOLS } from "./symbol-names.ts";

/** Where the tables of kallsyms lie; virtual addresses. */
export interface KallsymsTables {
  readonly tokenTable: bigint;
  readonly tokenIndex: bigint;
  readonly names: bigint;
  readonly count: number;
  /** Where the addresses may be, the likeliest first. */
  readonly addresses: readonly AddressTables[];
}

/** Digits occur in symbols, so each is a token of its own, in the order of ASCII. */
const DIGITS = Buffer.from("0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00", "latin1");
const FIRST_DIGIT = 0x30;
/** How many tokens there are from "0" on. */
const TOKENS_FROM_DIGIT = 256 - FIRST_DIGIT;
/** Labels lie at multiples of it (scripts/kallsyms.c: ALGN). */
const ALIGN = 8;
/** Bytes searched at a time. */
const WINDOW = 2 ** 20;
/** A symbol in every so many is marked: kallsyms_markers says where its name begins. */
const MARKED = 256;
/** Fewer symbols have too few markers to be told from chance. */
const MIN_SYMBOLS = 2 * MARKED;
/** Names looked at in all, or what takes as long: some ten times as many as it takes, a second or two. */
const MAX_STEPS = 2 ** 25;
/** Bytes looked through in the time that a name takes. */
const STEP_BYTES = 16;

/**
 * Finds the tables of a kernel that does not say where they are (VMCOREINFO before 6.0), in its image: by the digits
 * in the token table, the names in front of it, and kallsyms_markers behind the names, which must agree with them.
 * Their order (scripts/kallsyms.c: write_src()) is names, markers, tokens; addresses lie in front of all until 6.3,
 * behind all since.
 */
export function findKallsyms(reader: KernelReader, image: KernelImage): KallsymsTables | undefined {
  const budget = { steps: MAX_STEPS };
  for (const { address, bytes } of knownWindows(reader, image)) {
    for (let at = bytes.indexOf(DIGITS); at >= 0; at = bytes.indexOf(DIGITS, at + 1)) {
      const tables = tokensAround(reader, address + BigInt(at));
      const found = tables && namesBefore(reader, image, tables, budget);
      if (found !== undefined) return found;
      budget.steps -= MAX_TOKEN_TABLE / STEP_BYTES;
      if (budget.steps <= 0) return undefined;
    }
  }
  return undefined;
}

/** What is known of the image, in pieces that overlap enough for the digits. */
function* knownWindows(
  reader: KernelReader,
  { virtual, size }: KernelImage,
): Generator<{ readonly address: bigint; readonly bytes: Buffer }> {
  const buffer = Buffer.alloc(WINDOW + DIGITS.length);
  for (let offset = 0; offset < size; ) {
    const address = virtual + BigInt(offset);
    const target = buffer.subarray(0, Math.min(buffer.length, size - offset));
    const known = reader.read(address, target);
    if (known > 0) yield { address, bytes: target.subarray(0, known) };
    const isWhole = known === target.length;
    offset += isWhole ? WINDOW : Math.floor(known / PAGE_SIZE + 1) * PAGE_SIZE;
  }
}

interface TokenTables {
  readonly tokenTable: bigint;
  readonly tokenIndex: bigint;
  readonly tokens: Tokens;
}

/** The token table whose "0" lies at `digit`, and its index behind it. */
function tokensAround(reader: KernelReader, digit: bigint): TokenTables | undefined {
  const bytes = Buffer.alloc(MAX_TOKEN_TABLE);
  const known = bytes.subarray(0, reader.read(digit, bytes));
  let end = 0;
  for (let i = 0; i < TOKENS_FROM_DIGIT; i++) {
    end = known.indexOf(0, end) + 1;
    if (end === 0) return undefined;
  }
  const tokenIndex = alignUp(digit + BigInt(end));
  const before = reader.u16(tokenIndex + BigInt(2 * FIRST_DIGIT));
  if (before === undefined) return undefined;
  const tokenTable = digit - BigInt(before);
  const tokens = readTokens(reader, tokenTable, tokenIndex);
  return tokens && { tokenTable, tokenIndex, tokens };
}

/** Steps back from the token table until kallsyms_num_syms: a count followed by so many names, and their markers. */
function namesBefore(
  reader: KernelReader,
  image: KernelImage,
  { tokenTable, tokenIndex, tokens }: TokenTables,
  budget: { steps: number },
): KallsymsTables | undefined {
  const bytes = knownBefore(reader, tokenTable, image.virtual);
  const start = tokenTable - BigInt(bytes.length);
  budget.steps -= bytes.length / STEP_BYTES;
  for (let at = bytes.length - 2 * ALIGN; at >= 0 && budget.steps > 0; at -= ALIGN) {
    const count = bytes.readUInt32LE(at);
    // The count was a long until 4.20, and is padded to the length of one since.
    if (count < MIN_SYMBOLS || count > MAX_SYMBOLS || bytes.readUInt32LE(at + 4) !== 0) continue;
    const names = bytes.subarray(at + ALIGN);
    const isThere = (["escaped", "plain"] as const).some((form) =>
      areNames(names, count, tokens, form, budget),
    );
    if (!isThere) continue;
    const counter = start + BigInt(at);
    const addresses = [...addressesBefore(counter, count), ...addressesFrom(tokenIndex, count)];
    return { tokenTable, tokenIndex, names: counter + BigInt(ALIGN), count, addresses };
  }
  return undefined;
}

/** Whether so many names begin `bytes`, and kallsyms_markers follows them: u32s since 5.0, u64s before. */
function areNames(
  bytes: Buffer,
  count: number,
  tokens: Tokens,
  form: LengthForm,
  budget: { steps: number },
): boolean {
  const marked: number[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    budget.steps--;
    if (i % MARKED === 0) marked.push(at);
    const start = at + lengthBytes(bytes, at, form);
    const end = start + lengthAt(bytes, at, form);
    if (end > bytes.length || end === start || budget.steps <= 0) return false;
    if (!isType(tokens.table[tokens.index[bytes[start]!]!]!)) return false;
    at = end;
  }
  // `bytes` begins and ends at multiples of the alignment.
  const markers = bytes.subarray(Math.ceil(at / ALIGN) * ALIGN);
  return [4, 8].some(
    (width) =>
      markers.length >= marked.length * width &&
      marked.every((offset, i) => markers.readUInt32LE(i * width) === offset),
  );
}

/** The bytes right before `end`, as far as they are known, not below `from`. */
function knownBefore(reader: KernelReader, end: bigint, from: bigint): Buffer {
  const room = end - from;
  const limit = room < BigInt(MAX_COMPRESSED_NAMES) ? Number(room) : MAX_COMPRESSED_NAMES;
  const bytes = Buffer.alloc(Math.max(0, limit));
  let start = bytes.length;
  while (start > 0) {
    const inPage = Number((end - BigInt(bytes.length - start)) % BigInt(PAGE_SIZE)) || PAGE_SIZE;
    const length = Math.min(inPage, start);
    const at = end - BigInt(bytes.length - start + length);
    if (reader.read(at, bytes.subarray(start - length, start)) < length) break;
    start -= length;
  }
  return bytes.subarray(start);
}

/** Until 6.3: offsets and the relative base, or addresses, end where the count is. */
function addressesBefore(counter: bigint, count: number): AddressTables[] {
  const offsets = BigInt(Math.ceil((4 * count) / ALIGN) * ALIGN);
  const base = counter - BigInt(ALIGN);
  return [
    { form: "absolute-percpu", table: base - offsets, base },
    { form: "base-relative", table: base - offsets, base },
    { form: "absolute", table: counter - BigInt(8 * count) },
  ];
}

/** Since 6.4: they follow the token index. */
function addressesFrom(tokenIndex: bigint, count: number): AddressTables[] {
  const table = tokenIndex + BigInt(TOKEN_INDEX_BYTES);
  const base = alignUp(table + BigInt(4 * count));
  return [
    { form: "absolute-percpu", table, base },
    { form: "base-relative", table, base },
    { form: "place-relative", table },
    { form: "absolute", table },
  ];
}

const alignUp = (address: bigint): bigint => {
  const over = address % BigInt(ALIGN);
  return over === 0n ? address : address + BigInt(ALIGN) - over;
};
