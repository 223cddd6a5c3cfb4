import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import {
  type ClassLayout,
  ELF32,
  ELF64,
  EM_X86_64,
  ET_CORE,
  type Field,
  type HeaderField,
  PF_R,
  PF_W,
  PF_X,
  PN_XNUM,
  type ProgramField,
  PT_LOAD,
  PT_NOTE,
  putWord,
  type SectionField,
  type Word,
} from "./elf-fields.ts";

/**
 * Writes ELF files of any shape, honest or not. Source: System V ABI, ch. 4 and 5 (`Elf32_*`, `Elf64_*`), and for
 * PN_XNUM Linux `fs/binfmt_elf.c` (`fill_extnum_info`). Works in two phases, first every place, then the bytes, so
 * that files of terabytes can be described and written sparsely.
 */

export * from "./elf-fields.ts";

/** One program header and the bytes behind it. Every number is written as given, whether it makes sense or not. */
export interface ElfSegment {
  /** Default PT_LOAD. */
  readonly type?: number | undefined;
  /** Default PF_R | PF_W. */
  readonly flags?: number | undefined;
  readonly vaddr?: Word | undefined;
  readonly paddr?: Word | undefined;
  /** p_offset; default: the next free place, aligned to `dataAlign`. A given offset does not move the next place. */
  readonly offset?: Word | undefined;
  /** Where the bytes really go, when p_offset is to lie about it. */
  readonly at?: number | undefined;
  /** p_filesz; default: the length of `bytes`. */
  readonly filesz?: Word | undefined;
  /** p_memsz; default: p_filesz. */
  readonly memsz?: Word | undefined;
  /** p_align; default: `dataAlign`. */
  readonly align?: Word | undefined;
  readonly bytes?: Uint8Array | undefined;
}

interface ElfSection {
  readonly name: string;
  readonly type?: number;
  readonly flags?: Word;
  readonly addr?: Word;
  readonly offset?: Word;
  readonly size?: Word;
  readonly link?: number;
  readonly info?: number;
  readonly align?: Word;
  readonly entsize?: Word;
  /** Contents to place; default offset: the next free place. */
  readonly bytes?: Uint8Array;
}

export interface ElfSpec {
  /** Default true: ELFCLASS64. */
  readonly class64?: boolean;
  /** Default false: ELFDATA2LSB. */
  readonly bigEndian?: boolean;
  /** Default ET_CORE. */
  readonly type?: number;
  /** Default EM_X86_64. */
  readonly machine?: number;
  readonly osabi?: number;
  readonly entry?: Word;
  readonly flags?: number;
  readonly segments?: readonly ElfSegment[];
  /** Contents of a PT_NOTE, which becomes the first program header. */
  readonly notes?: Uint8Array;
  /** Where its bytes are: behind the program headers (kernel), behind all segments (gdb), or an offset. */
  readonly notesAt?: "start" | "end" | number;
  /** Changes to the PT_NOTE header; defaults are the kernel's: flags 0, memsz 0, align 4. */
  readonly noteHeader?: ElfSegment;
  /** Alignment of segment data and the default p_align. Default 4096, as the kernel; gdb uses 1. */
  readonly dataAlign?: number;
  /** Where the program headers are: an offset, or "end". Default: behind the ELF header. */
  readonly phoff?: number | "end";
  /** "gdb": one section per segment as gdb's gcore has; or a list, to which a null section and .shstrtab are added. */
  readonly sections?: "gdb" | readonly ElfSection[];
  /** Where the section headers are. Default: at the end, 8-aligned; 0 and no sections: none. */
  readonly shoff?: number;
  /** e_ehsize; QEMU 7.2 writes 8 (it takes the size of a pointer). */
  readonly ehsize?: number;
  /** Writes the count of program headers to sh_info of section 0. Default: when there are 65535 or more. */
  readonly pnXnum?: boolean;
  /** Raw values of ELF header fields, written last. */
  readonly header?: Partial<Record<HeaderField, Word>>;
  /** Raw values of program header fields by index in the table (PT_NOTE of `notes` is 0), written last. */
  readonly programs?: Readonly<Record<number, Partial<Record<ProgramField, Word>>>>;
  /** Raw values of section header fields by index, written last. */
  readonly sectionHeaders?: Readonly<Record<number, Partial<Record<SectionField, Word>>>>;
  /** Length of the file: shorter truncates, longer pads with zeros. */
  readonly size?: number;
}

