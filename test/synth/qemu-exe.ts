import { ELF64, PF_R, PF_W, PF_X, putWord, type Word } from "./elf.ts";
import { NT_GNU_BUILD_ID, note } from "./notes.ts";
import { PAGE } from "./pattern.ts";
import type { SyntheticProcess } from "./qemu-process.ts";

/**
 * The executable as it lies in memory: R (headers, notes, .gnu.hash, .dynsym, .dynstr), RX, R, RELRO (.dynamic), RW
 * (.data) and .bss. A kernel core keeps page 0 of the first; gdb's gcore keeps all of it, symbols included.
 */
export const EXE = {
  headers: 0,
  hash: 0x1000,
  text: 0x4000,
  entry: 0x4e30,
  rodata: 0x8000,
  relro: 0xa000,
  data: 0xc000,
  bss: 0xe000,
  end: 0x1_1000,
} as const;

const PHDRS: readonly Partial<Record<keyof typeof ELF64.phdr, Word>>[] = [
  { type: 6, flags: PF_R, offset: 64, vaddr: 64, paddr: 64, filesz: 0x230, memsz: 0x230, align: 8 }, // PT_PHDR
  { type: 3, flags: PF_R, offset: 0x350, vaddr: 0x350, paddr: 0x350, filesz: 28, memsz: 28, align: 1 }, // PT_INTERP
  load(PF_R, 0, EXE.text, EXE.text),
  load(PF_R | PF_X, EXE.text, EXE.rodata, EXE.rodata),
  load(PF_R, EXE.rodata, EXE.relro, EXE.relro),
  load(PF_R | PF_W, EXE.relro, EXE.bss, EXE.end),
  { type: 2, flags: PF_R | PF_W, offset: EXE.relro, vaddr: EXE.relro, filesz: 0xa0, memsz: 0xa0, align: 8 }, // PT_DYNAMIC
  { type: 4, flags: PF_R, offset: 0x370, vaddr: 0x370, filesz: 0x20, memsz: 0x20, align: 8 }, // PT_NOTE, properties
  { type: 4, flags: PF_R, offset: 0x390, vaddr: 0x390, filesz: 0x44, memsz: 0x44, align: 4 }, // PT_NOTE, build-id
  { type: 0x6474e551, flags: PF_R | PF_W, align: 16 }, // PT_GNU_STACK
];

function load(flags: number, start: number, fileEnd: number, end: number) {
  return {
    type: 1,
    flags,
    offset: start,
    vaddr: start,
    paddr: start,
    filesz: fileEnd - start,
    memsz: end - start,
    align: PAGE,
  };
}

export const EXE_PHNUM = PHDRS.length;

export interface ExeSymbol {
  readonly name: string;
  /** Relative to the load address. */
  readonly value: number;
  readonly size: number;
}

/** Imports every QEMU has; undefined symbols come first in .dynsym. */
const IMPORTS = ["__libc_start_main", "malloc", "free", "g_malloc0", "memcpy"];

/** Writes headers, build-id, symbol table and .dynamic. @param symbols exported data; may be empty */
export function writeExe(
  process: SyntheticProcess,
  base: number,
  buildId: Uint8Array,
  symbols: readonly ExeSymbol[],
): void {
  const header = Buffer.alloc(ELF64.ehdrSize);
  const set = (name: keyof typeof ELF64.ehdr, value: Word) => putWord(header, ...ELF64.ehdr[name], value);
  header.write("\x7fELF\x02\x01\x01", 0, "latin1");
  set("type", 3);
  set("machine", 62);
  set("version", 1);
  set("entry", EXE.entry);
  set("phoff", 64);
  // Section headers are in the file but never in memory.
  set("shoff", 0x1_2340);
  set("ehsize", 64);
  set("phentsize", 56);
  set("phnum", PHDRS.length);
  set("shentsize", 64);
  set("shnum", 31);
  set("shstrndx", 30);
  process.putBytes(base, header);
  for (const [i, fields] of PHDRS.entries()) {
    const phdr = Buffer.alloc(ELF64.phdrSize);
    for (const [name, value] of Object.entries(fields)) {
      putWord(phdr, ...ELF64.phdr[name as keyof typeof ELF64.phdr], value);
    }
    process.putBytes(base + 64 + i * ELF64.phdrSize, phdr);
  }
  process.putBytes(base + 0x350, Buffer.from("/lib64/ld-linux-x86-64.so.2\0", "latin1"));
  process.putBytes(
    base + 0x370,
    note("GNU", 5, Buffer.from("028000c0040000000100000000000000", "hex"), { align: 8 }),
  );
  // The build-id is followed by the ABI tag in the same segment, as on Debian.
  const abiTag = note("GNU", 1, Buffer.from("00000000030000000200000000000000", "hex"));
  process.putBytes(base + 0x390, Buffer.concat([note("GNU", NT_GNU_BUILD_ID, buildId), abiTag]));
  writeSymbols(process, base, symbols);
}

