/**
 * MCA error codes, bits 15:0 of IA32_MCi_STATUS: Intel SDM Vol. 3B "Interpreting the MCA Error Codes" (chapter 15.9,
 * 16.9 or 17.9 by edition), AMD APM Vol. 2 §9.3.2.2 and Linux drivers/edac/mce_amd.h for the same shapes.
 */

/** What a code says. */
export interface McaCode {
  readonly kind:
    | "none"
    | "simple"
    | "generic cache"
    | "TLB"
    | "memory controller"
    | "cache"
    | "extended memory"
    | "bus"
    | "internal"
    | "unknown";
  /** All of it in words. */
  readonly text: string;
  /** Parts of a compound code, in words. */
  readonly parts: Readonly<Record<string, string>>;
  /** Bit 12: corrected errors of the kind are no longer all told of. */
  readonly filtered: boolean;
}

const SIMPLE: Readonly<Record<number, string>> = {
  1: "unclassified",
  2: "microcode ROM parity error",
  3: "external error (BINIT# of another processor)",
  4: "functional redundancy check (FRC) error",
  5: "internal parity error",
  6: "SMM handler: code access outside of SMRAM",
  1024: "internal timer error (3-strike timeout)",
  3595: "I/O error",
};

const LEVELS = ["level 0", "level 1", "level 2", "generic level"] as const;
const TRANSACTIONS = ["instruction", "data", "generic", "reserved"] as const;
const REQUESTS = [
  "generic error",
  "generic read",
  "generic write",
  "data read",
  "data write",
  "instruction fetch",
  "prefetch",
  "eviction",
  "snoop",
] as const;
const PARTICIPATIONS = [
  "this processor asked",
  "this processor answered",
  "this processor observed",
  "generic",
] as const;
const ADDRESSED = ["memory", "reserved", "I/O", "other transaction"] as const;
const MEMORY_OPERATIONS = [
  "generic",
  "memory read",
  "memory write",
  "address or command",
  "memory scrubbing",
] as const;
const UNSPECIFIED_CHANNEL = 15;
/** F, the filter bit, which belongs to no code. */
const FILTER = 0x1000;

/** @param status IA32_MCi_STATUS, of which bits 15:0 are read */
export function decodeMcaCode(status: bigint): McaCode {
  const raw = Number(status & 0xffffn);
  const code = raw & ~FILTER;
  // Simple codes have no filter bit: 0x0e0b alone would otherwise be taken for a bus error with one.
  const simple = SIMPLE[raw];
  if (raw === 0) return { kind: "none", text: "no error", parts: {}, filtered: false };
  if (simple !== undefined) return { kind: "simple", text: simple, parts: {}, filtered: false };
  const compound = compoundOf(code);
  return { ...compound, filtered: (raw & FILTER) !== 0 };
}

type Compound = Omit<McaCode, "filtered">;

function compoundOf(code: number): Compound {
  const level = LEVELS[code & 3]!;
  const transaction = TRANSACTIONS[(code >> 2) & 3]!;
  const request = REQUESTS[(code >> 4) & 15] ?? "reserved request";
  if ((code & 0xfffc) === 0x000c) {
    return { kind: "generic cache", text: `generic cache error, ${level}`, parts: { level } };
  }
  if ((code & 0xfff0) === 0x0010) {
    const parts = { transaction, level };
    return { kind: "TLB", text: `TLB error, ${transaction}, ${level}`, parts };
  }
  if ((code & 0xff80) === 0x0080) return memoryOf(code, "memory controller");
  if ((code & 0xff80) === 0x0280) return memoryOf(code, "extended memory");
  if ((code & 0xff00) === 0x0100) {
    const parts = { request, transaction, level };
    return { kind: "cache", text: `cache error, ${request}, ${transaction}, ${level}`, parts };
  }
  if ((code & 0xfc00) === 0x0400) {
    return { kind: "internal", text: "internal error, unclassified", parts: {} };
  }
  if ((code & 0xf800) === 0x0800) {
    const participation = PARTICIPATIONS[(code >> 9) & 3]!;
    const timeout = (code & 0x100) === 0 ? "no timeout" : "timed out";
    const addressed = ADDRESSED[(code >> 2) & 3]!;
    const parts = { participation, timeout, request, addressed, level };
    const text = `bus or interconnect error, ${request}, ${addressed}, ${level}, ${participation}, ${timeout}`;
    return { kind: "bus", text, parts };
  }
  return { kind: "unknown", text: `unknown code 0x${code.toString(16).padStart(4, "0")}`, parts: {} };
}

function memoryOf(code: number, kind: "memory controller" | "extended memory"): Compound {
  const operation = MEMORY_OPERATIONS[(code >> 4) & 7] ?? "reserved operation";
  const number = code & 15;
  const channel = number === UNSPECIFIED_CHANNEL ? "not specified" : String(number);
  const words =
    kind === "extended memory" ? "error of a cache in front of memory" : "memory controller error";
  const place = number === UNSPECIFIED_CHANNEL ? "channel not specified" : `channel ${channel}`;
  return { kind, text: `${words}, ${operation}, ${place}`, parts: { operation, channel } };
}
