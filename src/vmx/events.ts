import { hex } from "../core/text.ts";
import { namesOfSet, slice } from "./meaning.ts";

/**
 * Events: the fields that say what is injected by VM entry, what caused a VM exit, and what was being delivered when it
 * came (Intel SDM Vol. 3C Tables 25-17, 25-20 and 25-21, there "interruption information").
 */
export interface EventInfo {
  /** Bit 31; with it clear the rest means nothing. */
  readonly valid: boolean;
  /** Bits 7:0. */
  readonly vector: number;
  /** Bits 10:8. */
  readonly type: number;
  /** Bit 11: an error code is delivered, or valid. */
  readonly errorCode: boolean;
}

export const EXTERNAL_INTERRUPT = 0;
export const NMI = 2;
export const HARDWARE_EXCEPTION = 3;
export const SOFTWARE_INTERRUPT = 4;
export const PRIVILEGED_SOFTWARE_EXCEPTION = 5;
export const SOFTWARE_EXCEPTION = 6;
export const OTHER_EVENT = 7;

const TYPES = [
  "external interrupt",
  "reserved type 1",
  "NMI",
  "hardware exception",
  "software interrupt",
  "privileged software exception",
  "software exception",
  "other event",
] as const;

/** Exceptions by vector (SDM Vol. 3A Table 6-1). */
const EXCEPTIONS: readonly (string | undefined)[] = [
  "#DE",
  "#DB",
  "NMI",
  "#BP",
  "#OF",
  "#BR",
  "#UD",
  "#NM",
  "#DF",
  undefined,
  "#TS",
  "#NP",
  "#SS",
  "#GP",
  "#PF",
  undefined,
  "#MF",
  "#AC",
  "#MC",
  "#XM",
  "#VE",
  "#CP",
];
const PAGE_FAULT = 14;

export const decodeEvent = (info: bigint): EventInfo => ({
  valid: slice(info, 31, 31) === 1,
  vector: slice(info, 7, 0),
  type: slice(info, 10, 8),
  errorCode: slice(info, 11, 11) === 1,
});

export const exceptionName = (vector: number): string => EXCEPTIONS[vector] ?? `vector ${vector}`;

/** Names of the exceptions whose bit is set in an exception bitmap. */
export const exceptionsOf = (bitmap: bigint): string[] =>
  namesOfSet(
    bitmap,
    EXCEPTIONS.flatMap((name, vector) => (name === undefined ? [] : [[vector, name] as const])),
  );

const EVENT_FLAGS: readonly (readonly [bit: number, name: string])[] = [
  [12, "NMI unblocking due to IRET"],
  [13, "nested exception"],
];

/** `hardware exception #PF, error code`; "none" when the valid bit is clear. */
export function describeEvent(info: bigint): string {
  const { valid, vector, type, errorCode } = decodeEvent(info);
  if (!valid) return "none";
  const parts = [`${TYPES[type]}${vectorText(type, vector)}`];
  if (errorCode) parts.push("error code");
  return [...parts, ...namesOfSet(info & 0x3000n, EVENT_FLAGS)].join(", ");
}

function vectorText(type: number, vector: number): string {
  if (type === NMI && vector === 2) return "";
  if (type === OTHER_EVENT)
    return [" (pending MTF VM exit)", " (SYSCALL)", " (SYSENTER)"][vector] ?? ` ${vector}`;
  const isInterrupt = type === EXTERNAL_INTERRUPT || type === SOFTWARE_INTERRUPT;
  return isInterrupt ? ` ${hex(vector, 2)}` : ` ${exceptionName(vector)}`;
}

/** Page-fault error codes (SDM Vol. 3A §4.7). */
const PAGE_FAULT_BITS: readonly (readonly [bit: number, name: string])[] = [
  [0, "protection"],
  [1, "write"],
  [2, "user"],
  [3, "reserved bit"],
  [4, "instruction fetch"],
  [5, "protection key"],
  [6, "shadow stack"],
  [7, "HLAT"],
  [15, "SGX"],
];
/** Error codes that name a selector (SDM Vol. 3A §6.13). */
const SELECTOR_BITS: readonly (readonly [bit: number, name: string])[] = [
  [0, "external"],
  [1, "IDT"],
  [2, "LDT"],
];
const SELECTOR_FAULTS: ReadonlySet<number> = new Set([10, 11, 12, 13]);

/** An error code, by the event it belongs to. */
export function describeErrorCode(code: bigint, { vector }: EventInfo): string {
  if (vector === PAGE_FAULT) {
    const names = namesOfSet(code, PAGE_FAULT_BITS);
    return names[0] === "protection" ? names.join(", ") : ["not present", ...names].join(", ");
  }
  if (!SELECTOR_FAULTS.has(vector) || code === 0n) return "";
  return [`selector ${hex(code & 0xfff8n, 4)}`, ...namesOfSet(code & 7n, SELECTOR_BITS)].join(", ");
}
