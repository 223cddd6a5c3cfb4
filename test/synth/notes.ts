import { putWord, type Word } from "./elf.ts";

/**
 * ELF notes as the kernel, gdb and QEMU write them. Sources: System V ABI ch. 5 "Note Section"; Linux
 * `include/linux/elfcore.h`, `fs/binfmt_elf.c` (fill_note_info, fill_files_note); QEMU `target/i386/arch_dump.c`.
 */

export const NT_PRSTATUS = 1;
export const NT_FPREGSET = 2;
export const NT_PRPSINFO = 3;
export const NT_AUXV = 6;
export const NT_SIGINFO = 0x53494749;
export const NT_FILE = 0x46494c45;
export const NT_X86_XSTATE = 0x202;
export const NT_GDB_TDESC = 0xff000000;
export const NT_GNU_BUILD_ID = 3;

export interface NoteOptions {
  /** Padding of name and descriptor. Default 4; NT_GNU_PROPERTY uses 8. */
  readonly align?: number;
  readonly bigEndian?: boolean;
  /** Values to write instead of the true lengths. */
  readonly namesz?: Word;
  readonly descsz?: Word;
  /** Owner without its NUL, as some writers leave it out. */
  readonly bareName?: boolean;
}

const padded = (bytes: Uint8Array, align: number): Buffer =>
  Buffer.concat([bytes, Buffer.alloc((align - (bytes.length % align)) % align)]);

/** One note: {namesz, descsz, type}, name with its NUL, descriptor, both padded. */
export function note(owner: string, type: number, desc: Uint8Array, options: NoteOptions = {}): Buffer {
  const align = options.align ?? 4;
  const name = Buffer.from(options.bareName === true ? owner : `${owner}\0`, "latin1");
  const header = Buffer.alloc(12);
  const big = options.bigEndian === true;
  putWord(header, 0, 4, options.namesz ?? name.length, big);
  putWord(header, 4, 4, options.descsz ?? desc.length, big);
  putWord(header, 8, 4, type, big);
  const named = padded(Buffer.concat([header, padded(name, 4)]), align);
  return Buffer.concat([named, padded(desc, align)]);
}

/** Order of the user registers in NT_PRSTATUS (struct user_regs_struct). */
const USER_REGS = [
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
  "eflags",
  "rsp",
  "ss",
  "fs_base",
  "gs_base",
  "ds",
  "es",
  "fs",
  "gs",
] as const;
type UserReg = (typeof USER_REGS)[number];

export interface ThreadState {
  readonly pid: number;
  readonly ppid?: number;
  readonly pgrp?: number;
  readonly sid?: number;
  readonly signal?: number;
  readonly regs?: Partial<Record<UserReg, Word>>;
}

/** Descriptor of NT_PRSTATUS: struct elf_prstatus of x86-64, 336 bytes. */
export function prstatus(thread: ThreadState): Buffer {
  const desc = Buffer.alloc(336);
  putWord(desc, 0, 4, thread.signal ?? 0); // pr_info.si_signo
  putWord(desc, 12, 2, thread.signal ?? 0); // pr_cursig
  putWord(desc, 32, 4, thread.pid);
  putWord(desc, 36, 4, thread.ppid ?? 1);
  putWord(desc, 40, 4, thread.pgrp ?? thread.pid);
  putWord(desc, 44, 4, thread.sid ?? thread.pid);
  for (const [i, name] of USER_REGS.entries()) putWord(desc, 112 + i * 8, 8, thread.regs?.[name] ?? 0);
  putWord(desc, 328, 4, 1); // pr_fpvalid
  return desc;
}

export interface ProcessInfo {
  readonly pid: number;
  readonly ppid?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** pr_fname, cut at 15 characters by the kernel. */
  readonly comm: string;
  /** pr_psargs, cut at 79 characters by the kernel; gdb writes argv[0] only. */
  readonly psargs: string;
}

