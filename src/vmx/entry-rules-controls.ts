import { CONTROL_SETS, type Control, type ControlSetName, controlName, knownBits } from "./controls.ts";
import { bytesOf } from "./encoding.ts";
import { type EntryRule, hex, PHYSICAL_END, quoted } from "./entry-rules.ts";
import { decodeEptPointer } from "./eptp.ts";
import { fieldOf } from "./fields.ts";

const EXECUTION = "27.2.1.1";
const EXIT = "27.2.1.2";
const ENTRY = "27.2.1.3";

const SECTION_OF: Readonly<Record<ControlSetName, string>> = {
  pin: EXECUTION,
  primary: EXECUTION,
  secondary: EXECUTION,
  tertiary: EXECUTION,
  vmFunctions: EXECUTION,
  exit: EXIT,
  secondaryExit: EXIT,
  entry: ENTRY,
};

const rule = (
  id: string,
  section: string,
  check: EntryRule["check"],
  severity: EntryRule["severity"] = "error",
): EntryRule => ({ id: `controls.${id}`, section, area: "controls", severity, check });

/** Bits that must be 1, and bits that have no meaning so far, of each set. */
const RESERVED_RULES: readonly EntryRule[] = CONTROL_SETS.flatMap((set) => {
  const name = fieldOf(set.encoding)!.name;
  const rules: EntryRule[] = [];
  if (set.default1 !== 0n) {
    rules.push(
      rule(`${set.name}.default1`, SECTION_OF[set.name], ({ field }) => {
        const clear = set.default1 & ~field(name);
        return clear === 0n ? undefined : `${name} has reserved bits clear that must be 1: ${hex(clear)}`;
      }),
    );
  }
  const all = (1n << BigInt(8 * bytesOf(set.encoding))) - 1n;
  if ((all & ~knownBits(set)) === 0n) return rules;
  rules.push(
    rule(
      `${set.name}.unknown`,
      SECTION_OF[set.name],
      ({ field, isActivated }) => {
        if (!isActivated(set.name)) return undefined;
        const unknown = field(name) & ~knownBits(set);
        return unknown === 0n
          ? undefined
          : `${name} has bits set that no control is known for: ${hex(unknown)}`;
      },
      "warning",
    ),
  );
  return rules;
});

/** `control` at `value` needs `other` at `needed`. */
const needs = (control: Control, value: boolean, other: Control, needed: boolean): EntryRule =>
  rule(`${controlName(control)}.${value ? 1 : 0}.${controlName(other)}`, sectionOf(control), ({ is }) =>
    is(control) === value && is(other) !== needed
      ? `${quoted(other)} is ${needed ? 0 : 1} although ${quoted(control)} is ${value ? 1 : 0}`
      : undefined,
  );
const sectionOf = (control: Control): string =>
  SECTION_OF[control.slice(0, control.indexOf(".")) as ControlSetName];

/** With `control` 1, an address has its low bits clear and fits the widest physical address. */
const address = (name: string, lowBits: bigint, control: Control): EntryRule =>
  rule(name, EXECUTION, ({ field, is }) => (is(control) ? misplaced(name, field(name), lowBits) : undefined));

function misplaced(name: string, value: bigint, lowBits: bigint): string | undefined {
  if ((value & lowBits) !== 0n) return `${name} ${hex(value)} is not aligned to ${lowBits + 1n} bytes`;
  return value < PHYSICAL_END ? undefined : `${name} ${hex(value)} is beyond every physical address`;
}

const PAGE = 0xfffn;
const area = (id: string, section: string, count: string, name: string): EntryRule =>
  rule(id, section, ({ field }) => {
    const entries = field(count);
    if (entries === 0n) return undefined;
    const start = field(name);
    const problem = misplaced(name, start, 0xfn);
    if (problem !== undefined) return problem;
    return start + entries * 16n <= PHYSICAL_END
      ? undefined
      : `${entries} entries from ${name} ${hex(start)} end beyond every physical address`;
  });

