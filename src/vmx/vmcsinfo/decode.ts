import { hex } from "../../core/text.ts";
import {
  ACCESS_RIGHTS_FORMS,
  type AccessRightsForm,
  isAccessRights,
  storeAccessRights,
} from "../access-rights.ts";
import { bytesOf } from "../encoding.ts";
import { fieldNamed } from "../fields.ts";
import { REGION_HEADER, REGION_SIZE } from "../layout.ts";
import { type DecodedOffset, decodeOffset } from "../offset-pattern.ts";
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
): DecodedOffset | undefined =>
  pattern === "codes"
    ? decodeOffset(encoding, raw, selectorOffset)
    : decodePlainWords(encoding, raw, selectorOffset);

/** The pattern that explains more of the values; a 16-bit word alone can look like both. */
export function patternOf(fields: readonly RawField[]): WordPattern {
  const explained = (pattern: WordPattern) =>
    fields.filter((field) => !isAccessRights(field.encoding) && decodeRaw(pattern, field) !== undefined)
      .length;
  return explained("offsets") > explained("codes") ? "offsets" : "codes";
}

/** Decodes every field, access rights last: the selectors tell where packed ones are. */
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
  const problems: VmcsInfoProblem[] = [];
  const records = fields.map((field): VmcsInfoRecord => {
    const { encoding, raw } = field;
    const decoded = decodeRaw(pattern, field, offsets.get(selectorOf(encoding)));
    if (decoded === undefined) {
      const message = `${fieldText(encoding)}: ${hex(raw)} is of no place in a region`;
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
): DecodedOffset | undefined {
  if (!isAccessRights(encoding)) return plainPlace(value, bytesOf(encoding));
  for (const form of ACCESS_RIGHTS_FORMS) {
    if (form === "packed" || value > 0xffff_ffffn) continue;
    const place = plainPlace(BigInt(storeAccessRights(Number(value), form)), 4);
    if (place !== undefined) return { ...place, form };
  }
  return packedPlace(value, selectorOffset);
}

function plainPlace(value: bigint, bytes: number): DecodedOffset | undefined {
  const offset = Number(value & 0xffffn);
  if (!isEvenInside(offset, bytes) || value !== plainWordsAt(offset, bytes)) return undefined;
  return { offset, certainty: "certain", form: undefined };
}

/** Bits 8 to 10 of the offset are lost; the selector's neighbour fills them in. */
function packedPlace(value: bigint, selectorOffset: number | undefined): DecodedOffset | undefined {
  if (value > 0x1_f0ffn) return undefined;
  const stored = storeAccessRights(Number(value), "packed");
  const form: AccessRightsForm = "packed";
  const beside = selectorOffset === undefined ? undefined : selectorOffset + 2;
  if (beside !== undefined && isEvenInside(beside, 2) && (beside & 0xf8ff) === stored) {
    return { offset: beside, certainty: "likely", form };
  }
  return isEvenInside(stored, 2) ? { offset: stored, certainty: "ambiguous", form } : undefined;
}

const isEvenInside = (offset: number, bytes: number): boolean =>
  offset % 2 === 0 && offset >= REGION_HEADER && offset + bytes <= REGION_SIZE;