/** Descriptor of NT_PRPSINFO: struct elf_prpsinfo of x86-64, 136 bytes. */
export function prpsinfo(info: ProcessInfo): Buffer {
  const desc = Buffer.alloc(136);
  desc.write("\0R\0\0", 0, "latin1"); // pr_state, pr_sname, pr_zomb, pr_nice
  putWord(desc, 16, 4, info.uid ?? 0);
  putWord(desc, 20, 4, info.gid ?? 0);
  putWord(desc, 24, 4, info.pid);
  putWord(desc, 28, 4, info.ppid ?? 1);
  putWord(desc, 32, 4, info.pid);
  putWord(desc, 36, 4, info.pid);
  Buffer.from(info.comm).copy(desc, 40, 0, 16);
  Buffer.from(info.psargs).copy(desc, 56, 0, 80);
  return desc;
}

/** Descriptor of NT_AUXV: pairs {a_type, a_val}; the caller gives the ending [0, 0]. */
export function auxv(entries: readonly (readonly [type: Word, value: Word])[]): Buffer {
  return words(entries.flat());
}

export interface MappedFile {
  readonly start: Word;
  readonly end: Word;
  /** In bytes. */
  readonly fileOffset: Word;
  readonly path: string;
}

/**
 * Descriptor of NT_FILE: count, page size, {start, end, offset in pages} each, names with NUL.
 * The kernel's page size is 4096; gdb writes 1 and offsets in bytes.
 */
export function ntFile(files: readonly MappedFile[], pageSize = 4096, count: Word = files.length): Buffer {
  const entries = files.flatMap((file) => [
    file.start,
    file.end,
    BigInt(file.fileOffset) / BigInt(pageSize === 0 ? 1 : pageSize),
  ]);
  const names = Buffer.from(files.map((file) => `${file.path}\0`).join(""));
  return Buffer.concat([words([count, pageSize, ...entries]), names]);
}

/** Descriptor of NT_SIGINFO: siginfo_t, 128 bytes. */
export function siginfo(signo: number, code = 0, address: Word = 0): Buffer {
  const desc = Buffer.alloc(128);
  putWord(desc, 0, 4, signo);
  putWord(desc, 8, 4, code);
  putWord(desc, 16, 8, address);
  return desc;
}

interface QemuSegment {
  readonly selector?: number;
  readonly limit?: number;
  readonly flags?: number;
  readonly base?: Word;
}

const QEMU_GENERAL = [
  "rax",
  "rbx",
  "rcx",
  "rdx",
  "rsi",
  "rdi",
  "rsp",
  "rbp",
  "r8",
  "r9",
  "r10",
  "r11",
  "r12",
  "r13",
  "r14",
  "r15",
  "rip",
  "rflags",
] as const;
const QEMU_SEGMENTS = ["cs", "ds", "es", "fs", "gs", "ss", "ldt", "tr", "gdt", "idt"] as const;

export interface QemuCpuValues {
  /** Default 1. */
  readonly version?: number;
  /** The `size` member. Default: the length written. */
  readonly size?: number;
  readonly general?: Partial<Record<(typeof QEMU_GENERAL)[number], Word>>;
  readonly segments?: Partial<Record<(typeof QEMU_SEGMENTS)[number], QemuSegment>>;
  /** cr0 to cr4. */
  readonly cr?: readonly Word[];
  /** undefined leaves it out, as QEMU before 5.1 did (432 bytes). */
  readonly kernelGsBase?: Word | undefined;
}

