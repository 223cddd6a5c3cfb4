import { fieldNamed } from "./fields.ts";
import type { VmcsRegion } from "./region.ts";

/** All that decoding of fields needs of a region: a dump in a kernel log has the values and no bytes. */
export type VmcsValues = Pick<VmcsRegion, "values">;

/**
 * Names of control bits (Intel SDM Vol. 3C §25.6 to §25.8, the tables "Definitions of … Controls"; section numbers here
 * and beside are of the editions of 2023 and 2024, to which later ones add one or two chapters in front). `default1` are
 * the bits that no processor lets software clear: of the default1 class (Vol. 3D Appendix A.2 to A.5) those that are 1
 * even in the TRUE capability MSRs.
 */
interface ControlSetDefinition {
  readonly field: string;
  readonly title: string;
  readonly default1: bigint;
  /** Further bits of the default1 class, which a processor may let software clear. */
  readonly mayClear: bigint;
  readonly bits: readonly (readonly [bit: number, name: string])[];
}

const SETS = {
  pin: {
    field: "PIN_BASED_VM_EXEC_CONTROL",
    title: "pin-based",
    default1: 0x16n,
    mayClear: 0n,
    bits: [
      [0, "external-interrupt exiting"],
      [3, "NMI exiting"],
      [5, "virtual NMIs"],
      [6, "activate VMX-preemption timer"],
      [7, "process posted interrupts"],
    ],
  },
  primary: {
    field: "CPU_BASED_VM_EXEC_CONTROL",
    title: "primary processor-based",
    default1: 0x0400_6172n,
    mayClear: 0x0001_8000n,
    bits: [
      [2, "interrupt-window exiting"],
      [3, "use TSC offsetting"],
      [7, "HLT exiting"],
      [9, "INVLPG exiting"],
      [10, "MWAIT exiting"],
      [11, "RDPMC exiting"],
      [12, "RDTSC exiting"],
      [15, "CR3-load exiting"],
      [16, "CR3-store exiting"],
      [17, "activate tertiary controls"],
      [19, "CR8-load exiting"],
      [20, "CR8-store exiting"],
      [21, "use TPR shadow"],
      [22, "NMI-window exiting"],
      [23, "MOV-DR exiting"],
      [24, "unconditional I/O exiting"],
      [25, "use I/O bitmaps"],
      [27, "monitor trap flag"],
      [28, "use MSR bitmaps"],
      [29, "MONITOR exiting"],
      [30, "PAUSE exiting"],
      [31, "activate secondary controls"],
    ],
  },
  secondary: {
    field: "SECONDARY_VM_EXEC_CONTROL",
    title: "secondary processor-based",
    default1: 0n,
    mayClear: 0n,
    bits: [
      [0, "virtualize APIC accesses"],
      [1, "enable EPT"],
      [2, "descriptor-table exiting"],
      [3, "enable RDTSCP"],
      [4, "virtualize x2APIC mode"],
      [5, "enable VPID"],
      [6, "WBINVD exiting"],
      [7, "unrestricted guest"],
      [8, "APIC-register virtualization"],
      [9, "virtual-interrupt delivery"],
      [10, "PAUSE-loop exiting"],
      [11, "RDRAND exiting"],
      [12, "enable INVPCID"],
      [13, "enable VM functions"],
      [14, "VMCS shadowing"],
      [15, "enable ENCLS exiting"],
      [16, "RDSEED exiting"],
      [17, "enable PML"],
      [18, "EPT-violation #VE"],
      [19, "conceal VMX from PT"],
      [20, "enable XSAVES/XRSTORS"],
      [21, "PASID translation"],
      [22, "mode-based execute control for EPT"],
      [23, "sub-page write permissions for EPT"],
      [24, "Intel PT uses guest physical addresses"],
      [25, "use TSC scaling"],
      [26, "enable user wait and pause"],
      [27, "enable PCONFIG"],
      [28, "enable ENCLV exiting"],
      [30, "VMM bus-lock detection"],
      [31, "instruction timeout"],
    ],
  },
  tertiary: {
    field: "TERTIARY_VM_EXEC_CONTROL",
    title: "tertiary processor-based",
    default1: 0n,
    mayClear: 0n,
    bits: [
      [0, "LOADIWKEY exiting"],
      [1, "enable HLAT"],
      [2, "EPT paging-write control"],
      [3, "guest-paging verification"],
      [4, "IPI virtualization"],
      [5, "SEAM guest-physical address width"],
      [6, "enable MSR-list instructions"],
      [7, "virtualize IA32_SPEC_CTRL"],
      [8, "APIC-timer virtualization"],
      [9, "enable PBNDKB"],
      [12, "PEBS uses guest physical addresses"],
    ],
  },
  exit: {
    field: "VM_EXIT_CONTROLS",
    title: "primary VM-exit",
    default1: 0x3_6dfbn,
    mayClear: 0x4n,
    bits: [
      [2, "save debug controls"],
      [9, "host address-space size"],
      [12, "load IA32_PERF_GLOBAL_CTRL"],
      [15, "acknowledge interrupt on exit"],
      [18, "save IA32_PAT"],
      [19, "load IA32_PAT"],
      [20, "save IA32_EFER"],
      [21, "load IA32_EFER"],
      [22, "save VMX-preemption timer value"],
      [23, "clear IA32_BNDCFGS"],
      [24, "conceal VMX from PT"],
      [25, "clear IA32_RTIT_CTL"],
      [26, "clear IA32_LBR_CTL"],
      [27, "clear UINV"],
      [28, "load CET state"],
      [29, "load PKRS"],
      [30, "save IA32_PERF_GLOBAL_CTRL"],
      [31, "activate secondary controls"],
    ],
  },
  secondaryExit: {
    field: "SECONDARY_VM_EXIT_CONTROLS",
    title: "secondary VM-exit",
    default1: 0n,
    mayClear: 0n,
    bits: [
      [0, "save FRED"],
      [1, "load FRED"],
      [2, "load IA32_SPEC_CTRL"],
      [3, "prematurely busy shadow stack"],
    ],
  },
  entry: {
    field: "VM_ENTRY_CONTROLS",
    title: "VM-entry",
    default1: 0x11fbn,
    mayClear: 0x4n,
    bits: [
      [2, "load debug controls"],
      [9, "IA-32e mode guest"],
      [10, "entry to SMM"],
      [11, "deactivate dual-monitor treatment"],
      [13, "load IA32_PERF_GLOBAL_CTRL"],
      [14, "load IA32_PAT"],
      [15, "load IA32_EFER"],
      [16, "load IA32_BNDCFGS"],
      [17, "conceal VMX from PT"],
      [18, "load IA32_RTIT_CTL"],
      [19, "load UINV"],
      [20, "load CET state"],
      [21, "load guest IA32_LBR_CTL"],
      [22, "load PKRS"],
      [23, "load FRED"],
      [24, "load IA32_SPEC_CTRL"],
      [25, "allow SEAM-guest telemetry"],
    ],
  },
  vmFunctions: {
    field: "VM_FUNCTION_CONTROL",
    title: "VM-function",
    default1: 0n,
    mayClear: 0n,
    bits: [[0, "EPTP switching"]],
  },
} as const satisfies Record<string, ControlSetDefinition>;

