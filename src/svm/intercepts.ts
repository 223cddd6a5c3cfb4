import type { VmcbFieldName } from "./fields.ts";

/** Bits of the intercept vectors (APM Vol. 2 Table B-1; names of KVM's `INTERCEPT_*` without the prefix). */
const WORD3 = [
  "INTR",
  "NMI",
  "SMI",
  "INIT",
  "VINTR",
  "SELECTIVE_CR0",
  "STORE_IDTR",
  "STORE_GDTR",
  "STORE_LDTR",
  "STORE_TR",
  "LOAD_IDTR",
  "LOAD_GDTR",
  "LOAD_LDTR",
  "LOAD_TR",
  "RDTSC",
  "RDPMC",
  "PUSHF",
  "POPF",
  "CPUID",
  "RSM",
  "IRET",
  "INTn",
  "INVD",
  "PAUSE",
  "HLT",
  "INVLPG",
  "INVLPGA",
  "IOIO_PROT",
  "MSR_PROT",
  "TASK_SWITCH",
  "FERR_FREEZE",
  "SHUTDOWN",
] as const;

const WORD4 = [
  "VMRUN",
  "VMMCALL",
  "VMLOAD",
  "VMSAVE",
  "STGI",
  "CLGI",
  "SKINIT",
  "RDTSCP",
  "ICEBP",
  "WBINVD",
  "MONITOR",
  "MWAIT",
  "MWAIT_COND",
  "XSETBV",
  "RDPRU",
  "EFER_WRITE_TRAP",
] as const;

const WORD5 = ["INVLPGB", "INVLPGB_ILLEGAL", "INVPCID", "MCOMMIT", "TLBSYNC", "BUSLOCK", "IDLE_HLT"] as const;

/** Exceptions by vector (APM Vol. 2 Table 8-1); reserved vectors are undefined. */
const EXCEPTIONS: Readonly<Record<number, string>> = {
  0: "#DE",
  1: "#DB",
  2: "NMI",
  3: "#BP",
  4: "#OF",
  5: "#BR",
  6: "#UD",
  7: "#NM",
  8: "#DF",
  10: "#TS",
  11: "#NP",
  12: "#SS",
  13: "#GP",
  14: "#PF",
  16: "#MF",
  17: "#AC",
  18: "#MC",
  19: "#XF",
  21: "#CP",
  28: "#HV",
  29: "#VC",
  30: "#SX",
};

/** `#PF`, or `vector 9` for one that has no name. */
export const exceptionName = (vector: number): string => EXCEPTIONS[vector] ?? `vector ${vector}`;

/** Read intercepts are in bits 15:0, write intercepts in 31:16, one bit a register. */
const registerAccess = (register: string, bit: number): string =>
  `${register}${bit % 16}_${bit < 16 ? "READ" : "WRITE"}`;

const INTERCEPT_NAMES: Partial<Readonly<Record<VmcbFieldName, (bit: number) => string | undefined>>> = {
  intercept_cr: (bit) => registerAccess("CR", bit),
  intercept_dr: (bit) => registerAccess("DR", bit),
  intercept_exceptions: exceptionName,
  intercept_word3: (bit) => WORD3[bit],
  intercept_word4: (bit) => (bit < WORD4.length ? WORD4[bit] : `CR${bit - WORD4.length}_WRITE_TRAP`),
  intercept_word5: (bit) => WORD5[bit],
};

/** The 32 bits of one of the six vectors, `bit 9` for a reserved one; undefined for other fields. */
export function interceptBits(
  field: VmcbFieldName,
  value: bigint,
): { readonly bit: number; readonly name: string; readonly set: boolean }[] | undefined {
  const nameOf = INTERCEPT_NAMES[field];
  if (nameOf === undefined) return undefined;
  return Array.from({ length: 32 }, (_, bit) => ({
    bit,
    name: nameOf(bit) ?? `bit ${bit}`,
    set: ((value >> BigInt(bit)) & 1n) === 1n,
  }));
}

/** Names of the intercepts that are set; undefined for other fields. */
export const interceptsOf = (field: VmcbFieldName, value: bigint): string[] | undefined =>
  interceptBits(field, value)?.flatMap(({ name, set }) => (set ? [name] : []));
