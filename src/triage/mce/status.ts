import { decodeMcaCode, type McaCode } from "./codes.ts";

/** Whose bits 56, 55, 53 and 46 to 43 are read: Intel's and AMD's mean other things. */
export type McVendor = "intel" | "amd";

/**
 * How bad an error is by its status alone: Intel SDM Vol. 3B tables "MC Error Classifications" (UCNA, SRAO, SRAR); AMD
 * APM Vol. 2 §9.3 (deferred). `uncorrected`: of a processor that does not tell whether software can recover.
 */
export type McClass =
  | "invalid"
  | "corrected"
  | "deferred"
  | "UCNA"
  | "SRAO"
  | "SRAR"
  | "uncorrected"
  | "fatal";

export interface McFlag {
  readonly bit: number;
  /** As Linux and the manuals write it. */
  readonly name: string;
  readonly meaning: string;
}

/** IA32_MCi_STATUS in words. */
export interface McStatus {
  readonly status: bigint;
  readonly vendor: McVendor;
  /** Flags that are set, from bit 63 down. */
  readonly flags: readonly McFlag[];
  readonly class: McClass;
  /** What the class asks of software, a sentence's end. */
  readonly classText: string;
  readonly code: McaCode;
  /** Bits 31:16 of Intel's, the model-specific code; 21:16 of AMD's, the extended code. */
  readonly modelCode: number;
  /** Bits 52:38 of Intel's corrected errors; undefined where it means nothing. */
  readonly correctedCount: number | undefined;
}

const bit = (position: number): bigint => 1n << BigInt(position);
const flag = (position: number, name: string, meaning: string): McFlag => ({ bit: position, name, meaning });

const COMMON: readonly McFlag[] = [
  flag(63, "VAL", "the register holds an error"),
  flag(62, "OVER", "an earlier error was overwritten or lost"),
  flag(61, "UC", "the hardware did not correct it"),
  flag(60, "EN", "reporting of it was enabled"),
  flag(59, "MISCV", "MISC holds more of it"),
  flag(58, "ADDRV", "ADDR holds its address"),
  flag(57, "PCC", "the processor's context may be corrupt"),
];

/** Intel SDM Vol. 3B figure "IA32_MCi_STATUS Register"; 56 and 55 where MCG_CAP has SER_P. */
const INTEL: readonly McFlag[] = [
  ...COMMON,
  flag(56, "S", "a machine check was signalled for it"),
  flag(55, "AR", "software must act before it goes on"),
  flag(37, "FWU", "firmware updated the register"),
];

/** AMD APM Vol. 2 §9.3.2; PPR "MCA_STATUS". */
const AMD: readonly McFlag[] = [
  ...COMMON,
  flag(56, "CoreIdV", "bits 37:32 hold the core"),
  flag(55, "TCC", "the context of the task that ran may be corrupt"),
  flag(53, "SyndV", "SYND holds its syndrome"),
  flag(46, "CECC", "ECC corrected it"),
  flag(45, "UECC", "ECC found it and could not correct it"),
  flag(44, "Deferred", "the data is wrong and was not used yet"),
  flag(43, "Poison", "poisoned data was used"),
  flag(40, "Scrub", "a scrubber found it"),
];

const VAL = bit(63);
const UC = bit(61);
const PCC = bit(57);
const S = bit(56);
const AR = bit(55);
const DEFERRED = bit(44);

const CLASS_TEXTS: Readonly<Record<McClass, string>> = {
  invalid: "VAL is clear: the register holds no error",
  corrected: "the hardware corrected it",
  deferred: "uncorrected, but the data was not used yet: the page is to be given up",
  UCNA: "uncorrected, no action required: nothing was signalled, the data was not used yet",
  SRAO: "uncorrected, software recoverable, action optional: the page can be given up",
  SRAR: "uncorrected, software recoverable, action required: what used the data must not go on",
  uncorrected: "uncorrected; whether software can recover depends on the processor and on who used the data",
  fatal: "the processor's context is corrupt: only a reset helps",
};

function classOf(status: bigint, vendor: McVendor): McClass {
  const has = (mask: bigint): boolean => (status & mask) !== 0n;
  if (!has(VAL)) return "invalid";
  if (!has(UC)) return vendor === "amd" && has(DEFERRED) ? "deferred" : "corrected";
  if (has(PCC)) return "fatal";
  if (vendor === "amd") return has(DEFERRED) ? "deferred" : "uncorrected";
  if (has(S)) return has(AR) ? "SRAR" : "SRAO";
  // AR without S is a combination that the manual rules out.
  return has(AR) ? "uncorrected" : "UCNA";
}

/**
 * Decodes IA32_MCi_STATUS.
 * @param status 64 bits; higher ones are left out
 * @param vendor Intel's where it is not known: bits 63 to 57 and 15 to 0 mean the same for both
 */
export function decodeMcStatus(status: bigint, vendor: McVendor = "intel"): McStatus {
  const value = BigInt.asUintN(64, status);
  const mcClass = classOf(value, vendor);
  const isIntel = vendor === "intel";
  return {
    status: value,
    vendor,
    flags: (isIntel ? INTEL : AMD).filter((one) => (value & bit(one.bit)) !== 0n),
    class: mcClass,
    classText: CLASS_TEXTS[mcClass],
    code: decodeMcaCode(value),
    modelCode: Number((value >> 16n) & (isIntel ? 0xffffn : 0x3fn)),
    correctedCount: isIntel && mcClass === "corrected" ? Number((value >> 38n) & 0x7fffn) : undefined,
  };
}

const MCG_FLAGS: readonly McFlag[] = [
  flag(0, "RIPV", "the program can go on where it was interrupted"),
  flag(1, "EIPV", "the saved instruction pointer is of the instruction that met the error"),
  flag(2, "MCIP", "a machine check is being handled"),
  flag(3, "LMCE_S", "the machine check was delivered to this processor alone"),
];

/** Flags of IA32_MCG_STATUS that are set. */
export const decodeMcgStatus = (status: bigint): readonly McFlag[] =>
  MCG_FLAGS.filter((one) => (status & bit(one.bit)) !== 0n);

const ADDRESS_MODES = [
  "segment offset",
  "linear address",
  "physical address",
  "memory address",
  "reserved",
  "reserved",
  "reserved",
  "generic",
] as const;

/** What IA32_MCi_MISC says of ADDR: what kind of address it is, and how many of its low bits mean nothing. */
export const decodeMisc = (misc: bigint): { readonly mode: string; readonly lowBits: number } => ({
  mode: ADDRESS_MODES[Number((misc >> 6n) & 7n)]!,
  lowBits: Number(misc & 63n),
});
