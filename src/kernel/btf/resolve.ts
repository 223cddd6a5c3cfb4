import type { Member } from "../types.ts";
import type { Btf, BtfType } from "./btf.ts";
import { KIND } from "./format.ts";

/** How many typedefs, qualifiers and dimensions may lie over each other, as the kernel has it (MAX_RESOLVE_DEPTH). */
export const MAX_DEPTH = 32;
/** The kernel refuses larger arrays. */
const MAX_TYPE_BYTES = 2 ** 32;
const POINTER_BYTES = 8;
/** Anonymous structs and unions that a search looks through; no struct of Debian's kernels has more than 23. */
const MAX_ANONYMOUS = 4096;

/** Names and qualifiers: the type they stand for is the one meant. */
export const isAlias = (kind: number): boolean =>
  kind === KIND.TYPEDEF ||
  kind === KIND.CONST ||
  kind === KIND.VOLATILE ||
  kind === KIND.RESTRICT ||
  kind === KIND.TYPE_TAG;

export const isComposite = (kind: number): boolean => kind === KIND.STRUCT || kind === KIND.UNION;

/** The type behind typedefs and qualifiers; undefined for void, and where they go in circles. */
export function resolve(btf: Btf, id: number): BtfType | undefined {
  let type = btf.type(id);
  for (let depth = 0; type !== undefined && isAlias(type.kind); depth++) {
    if (depth === MAX_DEPTH) return undefined;
    type = btf.type(type.sizeOrType);
  }
  return type;
}

/** Elements of an array, of all its dimensions together, and the type of one; 1 and the type itself of anything else. */
export interface Elements {
  readonly count: number;
  readonly type: BtfType;
}

export function elementsOf(btf: Btf, id: number): Elements | undefined {
  let type = resolve(btf, id);
  let count = 1;
  for (let depth = 0; type?.kind === KIND.ARRAY; depth++) {
    if (depth === MAX_DEPTH) return undefined;
    count *= type.word(2);
    type = resolve(btf, type.word(0));
  }
  return type && count < MAX_TYPE_BYTES ? { count, type } : undefined;
}

/** Bytes of a type; undefined for void, functions, types that are only declared, and nonsense. */
export function sizeOfType(btf: Btf, id: number): number | undefined {
  const elements = elementsOf(btf, id);
  const size = elements && sizeOfElement(elements.type);
  const total = elements === undefined || size === undefined ? MAX_TYPE_BYTES : elements.count * size;
  return total < MAX_TYPE_BYTES ? total : undefined;
}

/** Bytes of a type that is neither an alias nor an array. */
function sizeOfElement(type: BtfType): number | undefined {
  switch (type.kind) {
    case KIND.PTR:
      return POINTER_BYTES;
    case KIND.INT:
    case KIND.FLOAT:
    case KIND.STRUCT:
    case KIND.UNION:
    case KIND.ENUM:
    case KIND.ENUM64:
      return type.sizeOrType;
    default:
      return undefined;
  }
}

/** A member as its struct or union records it. */
export interface MemberRecord {
  readonly nameOffset: number;
  readonly type: number;
  /** From the start of the struct, in bits; of a bitfield its lowest bit's. */
  readonly bitOffset: number;
  /** Of a bitfield with kind_flag, else 0. */
  readonly bitWidth: number;
}

/** @param n below `composite.count` */
export function memberRecord(composite: BtfType, n: number): MemberRecord {
  const offset = composite.word(3 * n + 2);
  return {
    nameOffset: composite.word(3 * n),
    type: composite.word(3 * n + 1),
    bitOffset: composite.flag ? offset & 0xff_ffff : offset,
    bitWidth: composite.flag ? offset >>> 24 : 0,
  };
}

/** Where a member is, of which type, from the start of the struct that was asked. */
export interface Placed {
  readonly record: MemberRecord;
  /** Bytes before the anonymous struct or union that has it. */
  readonly base: number;
}

/** The member of that name, in anonymous structs and unions too, each of which is looked through once. */
export function findMember(btf: Btf, composite: BtfType, name: string): Placed | undefined {
  const text = Buffer.from(name, "latin1");
  const pending = [{ type: composite, base: 0 }];
  const seen = new Set([composite.id]);
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { type, base } = next;
    for (let n = 0; n < type.count; n++) {
      const record = memberRecord(type, n);
      if (record.nameOffset !== 0) {
        if (btf.stringIs(record.nameOffset, text)) return { record, base };
        continue;
      }
      const inner = resolve(btf, record.type);
      if (inner === undefined || !isComposite(inner.kind) || seen.has(inner.id)) continue;
      if (seen.size > MAX_ANONYMOUS) return undefined;
      seen.add(inner.id);
      pending.push({ type: inner, base: base + Math.floor(record.bitOffset / 8) });
    }
  }
  return undefined;
}

/** A member's place and size; undefined when its type has none. */
export function layoutOf(btf: Btf, { record, base }: Placed): Member | undefined {
  const elements = elementsOf(btf, record.type);
  const stride = elements && sizeOfElement(elements.type);
  if (elements === undefined || stride === undefined) return undefined;
  const { count, type } = elements;
  const bits = bitsOf(record, type);
  if (bits !== undefined) {
    const unit = storageUnit(bits.start, bits.width, stride);
    const shift = bits.start - unit.offset * 8;
    const offset = base + unit.offset;
    return { offset, size: unit.size, count: 1, stride: unit.size, bits: { shift, width: bits.width } };
  }
  const size = count * stride;
  if (size >= MAX_TYPE_BYTES) return undefined;
  return { offset: base + Math.floor(record.bitOffset / 8), size, count, stride };
}

/**
 * A bitfield's bits, counted from the start of its struct. Without kind_flag (kernels before 5.0) the INT itself says
 * that it has fewer bits than its bytes have, and how many lie before them.
 */
function bitsOf(record: MemberRecord, type: BtfType): { start: number; width: number } | undefined {
  if (record.bitWidth > 0) return { start: record.bitOffset, width: record.bitWidth };
  if (type.kind !== KIND.INT) return undefined;
  const [before, width] = [(type.word(0) >>> 16) & 0xff, type.word(0) & 0xff];
  const isWhole = width === type.sizeOrType * 8 && before === 0 && record.bitOffset % 8 === 0;
  return isWhole || width === 0 ? undefined : { start: record.bitOffset + before, width };
}

/** The unit of the declared type that holds the bits; where a packed struct lays them across two, just their bytes. */
function storageUnit(start: number, width: number, size: number): { offset: number; size: number } {
  const offset = size === 0 ? 0 : Math.floor(start / (8 * size)) * size;
  if (size > 0 && start + width <= 8 * (offset + size)) return { offset, size };
  const first = Math.floor(start / 8);
  return { offset: first, size: Math.ceil((start + width) / 8) - first };
}
