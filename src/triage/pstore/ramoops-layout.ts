import { viewOf } from "../../core/bytes.ts";

/** Parameters of ramoops as its module has them, in bytes (Linux fs/pstore/ram.c). */
export interface RamoopsParameters {
  readonly record?: number;
  readonly console?: number;
  readonly ftrace?: number;
  readonly pmsg?: number;
  /** Bytes of parity for each block; 1 means 16. */
  readonly ecc?: number;
}

/** struct persistent_ram_buffer (fs/pstore/ram_core.c): signature, start, size; data behind. */
export const ZONE_HEADER = 12;
/** "DBGC", as a number. */
export const SIGNATURE = 0x4347_4244;
/** What every dump begins with in its zone. */
export const RECORD_MARK = "====";

/** A zone and what it is for; `tail`: of console, pmsg or ftrace, which the place alone does not tell. */
export interface Zone {
  readonly offset: number;
  /** Bytes with the header. */
  readonly span: number;
  readonly use: "dmesg" | "console" | "ftrace" | "pmsg" | "tail";
}

export interface RamoopsLayout {
  readonly littleEndian: boolean;
  /** From the lowest address. */
  readonly zones: readonly Zone[];
  /** Whether there were more than are looked at. */
  readonly more: boolean;
}

/** A region of 1 MiB has at most 256 zones of a page each. */
const MAX_ZONES = 2048;
/** Sizes, and with them places, are even. */
const STEP = 2;
const PAGE = 4096;

/** Finds the zones of a region by their signatures, or where the parameters say that they are. */
export function ramoopsLayout(
  bytes: Uint8Array,
  parameters: RamoopsParameters = {},
): RamoopsLayout | undefined {
  for (const littleEndian of [true, false]) {
    const { found, more } = signatures(bytes, littleEndian);
    if (found.length === 0) continue;
    const zones =
      parameters.record === undefined
        ? zonesOf(bytes, found, littleEndian)
        : toldZones(bytes, parameters, littleEndian);
    if (zones.length > 0) return { littleEndian, zones, more };
  }
  return undefined;
}

/** Where the signature is, in front of lengths that can be, and not within what such a zone holds. */
function signatures(bytes: Uint8Array, littleEndian: boolean): { found: number[]; more: boolean } {
  const pattern = Buffer.from(littleEndian ? "DBGC" : "CGBD", "latin1");
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const view = viewOf(bytes);
  const found: number[] = [];
  let inside = 0;
  for (let at = buffer.indexOf(pattern); at >= 0; at = buffer.indexOf(pattern, at + STEP)) {
    if (at < inside || at % STEP !== 0 || !isZone(view, at, littleEndian)) continue;
    if (found.length >= MAX_ZONES) return { found, more: true };
    found.push(at);
    // What a dump holds may look like anything; what else there is, is text.
    if (latin1At(bytes, at + ZONE_HEADER, 4) === RECORD_MARK) {
      inside = at + ZONE_HEADER + view.getUint32(at + 8, littleEndian);
    }
  }
  return { found, more: false };
}

export const latin1At = (bytes: Uint8Array, at: number, length: number): string =>
  Buffer.from(bytes.subarray(at, at + length)).toString("latin1");

function isZone(view: DataView, at: number, littleEndian: boolean): boolean {
  if (at + ZONE_HEADER > view.byteLength) return false;
  const start = view.getUint32(at + 4, littleEndian);
  const size = view.getUint32(at + 8, littleEndian);
  return start <= size && size <= view.byteLength - at - ZONE_HEADER;
}

/** Zones for dumps are of one size and come first; console, ftrace and pmsg are behind them, in this order. */
function zonesOf(bytes: Uint8Array, found: readonly number[], littleEndian: boolean): Zone[] {
  const first = found[0]!;
  const stride = strideOf(found);
  if (stride === undefined) return [{ offset: first, span: bytes.length - first, use: "tail" }];
  let from = first;
  while (from - stride >= 0 && isDump(bytes, from - stride)) from -= stride;
  const zones: Zone[] = [];
  const last = lastDump(bytes, found, from, stride);
  for (let at = from; at <= last && zones.length < MAX_ZONES; at += stride) {
    zones.push({ offset: at, span: Math.min(stride, bytes.length - at), use: "dmesg" });
  }
  return [...zones, ...tailZones(bytes, found, last + stride, littleEndian)];
}

/** The commonest distance of neighbours; of several as common the least. */
function strideOf(found: readonly number[]): number | undefined {
  const counts = new Map<number, number>();
  for (let i = 1; i < found.length; i++) {
    const distance = found[i]! - found[i - 1]!;
    counts.set(distance, (counts.get(distance) ?? 0) + 1);
  }
  const [best] = [...counts].sort(([a, m], [b, n]) => n - m || a - b);
  return best?.[0];
}

const isDump = (bytes: Uint8Array, at: number): boolean =>
  latin1At(bytes, at + ZONE_HEADER, RECORD_MARK.length) === RECORD_MARK;

