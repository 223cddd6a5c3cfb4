import { hex } from "../core/text.ts";
import { CR0_BITS, RFLAGS_BITS } from "../x86/bit-names.ts";
import { isAccessRights } from "./access-rights.ts";
import { activityOf } from "./active.ts";
import { CONTROL_SETS, type ControlSet, knownBits, type VmcsValues } from "./controls.ts";
import { decodeEptPointer } from "./eptp.ts";
import { decodeEvent, describeErrorCode, describeEvent, exceptionsOf } from "./events.ts";
import { describeQualification, PENDING_DEBUG, type Qualification } from "./exit-qualification.ts";
import { basicReason, describeExitReason } from "./exit-reasons.ts";
import { fieldNamed, fieldOf } from "./fields.ts";
import { describeInstruction } from "./instruction-info.ts";
import { type BitMeaning, bitsOf, type FieldMeaning, namesOfSet, slice } from "./meaning.ts";
import { pointerOf } from "./pointers.ts";
import {
  CR4_BITS,
  DEBUGCTL_BITS,
  describeAccessRights,
  describeActivity,
  describeInstructionError,
  describeLimit,
  describePat,
  describeRflags,
  describeSelector,
  EFER_BITS,
  INTERRUPTIBILITY_BITS,
} from "./processor-state.ts";

type Names = readonly (readonly [bit: number, name: string])[];
type Named = (name: string) => bigint | undefined;
type Reading = (value: bigint, read: Named) => Qualification;

const text = (line: string): Qualification => ({ text: line, bits: undefined });
const flags =
  (names: Names, none = ""): Reading =>
  (value) => ({ text: namesOfSet(value, names).join(" ") || none, bits: bitsOf(value, names) });
const events = (value: bigint): Qualification => text(describeEvent(value));
const errorCodeOf =
  (name: string): Reading =>
  (value, read) =>
    text(describeErrorCode(value, decodeEvent(read(name) ?? 0n)));
const ALL_ONES = (1n << 64n) - 1n;

function controlSet(set: ControlSet): Reading {
  return (value) => {
    const named = set.bits.filter(([bit]) => slice(value, bit, bit) === 1).map(([, name]) => name);
    const unknown = bitsWithoutName(value & ~knownBits(set));
    const bits = [...bitsOf(value, set.bits), ...unknown].sort((a, b) => a.bit - b.bit);
    return { text: [...named, ...unknown.map(({ name }) => name)].join(", "), bits };
  };
}

const bitsWithoutName = (value: bigint): BitMeaning[] =>
  Array.from({ length: 64 }, (_, bit) => ({ bit, name: `bit ${bit}`, set: true })).filter(
    ({ bit }) => slice(value, bit, bit) === 1,
  );

function eptPointer(value: bigint): Qualification {
  const eptp = decodeEptPointer(value);
  if (eptp === undefined) return text(value === 0n ? "" : "no EPT pointer");
  const levels = eptp.shape.levels.length;
  return text(`${levels}-level, ${eptp.memoryType}${eptp.accessedDirty ? ", accessed/dirty flags" : ""}`);
}

/** Which bits the host owns: a clear bit is the guest's. */
const mask =
  (names: Names): Reading =>
  (value) => {
    const guest = namesOfSet(~value & namedBits(names), names);
    return { text: `guest owns ${guest.join(" ") || "none"}`, bits: bitsOf(value, names) };
  };
const namedBits = (names: Names): bigint => names.reduce((all, [bit]) => all | (1n << BigInt(bit)), 0n);

