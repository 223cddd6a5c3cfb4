import { exceptionName } from "./intercepts.ts";

/** Exit codes (APM Vol. 2 Appendix C, Table C-1). 0x407 is from AMD's KVM patches of 2025, as are the PML fields. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [0x60, "VMEXIT_INTR"],
  [0x61, "VMEXIT_NMI"],
  [0x62, "VMEXIT_SMI"],
  [0x63, "VMEXIT_INIT"],
  [0x64, "VMEXIT_VINTR"],
  [0x65, "VMEXIT_CR0_SEL_WRITE"],
  [0x66, "VMEXIT_IDTR_READ"],
  [0x67, "VMEXIT_GDTR_READ"],
  [0x68, "VMEXIT_LDTR_READ"],
  [0x69, "VMEXIT_TR_READ"],
  [0x6a, "VMEXIT_IDTR_WRITE"],
  [0x6b, "VMEXIT_GDTR_WRITE"],
  [0x6c, "VMEXIT_LDTR_WRITE"],
  [0x6d, "VMEXIT_TR_WRITE"],
  [0x6e, "VMEXIT_RDTSC"],
  [0x6f, "VMEXIT_RDPMC"],
  [0x70, "VMEXIT_PUSHF"],
  [0x71, "VMEXIT_POPF"],
  [0x72, "VMEXIT_CPUID"],
  [0x73, "VMEXIT_RSM"],
  [0x74, "VMEXIT_IRET"],
  [0x75, "VMEXIT_SWINT"],
  [0x76, "VMEXIT_INVD"],
  [0x77, "VMEXIT_PAUSE"],
  [0x78, "VMEXIT_HLT"],
  [0x79, "VMEXIT_INVLPG"],
  [0x7a, "VMEXIT_INVLPGA"],
  [0x7b, "VMEXIT_IOIO"],
  [0x7c, "VMEXIT_MSR"],
  [0x7d, "VMEXIT_TASK_SWITCH"],
  [0x7e, "VMEXIT_FERR_FREEZE"],
  [0x7f, "VMEXIT_SHUTDOWN"],
  [0x80, "VMEXIT_VMRUN"],
  [0x81, "VMEXIT_VMMCALL"],
  [0x82, "VMEXIT_VMLOAD"],
  [0x83, "VMEXIT_VMSAVE"],
  [0x84, "VMEXIT_STGI"],
  [0x85, "VMEXIT_CLGI"],
  [0x86, "VMEXIT_SKINIT"],
  [0x87, "VMEXIT_RDTSCP"],
  [0x88, "VMEXIT_ICEBP"],
  [0x89, "VMEXIT_WBINVD"],
  [0x8a, "VMEXIT_MONITOR"],
  [0x8b, "VMEXIT_MWAIT"],
  [0x8c, "VMEXIT_MWAIT_CONDITIONAL"],
  [0x8d, "VMEXIT_XSETBV"],
  [0x8e, "VMEXIT_RDPRU"],
  [0x8f, "VMEXIT_EFER_WRITE_TRAP"],
  [0xa0, "VMEXIT_INVLPGB"],
  [0xa1, "VMEXIT_INVLPGB_ILLEGAL"],
  [0xa2, "VMEXIT_INVPCID"],
  [0xa3, "VMEXIT_MCOMMIT"],
  [0xa4, "VMEXIT_TLBSYNC"],
  [0xa5, "VMEXIT_BUSLOCK"],
  [0xa6, "VMEXIT_IDLE_HLT"],
  [0x400, "VMEXIT_NPF"],
  [0x401, "AVIC_INCOMPLETE_IPI"],
  [0x402, "AVIC_NOACCEL"],
  [0x403, "VMEXIT_VMGEXIT"],
  [0x407, "VMEXIT_PML_FULL"],
]);

const EXIT_IOIO = 0x7b;
const EXIT_MSR = 0x7c;
const EXIT_NPF = 0x400;
const EXCEPTION_BASE = 0x40;
const EXCEPTION_END = 0x60;

/** Codes of a VMRUN that failed, −1 to −4. */
const FAILURES = ["VMEXIT_INVALID", "VMEXIT_BUSY", "VMEXIT_IDLE_REQUIRED", "VMEXIT_INVALID_PMC"] as const;

