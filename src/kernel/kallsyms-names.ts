import type { KernelReader } from "./reader.ts";
import { KSYM_NAME_LEN, type SymbolNames, SymbolNamesBuilder } from "./symbol-names.ts";

/** A byte of a compressed name stands for one of so many tokens. */
const TOKENS = 256;
/** Bytes of kallsyms_token_index: a u16 for each. */
export const TOKEN_INDEX_BYTES = 2 * TOKENS;
/** kallsyms_token_table is indexed by u16. */
export const MAX_TOKEN_TABLE = 2 ** 16;
/** kallsyms_names takes some 13 bytes a symbol. */
export const MAX_COMPRESSED_NAMES = 16 * 2 ** 20;

/** What a byte of a compressed name stands for: bytes `[index[b], index[b + 1] − 1)` of the table. */
export interface Tokens {
  readonly table: Buffer;
  /** One more than there are tokens: the last is where the table ends. */
  readonly index: Uint16Array;
}

/**
 * Reads kallsyms_token_table by kallsyms_token_index. scripts/kallsyms.c writes 256 texts one behind the other, each
 * with its NUL: anything else is no token table.
 */
export function readTokens(reader: KernelReader, table: bigint, index: bigint): Tokens | undefined {
  const entries = reader.bytes(index, TOKEN_INDEX_BYTES);
  if (entries === undefined) return undefined;
  const starts = new Uint16Array(TOKENS + 1);
  for (let i = 0; i < TOKENS; i++) starts[i] = entries.readUInt16LE(2 * i);
  const bytes = Buffer.alloc(Math.min(MAX_TOKEN_TABLE, starts[TOKENS - 1]! + KSYM_NAME_LEN));
  const known = bytes.subarray(0, reader.read(table, bytes));
  let at = 0;
  for (let i = 0; i < TOKENS; i++) {
    if (starts[i] !== at) return undefined;
    at = known.indexOf(0, at) + 1;
    if (at === 0 || at >= MAX_TOKEN_TABLE) return undefined;
  }
  starts[TOKENS] = at;
  return { table: known.subarray(0, at), index: starts };
}

/**
 * How lengths of compressed names are written. `escaped`: with bit 7 set, a second byte has bits 7 and up (6.1+).
 * `plain`: one byte, whatever it is. They differ for names of 128 tokens and more only, which nearly no kernel has.
 */
export type LengthForm = "escaped" | "plain";

/** Names until the last one, or until one that makes no sense. */
export interface DecodedNames {
  readonly names: SymbolNames;
  /** Bytes they take. */
  readonly size: number;
  /** Whether a name made no sense, rather than the bytes were at an end. */
  readonly broken: boolean;
}

/** Decodes so many names from the start of `bytes` (kallsyms_names). */
export function decodeNames(bytes: Buffer, count: number, tokens: Tokens, form: LengthForm): DecodedNames {
  const builder = new SymbolNamesBuilder();
  // The first character is the type.
  const text = Buffer.alloc(KSYM_NAME_LEN);
  let at = 0;
  let broken = false;
  while (builder.size < count) {
    const start = at + lengthBytes(bytes, at, form);
    const end = start + lengthAt(bytes, at, form);
    if (end > bytes.length) break;
    const length = expand(bytes.subarray(start, end), tokens, text);
    if (length < 2 || !isType(text[0]!) || !builder.add(text.subarray(1), length - 1, text[0]!)) {
      broken = true;
      break;
    }
    at = end;
  }
  return { names: builder.build(), size: at, broken };
}

/** Bytes of the length at `at`. */
export const lengthBytes = (bytes: Buffer, at: number, form: LengthForm): number =>
  form === "escaped" && bytes[at]! >= 0x80 ? 2 : 1;

/** The length at `at`, in tokens; Infinity where the bytes end. */
export function lengthAt(bytes: Buffer, at: number, form: LengthForm): number {
  const first = bytes[at] ?? Number.POSITIVE_INFINITY;
  if (form === "plain" || first < 0x80 || at >= bytes.length) return first;
  const second = bytes[at + 1] ?? Number.POSITIVE_INFINITY;
  return (first % 0x80) + second * 0x80;
}

/** Letters as of nm(1). */
export const isType = (byte: number): boolean => {
  const upper = byte & ~0x20;
  return upper >= 0x41 && upper <= 0x5a;
};

/** @returns how many bytes of `target` were filled; 0 for what is no name: too long, or not all printable ASCII */
function expand(name: Buffer, { table, index }: Tokens, target: Buffer): number {
  let length = 0;
  for (let i = 0; i < name.length; i++) {
    const token = name[i]!;
    const end = index[token + 1]! - 1;
    for (let at = index[token]!; at < end; at++) {
      const byte = table[at]!;
      if (length >= KSYM_NAME_LEN || byte <= 0x20 || byte >= 0x7f) return 0;
      target[length++] = byte;
    }
  }
  return length;
}
