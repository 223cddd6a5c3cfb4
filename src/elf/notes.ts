import { alignUp } from "../core/address.ts";
import { latin1, viewOf } from "../core/bytes.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";
import { PT_NOTE } from "./constants.ts";
import type { ElfFile, ProgramHeader } from "./header.ts";

/** One ELF note; `name` has no trailing NUL, `offset` is where its header starts in the file. */
export interface Note {
  readonly name: string;
  readonly type: number;
  readonly desc: Buffer;
  readonly offset: number;
}

/** A name longer than this is damage: the longest in use is 10 bytes. */
const MAX_NAME = 256;
/** A thread's registers take 4 KiB with AVX-512: room for 16 000 threads. */
const MAX_NOTE_BYTES = 64 * 2 ** 20;
/** Four notes a thread: room for 50 000 threads. */
const MAX_NOTES = 200_000;
/** A file with this much damage is not read further for notes. */
const MAX_WARNINGS = 16;

/**
 * Every note of one PT_NOTE segment's bytes. Name and descriptor are padded to 4 bytes: the only alignment in
 * cores and vmcores, whatever p_align says (gABI ch. 5, Linux `fs/binfmt_elf.c` writenote).
 * Stops at the first note that does not fit and reports it through `damaged`.
 * @param base file offset of `bytes[0]`
 */
export function* parseNotes(
  bytes: Buffer,
  base: number,
  littleEndian = true,
  damaged?: (offset: number) => void,
): Generator<Note> {
  const view = viewOf(bytes);
  let at = 0;
  for (let count = 0; at + 12 <= bytes.length && count < MAX_NOTES; count++) {
    const namesz = view.getUint32(at, littleEndian);
    const descsz = view.getUint32(at + 4, littleEndian);
    const type = view.getUint32(at + 8, littleEndian);
    if (namesz === 0 && descsz === 0 && type === 0) break;
    const desc = at + 12 + alignUp(namesz, 4);
    if (namesz > MAX_NAME || desc + descsz > bytes.length) {
      damaged?.(base + at);
      return;
    }
    const name = latin1(bytes.subarray(at + 12, at + 12 + namesz)).replace(/\0.*$/s, "");
    yield { name, type, desc: bytes.subarray(desc, desc + descsz), offset: base + at };
    at = desc + alignUp(descsz, 4);
  }
}

/** Reads every note of every PT_NOTE segment, in file order of the program headers. */
export function readNotes(source: ByteSource, elf: ElfFile): { notes: Note[]; warnings: Warning[] } {
  const notes: Note[] = [];
  const warnings: Warning[] = [];
  let budget = MAX_NOTE_BYTES;
  for (const program of elf.programs) {
    if (program.type !== PT_NOTE || program.filesz === 0) continue;
    const bytes = readNoteSegment(source, program, budget, warnings);
    budget -= bytes.length;
    const damaged = (offset: number) => warnings.push(damagedNote(offset));
    for (const note of parseNotes(bytes, program.offset, elf.header.littleEndian, damaged)) notes.push(note);
    if (warnings.length > MAX_WARNINGS || notes.length > MAX_NOTES) break;
  }
  return { notes, warnings };
}

function readNoteSegment(
  source: ByteSource,
  program: ProgramHeader,
  most: number,
  warnings: Warning[],
): Buffer {
  const inFile = Math.max(0, Math.min(program.filesz, source.size - program.offset));
  const bytes = Buffer.alloc(Math.min(inFile, most));
  if (bytes.length < program.filesz) {
    warnings.push({
      code: "CORE003",
      message: `notes: ${bytes.length} of ${program.filesz} bytes at offset ${program.offset} are in the file`,
      where: { offset: program.offset },
    });
  }
  return bytes.subarray(0, bytes.length === 0 ? 0 : source.read(program.offset, bytes));
}

const damagedNote = (offset: number): Warning => ({
  code: "CORE003",
  message: `a note at offset ${offset} does not fit into its segment; it and those behind it are ignored`,
  where: { offset },
});