const READINGS: Readonly<Record<string, Reading>> = {
  ...Object.fromEntries(CONTROL_SETS.map((set) => [fieldOf(set.encoding)!.name, controlSet(set)])),
  EXCEPTION_BITMAP: (value) => text(exceptionsOf(value).join(" ") || "none"),
  VM_ENTRY_INTR_INFO_FIELD: events,
  VM_EXIT_INTR_INFO: events,
  IDT_VECTORING_INFO_FIELD: events,
  VM_ENTRY_EXCEPTION_ERROR_CODE: errorCodeOf("VM_ENTRY_INTR_INFO_FIELD"),
  VM_EXIT_INTR_ERROR_CODE: errorCodeOf("VM_EXIT_INTR_INFO"),
  IDT_VECTORING_ERROR_CODE: errorCodeOf("IDT_VECTORING_INFO_FIELD"),
  VM_INSTRUCTION_ERROR: (value) => text(describeInstructionError(value)),
  VM_EXIT_REASON: describeExitReason,
  EXIT_QUALIFICATION: (value, read) =>
    describeQualification(value, read("VM_EXIT_REASON") ?? 0n, read("VM_EXIT_INTR_INFO")),
  VMX_INSTRUCTION_INFO: (value, read) =>
    text(describeInstruction(value, basicReason(read("VM_EXIT_REASON") ?? 0n)) ?? ""),
  EPT_POINTER: eptPointer,
  VMCS_LINK_POINTER: (value) => text(value === ALL_ONES ? "none" : ""),
  CR0_GUEST_HOST_MASK: mask(CR0_BITS),
  CR4_GUEST_HOST_MASK: mask(CR4_BITS),
  CR0_READ_SHADOW: flags(CR0_BITS),
  CR4_READ_SHADOW: flags(CR4_BITS),
  GUEST_CR0: flags(CR0_BITS),
  GUEST_CR4: flags(CR4_BITS),
  HOST_CR0: flags(CR0_BITS),
  HOST_CR4: flags(CR4_BITS),
  GUEST_CR3: (value, read) => text(rootAndPcid(value, read("GUEST_CR4"))),
  HOST_CR3: (value, read) => text(rootAndPcid(value, read("HOST_CR4"))),
  GUEST_RFLAGS: (value) => ({ text: describeRflags(value), bits: bitsOf(value, RFLAGS_BITS) }),
  GUEST_IA32_EFER: flags(EFER_BITS),
  HOST_IA32_EFER: flags(EFER_BITS),
  GUEST_IA32_DEBUGCTL: flags(DEBUGCTL_BITS),
  GUEST_IA32_PAT: (value) => text(describePat(value)),
  HOST_IA32_PAT: (value) => text(describePat(value)),
  GUEST_INTERRUPTIBILITY_INFO: (value) => ({
    text: namesOfSet(value, INTERRUPTIBILITY_BITS).join(", ") || "nothing blocked",
    bits: bitsOf(value, INTERRUPTIBILITY_BITS),
  }),
  GUEST_ACTIVITY_STATE: (value) => text(describeActivity(value)),
  GUEST_PENDING_DBG_EXCEPTIONS: flags(PENDING_DEBUG, "none"),
  GUEST_INTR_STATUS: (value) =>
    text(`requesting ${hex(slice(value, 7, 0), 2)}, in service ${hex(slice(value, 15, 8), 2)}`),
  GUEST_PML_INDEX: (value) => text(value < 512n ? `${511n - value} entries logged` : "log full"),
  VIRTUAL_PROCESSOR_ID: (value) => text(`${value}`),
  POSTED_INTR_NV: (value) => text(`vector ${hex(slice(value, 7, 0), 2)}`),
  TSC_OFFSET: (value) => text(`${BigInt.asIntN(64, value)} ticks`),
};

const PCIDE = 1n << 17n;
function rootAndPcid(value: bigint, cr4: bigint | undefined): string {
  const pcid = value & 0xfffn;
  return cr4 !== undefined && (cr4 & PCIDE) !== 0n ? `PCID ${pcid}` : "";
}

const REAL_MODE_SELECTOR = /^GUEST_(ES|CS|SS|DS|FS|GS)_SELECTOR$/;
const CR0_PE = 1n;
const RFLAGS_VM = 1n << 17n;
/** In real and virtual-8086 mode a selector is a paragraph, not an index. */
const isRealMode = (read: Named): boolean =>
  ((read("GUEST_CR0") ?? CR0_PE) & CR0_PE) === 0n || ((read("GUEST_RFLAGS") ?? 0n) & RFLAGS_VM) !== 0n;

/** Readings by kind of field, from the name: `GUEST_CS_SELECTOR`, `HOST_TR_SELECTOR`, `GUEST_GDTR_LIMIT`, `…_COUNT`. */
function byKind(name: string, encoding: number, value: bigint, read: Named): Qualification {
  if (isAccessRights(encoding)) return text(describeAccessRights(value));
  if (REAL_MODE_SELECTOR.test(name) && isRealMode(read)) return text(`real mode, ${hex(value << 4n, 5)}`);
  if (name.endsWith("_SELECTOR")) return text(describeSelector(value));
  if (name.endsWith("_LIMIT")) return text(describeLimit(value));
  return text(name.endsWith("_COUNT") || name.endsWith("_LEN") ? `${value}` : "");
}

/**
 * What a field's value means.
 * @param encoding of a field that the region holds, without the access-type bit
 * @returns undefined when the region does not hold it
 */
export function describeField(region: VmcsValues, encoding: number): FieldMeaning | undefined {
  const value = region.values.get(encoding);
  if (value === undefined) return undefined;
  const name = fieldOf(encoding)?.name ?? "";
  const read: Named = (other) => region.values.get(fieldNamed(other)!.encoding);
  const reading = READINGS[name]?.(value, read) ?? byKind(name, encoding, value, read);
  const { active, because } = activityOf(region, encoding);
  const pointer = pointerOf(encoding, value);
  return {
    text: reading.text !== "" || pointer === undefined ? reading.text : pointer.target,
    bits: reading.bits,
    pointer,
    active,
    inactiveBecause: because,
  };
}
