import { type LogLine, type Telling, tellingOf, type Uptimes, uptimesOf } from "./log-lines.ts";
import { bodyOf, looksLikeLog, type PstoreRecord, type Reason } from "./record.ts";

/** One dump of the kernel's log, in as many records as the store needed. */
export interface Dump {
  /** Undefined for records without a first line that says it. */
  readonly reason: Reason | undefined;
  readonly count: number | undefined;
  /** By time: the highest part, which has the oldest text, first. */
  readonly records: readonly PstoreRecord[];
  /** Numbers of parts that are not there; from 1, the newest text, to the highest that is. */
  readonly missing: readonly number[];
  /** What the kernel logged, as far as the records have it, by time. */
  readonly text: Buffer;
  readonly uptimes: Uptimes;
  /** Unix time in milliseconds of the last record. */
  readonly time: number | undefined;
  readonly telling: Telling;
  /** Whether the guest deleted it. */
  readonly erased: boolean;
}

/** Dumps that belong to one crash: an oops, and the panic that it led to. */
export interface Crash {
  readonly kind: "panic" | "oops";
  /** By time. The last is what the guest saved last. */
  readonly dumps: readonly Dump[];
  /** The log of it, put together. */
  readonly text: Buffer;
  /** The line that says what happened. */
  readonly line: LogLine | undefined;
  readonly panic: LogLine | undefined;
  /** The dump that `line` is in. */
  readonly told: Dump;
}

/** `Panic#1`. */
export const dumpName = ({ reason, count }: Dump): string =>
  reason === undefined ? "dump without a first line" : `${reason}#${count}`;

/** Parts of one dump may have been given times some seconds apart. */
const SKEW = 30_000;
/** CPUs do not log in the order of their clocks. Seconds. */
const DISORDER = 1;
/** A panic that comes of an oops comes within so many seconds. */
const JOINED = 10;
/** Oopses in front of one panic that are looked at. */
const MAX_LED = 16;
/** Parts missing that are counted. */
const MAX_PART = 100_000;

interface Piece {
  readonly record: PstoreRecord;
  readonly part: number;
  readonly uptimes: Uptimes;
}

/** Puts records together to dumps: by reason and count, where times do not speak against it. */
export function dumpsOf(records: readonly PstoreRecord[]): Dump[] {
  const groups = new Map<string, Piece[][]>();
  const dumps: Dump[] = [];
  for (const record of records) {
    const { header } = record;
    if (record.type !== "dmesg" && record.type !== "unknown") continue;
    if (header === undefined) {
      if (hasLog(record.bytes)) dumps.push(dumpOf([{ record, part: 1, uptimes: uptimesOf(record.bytes) }]));
      continue;
    }
    const key = `${record.erased} ${header.reason} ${header.count}`;
    const same = groups.get(key) ?? [];
    const piece = { record, part: header.part, uptimes: uptimesOf(bodyOf(record)) };
    const group = same.find((pieces) => belongs(pieces, piece));
    if (group === undefined) same.push([piece]);
    else group.push(piece);
    groups.set(key, same);
  }
  for (const same of groups.values()) dumps.push(...same.map(dumpOf));
  return dumps.sort(byTime);
}

/** Whether one of the first lines is one of a log: the first may be cut. */
function hasLog(bytes: Buffer): boolean {
  const second = bytes.indexOf(10) + 1;
  return looksLikeLog(bytes) || looksLikeLog(bytes.subarray(second));
}

function belongs(pieces: readonly Piece[], { record, part, uptimes }: Piece): boolean {
  return pieces.every((other) => {
    if (other.part === part) return false;
    const { time } = other.record;
    if (time !== undefined && record.time !== undefined && Math.abs(time - record.time) > SKEW) return false;
    // Part 1 has the newest text.
    return other.part < part ? inOrder(uptimes, other.uptimes) : inOrder(other.uptimes, uptimes);
  });
}

const inOrder = ({ last }: Uptimes, { first }: Uptimes): boolean =>
  last === undefined || first === undefined || last <= first + DISORDER;

