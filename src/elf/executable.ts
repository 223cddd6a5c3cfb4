import { ADDRESS_LIMIT, alignDown, PAGE_SIZE } from "../core/address.ts";
import { u64, viewOf } from "../core/bytes.ts";
import type { ProcessImage } from "../core/process.ts";
import { rangeAt } from "../core/ranges.ts";
import {
  AT_ENTRY,
  AT_EXECFN,
  AT_PHDR,
  ELF_MAGIC,
  NT_GNU_BUILD_ID,
  PHDR64_SIZE,
  PT_LOAD,
  PT_NOTE,
} from "./constants.ts";
import { parseNotes } from "./notes.ts";
import { textOf } from "./text.ts";

/** The program a process runs, from the first page of its image, which every core keeps. */
export interface Executable {
  readonly path: string;
  /** Load address: where its ELF header is. */
  readonly base: number;
  /** End of its last segment in memory, .bss included. */
  readonly end: number;
  /** NT_GNU_BUILD_ID in hex. */
  readonly buildId: string | undefined;
}

/** An executable has about a dozen program headers; beyond this the page is not an ELF header. */
const MAX_PROGRAMS = 128;
const MAX_NOTES = 64 * 1024;
/** PATH_MAX. */
const MAX_PATH = 4096;
/** ARG_MAX bounds argv on the stack (`getconf ARG_MAX` is 2 MiB). */
const MAX_STACK = 8 * 2 ** 20;
const MAX_ARGUMENTS = 65_536;

/**
 * Finds the executable through AT_ENTRY/AT_PHDR and NT_FILE (`proc_maps` names as the kernel saw them), or through
 * AT_PHDR alone.
 * @returns `undefined` when neither leads to an executable
 */
export function executableOf(image: ProcessImage): Executable | undefined {
  const entry = image.auxv.get(AT_ENTRY) ?? image.auxv.get(AT_PHDR);
  const mapped =
    entry === undefined || entry >= ADDRESS_LIMIT ? undefined : rangeAt(image.files, Number(entry));
  if (mapped === undefined) return withoutFileNote(image);
  const own = image.files.filter((file) => file.path === mapped.path);
  const base = own[0]!.start;
  const fileEnd = own.at(-1)!.end;
  const { end, buildId } = readImageHeader(image, base) ?? { end: fileEnd, buildId: undefined };
  return { path: mapped.path, base, end: Math.max(end, fileEnd), buildId };
}

/**
 * Linux leaves NT_FILE out where it would exceed 4 MiB, 64 bytes a mapping assumed: from 65 536 mappings on
 * (`fs/binfmt_elf.c` fill_files_note). The program headers lie in the first page of the image.
 */
function withoutFileNote(image: ProcessImage): Executable | undefined {
  const phdr = image.auxv.get(AT_PHDR);
  if (phdr === undefined || phdr >= ADDRESS_LIMIT) return undefined;
  const base = alignDown(Number(phdr), PAGE_SIZE);
  const header = readImageHeader(image, base);
  if (header === undefined) return undefined;
  return { path: executedName(image) ?? image.psargs?.split(" ")[0] ?? "", base, ...header };
}

/** The name the program was started by: AT_EXECFN points at it, at the top of the initial stack. */
function executedName(image: ProcessImage): string | undefined {
  const address = image.auxv.get(AT_EXECFN);
  if (address === undefined || address >= ADDRESS_LIMIT) return undefined;
  const bytes = Buffer.alloc(MAX_PATH);
  const name = bytes.subarray(0, image.read(Number(address), bytes));
  const nul = name.indexOf(0);
  return nul <= 0 ? undefined : textOf(name.subarray(0, nul));
}

