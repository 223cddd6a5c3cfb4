import { type Control, controlName, inForce, setInForce, type VmcsValues } from "./controls.ts";
import { decodeEvent } from "./events.ts";
import { basicReason } from "./exit-reasons.ts";
import { fieldNamed, fieldOf } from "./fields.ts";

/** Whether the processor uses a field. */
export interface Activity {
  /** Undefined where what decides it is not in the region. */
  readonly active: boolean | undefined;
  /** Why it does not; only with `active` false. */
  readonly because: string | undefined;
}

const ACTIVE: Activity = { active: true, because: undefined };

/**
 * The field table's "exists with" → controls of which any one makes the processor load, save or use the field (Intel
 * SDM Vol. 3C §25.4 to §25.8). What hangs on more than controls is in RULES.
 */
const ANY_OF: Readonly<Record<string, readonly Control[]>> = {
  "enable VPID": ["secondary.enable VPID"],
  "process posted interrupts": ["pin.process posted interrupts"],
  "IPI virtualization": ["tertiary.IPI virtualization"],
  "virtual-interrupt delivery": ["secondary.virtual-interrupt delivery"],
  "enable PML": ["secondary.enable PML"],
  "use I/O bitmaps": ["primary.use I/O bitmaps"],
  "use MSR bitmaps": ["primary.use MSR bitmaps"],
  "use TPR shadow": ["primary.use TPR shadow"],
  "virtualize APIC accesses": ["secondary.virtualize APIC accesses"],
  "enable VM functions": ["secondary.enable VM functions"],
  "enable EPT": ["secondary.enable EPT"],
  "EPTP switching": ["vmFunctions.EPTP switching"],
  "VMCS shadowing": ["secondary.VMCS shadowing"],
  "EPT-violation #VE": ["secondary.EPT-violation #VE"],
  "enable XSAVES/XRSTORS": ["secondary.enable XSAVES/XRSTORS"],
  "enable ENCLS exiting": ["secondary.enable ENCLS exiting"],
  "enable ENCLV exiting": ["secondary.enable ENCLV exiting"],
  "use TSC scaling": ["secondary.use TSC scaling"],
  "SEAM guest-physical address width": ["tertiary.SEAM guest-physical address width"],
  FRED: ["entry.load FRED"],
  "load/save IA32_PAT": ["entry.load IA32_PAT", "exit.save IA32_PAT"],
  "load/save IA32_EFER": ["entry.load IA32_EFER", "exit.save IA32_EFER"],
  "load IA32_PERF_GLOBAL_CTRL": ["entry.load IA32_PERF_GLOBAL_CTRL", "exit.save IA32_PERF_GLOBAL_CTRL"],
  "load/clear IA32_BNDCFGS": ["entry.load IA32_BNDCFGS", "exit.clear IA32_BNDCFGS"],
  "load/clear IA32_RTIT_CTL": ["entry.load IA32_RTIT_CTL", "exit.clear IA32_RTIT_CTL"],
  "load/clear IA32_LBR_CTL": ["entry.load guest IA32_LBR_CTL", "exit.clear IA32_LBR_CTL"],
  "load/save FRED": ["entry.load FRED", "secondaryExit.save FRED"],
  "load IA32_PAT (exit)": ["exit.load IA32_PAT"],
  "load IA32_EFER (exit)": ["exit.load IA32_EFER"],
  "load IA32_PERF_GLOBAL_CTRL (exit)": ["exit.load IA32_PERF_GLOBAL_CTRL"],
  "load FRED (exit)": ["secondaryExit.load FRED"],
  "PAUSE-loop exiting": ["secondary.PAUSE-loop exiting"],
  "instruction timeout": ["secondary.instruction timeout"],
  "activate VMX-preemption timer": ["pin.activate VMX-preemption timer"],
  "load CET state (entry)": ["entry.load CET state"],
  "load CET state (exit)": ["exit.load CET state"],
  "enable HLAT": ["tertiary.enable HLAT"],
  "APIC-timer virtualization": ["tertiary.APIC-timer virtualization"],
  "clear UINV / load UINV": ["entry.load UINV", "exit.clear UINV"],
  "sub-page write permissions for EPT": ["secondary.sub-page write permissions for EPT"],
  "PASID translation": ["secondary.PASID translation"],
  "enable PCONFIG": ["secondary.enable PCONFIG"],
  "virtualize IA32_SPEC_CTRL": ["tertiary.virtualize IA32_SPEC_CTRL"],
  "enable MSR-list instructions": ["tertiary.enable MSR-list instructions"],
  "load PKRS": ["entry.load PKRS"],
  "virtualise SPEC_CTRL load/save": ["entry.load IA32_SPEC_CTRL"],
  "load PKRS (exit)": ["exit.load PKRS"],
  "load SPEC_CTRL (exit)": ["secondaryExit.load IA32_SPEC_CTRL"],
};

