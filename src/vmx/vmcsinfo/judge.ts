import {
  ACCESS_RIGHTS_FORMS,
  type AccessRightsForm,
  accessRightsBytes,
  isAccessRights,
} from "../access-rights.ts";
import { bytesOf, isHighEncoding, isPossibleEncoding } from "../encoding.ts";
import { fieldOf } from "../fields.ts";
import { REGION_HEADER, REGION_SIZE } from "../layout.ts";
import { encodingText, fieldText, offsetText } from "./names.ts";
import type { VmcsInfoProblem, VmcsInfoRecord } from "./types.ts";

/** The records that count: of several for one encoding the last, at the place of the first. */
export const usable = (records: readonly VmcsInfoRecord[]): VmcsInfoRecord[] => [
  ...new Map(records.map((record) => [record.encoding, record])).values(),
];

/** The form most access-rights records show; undefined when none shows any. */
export function majorityForm(records: readonly VmcsInfoRecord[]): AccessRightsForm | undefined {
  const count = (form: AccessRightsForm) =>
    records.filter(({ accessRights }) => accessRights === form).length;
  const [best] = [...ACCESS_RIGHTS_FORMS].sort((a, b) => count(b) - count(a));
  return best !== undefined && count(best) > 0 ? best : undefined;
}

/** Bytes a field takes; of access rights in an unknown form the fewest they can take. */
export const takenBytes = (encoding: number, form: AccessRightsForm | undefined): number =>
  isAccessRights(encoding) ? accessRightsBytes(form ?? "packed") : bytesOf(encoding);

export const isInRegion = (encoding: number, offset: number, form: AccessRightsForm | undefined): boolean =>
  Number.isInteger(offset) && offset >= REGION_HEADER && offset + takenBytes(encoding, form) <= REGION_SIZE;

/** What can be said against records whichever form they came in. */
export function problemsOf(
  records: readonly VmcsInfoRecord[],
  form: AccessRightsForm | undefined,
): VmcsInfoProblem[] {
  const counted = usable(records);
  const fields = new Map(
    counted.flatMap(({ encoding, offset }) => (offset === undefined ? [] : [[encoding, offset] as const])),
  );
  const guessed = new Set(counted.filter(({ certainty }) => certainty === "ambiguous").map(keyOf));
  const known = new Map([...fields].filter(([encoding]) => !guessed.has(encoding)));
  return [
    ...duplicates(records),
    ...counted.filter(({ encoding }) => !isKnown(encoding)).map(({ encoding }) => unknownEncoding(encoding)),
    ...outOfRange(fields, form),
    ...mixedForms(counted, form),
    ...overlaps(known, form),
  ];
}

const keyOf = ({ encoding }: VmcsInfoRecord): number => encoding;

const isKnown = (encoding: number): boolean =>
  isPossibleEncoding(encoding) && fieldOf(encoding) !== undefined;

const unknownEncoding = (encoding: number): VmcsInfoProblem => ({
  kind: "unknown-encoding",
  encoding,
  message: isPossibleEncoding(encoding)
    ? `encoding ${encodingText(encoding)} is of no field known`
    : `encoding ${encodingText(encoding)} cannot be: reserved bits are set, or it is the high half of no field`,
});

function duplicates(records: readonly VmcsInfoRecord[]): VmcsInfoProblem[] {
  const seen = new Map<number, VmcsInfoRecord[]>();
  for (const record of records) {
    const same = seen.get(record.encoding);
    if (same === undefined) seen.set(record.encoding, [record]);
    else same.push(record);
  }
  return [...seen].flatMap(([encoding, same]) => {
    if (same.length === 1) return [];
    const last = same.at(-1)!;
    const agree = same.every(({ offset, raw }) => offset === last.offset && raw === last.raw);
    const which = agree ? "all the same" : `the last is used, ${placeText(last)}`;
    const message = `${fieldText(encoding)} is there ${same.length} times: ${which}`;
    return [{ kind: "duplicate", encoding, message } as const];
  });
}

const placeText = ({ offset }: VmcsInfoRecord): string =>
  offset === undefined ? "which has no place" : `at ${offsetText(offset)}`;

/** Fields whose place is not in a region. */
export function outOfRange(
  fields: ReadonlyMap<number, number>,
  form: AccessRightsForm | undefined,
): VmcsInfoProblem[] {
  return [...fields]
    .filter(([encoding, offset]) => !isInRegion(encoding, offset, form))
    .map(([encoding, offset]) => ({
      kind: "out-of-range",
      encoding,
      message: `${fieldText(encoding)} at ${offsetText(offset)} is not in a region, whose fields are from ${offsetText(REGION_HEADER)} to ${offsetText(REGION_SIZE)}`,
    }));
}

function mixedForms(
  records: readonly VmcsInfoRecord[],
  form: AccessRightsForm | undefined,
): VmcsInfoProblem[] {
  return records
    .filter(({ accessRights }) => accessRights !== undefined && accessRights !== form)
    .map(({ encoding, accessRights }) => ({
      kind: "mixed-access-rights",
      encoding,
      message: `${fieldText(encoding)} is ${accessRights}, other access rights are ${form}`,
    }));
}

/** Pairs of fields that share bytes. A 64-bit field and its own high half are one. */
export function overlaps(
  fields: ReadonlyMap<number, number>,
  form: AccessRightsForm | undefined,
): VmcsInfoProblem[] {
  const places = [...fields]
    .filter(([encoding, start]) => isInRegion(encoding, start, form) && !isOwnHigh(fields, encoding, start))
    .map(([encoding, start]) => ({ encoding, start, end: start + widthInRegion(fields, encoding, form) }))
    .sort((a, b) => a.start - b.start || a.encoding - b.encoding);
  const problems: VmcsInfoProblem[] = [];
  let widest: (typeof places)[number] | undefined;
  for (const place of places) {
    if (widest !== undefined && place.start < widest.end) {
      const end = Math.min(place.end, widest.end);
      const bytes = `${offsetText(place.start)}-${offsetText(end)}`;
      const message = `${fieldText(widest.encoding)} and ${fieldText(place.encoding)} are both at ${bytes}`;
      problems.push({ kind: "overlap", encoding: place.encoding, message });
    }
    if (widest === undefined || place.end > widest.end) widest = place;
  }
  return problems;
}

const isOwnHigh = (fields: ReadonlyMap<number, number>, encoding: number, offset: number): boolean =>
  isHighEncoding(encoding) && fields.get(encoding - 1) === offset - 4;

/** A 64-bit field whose high half is kept elsewhere takes four bytes of its own. */
function widthInRegion(
  fields: ReadonlyMap<number, number>,
  encoding: number,
  form: AccessRightsForm | undefined,
): number {
  const high = isHighEncoding(encoding + 1) ? fields.get(encoding + 1) : undefined;
  const apart = high !== undefined && high !== fields.get(encoding)! + 4;
  return apart ? 4 : takenBytes(encoding, form);
}
