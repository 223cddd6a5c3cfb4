import { Parser } from "binary-parser";

/**
 * Fixed structures of RTAS error logs, all big-endian whatever the guest is: LoPAR "RTAS Error/Event Return Format"
 * and "Platform Event Log Format, Version 6"; Linux arch/powerpc/include/asm/rtas-types.h (rtas_error_log,
 * rtas_ext_event_log_v6, pseries_errorlog), arch/powerpc/platforms/pseries/ras.c (pseries_mc_errorlog, epow_errorlog);
 * QEMU hw/ppc/spapr_events.c.
 */

/** Bytes of struct rtas_error_log in front of the extended log. */
export const FIXED_SIZE = 8;
/** Of struct rtas_ext_event_log_v6 in front of its sections. */
export const EXTENDED_SIZE = 16;
/** Of the head of a section. */
export const SECTION_SIZE = 8;
/** RTAS_ERROR_LOG_MAX (QEMU and Linux: 2048): no log is larger, the fixed part included. */
export const MAX_LOG = 2048;
/** "IBM\0" at the end of the extended header. */
export const COMPANY = Buffer.from("IBM\0", "latin1");
export const COMPANY_OFFSET = 12;
/** RTAS_V6EXT_LOG_FORMAT_EVENT_LOG. */
export const EVENT_LOG_FORMAT = 14;
export const VERSION_6 = 6;

export interface FixedHeader {
  readonly version: number;
  /** Severity, disposition and whether there is an extended log, from bit 7 down. */
  readonly byte1: number;
  /** Initiator and target, a nibble each. */
  readonly byte2: number;
  readonly type: number;
  /** Bytes behind the fixed part. */
  readonly extendedLength: number;
}
const fixedParser = new Parser()
  .endianness("big")
  .uint8("version")
  .uint8("byte1")
  .uint8("byte2")
  .uint8("type")
  .uint32("extendedLength");
/** @param bytes at least FIXED_SIZE */
export const parseFixed = (bytes: Uint8Array): FixedHeader => fixedParser.parse(bytes) as FixedHeader;

export interface ExtendedHeader {
  readonly flags: number;
  readonly format: number;
}
const extendedParser = new Parser().endianness("big").uint8("flags").seek(1).uint8("format").seek(13);
/** @param bytes at least EXTENDED_SIZE */
export const parseExtended = (bytes: Uint8Array): ExtendedHeader =>
  extendedParser.parse(bytes) as ExtendedHeader;

export interface SectionHeader {
  /** Two characters. */
  readonly id: string;
  /** With this header. */
  readonly length: number;
  readonly version: number;
  readonly subtype: number;
  readonly creator: number;
}
const sectionParser = new Parser()
  .endianness("big")
  .string("id", { length: 2, encoding: "latin1" })
  .uint16("length")
  .uint8("version")
  .uint8("subtype")
  .uint16("creator");
/** @param bytes at least SECTION_SIZE */
export const parseSection = (bytes: Uint8Array): SectionHeader => sectionParser.parse(bytes) as SectionHeader;

/** Bodies, from behind the section's head on, with the bytes that each needs. */
export const PRIVATE_HEADER_BODY = 40;
const privateParser = new Parser()
  .endianness("big")
  .uint32("date")
  .uint32("time")
  .seek(8)
  .uint8("creator")
  .seek(2)
  .uint8("sections")
  .seek(12)
  .uint32("platformLogId")
  .uint32("entryId");
export interface PrivateHeader {
  /** BCD, YYYYMMDD and HHMMSSxx. */
  readonly date: number;
  readonly time: number;
  readonly creator: number;
  readonly sections: number;
  readonly platformLogId: number;
  readonly entryId: number;
}
export const parsePrivate = (body: Uint8Array): PrivateHeader => privateParser.parse(body) as PrivateHeader;