function readImageHeader(image: ProcessImage, base: number) {
  const header = Buffer.alloc(64);
  if (image.read(base, header) < 64 || header.toString("latin1", 0, 4) !== ELF_MAGIC) return undefined;
  const view = viewOf(header);
  const count = Math.min(view.getUint16(56, true), MAX_PROGRAMS);
  const table = Buffer.alloc(count * PHDR64_SIZE);
  const got = image.read(base + u64(view, 32), table);
  const programs = viewOf(table);
  let lowest = Number.POSITIVE_INFINITY;
  let highest = 0;
  let buildId: string | undefined;
  for (let at = 0; at + PHDR64_SIZE <= got; at += PHDR64_SIZE) {
    const type = programs.getUint32(at, true);
    const vaddr = u64(programs, at + 16);
    const memsz = u64(programs, at + 40);
    if (type === PT_LOAD) {
      lowest = Math.min(lowest, vaddr);
      highest = Math.max(highest, vaddr + memsz);
    } else if (type === PT_NOTE && Number.isFinite(lowest)) {
      buildId ??= readBuildId(image, base + (vaddr - lowest), memsz);
    }
  }
  const size = highest - lowest;
  return { end: size > 0 && Number.isSafeInteger(base + size) ? base + size : base, buildId };
}

function readBuildId(image: ProcessImage, address: number, size: number): string | undefined {
  const bytes = Buffer.alloc(Math.min(size, MAX_NOTES));
  const got = image.read(address, bytes);
  for (const note of parseNotes(bytes.subarray(0, got), 0)) {
    if (note.name === "GNU" && note.type === NT_GNU_BUILD_ID) return note.desc.toString("hex");
  }
  return undefined;
}

/**
 * The whole command line, from the initial stack: argc, argv[], NULL, envp[], NULL, auxv (System V ABI, AMD64
 * supplement §3.4.1). NT_PRPSINFO keeps only 80 bytes of it, gdb only argv[0].
 */
export function commandLineOf(image: ProcessImage): string[] | undefined {
  const execfn = Number(image.auxv.get(AT_EXECFN) ?? -1n);
  const stack = rangeAt(image.mappings, execfn);
  const phdr = image.auxv.get(AT_PHDR);
  if (stack === undefined || phdr === undefined) return undefined;
  const start = Math.max(stack.start, stack.end - MAX_STACK);
  const bytes = Buffer.alloc(stack.end - start);
  const length = image.read(start, bytes);
  const view = viewOf(bytes.subarray(0, length - (length % 8)));
  const auxv = findAuxv(view, phdr);
  const argv = auxv === undefined ? undefined : findArgv(view, auxv);
  return argv === undefined ? undefined : readArguments(bytes.subarray(0, length), start, argv);
}

/** The kernel lays the strings out one behind the other, in order; anything else is not a command line. */
function readArguments(stack: Buffer, start: number, argv: readonly number[]): string[] | undefined {
  const words: string[] = [];
  let floor = 0;
  for (const pointer of argv) {
    const at = pointer - start;
    const nul = at >= floor ? stack.indexOf(0, at) : -1;
    if (nul < 0) return undefined;
    words.push(textOf(stack.subarray(at, nul)));
    floor = nul + 1;
  }
  return words;
}

/** Offset of the pair {AT_PHDR, value}, which stands once in the initial stack. */
function findAuxv(view: DataView, phdr: bigint): number | undefined {
  for (let at = view.byteLength - 16; at >= 0; at -= 8) {
    if (view.getUint32(at, true) !== AT_PHDR || view.getUint32(at + 4, true) !== 0) continue;
    if (view.getBigUint64(at + 8, true) === phdr) return at;
  }
  return undefined;
}

/** Walks back from auxv over envp's NULL to argv, whose length argc must equal. */
function findArgv(view: DataView, auxv: number): number[] | undefined {
  let at = auxv;
  // To the start of auxv: its types are small, the NULL that ends envp comes before the first of them.
  while (at >= 16 && u64(view, at - 16) !== 0 && u64(view, at - 16) < 64) at -= 16;
  let nulls = 0;
  const argv: number[] = [];
  for (at -= 8; at >= 0 && argv.length <= MAX_ARGUMENTS; at -= 8) {
    const word = u64(view, at);
    if (word === 0 && ++nulls > 2) return undefined;
    if (word !== 0 && nulls === 2) {
      if (word === argv.length) return argv.reverse();
      argv.push(word);
    }
  }
  return undefined;
}