const EXECUTION_RULES: readonly EntryRule[] = [
  rule("CR3_TARGET_COUNT", EXECUTION, ({ field }) => {
    const count = field("CR3_TARGET_COUNT");
    return count > 4n ? `CR3_TARGET_COUNT is ${count}, more than 4` : undefined;
  }),
  address("IO_BITMAP_A", PAGE, "primary.use I/O bitmaps"),
  address("IO_BITMAP_B", PAGE, "primary.use I/O bitmaps"),
  address("MSR_BITMAP", PAGE, "primary.use MSR bitmaps"),
  address("VIRTUAL_APIC_PAGE_ADDR", PAGE, "primary.use TPR shadow"),
  address("APIC_ACCESS_ADDR", PAGE, "secondary.virtualize APIC accesses"),
  address("PML_ADDRESS", PAGE, "secondary.enable PML"),
  address("SPPT_POINTER", PAGE, "secondary.sub-page write permissions for EPT"),
  address("EPTP_LIST_ADDRESS", PAGE, "vmFunctions.EPTP switching"),
  address("VMREAD_BITMAP", PAGE, "secondary.VMCS shadowing"),
  address("VMWRITE_BITMAP", PAGE, "secondary.VMCS shadowing"),
  address("VE_INFORMATION_ADDRESS", PAGE, "secondary.EPT-violation #VE"),
  address("LOW_PASID_DIRECTORY", PAGE, "secondary.PASID translation"),
  address("HIGH_PASID_DIRECTORY", PAGE, "secondary.PASID translation"),
  address("POSTED_INTR_DESC_ADDR", 0x3fn, "pin.process posted interrupts"),
  address("PID_POINTER_TABLE", 7n, "tertiary.IPI virtualization"),
  rule("HLAT_POINTER", EXECUTION, ({ field, is }) => {
    if (!is("tertiary.enable HLAT")) return undefined;
    const pointer = field("HLAT_POINTER");
    if ((pointer & 0xfe7n) !== 0n) return `HLAT_POINTER ${hex(pointer)} has reserved bits set`;
    return misplaced("HLAT_POINTER", pointer, 0n);
  }),
  rule("TPR_THRESHOLD", EXECUTION, ({ field, is }) => {
    if (!is("primary.use TPR shadow") || is("secondary.virtual-interrupt delivery")) return undefined;
    const threshold = field("TPR_THRESHOLD");
    return threshold > 0xfn ? `TPR_THRESHOLD ${hex(threshold)} has bits above 3 set` : undefined;
  }),
  needs("pin.NMI exiting", false, "pin.virtual NMIs", false),
  needs("pin.virtual NMIs", false, "primary.NMI-window exiting", false),
  needs("primary.use TPR shadow", false, "secondary.virtualize x2APIC mode", false),
  needs("primary.use TPR shadow", false, "secondary.APIC-register virtualization", false),
  needs("primary.use TPR shadow", false, "secondary.virtual-interrupt delivery", false),
  needs("primary.use TPR shadow", false, "tertiary.IPI virtualization", false),
  needs("secondary.virtualize x2APIC mode", true, "secondary.virtualize APIC accesses", false),
  needs("secondary.virtual-interrupt delivery", true, "pin.external-interrupt exiting", true),
  needs("pin.process posted interrupts", true, "secondary.virtual-interrupt delivery", true),
  needs("pin.process posted interrupts", true, "exit.acknowledge interrupt on exit", true),
  rule("POSTED_INTR_NV", EXECUTION, ({ field, is }) => {
    if (!is("pin.process posted interrupts")) return undefined;
    const vector = field("POSTED_INTR_NV");
    return vector > 0xffn ? `POSTED_INTR_NV ${hex(vector)} is no vector` : undefined;
  }),
  rule("VIRTUAL_PROCESSOR_ID", EXECUTION, ({ field, is }) =>
    is("secondary.enable VPID") && field("VIRTUAL_PROCESSOR_ID") === 0n
      ? 'VIRTUAL_PROCESSOR_ID is 0 although "enable VPID" is 1'
      : undefined,
  ),
  rule("EPT_POINTER", EXECUTION, ({ field, is }) => {
    if (!is("secondary.enable EPT")) return undefined;
    const eptp = field("EPT_POINTER");
    return decodeEptPointer(eptp) === undefined ? `EPT_POINTER ${hex(eptp)} ${eptpProblem(eptp)}` : undefined;
  }),
  ...(
    [
      "secondary.enable PML",
      "secondary.unrestricted guest",
      "secondary.mode-based execute control for EPT",
      "secondary.sub-page write permissions for EPT",
      "secondary.Intel PT uses guest physical addresses",
      "tertiary.PEBS uses guest physical addresses",
      "tertiary.enable HLAT",
      "tertiary.EPT paging-write control",
      "tertiary.guest-paging verification",
      "vmFunctions.EPTP switching",
    ] as const
  ).map((control) => needs(control, true, "secondary.enable EPT", true)),
  needs("secondary.Intel PT uses guest physical addresses", true, "entry.load IA32_RTIT_CTL", true),
  needs("secondary.Intel PT uses guest physical addresses", true, "exit.clear IA32_RTIT_CTL", true),
  rule("TSC_MULTIPLIER", EXECUTION, ({ field, is }) =>
    is("secondary.use TSC scaling") && field("TSC_MULTIPLIER") === 0n
      ? 'TSC_MULTIPLIER is 0 although "use TSC scaling" is 1'
      : undefined,
  ),
  needs("tertiary.APIC-timer virtualization", true, "secondary.virtual-interrupt delivery", true),
  needs("tertiary.APIC-timer virtualization", true, "primary.RDTSC exiting", false),
  rule("VIRTUAL_TIMER_VECTOR", EXECUTION, ({ field, is }) => {
    if (!is("tertiary.APIC-timer virtualization")) return undefined;
    const vector = field("VIRTUAL_TIMER_VECTOR");
    return vector > 0xffn ? `VIRTUAL_TIMER_VECTOR ${hex(vector)} is no vector` : undefined;
  }),
];

