import { Parser } from "binary-parser";
import { u64, u64big, viewOf } from "../core/bytes.ts";
import type { MappedFile } from "../core/process.ts";
import { cutTextOf, textOf } from "./text.ts";

/** Offsets and sizes of the x86-64 core notes: Linux `include/linux/elfcore.h`, `arch/x86/include/asm/user_64.h`. */
export const PRSTATUS_SIZE = 336;
/** pr_cursig. */
export const PRSTATUS_CURSIG = 12;
export const PRSTATUS_PID = 32;
export const PRSTATUS_REGS = 112;
/** user_regs_struct, 27 × u64, in this order. */
export const USER_REGS = [
  "r15",
  "r14",
  "r13",
  "r12",
  "rbp",
  "rbx",
  "r11",
  "r10",
  "r9",
  "r8",
  "rax",
  "rcx",
  "rdx",
  "rsi",
  "rdi",
  "orig_rax",
  "rip",
  "cs",
  "rflags",
  "rsp",
  "ss",
  "fs_base",
  "gs_base",
  "ds",
  "es",
  "fs",
  "gs",
] as const;
export type UserRegister = (typeof USER_REGS)[number];
/** pr_fpvalid, behind the registers. */
export const PRSTATUS_FPVALID = PRSTATUS_REGS + 8 * USER_REGS.length;

/** NT_PRSTATUS of x86-64: one per thread in a process core, one per CPU in a vmcore. */
export interface Prstatus {
  readonly pid: number;
  readonly registers: Readonly<Record<UserRegister, bigint>>;
}

export function decodePrstatus(desc: Buffer): Prstatus | undefined {
  if (desc.length !== PRSTATUS_SIZE) return undefined;
  const view = viewOf(desc);
  const values = USER_REGS.map((name, i) => [name, u64big(view, PRSTATUS_REGS + 8 * i)]);
  return {
    pid: view.getInt32(PRSTATUS_PID, true),
    registers: Object.fromEntries(values) as Record<UserRegister, bigint>,
  };
}

/** siginfo_t of 64-bit machines (`include/uapi/asm-generic/siginfo.h`): what a signal was sent by, as NT_SIGINFO has it. */
export interface Siginfo {
  readonly signal: number;
  /** Above 0 the kernel's own word on a fault; at 0 and below somebody sent it (SI_USER, SI_TKILL). */
  readonly code: number;
  /** Of the sender, where there is one. */
  readonly pid: number;
  /** Of the access, where the kernel tells of a fault. */
  readonly address: bigint;
}

const SIGINFO_FIELDS = 24;

export function decodeSiginfo(desc: Buffer): Siginfo | undefined {
  if (desc.length < SIGINFO_FIELDS) return undefined;
  const view = viewOf(desc);
  return {
    signal: view.getInt32(0, true),
    code: view.getInt32(8, true),
    pid: view.getInt32(16, true),
    address: view.getBigUint64(16, true),
  };
}

/** struct elf_prpsinfo of 64-bit machines (`include/linux/elfcore.h`), 136 bytes. */
const prpsinfo = new Parser()
  .endianness("little")
  .uint8("state")
  .string("sname", { length: 1, encoding: "latin1" })
  .uint8("zomb")
  .int8("nice")
  .seek(4)
  .uint64("flag")
  .uint32("uid")
  .uint32("gid")
  .int32("pid")
  .int32("ppid")
  .int32("pgrp")
  .int32("sid")
  .buffer("fname", { length: 16 })
  .buffer("psargs", { length: 80 });
const PRPSINFO_SIZE = 136;
/** What the kernel fills of each field at most; the rest is a NUL. */
const FNAME_LENGTH = 15;
const PSARGS_LENGTH = 79;

export interface Prpsinfo {
  readonly pid: number;
  /** Name of the executable, at most 15 bytes. */
  readonly fname: string;
  /** Command line, cut at 79 bytes. */
  readonly psargs: string;
}

export function decodePrpsinfo(desc: Buffer): Prpsinfo | undefined {
  if (desc.length < PRPSINFO_SIZE) return undefined;
  const { pid, fname, psargs } = prpsinfo.parse(desc) as { pid: number; fname: Buffer; psargs: Buffer };
  return {
    pid,
    fname: fieldText(fname, FNAME_LENGTH),
    psargs: fieldText(psargs, PSARGS_LENGTH).trimEnd(),
  };
}

function fieldText(field: Buffer, length: number): string {
  const nul = field.indexOf(0);
  const bytes = nul < 0 ? field : field.subarray(0, nul);
  return bytes.length < length ? textOf(bytes) : cutTextOf(bytes);
}

/** Linux has about 25 types for x86-64 (AT_VECTOR_SIZE of `include/linux/auxvec.h` and `asm/auxvec.h`). */
const MAX_AUXV = 64;

/** NT_AUXV: pairs of AT_* type and value up to AT_NULL (`include/uapi/linux/auxvec.h`), the first 64. */
export function decodeAuxv(desc: Buffer): Map<number, bigint> {
  const view = viewOf(desc);
  const entries = new Map<number, bigint>();
  for (let at = 0; at + 16 <= desc.length && at < MAX_AUXV * 16; at += 16) {
    const type = u64(view, at);
    if (type === 0) break;
    if (!entries.has(type)) entries.set(type, u64big(view, at + 8));
  }
  return entries;
}

/** Linux cuts the note at 4 MiB, and a process has at most vm.max_map_count mappings. */
const MAX_FILES = 1 << 18;

/**
 * NT_FILE: count, page size, count × {start, end, offset in pages}, then count NUL-terminated names
 * (Linux `fs/binfmt_elf.c` fill_files_note).
 * @returns the mappings ascending by start; those before the damage when the note is cut
 */
export function decodeFileNote(desc: Buffer): MappedFile[] {
  if (desc.length < 16) return [];
  const view = viewOf(desc);
  const pageSize = u64(view, 8);
  const count = Math.min(u64(view, 0), Math.floor((desc.length - 16) / 24), MAX_FILES);
  const files: MappedFile[] = [];
  let name = 16 + count * 24;
  for (let i = 0; i < count; i++) {
    const nul = desc.indexOf(0, name);
    if (nul < 0) break;
    const at = 16 + i * 24;
    const file = { start: u64(view, at), end: u64(view, at + 8), offset: u64(view, at + 16) * pageSize };
    if (Number.isFinite(file.end) && file.start < file.end) {
      files.push({ ...file, path: textOf(desc.subarray(name, nul)) });
    }
    name = nul + 1;
  }
  return files.sort((a, b) => a.start - b.start);
}