/**
 * An exit code without the sign extension that software forgets: KVM up to 6.18 and QEMU's TCG write the low half of a
 * negative code and clear or leave the upper one. Failures come back as −1 to −4.
 */
export function normalExitCode(code: bigint): number {
  const low = Number(BigInt.asIntN(32, code));
  return low < 0 && low >= -FAILURES.length ? low : Number(code);
}

/** The APM's name of an exit code; undefined for one it does not define. */
export function exitCodeName(code: bigint): string | undefined {
  const number = normalExitCode(code);
  if (number < 0) return FAILURES[-number - 1];
  const range = number >>> 4;
  const register = number & 15;
  if (number < 0x20) return `VMEXIT_CR${register}_${range === 0 ? "READ" : "WRITE"}`;
  if (number < EXCEPTION_BASE) return `VMEXIT_DR${register}_${range === 2 ? "READ" : "WRITE"}`;
  if (number < EXCEPTION_END) return `VMEXIT_EXCP${number - EXCEPTION_BASE}`;
  if (number >= 0x90 && number < 0xa0) return `VMEXIT_CR${register}_WRITE_TRAP`;
  return NAMES.get(number);
}

/** Whether VMRUN refused the VMCB: then the guest has not run since. */
export const isEntryFailure = (code: bigint): boolean => normalExitCode(code) < 0;

/** Exits by an instruction, not by an event around one: the saved RIP is the instruction's (APM Vol. 2 §15.9 to 15.11). */
const INSTRUCTION_RANGES: readonly (readonly [first: number, last: number])[] = [
  [0x00, 0x3f],
  [0x65, 0x7c],
  [0x80, 0x8e],
  [0xa0, 0xa4],
  [0xa6, 0xa6],
  [0x403, 0x403],
];

/** Whether the exit came before the instruction at the saved RIP was carried out. */
export function stopsBeforeInstruction(code: bigint): boolean {
  const number = normalExitCode(code);
  return INSTRUCTION_RANGES.some(([first, last]) => number >= first && number <= last);
}

/** EXITINFO1 of an IOIO intercept (APM Vol. 2 §15.10.2, Figure 15-2). */
export interface IoExit {
  readonly port: number;
  readonly direction: "in" | "out";
  /** Bytes an access moves. */
  readonly size: 1 | 2 | 4 | undefined;
  /** INS or OUTS. */
  readonly string: boolean;
  readonly repeated: boolean;
}

export function ioExitOf(info1: bigint): IoExit {
  const bits = Number(info1 & 0xffff_ffffn);
  const flag = (bit: number) => ((bits >>> bit) & 1) === 1;
  return {
    port: bits >>> 16,
    direction: flag(0) ? "in" : "out",
    size: flag(4) ? 1 : flag(5) ? 2 : flag(6) ? 4 : undefined,
    string: flag(2),
    repeated: flag(3),
  };
}

/** Bits of a nested page fault's EXITINFO1 (APM Vol. 2 §15.25.6; §15.36.10 for 31 and 34 to 36). */
const NPF_BITS: readonly (readonly [bit: number, set: string, clear?: string])[] = [
  [0, "protection", "not present"],
  [1, "write", "read"],
  [2, "user"],
  [3, "reserved bit"],
  [4, "fetch"],
  [6, "shadow stack"],
  [31, "RMP"],
  [32, "final address"],
  [33, "in the guest's page tables"],
  [34, "encrypted"],
  [35, "page size mismatch"],
  [36, "VMPL"],
  [37, "supervisor shadow stack page"],
];

const PF_BITS = NPF_BITS.filter(([bit]) => bit < 31).concat([[5, "protection key"]]);

