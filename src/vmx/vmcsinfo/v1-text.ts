import { CorruptError } from "../../core/errors.ts";
import { printable } from "../../core/text.ts";
import { bytesOf } from "../encoding.ts";
import { fieldOf } from "../fields.ts";
import { decodeFields, type RawField } from "./decode.ts";
import { encodingNamed, nameOf } from "./names.ts";
import {
  MAX_RECORDS,
  type Reading,
  type VmcsInfo,
  type VmcsInfoForm,
  type VmcsInfoProblem,
} from "./types.ts";
import { rawOf, writeEach } from "./write.ts";

/** Zhang Yanfei's first patch set (April 2012): lines of text in a note, hex without 0x. */
export const V1_TEXT: VmcsInfoForm = {
  name: "v1",
  label: "v1 note",
  matches: ({ text }) => text !== undefined && (/^\s*REVISION_ID=/.test(text) || /^FIELD\(/m.test(text)),
  read: ({ text = "" }) => readText(text),
  write: writeText,
};

const REVISION = /^REVISION_ID=([0-9a-f]{1,8})$/i;
const FIELD = /^FIELD\(([A-Z0-9_]+)\)=([0-9a-f]{1,16})$/i;

function readText(text: string): Reading {
  const fields: RawField[] = [];
  const problems: VmcsInfoProblem[] = [];
  let revisionId: number | undefined;
  for (const line of linesOf(text)) {
    const revision = REVISION.exec(line);
    const [, name, digits] = FIELD.exec(line) ?? [];
    if (revision !== null) revisionId = Number.parseInt(revision[1]!, 16);
    else if (name === undefined) problems.push(unreadable(line));
    else {
      const encoding = encodingNamed(name.toUpperCase());
      if (encoding === undefined) {
        problems.push({ kind: "unknown-name", encoding, message: `${name} is no field that KVM names` });
      } else fields.push({ encoding, raw: BigInt(`0x${digits}`) });
    }
  }
  const { records, pattern, problems: undecodable } = decodeFields(fields);
  return { revisionId, records, pattern, problems: [...problems, ...undecodable] };
}

/** Lines that are not empty, without white space around them. */
export function linesOf(text: string): string[] {
  const lines = text.split(/[\r\n\0]+/).map((line) => line.trim());
  const filled = lines.filter((line) => line !== "");
  if (filled.length > 2 * MAX_RECORDS) throw new CorruptError("VMCSINFO has too many lines");
  return filled;
}

/** Longest part of a line that is quoted. */
const QUOTED = 40;

export const unreadable = (line: string): VmcsInfoProblem => ({
  kind: "undecodable",
  encoding: undefined,
  message: `the line "${printable(line.slice(0, QUOTED))}" cannot be read`,
});

/** KVM printed only what it has constants for, each value with the digits of its width. */
function writeText(info: VmcsInfo) {
  const lines = [`REVISION_ID=${(info.revisionId ?? 0).toString(16)}`];
  const leftOut = writeEach(info, (record) => {
    if (fieldOf(record.encoding)?.kvm !== true) return "KVM has no name for it";
    const raw = rawOf(info, record);
    if (typeof raw === "string") return raw;
    const digits = raw.toString(16).padStart(2 * bytesOf(record.encoding), "0");
    lines.push(`FIELD(${nameOf(record.encoding)})=${digits}`);
    return undefined;
  });
  return { bytes: Buffer.from(`${lines.join("\n")}\n`), leftOut };
}
