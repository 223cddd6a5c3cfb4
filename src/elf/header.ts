import elfy from "elfy";
import { CorruptError, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { ELF_MAGIC, PN_XNUM } from "./constants.ts";

/** ELF file header; fields are named after the gABI without their `e_` prefix. */
export interface ElfHeader {
  readonly bits: 32 | 64;
  readonly littleEndian: boolean;
  readonly osabi: number;
  readonly type: number;
  readonly machine: number;
  readonly phoff: number;
  readonly shoff: number;
  readonly ehsize: number;
  readonly phentsize: number;
  /** As stored: 0xffff may mean PN_XNUM. */
  readonly phnum: number;
  readonly shentsize: number;
  readonly shnum: number;
}

/**
 * Program header. Offsets and sizes are bytes; a 64-bit value of 2^53 or more reads as `Infinity`, which no bounds
 * check lets pass. `vaddr` is exact: in a vmcore it is a kernel address.
 */
export interface ProgramHeader {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly vaddr: bigint;
  readonly paddr: number;
  readonly filesz: number;
  readonly memsz: number;
  readonly align: number;
}

export interface ElfFile {
  readonly header: ElfHeader;
  readonly programs: readonly ProgramHeader[];
  /** How many program headers the file claims; more than it has when it ends inside the table. */
  readonly programCount: number;
  readonly warnings: readonly Warning[];
}

/** A core has one PT_LOAD a mapping: four times what Linux allows unless vm.max_map_count is raised. */
const MAX_PROGRAM_HEADERS = 1 << 18;
/** Entries decoded at a time, so that a huge table is never held twice. */
const BATCH = 4096;

/** elfy with exact 64-bit fields: its own reads round above 2^53. */
class ExactParser extends elfy.Parser {
  override readUInt64(bytes: Buffer, offset: number): number | bigint {
    const value = super.readUInt64(bytes, offset);
    if (value <= Number.MAX_SAFE_INTEGER) return value;
    return this.endian === "le" ? bytes.readBigUInt64LE(offset) : bytes.readBigUInt64BE(offset);
  }

  /**
   * elfy's own parseProgram also slices the segment's data out of a file it expects in memory, and keeps only the
   * p_type values it has names for.
   */
  programHeader(table: Buffer, at: number, bits: 32 | 64): ProgramHeader {
    const word = (at32: number, at64: number): number | bigint =>
      bits === 64 ? this.readUInt64(table, at + at64) : this.readUInt32(table, at + at32);
    return {
      type: this.readUInt32(table, at),
      flags: this.readUInt32(table, at + (bits === 64 ? 4 : 24)),
      offset: bounded(word(4, 8)),
      vaddr: BigInt(word(8, 16)),
      paddr: bounded(word(12, 24)),
      filesz: bounded(word(16, 32)),
      memsz: bounded(word(20, 40)),
      align: bounded(word(28, 48)),
    };
  }
}

const bounded = (value: number | bigint): number =>
  typeof value === "bigint" ? Number.POSITIVE_INFINITY : value;

/** Whether the source begins with the ELF magic. */
export function isElf(source: ByteSource): boolean {
  const magic = Buffer.alloc(4);
  return source.read(0, magic) === 4 && magic.toString("latin1") === ELF_MAGIC;
}

/**
 * Decodes the file header and every program header, PN_XNUM resolved. Nothing else of the file is read.
 * A table cut by the end of the file yields the entries that are there and a warning.
 * @param keep which program headers the caller needs: a core has up to 2^18 of them
 * @throws UnsupportedError when it is not ELF
 * @throws CorruptError when header or table cannot be right, with the offset of the field
 */
export function readElf(source: ByteSource, keep: (program: ProgramHeader) => boolean = () => true): ElfFile {
  const { parser, header, bytes } = readHeader(source);
  const warnings: Warning[] = [];
  const claimed = programHeaderCount(source, parser, header);
  if (claimed > MAX_PROGRAM_HEADERS) {
    throw new UnsupportedError(
      `ELF file claims ${claimed} program headers, more than ${MAX_PROGRAM_HEADERS}`,
      {
        where: { offset: 56 },
      },
    );
  }
  const entrySize = header.bits === 64 ? 56 : 32;
  if (claimed > 0 && header.phentsize !== entrySize) {
    throw new CorruptError(`ELF program header size is ${header.phentsize}, not ${entrySize}`, {
      where: { offset: header.bits === 64 ? 54 : 42 },
    });
  }
  const room = Math.max(0, Math.floor((source.size - header.phoff) / entrySize));
  if (claimed > 0 && (header.phoff < bytes.length || room === 0)) {
    throw new CorruptError(`ELF program header table at offset ${header.phoff} is outside the file`, {
      where: { offset: header.bits === 64 ? 32 : 28 },
      hint: "the file is truncated or damaged at its very start; take it again",
    });
  }
  const count = Math.min(claimed, room);
  if (count < claimed) {
    warnings.push({
      code: "CORE001",
      message: `the file ends inside the program header table: ${count} of ${claimed} entries are there`,
      where: { offset: source.size },
    });
  }
  const programs: ProgramHeader[] = [];
  let impossible = 0;
  for (const program of decodePrograms(source, parser, header, entrySize, count)) {
    if (!isPossible(program)) impossible++;
    if (keep(program)) programs.push(program);
  }
  if (impossible > 0) {
    warnings.push({
      code: "CORE005",
      message: `${plural(impossible, "program header")} with an offset or size that no file has`,
    });
  }
  return { header, programs, programCount: claimed, warnings };
}

/** Whether offset and sizes are numbers a file can have; others read as `Infinity`. */
export const isPossible = ({ offset, filesz, memsz }: ProgramHeader): boolean =>
  Number.isFinite(offset) && Number.isFinite(filesz) && Number.isFinite(memsz);

function readHeader(source: ByteSource) {
  const bytes = Buffer.alloc(64);
  const got = source.read(0, bytes);
  if (got < 4 || bytes.toString("latin1", 0, 4) !== ELF_MAGIC) {
    throw new UnsupportedError("not an ELF file");
  }
  const bits = bytes[4] === 1 ? 32 : bytes[4] === 2 ? 64 : undefined;
  if (bits === undefined || (bytes[5] !== 1 && bytes[5] !== 2)) {
    throw new CorruptError("ELF class or byte order is invalid", { where: { offset: 4 } });
  }
  const size = bits === 64 ? 64 : 52;
  if (got < size) throw new CorruptError("the file ends inside the ELF header", { where: { offset: got } });
  const parser = new ExactParser();
  const raw = parser.parseHeader(bytes);
  const header: ElfHeader = {
    bits,
    littleEndian: bytes[5] === 1,
    // elfy takes EI_OSABI from byte 6, which is EI_VERSION.
    osabi: bytes[7]!,
    // elfy keeps only the types and machines it has names for.
    type: parser.readUInt16(bytes, 16),
    machine: parser.readUInt16(bytes, 18),
    phoff: bounded(raw.phoff),
    shoff: bounded(raw.shoff),
    ehsize: raw.ehsize,
    phentsize: raw.phentsize,
    phnum: raw.phnum,
    shentsize: raw.shentsize,
    shnum: raw.shnum,
  };
  return { parser, header, bytes: bytes.subarray(0, size) };
}

/** The real number of program headers: e_phnum, or sh_info of section 0 behind PN_XNUM (gABI ch. 4). */
function programHeaderCount(source: ByteSource, parser: ExactParser, header: ElfHeader): number {
  if (header.phnum !== PN_XNUM || header.shoff === 0) return header.phnum;
  const section = Buffer.alloc(header.bits === 64 ? 64 : 40);
  if (header.shoff >= source.size || source.read(header.shoff, section) < section.length) {
    throw new CorruptError("e_phnum is PN_XNUM but section header 0 is outside the file", {
      where: { offset: header.bits === 64 ? 40 : 32 },
      hint: "the file is truncated or damaged; if it was streamed, take it again to a seekable file",
    });
  }
  return parser.readUInt32(section, header.bits === 64 ? 44 : 28);
}

function* decodePrograms(
  source: ByteSource,
  parser: ExactParser,
  header: ElfHeader,
  entrySize: number,
  count: number,
): Generator<ProgramHeader> {
  for (let first = 0; first < count; first += BATCH) {
    const table = Buffer.alloc(Math.min(BATCH, count - first) * entrySize);
    source.read(header.phoff + first * entrySize, table);
    for (let at = 0; at < table.length; at += entrySize) {
      yield parser.programHeader(table, at, header.bits);
    }
  }
}