/** Where everything of an ELF file is; offsets in bytes from its start. */
export interface ElfLayout {
  readonly size: number;
  readonly phoff: number;
  readonly phentsize: number;
  readonly phnum: number;
  readonly shoff: number | undefined;
  readonly shnum: number;
  readonly notes: { readonly offset: number; readonly size: number } | undefined;
  /** Place of each segment's bytes, in the order of `spec.segments`; without PT_NOTE of `notes`. */
  readonly segments: readonly { readonly offset: number; readonly size: number }[];
}

interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

interface PlacedElf {
  readonly layout: ElfLayout;
  /** Later pieces lie over earlier ones. */
  readonly pieces: readonly Piece[];
}

/** Files above this are for `writeElf`. */
const MAX_BUFFER = 1 << 30;

/** The file as bytes. @throws Error when it is larger than 1 GiB */
export function buildElf(spec: ElfSpec): Buffer {
  return describeElf(spec).core;
}

/** The file as bytes, and where everything in it is. @throws Error when it is larger than 1 GiB */
export function describeElf(spec: ElfSpec): { core: Buffer; layout: ElfLayout } {
  const { layout, pieces } = placeElf(spec);
  if (layout.size > MAX_BUFFER) throw new Error("too large for a buffer: use writeElf");
  const core = Buffer.alloc(layout.size);
  for (const { offset, bytes } of pieces) {
    if (offset < layout.size) core.set(bytes.subarray(0, layout.size - offset), offset);
  }
  return { core, layout };
}

/** Writes the file sparsely: what no piece covers is a hole, so offsets beyond 2^40 cost nothing. */
export function writeElf(path: string, spec: ElfSpec): ElfLayout {
  const { layout, pieces } = placeElf(spec);
  const file = openSync(path, "w");
  try {
    for (const { offset, bytes } of pieces) writeSync(file, bytes, 0, bytes.length, offset);
    // Also cuts off what `size` leaves no room for.
    ftruncateSync(file, layout.size);
  } finally {
    closeSync(file);
  }
  return layout;
}

const alignUp = (value: number, to: number): number => (to <= 1 ? value : Math.ceil(value / to) * to);

function record<F extends string>(
  fields: Readonly<Record<F, Field>>,
  size: number,
  bigEndian: boolean,
  ...values: readonly Partial<Record<F, Word | undefined>>[]
): Buffer {
  const bytes = Buffer.alloc(size);
  for (const set of values) {
    for (const [name, value] of Object.entries(set) as [F, Word | undefined][]) {
      const [offset, width] = fields[name];
      if (value !== undefined) putWord(bytes, offset, width, value, bigEndian);
    }
  }
  return bytes;
}

/** Hands out file space from a cursor that only explicit places leave alone. */
class Placer {
  readonly pieces: Piece[] = [];
  cursor: number;
  end: number;

  constructor(start: number) {
    this.cursor = start;
    this.end = start;
  }

  next(align: number): number {
    this.cursor = alignUp(this.cursor, align);
    return this.cursor;
  }

  /** Puts bytes behind everything placed so far. */
  append(bytes: Uint8Array, align: number): number {
    this.cursor = Math.max(this.cursor, this.end);
    return this.put(bytes, align);
  }

  /** Puts bytes at the cursor, or at a given offset without moving the cursor. */
  put(bytes: Uint8Array, align: number, at?: number): number {
    const offset = at ?? this.next(align);
    if (at === undefined) this.cursor = offset + bytes.length;
    if (bytes.length > 0) this.pieces.push({ offset, bytes });
    this.end = Math.max(this.end, offset + bytes.length);
    return offset;
  }
}

