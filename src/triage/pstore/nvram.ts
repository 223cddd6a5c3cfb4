import { latin1, viewOf } from "../../core/bytes.ts";
import { plausible } from "./names.ts";
import { joined, plainRecord, type RecordFacts, recordsOf } from "./payload.ts";
import type { StoreContents } from "./record.ts";

/**
 * NVRAM of powerpc: partitions of 16-byte blocks (IEEE 1275 CHRP binding; struct nvram_header of Linux
 * arch/powerpc/kernel/nvram_64.c), in which the kernel keeps dumps of its log and the firmware's error logs.
 */

const BLOCK = 16;
const NAME_AT = 4;
const MAX_PARTITIONS = 4096;
const OOPS_LOG = "lnx,oops-log";
const RTAS_LOG = "ibm,rtas-log";

/** struct err_log_info, in front of what the kernel writes: the kind and the number of it. */
const INFO = 8;
/** ERR_TYPE_… of arch/powerpc/include/asm/rtas.h; the lowest bit is a flag. */
const RTAS = 2;
const PANIC = 4;
const PANIC_PACKED = 8;
/** struct oops_log_info since 3.12: version, length and time; before, its length alone. */
const VERSION = 5000;
const OOPS_HEADER = 12;
const OLD_OOPS_HEADER = 2;

interface Partition {
  readonly offset: number;
  readonly end: number;
  readonly name: string;
}

/** Partitions from the first on, as long as the headers' checksums are right. */
function partitionsOf(bytes: Uint8Array): Partition[] {
  const view = viewOf(bytes);
  const found: Partition[] = [];
  for (let at = 0; at + BLOCK <= bytes.length && found.length < MAX_PARTITIONS; ) {
    const length = view.getUint16(at + 2) * BLOCK;
    if (length < BLOCK || bytes[at] === 0 || checksum(bytes, at) !== bytes[at + 1]) break;
    const name = latin1(bytes.subarray(at + NAME_AT, at + BLOCK)).replace(/\0.*$/s, "");
    found.push({ offset: at, end: Math.min(bytes.length, at + length), name });
    at += length;
  }
  return found;
}

/** nvram_checksum(): the header's bytes but its own, added up with the carry. */
function checksum(bytes: Uint8Array, at: number): number {
  let sum = bytes[at]!;
  for (let i = 2; i < BLOCK; i++) {
    sum += bytes[at + i]!;
    if (sum > 0xff) sum -= 0xff;
  }
  return sum;
}

/** Whether bytes are an NVRAM with a partition of Linux's in it, or what such a partition holds. */
export const isNvram = (bytes: Uint8Array): boolean =>
  partitionsOf(bytes).some(({ name }) => name === OOPS_LOG || name === RTAS_LOG) || isOopsPartition(bytes);

function isOopsPartition(bytes: Uint8Array): boolean {
  if (bytes.length < INFO + OOPS_HEADER) return false;
  const view = viewOf(bytes);
  const kind = view.getUint32(0) & ~1;
  return (kind === PANIC || kind === PANIC_PACKED) && view.getUint16(INFO) === VERSION;
}

/** Reads an NVRAM, or what its partition for dumps holds. */
export function readNvram(bytes: Uint8Array, source: string): StoreContents {
  const partitions = partitionsOf(bytes);
  if (partitions.length === 0) return readOops(bytes, source, 0);
  return joined(
    partitions.map(({ offset, end, name }) => {
      const data = bytes.subarray(offset + BLOCK, end);
      const part = `${source}:${name}`;
      if (name === OOPS_LOG) return readOops(data, part, offset + BLOCK);
      if (name === RTAS_LOG) return readRtas(data, part, offset + BLOCK);
      return { records: [], problems: [] };
    }),
  );
}

function readOops(data: Uint8Array, source: string, offset: number): StoreContents {
  const view = viewOf(data);
  if (data.length < INFO + OOPS_HEADER) return { records: [], problems: [] };
  const kind = view.getUint32(0) & ~1;
  // pseries without a partition of its own for them has the firmware's logs and dumps in one.
  if (kind === RTAS) return readRtas(data, source, offset);
  if (kind !== PANIC && kind !== PANIC_PACKED) return { records: [], problems: [] };
  const isNew = view.getUint16(INFO) === VERSION;
  const start = INFO + (isNew ? OOPS_HEADER : OLD_OOPS_HEADER);
  const length = view.getUint16(INFO + (isNew ? 2 : 0));
  const facts: RecordFacts = {
    source,
    backend: "nvram",
    type: "dmesg",
    id: BigInt(view.getUint32(4)),
    offset,
    time: isNew ? plausible(view.getBigUint64(INFO + 4)) : undefined,
  };
  const bytes = data.subarray(start, start + length);
  const contents = recordsOf(facts, bytes, { packed: kind === PANIC_PACKED, log: true });
  if (bytes.length === length) return contents;
  const message = `${source}: the dump is longer than its partition`;
  const problem = { code: "TRI307", message, source, offset } as const;
  return { records: contents.records, problems: [...contents.problems, problem] };
}

/** A log of the firmware's, as the RTAS call gave it, behind what the kernel says of it. */
function readRtas(data: Uint8Array, source: string, offset: number): StoreContents {
  if (data.length <= INFO) return { records: [], problems: [] };
  const view = viewOf(data);
  const log = data.subarray(INFO);
  if ((view.getUint32(0) & ~1) !== RTAS || log.every((byte) => byte === 0)) {
    return { records: [], problems: [] };
  }
  const facts = { source, backend: "nvram", type: "rtas" as const, id: BigInt(view.getUint32(4)), offset };
  return { records: [plainRecord(facts, log)], problems: [] };
}
