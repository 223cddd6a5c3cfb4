import {
  ACCESS_RIGHTS_FORMS,
  type AccessRightsForm,
  isAccessRights,
  loadAccessRights,
} from "./access-rights.ts";
import { bytesOf } from "./encoding.ts";
import { REGION_HEADER, REGION_SIZE } from "./layout.ts";

/**
 * The pattern by which VMCSINFO v1 and v2 tell where a field is (Zhang Yanfei, Linux list, April and May 2012): every
 * 16-bit word of a region is filled with a code of its own offset, then each field is read with VMREAD. The high byte
 * of a code is always odd and the low byte even, so that bytes in another order show.
 */

/** Code of the word at an even offset below 2^14: bits 13:7 above a 1, bits 6:0 above a 0. */
export const codeOf = (offset: number): number => ((offset & 0x3f80) << 2) | 0x100 | ((offset & 0x7f) << 1);

/** The offset a word's code stands for; undefined when it is no code. */
export function offsetOfCode(code: number): number | undefined {
  if ((code & 0x101) !== 0x100) return undefined;
  const offset = ((code >>> 9) << 7) | ((code & 0xff) >>> 1);
  return offset % 2 === 0 ? offset : undefined;
}

/** What the region holds in `bytes` (2, 4, 8) bytes from `offset`, little-endian. */
export function patternAt(offset: number, bytes: number): bigint {
  let value = 0n;
  for (let at = 0; at < bytes; at += 2) value |= BigInt(codeOf(offset + at)) << BigInt(8 * at);
  return value;
}

/** What VMREAD returns for a field at `offset` of a region filled with the pattern. */
export function encodeOffset(encoding: number, offset: number, form: AccessRightsForm = "plain"): bigint {
  if (!isAccessRights(encoding)) return patternAt(offset, bytesOf(encoding));
  const stored = form === "packed" ? codeOf(offset) : Number(patternAt(offset, 4));
  return BigInt(loadAccessRights(stored, form));
}

/**
 * How sure a decoded offset is: `certain` where all words agree; `likely` where one word or a part says it;
 * `ambiguous` where the value fits several places and the lowest was taken.
 */
export type Certainty = "certain" | "likely" | "ambiguous";

/** Whether the word at an offset is known to be another field's. */
export type IsTaken = (offset: number) => boolean;
export const NONE_TAKEN: IsTaken = () => false;

export interface DecodedOffset {
  readonly offset: number;
  readonly certainty: Certainty;
  /** Of an access-rights field: the form its value shows. */
  readonly form: AccessRightsForm | undefined;
}

/**
 * Decodes what VMREAD returned.
 * @param selectorOffset offset of the same segment's selector, where known: it picks among the places of a packed
 * access-rights field, of whose offset two bits are lost
 * @param isTaken whether the word at an offset is another field's for certain: a packed one that its
 * selector does not place is not there
 * @returns undefined when the value is of no place in a region
 */
export function decodeOffset(
  encoding: number,
  value: bigint,
  selectorOffset?: number,
  isTaken: IsTaken = NONE_TAKEN,
): DecodedOffset | undefined {
  if (!isAccessRights(encoding)) return decodeWords(value, bytesOf(encoding));
  for (const form of ACCESS_RIGHTS_FORMS) {
    if (form === "packed") return decodePacked(value, selectorOffset, isTaken);
    const stored = form === "rotated" ? rotateLeft8(value) : value;
    const decoded = decodeWords(stored, 4);
    if (decoded !== undefined) return { ...decoded, form };
  }
  return undefined;
}

const rotateLeft8 = (value: bigint): bigint => BigInt.asUintN(32, value << 8n) | ((value >> 24n) & 0xffn);

/** Every word must be the code of the place behind its predecessor's. */
function decodeWords(value: bigint, bytes: number): DecodedOffset | undefined {
  if (value >> BigInt(8 * bytes) !== 0n) return undefined;
  const first = offsetOfCode(Number(value & 0xffffn));
  if (first === undefined || !isInside(first, bytes)) return undefined;
  // A 32-bit kernel printed only the low half of wide fields.
  const known = bytes === 8 && value >> 32n === 0n ? 4 : bytes;
  if (value !== patternAt(first, known)) return undefined;
  return { offset: first, certainty: known === bytes ? "certain" : "likely", form: undefined };
}

/** Bits 8 to 10 of the code are lost, the first of them always 1: two bits of the offset are open. */
function decodePacked(
  value: bigint,
  selectorOffset: number | undefined,
  isTaken: IsTaken,
): DecodedOffset | undefined {
  if (value > 0x1_f0ffn) return undefined;
  const places = [0, 0x200, 0x400, 0x600]
    .map((open) => offsetOfCode(Number(value & 0xf0ffn) | Number((value & 0x1_0000n) >> 5n) | open | 0x100))
    .filter((place) => place !== undefined)
    .filter((place) => isInside(place, 2));
  return pickPlace(places, selectorOffset, isTaken);
}

/** Where packed access rights are: beside their selector, else where nothing else can be, else at the lowest place. */
export function pickPlace(
  places: readonly number[],
  selectorOffset: number | undefined,
  isTaken: IsTaken,
): DecodedOffset | undefined {
  const beside =
    selectorOffset === undefined ? undefined : places.find((place) => place === selectorOffset + 2);
  const [offset, ...others] = beside === undefined ? places.filter((place) => !isTaken(place)) : [beside];
  if (offset === undefined) return undefined;
  return { offset, certainty: others.length === 0 ? "likely" : "ambiguous", form: "packed" };
}

const isInside = (offset: number, bytes: number): boolean =>
  offset >= REGION_HEADER && offset + bytes <= REGION_SIZE;
