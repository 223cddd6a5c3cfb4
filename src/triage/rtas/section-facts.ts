import {
  DUMP_BODY,
  EPOW_BODY,
  HOTPLUG_BODY,
  IO_EVENT_BODY,
  MACHINE_CHECK_BODY,
  PARTITION_BODY,
  PRIVATE_HEADER_BODY,
  parseDump,
  parseEpow,
  parseHotplug,
  parseIoEvent,
  parseMachineCheck,
  parsePartition,
  parsePrivate,
  parseResource,
  parseUser,
  RESOURCE_BODY,
  type SectionHeader,
  USER_HEADER_BODY,
} from "./header.ts";
import {
  CREATORS,
  DUMPS,
  EPOW_ACTIONS,
  EPOW_MODIFIERS,
  EVENT_ACTIONS,
  EVENT_SEVERITIES,
  EVENT_TYPES,
  flagNames,
  HOTPLUG_ACTIONS,
  HOTPLUG_IDENTIFIERS,
  HOTPLUG_RESOURCES,
  IO_SCOPES,
  IO_TYPES,
  LOGICAL_RESOURCES,
  MC_SUBTYPES,
  MC_TYPES,
  named,
  SUBSYSTEMS,
} from "./names.ts";

/** A fact of a section: text, a number, or a 64-bit value. */
export type RtasFact = string | number | bigint | boolean | readonly string[];

type Facts = Readonly<Record<string, RtasFact>>;

/** Text in a section, up to its first NUL, without the blanks that fill it up. */
function textAt(body: Buffer, start: number, length: number): string {
  const field = body.subarray(start, start + length);
  const end = field.indexOf(0);
  return field.toString("latin1", 0, end < 0 ? field.length : end).trimEnd();
}

/** Keeps what has a value. */
const present = (facts: Readonly<Record<string, RtasFact | undefined>>): Facts =>
  Object.fromEntries(
    Object.entries(facts).filter((entry): entry is [string, RtasFact] => entry[1] !== undefined),
  );

/** BCD date and time as ISO 8601; undefined where they are none. The clock is the platform's, as a rule UTC. */
export function bcdTime(date: number, time: number): string | undefined {
  const text = `${date.toString(16).padStart(8, "0")}${time.toString(16).padStart(8, "0")}`;
  const parts = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)/.exec(text);
  if (parts === null) return undefined;
  const [, year, month, day, hours, minutes, seconds] = parts;
  const iso = `${year}-${month}-${day}T${hours}:${minutes}:${seconds}Z`;
  const at = Date.parse(iso);
  return Number.isNaN(at) || !new Date(at).toISOString().startsWith(iso.slice(0, 19)) ? undefined : iso;
}

function privateFacts(body: Buffer): Facts {
  const { date, time, creator, sections, platformLogId, entryId } = parsePrivate(body);
  const letter = String.fromCharCode(creator);
  return present({
    time: bcdTime(date, time),
    creator: CREATORS[letter] ?? `unknown (${letter})`,
    sections,
    platformLogId,
    entryId,
  });
}

function userFacts(body: Buffer): Facts {
  const { subsystem, severity, type, actions } = parseUser(body);
  return {
    subsystem: named(SUBSYSTEMS, subsystem >> 4),
    subsystemCode: subsystem,
    severity: named(EVENT_SEVERITIES, severity >> 4),
    severityCode: severity,
    type: named(EVENT_TYPES, type),
    actions: flagNames(EVENT_ACTIONS, actions),
  };
}

/** ras.c: the bit that says that there is an effective address is elsewhere in a UE. */
const UE = 0;
const CONTROL_MEMORY = 8;

function machineCheckFacts(body: Buffer): Facts {
  const { fruId, processorId, type, subtype, effectiveAddress, logicalAddress } = parseMachineCheck(body);
  const isUe = type === UE;
  const kind = isUe ? subtype & 7 : type === CONTROL_MEMORY ? (subtype >> 4) & 7 : subtype & 3;
  const names = MC_SUBTYPES[type];
  return present({
    error: named(MC_TYPES, type),
    kind: names === undefined ? undefined : names[kind] || `unknown (${kind})`,
    // Firmware tells of UEs alone whether they stay.
    permanent: isUe ? (subtype & 0x80) !== 0 : undefined,
    effectiveAddress: (subtype & (isUe ? 0x40 : 0x80)) === 0 ? undefined : effectiveAddress,
    logicalAddress: isUe && (subtype & 0x20) !== 0 ? logicalAddress : undefined,
    processorId,
    fruId,
  });
}

const NORMAL_MODIFIER_ACTION = 3;

function epowFacts(body: Buffer): Facts {
  const { sensor, modifier, extended } = parseEpow(body);
  const action = sensor & 15;
  return present({
    action: named(EPOW_ACTIONS, action),
    actionCode: action,
    sensor: sensor >> 4,
    reason: action === NORMAL_MODIFIER_ACTION ? named(EPOW_MODIFIERS, modifier & 15) : undefined,
    modifier,
    scope: extended === 0 ? "system" : extended === 1 ? "partition" : `unknown (${extended})`,
    platformReason: body.length >= 12 ? body.readBigUInt64BE(4) : undefined,
  });
}