/** The last zone that is one of a row at equal distances, and in front of no zone at another distance. */
function lastDump(bytes: Uint8Array, found: readonly number[], from: number, stride: number): number {
  const row = found.filter((at) => (at - from) % stride === 0);
  const odd = found.find((at) => at > from && (at - from) % stride !== 0);
  const within = row.filter((at) => odd === undefined || at < odd);
  const last = within.at(-1) ?? from;
  // The zone in front of one at another distance is of another size: the console's.
  const isOther = odd !== undefined && odd - last < stride * 2 && odd - last !== stride;
  const isText = !isDump(bytes, last) && viewOf(bytes).getUint32(last + 8, true) !== 0;
  return last > from && (isOther || isText) && !isDump(bytes, last) ? last - stride : last;
}

/** Zones behind the dumps: those with the signature, and ftrace's, which has the kernel's version in its own. */
function tailZones(bytes: Uint8Array, found: readonly number[], from: number, littleEndian: boolean): Zone[] {
  const marked = found.filter((at) => at >= from);
  const traces = ftraceZones(bytes, from, littleEndian).filter(
    (at) => !marked.some((zone) => at > zone && at < zone + ZONE_HEADER),
  );
  const all = [
    ...marked.map((offset) => ({ offset, use: "tail" as const })),
    ...traces.map((offset) => ({ offset, use: "ftrace" as const })),
  ].sort((a, b) => a.offset - b.offset);
  const ends = all.map((_, i) => all[i + 1]?.offset ?? bytes.length);
  return all.map(({ offset, use }, i) => ({
    offset,
    span: ends[i]! - offset,
    use: use === "ftrace" ? use : tailUse(offset, i, all),
  }));
}

function tailUse(
  offset: number,
  index: number,
  all: readonly { readonly offset: number; readonly use: string }[],
): Zone["use"] {
  if (all.slice(0, index).some(({ use }) => use === "ftrace")) return "pmsg";
  if (all.slice(index + 1).some(({ use }) => use === "ftrace")) return "console";
  const texts = all.filter(({ use }) => use === "tail");
  if (texts.length < 2) return "tail";
  return texts[0]!.offset === offset ? "console" : "pmsg";
}

/** LINUX_VERSION_CODE of 2.6 to 15.x, which the signature of ftrace's zone is combined with. */
function ftraceZones(bytes: Uint8Array, from: number, littleEndian: boolean): number[] {
  const view = viewOf(bytes);
  const found: number[] = [];
  for (let at = from + (from % STEP); at + ZONE_HEADER <= bytes.length && found.length < PAGE; at += STEP) {
    const high = littleEndian ? bytes[at + 3] : bytes[at];
    if (high !== SIGNATURE >>> 24) continue;
    const version = ftraceVersion(view, at, littleEndian);
    if (version === undefined || !isZone(view, at, littleEndian)) continue;
    found.push(at);
    at += ZONE_HEADER + view.getUint32(at + 8, littleEndian) - STEP;
    at += at % STEP;
  }
  return found;
}

/** The kernel's version in the signature of an ftrace zone, as LINUX_VERSION_CODE; undefined for another signature. */
export function ftraceVersion(view: DataView, at: number, littleEndian: boolean): number | undefined {
  const version = (view.getUint32(at, littleEndian) ^ SIGNATURE) >>> 0;
  const major = version >>> 16;
  return major >= 2 && major <= 15 ? version : undefined;
}

const powerBelow = (size: number): number => (size < 1 ? 0 : 2 ** Math.floor(Math.log2(size)));

/** Where ramoops_init_dump_przs() of fs/pstore/ram.c puts them. */
function toldZones(bytes: Uint8Array, parameters: RamoopsParameters, littleEndian: boolean): Zone[] {
  const [record = 0, consoleSize = PAGE, ftrace = PAGE, pmsg = PAGE] = [
    parameters.record,
    parameters.console,
    parameters.ftrace,
    parameters.pmsg,
  ].map((size) => (size === undefined ? undefined : powerBelow(size)));
  const dumps = bytes.length - consoleSize - ftrace - pmsg;
  const count = record === 0 ? 0 : Math.floor(dumps / record);
  if (count < 1 || count > MAX_ZONES) return [];
  const span = Math.floor(dumps / count / STEP) * STEP;
  const zones: Zone[] = Array.from({ length: count }, (_, i) => ({ offset: i * span, span, use: "dmesg" }));
  let at = count * span;
  if (consoleSize > 0) zones.push({ offset: at, span: consoleSize, use: "console" });
  at += consoleSize;
  const traces = ftraceZones(bytes.subarray(at, at + ftrace), 0, littleEndian).map((place) => at + place);
  for (const [i, offset] of traces.entries()) {
    zones.push({ offset, span: (traces[i + 1] ?? at + ftrace) - offset, use: "ftrace" });
  }
  at += ftrace;
  if (pmsg > 0 && at + ZONE_HEADER < bytes.length) {
    zones.push({ offset: at, span: Math.min(pmsg, bytes.length - at), use: "pmsg" });
  }
  return zones;
}
