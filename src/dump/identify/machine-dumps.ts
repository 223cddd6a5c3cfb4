import { Parser } from "binary-parser";
import { bytesText, plural } from "../../core/text.ts";
import { readSections } from "../../elf/sections.ts";
import { efiTime } from "../efi-time.ts";
import { isXenCore } from "../xen-core.ts";
import { type Description, type Format, type Head, known, magic, readAt } from "./format.ts";

const SADUMP = "sadump\0\0";
const SADUMP_BLOCK = 4096;

/** struct sadump_header, its first fields (makedumpfile sadump_mod.h). */
const sadumpHeader = new Parser()
  .endianness("little")
  .seek(8)
  .uint32("version")
  .seek(20)
  .uint32("status")
  .uint32("compress")
  .uint32("blockSize")
  .seek(16)
  .uint32("maxMapnr")
  .seek(16)
  .uint32("cpus")
  .seek(4)
  .uint64("maxMapnr64");
const SADUMP_HEADER_SIZE = 96;

interface SadumpHeader {
  readonly version: number;
  readonly blockSize: number;
  readonly maxMapnr: number;
  readonly cpus: number;
  readonly maxMapnr64: bigint;
}

/** Describes the partition header at `offset` and, on the first disk, the dump header in the block behind it. */
function describeSadump(head: Head, offset: number, what: string): Description {
  const partition = readAt(head, offset, 160);
  const disk = partition.length < 160 ? 0 : partition.readUInt32LE(152);
  // On the first disk of a set the header of the set lies between: its first word is its size in blocks.
  const set = disk === 1 ? readAt(head, offset + SADUMP_BLOCK, 4) : Buffer.alloc(4);
  const between = set.length < 4 ? 0 : Math.min(set.readUInt32LE(0), 64);
  const dump = readAt(head, offset + SADUMP_BLOCK * (1 + between), SADUMP_HEADER_SIZE);
  const isHeader = dump.length === SADUMP_HEADER_SIZE && dump.toString("latin1", 0, 8) === SADUMP;
  const header = isHeader ? (sadumpHeader.parse(dump) as SadumpHeader) : undefined;
  return {
    phrase: disk === 0 ? what : `${what}, disk ${disk} of a set`,
    facts: known({
      disk: disk === 0 ? undefined : disk,
      time: partition.length < 160 ? undefined : efiTime(partition, 136),
      headerVersion: header?.version,
      blockSize: header?.blockSize,
      maxPfn: header?.version === 0 ? header.maxMapnr : exact(header?.maxMapnr64),
      cpus: header?.cpus,
    }),
    readable: true,
    advice:
      disk === 0 || offset > 0
        ? `guestcore convert ${head.file} vmcore    # then crash, drgn and makedumpfile open it`
        : `guestcore convert DISK1 --part DISK2… vmcore    # all files of the set, ${head.file} being number ${disk}`,
  };
}

const exact = (value: bigint | undefined): number | undefined =>
  value === undefined || value > Number.MAX_SAFE_INTEGER ? undefined : Number(value);

const limeHeader = new Parser().endianness("little").seek(4).uint32("version").uint64("start").uint64("end");

/** LiME's header, which AVML has too. */
function describeLime(head: Head, what: string): Description {
  const header =
    head.bytes.length < 24
      ? undefined
      : (limeHeader.parse(head.bytes) as { version: number; start: bigint; end: bigint });
  // `end` is the last byte of the range.
  const range =
    header === undefined ? undefined : `0x${header.start.toString(16)}-0x${(header.end + 1n).toString(16)}`;
  return {
    phrase: `${what}${header === undefined ? "" : ` v${header.version}`}${range === undefined ? "" : `, first range ${range}`}`,
    facts: known({ version: header?.version, firstRange: range }),
    readable: true,
    advice: `guestcore convert ${head.file} vmcore    # then crash, drgn and makedumpfile open it`,
  };
}

function describeLkcd(head: Head): Description {
  const version = head.bytes.length < 12 ? undefined : head.bytes.readUInt32LE(8);
  return {
    phrase: `LKCD dump${version === undefined ? "" : ` v${version}`}`,
    facts: known({ version }),
    advice: `crash vmlinux ${head.file}    # guestcore does not read this format`,
  };
}

