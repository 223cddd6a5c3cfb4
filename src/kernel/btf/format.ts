import { viewOf } from "../../core/bytes.ts";

/** Constants and header of BTF: Documentation/bpf/btf.rst, include/uapi/linux/btf.h. Little-endian only. */

const BTF_MAGIC = 0xeb9f;
const BTF_VERSION = 1;
/** Of the header up to str_len, which all have. */
export const BTF_HEADER_BYTES = 24;
/** Of the header with layout_off and layout_len, which kernels of 2026 began to write. */
const LAYOUT_HEADER_BYTES = 32;
/** Far more than a header will ever need. */
const MAX_HEADER_BYTES = 256;

/** name_off, info, size or type: what every type record begins with (`struct btf_type`). */
export const TYPE_BYTES = 12;

export const KIND = {
  VOID: 0,
  INT: 1,
  PTR: 2,
  ARRAY: 3,
  STRUCT: 4,
  UNION: 5,
  ENUM: 6,
  FWD: 7,
  TYPEDEF: 8,
  VOLATILE: 9,
  CONST: 10,
  RESTRICT: 11,
  FUNC: 12,
  FUNC_PROTO: 13,
  VAR: 14,
  DATASEC: 15,
  FLOAT: 16,
  DECL_TAG: 17,
  TYPE_TAG: 18,
  ENUM64: 19,
} as const;

/** By kind: bytes behind `struct btf_type`, once and for each of its vlen elements. */
const EXTRA: readonly (readonly [once: number, each: number] | undefined)[] = [
  undefined,
  [4, 0], // INT
  [0, 0], // PTR
  [12, 0], // ARRAY
  [0, 12], // STRUCT
  [0, 12], // UNION
  [0, 8], // ENUM
  [0, 0], // FWD
  [0, 0], // TYPEDEF
  [0, 0], // VOLATILE
  [0, 0], // CONST
  [0, 0], // RESTRICT
  [0, 0], // FUNC
  [0, 8], // FUNC_PROTO
  [4, 0], // VAR
  [0, 12], // DATASEC
  [0, 0], // FLOAT
  [4, 0], // DECL_TAG
  [0, 0], // TYPE_TAG
  [0, 12], // ENUM64
];

/**
 * vlen, kind and kind_flag of an info word. Bits 16–23, 29 and 30 were reserved, and 0, before vlen and kind took them
 * (2026).
 */
export const vlenOf = (info: number): number => info & 0xff_ffff;
export const kindOf = (info: number): number => (info >>> 24) & 0x7f;
export const flagOf = (info: number): boolean => info >>> 31 === 1;

/** What is wrong with BTF, and at which of its bytes. */
export interface BtfProblem {
  /**
   * `header`: no BTF, or of a kind that is not read. `truncated`: its sections end behind its bytes.
   * `unknown-kind`, `record`: a type that cannot be skipped, so none behind it is known. `base`: split BTF whose base
   * is missing or another.
   */
  readonly kind: "header" | "truncated" | "unknown-kind" | "record" | "base";
  readonly message: string;
  readonly offset: number;
}

/** Where the sections lie: offsets in bytes from the start of the BTF, all within 2^33. */
export interface BtfHeader {
  readonly types: Section;
  readonly strings: Section;
  /** Sizes of the kinds its writer knew; of length 0 where it does not say. */
  readonly layout: Section;
  /** Of header and sections. */
  readonly size: number;
}

interface Section {
  readonly start: number;
  readonly end: number;
}

/** @returns the header, or why these bytes do not begin with one */
export function readBtfHeader(bytes: Uint8Array): BtfHeader | BtfProblem {
  if (bytes.length < BTF_HEADER_BYTES) return problem("BTF is shorter than its header", 0);
  const view = viewOf(bytes);
  const magic = view.getUint16(0, true);
  if (magic === 0x9feb) return problem("BTF is big-endian", 0);
  if (magic !== BTF_MAGIC) return problem("BTF magic is missing", 0);
  if (view.getUint8(2) !== BTF_VERSION) return problem("BTF version is not 1", 2);
  const length = view.getUint32(4, true);
  if (length < BTF_HEADER_BYTES || length > MAX_HEADER_BYTES) return problem("BTF header length is wrong", 4);
  const section = (at: number): Section => {
    const start = length + view.getUint32(at, true);
    return { start, end: start + view.getUint32(at + 4, true) };
  };
  const [types, strings] = [section(8), section(16)];
  const hasLayout = length >= LAYOUT_HEADER_BYTES && bytes.length >= LAYOUT_HEADER_BYTES;
  const layout = hasLayout ? section(24) : { start: length, end: length };
  const overlap = types.start < strings.end && strings.start < types.end;
  if (overlap) return problem("BTF sections overlap", 8);
  return { types, strings, layout, size: Math.max(types.end, strings.end, layout.end) };
}

const problem = (message: string, offset: number): BtfProblem => ({ kind: "header", message, offset });

export const isProblem = (header: BtfHeader | BtfProblem): header is BtfProblem => "message" in header;

/**
 * Bytes of a record behind its `struct btf_type`; undefined for a kind that nobody knows.
 * @param layout the layout section: `struct btf_layout { u8 info_sz, elem_sz; u16 flags }` by kind
 */
export function extraBytes(kind: number, vlen: number, layout: DataView): number | undefined {
  const extra = EXTRA[kind];
  if (extra !== undefined) return extra[0] + extra[1] * vlen;
  if (kind === KIND.VOID || kind * 4 + 4 > layout.byteLength) return undefined;
  return layout.getUint8(kind * 4) + layout.getUint8(kind * 4 + 1) * vlen;
}
