import { latin1 } from "../core/bytes.ts";
import { UnsupportedError } from "../core/errors.ts";
import { plural } from "../core/text.ts";
import { isAccessRights } from "./access-rights.ts";
import { isPossibleEncoding } from "./encoding.ts";
import type { VmcsLayout } from "./layout.ts";
import { ARRAY } from "./vmcsinfo/array.ts";
import { LOST_BITS, openPlaces } from "./vmcsinfo/decode.ts";
import { JSON_FORM } from "./vmcsinfo/json.ts";
import { isInRegion, majorityForm, problemsOf, takenBytes, usable } from "./vmcsinfo/judge.ts";
import { agreements, isSameLayout } from "./vmcsinfo/known.ts";
import { REKALL, REKALL_LOST_BITS } from "./vmcsinfo/rekall.ts";
import { SYSFS_V3, SYSFS_V4, SYSFS_V5 } from "./vmcsinfo/sysfs.ts";
import { TABLE } from "./vmcsinfo/table.ts";
import type {
  Reading,
  Sniffed,
  VmcsInfo,
  VmcsInfoForm,
  VmcsInfoInput,
  VmcsInfoOptions,
  VmcsInfoRecord,
  WrittenVmcsInfo,
} from "./vmcsinfo/types.ts";
import { V1_TEXT } from "./vmcsinfo/v1-text.ts";
import { V2_BINARY } from "./vmcsinfo/v2-binary.ts";

export type {
  VmcsInfo,
  VmcsInfoInput,
  VmcsInfoOptions,
  VmcsInfoProblem,
  VmcsInfoRecord,
  WrittenVmcsInfo,
} from "./vmcsinfo/types.ts";

/** Owner and type of the ELF note (first patch set, April 2012), like VMCOREINFO's. */
export const VMCSINFO_NOTE = { name: "VMCSINFO", type: 0 } as const;

/** Every form, in the order they are tried. */
const FORMS: readonly VmcsInfoForm[] = [
  SYSFS_V5,
  SYSFS_V4,
  SYSFS_V3,
  JSON_FORM,
  REKALL,
  V1_TEXT,
  TABLE,
  V2_BINARY,
  ARRAY,
];

export const WRITABLE_FORMS = ["v1", "v2", "array", "table"] as const;
export type WritableForm = (typeof WRITABLE_FORMS)[number];

/** A note holds at most 8 KiB, a kernel log with rekall's lines in it some hundred. */
export const MAX_VMCSINFO_BYTES = 2 ** 20;

/**
 * Reads VMCSINFO in whichever form it is.
 * @param input the note's descriptor or a file's contents, at most MAX_VMCSINFO_BYTES, or a tree of small files
 * @throws UnsupportedError when it is none of the forms; CorruptError when it is one, but nothing in it can be read;
 * UsageError when a number's base has to be told
 */
export function readVmcsInfo(input: VmcsInfoInput, options: VmcsInfoOptions = {}): VmcsInfo {
  const sniffed = sniff(input);
  const form = FORMS.find(({ matches }) => matches(sniffed));
  if (form === undefined) {
    throw new UnsupportedError("not VMCSINFO in any form known", {
      hint: "known are v1 text and v2 binary notes, saved sysfs trees, arrays and tables of offsets, rekall's output and our JSON",
    });
  }
  return judged(form, form.read(sniffed, options), options);
}

function sniff(input: VmcsInfoInput): Sniffed {
  if (!(input instanceof Uint8Array)) return { bytes: Buffer.alloc(0), text: undefined, tree: input };
  if (input.length > MAX_VMCSINFO_BYTES) throw new UnsupportedError("too large for VMCSINFO");
  const bytes = Buffer.from(input.buffer, input.byteOffset, input.byteLength);
  return { bytes, text: textOf(bytes), tree: undefined };
}

/** The bytes as text, if that is what they are. */
function textOf(bytes: Buffer): string | undefined {
  const text = latin1(bytes).replace(/\0+$/, "");
  return /^[\t\n\r\x20-\x7e\x80-\xff]+$/.test(text) ? text : undefined;
}

function judged({ name, label }: VmcsInfoForm, reading: Reading, options: VmcsInfoOptions): VmcsInfo {
  const { revisionId, records, pattern, problems } = reading;
  const accessRights = accessRightsOf(reading, options);
  return {
    form: name,
    label,
    revisionId,
    records,
    pattern,
    accessRights,
    problems: [...problems, ...problemsOf(records, accessRights?.form)],
  };
}