function placeElf(spec: ElfSpec): PlacedElf {
  const shape = spec.class64 === false ? ELF32 : ELF64;
  const big = spec.bigEndian === true;
  const dataAlign = spec.dataAlign ?? 4096;
  const segments = spec.segments ?? [];
  const phnum = segments.length + (spec.notes === undefined ? 0 : 1);
  const tableFirst = spec.phoff === undefined;
  const placer = new Placer(shape.ehdrSize + (tableFirst ? phnum * shape.phdrSize : 0));

  const noteAt = typeof spec.notesAt === "number" ? spec.notesAt : undefined;
  let noteOffset = 0;
  if (spec.notes !== undefined && spec.notesAt !== "end") noteOffset = placer.put(spec.notes, 4, noteAt);
  const placed = segments.map((segment) => placeSegment(segment, placer, dataAlign));
  if (spec.notes !== undefined && spec.notesAt === "end") noteOffset = placer.append(spec.notes, dataAlign);

  const sections = placeSections(spec, shape, placer, phnum, sectionsOf(spec, noteOffset, placed));
  const table = Buffer.concat(programTable(spec, shape, noteOffset, placed));
  const phoff =
    spec.phoff === "end" ? placer.append(table, 8) : placer.put(table, 8, spec.phoff ?? shape.ehdrSize);

  const header = record(shape.ehdr, shape.ehdrSize, big, {
    class: spec.class64 === false ? 1 : 2,
    data: big ? 2 : 1,
    identVersion: 1,
    osabi: spec.osabi ?? 0,
    type: spec.type ?? ET_CORE,
    machine: spec.machine ?? EM_X86_64,
    version: 1,
    entry: spec.entry ?? 0,
    phoff: phnum === 0 ? 0 : phoff,
    shoff: sections.shoff ?? 0,
    flags: spec.flags ?? 0,
    ehsize: spec.ehsize ?? shape.ehdrSize,
    phentsize: phnum === 0 ? 0 : shape.phdrSize,
    phnum: isExtended(spec, phnum) ? PN_XNUM : phnum,
    shentsize: sections.shnum === 0 ? 0 : shape.shdrSize,
    shnum: sections.shnum,
    shstrndx: sections.shstrndx,
  });
  header.write("\x7fELF", 0, "latin1");
  for (const [name, value] of Object.entries(spec.header ?? {}) as [HeaderField, Word][]) {
    putWord(header, ...shape.ehdr[name], value, big);
  }
  placer.put(header, 1, 0);
  return {
    layout: {
      size: spec.size ?? placer.end,
      phoff,
      phentsize: shape.phdrSize,
      phnum,
      shoff: sections.shoff,
      shnum: sections.shnum,
      notes: spec.notes === undefined ? undefined : { offset: noteOffset, size: spec.notes.length },
      segments: placed,
    },
    pieces: placer.pieces,
  };
}

const isExtended = (spec: ElfSpec, phnum: number): boolean => spec.pnXnum ?? phnum >= PN_XNUM;

function programTable(
  spec: ElfSpec,
  shape: ClassLayout,
  noteOffset: number,
  placed: readonly { readonly offset: number }[],
): Buffer[] {
  const dataAlign = spec.dataAlign ?? 4096;
  const table: Buffer[] = [];
  const add = (values: Partial<Record<ProgramField, Word | undefined>>): void => {
    const raw = spec.programs?.[table.length] ?? {};
    table.push(record(shape.phdr, shape.phdrSize, spec.bigEndian === true, values, raw));
  };
  const note = spec.noteHeader ?? {};
  if (spec.notes !== undefined) {
    add({
      type: note.type ?? PT_NOTE,
      flags: note.flags ?? 0,
      offset: note.offset ?? noteOffset,
      vaddr: note.vaddr,
      paddr: note.paddr,
      filesz: note.filesz ?? spec.notes.length,
      memsz: note.memsz ?? 0,
      align: note.align ?? 4,
    });
  }
  for (const [i, segment] of (spec.segments ?? []).entries()) {
    const filesz = segment.filesz ?? segment.bytes?.length ?? 0;
    add({
      type: segment.type ?? PT_LOAD,
      flags: segment.flags ?? PF_R | PF_W,
      offset: segment.offset ?? placed[i]?.offset,
      vaddr: segment.vaddr,
      paddr: segment.paddr,
      filesz,
      memsz: segment.memsz ?? filesz,
      align: segment.align ?? dataAlign,
    });
  }
  return table;
}

