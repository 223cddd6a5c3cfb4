import { viewOf } from "../../core/bytes.ts";
import { CorruptError } from "../../core/errors.ts";
import { isPossibleEncoding } from "../encoding.ts";
import { decodeFields, decodeRaw, patternOf, type RawField } from "./decode.ts";
import { MAX_RECORDS, type Reading, type VmcsInfo, type VmcsInfoForm } from "./types.ts";
import { rawOf, writeEach } from "./write.ts";

/** The second patch set (May 2012): u32 revision, then {u32 encoding, u64 value} with no padding, little-endian. */
export const V2_BINARY: VmcsInfoForm = {
  name: "v2",
  label: "v2 note",
  matches: ({ bytes }) => looksRight(fieldsIn(bytes)),
  read: ({ bytes }) => readBinary(bytes),
  write: writeBinary,
};

const HEADER = 4;
const RECORD = 12;

/** Length without zeros at the end, rounded up to whole records. */
export function lengthInRecords(bytes: Uint8Array, header: number, record: number): number {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  const records = Math.max(0, Math.ceil((end - header) / record));
  return Math.min(bytes.length, header + records * record);
}

/** Records of the note; those of zeros are padding, though encoding 0 is VPID. */
function fieldsIn(bytes: Buffer): RawField[] {
  const length = lengthInRecords(bytes, HEADER, RECORD);
  if ((length - HEADER) % RECORD !== 0 || length > HEADER + MAX_RECORDS * RECORD) return [];
  const view = viewOf(bytes);
  const fields: RawField[] = [];
  for (let at = HEADER; at < length; at += RECORD) {
    const encoding = view.getUint32(at, true);
    const raw = view.getBigUint64(at + 4, true);
    if (encoding !== 0 || raw !== 0n) fields.push({ encoding, raw });
  }
  return fields;
}

/** Nearly all encodings are possible ones, and at least half of the values are of a place in a region. */
function looksRight(fields: readonly RawField[]): boolean {
  const possible = fields.filter(({ encoding }) => isPossibleEncoding(encoding));
  if (fields.length === 0 || 10 * possible.length < 9 * fields.length) return false;
  const pattern = patternOf(possible);
  const decoded = possible.filter((field) => decodeRaw(pattern, field) !== undefined);
  return 2 * decoded.length >= fields.length;
}

function readBinary(bytes: Buffer): Reading {
  const fields = fieldsIn(bytes);
  if (fields.length === 0) throw new CorruptError("the VMCSINFO note holds no whole record");
  return { revisionId: viewOf(bytes).getUint32(0, true), ...decodeFields(fields) };
}

function writeBinary(info: VmcsInfo) {
  const records: Buffer[] = [];
  const leftOut = writeEach(info, (record) => {
    const raw = rawOf(info, record);
    if (typeof raw === "string") return raw;
    const bytes = Buffer.alloc(RECORD);
    bytes.writeUInt32LE(record.encoding, 0);
    bytes.writeBigUInt64LE(raw, 4);
    records.push(bytes);
    return undefined;
  });
  const header = Buffer.alloc(HEADER);
  header.writeUInt32LE(info.revisionId ?? 0, 0);
  return { bytes: Buffer.concat([header, ...records]), leftOut };
}
