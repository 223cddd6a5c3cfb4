import { u64big, viewOf } from "../core/bytes.ts";
import { CorruptError, UnavailableError, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { NT_GNU_BUILD_ID } from "../elf/constants.ts";
import { isElf } from "../elf/header.ts";
import { parseNotes } from "../elf/notes.ts";
import {
  readSections,
  type Section,
  SHF_EXECINSTR,
  SHF_WRITE,
  SHT_NOBITS,
  SHT_NOTE,
  SHT_SYMTAB,
} from "../elf/sections.ts";
import { KSYM_NAME_LEN, MAX_SYMBOLS, type SymbolNames, SymbolNamesBuilder } from "./symbol-names.ts";

/** The symbol table of a vmlinux, at the addresses it was linked to. */
export interface Vmlinux {
  /** As the file is called. */
  readonly file: string;
  /** GNU build-id, hex. */
  readonly buildId: string | undefined;
  readonly names: SymbolNames;
  /** Of the names, in the same order; per-CPU variables have their offsets (x86-64 before 6.15). */
  readonly addresses: BigUint64Array;
  /** Whether these are all the symbols there are. */
  readonly complete: boolean;
}

/** Elf64_Sym (elf.h): u32 st_name, u8 st_info, u8 st_other, u16 st_shndx, u64 st_value, u64 st_size. */
const SYM = { size: 24, name: 0, info: 4, section: 6, value: 8 } as const;
const SHN_UNDEF = 0;
const SHN_LORESERVE = 0xff00;
const SHN_ABS = 0xfff1;
const STT_SECTION = 3;
const STT_FILE = 4;
const STB_LOCAL = 0;
const STB_WEAK = 2;
/** Kernels with everything built in have some 10 MiB of names. */
const MAX_STRINGS = 64 * 2 ** 20;
const MAX_NOTES = 2 ** 16;
const HINT = "vmlinux with symbols is in the distribution's package of debug symbols; /boot/vmlinuz has none";

/**
 * Reads the symbols of an ELF vmlinux (`.symtab`), at most 2^20; nothing else of the file is read but its notes.
 * @throws UnsupportedError for a file that is no 64-bit ELF file; UnavailableError for one without symbols;
 *   CorruptError when they lie outside of the file
 */
export function readVmlinux(source: ByteSource): Vmlinux {
  if (!isElf(source)) throw new UnsupportedError("not an ELF vmlinux", { hint: HINT });
  const sections = readSections(source);
  const table = sections.find(({ type }) => type === SHT_SYMTAB);
  const strings = table && sections[table.link];
  if (table === undefined || strings === undefined) {
    throw new UnavailableError("the ELF file has no symbols (.symtab)", { hint: HINT });
  }
  const count = Math.min(Math.floor(table.size / SYM.size), MAX_SYMBOLS);
  const symbols = readAt(source, table.offset, count * SYM.size);
  const names = readAt(source, strings.offset, Math.min(strings.size, MAX_STRINGS));
  if (symbols.length < SYM.size || names.length === 0) {
    throw new CorruptError("the symbols lie outside of the file", { where: { offset: table.offset } });
  }
  const read = decode(symbols, names, sections);
  const complete = read.complete && Math.floor(symbols.length / SYM.size) * SYM.size === table.size;
  return { file: source.name, buildId: buildIdOf(source, sections), ...read, complete };
}

function decode(
  symbols: Buffer,
  strings: Buffer,
  sections: readonly Section[],
): Pick<Vmlinux, "names" | "addresses" | "complete"> {
  const view = viewOf(symbols);
  const builder = new SymbolNamesBuilder();
  const addresses: bigint[] = [];
  let complete = true;
  for (let at = 0; at + SYM.size <= symbols.length; at += SYM.size) {
    const info = view.getUint8(at + SYM.info);
    const index = view.getUint16(at + SYM.section, true);
    const kind = info & 0xf;
    if (index === SHN_UNDEF || kind === STT_SECTION || kind === STT_FILE) continue;
    const name = nameAt(strings, view.getUint32(at + SYM.name, true));
    if (name === undefined) complete = false;
    if (name === undefined || name.length === 0) continue;
    if (!builder.add(name, name.length, letterOf(info >> 4, index, sections).charCodeAt(0))) {
      return { names: builder.build(), addresses: BigUint64Array.from(addresses), complete: false };
    }
    addresses.push(u64big(view, at + SYM.value));
  }
  return { names: builder.build(), addresses: BigUint64Array.from(addresses), complete };
}

/** A name of printable ASCII, as long as the kernel's own may be. */
function nameAt(strings: Buffer, offset: number): Buffer | undefined {
  const name = strings.subarray(offset, offset + KSYM_NAME_LEN);
  const end = name.indexOf(0);
  if (end < 0) return undefined;
  for (let i = 0; i < end; i++) if (name[i]! <= 0x20 || name[i]! >= 0x7f) return undefined;
  return name.subarray(0, end);
}

/** nm(1)'s letter: capital for what is global. */
function letterOf(binding: number, index: number, sections: readonly Section[]): string {
  if (binding === STB_WEAK) return "W";
  const letter = kindOf(index, sections[index]);
  return binding === STB_LOCAL ? letter.toLowerCase() : letter;
}

function kindOf(index: number, section: Section | undefined): string {
  if (index === SHN_ABS) return "A";
  if (index >= SHN_LORESERVE || section === undefined) return "?";
  if ((section.flags & SHF_EXECINSTR) !== 0) return "T";
  if (section.type === SHT_NOBITS) return "B";
  return (section.flags & SHF_WRITE) === 0 ? "R" : "D";
}

/** In `.notes`, among the others of a kernel. */
function buildIdOf(source: ByteSource, sections: readonly Section[]): string | undefined {
  for (const { type, offset, size } of sections) {
    if (type !== SHT_NOTE) continue;
    for (const note of parseNotes(readAt(source, offset, Math.min(size, MAX_NOTES)), 0)) {
      if (note.name === "GNU" && note.type === NT_GNU_BUILD_ID) return note.desc.toString("hex");
    }
  }
  return undefined;
}

/** What the file has of a range; a size of 2^53 and more was read as `Infinity`, which the file bounds. */
function readAt(source: ByteSource, offset: number, size: number): Buffer {
  const bytes = Buffer.alloc(offset < source.size ? Math.min(size, source.size - offset) : 0);
  return bytes.subarray(0, source.read(offset, bytes));
}