const SETS: Readonly<Record<string, "secondary" | "tertiary" | "secondaryExit">> = {
  SECONDARY_VM_EXEC_CONTROL: "secondary",
  TERTIARY_VM_EXEC_CONTROL: "tertiary",
  SECONDARY_VM_EXIT_CONTROLS: "secondaryExit",
};

type Read = (encoding: number) => bigint | undefined;
type ReadNamed = (name: string) => bigint | undefined;

const EPT_EXITS: ReadonlySet<number> = new Set([48, 49, 66]);
/** CR access by LMSW, INS and OUTS, EPT violation, SPP event, and I/O SMI. */
const LINEAR_EXITS: ReadonlySet<number> = new Set([5, 28, 30, 48, 66]);
const CR0_PG = 1n << 31n;
const CR4_PAE = 1n << 5n;

/** A rule says why the processor does not use the field; undefined when it does; null when it cannot tell. */
type Rule = (
  read: ReadNamed,
  control: (control: Control) => boolean | undefined,
) => string | undefined | null;

const countOf =
  (name: string): Rule =>
  (read) => {
    const count = read(name);
    if (count === undefined) return null;
    return count === 0n ? "the count is 0" : undefined;
  };

const withErrorCode =
  (name: string): Rule =>
  (read) => {
    const info = read(name);
    if (info === undefined) return null;
    const { valid, errorCode } = decodeEvent(info);
    return valid && errorCode ? undefined : "no event with an error code";
  };

const afterExit =
  (reasons: ReadonlySet<number>, what: string): Rule =>
  (read) => {
    const reason = read("VM_EXIT_REASON");
    if (reason === undefined) return null;
    return reasons.has(basicReason(reason)) ? undefined : what;
  };

/** PDPTEs are used with EPT under PAE paging outside IA-32e mode. */
const pdpte: Rule = (read, control) => {
  const [cr0, cr4] = [read("GUEST_CR0"), read("GUEST_CR4")];
  const [long, ept] = [control("entry.IA-32e mode guest"), control("secondary.enable EPT")];
  if (ept === false) return '"enable EPT" is 0';
  if (cr0 === undefined || cr4 === undefined || long === undefined || ept === undefined) return null;
  return (cr0 & CR0_PG) !== 0n && (cr4 & CR4_PAE) !== 0n && !long ? undefined : "no PAE paging";
};

const softwareEvent: Rule = (read) => {
  const info = read("VM_ENTRY_INTR_INFO_FIELD");
  if (info === undefined) return null;
  const { valid, type } = decodeEvent(info);
  return valid && type >= 4 ? undefined : "no software event to inject";
};

const target =
  (index: bigint): Rule =>
  (read) => {
    const count = read("CR3_TARGET_COUNT");
    if (count === undefined) return null;
    return count > index ? undefined : `the count is ${count}`;
  };

