import { hex } from "../../core/text.ts";
import { type AccessRightsForm, isAccessRights } from "../access-rights.ts";
import { bytesOf, isPossibleEncoding } from "../encoding.ts";
import { fieldOf } from "../fields.ts";
import { type IsTaken, NONE_TAKEN } from "../offset-pattern.ts";
import { decodeRaw, patternOf, selectorOf, takenWords } from "./decode.ts";
import { takenBytes } from "./judge.ts";
import { encodingNamed, encodingText, fieldText, offsetText } from "./names.ts";
import { type Base, baseOf, numberIn } from "./numbers.ts";
import type {
  Reading,
  VmcsInfo,
  VmcsInfoForm,
  VmcsInfoOptions,
  VmcsInfoProblem,
  VmcsInfoRecord,
  WordPattern,
} from "./types.ts";
import { linesOf, unreadable } from "./v1-text.ts";
import { writeEach } from "./write.ts";

/**
 * One field a line: encoding (or KVM's name) and offset, then what is known of size in bytes, raw value ("-" for none)
 * and storage form. "# revision 0x2b" gives the revision, other lines with # are comments.
 */
export const TABLE: VmcsInfoForm = {
  name: "table",
  label: "table",
  matches: ({ text }) => text !== undefined && looksRight(linesOf(text)),
  read: ({ text = "" }, options) => readTable(linesOf(text), options),
  write: writeTable,
};

const REVISION = /^#\s*revision(?:[ _]id)?\s*[:=]?\s*(0x)?([0-9a-f]{1,8})\b/i;
const FORM_NAMES: Readonly<Record<string, AccessRightsForm>> = {
  plain: "plain",
  verbatim: "plain",
  rotated: "rotated",
  rotate: "rotated",
  ror8: "rotated",
  "rol8-dword": "rotated",
  packed: "packed",
  pack: "packed",
  pack16: "packed",
};

interface Row {
  readonly encoding: number;
  readonly offset: string;
  readonly size: string | undefined;
  readonly raw: bigint | undefined;
  readonly form: AccessRightsForm | undefined;
}

const isComment = (line: string): boolean => line.startsWith("#");

function looksRight(lines: readonly string[]): boolean {
  const rows = lines.filter((line) => !isComment(line));
  const known = rows.filter((line) => isKnown(rowOf(line)?.encoding));
  return known.length > 0 && 2 * known.length >= rows.length;
}

const isKnown = (encoding: number | undefined): boolean =>
  encoding !== undefined && fieldOf(encoding) !== undefined;

function rowOf(line: string): Row | undefined {
  const [first = "", offset = "", ...rest] = line.split(/[\s,;:]+/).filter((word) => word !== "");
  const encoding = /^(0x)?[0-9a-f]{1,8}$/i.test(first) ? Number.parseInt(first, 16) : encodingNamed(first);
  if (encoding === undefined || !/^(0x)?[0-9a-f]{1,8}$/i.test(offset)) return undefined;
  const form = rest.map((word) => FORM_NAMES[word.toLowerCase()]).find((name) => name !== undefined);
  const [size, raw] = rest.filter((word) => word === "-" || /^(0x)?[0-9a-f]{1,16}$/i.test(word));
  return {
    encoding,
    offset,
    size: size === "-" ? undefined : size,
    raw: raw === undefined || raw === "-" ? undefined : BigInt(raw.startsWith("0x") ? raw : `0x${raw}`),
    form,
  };
}

function readTable(lines: readonly string[], { numbers }: VmcsInfoOptions): Reading {
  const problems: VmcsInfoProblem[] = [];
  const rows: Row[] = [];
  let revisionId: number | undefined;
  for (const line of lines) {
    const revision = REVISION.exec(line);
    if (revision !== null) revisionId = Number.parseInt(revision[2]!, 16);
    if (isComment(line)) continue;
    const row = rowOf(line);
    if (row === undefined) problems.push(unreadable(line));
    else rows.push(row);
  }
  const base = baseOf(
    rows.map(({ offset }) => offset),
    numbers,
  );
  const raws = rows.flatMap(({ encoding, raw }) => (raw === undefined ? [] : [{ encoding, raw }]));
  const pattern = raws.length === 0 ? undefined : patternOf(raws);
  const selectors = new Map(rows.map(({ encoding, offset }) => [encoding, numberIn(offset, base)]));
  const isTaken = pattern === undefined ? NONE_TAKEN : takenWords(pattern, raws);
  const records = rows.map((row) => recordOf(row, base, pattern, selectors, isTaken, problems));
  return { revisionId, records, pattern, problems };
}

/** The offset column counts; the raw value confirms or contradicts it. */
function recordOf(
  { encoding, offset: text, size, raw, form }: Row,
  base: Base,
  pattern: WordPattern | undefined,
  offsets: ReadonlyMap<number, number | undefined>,
  isTaken: IsTaken,
  problems: VmcsInfoProblem[],
): VmcsInfoRecord {
  const offset = numberIn(text, base);
  const contradict = (what: string) =>
    problems.push({ kind: "contradiction", encoding, message: `${fieldText(encoding)}: ${what}` });
  if (offset === undefined) {
    problems.push({
      kind: "undecodable",
      encoding,
      message: `${fieldText(encoding)}: "${text}" is no offset`,
    });
  }
  const isForAccess = isAccessRights(encoding);
  if (size !== undefined && !isForAccess && isPossibleEncoding(encoding)) {
    const bytes = bytesOf(encoding);
    if (Number.parseInt(size, 10) !== bytes) contradict(`the size is ${size}, an encoding of ${bytes} bytes`);
  }
  const decoded =
    raw === undefined || pattern === undefined
      ? undefined
      : (decodeRaw(pattern, { encoding, raw }, offsets.get(selectorOf(encoding)), isTaken) ??
        decodeRaw(pattern, { encoding, raw }));
  const confirmed = decoded !== undefined && decoded.offset === offset;
  if (raw !== undefined && !confirmed && decoded?.certainty !== "ambiguous") {
    contradict(
      `the raw value ${hex(raw)} is not what is read at ${offset === undefined ? text : offsetText(offset)}`,
    );
  }
  return {
    encoding,
    raw,
    offset: offset === 0 ? undefined : offset,
    accessRights: isForAccess ? (form ?? (confirmed ? decoded.form : undefined)) : undefined,
    certainty: confirmed ? decoded.certainty : undefined,
  };
}

function writeTable(info: VmcsInfo) {
  const lines = ["# encoding offset size raw form"];
  if (info.revisionId !== undefined) lines.unshift(`# revision ${hex(info.revisionId)}`);
  const leftOut = writeEach(info, ({ encoding, offset, raw, accessRights }) => {
    if (offset === undefined) return "its place is not known";
    const form = isAccessRights(encoding) ? (accessRights ?? info.accessRights?.form) : "plain";
    const size = takenBytes(encoding, form ?? "plain");
    const value = raw === undefined ? "-" : hex(raw);
    lines.push([encodingText(encoding), offsetText(offset), size, value, form ?? ""].join(" ").trimEnd());
    return undefined;
  });
  return { bytes: Buffer.from(`${lines.join("\n")}\n`), leftOut };
}
