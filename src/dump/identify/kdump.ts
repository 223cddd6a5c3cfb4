import { Parser } from "binary-parser";
import { printable } from "../../core/text.ts";
import {
  type Description,
  type Facts,
  type Format,
  field,
  type Head,
  known,
  magic,
  readAt,
} from "./format.ts";

/** struct disk_dump_header behind signature, version and utsname (makedumpfile diskdump_mod.h). */
const status = (order: "little" | "big") =>
  new Parser()
    .endianness(order)
    .uint32("status")
    .uint32("blockSize")
    .uint32("subHeaderBlocks")
    .uint32("bitmapBlocks")
    .uint32("maxMapnr")
    .seek(12)
    .uint32("currentCpu")
    .uint32("cpus");
const STATUS_SIZE = 40;
const parsers = { little: status("little"), big: status("big") };

interface Status {
  readonly status: number;
  readonly blockSize: number;
  readonly subHeaderBlocks: number;
  readonly cpus: number;
}

const UTSNAME = 12;
const UTSNAME_FIELD = 65;
/** Offsets of `status`: struct timeval before it is 8-byte aligned on 64-bit machines, 4-byte on 32-bit ones. */
const STATUS_OFFSETS = [424, 412];

const COMPRESSIONS: readonly (readonly [number, string])[] = [
  [1, "zlib"],
  [2, "lzo"],
  [4, "snappy"],
  [0x20, "zstd"],
];
const INCOMPLETE = 8;

const isBlockSize = (size: number): boolean =>
  size >= 4096 && size <= 65536 && Number.isInteger(Math.log2(size));

interface Header {
  readonly order: "little" | "big";
  readonly wide: boolean;
  readonly status: Status;
}

/** Tries both byte orders and both word sizes: the block size shows which is right. */
function readStatus(bytes: Buffer): Header | undefined {
  for (const order of ["little", "big"] as const) {
    for (const offset of STATUS_OFFSETS) {
      if (bytes.length < offset + STATUS_SIZE) continue;
      const parsed = parsers[order].parse(bytes.subarray(offset)) as Status;
      if (isBlockSize(parsed.blockSize)) return { order, wide: offset === STATUS_OFFSETS[0], status: parsed };
    }
  }
  return undefined;
}

/** Describes a KDUMP or DISKDUMP header; `bytes` starts with its signature. */
function describeHeader(bytes: Buffer, subHeader: (offset: number) => Buffer, prefix: string): Description {
  const header = readStatus(bytes);
  const version =
    header?.order === "big" ? bytes.readUInt32BE(8) : bytes.length < 12 ? 0 : bytes.readUInt32LE(8);
  const [sysname, nodename, release, , machine] = [0, 1, 2, 3, 4].map((i) =>
    field(bytes, UTSNAME + i * UTSNAME_FIELD, UTSNAME_FIELD),
  ) as [string, string, string, string, string];
  const flags = header?.status.status ?? 0;
  const compression = COMPRESSIONS.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);
  const names = [
    ["system", sysname],
    ["node", nodename],
    ["release", release],
    ["machine", machine],
  ].filter(([, value]) => value !== "");
  const parts = [`${prefix} v${version}`, ...names.map(([label, value]) => `${label} ${printable(value!)}`)];
  if ((flags & INCOMPLETE) !== 0) parts.push("INCOMPLETE");
  return {
    phrase: parts.join(", "),
    facts: known({
      headerVersion: version,
      release,
      machine,
      node: nodename,
      ...(header === undefined
        ? {}
        : {
            blockSize: header.status.blockSize,
            compression: compression.join(", ") || "none",
            complete: (flags & INCOMPLETE) === 0,
            cpus: header.status.cpus,
            // Diskdump has a sub header of another kind.
            ...(bytes.toString("latin1", 0, 8) === "DISKDUMP"
              ? {}
              : subHeaderFacts(header, version, subHeader(header.status.blockSize))),
          }),
    }),
    advice: "",
  };
}