const pageFaultFilter: Rule = (read) => {
  const mask = read("PAGE_FAULT_ERROR_CODE_MASK");
  const match = read("PAGE_FAULT_ERROR_CODE_MATCH");
  if (mask === undefined || match === undefined) return null;
  return mask === 0n && match === 0n ? "0 and 0 let the exception bitmap decide alone" : undefined;
};

const RULES: Readonly<Record<string, Rule>> = {
  TSC_OFFSET: (_read, control) => {
    const used = control("primary.use TSC offsetting");
    return used === undefined ? null : used ? undefined : '"use TSC offsetting" is 0';
  },
  VM_EXIT_MSR_STORE_ADDR: countOf("VM_EXIT_MSR_STORE_COUNT"),
  VM_EXIT_MSR_LOAD_ADDR: countOf("VM_EXIT_MSR_LOAD_COUNT"),
  VM_ENTRY_MSR_LOAD_ADDR: countOf("VM_ENTRY_MSR_LOAD_COUNT"),
  PAGE_FAULT_ERROR_CODE_MASK: pageFaultFilter,
  PAGE_FAULT_ERROR_CODE_MATCH: pageFaultFilter,
  VM_ENTRY_EXCEPTION_ERROR_CODE: withErrorCode("VM_ENTRY_INTR_INFO_FIELD"),
  VM_ENTRY_INSTRUCTION_LEN: softwareEvent,
  VM_EXIT_INTR_ERROR_CODE: withErrorCode("VM_EXIT_INTR_INFO"),
  IDT_VECTORING_ERROR_CODE: withErrorCode("IDT_VECTORING_INFO_FIELD"),
  GUEST_PHYSICAL_ADDRESS: afterExit(EPT_EXITS, "no EPT violation or misconfiguration"),
  GUEST_LINEAR_ADDRESS: afterExit(LINEAR_EXITS, "the last exit defines none"),
  IO_RCX: afterExit(new Set([5]), "no SMI after an I/O instruction"),
  IO_RSI: afterExit(new Set([5]), "no SMI after an I/O instruction"),
  IO_RDI: afterExit(new Set([5]), "no SMI after an I/O instruction"),
  IO_RIP: afterExit(new Set([5]), "no SMI after an I/O instruction"),
  GUEST_PDPTR0: pdpte,
  GUEST_PDPTR1: pdpte,
  GUEST_PDPTR2: pdpte,
  GUEST_PDPTR3: pdpte,
  CR3_TARGET_VALUE0: target(0n),
  CR3_TARGET_VALUE1: target(1n),
  CR3_TARGET_VALUE2: target(2n),
  CR3_TARGET_VALUE3: target(3n),
};

const quoted = (controls: readonly Control[]): string =>
  `${controls.map((control) => `"${controlName(control)}"`).join(" and ")} ${controls.length === 1 ? "is" : "are"} 0`;

function anyOf(read: Read, controls: readonly Control[]): Activity {
  const states = controls.map((control) => inForce(read, control));
  if (states.includes(true)) return ACTIVE;
  if (states.includes(undefined)) return { active: undefined, because: undefined };
  return { active: false, because: quoted(controls) };
}

/** Whether the processor uses a field under the region's controls and last exit. */
export function activityOf({ values }: VmcsValues, encoding: number): Activity {
  const field = fieldOf(encoding);
  if (field === undefined) return { active: undefined, because: undefined };
  const read: Read = (other) => values.get(other);
  const set = SETS[field.name];
  if (set !== undefined) {
    const active = setInForce(read, set);
    return { active, because: active === false ? "not activated" : undefined };
  }
  const rule = RULES[field.name];
  if (rule !== undefined) {
    const because = rule(
      (name) => values.get(fieldNamed(name)!.encoding),
      (control) => inForce(read, control),
    );
    if (because === null) return { active: undefined, because: undefined };
    return because === undefined ? ACTIVE : { active: false, because };
  }
  if (field.existsWith === undefined) return ACTIVE;
  const controls = ANY_OF[field.existsWith];
  return controls === undefined ? { active: undefined, because: undefined } : anyOf(read, controls);
}
