import { cString, u64, viewOf } from "../core/bytes.ts";
import type { ByteSource } from "../core/memory.ts";
import { EHDR64_SIZE, SHDR64_SIZE } from "./constants.ts";

/** A section of an ELF64 file, by what it is called. */
export interface Section {
  /** "" where the file ends before the names. */
  readonly name: string;
  readonly type: number;
  /** The low 32 bits of sh_flags, which have all that the gABI defines. */
  readonly flags: number;
  readonly offset: number;
  readonly size: number;
  /** sh_link: of a symbol table, the index of its string table. */
  readonly link: number;
}

/** Dumps that are made of sections have some dozen. */
const MAX_SECTIONS = 256;
/** Names beyond so many bytes of the string table are not read. */
const MAX_NAMES = 1 << 16;

export const SHT_SYMTAB = 2;
export const SHT_NOTE = 7;
/** Takes no bytes of the file: sections that were left to a file of debug information. */
export const SHT_NOBITS = 8;
export const SHF_WRITE = 1;
export const SHF_EXECINSTR = 4;

/**
 * Sections of a 64-bit little-endian ELF file, whose size is what the table says; none when the file ends inside the
 * table, or has more than 256 (gABI ch. 4 "Sections").
 */
export function readSections(source: ByteSource): Section[] {
  const header = Buffer.alloc(EHDR64_SIZE);
  if (source.read(0, header) < header.length) return [];
  const [count, nameIndex] = [header.readUInt16LE(60), header.readUInt16LE(62)];
  const isPlain = header[4] === 2 && header[5] === 1 && header.readUInt16LE(58) === SHDR64_SIZE;
  if (!isPlain || count > MAX_SECTIONS || nameIndex >= count) return [];
  const table = Buffer.alloc(count * SHDR64_SIZE);
  const at = u64(viewOf(header), 40);
  if (!(at < source.size) || source.read(at, table) < table.length) return [];
  const view = viewOf(table);
  const sections = Array.from({ length: count }, (_, i) => ({
    nameAt: view.getUint32(i * SHDR64_SIZE, true),
    type: view.getUint32(i * SHDR64_SIZE + 4, true),
    flags: view.getUint32(i * SHDR64_SIZE + 8, true),
    offset: u64(view, i * SHDR64_SIZE + 24),
    size: u64(view, i * SHDR64_SIZE + 32),
    link: view.getUint32(i * SHDR64_SIZE + 40, true),
  }));
  const { offset, size } = sections[nameIndex]!;
  const names = Buffer.alloc(offset < source.size ? Math.min(size, MAX_NAMES) : 0);
  if (names.length > 0) source.read(offset, names);
  return sections.map(({ nameAt, ...section }) => ({
    name: cString(names, nameAt, names.length) ?? "",
    ...section,
  }));
}
