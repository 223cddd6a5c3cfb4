import { alignUp, PAGE_SIZE } from "../core/address.ts";
import { isZero } from "../core/bytes.ts";
import { CorruptError, IoError, UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import { hex } from "../core/text.ts";
import { EHDR64_SIZE, ET_CORE, PHDR64_SIZE, PT_NOTE, SHDR64_SIZE } from "../elf/constants.ts";
import { encodeNote } from "../elf/encode.ts";
import type { ElfFile, ProgramHeader } from "../elf/header.ts";
import { type Note, parseNotes } from "../elf/notes.ts";
import type { Output } from "../io/output.ts";

/** Bytes per read, and how much is copied between two looks at signals. */
const CHUNK = 1 << 20;
const CHECKPOINT = 64 * 2 ** 20;
/** More than this in one PT_NOTE is damage. */
const MAX_NOTE_BYTES = 64 * 2 ** 20;
/** Twice the largest alignment of segments, a 2 MiB page: a larger gap is no padding. */
const MAX_PADDING = 4 * 2 ** 20;

export interface NewNote {
  readonly name: string;
  readonly type: number;
  readonly desc: Uint8Array;
}

export interface AddNotesOptions {
  readonly source: ByteSource;
  /** What `readElf` says of the source. */
  readonly elf: ElfFile;
  /** Added behind the notes that are there, in this order. */
  readonly notes: readonly NewNote[];
  /** Which of the notes that are there stay; all by default. */
  readonly keep?: (note: Note) => boolean;
  /** Must be seekable. */
  readonly output: Output;
  readonly context: Pick<JobContext, "checkpoint" | "progress">;
}

/** Where the notes went. */
export interface AddedNotes {
  /** File offset and size of the PT_NOTE that holds the new notes, with the old ones in front. */
  readonly offset: number;
  readonly size: number;
  /** Bytes by which everything behind them moved to make room: whole pages, 0 where there was room. */
  readonly shift: number;
  /** Length of the file written. */
  readonly fileSize: number;
}

/**
 * Copies an ELF64 core or vmcore with more notes. The program headers keep their order, with exactly one PT_NOTE and it
 * first where it was so (docs/architecture.md). The notes stay where they are and grow: crash reads them only in front
 * of the first PT_LOAD's bytes (crash `netdump.c` is_netdump). Where there is no room, all that lies behind moves by
 * whole pages; what nothing points at is no room unless it is zeros. Holes stay holes, and what a truncated file lacks stays missing.
 * @throws UnsupportedError when there is no PT_NOTE to add to, or the file is no little-endian ELF64 core
 * @throws CorruptError when the notes or headers are damaged
 * @throws IoError when the source changes underneath
 */
export async function addNotes(options: AddNotesOptions): Promise<AddedNotes> {
  const { source, output, context } = options;
  const { patches, split, added } = planNotes(options);
  context.progress.start(source.size, "copying");
  await copyHoley(source, split, added.shift, output, context);
  for (const { offset, bytes } of patches) output.write(bytes, 0, bytes.length, offset);
  context.progress.finish();
  await output.finish(added.fileSize);
  return added;
}

/** Bytes of the output that are not the source's. */
interface Patch {
  readonly offset: number;
  readonly bytes: Buffer;
}

interface Plan {
  readonly patches: readonly Patch[];
  /** What the source has from here on moves. */
  readonly split: number;
  readonly added: AddedNotes;
}

function planNotes({ source, elf, notes, keep = () => true }: AddNotesOptions): Plan {
  const { header, programs } = elf;
  if (header.bits !== 64 || !header.littleEndian || header.type !== ET_CORE) {
    throw new UnsupportedError("notes are added to 64-bit little-endian ELF cores and vmcores only");
  }
  const target = programs.find(({ type }) => type === PT_NOTE);
  if (target === undefined) {
    throw new UnsupportedError("the file has no PT_NOTE that a note could be added to");
  }
  if (!(target.offset >= EHDR64_SIZE && target.offset + target.filesz <= source.size)) {
    throw damaged(target.offset);
  }
  const segments = new Map<ProgramHeader, Buffer>();
  for (const program of programs) {
    if (program.type !== PT_NOTE || program.filesz === 0) continue;
    const { bytes, dropped } = keptNotes(source, program, keep);
    if (dropped || program === target) segments.set(program, bytes);
  }
  const before = segments.get(target) ?? Buffer.alloc(0);
  const after = [before, ...notes.map(({ name, type, desc }) => encodeNote(name, type, desc))];
  const grown = Buffer.concat(after);
  segments.set(target, grown);

  const split = target.offset + target.filesz;
  const missing = Math.max(0, target.offset + grown.length - roomEnd(source, elf, target));
  const shift = alignUp(missing, PAGE_SIZE);
  if (shift > 0) refuseStraddling(elf, split);
  const move = (offset: number) => (offset >= split && shift > 0 ? offset + shift : offset);
  const patches = [
    // What replaced notes leave behind is cleared.
    ...[...segments].map(([program, bytes]) => ({
      offset: program.offset,
      bytes: Buffer.concat([bytes, Buffer.alloc(Math.max(0, program.filesz - bytes.length))]),
    })),
    { offset: move(header.phoff), bytes: programTable(source, elf, segments, move) },
    ...movedSections(source, elf, target, grown.length, move),
    ...(move(header.phoff) === header.phoff ? [] : [{ offset: 32, bytes: word(move(header.phoff)) }]),
  ];
  const fileSize = Math.max(source.size + shift, target.offset + grown.length);
  return { patches, split, added: { offset: target.offset, size: grown.length, shift, fileSize } };
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

const damaged = (offset: number): CorruptError =>
  new CorruptError("the notes that are there are damaged: none can be added behind them", {
    where: { offset },
  });

/** The notes of a segment that stay, byte for byte, without the zeros behind the last. */
function keptNotes(
  source: ByteSource,
  { offset, filesz }: ProgramHeader,
  keep: (note: Note) => boolean,
): { bytes: Buffer; dropped: boolean } {
  if (!(filesz <= MAX_NOTE_BYTES && offset >= EHDR64_SIZE && offset + filesz <= source.size)) {
    throw damaged(offset);
  }
  const segment = Buffer.alloc(filesz);
  if (source.read(offset, segment) < filesz) throw damaged(offset);
  const fail = (at: number): never => {
    throw damaged(at);
  };
  const parts: Buffer[] = [];
  let dropped = false;
  for (const note of parseNotes(segment, offset, true, fail)) {
    if (keep(note)) parts.push(encoded(segment, note.offset - offset, note.desc.length));
    else dropped = true;
  }
  return { bytes: Buffer.concat(parts), dropped };
}

/** The bytes of a note with its padding, which the end of the segment may cut off. */
function encoded(segment: Buffer, at: number, descsz: number): Buffer {
  const bytes = Buffer.alloc(12 + alignUp(segment.readUInt32LE(at), 4) + alignUp(descsz, 4));
  segment.copy(bytes, 0, at, Math.min(segment.length, at + bytes.length));
  return bytes;
}

/**
 * Where the room of a note segment ends: at the next thing in the file that anything points to, if there is one, and at
 * its own end where something else than padding lies in between.
 */
function roomEnd(
  source: ByteSource,
  { header, programs, programCount }: ElfFile,
  program: ProgramHeader,
): number {
  const end = program.offset + program.filesz;
  // What sections hold may be anywhere. Only the number of program headers needs no data (PN_XNUM).
  if ((header.shoff !== 0 && header.shnum > 1) || programs.length < programCount) return end;
  const taken = [
    { start: 0, end: EHDR64_SIZE },
    { start: header.phoff, end: header.phoff + PHDR64_SIZE * programCount },
    ...(header.shoff === 0 ? [] : [{ start: header.shoff, end: header.shoff + SHDR64_SIZE }]),
    ...programs
      .filter((other) => other !== program && other.filesz > 0)
      .map(({ offset, filesz }) => ({ start: offset, end: offset + filesz })),
  ];
  let room = Number.POSITIVE_INFINITY;
  for (const range of taken) if (range.end > program.offset) room = Math.min(room, range.start);
  return room > end && isPadding(source, end, Math.min(room, source.size)) ? room : end;
}

function isPadding(source: ByteSource, start: number, end: number): boolean {
  const length = end - start;
  if (length > MAX_PADDING) return false;
  const bytes = Buffer.alloc(Math.max(0, length));
  source.read(start, bytes);
  return bytes.every((byte) => byte === 0);
}

/** Nothing can be moved apart that is one piece. */
function refuseStraddling({ header, programs, programCount }: ElfFile, split: number): void {
  const table = { offset: header.phoff, filesz: PHDR64_SIZE * programCount };
  const straddles = [table, ...programs].some(
    ({ offset, filesz }) => offset < split && offset + filesz > split,
  );
  if (straddles || programs.length < programCount) {
    throw new CorruptError("the segments of the file overlap its notes: there is no room for another", {
      where: { offset: split },
      hint: "leave it as it is and name the note's file where a command needs it, with --vmcsinfo",
    });
  }
}

/** The program header table with new places; p_memsz of notes is 0 in process cores, p_filesz in vmcores. */
function programTable(
  source: ByteSource,
  { header, programs }: ElfFile,
  segments: ReadonlyMap<ProgramHeader, Buffer>,
  move: (offset: number) => number,
): Buffer {
  const table = Buffer.alloc(PHDR64_SIZE * programs.length);
  source.read(header.phoff, table);
  for (const [i, program] of programs.entries()) {
    const at = PHDR64_SIZE * i;
    const notes = segments.get(program);
    if (notes !== undefined) {
      word(notes.length).copy(table, at + 32);
      if (program.memsz !== 0) word(notes.length).copy(table, at + 40);
    } else if (Number.isFinite(program.offset)) word(move(program.offset)).copy(table, at + 8);
  }
  return table;
}

/** sh_type and the places in an ELF64 section header (gABI ch. 4). */
const SHT_NOTE = 7;
const SH = { type: 4, offset: 24, size: 32 };

/** The section headers gcore writes behind everything, which describe the same bytes once more. */
function movedSections(
  source: ByteSource,
  { header }: ElfFile,
  { offset: notesAt }: ProgramHeader,
  notesSize: number,
  move: (offset: number) => number,
): Patch[] {
  const { shoff, shnum, shentsize } = header;
  if (shoff === 0 || shentsize !== SHDR64_SIZE || shoff + shnum * SHDR64_SIZE > source.size) return [];
  const table = Buffer.alloc(shnum * SHDR64_SIZE);
  source.read(shoff, table);
  for (let at = 0; at < table.length; at += SHDR64_SIZE) {
    const offset = Number(table.readBigUInt64LE(at + SH.offset));
    if (offset < source.size) word(move(offset)).copy(table, at + SH.offset);
    if (table.readUInt32LE(at + SH.type) === SHT_NOTE && offset === notesAt) {
      word(notesSize).copy(table, at + SH.size);
    }
  }
  return [
    { offset: 40, bytes: word(move(shoff)) },
    { offset: move(shoff), bytes: table },
  ];
}

/** Copies a file, moved by `shift` from `split` on; holes and runs of zero pages are left out and become holes. */
async function copyHoley(
  source: ByteSource,
  split: number,
  shift: number,
  output: Output,
  context: Pick<JobContext, "checkpoint" | "progress">,
): Promise<void> {
  const buffer = Buffer.allocUnsafeSlow(CHUNK);
  let untilCheckpoint = CHECKPOINT;
  for (let at = 0; at < source.size; ) {
    const limit = at < split ? Math.min(split, source.size) : source.size;
    const extent = source.extent?.(at, limit);
    const length = Math.min(limit, extent?.end ?? limit) - at;
    const step = extent?.hole === true ? length : Math.min(CHUNK, length);
    if (extent?.hole !== true) {
      if (source.read(at, buffer.subarray(0, step)) < step) {
        throw new IoError(`${source.name} became shorter while it was read, at offset ${hex(at)}`);
      }
      writeRuns(buffer, step, at < split ? at : at + shift, output);
    }
    at += step;
    context.progress.update(at);
    untilCheckpoint -= step;
    if (untilCheckpoint <= 0) {
      untilCheckpoint = CHECKPOINT;
      await context.checkpoint();
    }
  }
}

function writeRuns(buffer: Buffer, length: number, to: number, output: Output): void {
  let start = -1;
  for (let page = 0; page < length; page += PAGE_SIZE) {
    const zero = isZero(buffer, page, Math.min(PAGE_SIZE, length - page));
    if (zero && start >= 0) output.write(buffer, start, page - start, to + start);
    if (zero) start = -1;
    else if (start < 0) start = page;
  }
  if (start >= 0) output.write(buffer, start, length - start, to + start);
}