/** Places section contents, .shstrtab and the section headers; only a null section when that is all PN_XNUM needs. */
function placeSections(
  spec: ElfSpec,
  shape: ClassLayout,
  placer: Placer,
  phnum: number,
  sections: readonly ElfSection[],
): { shoff: number | undefined; shnum: number; shstrndx: number } {
  const extended = isExtended(spec, phnum);
  if (sections.length === 0 && !extended && spec.shoff === undefined) {
    return { shoff: undefined, shnum: 0, shstrndx: 0 };
  }
  const shnum = sections.length > 0 ? sections.length + 2 : 1;
  const shstrndx = sections.length > 0 ? shnum - 1 : 0;
  const table: Buffer[] = [];
  const add = (values: Partial<Record<SectionField, Word | undefined>>): void => {
    const raw = spec.sectionHeaders?.[table.length] ?? {};
    table.push(record(shape.shdr, shape.shdrSize, spec.bigEndian === true, values, raw));
  };
  // Elf64_Shdr[0] carries what the header's 16-bit fields cannot (fs/binfmt_elf.c, fill_extnum_info).
  add(extended ? { size: shnum, link: shstrndx, info: phnum } : {});
  if (sections.length > 0) {
    const names = stringTable([...sections.map((section) => section.name), ".shstrtab"]);
    for (const [i, section] of sections.entries()) {
      const offset = section.bytes === undefined ? undefined : placer.append(section.bytes, 1);
      add({
        name: names.offsets[i],
        type: section.type ?? 1,
        flags: section.flags,
        addr: section.addr,
        offset: section.offset ?? offset,
        size: section.size ?? section.bytes?.length,
        link: section.link,
        info: section.info,
        addralign: section.align ?? 1,
        entsize: section.entsize,
      });
    }
    const offset = placer.append(names.bytes, 1);
    add({ name: names.offsets.at(-1), type: 3, offset, size: names.bytes.length, addralign: 1 });
  }
  const bytes = Buffer.concat(table);
  const shoff = spec.shoff === undefined ? placer.append(bytes, 8) : placer.put(bytes, 8, spec.shoff);
  return { shoff, shnum, shstrndx };
}

function placeSegment(segment: ElfSegment, placer: Placer, align: number): { offset: number; size: number } {
  const bytes = segment.bytes ?? Buffer.alloc(0);
  const stated = segment.offset === undefined ? undefined : Number(segment.offset);
  // No file system takes an offset of 2^53; such a p_offset is a lie without bytes.
  const at = segment.at ?? (stated !== undefined && !Number.isSafeInteger(stated) ? 0 : stated);
  const reachable = segment.at !== undefined || stated === undefined || Number.isSafeInteger(stated);
  return { offset: placer.put(reachable ? bytes : Buffer.alloc(0), align, at), size: bytes.length };
}

function sectionsOf(
  spec: ElfSpec,
  noteOffset: number,
  placed: readonly { offset: number }[],
): readonly ElfSection[] {
  if (spec.sections !== "gdb") return spec.sections ?? [];
  const note = {
    name: "note0",
    type: 7,
    flags: 2,
    offset: noteOffset,
    size: spec.notes?.length ?? 0,
    align: 1,
  };
  const loads = (spec.segments ?? []).map((segment, i) => {
    const flags = segment.flags ?? PF_R | PF_W;
    return {
      name: "load",
      type: 1,
      flags: 2 | ((flags & PF_W) === 0 ? 0 : 1) | ((flags & PF_X) === 0 ? 0 : 4),
      addr: segment.vaddr ?? 0,
      offset: segment.offset ?? placed[i]?.offset ?? 0,
      size: segment.filesz ?? segment.bytes?.length ?? 0,
      align: 1,
    };
  });
  return spec.notes === undefined ? loads : [note, ...loads];
}

function stringTable(names: readonly string[]): { bytes: Buffer; offsets: readonly number[] } {
  const seen = new Map<string, number>();
  let text = "\0";
  for (const name of names) {
    if (seen.has(name)) continue;
    seen.set(name, text.length);
    text += `${name}\0`;
  }
  return { bytes: Buffer.from(text, "latin1"), offsets: names.map((name) => seen.get(name)!) };
}
