/** Fields and constants of ELF (System V ABI ch. 4 and 5; `elf.h`), written down once more for the builder alone. */

/** A number, or a bigint for values of 2^53 and above. */
export type Word = number | bigint;

export const PT_LOAD = 1;
export const PT_NOTE = 4;
export const ET_CORE = 4;
export const EM_X86_64 = 62;
export const PF_X = 1;
export const PF_W = 2;
export const PF_R = 4;
export const PN_XNUM = 0xffff;

/** [offset, size] of a field inside its structure. */
export type Field = readonly [offset: number, size: number];

export interface ClassLayout {
  readonly ehdrSize: number;
  readonly phdrSize: number;
  readonly shdrSize: number;
  readonly ehdr: Readonly<Record<HeaderField, Field>>;
  readonly phdr: Readonly<Record<ProgramField, Field>>;
  readonly shdr: Readonly<Record<SectionField, Field>>;
}

export type HeaderField =
  | "magic"
  | "class"
  | "data"
  | "identVersion"
  | "osabi"
  | "abiVersion"
  | "type"
  | "machine"
  | "version"
  | "entry"
  | "phoff"
  | "shoff"
  | "flags"
  | "ehsize"
  | "phentsize"
  | "phnum"
  | "shentsize"
  | "shnum"
  | "shstrndx";
export type ProgramField = "type" | "flags" | "offset" | "vaddr" | "paddr" | "filesz" | "memsz" | "align";
export type SectionField =
  | "name"
  | "type"
  | "flags"
  | "addr"
  | "offset"
  | "size"
  | "link"
  | "info"
  | "addralign"
  | "entsize";

const IDENT = {
  magic: [0, 4],
  class: [4, 1],
  data: [5, 1],
  identVersion: [6, 1],
  osabi: [7, 1],
  abiVersion: [8, 1],
  type: [16, 2],
  machine: [18, 2],
  version: [20, 4],
} as const;

/** Where the fields of ELF64 and ELF32 are. */
export const ELF64: ClassLayout = {
  ehdrSize: 64,
  phdrSize: 56,
  shdrSize: 64,
  ehdr: {
    ...IDENT,
    entry: [24, 8],
    phoff: [32, 8],
    shoff: [40, 8],
    flags: [48, 4],
    ehsize: [52, 2],
    phentsize: [54, 2],
    phnum: [56, 2],
    shentsize: [58, 2],
    shnum: [60, 2],
    shstrndx: [62, 2],
  },
  phdr: {
    type: [0, 4],
    flags: [4, 4],
    offset: [8, 8],
    vaddr: [16, 8],
    paddr: [24, 8],
    filesz: [32, 8],
    memsz: [40, 8],
    align: [48, 8],
  },
  shdr: {
    name: [0, 4],
    type: [4, 4],
    flags: [8, 8],
    addr: [16, 8],
    offset: [24, 8],
    size: [32, 8],
    link: [40, 4],
    info: [44, 4],
    addralign: [48, 8],
    entsize: [56, 8],
  },
};

export const ELF32: ClassLayout = {
  ehdrSize: 52,
  phdrSize: 32,
  shdrSize: 40,
  ehdr: {
    ...IDENT,
    entry: [24, 4],
    phoff: [28, 4],
    shoff: [32, 4],
    flags: [36, 4],
    ehsize: [40, 2],
    phentsize: [42, 2],
    phnum: [44, 2],
    shentsize: [46, 2],
    shnum: [48, 2],
    shstrndx: [50, 2],
  },
  phdr: {
    type: [0, 4],
    offset: [4, 4],
    vaddr: [8, 4],
    paddr: [12, 4],
    filesz: [16, 4],
    memsz: [20, 4],
    flags: [24, 4],
    align: [28, 4],
  },
  shdr: {
    name: [0, 4],
    type: [4, 4],
    flags: [8, 4],
    addr: [12, 4],
    offset: [16, 4],
    size: [20, 4],
    link: [24, 4],
    info: [28, 4],
    addralign: [32, 4],
    entsize: [36, 4],
  },
};

/** Writes `size` bytes of `value` (modulo 2^(8·size), so −1 is all ones). */
export function putWord(target: Uint8Array, at: number, size: number, value: Word, bigEndian = false): void {
  let rest = BigInt.asUintN(size * 8, BigInt(value));
  for (let i = 0; i < size; i++) {
    target[at + (bigEndian ? size - 1 - i : i)] = Number(rest & 0xffn);
    rest >>= 8n;
  }
}
