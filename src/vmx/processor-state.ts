import { bytesText, hex } from "../core/text.ts";
import { type BitName, RFLAGS_BITS } from "../x86/bit-names.ts";
import { UNUSABLE } from "./access-rights.ts";
import { namesOfSet, slice } from "./meaning.ts";

type Names = readonly BitName[];

/** CR4, IA32_EFER, IA32_DEBUGCTL (Intel SDM Vol. 3A §2.5, §2.2.1; Vol. 3B §17.4.1). */
export const CR4_BITS: Names = [
  [0, "VME"],
  [1, "PVI"],
  [2, "TSD"],
  [3, "DE"],
  [4, "PSE"],
  [5, "PAE"],
  [6, "MCE"],
  [7, "PGE"],
  [8, "PCE"],
  [9, "OSFXSR"],
  [10, "OSXMMEXCPT"],
  [11, "UMIP"],
  [12, "LA57"],
  [13, "VMXE"],
  [14, "SMXE"],
  [16, "FSGSBASE"],
  [17, "PCIDE"],
  [18, "OSXSAVE"],
  [19, "KL"],
  [20, "SMEP"],
  [21, "SMAP"],
  [22, "PKE"],
  [23, "CET"],
  [24, "PKS"],
  [25, "UINTR"],
  [27, "LASS"],
  [28, "LAM_SUP"],
  [32, "FRED"],
];
export const EFER_BITS: Names = [
  [0, "SCE"],
  [8, "LME"],
  [10, "LMA"],
  [11, "NXE"],
];
export const DEBUGCTL_BITS: Names = [
  [0, "LBR"],
  [1, "BTF"],
  [2, "BLD"],
  [6, "TR"],
  [7, "BTS"],
  [8, "BTINT"],
  [9, "BTS_OFF_OS"],
  [10, "BTS_OFF_USR"],
  [11, "FREEZE_LBRS_ON_PMI"],
  [12, "FREEZE_PERFMON_ON_PMI"],
  [14, "FREEZE_WHILE_SMM"],
  [15, "RTM_DEBUG"],
];

/** RFLAGS with IOPL as a number: `IF ZF IOPL=3`. */
export function describeRflags(value: bigint): string {
  const iopl = slice(value, 13, 12);
  const names = namesOfSet(value & ~0x3002n, RFLAGS_BITS);
  return [...names, ...(iopl === 0 ? [] : [`IOPL=${iopl}`])].join(" ");
}

/** Interruptibility state (Vol. 3C Table 25-3). */
export const INTERRUPTIBILITY_BITS: Names = [
  [0, "blocking by STI"],
  [1, "blocking by MOV SS"],
  [2, "blocking by SMI"],
  [3, "blocking by NMI"],
  [4, "enclave interruption"],
];

/** Activity states (Vol. 3C §25.4.2). */
const ACTIVITIES = ["active", "HLT", "shutdown", "wait-for-SIPI"] as const;
export const describeActivity = (value: bigint): string =>
  value < 4n ? ACTIVITIES[Number(value)]! : "no activity state";

const MEMORY_TYPES = ["UC", "WC", "type 2", "type 3", "WT", "WP", "WB", "UC-"] as const;
/** The eight entries of IA32_PAT, PA0 first (Vol. 3A §11.12). */
export const describePat = (value: bigint): string =>
  Array.from({ length: 8 }, (_, i) => slice(value, 8 * i + 7, 8 * i))
    .map((type) => MEMORY_TYPES[type] ?? `type ${type}`)
    .join(" ");

const CODE_AND_DATA = ["data", "code"] as const;
/** System-segment types (Vol. 3A Table 3-2) as far as LDTR and TR hold them. */
const SYSTEM: ReadonlyMap<number, string> = new Map([
  [1, "16-bit TSS"],
  [2, "LDT"],
  [3, "busy 16-bit TSS"],
  [9, "TSS"],
  [11, "busy TSS"],
]);