/** DUMP_HEADER64 or DUMP_HEADER32 of Windows: build number at 12, then by word size machine and processors. */
function describeWindows(head: Head, wide: boolean): Description {
  const at = wide ? 48 : 32;
  const complete = head.bytes.length >= at + 8;
  const build = complete ? head.bytes.readUInt32LE(12) : undefined;
  const cpus = complete ? head.bytes.readUInt32LE(at + 4) : undefined;
  const parts = [`MS Windows ${wide ? 64 : 32}-bit crash dump`];
  if (build !== undefined) parts.push(`build ${build}`, plural(cpus!, "CPU"));
  return {
    phrase: parts.join(", "),
    facts: known({ build, cpus }),
    advice: `vol -f ${head.file} windows.info    # a Windows dump: WinDbg or Volatility; guestcore is for Linux guests`,
  };
}

const NOT_PV =
  "its page tables hold machine frames, which no tool follows in a vmcore; guestcore reads cores of HVM and PVH domains";

/** struct xc_core_header of Xen before 3.1: magic, vCPUs, pages, three offsets, all u32. */
function describeXenCore(head: Head, kind: "PV" | "HVM"): Description {
  const complete = head.bytes.length >= 12;
  const cpus = complete ? head.bytes.readUInt32LE(4) : undefined;
  const pages = complete ? head.bytes.readUInt32LE(8) : undefined;
  const size = pages === undefined ? "" : `, ${plural(cpus!, "vCPU")}, ${bytesText(pages * 4096)} of memory`;
  return {
    phrase: `Xen ${kind} domain core (xc_core)${size}`,
    facts: known({ cpus, pages }),
    readable: kind === "HVM",
    advice:
      kind === "HVM"
        ? `guestcore convert ${head.file} vmcore    # then crash, drgn and makedumpfile open it`
        : `crash vmlinux ${head.file}    # ${NOT_PV}`,
  };
}

/** An ELF file of sections instead of segments (Xen docs/misc/dump-core-format.txt). */
function describeXenElfCore(head: Head): Description {
  const sections = readSections(head.source);
  const isPv = sections.some(({ name }) => name === ".xen_p2m");
  const size = sections.find(({ name }) => name === ".xen_pages")?.size ?? 0;
  return {
    phrase: `Xen ${isPv ? "PV" : "HVM or PVH"} domain core (xc_core ELF), ${bytesText(size)} of memory`,
    facts: known({ paravirtualised: isPv, memory: size }),
    readable: !isPv,
    advice: isPv
      ? `crash vmlinux ${head.file}    # ${NOT_PV}`
      : `guestcore convert ${head.file} vmcore    # then crash, drgn and makedumpfile open it`,
  };
}

const LITTLE = (word: number): number[] => [word & 255, (word >>> 8) & 255, (word >>> 16) & 255, word >>> 24];

function describeMinidump(head: Head): Description {
  const streams = head.bytes.length < 12 ? undefined : head.bytes.readUInt32LE(8);
  return {
    phrase: `Mini DuMP crash report${streams === undefined ? "" : `, ${plural(streams, "stream")}`}`,
    facts: known({ streams }),
    advice: `minidump-stackwalk ${head.file}    # a process's crash report; it holds no guest memory`,
  };
}

/** Known before other ELF files are. */
export const XEN_ELF_CORE: Format = {
  name: "xc-core-elf",
  matches: ({ source }) => isXenCore(source),
  describe: describeXenElfCore,
};

/** Dumps of whole machines by firmware, LiME, LKCD, Windows and Xen: facts of dump formats §4, §7 and §8. */
export const MACHINE_DUMP_FORMATS: readonly Format[] = [
  {
    name: "sadump",
    matches: magic(SADUMP),
    describe: (head) => describeSadump(head, 0, "Fujitsu sadump"),
  },
  {
    name: "sadump-media",
    matches: magic(SADUMP, SADUMP_BLOCK),
    describe: (head) => describeSadump(head, SADUMP_BLOCK, "Fujitsu sadump media backup"),
  },
  { name: "lime", matches: magic("EMiL"), describe: (head) => describeLime(head, "LiME memory image") },
  {
    name: "avml",
    matches: magic("AVML"),
    describe: (head) => describeLime(head, "AVML compressed memory image"),
  },
  {
    name: "lkcd",
    matches: magic([0xed, 0x23, 0x8f, 0x61, 0x73, 0x01, 0x19, 0xa8]),
    describe: describeLkcd,
  },
  { name: "windows", matches: magic("PAGEDU64"), describe: (head) => describeWindows(head, true) },
  { name: "windows-32", matches: magic("PAGEDUMP"), describe: (head) => describeWindows(head, false) },
  { name: "xc-core", matches: magic(LITTLE(0xf00febed)), describe: (head) => describeXenCore(head, "PV") },
  {
    name: "xc-core-hvm",
    matches: magic(LITTLE(0xf00febee)),
    describe: (head) => describeXenCore(head, "HVM"),
  },
  { name: "minidump", matches: magic("MDMP"), describe: describeMinidump },
];
