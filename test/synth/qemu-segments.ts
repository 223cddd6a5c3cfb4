import { type ElfSegment, PF_R, PF_W, PF_X } from "./elf.ts";
import {
  type MappedFile,
  NT_AUXV,
  NT_FILE,
  NT_FPREGSET,
  NT_GDB_TDESC,
  NT_PRPSINFO,
  NT_PRSTATUS,
  NT_SIGINFO,
  NT_X86_XSTATE,
  note,
  ntFile,
  prpsinfo,
  prstatus,
  siginfo,
} from "./notes.ts";
import { EXE } from "./qemu-exe.ts";
import { ADDRESSES, type Region } from "./qemu-process.ts";
import type { BlockPiece } from "./qemu-spec.ts";

/** Who wrote the core: the kernel on a signal, or gdb's gcore. */
export type CoreFlavour = "kernel" | "gcore";

/** A PT_LOAD with a name for `arrange`; `exe.r`, `heap`, `ram:pc.ram#0` … */
export interface NamedSegment extends ElfSegment {
  readonly name: string;
}

export interface RamMapping {
  readonly name: string;
  readonly host: number;
  readonly bytes: Buffer;
  readonly pieces: readonly BlockPiece[];
}

interface Mapping {
  readonly name: string;
  readonly vaddr: number | bigint;
  readonly size: number;
  readonly flags: number;
  readonly bytes: Buffer;
  /** Bytes the kernel dumps. */
  readonly kernel: number;
  /** Bytes gdb dumps; undefined: no PT_LOAD. */
  readonly gdb: number | undefined;
}

const RW = PF_R | PF_W;
const KVM_RUN_SIZE = 0x3000;
const LIBC = { r: 0x2000, rx: 0x4000, rw: 0x1000 } as const;

/** The PT_LOADs of the core in ascending order, as the kernel or gdb makes them of the same mappings. */
export function segmentsOf(
  flavour: CoreFlavour,
  regions: { readonly exe: Region; readonly heap: Region; readonly arena: Region; readonly stack: Region },
  ram: readonly RamMapping[],
  accelerator: { readonly kvmVcpus: number; readonly translates: boolean },
): NamedSegment[] {
  const mappings = [
    ...exeMappings(regions.exe),
    whole("heap", regions.heap),
    whole("arena", regions.arena),
    guard("arena.tail", ADDRESSES.arena + regions.arena.bytes().length, 0x2000),
    ...ram.flatMap(ramSegments),
    ...(accelerator.translates ? [translatedCode()] : []),
    ...Array.from({ length: accelerator.kvmVcpus }, (_, i) => kvmRun(i)),
    ...libcMappings(),
    whole("stack", regions.stack),
    // Executable only, and nobody's data.
    fixed("vsyscall", ADDRESSES.vsyscall, Buffer.alloc(0x1000), PF_X, 0x1000, 0x1000),
  ];
  return mappings.flatMap((mapping) => {
    const dumped = flavour === "kernel" ? mapping.kernel : mapping.gdb;
    if (dumped === undefined) return [];
    // gdb has no p_flags 0: what has no permission is marked readable and written as zeros.
    const flags = flavour === "gcore" ? mapping.flags | PF_R : mapping.flags;
    const bytes = mapping.bytes.subarray(0, dumped);
    return [{ name: mapping.name, vaddr: mapping.vaddr, flags, bytes, filesz: dumped, memsz: mapping.size }];
  });
}

const fixed = (
  name: string,
  vaddr: number | bigint,
  bytes: Buffer,
  flags: number,
  kernel: number,
  gdb: number | undefined,
): Mapping => ({ name, vaddr, size: bytes.length, flags, bytes, kernel, gdb });

function whole(name: string, region: Region): Mapping {
  const bytes = region.bytes();
  return fixed(name, region.base, bytes, region.flags, bytes.length, bytes.length);
}

