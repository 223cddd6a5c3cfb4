import { type AccessRightsForm, isAccessRights } from "../access-rights.ts";
import { selectorOf } from "./decode.ts";
import { encodingNamed } from "./names.ts";
import {
  MAX_RECORDS,
  type Reading,
  type VmcsInfoForm,
  type VmcsInfoProblem,
  type VmcsInfoRecord,
} from "./types.ts";

/**
 * What rekall's module `tools/linux/vmcs_layout` prints to the kernel log, with or without the log's prefix, and the
 * profiles made of it: `"NEW_VMCS_0x12": [4096, {` and a line `"GUEST_RIP": [568, ["unsigned long", {}]],` a field.
 */
export const REKALL: VmcsInfoForm = {
  name: "rekall",
  label: "rekall profile",
  matches: ({ text }) =>
    text !== undefined && /"\$STRUCTS"|VMCS_0x[0-9a-f]+"\s*:/i.test(text) && MEMBER.test(text),
  read: ({ text = "" }, { accessRights }) => readProfile(text, accessRights),
};

const MEMBER = /"([A-Z][A-Z0-9_]{2,60})"\s*:\s*\[\s*(\d{1,6})\s*,\s*\[/;
const REVISION = /VMCS_0x([0-9a-f]{1,8})"\s*:/i;

/** The module reads this one by the encoding of the TR selector. */
const MISREAD = "GUEST_INTERRUPT_STATUS";
/** Members of a profile that are no fields. */
const HEADER_MEMBERS = new Set(["REVISION_ID", "ABORT_INDICATOR"]);

/** Its names that differ from KVM's by more than an ending. */
const NAMES: Readonly<Record<string, string>> = {
  VPID: "VIRTUAL_PROCESSOR_ID",
  POSTED_INTERRUPT_NOTIFICATION_VECTOR: "POSTED_INTR_NV",
  EXIT_MSR_STORE_ADDR: "VM_EXIT_MSR_STORE_ADDR",
  EXIT_MSR_LOAD_ADDR: "VM_EXIT_MSR_LOAD_ADDR",
  ENTRY_MSR_LOAD_ADDR: "VM_ENTRY_MSR_LOAD_ADDR",
  EXECUTIVE_VMCS_PTR: "EXECUTIVE_VMCS_POINTER",
  POSTED_INTERRUPT_DESCRIPTION_ADDR: "POSTED_INTR_DESC_ADDR",
  VM_FUNCTION_CTRL: "VM_FUNCTION_CONTROL",
  EOI_EXIT_BITMAP_0: "EOI_EXIT_BITMAP0",
  EOI_EXIT_BITMAP_1: "EOI_EXIT_BITMAP1",
  EOI_EXIT_BITMAP_2: "EOI_EXIT_BITMAP2",
  EOI_EXIT_BITMAP_3: "EOI_EXIT_BITMAP3",
  VMREAD_BITMAP_ADDRESS: "VMREAD_BITMAP",
  VMWRITE_BITMAP_ADDRESS: "VMWRITE_BITMAP",
  VE_INFO_ADDRESS: "VE_INFORMATION_ADDRESS",
  GUEST_PHYSICAL_ADDR: "GUEST_PHYSICAL_ADDRESS",
  VMCS_LINK_PTR: "VMCS_LINK_POINTER",
  GUEST_IA32_PERF_CTL: "GUEST_IA32_PERF_GLOBAL_CTRL",
  HOST_IA32_PERF_CTL: "HOST_IA32_PERF_GLOBAL_CTRL",
  GUEST_PDPTE0: "GUEST_PDPTR0",
  GUEST_PDPTE1: "GUEST_PDPTR1",
  GUEST_PDPTE2: "GUEST_PDPTR2",
  GUEST_PDPTE3: "GUEST_PDPTR3",
  PIN_VM_EXEC_CONTROLS: "PIN_BASED_VM_EXEC_CONTROL",
  PROC_VM_EXEC_CONTROLS: "CPU_BASED_VM_EXEC_CONTROL",
  PROC_VM_EXEC_CONTROLS2: "SECONDARY_VM_EXEC_CONTROL",
  PAGEFAULT_ERRCODE_MASK: "PAGE_FAULT_ERROR_CODE_MASK",
  PAGEFAULT_ERRCODE_MATCH: "PAGE_FAULT_ERROR_CODE_MATCH",
  EXIT_CONTROLS: "VM_EXIT_CONTROLS",
  EXIT_MSR_STORE_COUNT: "VM_EXIT_MSR_STORE_COUNT",
  EXIT_MSR_LOAD_COUNT: "VM_EXIT_MSR_LOAD_COUNT",
  ENTRY_CONTROLS: "VM_ENTRY_CONTROLS",
  ENTRY_MSR_LOAD_COUNT: "VM_ENTRY_MSR_LOAD_COUNT",
  ENTRY_INT_INFO_FIELD: "VM_ENTRY_INTR_INFO_FIELD",
  ENTRY_EXCEPTION_EC: "VM_ENTRY_EXCEPTION_ERROR_CODE",
  ENTRY_INSTR_LENGTH: "VM_ENTRY_INSTRUCTION_LEN",
  INSTR_ERROR: "VM_INSTRUCTION_ERROR",
  EXIT_REASON: "VM_EXIT_REASON",
  EXIT_INTERRUPT_INFO: "VM_EXIT_INTR_INFO",
  EXIT_INTERRUPT_ERRCODE: "VM_EXIT_INTR_ERROR_CODE",
  IDT_VECTORING_ERRCODE: "IDT_VECTORING_ERROR_CODE",
  EXIT_INSTR_LEN: "VM_EXIT_INSTRUCTION_LEN",
  INSTR_INFO: "VMX_INSTRUCTION_INFO",
  GUEST_IA32_SYSENTER_CS: "GUEST_SYSENTER_CS",
  GUEST_IA32_SYSENTER_ESP: "GUEST_SYSENTER_ESP",
  GUEST_IA32_SYSENTER_EIP: "GUEST_SYSENTER_EIP",
  GUEST_PREEMTION_TIMER: "VMX_PREEMPTION_TIMER_VALUE",
  CR0_MASK: "CR0_GUEST_HOST_MASK",
  CR4_MASK: "CR4_GUEST_HOST_MASK",
  CR3_TARGET_0: "CR3_TARGET_VALUE0",
  CR3_TARGET_1: "CR3_TARGET_VALUE1",
  CR3_TARGET_2: "CR3_TARGET_VALUE2",
  CR3_TARGET_3: "CR3_TARGET_VALUE3",
  GUEST_LINEAR_ADDR: "GUEST_LINEAR_ADDRESS",
  GUEST_PENDING_DEBUG_EXCEPT: "GUEST_PENDING_DBG_EXCEPTIONS",
};

function encodingOf(name: string): number | undefined {
  const [, stem = name, half] = /^(.*?)(_FULL|_HIGH)?$/.exec(name)!;
  const spelt = stem.replace(/_SEL$/, "_SELECTOR").replace(/_ATTR$/, "_AR_BYTES");
  return encodingNamed(`${NAMES[stem] ?? spelt}${half === "_HIGH" ? "_HIGH" : ""}`);
}

function readProfile(text: string, told: AccessRightsForm | undefined): Reading {
  const problems: VmcsInfoProblem[] = [];
  const offsets: (readonly [encoding: number, offset: number])[] = [];
  for (const [, name = "", digits = ""] of text.matchAll(new RegExp(MEMBER, "g"))) {
    if (name === MISREAD || HEADER_MEMBERS.has(name)) continue;
    const encoding = encodingOf(name);
    if (encoding !== undefined) offsets.push([encoding, Number.parseInt(digits, 10)]);
    else problems.push({ kind: "unknown-name", encoding, message: `${name} is no field that rekall names` });
    if (offsets.length + problems.length > MAX_RECORDS) break;
  }
  const revision = REVISION.exec(text)?.[1];
  return {
    revisionId: revision === undefined ? undefined : Number.parseInt(revision, 16),
    records: recordsOf(offsets, told),
    problems,
  };
}

/** VMREAD does not return bits 8 to 10 of a packed field, and bit 11 as bit 16, which the module cuts off. */
const UNREAD_BITS = 0x700;
export const REKALL_LOST_BITS = 0xf00;

/**
 * Access rights do not read back as written, so the module's number is not always their offset: one that is rotated
 * comes out one too high, after the module has swapped its bytes; a packed one lacks bits, and where its selector does
 * not place it, it may be at any of several places.
 */
function recordsOf(
  offsets: readonly (readonly [encoding: number, offset: number])[],
  told: AccessRightsForm | undefined,
): VmcsInfoRecord[] {
  const known = new Map(offsets);
  const records = offsets.map(([encoding, value]) =>
    recordOf(encoding, value, known.get(selectorOf(encoding))),
  );
  const open = records.filter(
    ({ encoding, accessRights }) => isAccessRights(encoding) && accessRights === undefined,
  );
  const isPlain = told === "plain" || open.some(({ offset = 0 }) => (offset & UNREAD_BITS) !== 0);
  if (isPlain || told === "rotated") return records;
  return records.map((record) => (open.includes(record) ? { ...record, certainty: "ambiguous" } : record));
}

function recordOf(encoding: number, value: number, selectorOffset: number | undefined): VmcsInfoRecord {
  const record = (offset: number, accessRights?: AccessRightsForm): VmcsInfoRecord => ({
    encoding,
    raw: undefined,
    offset,
    accessRights,
    certainty: accessRights === undefined ? undefined : "likely",
  });
  if (!isAccessRights(encoding)) return record(value);
  if (value % 2 === 1) return record(value - 1, "rotated");
  const beside = selectorOffset === undefined ? undefined : selectorOffset + 2;
  return beside !== undefined && (beside & ~REKALL_LOST_BITS) === value
    ? record(beside, "packed")
    : record(value);
}
