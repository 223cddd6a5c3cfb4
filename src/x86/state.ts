/**
 * The architectural state of one x86 logical processor, as far as crash artefacts carry it.
 * Names and meaning: Intel SDM Vol. 1 ch. 3, Vol. 3A ch. 2 (system registers) and ch. 3 (segments).
 */

export const GENERAL_REGISTERS = [
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
] as const;
export type GeneralRegister = (typeof GENERAL_REGISTERS)[number];

/** In the order of the instruction encoding (Intel SDM Vol. 2A Table 2-2), which QEMU and KVM keep them in. */
export const ENCODED_REGISTERS: readonly GeneralRegister[] = [
  ...(["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] as const),
  ...(["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"] as const),
];

export const SEGMENT_REGISTERS = ["es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr"] as const;
export type SegmentRegister = (typeof SEGMENT_REGISTERS)[number];

/** A segment register with its hidden part. */
export interface Segment {
  readonly selector: number;
  readonly base: bigint;
  /** In bytes, granularity applied, 32 bits. */
  readonly limit: number;
  /** Bits 32–63 of the descriptor: type, S, DPL, P in bits 8–15, AVL, L, D/B, G in 20–23; other bits may hold parts of base and limit. */
  readonly flags: number;
}

/** GDTR or IDTR. */
export interface TableRegister {
  readonly base: bigint;
  readonly limit: number;
}

/** A register is undefined where the source does not hold it: a VMCS has of the general registers only RSP. */
export interface X86State extends Readonly<Record<GeneralRegister, bigint | undefined>> {
  readonly rip: bigint;
  readonly rflags: bigint;
  readonly segments: Readonly<Record<SegmentRegister, Segment>>;
  readonly gdt: TableRegister;
  readonly idt: TableRegister;
  readonly cr0: bigint;
  readonly cr2: bigint | undefined;
  readonly cr3: bigint;
  readonly cr4: bigint;
  /** IA32_EFER. */
  readonly efer: bigint | undefined;
  /** IA32_KERNEL_GS_BASE. */
  readonly kernelGsBase: bigint | undefined;
}