/** dump_level since version 1, split since 2; both behind phys_base, an unsigned long. */
function subHeaderFacts({ order, wide }: Header, version: number, bytes: Buffer): Facts {
  const at = wide ? 8 : 4;
  const read = (offset: number) => (order === "big" ? bytes.readInt32BE(offset) : bytes.readInt32LE(offset));
  if (version < 1 || bytes.length < at + 8) return {};
  return version < 2 ? { dumpLevel: read(at) } : { dumpLevel: read(at), split: read(at + 4) === 1 };
}

const releaseOf = ({ facts }: Description): string => String(facts?.release ?? "");

/** `vmlinux` with the release where it is known and plain. */
const vmlinux = (release: string): string => (/^[\w.+~-]+$/.test(release) ? `vmlinux-${release}` : "vmlinux");

function describeKdump(head: Head, prefix: string): Description {
  const description = describeHeader(head.bytes, (offset) => readAt(head, offset, 16), prefix);
  const split = description.facts?.split === true;
  const advice = split
    ? `guestcore convert ${head.file} vmcore    # with its other parts, which lie beside it or are named with --part`
    : `crash ${vmlinux(releaseOf(description))} ${head.file}`;
  return { ...description, readable: true, advice };
}

const FLAT_HEADER_SIZE = 4096;
const FLAT_RECORD_SIZE = 16;

/** A record of a flattened dump: {i64 offset, i64 size} big endian, then the bytes. */
function flattenedContents(head: Head): { readonly bytes: Buffer; readonly at: number } | undefined {
  const record = readAt(head, FLAT_HEADER_SIZE, FLAT_RECORD_SIZE);
  if (record.length < FLAT_RECORD_SIZE || record.readBigInt64BE(0) !== 0n) return undefined;
  const size = record.readBigInt64BE(8);
  if (size < 16n) return undefined;
  const at = FLAT_HEADER_SIZE + FLAT_RECORD_SIZE;
  return { bytes: readAt(head, at, Math.min(4096, Number(size))), at };
}

function describeFlattened(head: Head): Description {
  const inner = flattenedContents(head);
  const { size } = head.source;
  const end = readAt(head, Math.max(FLAT_HEADER_SIZE, size - FLAT_RECORD_SIZE), FLAT_RECORD_SIZE);
  const whole = end.length === FLAT_RECORD_SIZE && end.every((byte) => byte === 0xff);
  const cut = whole ? "" : ", TRUNCATED: its end mark is missing";
  const advice = `makedumpfile -R ${head.file}.vmcore < ${head.file}    # puts the stream in order; then crash opens it`;
  if (inner?.bytes.toString("latin1", 0, 8) === "KDUMP   ") {
    // The sub header may be in a later record; it is not worth a walk.
    const kdump = describeHeader(inner.bytes, () => Buffer.alloc(0), "Flattened kdump compressed dump");
    return { phrase: kdump.phrase + cut, facts: { contents: "kdump", whole, ...kdump.facts }, advice };
  }
  const contents = inner?.bytes.toString("latin1", 0, 4) === "\x7fELF" ? "elf" : "unknown";
  const what = contents === "elf" ? "ELF dump" : "dump of unknown contents";
  return { phrase: `Flattened ${what}${cut}`, facts: { contents, whole }, advice };
}

/** Dumps made by makedumpfile, QEMU and their ancestors: facts of dump formats §2 and §3. */
export const KDUMP_FORMATS: readonly Format[] = [
  {
    name: "kdump",
    matches: magic("KDUMP   "),
    describe: (head) => describeKdump(head, "Kdump compressed dump"),
  },
  { name: "diskdump", matches: magic("DISKDUMP"), describe: (head) => describeKdump(head, "Diskdump") },
  { name: "flattened", matches: magic("makedumpfile\0\0\0\0"), describe: describeFlattened },
];
