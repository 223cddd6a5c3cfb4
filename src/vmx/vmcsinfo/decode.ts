import { hex } from "../../core/text.ts";
import { ACCESS_RIGHTS_FORMS, isAccessRights, storeAccessRights } from "../access-rights.ts";
import { bytesOf, isPossibleEncoding } from "../encoding.ts";
import { fieldNamed } from "../fields.ts";
import { REGION_HEADER, REGION_SIZE } from "../layout.ts";
import { type DecodedOffset, decodeOffset, type IsTaken, NONE_TAKEN, pickPlace } from "../offset-pattern.ts";
import { fieldText } from "./names.ts";
import type { VmcsInfoProblem, VmcsInfoRecord, WordPattern } from "./types.ts";

/** An encoding and what VMREAD returned for it. */
export interface RawField {
  readonly encoding: number;
  readonly raw: bigint;
}

const DISTANCE = fieldNamed("GUEST_ES_AR_BYTES")!.encoding - fieldNamed("GUEST_ES_SELECTOR")!.encoding;
/** The selector of the segment whose access rights an encoding means. */
export const selectorOf = (encoding: number): number => encoding - DISTANCE;

/** Decodes a raw value by one of the patterns; undefined when it is of no place in a region. */
export const decodeRaw = (
  pattern: WordPattern,
  { encoding, raw }: RawField,
  selectorOffset?: number,
  isTaken: IsTaken = NONE_TAKEN,
): DecodedOffset | undefined =>
  pattern === "codes"
    ? decodeOffset(encoding, raw, selectorOffset, isTaken)
    : decodePlainWords(encoding, raw, selectorOffset, isTaken);

/** The words that fields have for certain, access rights aside. */
export function takenWords(pattern: WordPattern, fields: readonly RawField[]): IsTaken {
  const taken = new Set<number>();
  for (const field of fields) {
    const { encoding } = field;
    if (isAccessRights(encoding) || !isPossibleEncoding(encoding)) continue;
    const decoded = decodeRaw(pattern, field);
    if (decoded?.certainty !== "certain") continue;
    for (let at = 0; at < bytesOf(encoding); at += 2) taken.add(decoded.offset + at);
  }
  return (offset) => taken.has(offset);
}

/** The pattern that explains more of the values; a 16-bit word alone can look like both. */
export function patternOf(fields: readonly RawField[]): WordPattern {
  const explained = (pattern: WordPattern) =>
    fields.filter((field) => !isAccessRights(field.encoding) && decodeRaw(pattern, field) !== undefined)
      .length;
  return explained("offsets") > explained("codes") ? "offsets" : "codes";
}

/** Decodes every field, access rights last: the selectors tell where packed ones are, the others where they are not. */
export function decodeFields(fields: readonly RawField[]): {
  records: VmcsInfoRecord[];
  pattern: WordPattern;
  problems: VmcsInfoProblem[];
} {
  const pattern = patternOf(fields);
  const offsets = new Map<number, number>();
  for (const field of fields) {
    const offset = isAccessRights(field.encoding) ? undefined : decodeRaw(pattern, field)?.offset;
    if (offset !== undefined) offsets.set(field.encoding, offset);
  }
  const isTaken = takenWords(pattern, fields);
  const problems: VmcsInfoProblem[] = [];
  const records = fields.map((field): VmcsInfoRecord => {
    const { encoding, raw } = field;
    const decoded = decodeRaw(pattern, field, offsets.get(selectorOf(encoding)), isTaken);
    if (decoded === undefined) {
      const where = decodeRaw(pattern, field) === undefined ? "in a region" : "that is not another field's";
      const message = `${fieldText(encoding)}: ${hex(raw)} is of no place ${where}`;
      problems.push({ kind: "undecodable", encoding, message });
    }
    return {
      encoding,
      raw,
      offset: decoded?.offset,
      accessRights: decoded?.form,
      certainty: decoded?.certainty,
    };
  });
  return { records, pattern, problems };
}

/** What a region holds whose every word is its own offset. */
function plainWordsAt(offset: number, bytes: number): bigint {
  let value = 0n;
  for (let at = 0; at < bytes; at += 2) value |= BigInt(offset + at) << BigInt(8 * at);
  return value;
}

function decodePlainWords(
  encoding: number,
  value: bigint,
  selectorOffset: number | undefined,
  isTaken: IsTaken,
): DecodedOffset | undefined {
  if (!isAccessRights(encoding)) return plainPlace(value, bytesOf(encoding));
  for (const form of ACCESS_RIGHTS_FORMS) {
    if (form === "packed" || value > 0xffff_ffffn) continue;
    const place = plainPlace(BigInt(storeAccessRights(Number(value), form)), 4);
    if (place !== undefined) return { ...place, form };
  }
  return packedPlace(value, selectorOffset, isTaken);
}

function plainPlace(value: bigint, bytes: number): DecodedOffset | undefined {
  const offset = Number(value & 0xffffn);
  if (!isEvenInside(offset, bytes) || value !== plainWordsAt(offset, bytes)) return undefined;
  return { offset, certainty: "certain", form: undefined };
}

/** Bits 8 to 10 of the offset are lost. */
function packedPlace(
  value: bigint,
  selectorOffset: number | undefined,
  isTaken: IsTaken,
): DecodedOffset | undefined {
  if (value > 0x1_f0ffn) return undefined;
  const stored = storeAccessRights(Number(value), "packed");
  const places = [0, 1, 2, 3, 4, 5, 6, 7].map((open) => stored | (open << 8));
  return pickPlace(
    places.filter((place) => isEvenInside(place, 2)),
    selectorOffset,
    isTaken,
  );
}

/** Bits of a packed access-rights field's offset that its value does not tell. */
export const LOST_BITS: Readonly<Record<WordPattern, number>> = { codes: 0x180, offsets: 0x700 };

/** All places that are like `offset` but for the lost bits, ascending. */
export function openPlaces(lost: number, offset: number): number[] {
  const places: number[] = [];
  // Counts through the subsets of the bits.
  let bits = 0;
  do {
    places.push((offset & ~lost) | bits);
    bits = (bits - lost) & lost;
  } while (bits !== 0);
  return places;
}

const isEvenInside = (offset: number, bytes: number): boolean =>
  offset % 2 === 0 && offset >= REGION_HEADER && offset + bytes <= REGION_SIZE;
