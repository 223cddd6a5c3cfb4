import { viewOf } from "../../core/bytes.ts";
import { hex } from "../../core/text.ts";
import { ftraceText } from "./ftrace.ts";
import { plausible } from "./names.ts";
import { joined, plainRecord, type RecordFacts, recordsOf } from "./payload.ts";
import type { Problem, RecordType, StoreContents } from "./record.ts";

/**
 * Images of pstore/zone (Linux fs/pstore/zone.c), which pstore_blk and mtdpstore keep on a device: zones for pmsg, console
 * and ftrace, then those for dumps. struct psz_buffer is a signature, the length of the data, and where the log wraps.
 */

/** "DBGC" as a number, combined with the number of the record's type. */
const SIGNATURE = 0x4347_4244;
const USES: Readonly<Record<number, RecordType>> = { 0: "dmesg", 2: "console", 3: "ftrace", 7: "pmsg" };
const HEADER = 12;
/** Zones are whole pages; a partition begins at a sector. */
const STEP = 512;
const MAX_ZONES = 2048;

/** struct psz_kmsg_header, in front of each dump. */
const KMSG_MAGIC = 0x4dfc_3ae5;
/** Lengths of it, with 64-bit numbers at multiples of 8 or of 4 (i386), and where its fields are. */
const KMSG_FORMS = [
  { length: 40, seconds: 8, nanoseconds: 16, packed: 24, counter: 28, reason: 32 },
  { length: 32, seconds: 4, nanoseconds: 12, packed: 20, counter: 24, reason: 28 },
] as const;
const OOPS = 2;

interface FoundZone {
  readonly offset: number;
  readonly use: RecordType;
  readonly littleEndian: boolean;
}

function zonesOf(bytes: Uint8Array): FoundZone[] {
  const view = viewOf(bytes);
  const found: FoundZone[] = [];
  for (let at = 0; at + HEADER <= bytes.length && found.length < MAX_ZONES; at += STEP) {
    for (const littleEndian of [true, false]) {
      const use = USES[(view.getUint32(at, littleEndian) ^ SIGNATURE) >>> 0];
      if (use !== undefined) found.push({ offset: at, use, littleEndian });
    }
  }
  return found;
}

/** Whether a zone is of this kind and none of ramoops, which has the same first word. */
const isOwn = (bytes: Uint8Array, { offset, use, littleEndian }: FoundZone): boolean =>
  use !== "dmesg" || hasKmsg(bytes, offset, littleEndian);

const hasKmsg = (bytes: Uint8Array, offset: number, littleEndian: boolean): boolean =>
  offset + HEADER + KMSG_FORMS[0].length <= bytes.length &&
  viewOf(bytes).getUint32(offset + HEADER, littleEndian) === KMSG_MAGIC;

export const isZoneImage = (bytes: Uint8Array): boolean => zonesOf(bytes).some((zone) => isOwn(bytes, zone));

/** Reads an image; dumps that the guest deleted are read where their bytes are still there. */
export function readZoneImage(bytes: Uint8Array, source: string, backend = "pstore_blk"): StoreContents {
  const zones = zonesOf(bytes);
  function* parts(): Generator<StoreContents> {
    let dumps = 0;
    for (const [i, zone] of zones.entries()) {
      const data = bytes.subarray(zone.offset + HEADER, zones[i + 1]?.offset ?? bytes.length);
      const index = zone.use === "dmesg" ? dumps++ : 0;
      yield readZone(viewOf(bytes), data, zone, { source, backend, index });
    }
  }
  return joined(parts());
}

interface Surroundings {
  readonly source: string;
  readonly backend: string;
  readonly index: number;
}

function readZone(
  view: DataView,
  data: Uint8Array,
  zone: FoundZone,
  { source, backend, index }: Surroundings,
): StoreContents {
  const { offset, use, littleEndian } = zone;
  const length = view.getUint32(offset + 4, littleEndian);
  const start = view.getUint32(offset + 8, littleEndian);
  const place = `${source}:${hex(offset)}`;
  const facts = { source: place, backend, type: use, id: BigInt(index), offset };
  if (length > data.length || start > length) return damaged(source, offset);
  if (use === "dmesg") return readDump(data, length, littleEndian, facts);
  if (length === 0) return { records: [], problems: [] };
  const bytes = Buffer.concat([data.subarray(start, length), data.subarray(0, start)]);
  const text = use === "ftrace" ? Buffer.from(ftraceText(bytes, littleEndian)) : bytes;
  return { records: [plainRecord(facts, text, bytes.length)], problems: [] };
}

function readDump(
  data: Uint8Array,
  length: number,
  littleEndian: boolean,
  facts: RecordFacts,
): StoreContents {
  const nothing: StoreContents = { records: [], problems: [] };
  if (data.length < KMSG_FORMS[0].length) return nothing;
  const view = viewOf(data);
  if (view.getUint32(0, littleEndian) !== KMSG_MAGIC) {
    return length === 0 ? nothing : damaged(facts.source, facts.offset ?? 0);
  }
  // A deleted dump has length 0: where a packed one ends, its stream tells.
  const all = length === 0 ? data : data.subarray(0, length);
  const tried = KMSG_FORMS.map((form) => readForm(all, form, littleEndian, facts, length === 0));
  const best = tried.find(({ records }) => records.some(({ header }) => header !== undefined));
  return best ?? (length === 0 ? nothing : tried[0]!);
}

function readForm(
  data: Uint8Array,
  form: (typeof KMSG_FORMS)[number],
  littleEndian: boolean,
  facts: RecordFacts,
  erased: boolean,
): StoreContents {
  const view = viewOf(data);
  if (data.length < form.length) return { records: [], problems: [] };
  const seconds = plausible(view.getBigInt64(form.seconds, littleEndian));
  const nanoseconds = view.getBigInt64(form.nanoseconds, littleEndian) % 1_000_000_000n;
  const time = seconds === undefined ? undefined : seconds + Math.max(0, Number(nanoseconds / 1_000_000n));
  const packed = view.getUint8(form.packed) === 1;
  const payload = data.subarray(form.length);
  const end = erased && !packed ? payload.indexOf(0) : -1;
  const known = end < 0 ? payload : payload.subarray(0, end);
  const contents = recordsOf({ ...facts, time, erased }, known, { packed, open: erased });
  if (packed) return contents;
  // psz_kmsg_read() says in front of a dump that is not packed how many there were.
  const reason = view.getUint32(form.reason, littleEndian) === OOPS ? "Oops" : "Panic";
  const line = Buffer.from(`${reason}: Total ${view.getUint32(form.counter, littleEndian)} times\n`);
  return {
    ...contents,
    records: contents.records.map((record) => ({ ...record, bytes: Buffer.concat([line, record.bytes]) })),
  };
}

const damaged = (source: string, offset: number): StoreContents => {
  const message = `${source}: the zone at ${hex(offset)} is damaged: it is passed over`;
  const problem: Problem = { code: "TRI307", message, source, offset };
  return { records: [], problems: [problem] };
};