/** The user's word, the input's, what most records show, or that of the known layout it equals. */
function accessRightsOf(
  { records, accessRights }: Reading,
  options: VmcsInfoOptions,
): VmcsInfo["accessRights"] {
  if (options.accessRights !== undefined) return { form: options.accessRights, source: "--access-rights" };
  if (accessRights !== undefined) return { form: accessRights, source: "the input" };
  const shown = majorityForm(usable(records));
  if (shown !== undefined) return { form: shown, source: "what the fields read as" };
  const [best] = agreements(placesOf(records));
  const form = best?.layout.accessRights;
  if (best === undefined || form === undefined || !isSameLayout(best)) return undefined;
  const { layout, equal, shared } = best;
  return { form, source: `layout ${layout.name}, with which ${equal} of ${shared} fields agree` };
}

/** Encoding → offset of the records that have one in a region. */
export function placesOf(records: readonly VmcsInfoRecord[]): Map<number, number> {
  return new Map(
    usable(records).flatMap(({ encoding, offset }) =>
      offset !== undefined && isPossibleEncoding(encoding) && isInRegion(encoding, offset, "packed")
        ? [[encoding, offset] as const]
        : [],
    ),
  );
}

/**
 * The layout VMCSINFO describes. Fields that are out of range, cannot be decoded or have impossible encodings are left
 * out, and so are access rights that are stored in another way than the others.
 */
export function layoutOf(info: VmcsInfo): VmcsLayout {
  const { records, revisionId, label } = info;
  const form = info.accessRights?.form;
  const counted = usable(records).filter(
    ({ encoding, offset, accessRights }) =>
      offset !== undefined &&
      isPossibleEncoding(encoding) &&
      isInRegion(encoding, offset, form) &&
      !(isAccessRights(encoding) && accessRights !== undefined && accessRights !== form),
  );
  const fields = placesOf(counted);
  const same = agreements(fields).find(isSameLayout)?.layout;
  const guessed = guessesOf(info, counted);
  return {
    name: `VMCSINFO ${label}`,
    kind: same?.kind ?? "processor",
    revisionId,
    fields,
    accessRights: form,
    unsure: new Set(guessed.keys()),
    guessed,
    source:
      info.accessRights === undefined ? label : `${label}; access rights by ${info.accessRights.source}`,
    confidence: `${plural(fields.size, "field")}, ${guessed.size} of them guessed`,
  };
}

/** Fields at one of several places, and all places that no field has for certain. */
function guessesOf(
  { form, pattern = "codes" }: VmcsInfo,
  records: readonly VmcsInfoRecord[],
): Map<number, readonly number[]> {
  const isGuess = ({ certainty }: VmcsInfoRecord) => certainty === "ambiguous";
  const taken = new Set(
    records
      .filter((record) => !isGuess(record))
      .flatMap(({ encoding, offset = 0 }) =>
        Array.from({ length: takenBytes(encoding, "packed") / 2 }, (_, word) => offset + 2 * word),
      ),
  );
  const lost = form === "rekall" ? REKALL_LOST_BITS : LOST_BITS[pattern];
  return new Map(
    records.filter(isGuess).map(({ encoding, offset = 0 }) => {
      const places = openPlaces(lost, offset).filter((place) => !taken.has(place));
      return [encoding, places.filter((place) => isInRegion(encoding, place, "packed"))];
    }),
  );
}

/**
 * What VMCSINFO says of a layout: the other way round than `layoutOf`.
 * @param revisionId of a region of the layout, which a layout that goes with any revision does not say
 */
export function infoOf(layout: VmcsLayout, revisionId: number): VmcsInfo {
  const { name, fields, accessRights, unsure } = layout;
  return {
    form: "layout",
    label: `layout ${name}`,
    revisionId,
    records: [...fields].map(([encoding, offset]) => ({
      encoding,
      raw: undefined,
      offset,
      accessRights: isAccessRights(encoding) ? accessRights : undefined,
      certainty: unsure.has(encoding) ? "ambiguous" : undefined,
    })),
    pattern: undefined,
    accessRights: accessRights === undefined ? undefined : { form: accessRights, source: `layout ${name}` },
    problems: [],
  };
}

/**
 * Writes VMCSINFO in a form that can be written.
 * @returns the descriptor of a note, or a table's text, and the fields that the form has no way to hold
 */
export function writeVmcsInfo(info: VmcsInfo, to: WritableForm): WrittenVmcsInfo {
  return FORMS.find(({ name }) => name === to)!.write!(info);
}
