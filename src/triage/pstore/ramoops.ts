import { viewOf } from "../../core/bytes.ts";
import { hex } from "../../core/text.ts";
import { ftraceText } from "./ftrace.ts";
import { plausible } from "./names.ts";
import { joined, plainRecord, type RecordFacts, recordsOf } from "./payload.ts";
import { eccPlan, findEcc, repairZone, tailSpan, toldEcc } from "./ramoops-ecc.ts";
import {
  ftraceVersion,
  latin1At,
  type RamoopsParameters,
  ramoopsLayout,
  SIGNATURE,
  ZONE_HEADER,
  type Zone,
} from "./ramoops-layout.ts";
import { looksLikeLog, type Problem, type RecordType, type StoreContents } from "./record.ts";

/** In front of a dump in its zone: seconds, microseconds, and since 3.12 whether it is packed (fs/pstore/ram.c). */
const DUMP_HEADER = /^====(\d{1,19})\.(\d{1,9})(?:-([CD]))?\n/;
const MAX_DUMP_HEADER = 48;
const MICROSECONDS = 1_000_000;

const NOTHING: StoreContents = { records: [], problems: [] };

export const isRamoops = (bytes: Uint8Array, parameters?: RamoopsParameters): boolean =>
  ramoopsLayout(bytes, parameters) !== undefined;

/**
 * Reads a region of ramoops: the memory that a guest keeps over a reboot. Dumps that the guest deleted are read where
 * their bytes are still there.
 * @param parameters as the module had them; without, zones are found by their signatures and ECC by trying
 */
export function readRamoops(
  bytes: Uint8Array,
  source: string,
  parameters: RamoopsParameters = {},
): StoreContents {
  const layout = ramoopsLayout(bytes, parameters);
  if (layout === undefined) return NOTHING;
  const { zones, littleEndian, more } = layout;
  const ecc = parameters.ecc === undefined ? findEcc(bytes, zones) : toldEcc(parameters.ecc);
  function* parts(): Generator<StoreContents> {
    let dumps = 0;
    for (const zone of zones) {
      yield readZone(bytes, zone, { source, ecc, littleEndian, index: zone.use === "dmesg" ? dumps++ : 0 });
    }
    const message = `${source} has more zones than are looked at (${zones.length})`;
    if (more) yield { records: [], problems: [{ code: "TRI308", message, source }] };
  }
  return joined(parts());
}

interface Surroundings {
  readonly source: string;
  readonly ecc: number;
  readonly littleEndian: boolean;
  /** Of a dump's zone among them. */
  readonly index: number;
}

function readZone(region: Uint8Array, zone: Zone, around: Surroundings): StoreContents {
  const { offset, use } = zone;
  const { littleEndian, ecc } = around;
  const span = use === "dmesg" ? zone.span : tailSpan(region, zone, ecc);
  const bytes = Buffer.from(region.subarray(offset, offset + span));
  if (bytes.length < ZONE_HEADER) return NOTHING;
  const view = viewOf(bytes);
  const isSigned = () =>
    use === "ftrace"
      ? ftraceVersion(view, 0, littleEndian) !== undefined
      : view.getUint32(0, littleEndian) === SIGNATURE;
  const size = () => view.getUint32(8, littleEndian);
  const facts = repairZone(bytes, ecc, { size, isSigned });
  const capacity = eccPlan(span, ecc)?.capacity ?? span - ZONE_HEADER;
  const data = bytes.subarray(ZONE_HEADER, ZONE_HEADER + capacity);
  const [start, length] = [view.getUint32(4, littleEndian), size()];
  const isRight = isSigned() && start <= length && length <= data.length;
  const where = { ...around, offset, facts: length === 0 ? undefined : facts };
  if (use === "dmesg") return readDump(data, isRight ? length : undefined, where);
  if (!isRight) return damagedZone(where, "its header makes no sense");
  if (length === 0) return NOTHING;
  return readLog(Buffer.concat([data.subarray(start, length), data.subarray(0, start)]), use, where);
}

interface Place extends Surroundings {
  readonly offset: number;
  readonly facts: { readonly corrected: number; readonly unrecoverable: number } | undefined;
}

/** @param size bytes of data; undefined where the header is damaged */
function readDump(data: Uint8Array, size: number | undefined, place: Place): StoreContents {
  const { source, offset, index, facts } = place;
  const known = size === undefined || size === 0 ? data : data.subarray(0, size);
  const match = DUMP_HEADER.exec(latin1At(known, 0, MAX_DUMP_HEADER));
  if (match === null) {
    if (size === undefined || size === 0) return NOTHING;
    return damagedZone(
      place,
      "it does not begin with the time of a dump, so that the guest's kernel drops it",
    );
  }
  const [line, seconds, micro, packed] = match;
  const time = plausible(BigInt(seconds!));
  const record: RecordFacts = {
    source: `${source}:${hex(offset)}`,
    backend: "ramoops",
    type: "dmesg",
    id: BigInt(index),
    offset,
    time: time === undefined ? undefined : time + Math.floor((Number(micro) % MICROSECONDS) / 1000),
    ecc: facts,
    erased: size === 0,
  };
  const open = size === undefined || size === 0;
  const payload = known.subarray(line.length);
  const bytes = open && packed !== "C" ? untilNul(payload) : payload;
  const contents = recordsOf(record, bytes, { packed: packed === "C", open });
  // What is left of a deleted dump may be anything.
  if (size === 0) {
    return { records: contents.records.filter(({ header }) => header !== undefined), problems: [] };
  }
  const problems = [...contents.problems, ...eccProblem(place)];
  if (size === undefined) problems.push(headerProblem(place));
  return { records: contents.records, problems };
}

const untilNul = (bytes: Uint8Array): Uint8Array => {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
};

function readLog(bytes: Buffer, use: Zone["use"], place: Place): StoreContents {
  const { source, offset, facts } = place;
  const type: RecordType = use === "tail" ? tailType(bytes) : use;
  const record = { source: `${source}:${hex(offset)}`, backend: "ramoops", type, id: 0n, offset, ecc: facts };
  const text = type === "ftrace" ? Buffer.from(ftraceText(bytes, place.littleEndian)) : bytes;
  return { records: [plainRecord(record, text, bytes.length)], problems: eccProblem(place) };
}

/** The console's zone has the kernel's log; what programs write to /dev/pmsg0 is anything. */
function tailType(bytes: Buffer): RecordType {
  const line = bytes.indexOf(10) + 1;
  return looksLikeLog(bytes) || looksLikeLog(bytes.subarray(line)) ? "console" : "pmsg";
}

function eccProblem({ source, offset, facts }: Place): Problem[] {
  if (facts === undefined || facts.unrecoverable === 0) return [];
  const message = `${source}: ${facts.unrecoverable} blocks of the zone at ${hex(offset)} have more wrong bytes than their ECC repairs`;
  return [{ code: "TRI305", message, source, offset }];
}

const headerProblem = ({ source, offset }: Place): Problem => ({
  code: "TRI307",
  message: `${source}: the header of the zone at ${hex(offset)} is damaged: what stands in it was read all the same`,
  source,
  offset,
});

const damagedZone = ({ source, offset }: Place, why: string): StoreContents => ({
  records: [],
  problems: [
    {
      code: "TRI307",
      message: `${source}: the zone at ${hex(offset)} is passed over: ${why}`,
      source,
      offset,
    },
  ],
});
