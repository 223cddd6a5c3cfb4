import { Parser } from "binary-parser";
import type { ByteSource } from "../core/memory.ts";

/** How a machine lays out the two headers: the size of its `long`, and its byte order. */
export interface Layout {
  readonly bits: 32 | 64;
  readonly littleEndian: boolean;
}

/** struct disk_dump_header (makedumpfile diskdump_mod.h). */
export interface CommonHeader {
  readonly signature: string;
  readonly version: number;
  readonly system: string;
  readonly machine: string;
  readonly status: number;
  readonly blockSize: number;
  readonly subHeaderBlocks: number;
  readonly bitmapBlocks: number;
  readonly maxMapnr: number;
  readonly writtenBlocks: number;
  readonly cpus: number;
}

/** struct kdump_sub_header (makedumpfile diskdump_mod.h); later fields exist from a version on. */
export interface SubHeader {
  readonly physBase: number;
  readonly dumpLevel: number;
  readonly split: number;
  readonly startPfn: number;
  readonly endPfn: number;
  readonly vmcoreinfoOffset: number;
  readonly vmcoreinfoSize: number;
  readonly notesOffset: number;
  readonly notesSize: number;
  readonly eraseinfoOffset: number;
  readonly eraseinfoSize: number;
  readonly startPfn64: number;
  readonly endPfn64: number;
  readonly maxMapnr64: number;
}

/** The longest of the layouts. */
export const HEADER_SIZE = 464;
export const SUB_HEADER_SIZE = 104;
/** Of a 32-bit machine that does not pad it. */
const SHORT_SUB_HEADER_SIZE = 80;
const UTSNAME_FIELD = 65;

/** Offset of `status`: struct timeval before it is aligned to its `long`. */
export const statusOffset = ({ bits }: Layout): number => (bits === 64 ? 424 : 412);

const LAYOUTS: readonly Layout[] = [
  { bits: 64, littleEndian: true },
  { bits: 32, littleEndian: true },
  { bits: 64, littleEndian: false },
  { bits: 32, littleEndian: false },
];

/** Every layout, those first that are likelier for a machine. */
export const layoutsFor = (likely: Partial<Layout>): Layout[] =>
  LAYOUTS.toSorted((left, right) => unlike(left, likely) - unlike(right, likely));

const unlike = (layout: Layout, likely: Partial<Layout>): number =>
  (likely.bits === undefined || layout.bits === likely.bits ? 0 : 1) +
  (likely.littleEndian === undefined || layout.littleEndian === likely.littleEndian ? 0 : 2);

/** Bytes of the sub header that hold something, and offsets in it. */
export const subHeaderOf = ({ bits }: Layout) =>
  bits === 64
    ? ({ size: SUB_HEADER_SIZE, dumpLevel: 8, split: 12, start: 16 } as const)
    : ({ size: SHORT_SUB_HEADER_SIZE, dumpLevel: 4, split: 8, start: 12 } as const);

/** Offsets of header fields behind `status`. */
export const BEHIND_STATUS = {
  subHeaderBlocks: 8,
  bitmapBlocks: 12,
  maxMapnr: 16,
  writtenBlocks: 28,
} as const;

const NAME = { length: UTSNAME_FIELD, encoding: "latin1" };

function headerParser(layout: Layout): Parser {
  const nameEnd = 12 + 6 * UTSNAME_FIELD;
  return new Parser()
    .endianness(layout.littleEndian ? "little" : "big")
    .string("signature", { length: 8, encoding: "latin1" })
    .int32("version")
    .string("system", NAME)
    .seek(3 * UTSNAME_FIELD)
    .string("machine", NAME)
    .seek(UTSNAME_FIELD + statusOffset(layout) - nameEnd)
    .uint32("status")
    .uint32("blockSize")
    .uint32("subHeaderBlocks")
    .uint32("bitmapBlocks")
    .uint32("maxMapnr")
    .seek(8)
    .uint32("writtenBlocks")
    .seek(4)
    .uint32("cpus");
}

/** @param padded whether a 32-bit machine aligns 64-bit members to 8: ARM and PowerPC do, i386 and QEMU do not */
function subHeaderParser({ bits, littleEndian }: Layout, padded: boolean): Parser {
  const parser = new Parser().endianness(littleEndian ? "little" : "big");
  const long = (name: string) => (bits === 64 ? parser.uint64(name) : parser.uint32(name));
  const pad = () => (padded ? parser.seek(4) : parser);
  long("physBase");
  parser.int32("dumpLevel").int32("split");
  long("startPfn");
  long("endPfn");
  for (const name of ["vmcoreinfo", "notes", "eraseinfo"]) {
    pad();
    parser.uint64(`${name}Offset`);
    long(`${name}Size`);
  }
  pad();
  return parser.uint64("startPfn64").uint64("endPfn64").uint64("maxMapnr64");
}

const PARSERS = LAYOUTS.map((layout) => ({
  layout,
  header: headerParser(layout),
  subHeaders: (layout.bits === 64 ? [false] : [false, true]).map((padded) => subHeaderParser(layout, padded)),
}));

const parsersOf = ({ bits, littleEndian }: Layout) =>
  PARSERS.find(({ layout }) => layout.bits === bits && layout.littleEndian === littleEndian)!;

/** @param bytes at least HEADER_SIZE */
export function parseHeader(bytes: Buffer, layout: Layout): CommonHeader {
  const { system, machine, ...numbers } = parsersOf(layout).header.parse(bytes) as CommonHeader;
  return { ...numbers, system: untilNul(system), machine: untilNul(machine) };
}

const untilNul = (name: string): string => name.replace(/\0.*$/s, "");

/** The sub header in each way the layout allows; zeros where the file is shorter: a version 0 dump has none. */
export function parseSubHeaders(source: ByteSource, offset: number, layout: Layout): SubHeader[] {
  const bytes = Buffer.alloc(SUB_HEADER_SIZE);
  source.read(offset, bytes);
  return parsersOf(layout).subHeaders.map((parser) => {
    const fields = Object.entries(parser.parse(bytes) as Record<string, number | bigint>);
    return Object.fromEntries(fields.map(([name, value]) => [name, Number(value)])) as unknown as SubHeader;
  });
}
