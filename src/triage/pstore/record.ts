import { latin1 } from "../../core/bytes.ts";
import type { Algorithm } from "./unpack.ts";

/** What a record is, by the names of Linux fs/pstore/platform.c pstore_type_names[]. */
export const RECORD_TYPES = [
  ...["dmesg", "mce", "console", "ftrace", "rtas", "powerpc-ofw", "powerpc-common", "pmsg", "powerpc-opal"],
  ...["unknown"],
] as const;
export type RecordType = (typeof RECORD_TYPES)[number];

/** Why the kernel dumped its log: kmsg_dump_reason_str() of Linux kernel/printk/printk.c, and those of 3.x and 4.x. */
export const REASONS = [
  ...["Panic", "Oops", "Emergency", "Shutdown", "Restart", "Halt", "Poweroff", "Kexec", "Unknown"],
] as const;
export type Reason = (typeof REASONS)[number];

/** The first line of every dump: why, which dump since boot, and which part of it; part 1 has the newest text. */
export interface RecordHeader {
  readonly reason: Reason;
  readonly count: number;
  readonly part: number;
}

/** What the Reed-Solomon code of ramoops found. */
export interface EccFacts {
  readonly corrected: number;
  /** Blocks with more wrong bytes than it repairs: what they hold is as it was found. */
  readonly unrecoverable: number;
}

export type ProblemCode =
  | "TRI301"
  | "TRI302"
  | "TRI303"
  | "TRI304"
  | "TRI305"
  | "TRI306"
  | "TRI307"
  | "TRI308";

/** Something wrong with the input, as a warning says it: see report/codes-triage.ts. */
export interface Problem {
  readonly code: ProblemCode;
  readonly message: string;
  readonly source: string;
  readonly offset?: number;
  readonly hint?: string;
}

/** One record of a store. */
export interface PstoreRecord {
  /** The file, and where it holds several the place in it: `OVMF_VARS.fd:dump-type0-1-1-1795231049-C`. */
  readonly source: string;
  /** What kept it: `ramoops`, `efi`, `erst`, `nvram`, `pstore_blk`, `virtio` …; undefined where that is not said. */
  readonly backend: string | undefined;
  readonly type: RecordType;
  /** Number that the store gave it. */
  readonly id: bigint | undefined;
  /** Bytes from the start of the file; undefined where the file is the record. */
  readonly offset: number | undefined;
  /** Unix time in milliseconds, by the guest's clock. */
  readonly time: number | undefined;
  /** `unknown`: nothing that is known unpacks it, and `bytes` are as they were found. */
  readonly compression: Algorithm | "none" | "unknown";
  /** Bytes that it takes in the store. */
  readonly stored: number;
  readonly header: RecordHeader | undefined;
  /** What the guest's own pstore would show, without the line that ramoops adds on its ECC. */
  readonly bytes: Buffer;
  readonly ecc: EccFacts | undefined;
  /** Why not all of it came out. */
  readonly fault: "cut" | "damaged" | "full" | undefined;
  /** Whether the guest deleted it and the store still has it. */
  readonly erased: boolean;
}

/** What is in one file. */
export interface StoreContents {
  readonly records: readonly PstoreRecord[];
  readonly problems: readonly Problem[];
}

/** A line break may have come by way of another system. */
const HEADER =
  /^(Panic|Oops|Emergency|Shutdown|Restart|Halt|Poweroff|Kexec|Unknown)#(\d{1,9}) Part(\d{1,9})\r?\n/;
/** Longest first line of a record. */
export const MAX_HEADER = 40;
/** pstore/zone's line in front of it (Linux fs/pstore/zone.c psz_kmsg_read()). */
const TOTAL = /^(?:Panic|Oops): Total \d{1,10} times\r?\n/;
const MAX_TOTAL = 40;
/** What ramoops adds behind a record that it reads (fs/pstore/ram_core.c persistent_ram_ecc_string()). */
const ECC_NOTICE =
  /\nECC: (?:No errors detected|(\d{1,10}) Corrected bytes, (\d{1,10}) unrecoverable blocks)\n$/;
const MAX_ECC_NOTICE = 80;

/** The first line of a dump, and where it ends; undefined for what has none. */
export function headerOf(
  bytes: Uint8Array,
): { readonly header: RecordHeader; readonly length: number } | undefined {
  const head = latin1(bytes.subarray(0, MAX_TOTAL + MAX_HEADER));
  const skipped = TOTAL.exec(head)?.[0].length ?? 0;
  const match = HEADER.exec(head.slice(skipped));
  if (match === null) return undefined;
  const [line, reason, count, part] = match;
  const header = { reason: reason as Reason, count: Number(count), part: Number(part) };
  return { header, length: skipped + line.length };
}

/** What the kernel logged, without the lines that pstore put in front of it. */
export const bodyOf = ({ bytes }: Pick<PstoreRecord, "bytes">): Buffer =>
  bytes.subarray(headerOf(bytes)?.length ?? 0);

/** Takes the line on ECC off the end of a file. */
export function withoutEcc(bytes: Uint8Array): { readonly bytes: Uint8Array; readonly ecc?: EccFacts } {
  const start = Math.max(0, bytes.length - MAX_ECC_NOTICE);
  const match = ECC_NOTICE.exec(latin1(bytes.subarray(start)));
  if (match === null) return { bytes };
  const ecc = { corrected: Number(match[1] ?? 0), unrecoverable: Number(match[2] ?? 0) };
  return { bytes: bytes.subarray(0, start + match.index), ecc };
}

/** Whether bytes begin as a line of the kernel's log does: `<6>[    0.000000] `, or without its level. */
export const looksLikeLog = (bytes: Uint8Array): boolean =>
  /^(?:<\d{1,3}>)?\[ {0,11}\d{1,10}\.\d{6}\]/.test(latin1(bytes.subarray(0, 48)));