/** Access rights (Vol. 3C Table 25-2): `code execute/read accessed, DPL 0, present, 64-bit, 4 KiB granular`. */
export function describeAccessRights(rights: bigint): string {
  if ((rights & BigInt(UNUSABLE)) !== 0n) return "unusable";
  const type = slice(rights, 3, 0);
  const system = slice(rights, 4, 4) === 0;
  const parts = [system ? (SYSTEM.get(type) ?? `system type ${type}`) : segmentType(type)];
  parts.push(`DPL ${slice(rights, 6, 5)}`, slice(rights, 7, 7) === 1 ? "present" : "not present");
  if (slice(rights, 13, 13) === 1) parts.push("64-bit");
  else if (!system) parts.push(slice(rights, 14, 14) === 1 ? "32-bit" : "16-bit");
  if (slice(rights, 15, 15) === 1) parts.push("4 KiB granular");
  return parts.join(", ");
}

function segmentType(type: number): string {
  const code = (type & 8) !== 0;
  const access = code
    ? `execute${(type & 2) !== 0 ? "/read" : ""}${(type & 4) !== 0 ? " conforming" : ""}`
    : `read${(type & 2) !== 0 ? "/write" : ""}${(type & 4) !== 0 ? " expand-down" : ""}`;
  return `${CODE_AND_DATA[code ? 1 : 0]} ${access}${(type & 1) !== 0 ? " accessed" : ""}`;
}

/** `index 2, GDT, RPL 0`; a null selector is that. */
export function describeSelector(selector: bigint): string {
  if ((selector & 0xfffcn) === 0n) return "null";
  return `index ${slice(selector, 15, 3)}, ${slice(selector, 2, 2) === 1 ? "LDT" : "GDT"}, RPL ${slice(selector, 1, 0)}`;
}

/** Segment limits are in bytes, granularity applied. */
export const describeLimit = (limit: bigint): string => bytesText(Number(limit) + 1);

/** VM-instruction errors (Vol. 3C §31.4). */
const INSTRUCTION_ERRORS: ReadonlyMap<number, string> = new Map([
  [1, "VMCALL executed in VMX root operation"],
  [2, "VMCLEAR with invalid physical address"],
  [3, "VMCLEAR with VMXON pointer"],
  [4, "VMLAUNCH with non-clear VMCS"],
  [5, "VMRESUME with non-launched VMCS"],
  [6, "VMRESUME after VMXOFF"],
  [7, "VM entry with invalid control fields"],
  [8, "VM entry with invalid host-state fields"],
  [9, "VMPTRLD with invalid physical address"],
  [10, "VMPTRLD with VMXON pointer"],
  [11, "VMPTRLD with incorrect VMCS revision identifier"],
  [12, "VMREAD/VMWRITE from or to unsupported VMCS component"],
  [13, "VMWRITE to read-only VMCS component"],
  [15, "VMXON executed in VMX root operation"],
  [16, "VM entry with invalid executive-VMCS pointer"],
  [17, "VM entry with non-launched executive VMCS"],
  [18, "VM entry with executive-VMCS pointer not VMXON pointer"],
  [19, "VMCALL with non-clear VMCS"],
  [20, "VMCALL with invalid VM-exit control fields"],
  [22, "VMCALL with incorrect MSEG revision identifier"],
  [23, "VMXOFF under dual-monitor treatment"],
  [24, "VMCALL with invalid SMM-monitor features"],
  [25, "VM entry with invalid VM-execution control fields in executive VMCS"],
  [26, "VM entry with events blocked by MOV SS"],
  [28, "invalid operand to INVEPT/INVVPID"],
]);
export const describeInstructionError = (value: bigint): string =>
  value === 0n ? "none" : (INSTRUCTION_ERRORS.get(Number(value)) ?? "no error of that number");

/** VMX aborts (Vol. 3C §28.7); Intel TXT adds its shutdown. */
const ABORTS: ReadonlyMap<number, string> = new Map([
  [1, "saving guest MSRs failed"],
  [2, "host checking of the PDPTEs failed"],
  [3, "the current VMCS is corrupted"],
  [4, "loading host MSRs failed"],
  [5, "machine check during a VM exit"],
  [6, "VM exit to a 32-bit host from a processor in IA-32e mode"],
  [0xd, "TXT shutdown"],
]);
/** The VMX-abort indicator in the region's header. */
export const describeAbort = (indicator: number): string =>
  indicator === 0 ? "none" : (ABORTS.get(indicator) ?? `no abort of number ${hex(indicator)}`);