const bitWords = (value: bigint, words: typeof NPF_BITS): string =>
  words.flatMap(([bit, set, clear]) => ((value >> BigInt(bit)) & 1n ? [set] : (clear ?? []))).join(", ");

const GPR = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split(" ");
const hexWord = (value: bigint): string => `0x${value.toString(16)}`;

/** Exceptions that push an error code, which EXITINFO1 then holds (APM Vol. 2 §15.12). */
const WITH_ERROR_CODE: ReadonlySet<number> = new Set([10, 11, 12, 13, 14, 17, 21, 29, 30]);
const PAGE_FAULT = 14;

/** What EXITINFO1 and EXITINFO2 say for an exit code, in words; undefined where the APM leaves them undefined. */
export function exitDetail(code: bigint, info1: bigint, info2: bigint): string | undefined {
  const number = normalExitCode(code);
  if (number < 0) return undefined;
  if (number < EXCEPTION_BASE) return registerAccess(number, info1);
  if (number < EXCEPTION_END) return exceptionDetail(number - EXCEPTION_BASE, info1, info2);
  return DETAILS.get(number)?.(info1, info2);
}

/** MOV CRx sets bit 63; LMSW, SMSW and CLTS leave all bits clear (§15.8.1), as does a processor without decode assists. */
function registerAccess(number: number, info1: bigint): string | undefined {
  const isControl = number < 0x20;
  if (isControl && info1 >> 63n === 0n) return undefined;
  return `${number & 0x10 ? "from" : "to"} ${GPR[Number(info1 & 15n)]}`;
}

function exceptionDetail(vector: number, info1: bigint, info2: bigint): string {
  const name = exceptionName(vector);
  if (vector === PAGE_FAULT) return `${name} at ${hexWord(info2)}: ${bitWords(info1, PF_BITS)}`;
  return WITH_ERROR_CODE.has(vector) ? `${name}, error code ${hexWord(info1)}` : name;
}

function ioDetail(info1: bigint): string {
  const { port, direction, size, string, repeated } = ioExitOf(info1);
  const mnemonic = `${repeated ? "REP " : ""}${direction.toUpperCase()}${string ? "S" : ""}`;
  return `${mnemonic} port ${hexWord(BigInt(port))}${size === undefined ? "" : `, ${8 * size} bits`}`;
}

/** §15.14.1. */
function taskSwitchDetail(info1: bigint, info2: bigint): string {
  const cause = (info2 >> 36n) & 1n ? " by IRET" : (info2 >> 38n) & 1n ? " by a far jump" : "";
  const error = (info2 >> 44n) & 1n ? `, error code ${hexWord(info2 & 0xffff_ffffn)}` : "";
  return `to TSS selector ${hexWord(info1 & 0xffffn)}${cause}${error}`;
}

/** Table 15-27. */
const IPI_FAILURES = [
  "invalid interrupt type",
  "target not running",
  "invalid target",
  "invalid backing page pointer",
  "invalid vector",
  "not accelerated",
] as const;

const DETAILS: ReadonlyMap<number, (info1: bigint, info2: bigint) => string> = new Map([
  [0x75, (info1) => `INT ${hexWord(info1 & 0xffn)}`],
  [0x79, (info1) => `address ${hexWord(info1)}`],
  [EXIT_IOIO, ioDetail],
  [EXIT_MSR, (info1) => (info1 & 1n ? "WRMSR" : "RDMSR")],
  [0x7d, taskSwitchDetail],
  [EXIT_NPF, (info1, info2) => `guest-physical ${hexWord(info2)}: ${bitWords(info1, NPF_BITS)}`],
  [
    0x401,
    (info1, info2) => `${IPI_FAILURES[Number(info2 >> 32n)] ?? "unknown cause"}, ICR ${hexWord(info1)}`,
  ],
  [0x402, (info1) => `${(info1 >> 32n) & 1n ? "write" : "read"} of APIC register ${hexWord(info1 & 0xff0n)}`],
]);