export const USER_HEADER_BODY = 16;
const userParser = new Parser()
  .endianness("big")
  .uint8("subsystem")
  .uint8("data")
  .uint8("severity")
  .uint8("type")
  .seek(6)
  .uint16("actions");
export interface UserHeader {
  readonly subsystem: number;
  readonly severity: number;
  readonly type: number;
  readonly actions: number;
}
export const parseUser = (body: Uint8Array): UserHeader => userParser.parse(body) as UserHeader;

export const MACHINE_CHECK_BODY = 32;
const machineCheckParser = new Parser()
  .endianness("big")
  .uint32("fruId")
  .uint32("processorId")
  .uint8("type")
  .uint8("subtype")
  .seek(6)
  .uint64("effectiveAddress")
  .uint64("logicalAddress");
export interface MachineCheckBody {
  readonly fruId: number;
  readonly processorId: number;
  readonly type: number;
  readonly subtype: number;
  readonly effectiveAddress: bigint;
  readonly logicalAddress: bigint;
}
export const parseMachineCheck = (body: Uint8Array): MachineCheckBody =>
  machineCheckParser.parse(body) as MachineCheckBody;

export const EPOW_BODY = 3;
const epowParser = new Parser().uint8("sensor").uint8("modifier").uint8("extended");
export interface EpowBody {
  readonly sensor: number;
  readonly modifier: number;
  readonly extended: number;
}
export const parseEpow = (body: Uint8Array): EpowBody => epowParser.parse(body) as EpowBody;

export const HOTPLUG_BODY = 8;
const hotplugParser = new Parser()
  .endianness("big")
  .uint8("resource")
  .uint8("action")
  .uint8("identifier")
  .seek(1)
  .uint32("value");
export interface HotplugBody {
  readonly resource: number;
  readonly action: number;
  readonly identifier: number;
  readonly value: number;
}
export const parseHotplug = (body: Uint8Array): HotplugBody => hotplugParser.parse(body) as HotplugBody;

export const DUMP_BODY = 16;
const dumpParser = new Parser()
  .endianness("big")
  .uint32("id")
  .uint8("flags")
  .seek(2)
  .uint8("nameLength")
  .uint64("size");
export interface DumpBody {
  readonly id: number;
  /** 0x80: the dump went to the HMC, else to the partition; 0x40: its name is hex; 0x20: its size is known. */
  readonly flags: number;
  readonly nameLength: number;
  readonly size: bigint;
}
export const parseDump = (body: Uint8Array): DumpBody => dumpParser.parse(body) as DumpBody;

export const IO_EVENT_BODY = 8;
const ioParser = new Parser()
  .endianness("big")
  .uint8("type")
  .uint8("dataLength")
  .uint8("scope")
  .uint8("subtype")
  .uint32("drcIndex");
export interface IoEventBody {
  readonly type: number;
  readonly dataLength: number;
  readonly scope: number;
  readonly subtype: number;
  readonly drcIndex: number;
}
export const parseIoEvent = (body: Uint8Array): IoEventBody => ioParser.parse(body) as IoEventBody;

export const PARTITION_BODY = 8;
const partitionParser = new Parser()
  .endianness("big")
  .uint16("primary")
  .uint8("nameLength")
  .uint8("count")
  .uint32("logId");
export interface PartitionBody {
  readonly primary: number;
  readonly nameLength: number;
  readonly count: number;
  readonly logId: number;
}
export const parsePartition = (body: Uint8Array): PartitionBody =>
  partitionParser.parse(body) as PartitionBody;

export const RESOURCE_BODY = 12;
const resourceParser = new Parser()
  .endianness("big")
  .uint8("resource")
  .seek(1)
  .uint16("capacity")
  .uint32("high")
  .uint32("low");
export interface ResourceBody {
  readonly resource: number;
  readonly capacity: number;
  /** CPU id, DRC index, or the upper half of a page's address. */
  readonly high: number;
  readonly low: number;
}
export const parseResource = (body: Uint8Array): ResourceBody => resourceParser.parse(body) as ResourceBody;