const guard = (name: string, vaddr: number, size: number): Mapping =>
  fixed(name, vaddr, Buffer.alloc(size), 0, 0, size);

function exeMappings(exe: Region): Mapping[] {
  const bytes = exe.bytes(EXE.end);
  const part = (
    name: string,
    start: number,
    end: number,
    flags: number,
    kernel: number,
    gdb: number | undefined,
  ) => fixed(name, exe.base + start, bytes.subarray(start, end), flags, kernel, gdb);
  return [
    // The kernel keeps the first page of every ELF file (coredump_filter bit 4).
    part("exe.r", 0, EXE.text, PF_R, 0x1000, EXE.text),
    part("exe.rx", EXE.text, EXE.rodata, PF_R | PF_X, 0, undefined),
    part("exe.rodata", EXE.rodata, EXE.relro, PF_R, 0, undefined),
    part("exe.relro", EXE.relro, EXE.data, PF_R, EXE.data - EXE.relro, EXE.data - EXE.relro),
    part("exe.data", EXE.data, EXE.bss, RW, EXE.bss - EXE.data, EXE.bss - EXE.data),
    part("exe.bss", EXE.bss, EXE.end, RW, EXE.end - EXE.bss, EXE.end - EXE.bss),
  ];
}

function ramSegments(mapping: RamMapping): Mapping[] {
  let at = 0;
  const parts = mapping.pieces.flatMap((piece, i): Mapping[] => {
    const start = at;
    at += piece.size;
    if (piece.absent === true) return [];
    const filesz = piece.filesz ?? piece.size;
    const bytes = mapping.bytes.subarray(start, start + piece.size);
    const vaddr = mapping.host + start;
    return [fixed(`ram:${mapping.name}#${i}`, vaddr, bytes, RW, filesz, filesz === 0 ? undefined : filesz)];
  });
  return [...parts, guard(`guard:${mapping.name}`, mapping.host + at, 0x1000)];
}

const kvmRunAddress = (index: number): number => ADDRESSES.kvmRun + index * 0x10_0000;

/** struct kvm_run, shared with the kernel: a file mapping that no default core contains. */
const kvmRun = (index: number): Mapping =>
  fixed(`kvm-vcpu:${index}`, kvmRunAddress(index), Buffer.alloc(KVM_RUN_SIZE), RW, 0, undefined);

/** `-accel tcg,tb-size=1` without its guard page. Real cores hold all of it; one page keeps these small. */
const translatedCode = (): Mapping =>
  fixed("code", ADDRESSES.code, Buffer.alloc(0xf_f000), PF_R | PF_W | PF_X, 0x1000, 0x1000);

function libcMappings(): Mapping[] {
  const header = Buffer.alloc(LIBC.r);
  header.write("\x7fELF\x02\x01\x01", 0, "latin1");
  header.writeUInt16LE(3, 16);
  header.writeUInt16LE(62, 18);
  return [
    fixed("libc.r", ADDRESSES.libc, header, PF_R, 0x1000, undefined),
    fixed("libc.rx", ADDRESSES.libc + LIBC.r, Buffer.alloc(LIBC.rx), PF_R | PF_X, 0, undefined),
    fixed("libc.rw", ADDRESSES.libc + LIBC.r + LIBC.rx, Buffer.alloc(LIBC.rw), RW, LIBC.rw, LIBC.rw),
  ];
}

export interface NotePlan {
  readonly pid: number;
  readonly exe: string;
  readonly argv: readonly string[];
  readonly auxv: Buffer;
  readonly threads: number;
  readonly kvmVcpus: number;
  /** File-backed guest memory. */
  readonly files: readonly MappedFile[];
}

/** The notes one by one, in the writer's order. */
export function noteBlob(flavour: CoreFlavour, plan: NotePlan): Buffer[] {
  return flavour === "kernel" ? kernelNotes(plan) : gdbNotes(plan);
}