function writeSymbols(process: SyntheticProcess, base: number, symbols: readonly ExeSymbol[]): void {
  const exported = sortForHash(symbols);
  const names = [...IMPORTS, ...exported.map((symbol) => symbol.name)];
  let text = "\0libc.so.6\0";
  const nameOffsets = names.map((name) => {
    const at = text.length;
    text += `${name}\0`;
    return at;
  });
  const first = IMPORTS.length + 1;
  const hash = gnuHash(
    exported.map((symbol) => symbol.name),
    first,
  );
  const table = Buffer.alloc((names.length + 1) * 24);
  for (const [i] of names.entries()) {
    const symbol = exported[i - IMPORTS.length];
    const at = (i + 1) * 24;
    putWord(table, at, 4, nameOffsets[i]!);
    putWord(table, at + 4, 1, symbol === undefined ? 0x12 : 0x11); // GLOBAL FUNC import, GLOBAL OBJECT
    putWord(table, at + 6, 2, symbol === undefined ? 0 : symbol.value >= EXE.bss ? 26 : 25);
    putWord(table, at + 8, 8, symbol?.value ?? 0);
    putWord(table, at + 16, 8, symbol?.size ?? 0);
  }
  const symtab = base + EXE.hash + Math.ceil(hash.length / 8) * 8;
  const strtab = symtab + table.length;
  process.putBytes(base + EXE.hash, hash);
  process.putBytes(symtab, table);
  process.putBytes(strtab, Buffer.from(text, "latin1"));
  // ld.so has made these pointers absolute in memory (glibc's ADJUST_DYN_INFO).
  const dynamic: readonly (readonly [number, number])[] = [
    [1, 1], // DT_NEEDED libc.so.6
    [12, EXE.text], // DT_INIT
    [0x6ffffef5, base + EXE.hash], // DT_GNU_HASH
    [5, strtab],
    [6, symtab],
    [10, text.length], // DT_STRSZ
    [11, 24], // DT_SYMENT
    [0x15, 0x7fe0_0100_0118], // DT_DEBUG
    [0x6ffffffb, 0x8000001], // DT_FLAGS_1: PIE, NOW
    [0, 0],
  ];
  for (const [i, [tag, value]] of dynamic.entries()) {
    process.put(base + EXE.relro + i * 16, 8, tag);
    process.put(base + EXE.relro + i * 16 + 8, 8, value);
  }
}

const BUCKETS = 3;

function hashOf(name: string): number {
  let hash = 5381;
  for (const byte of Buffer.from(name, "latin1")) hash = (Math.imul(hash, 33) + byte) >>> 0;
  return hash;
}

const sortForHash = (symbols: readonly ExeSymbol[]): ExeSymbol[] =>
  [...symbols].sort((a, b) => (hashOf(a.name) % BUCKETS) - (hashOf(b.name) % BUCKETS));

/** DT_GNU_HASH for names already sorted by bucket; symbol indices begin at `first`. */
function gnuHash(names: readonly string[], first: number): Buffer {
  const hashes = names.map(hashOf);
  const bytes = Buffer.alloc(16 + 8 + BUCKETS * 4 + names.length * 4);
  putWord(bytes, 0, 4, BUCKETS);
  putWord(bytes, 4, 4, first);
  putWord(bytes, 8, 4, 1); // one bloom word
  putWord(bytes, 12, 4, 6);
  let bloom = 0n;
  for (const hash of hashes) bloom |= (1n << BigInt(hash % 64)) | (1n << BigInt((hash >>> 6) % 64));
  putWord(bytes, 16, 8, bloom);
  for (const [i, hash] of hashes.entries()) {
    const bucket = hash % BUCKETS;
    const bucketAt = 24 + bucket * 4;
    if (bytes.readUInt32LE(bucketAt) === 0) putWord(bytes, bucketAt, 4, first + i);
    const last = hashes[i + 1] === undefined || hashes[i + 1]! % BUCKETS !== bucket;
    putWord(bytes, 24 + BUCKETS * 4 + i * 4, 4, last ? hash | 1 : hash & ~1);
  }
  return bytes;
}