function eptpProblem(eptp: bigint): string {
  const type = eptp & 7n;
  if (type !== 0n && type !== 6n) return `has memory type ${type}, neither UC nor WB`;
  const levels = ((eptp >> 3n) & 7n) + 1n;
  if (levels !== 4n && levels !== 5n) return `asks for a page walk of ${levels} levels`;
  if ((eptp & 0xf00n) !== 0n) return "has reserved bits set";
  return eptp < PHYSICAL_END ? "has no root table" : "is beyond every physical address";
}

const EXIT_RULES: readonly EntryRule[] = [
  rule("preemption timer", EXIT, ({ is }) =>
    !is("pin.activate VMX-preemption timer") && is("exit.save VMX-preemption timer value")
      ? '"save VMX-preemption timer value" is 1 although "activate VMX-preemption timer" is 0'
      : undefined,
  ),
  area("VM_EXIT_MSR_STORE_ADDR", EXIT, "VM_EXIT_MSR_STORE_COUNT", "VM_EXIT_MSR_STORE_ADDR"),
  area("VM_EXIT_MSR_LOAD_ADDR", EXIT, "VM_EXIT_MSR_LOAD_COUNT", "VM_EXIT_MSR_LOAD_ADDR"),
];

const ENTRY_CONTROL_RULES: readonly EntryRule[] = [
  area("VM_ENTRY_MSR_LOAD_ADDR", ENTRY, "VM_ENTRY_MSR_LOAD_COUNT", "VM_ENTRY_MSR_LOAD_ADDR"),
  rule(
    "SMM",
    ENTRY,
    ({ is }) => {
      const asked = (["entry.entry to SMM", "entry.deactivate dual-monitor treatment"] as const).find(is);
      return asked === undefined ? undefined : `${quoted(asked)} is 1, which only SMM may ask for`;
    },
    "warning",
  ),
];

/** SDM Vol. 3C §27.2.1 but for the event to inject. */
export const CONTROL_RULES: readonly EntryRule[] = [
  ...RESERVED_RULES,
  ...EXECUTION_RULES,
  ...EXIT_RULES,
  ...ENTRY_CONTROL_RULES,
];
