import type { OpenVmcb } from "./dmesg-vmcb.ts";
import { ALWAYS_PRINTED, type DumpSection } from "./dmesg-vmcs.ts";
import { fieldNamed } from "./fields.ts";

/**
 * What a dump should hold and does not: lines were lost, cut or put on two lines by something that wrapped them, and no
 * line of the log says so.
 */

interface Printed {
  readonly control: string;
  readonly bit: number;
  readonly field: string;
  /** Whether versions of Xen print it never, or always. */
  readonly kvm?: boolean;
}

/** Fields that are printed when the bit of a control is set. */
const PRINTED_WITH: readonly Printed[] = [
  { control: "VM_ENTRY_CONTROLS", bit: 14, field: "GUEST_IA32_PAT" },
  { control: "VM_ENTRY_CONTROLS", bit: 15, field: "GUEST_IA32_EFER", kvm: true },
  { control: "VM_EXIT_CONTROLS", bit: 19, field: "HOST_IA32_PAT" },
  { control: "VM_EXIT_CONTROLS", bit: 21, field: "HOST_IA32_EFER", kvm: true },
  { control: "CPU_BASED_VM_EXEC_CONTROL", bit: 21, field: "TPR_THRESHOLD" },
  { control: "SECONDARY_VM_EXEC_CONTROL", bit: 1, field: "EPT_POINTER" },
  { control: "SECONDARY_VM_EXEC_CONTROL", bit: 5, field: "VIRTUAL_PROCESSOR_ID" },
  { control: "SECONDARY_VM_EXEC_CONTROL", bit: 10, field: "PLE_GAP", kvm: true },
];

/** Fields of the sections that are there whose lines are not. */
export function missingOfVmcs(
  values: ReadonlyMap<number, bigint>,
  sections: ReadonlySet<string>,
  xen: boolean,
): string[] {
  const fieldValue = (name: string) => values.get(fieldNamed(name)!.encoding);
  const expected = (Object.keys(ALWAYS_PRINTED) as DumpSection[])
    .filter((section) => sections.has(section))
    .flatMap((section) => ALWAYS_PRINTED[section]);
  const also = PRINTED_WITH.filter(({ control, bit, field, kvm }) => {
    if ((kvm && xen) || !sections.has(sectionOf(field))) return false;
    return (((fieldValue(control) ?? 0n) >> BigInt(bit)) & 1n) === 1n;
  });
  return [...expected, ...also.map(({ field }) => field)].filter((name) => fieldValue(name) === undefined);
}

const sectionOf = (field: string): DumpSection =>
  field.startsWith("GUEST_") ? "guest" : field.startsWith("HOST_") ? "host" : "control";

const list = (names: string): readonly string[] => names.split(" ");

const KVM_VMCB = {
  control: list(
    "cr_read cr_write dr_read dr_write exceptions intercepts iopm_base_pa msrpm_base_pa tsc_offset asid tlb_ctl int_ctl " +
      "int_vector int_state exit_code exit_info1 exit_info2 exit_int_info exit_int_info_err nested_cr3 event_inj " +
      "event_inj_err next_rip",
  ),
  save: list(
    "cpl efer cr0 cr2 cr3 cr4 dr6 dr7 rip rflags rsp rax star lstar cstar sfmask kernel_gs_base sysenter_cs " +
      "sysenter_esp sysenter_eip gpat dbgctl br_from br_to excp_from excp_to",
  ),
};
const XEN_VMCB = {
  control: list(
    "cr_read cr_write dr_read dr_write exceptions intercepts iopm_base_pa msrpm_base_pa tsc_offset tlb_ctl int_ctl " +
      "exit_code exit_info1 exit_info2 asid nested_cr3",
  ),
  save: list(
    "cpl efer star lstar cr0 cr2 cr3 cr4 rsp rip rax rflags dr6 dr7 cstar sfmask kernel_gs_base gpat",
  ),
};
const SEGMENTS = list("es cs ss ds fs gs gdtr ldtr idtr tr");

/** The same of a VMCB. */
export function missingOfVmcb(
  { control, save, segments }: OpenVmcb,
  sections: ReadonlySet<string>,
  xen: boolean,
): string[] {
  const expected = xen ? XEN_VMCB : KVM_VMCB;
  return [
    ...(sections.has("control") ? expected.control.filter((name) => !control.has(name)) : []),
    ...(sections.has("save") ? expected.save.filter((name) => !save.has(name)) : []),
    // Xen before 4.7 has another form of them, which is not read.
    ...(sections.has("save") && (!xen || segments.size > 0)
      ? SEGMENTS.filter((name) => !segments.has(name))
      : []),
  ];
}