function hotplugFacts(body: Buffer): Facts {
  const { resource, action, identifier, value } = parseHotplug(body);
  const isName = identifier === 1;
  const isPair = identifier === 4 && body.length >= 12;
  return present({
    resource: named(HOTPLUG_RESOURCES, resource),
    action: named(HOTPLUG_ACTIONS, action),
    identifier: named(HOTPLUG_IDENTIFIERS, identifier),
    drcName: isName ? textAt(body, 4, body.length - 4) : undefined,
    drcIndex: identifier === 2 ? value : isPair ? body.readUInt32BE(8) : undefined,
    count: identifier === 3 || identifier === 4 ? value : undefined,
  });
}

function dumpFacts(body: Buffer, { subtype }: SectionHeader): Facts {
  const { id, flags, nameLength, size } = parseDump(body);
  return present({
    kind: named(DUMPS, subtype),
    dumpId: id,
    location: (flags & 0x80) === 0 ? "partition" : "HMC",
    size: (flags & 0x20) === 0 ? undefined : size,
    osId: (flags & 0x40) === 0 && nameLength > 0 ? textAt(body, 16, Math.min(nameLength, 40)) : undefined,
  });
}

function ioFacts(body: Buffer): Facts {
  const { type, scope, subtype, drcIndex, dataLength } = parseIoEvent(body);
  return {
    type: named(IO_TYPES, type),
    scope: named(IO_SCOPES, scope),
    eventSubtype: subtype,
    drcIndex,
    dataLength,
  };
}

function partitionFacts(body: Buffer): Facts {
  const { primary, nameLength, count, logId } = parsePartition(body);
  return { primary, partitions: count, logId, partition: textAt(body, 8, nameLength) };
}

function resourceFacts(body: Buffer): Facts {
  const { resource, capacity, high, low } = parseResource(body);
  return present({
    resource: named(LOGICAL_RESOURCES, resource),
    capacity,
    cpu: resource === 0x10 ? high : undefined,
    drcIndex: resource === 0x41 ? high : undefined,
    address: resource === 0x40 ? (BigInt(high) << 32n) | BigInt(low) : undefined,
  });
}

/** struct rtas_src_scn: words 2 to 9 of extended reference code in front of 32 characters. */
const SRC_WORDS = 8;

const referenceFacts = (body: Buffer): Facts => ({
  referenceCode: textAt(body, 8 + 4 * SRC_WORDS, 32),
  words: Array.from({ length: SRC_WORDS }, (_, i) =>
    body
      .readUInt32BE(8 + 4 * i)
      .toString(16)
      .padStart(8, "0"),
  ),
});

const machineTypeFacts = (body: Buffer): Facts => ({
  model: textAt(body, 0, 8),
  serialNumber: textAt(body, 8, 12),
});

function extendedHeaderFacts(body: Buffer): Facts {
  const at = (offset: number) => body.readUInt32BE(offset);
  return present({
    ...machineTypeFacts(body),
    release: textAt(body, 20, 16),
    subsystemRelease: textAt(body, 36, 16),
    referenceTime: bcdTime(at(56), at(60)),
    symptom: textAt(body, 68, body[67] ?? 0),
  });
}

/** skiboot and librtas know two forms, by the version of the section. */
function firmwareFacts(body: Buffer, { version }: SectionHeader): Facts {
  if (version !== 1) return { returnCode: body.readUInt32BE(0) };
  return present({
    returnCode: body.readUInt32BE(0),
    line: body.readUInt32BE(4),
    object: body.readUInt32BE(8),
    file: body.length > 13 ? textAt(body, 13, body[12]!) : undefined,
  });
}

/** What a section's body takes at least, and how it is read. */
export interface SectionReader {
  readonly size: number;
  readonly read: (body: Buffer, header: SectionHeader) => Facts;
}

/** By the sections' ids. */
export const SECTION_READERS: Readonly<Record<string, SectionReader>> = {
  PH: { size: PRIVATE_HEADER_BODY, read: privateFacts },
  UH: { size: USER_HEADER_BODY, read: userFacts },
  MC: { size: MACHINE_CHECK_BODY, read: machineCheckFacts },
  EP: { size: EPOW_BODY, read: epowFacts },
  HP: { size: HOTPLUG_BODY, read: hotplugFacts },
  DH: { size: DUMP_BODY, read: dumpFacts },
  IE: { size: IO_EVENT_BODY, read: ioFacts },
  LP: { size: PARTITION_BODY, read: partitionFacts },
  LR: { size: RESOURCE_BODY, read: resourceFacts },
  PS: { size: 72, read: referenceFacts },
  SS: { size: 72, read: referenceFacts },
  MT: { size: 20, read: machineTypeFacts },
  EH: { size: 68, read: extendedHeaderFacts },
  SW: { size: 12, read: firmwareFacts },
  CH: { size: 1, read: (body) => ({ comment: textAt(body, 0, 144) }) },
  HM: { size: 1, read: (body) => ({ hmc: textAt(body, 0, 100) }) },
};