function filesOf(plan: NotePlan): MappedFile[] {
  const exe = (start: number, end: number): MappedFile => ({
    start: ADDRESSES.exe + start,
    end: ADDRESSES.exe + end,
    fileOffset: start,
    path: plan.exe,
  });
  const libc = (start: number, end: number): MappedFile => ({
    start: ADDRESSES.libc + start,
    end: ADDRESSES.libc + end,
    fileOffset: start,
    path: "/usr/lib/x86_64-linux-gnu/libc.so.6",
  });
  const kvm = Array.from({ length: plan.kvmVcpus }, (_, i) => ({
    start: kvmRunAddress(i),
    end: kvmRunAddress(i) + KVM_RUN_SIZE,
    fileOffset: 0,
    path: `anon_inode:kvm-vcpu:${i}`,
  }));
  return [
    exe(0, EXE.text),
    exe(EXE.text, EXE.rodata),
    exe(EXE.rodata, EXE.relro),
    exe(EXE.relro, EXE.data),
    exe(EXE.data, EXE.bss),
    ...plan.files,
    ...kvm,
    libc(0, LIBC.r),
    libc(LIBC.r, LIBC.r + LIBC.rx),
    libc(LIBC.r + LIBC.rx, LIBC.r + LIBC.rx + LIBC.rw),
  ];
}

const threadStatus = (plan: NotePlan, index: number, signal: number): Buffer => {
  // Every thread waits in a system call of libc.
  const regs = {
    rip: ADDRESSES.libc + LIBC.r + 0x123,
    rsp: ADDRESSES.stack + 0x1000 + index * 0x100,
    rax: -512,
    orig_rax: 202,
    rcx: 0x1000 + index,
    cs: 0x33,
    ss: 0x2b,
    eflags: 0x246,
    fs_base: 0x7e00_0000_0700 + index * 0x1000,
  };
  return note(
    "CORE",
    NT_PRSTATUS,
    prstatus({ pid: plan.pid + index, pgrp: plan.pid, sid: plan.pid, signal, regs }),
  );
};

const floating = (): Buffer[] => [
  note("CORE", NT_FPREGSET, Buffer.alloc(512)),
  note("LINUX", NT_X86_XSTATE, Buffer.alloc(576)),
];

/** fs/binfmt_elf.c: the first thread, the process, then the other threads. */
function kernelNotes(plan: NotePlan): Buffer[] {
  const others = Array.from({ length: plan.threads - 1 }, (_, i) => i + 1);
  const comm = plan.exe.split("/").at(-1)!.slice(0, 15);
  return [
    threadStatus(plan, 0, 6),
    note("CORE", NT_PRPSINFO, prpsinfo({ pid: plan.pid, comm, psargs: plan.argv.join(" ").slice(0, 79) })),
    note("CORE", NT_SIGINFO, siginfo(6)),
    note("CORE", NT_AUXV, plan.auxv),
    note("CORE", NT_FILE, ntFile(filesOf(plan))),
    ...floating(),
    ...others.flatMap((i) => [threadStatus(plan, i, 6), ...floating()]),
  ];
}

/** gdb: the process first, argv[0] only, a page size of 1 in NT_FILE, and the target description last. */
function gdbNotes(plan: NotePlan): Buffer[] {
  const threads = Array.from({ length: plan.threads }, (_, i) => i);
  const comm = plan.exe.split("/").at(-1)!;
  return [
    note("CORE", NT_PRPSINFO, prpsinfo({ pid: plan.pid, comm, psargs: plan.argv[0] ?? "" })),
    ...threads.flatMap((i) => [
      threadStatus(plan, i, 0),
      ...floating(),
      note("CORE", NT_SIGINFO, siginfo(19, 0x80)),
    ]),
    note("CORE", NT_AUXV, plan.auxv),
    note("CORE", NT_FILE, ntFile(filesOf(plan), 1)),
    note("GDB", NT_GDB_TDESC, Buffer.from('<?xml version="1.0"?><target version="1.0"/>\0', "latin1")),
  ];
}
