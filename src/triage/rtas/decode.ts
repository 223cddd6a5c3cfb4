import {
  COMPANY,
  COMPANY_OFFSET,
  EVENT_LOG_FORMAT,
  EXTENDED_SIZE,
  FIXED_SIZE,
  MAX_LOG,
  parseExtended,
  parseFixed,
  VERSION_6,
} from "./header.ts";
import {
  DISPOSITION_NAMES,
  EXTENDED_FLAGS,
  flagNames,
  INITIATORS,
  named,
  SEVERITY_NAMES,
  TYPES,
} from "./names.ts";
import { type RtasSection, readSections } from "./sections.ts";

/** One RTAS error log, decoded. */
export interface RtasLog {
  /** Of its first byte, from the start of what it was found in. */
  readonly offset: number;
  /** Bytes of it that are there, and bytes that it says it has. */
  readonly size: number;
  readonly length: number;
  readonly version: number;
  readonly severity: (typeof SEVERITY_NAMES)[number];
  readonly disposition: (typeof DISPOSITION_NAMES)[number];
  readonly initiator: string;
  readonly target: string;
  readonly type: string;
  readonly typeCode: number;
  /** Undefined where there is no extended log, or one of another format. */
  readonly flags: readonly string[] | undefined;
  readonly sections: readonly RtasSection[];
  /** Why not all of it could be read. */
  readonly damage: readonly string[];
}

/**
 * Decodes the log that begins with the first byte.
 * @param bytes a log of any version; more than it has are left alone
 * @returns undefined where these bytes are no log at all
 */
export function decodeRtasLog(bytes: Uint8Array, offset = 0): RtasLog | undefined {
  if (bytes.length < FIXED_SIZE) return undefined;
  const log = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, MAX_LOG));
  const fixed = parseFixed(log.subarray(0, FIXED_SIZE));
  const { version, byte1, byte2, type } = fixed;
  // PAPR knows versions 1 to 6; severity 7 and disposition 3 are reserved.
  if (version === 0 || version > VERSION_6 || byte1 >> 5 === 7 || ((byte1 >> 3) & 3) === 3) return undefined;
  const hasExtended = (byte1 & 4) !== 0;
  const length = FIXED_SIZE + (hasExtended ? fixed.extendedLength : 0);
  const extended = readExtended(log, version, length, hasExtended);
  const present = Math.min(log.length, length);
  return {
    offset,
    size: present,
    length,
    version,
    severity: SEVERITY_NAMES[byte1 >> 5]!,
    disposition: DISPOSITION_NAMES[(byte1 >> 3) & 3]!,
    initiator: named(INITIATORS, byte2 >> 4),
    target: named(INITIATORS, byte2 & 15),
    type: named(TYPES, type),
    typeCode: type,
    ...extended,
    damage: [
      ...(length > MAX_LOG ? [`it says that it has ${length} bytes; RTAS writes ${MAX_LOG} at most`] : []),
      ...(present < Math.min(length, MAX_LOG) ? [`${present} of its ${length} bytes are there`] : []),
      ...extended.damage,
    ],
  };
}

type Extended = Pick<RtasLog, "flags" | "sections" | "damage">;

function readExtended(log: Buffer, version: number, length: number, hasExtended: boolean): Extended {
  const nothing = { flags: undefined, sections: [] };
  if (!hasExtended) return { ...nothing, damage: [] };
  if (version < VERSION_6) {
    return { ...nothing, damage: [`its extended part is of version ${version}, which is not decoded`] };
  }
  const start = FIXED_SIZE + EXTENDED_SIZE;
  if (log.length < start) return { ...nothing, damage: ["its extended header is cut"] };
  const { flags, format } = parseExtended(log.subarray(FIXED_SIZE, start));
  const company = log.subarray(FIXED_SIZE + COMPANY_OFFSET, start);
  if ((format & 15) !== EVENT_LOG_FORMAT || !company.equals(COMPANY)) {
    const damage = [`its extended part has format ${format & 15}, which is no platform event log`];
    return { ...nothing, flags: flagNames(EXTENDED_FLAGS, flags), damage };
  }
  const { sections, damage } = readSections(log, start, Math.min(length, MAX_LOG));
  return {
    flags: flagNames(EXTENDED_FLAGS, flags),
    sections,
    damage: [
      ...(damage === undefined ? [] : [damage]),
      ...sections.flatMap((section) => section.damage ?? []),
    ],
  };
}

