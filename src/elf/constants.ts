/** ELF constants, spelt as in the System V gABI ch. 4–5 and Linux `include/uapi/linux/elf.h`. */

export const ELF_MAGIC = "\x7fELF";
const ET_REL = 1;
const ET_EXEC = 2;
const ET_DYN = 3;
export const ET_CORE = 4;

const EM_SPARC = 2;
export const EM_386 = 3;
export const EM_MIPS = 8;
export const EM_PPC = 20;
export const EM_PPC64 = 21;
export const EM_S390 = 22;
export const EM_ARM = 40;
export const EM_SPARCV9 = 43;
export const EM_IA_64 = 50;
export const EM_X86_64 = 62;
export const EM_AARCH64 = 183;
export const EM_RISCV = 243;
export const EM_LOONGARCH = 258;

const MACHINES: Readonly<Record<number, string>> = {
  [EM_SPARC]: "sparc",
  [EM_386]: "i386",
  [EM_MIPS]: "mips",
  [EM_PPC]: "ppc",
  [EM_PPC64]: "ppc64",
  [EM_S390]: "s390x",
  [EM_ARM]: "arm",
  [EM_SPARCV9]: "sparc64",
  [EM_IA_64]: "ia64",
  [EM_X86_64]: "x86-64",
  [EM_AARCH64]: "aarch64",
  [EM_RISCV]: "riscv",
  [EM_LOONGARCH]: "loongarch",
};
export const machineName = (machine: number): string => MACHINES[machine] ?? `machine ${machine}`;

const TYPES: Readonly<Record<number, string>> = {
  [ET_REL]: "relocatable",
  [ET_EXEC]: "executable",
  [ET_DYN]: "shared object",
  [ET_CORE]: "core",
};
export const typeName = (type: number): string => TYPES[type] ?? `type ${type}`;

export const PT_LOAD = 1;
export const PT_NOTE = 4;
const PROGRAM_TYPES: Readonly<Record<number, string>> = { 0: "NULL", 1: "LOAD", 2: "DYNAMIC", 4: "NOTE" };
export const programTypeName = (type: number): string => PROGRAM_TYPES[type] ?? `0x${type.toString(16)}`;

export const PF_X = 1;
export const PF_W = 2;
export const PF_R = 4;

/** e_phnum value that says "the real count is in sh_info of section 0" (gABI, and Linux commit 8d9032bbe467). */
export const PN_XNUM = 0xffff;

export const NT_PRSTATUS = 1;
export const NT_FPREGSET = 2;
export const NT_PRPSINFO = 3;
export const NT_AUXV = 6;
/** Owner "LINUX". */
export const NT_X86_XSTATE = 0x202;
export const NT_SIGINFO = 0x5349_4749;
export const NT_FILE = 0x4649_4c45;
export const NT_GNU_BUILD_ID = 3;

/** Auxiliary vector entry types (`include/uapi/linux/auxvec.h`). */
export const AT_PHDR = 3;
export const AT_ENTRY = 9;
export const AT_EXECFN = 31;

export const EHDR64_SIZE = 64;
export const PHDR64_SIZE = 56;
export const SHDR64_SIZE = 64;
