import { alignUp } from "../core/address.ts";
import { viewOf } from "../core/bytes.ts";
import { EHDR64_SIZE, ELF_MAGIC, PHDR64_SIZE, PN_XNUM, SHDR64_SIZE } from "./constants.ts";
import type { ProgramHeader } from "./header.ts";

/** What kind of ELF file is written. */
export interface ElfTarget {
  /** e_machine. */
  readonly machine: number;
  /** Default 64. */
  readonly bits?: 32 | 64;
  /** Of headers and notes, default little-endian. */
  readonly bigEndian?: boolean;
}

/** One note with its 12-byte header, name and descriptor padded to 4 (gABI ch. 5). */
export function encodeNote(name: string, type: number, desc: Uint8Array, bigEndian = false): Buffer {
  const nameBytes = Buffer.from(`${name}\0`, "latin1");
  const descAt = 12 + alignUp(nameBytes.length, 4);
  const note = Buffer.alloc(descAt + alignUp(desc.length, 4));
  const view = viewOf(note);
  view.setUint32(0, nameBytes.length, !bigEndian);
  view.setUint32(4, desc.length, !bigEndian);
  view.setUint32(8, type, !bigEndian);
  nameBytes.copy(note, 12);
  note.set(desc, descAt);
  return note;
}

const EHDR32_SIZE = 52;
const PHDR32_SIZE = 32;
const SHDR32_SIZE = 40;

/**
 * Bytes from the start of an ELF file to the end of its program header table, which follows the header, at 64 or 52,
 * where every reader looks. From 65 535 entries on the count goes into section header 0 (PN_XNUM), which then follows
 * the table. In a 32-bit file offsets, addresses and sizes are below 2^32; of virtual addresses the low half counts.
 */
export function encodeElfHeaders(
  type: number,
  { machine, bits = 64, bigEndian = false }: ElfTarget,
  programs: readonly ProgramHeader[],
): Buffer {
  const wide = bits === 64;
  const [ehsize, phentsize, shentsize] = wide
    ? [EHDR64_SIZE, PHDR64_SIZE, SHDR64_SIZE]
    : [EHDR32_SIZE, PHDR32_SIZE, SHDR32_SIZE];
  const extended = programs.length >= PN_XNUM;
  const shoff = ehsize + programs.length * phentsize;
  const bytes = Buffer.alloc(shoff + (extended ? shentsize : 0));
  const fields = new Fields(bytes, wide, !bigEndian);
  bytes.write(ELF_MAGIC, 0, "latin1");
  bytes.set([wide ? 2 : 1, bigEndian ? 2 : 1, 1], 4); // class, data, EV_CURRENT
  fields.at(16).half(type).half(machine).word(1).long(0).long(ehsize);
  fields.long(extended ? shoff : 0).word(0);
  fields
    .half(ehsize)
    .half(phentsize)
    .half(extended ? PN_XNUM : programs.length);
  fields.half(extended ? shentsize : 0).half(extended ? 1 : 0);
  programs.forEach(({ type: kind, flags, offset, vaddr, paddr, filesz, memsz, align }, i) => {
    fields.at(ehsize + i * phentsize).word(kind);
    if (wide) fields.word(flags);
    fields.long(offset).long(vaddr).long(paddr).long(filesz).long(memsz);
    if (!wide) fields.word(flags);
    fields.long(align);
  });
  if (extended) fields.at(shoff + (wide ? 44 : 28)).word(programs.length);
  return bytes;
}

/** Writes the fields of ELF's structures one behind another. */
class Fields {
  readonly #view: DataView;
  readonly #wide: boolean;
  readonly #littleEndian: boolean;
  #at = 0;

  constructor(bytes: Buffer, wide: boolean, littleEndian: boolean) {
    this.#view = viewOf(bytes);
    this.#wide = wide;
    this.#littleEndian = littleEndian;
  }

  at(offset: number): this {
    this.#at = offset;
    return this;
  }

  half(value: number): this {
    this.#view.setUint16(this.#at, value, this.#littleEndian);
    this.#at += 2;
    return this;
  }

  word(value: number): this {
    this.#view.setUint32(this.#at, value, this.#littleEndian);
    this.#at += 4;
    return this;
  }

  /** As wide as the file's class. */
  long(value: number | bigint): this {
    if (!this.#wide) return this.word(Number(BigInt.asUintN(32, BigInt(value))));
    this.#view.setBigUint64(this.#at, BigInt(value), this.#littleEndian);
    this.#at += 8;
    return this;
  }
}

/** The most that `encodeElfHeaders` returns for that many program headers. */
export const elfHeadersSize = (programs: number): number =>
  EHDR64_SIZE + programs * PHDR64_SIZE + (programs >= PN_XNUM ? SHDR64_SIZE : 0);
