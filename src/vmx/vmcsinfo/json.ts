import { CorruptError } from "../../core/errors.ts";
import { hex } from "../../core/text.ts";
import { ACCESS_RIGHTS_FORMS, type AccessRightsForm } from "../access-rights.ts";
import type { Certainty } from "../offset-pattern.ts";
import { MAX_RECORDS, type Reading, type VmcsInfoForm, type VmcsInfoRecord } from "./types.ts";

/**
 * The toolkit's own: the result of guestcore/vmcsinfo/1 or guestcore/vmcs-layout/1 (schema/), with or without the
 * envelope. Only revisionId, accessRights and of each field encoding, offset and raw are looked at.
 */
export const JSON_FORM: VmcsInfoForm = {
  name: "json",
  label: "JSON",
  matches: ({ text }) => text !== undefined && /^\s*\{/.test(text) && /"fields"\s*:/.test(text),
  read: ({ text = "" }) => readJson(text),
};

type Json = Readonly<Record<string, unknown>>;

const CERTAINTIES = ["certain", "likely", "ambiguous"] as const satisfies Certainty[];

function readJson(text: string): Reading {
  const document = parse(text);
  const body = isObject(document.result) ? document.result : document;
  const { fields, revisionId, accessRights } = body;
  if (!Array.isArray(fields)) throw damaged("has no list of fields");
  if (fields.length > MAX_RECORDS) throw damaged("has too many fields");
  const form = isObject(accessRights) ? accessRights.form : accessRights;
  return {
    revisionId: revisionId == null ? undefined : numberOf(revisionId, 0xffff_ffff, "revisionId"),
    records: fields.map((field: unknown) => recordOf(field)),
    accessRights: oneOf(form, ACCESS_RIGHTS_FORMS, "accessRights"),
    pattern: oneOf(body.pattern, ["codes", "offsets"], "pattern"),
    problems: [],
  };
}

function parse(text: string): Json {
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch {
    // Told below.
  }
  throw damaged("cannot be parsed");
}

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const damaged = (what: string): CorruptError =>
  new CorruptError(`the JSON of a VMCS layout ${what}`, { hint: "schema/vmcsinfo.json describes it" });

function recordOf(field: unknown): VmcsInfoRecord {
  if (!isObject(field)) throw damaged("has a field that is no object");
  const { encoding, offset, raw, accessRights, certainty } = field;
  return {
    encoding: numberOf(encoding, 0xffff_ffff, "encoding"),
    raw: raw == null ? undefined : bigintOf(raw),
    offset: offset == null ? undefined : numberOf(offset, 0xffff_ffff, "offset"),
    accessRights: oneOf<AccessRightsForm>(accessRights, ACCESS_RIGHTS_FORMS, "accessRights"),
    certainty: oneOf<Certainty>(certainty, CERTAINTIES, "certainty"),
  };
}

/** A number, or "0x…". */
function numberOf(value: unknown, limit: number, what: string): number {
  const number = typeof value === "string" && isHex(value) ? Number.parseInt(value, 16) : value;
  if (typeof number === "number" && Number.isInteger(number) && number >= 0 && number <= limit) return number;
  throw damaged(`has a value for ${what} that is not between 0 and ${hex(limit)}`);
}

function bigintOf(value: unknown): bigint {
  if (typeof value === "string" && isHex(value)) return BigInt(value);
  throw damaged("has a raw value that is not 0x and up to 16 digits");
}

const isHex = (text: string): boolean => /^0x[0-9a-f]{1,16}$/i.test(text);

function oneOf<T extends string>(value: unknown, choices: readonly T[], what: string): T | undefined {
  if (value == null) return undefined;
  const choice = choices.find((name) => name === value);
  if (choice === undefined) throw damaged(`has a value for ${what} that is none of ${choices.join(", ")}`);
  return choice;
}