export type ControlSetName = keyof typeof SETS;
/** `secondary.enable EPT`: the set, and the control as the SDM spells it. */
export type Control = {
  [S in ControlSetName]: `${S}.${(typeof SETS)[S]["bits"][number][1]}`;
}[ControlSetName];

export interface ControlSet {
  readonly name: ControlSetName;
  readonly encoding: number;
  readonly title: string;
  readonly default1: bigint;
  readonly mayClear: bigint;
  readonly bits: readonly (readonly [bit: number, name: string])[];
}

export const CONTROL_SETS: readonly ControlSet[] = Object.entries(SETS).map(([name, { field, ...set }]) => ({
  name: name as ControlSetName,
  encoding: fieldNamed(field)!.encoding,
  ...set,
}));

/** Bits of a set that have a name or are of the default1 class. */
export const knownBits = ({ bits, default1, mayClear }: ControlSet): bigint =>
  bits.reduce((known, [bit]) => known | (1n << BigInt(bit)), default1 | mayClear);

interface Place {
  readonly set: ControlSet;
  readonly bit: bigint;
}

const PLACES: ReadonlyMap<string, Place> = new Map(
  CONTROL_SETS.flatMap((set) =>
    set.bits.map(([bit, name]): [string, Place] => [`${set.name}.${name}`, { set, bit: 1n << BigInt(bit) }]),
  ),
);

/** The control that makes a set count at all; with it clear the processor takes every bit of the set for 0. */
const ACTIVATED_BY: Readonly<Partial<Record<ControlSetName, Control>>> = {
  secondary: "primary.activate secondary controls",
  tertiary: "primary.activate tertiary controls",
  secondaryExit: "exit.activate secondary controls",
  vmFunctions: "secondary.enable VM functions",
};

/**
 * Whether a control is in force.
 * @param read the value of a field; undefined where it is not known
 * @returns undefined when that hangs on a field that is not known
 */
export function inForce(
  read: (encoding: number) => bigint | undefined,
  control: Control,
): boolean | undefined {
  const { set, bit } = PLACES.get(control)!;
  const activator = ACTIVATED_BY[set.name];
  const activated = activator === undefined ? true : inForce(read, activator);
  if (activated !== true) return activated;
  const value = read(set.encoding);
  return value === undefined ? undefined : (value & bit) !== 0n;
}

/** Whether a whole set is in force: secondary and tertiary ones need to be activated. */
export function setInForce(
  read: (encoding: number) => bigint | undefined,
  name: ControlSetName,
): boolean | undefined {
  const activator = ACTIVATED_BY[name];
  return activator === undefined ? true : inForce(read, activator);
}

/** `"enable EPT"`: a control without its set. */
export const controlName = (control: Control): string => control.slice(control.indexOf(".") + 1);