/** Places of a log in what holds one: the log itself, behind a sequence number, behind err_log_info or r3. */
const PLACES = [0, 4, 8] as const;
/** Bytes from the fixed header to the company. */
const TO_COMPANY = FIXED_SIZE + COMPANY_OFFSET;
/** What is kept of one input. */
export const MAX_LOGS = 1000;

/**
 * Every RTAS error log in some bytes: one log; several, one behind the other; `/proc/powerpc/rtas/error_log`, each
 * behind a native-endian sequence number (Linux arch/powerpc/kernel/rtasd.c); a record of nvram or pstore, with
 * err_log_info or without (platforms/pseries/nvram.c); QEMU's RTAS blob (a log at 0x38, hw/ppc/spapr.c:
 * RTAS_ERROR_LOG_OFFSET); or memory that has some.
 */
export function decodeRtas(bytes: Uint8Array): readonly RtasLog[] {
  const finder = new RtasFinder();
  finder.push(bytes);
  return finder.end();
}

/** `decodeRtas` of bytes that come in pieces; memory does not grow with them. */
export class RtasFinder {
  readonly #logs: RtasLog[] = [];
  /** The end of what came, in which a log may have begun, and where it is in all of it. */
  #held = Buffer.alloc(0);
  #base = 0;
  /** Behind the last log found. */
  #free = 0;
  /** The first bytes of all, for a log without an extended part. */
  #head: Buffer = Buffer.alloc(0);
  #size = 0;

  push(bytes: Uint8Array): void {
    const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (this.#head.length < MAX_LOG + 8) {
      this.#head = Buffer.concat([this.#head, chunk.subarray(0, MAX_LOG + 8 - this.#head.length)]);
    }
    this.#size += chunk.length;
    const all = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    this.#search(all, all.length - MAX_LOG);
    const kept = Math.min(all.length, MAX_LOG + TO_COMPANY);
    this.#held = Buffer.from(all.subarray(all.length - kept));
    this.#base += all.length - kept;
  }

  end(): readonly RtasLog[] {
    this.#search(this.#held, Number.POSITIVE_INFINITY);
    if (this.#logs.length === 0) this.#plain();
    return this.#logs;
  }

  /** Logs of version 6 by the company in their headers, those that begin in front of `limit`. */
  #search(all: Buffer, limit: number): void {
    for (let at = all.indexOf(COMPANY); at >= 0; at = all.indexOf(COMPANY, at + 1)) {
      const start = at - TO_COMPANY;
      if (start >= limit || this.#logs.length >= MAX_LOGS) return;
      if (start < 0 || this.#base + start < this.#free || !isEventLog(all, start)) continue;
      const log = decodeRtasLog(all.subarray(start), this.#base + start);
      if (log === undefined) continue;
      this.#logs.push(log);
      this.#free = this.#base + start + log.size;
    }
  }

  /** A log that has nothing but its fixed part, or an extended one of an older version. */
  #plain(): void {
    for (const place of PLACES) {
      const log = decodeRtasLog(this.#head.subarray(place), place);
      if (log === undefined || log.length > MAX_LOG || log.length + place > this.#size) continue;
      if (!isPlainLog(this.#head.subarray(place, place + FIXED_SIZE), log)) continue;
      if (!isRest(this.#head, place + log.length)) continue;
      this.#logs.push(log);
      return;
    }
  }
}

/** What every log of version 6 has in front of the company: an extended part, which is valid and an event log. */
function isEventLog(all: Buffer, start: number): boolean {
  const at = start + FIXED_SIZE;
  return (
    all[start] === VERSION_6 &&
    (all[start + 1]! & 4) !== 0 &&
    (all[at]! & 0x80) !== 0 &&
    (all[at + 2]! & 15) === EVENT_LOG_FORMAT
  );
}

/** Reserved bits are clear, the type is one that there is, and something is told. */
function isPlainLog(fixed: Buffer, { typeCode, length }: RtasLog): boolean {
  const reserved = (fixed[1]! & 3) === 0 && fixed[2]! >> 4 <= 6 && (fixed[2]! & 15) <= 6;
  const extended = (fixed[1]! & 4) !== 0 ? length > FIXED_SIZE + EXTENDED_SIZE : fixed.readUInt32BE(4) === 0;
  return reserved && extended && TYPES[typeCode] !== undefined && (fixed[1]! !== 0 || typeCode !== 0);
}

/** A record is as large as its store has room for: zeros follow. */
function isRest(head: Buffer, from: number): boolean {
  for (let at = from; at < head.length; at++) if (head[at] !== 0) return false;
  return true;
}
