import { CR0_PE, CR0_PG, CR4_LA57, CR4_PAE, EFER_LMA, EFER_LME } from "../x86/registers.ts";
import { fieldNumber, fieldValue, type Vmcb } from "./vmcb.ts";

/** Bits of a VMCB's registers that several checks need (AMD APM Vol. 2 §3.1; Appendix B). */
export const EFER_SVME = 1n << 12n;
/** SCE, LME, LMA, NXE, SVME, LMSLE, FFXSR, TCE, MCOMMIT, INTWB, UAIE, AIBRSE; all others must be zero. */
export const EFER_KNOWN = 0x36_fd01n;
/** PE to NE, WP, AM, NW, CD, PG. */
export const CR0_KNOWN = 0xe005_003fn;
export const CR0_WP = 1n << 16n;
export const CR0_NW = 1n << 29n;
export const CR0_CD = 1n << 30n;
/** VME to LA57, FSGSBASE, PCIDE, OSXSAVE, SMEP to UINTR, LASS, LAM_SUP, FRED: what any x86 processor defines. */
export const CR4_KNOWN = 0x1_1bf7_1fffn;
export const CR4_CET = 1n << 23n;
export const RFLAGS_MASK = 0xffff_ffff_ffc0_802an;

/** Physical addresses have at most 52 bits (APM Vol. 2 §5.3). */
export const PHYSICAL_BITS = 52;

/** `nested_ctl`. */
const NP_ENABLE = 1n << 0n;
export const usesNestedPaging = (vmcb: Vmcb): boolean => (fieldValue(vmcb, "nested_ctl") & NP_ENABLE) !== 0n;

/** `intercept_word4`. */
export const interceptsVmrun = (vmcb: Vmcb): boolean => (fieldNumber(vmcb, "intercept_word4") & 1) !== 0;

/** Long mode enabled and paging on. */
export const entersLongMode = (vmcb: Vmcb): boolean =>
  (fieldValue(vmcb, "efer") & EFER_LME) !== 0n && (fieldValue(vmcb, "cr0") & CR0_PG) !== 0n;

/** Why the mode bits contradict each other; undefined when they do not (APM Vol. 2 Table 14-5). */
export function modeProblem(vmcb: Vmcb): string | undefined {
  const active = (fieldValue(vmcb, "efer") & EFER_LMA) !== 0n;
  const entered = entersLongMode(vmcb);
  if (active !== entered) return `EFER.LMA is ${active ? 1 : 0}, EFER.LME and CR0.PG say ${entered ? 1 : 0}`;
  if (!entered) return undefined;
  if ((fieldValue(vmcb, "cr4") & CR4_PAE) === 0n) return "long mode without CR4.PAE";
  return (fieldValue(vmcb, "cr0") & CR0_PE) === 0n ? "long mode without CR0.PE" : undefined;
}

/** Whether an address is canonical for the width that CR4.LA57 gives. */
export function isCanonical(vmcb: Vmcb, address: bigint): boolean {
  const bits = (fieldValue(vmcb, "cr4") & CR4_LA57) === 0n ? 48 : 57;
  return BigInt.asUintN(64, BigInt.asIntN(bits, address)) === address;
}

/** Memory types of a PAT entry: UC, WC, WT, WP, WB, UC− (APM Vol. 2 §7.8.1). */
const PAT_TYPES: ReadonlySet<number> = new Set([0, 1, 4, 5, 6, 7]);

export function isPat(value: bigint): boolean {
  for (let entry = 0n; entry < 8n; entry++) {
    if (!PAT_TYPES.has(Number((value >> (8n * entry)) & 0xffn))) return false;
  }
  return true;
}

/** Form of EVENTINJ and EXITINTINFO (APM Vol. 2 §15.20, Table 15-11). */
export interface EventInfo {
  readonly vector: number;
  readonly type: "interrupt" | "NMI" | "exception" | "software interrupt" | undefined;
  readonly hasErrorCode: boolean;
}

const EVENT_TYPES: readonly EventInfo["type"][] = [
  "interrupt",
  undefined,
  "NMI",
  "exception",
  "software interrupt",
];
const EVENT_VALID = 2 ** 31;

/** Undefined when the valid bit is clear. */
export function eventOf(word: number): EventInfo | undefined {
  if (word < EVENT_VALID) return undefined;
  return {
    vector: word & 0xff,
    type: EVENT_TYPES[(word >>> 8) & 7],
    hasErrorCode: (word & 0x800) !== 0,
  };
}
