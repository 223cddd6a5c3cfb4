import { hex } from "../core/text.ts";
import type { BitName } from "../x86/bit-names.ts";
import { RFLAGS_FIXED } from "../x86/registers.ts";
import { BIT_NAMES, CODE_BITS, DATA_BITS, SYSTEM_TYPES, UPPER_BITS } from "./bit-names.ts";
import { type EventInfo, eventOf } from "./bits.ts";
import { exitCodeName, exitDetail } from "./exit-codes.ts";
import type { VmcbFieldName } from "./fields.ts";
import { exceptionName, interceptsOf } from "./intercepts.ts";
import { fieldNumber, fieldValue, type Vmcb } from "./vmcb.ts";

/** V_TPR and V_INTR_PRIO are numbers among the bits of `int_ctl`. */
const INT_CTL_NUMBERS = 0xf_000fn;

function interruptControl(value: bigint): string {
  const priority = (value >> 16n) & 15n;
  const names = bitNames(value, BIT_NAMES.int_ctl ?? [], INT_CTL_NUMBERS);
  return `${names} V_TPR ${value & 15n}${priority === 0n ? "" : ` V_INTR_PRIO ${priority}`}`.trim();
}

const TLB_CONTROL: Readonly<Record<number, string>> = {
  0: "nothing",
  1: "flush the entire TLB",
  3: "flush this guest's entries",
  7: "flush this guest's non-global entries",
};

const eventText = ({ type, vector, hasErrorCode }: EventInfo, error: number): string => {
  const name = type === "exception" ? exceptionName(vector) : `${type ?? "reserved type"} ${vector}`;
  return hasErrorCode ? `${name}, error code ${hex(error)}` : name;
};

const event = (word: VmcbFieldName, error: VmcbFieldName) => (vmcb: Vmcb) => {
  const info = eventOf(fieldNumber(vmcb, word));
  return info === undefined ? "none" : eventText(info, fieldNumber(vmcb, error));
};

const instructionBytes = (vmcb: Vmcb): string => Buffer.from(vmcb.instruction).toString("hex");

/** Fields whose meaning is neither a list of bits nor an attribute. */
const MEANINGS: Partial<Readonly<Record<VmcbFieldName, (vmcb: Vmcb) => string>>> = {
  exit_code: (vmcb) => exitCodeName(fieldValue(vmcb, "exit_code")) ?? "not defined",
  exit_info_1: exitMeaning,
  exit_int_info: event("exit_int_info", "exit_int_info_err"),
  event_inj: event("event_inj", "event_inj_err"),
  tlb_ctl: (vmcb) => TLB_CONTROL[fieldNumber(vmcb, "tlb_ctl")] ?? "reserved",
  int_ctl: (vmcb) => interruptControl(fieldValue(vmcb, "int_ctl")),
  insn_len: instructionBytes,
};

function exitMeaning(vmcb: Vmcb): string {
  const code = fieldValue(vmcb, "exit_code");
  return exitDetail(code, fieldValue(vmcb, "exit_info_1"), fieldValue(vmcb, "exit_info_2")) ?? "";
}

/** Names of the bits that are set, ascending, then those set that have no name: `NP SEV bit 60`. */
function bitNames(value: bigint, names: readonly BitName[], ignored = 0n): string {
  let rest = value & ~ignored;
  const set: string[] = [];
  for (const [bit, name] of names) {
    const mask = 1n << BigInt(bit);
    if ((rest & mask) !== 0n) set.push(name);
    rest &= ~mask;
  }
  for (let bit = 0; bit < 64; bit++) if ((rest >> BigInt(bit)) & 1n) set.push(`bit ${bit}`);
  return set.join(" ");
}

/** A segment attribute word: `code readable accessed L G DPL 0 present`. */
function attributeText(attrib: number): string {
  if (attrib === 0) return "null";
  const isSystem = (attrib & 0x10) === 0;
  const isCode = (attrib & 8) !== 0;
  const kind = isSystem
    ? (SYSTEM_TYPES[attrib & 15] ?? `system type ${attrib & 15}`)
    : `${isCode ? "code" : "data"} ${bitNames(BigInt(attrib & 7), isCode ? CODE_BITS : DATA_BITS)}`;
  const upper = bitNames(BigInt(attrib & 0xf00), UPPER_BITS);
  const present = (attrib & 0x80) === 0 ? "not present" : "present";
  return [kind.trim(), upper, `DPL ${(attrib >>> 5) & 3}`, present].filter((part) => part !== "").join(" ");
}

/** One named bit of a field. */
export interface BitMeaning {
  readonly bit: number;
  readonly name: string;
  readonly set: boolean;
}

/** What a field's value means. */
export interface VmcbFieldMeaning {
  /** One line; "" when the value speaks for itself. */
  readonly text: string;
  /** Every named bit, ascending, where the field is made of bits. */
  readonly bits: readonly BitMeaning[] | undefined;
}

export function describeField(vmcb: Vmcb, name: VmcbFieldName): VmcbFieldMeaning {
  const value = fieldValue(vmcb, name);
  const bits = BIT_NAMES[name]?.map(([bit, label]) => ({
    bit,
    name: label,
    set: ((value >> BigInt(bit)) & 1n) === 1n,
  }));
  return { text: MEANINGS[name]?.(vmcb) ?? plainMeaning(name, value), bits };
}

function plainMeaning(name: VmcbFieldName, value: bigint): string {
  const intercepts = interceptsOf(name, value);
  if (intercepts !== undefined) return intercepts.join(" ");
  const bits = BIT_NAMES[name];
  if (bits !== undefined) return bitNames(value, bits, name === "rflags" ? RFLAGS_FIXED : 0n);
  return name.endsWith(".attrib") ? attributeText(Number(value)) : "";
}
