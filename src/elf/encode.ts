import { alignUp } from "../core/address.ts";
import { viewOf } from "../core/bytes.ts";
import { EHDR64_SIZE, ELF_MAGIC, PHDR64_SIZE, PN_XNUM, SHDR64_SIZE } from "./constants.ts";
import type { ProgramHeader } from "./header.ts";

/** One note with its 12-byte header, name and descriptor padded to 4 (gABI ch. 5). */
export function encodeNote(name: string, type: number, desc: Uint8Array): Buffer {
  const nameBytes = Buffer.from(`${name}\0`, "latin1");
  const descAt = 12 + alignUp(nameBytes.length, 4);
  const note = Buffer.alloc(descAt + alignUp(desc.length, 4));
  note.writeUInt32LE(nameBytes.length, 0);
  note.writeUInt32LE(desc.length, 4);
  note.writeUInt32LE(type, 8);
  nameBytes.copy(note, 12);
  note.set(desc, descAt);
  return note;
}

/**
 * Bytes from the start of an ELF64 little-endian file to the end of its program header table, which follows the
 * header at 64 where every reader looks. From 65 535 entries on the count goes into section header 0 (PN_XNUM),
 * which then follows the table.
 */
export function encodeElfHeaders(type: number, machine: number, programs: readonly ProgramHeader[]): Buffer {
  const extended = programs.length >= PN_XNUM;
  const bytes = Buffer.alloc(elfHeadersSize(programs.length));
  const view = viewOf(bytes);
  const put64 = (at: number, value: number | bigint) => view.setBigUint64(at, BigInt(value), true);
  const shoff = EHDR64_SIZE + programs.length * PHDR64_SIZE;
  bytes.write(ELF_MAGIC, 0, "latin1");
  bytes.set([2, 1, 1], 4); // ELFCLASS64, ELFDATA2LSB, EV_CURRENT
  view.setUint16(16, type, true);
  view.setUint16(18, machine, true);
  view.setUint32(20, 1, true);
  put64(32, EHDR64_SIZE);
  put64(40, extended ? shoff : 0);
  view.setUint16(52, EHDR64_SIZE, true);
  view.setUint16(54, PHDR64_SIZE, true);
  view.setUint16(56, extended ? PN_XNUM : programs.length, true);
  view.setUint16(58, extended ? SHDR64_SIZE : 0, true);
  view.setUint16(60, extended ? 1 : 0, true);
  programs.forEach((program, i) => {
    const at = EHDR64_SIZE + i * PHDR64_SIZE;
    view.setUint32(at, program.type, true);
    view.setUint32(at + 4, program.flags, true);
    put64(at + 8, program.offset);
    put64(at + 16, program.vaddr);
    put64(at + 24, program.paddr);
    put64(at + 32, program.filesz);
    put64(at + 40, program.memsz);
    put64(at + 48, program.align);
  });
  if (extended) view.setUint32(shoff + 44, programs.length, true);
  return bytes;
}

/** Size of what `encodeElfHeaders` returns for that many program headers. */
export const elfHeadersSize = (programs: number): number =>
  EHDR64_SIZE + programs * PHDR64_SIZE + (programs >= PN_XNUM ? SHDR64_SIZE : 0);