/** Descriptor of the "QEMU" note: QEMUCPUState (`target/i386/arch_dump.c`), 440 bytes, or 432 without the last. */
export function qemuCpuState(values: QemuCpuValues): Buffer {
  const length = values.kernelGsBase === undefined ? 432 : 440;
  const desc = Buffer.alloc(length);
  putWord(desc, 0, 4, values.version ?? 1);
  putWord(desc, 4, 4, values.size ?? length);
  for (const [i, name] of QEMU_GENERAL.entries()) putWord(desc, 8 + i * 8, 8, values.general?.[name] ?? 0);
  for (const [i, name] of QEMU_SEGMENTS.entries()) {
    const at = 152 + i * 24;
    const segment = values.segments?.[name] ?? {};
    putWord(desc, at, 4, segment.selector ?? 0);
    putWord(desc, at + 4, 4, segment.limit ?? 0);
    putWord(desc, at + 8, 4, segment.flags ?? 0);
    putWord(desc, at + 16, 8, segment.base ?? 0);
  }
  for (let i = 0; i < 5; i++) putWord(desc, 392 + i * 8, 8, values.cr?.[i] ?? 0);
  if (values.kernelGsBase !== undefined) putWord(desc, 432, 8, values.kernelGsBase);
  return desc;
}

/** The VMCOREINFO note, as QEMU writes it and as it lies page-aligned in the guest kernel's memory. */
export const vmcoreinfoNote = (text: string): Buffer => note("VMCOREINFO", 0, Buffer.from(text, "latin1"));

/** Notes that break the rules, each by name; every one is meant to stand at the end of well-formed ones. */
export function malformedNotes(): Readonly<Record<string, Buffer>> {
  const desc = Buffer.from("descriptor");
  return {
    empty: Buffer.alloc(0),
    "header cut short": note("CORE", NT_PRSTATUS, desc).subarray(0, 11),
    "name cut short": note("CORE", NT_PRSTATUS, desc).subarray(0, 14),
    "descriptor cut short": note("CORE", NT_PRSTATUS, desc).subarray(0, 22),
    "padding cut off": note("CORE", NT_PRSTATUS, desc).subarray(0, 30),
    "name size 0": note("CORE", NT_PRSTATUS, desc, { namesz: 0 }),
    "name size all ones": note("CORE", NT_PRSTATUS, desc, { namesz: -1 }),
    "name size wraps when padded": note("CORE", NT_PRSTATUS, desc, { namesz: 0xffff_fffd }),
    "descriptor size all ones": note("CORE", NT_PRSTATUS, desc, { descsz: -1 }),
    "descriptor size at the sign": note("CORE", NT_PRSTATUS, desc, { descsz: 0x8000_0000 }),
    "name without NUL": note("CORE", NT_PRSTATUS, desc, { bareName: true }),
    zeros: Buffer.alloc(64),
    "prstatus too short": note("CORE", NT_PRSTATUS, Buffer.alloc(112)),
    "prstatus empty": note("CORE", NT_PRSTATUS, Buffer.alloc(0)),
    "prpsinfo too short": note("CORE", NT_PRPSINFO, Buffer.alloc(40)),
    "auxv odd length": note("CORE", NT_AUXV, Buffer.alloc(20)),
    "auxv without end": note("CORE", NT_AUXV, auxv([[3, 0x5555_0000_0040n]])),
    "file note empty": note("CORE", NT_FILE, Buffer.alloc(0)),
    "file count all ones": note("CORE", NT_FILE, ntFile([], 4096, -1)),
    "file count wraps": note("CORE", NT_FILE, ntFile([], 4096, 1n << 61n)),
    "file page size 0": note("CORE", NT_FILE, ntFile([{ start: 1, end: 2, fileOffset: 0, path: "/a" }], 0)),
    "file names missing": note(
      "CORE",
      NT_FILE,
      ntFile([{ start: 4096, end: 8192, fileOffset: 0, path: "/a" }]).subarray(0, 40),
    ),
    "file name without NUL": note(
      "CORE",
      NT_FILE,
      ntFile([{ start: 4096, end: 8192, fileOffset: 0, path: "/abc" }]).subarray(0, -1),
    ),
    "file range reversed": note(
      "CORE",
      NT_FILE,
      ntFile([{ start: 0x2000, end: 0x1000, fileOffset: 0, path: "/a" }]),
    ),
  };
}

function words(values: readonly Word[]): Buffer {
  const bytes = Buffer.alloc(values.length * 8);
  for (const [i, value] of values.entries()) putWord(bytes, i * 8, 8, value);
  return bytes;
}
