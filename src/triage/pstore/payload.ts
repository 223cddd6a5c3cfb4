import {
  headerOf,
  looksLikeLog,
  type Problem,
  type PstoreRecord,
  type RecordType,
  type StoreContents,
  withoutEcc,
} from "./record.ts";
import { unpackRecord } from "./unpack.ts";

/** What a store says of a record beside its bytes. */
export interface RecordFacts {
  readonly source: string;
  readonly backend: string | undefined;
  readonly type: RecordType;
  readonly id?: bigint | undefined;
  readonly offset?: number | undefined;
  readonly time?: number | undefined;
  readonly ecc?: PstoreRecord["ecc"];
  readonly erased?: boolean;
}

/** How the bytes of a record may be read. */
export interface PayloadHints {
  /** Whether more streams may follow the first: kvmtool opens the host's file to append. */
  readonly appended?: boolean;
  /** Whether more bytes are there than are the record's. */
  readonly open?: boolean;
  /** Whether a line of the log will do as the beginning. */
  readonly log?: boolean;
  /** Whether the store says that it is packed. */
  readonly packed?: boolean;
}

/** Streams that one file may hold one after another. */
const MAX_APPENDED = 32;
/** 842 fills up to 8 bytes. */
const PADDING = 8;

/** A record as it is in the store, nothing to unpack. */
export const plainRecord = (facts: RecordFacts, bytes: Uint8Array, stored = bytes.length): PstoreRecord => ({
  id: undefined,
  offset: undefined,
  time: undefined,
  ecc: undefined,
  erased: false,
  ...facts,
  compression: "none",
  stored,
  header: headerOf(bytes)?.header,
  bytes: Buffer.from(bytes),
  fault: undefined,
});

/** Makes records of the bytes that a store has for one, whatever they are packed with. */
export function recordsOf(facts: RecordFacts, stored: Uint8Array, hints: PayloadHints = {}): StoreContents {
  const { bytes, ecc } = withoutEcc(stored);
  const known: RecordFacts = ecc === undefined ? facts : { ...facts, ecc };
  if (facts.type !== "dmesg" && facts.type !== "unknown") {
    return { records: [plainRecord(known, bytes)], problems: [] };
  }
  if (isText(bytes, hints)) {
    const parts = hints.appended ? splitTexts(bytes) : [bytes];
    return { records: parts.map((part) => plainRecord(known, part)), problems: [] };
  }
  return unpacked(known, bytes, hints);
}

function isText(bytes: Uint8Array, { log, packed }: PayloadHints): boolean {
  if (headerOf(bytes) !== undefined) return true;
  if (log && looksLikeLog(bytes)) return true;
  return packed !== true && bytes.subarray(0, LOOKED_AT).every(isPrintable);
}

/** Bytes that tell text from what is packed. */
const LOOKED_AT = 64;
const isPrintable = (byte: number): boolean => (byte >= 0x20 && byte < 0x7f) || (byte >= 9 && byte <= 13);

function unpacked(facts: RecordFacts, bytes: Uint8Array, hints: PayloadHints): StoreContents {
  const records: PstoreRecord[] = [];
  const problems: Problem[] = [];
  for (let at = 0; at < bytes.length && records.length < MAX_APPENDED; ) {
    const rest = bytes.subarray(at);
    const found = unpackRecord(rest, hints.log, hints.appended);
    if (found === undefined) {
      if (isPadding(rest, records.length)) break;
      problems.push(unknownProblem(facts, at, records.length > 0));
      if (records.length === 0) records.push({ ...plainRecord(facts, bytes), compression: "unknown" });
      break;
    }
    const { algorithm, fault } = found;
    if (fault !== undefined) problems.push(faultProblem(facts, found));
    const stored = Math.min(rest.length, Math.max(1, found.read));
    const record = plainRecord(facts, found.bytes, hints.open || hints.appended ? stored : bytes.length);
    records.push({ ...record, compression: algorithm, fault });
    if (!hints.appended || fault !== undefined) break;
    at += stored;
  }
  return { records, problems };
}

const isPadding = (rest: Uint8Array, before: number): boolean =>
  before > 0 && rest.length < PADDING && rest.every((byte) => byte === 0);

function unknownProblem({ source, offset }: RecordFacts, at: number, follows: boolean): Problem {
  const message = follows
    ? `${source}: what follows the first record cannot be unpacked`
    : `${source} cannot be unpacked: neither zlib, deflate, LZO, LZ4, zstd nor 842 makes a log of it`;
  return { code: "TRI302", message, source, offset: (offset ?? 0) + at };
}

const FAULTS = {
  cut: "ends before its end",
  damaged: "is damaged",
  full: "unpacks to more than 1 MiB",
} as const;

function faultProblem(
  { source, offset }: RecordFacts,
  { algorithm, fault, bytes }: NonNullable<ReturnType<typeof unpackRecord>>,
): Problem {
  const what = FAULTS[fault ?? "damaged"];
  const message = `${source}: the ${algorithm} stream ${what}: ${bytes.length} bytes of the record came out`;
  return { code: "TRI303", message, source, ...(offset === undefined ? {} : { offset }) };
}

const isCapital = (byte: number): boolean => byte >= 0x45 && byte <= 0x55;

/** Texts that were appended to each other: a line of the log never begins as a record does. */
function splitTexts(bytes: Uint8Array): Uint8Array[] {
  const starts: number[] = [];
  for (let at = 0; at >= 0 && at < bytes.length; ) {
    if (isCapital(bytes[at]!) && headerOf(bytes.subarray(at, at + 100)) !== undefined) starts.push(at);
    const end = bytes.indexOf(10, at);
    at = end < 0 || starts.length >= MAX_APPENDED ? -1 : end + 1;
  }
  return starts.length < 2 ? [bytes] : starts.map((start, i) => bytes.subarray(start, starts[i + 1]));
}

/** Most that the records of one file have together: a bomb of many records ends here. */
const MAX_STORE = 32 * 2 ** 20;

/** What several parts of a store give together; parts are asked for one after another, as long as there is room. */
export function joined(parts: Iterable<StoreContents>): StoreContents {
  const records: PstoreRecord[] = [];
  const problems: Problem[] = [];
  let size = 0;
  for (const part of parts) {
    for (const record of part.records) {
      size += record.bytes.length;
      records.push(record);
    }
    problems.push(...part.problems);
    if (size <= MAX_STORE) continue;
    const { source } = part.records[0]!;
    const message = `${source}: the records of this store have more than ${MAX_STORE} bytes: those behind were left out`;
    problems.push({ code: "TRI308", message, source });
    break;
  }
  return { records, problems };
}