function dumpOf(pieces: readonly Piece[]): Dump {
  const sorted = [...pieces].sort((a, b) => b.part - a.part);
  const records = sorted.map(({ record }) => record);
  const there = new Set(sorted.map(({ part }) => part));
  const missing: number[] = [];
  const most = Math.min(MAX_PART, sorted[0]!.part);
  for (let part = 1; part <= most; part++) if (!there.has(part)) missing.push(part);
  const text = Buffer.concat(records.map(bodyOf));
  const times = records.flatMap(({ time }) => (time === undefined ? [] : [time]));
  const [first] = records;
  return {
    reason: first!.header?.reason,
    count: first!.header?.count,
    records,
    missing,
    text,
    uptimes: uptimesOf(text),
    time: times.length === 0 ? undefined : times.reduce((a, b) => Math.max(a, b)),
    telling: tellingOf(text),
    erased: first!.erased,
  };
}

function byTime(a: Dump, b: Dump): number {
  if (a.time !== undefined && b.time !== undefined && a.time !== b.time) return a.time - b.time;
  const byCount = (a.count ?? 0) - (b.count ?? 0);
  return byCount === 0 ? (a.uptimes.last ?? 0) - (b.uptimes.last ?? 0) : byCount;
}

/** What kind of crash a dump is of; undefined where the machine stopped as it was told. */
export function kindOf({ reason, records, telling }: Dump): Crash["kind"] | undefined {
  if (reason === "Panic") return "panic";
  if (reason === "Oops") return "oops";
  // powerpc's NVRAM and records whose first line is lost: their text alone tells.
  if (reason !== undefined || records.some(({ type }) => type !== "dmesg")) return undefined;
  if (telling.panic !== undefined) return "panic";
  return telling.line === undefined ? undefined : "oops";
}

/** Puts dumps together to crashes. Those that the guest deleted count only when they are asked for. */
export function crashesOf(dumps: readonly Dump[], erased: boolean): Crash[] {
  const open = dumps.filter((dump) => kindOf(dump) !== undefined && (erased || !dump.erased));
  const crashes: Crash[] = [];
  const taken = new Set<Dump>();
  for (const dump of open) {
    if (kindOf(dump) !== "panic") continue;
    const near = open.filter((other) => !taken.has(other) && kindOf(other) === "oops" && isNear(other, dump));
    const led = near.slice(-MAX_LED).filter((oops) => isIn(oops, dump));
    for (const part of [...led, dump]) taken.add(part);
    crashes.push(crashOf("panic", [...led, dump]));
  }
  for (const dump of open) if (!taken.has(dump)) crashes.push(crashOf("oops", [dump]));
  return crashes.sort((a, b) => byTime(a.dumps.at(-1)!, b.dumps.at(-1)!));
}

/** Whether times allow that a panic came of an oops. */
function isNear(oops: Dump, panic: Dump): boolean {
  const [last, until] = [oops.uptimes.last, panic.uptimes.last];
  if (last === undefined || until === undefined || last > until + DISORDER) return false;
  const skew = Math.abs((panic.time ?? 0) - (oops.time ?? panic.time ?? 0));
  const isApart = oops.time !== undefined && panic.time !== undefined && skew > SKEW;
  return until - last <= JOINED && (oops.count ?? 0) <= (panic.count ?? 0) && !isApart;
}

/** Whether a later dump is of the same boot: it has what was logged before, as far as it goes back. */
export function isIn(earlier: Dump, later: Dump): boolean {
  const { first } = later.uptimes;
  const { last } = earlier.uptimes;
  if (last === undefined) return false;
  const line = lastLine(earlier.text);
  return first === undefined || first > last || line === undefined || later.text.includes(line);
}

/** The last line with a time, without what may be cut. */
function lastLine(text: Buffer): Buffer | undefined {
  const end = text.lastIndexOf(10);
  const start = end <= 0 ? -1 : text.lastIndexOf(10, end - 1);
  return start < 0 ? undefined : text.subarray(start + 1, end);
}

function crashOf(kind: Crash["kind"], dumps: readonly Dump[]): Crash {
  const last = dumps.at(-1)!;
  const told = dumps.find(({ telling }) => telling.line !== undefined) ?? last;
  const { line, panic } = told.telling;
  // An oops that led to the panic says more than the panic does.
  return { kind, dumps, text: wholeText(dumps), line, panic: last.telling.panic ?? panic, told };
}

/** The last dump has what those before it have, unless it does not go back as far. */
function wholeText(dumps: readonly Dump[]): Buffer {
  let { text } = dumps.at(-1)!;
  for (const dump of dumps.slice(0, -1).reverse()) {
    const end = text.indexOf(10);
    const at = end < 0 ? -1 : dump.text.indexOf(text.subarray(0, end + 1));
    if (at > 0) text = Buffer.concat([dump.text.subarray(0, at), text]);
  }
  return text;
}
