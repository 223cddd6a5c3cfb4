import { offsetOf } from "../kernel/types.ts";
import { expect, type Known, type VmxView } from "./vmx-view.ts";

/** Bits of VM-execution controls (Intel SDM Vol. 3C §25.6). */
const TPR_SHADOW = 21n;
const POSTED_INTERRUPTS = 7n;
const ENABLE_EPT = 1n;
const PAUSE_LOOP_EXITING = 10n;
const VMCS_SHADOWING = 14n;
const TSC_SCALING = 25n;
const TERTIARY = 17n;
const SECONDARY = 31n;

const has = (controls: bigint | undefined, bit: bigint): boolean =>
  controls !== undefined && ((controls >> bit) & 1n) === 1n;

const CONTROLS = [
  ["PIN_BASED_VM_EXEC_CONTROL", "pin"],
  ["CPU_BASED_VM_EXEC_CONTROL", "exec"],
  ["VM_EXIT_CONTROLS", "vm_exit"],
  ["VM_ENTRY_CONTROLS", "vm_entry"],
  ["SECONDARY_VM_EXEC_CONTROL", "secondary_exec"],
  ["TERTIARY_VM_EXEC_CONTROL", "tertiary_exec"],
] as const;

/** Controls and the addresses of structures that KVM makes for a vCPU (`init_vmcs` in arch/x86/kvm/vmx/vmx.c). */
export function knownControls(view: VmxView): Known[] {
  const shadow = (member: string) => view.value(`loaded_vmcs.controls_shadow.${member}`);
  const primary = shadow("exec");
  const exists = (member: string): boolean =>
    member === "secondary_exec"
      ? has(primary, SECONDARY)
      : member !== "tertiary_exec" || has(primary, TERTIARY);
  return [
    ...CONTROLS.filter(([, member]) => exists(member)).map(
      ([name, member]): Known => [name, expect(shadow(member), `loaded_vmcs.controls_shadow.${member}`)],
    ),
    ...addresses(view, primary, shadow("pin")),
    ...(has(primary, SECONDARY) ? secondary(view, shadow("secondary_exec")) : []),
    ...counts(view),
    ...(view.isLoaded ? clock(view, shadow("secondary_exec")) : []),
  ];
}

function addresses(view: VmxView, primary: bigint | undefined, pin: bigint | undefined): Known[] {
  const of = (...paths: string[]) => expect(view.physical(view.place(...paths)), paths[0]!);
  const to = (path: string) => expect(view.physical(view.u64(path)), path);
  return [
    ["MSR_BITMAP", to("loaded_vmcs.msr_bitmap")],
    ["VM_EXIT_MSR_LOAD_ADDR", of("vcpu_vmx.msr_autoload.host.val", "vcpu_vmx.msr_autoload.host")],
    ["VM_ENTRY_MSR_LOAD_ADDR", of("vcpu_vmx.msr_autoload.guest.val", "vcpu_vmx.msr_autoload.guest")],
    ["VIRTUAL_APIC_PAGE_ADDR", has(primary, TPR_SHADOW) ? apicPage(view) : undefined],
    [
      "POSTED_INTR_DESC_ADDR",
      has(pin, POSTED_INTERRUPTS) ? of("vcpu_vmx.pi_desc", "vcpu_vmx.vt.pi_desc") : undefined,
    ],
    ["PML_ADDRESS", expect(pageAddress(view, view.u64("vcpu_vmx.pml_pg")), "vcpu_vmx.pml_pg")],
  ];
}

/** `vcpu.arch.apic->regs`, where KVM has the local APIC. */
function apicPage(view: VmxView) {
  const apic = view.u64("kvm_vcpu.arch.apic");
  const offset = offsetOf(view.kernel.types, "kvm_lapic.regs");
  if (apic === undefined || apic === 0n || offset === undefined) return undefined;
  return expect(view.physical(view.kernel.reader.u64(apic + BigInt(offset))), "kvm_lapic.regs");
}

/** Of a struct page: they are an array by page number at vmemmap_base (4.9+, CONFIG_SPARSEMEM_VMEMMAP). */
function pageAddress(view: VmxView, page: bigint | undefined): bigint | undefined {
  const base = view.variable("vmemmap_base", 8);
  const size = view.kernel.types.sizeOf("page");
  if (page === undefined || base === undefined || size === undefined || page < base) return undefined;
  const offset = page - base;
  return offset % BigInt(size) === 0n ? (offset / BigInt(size)) << 12n : undefined;
}

function secondary(view: VmxView, controls: bigint | undefined): Known[] {
  const loop = has(controls, PAUSE_LOOP_EXITING);
  const vpid = view.value("vcpu_vmx.vpid");
  return [
    ["VIRTUAL_PROCESSOR_ID", vpid === 0n ? undefined : expect(vpid, "vcpu_vmx.vpid")],
    ["EPT_POINTER", has(controls, ENABLE_EPT) && view.isLoaded ? eptPointer(view) : undefined],
    ["PLE_GAP", loop ? expect(view.variable("ple_gap", 4), "ple_gap") : undefined],
    [
      "PLE_WINDOW",
      loop && view.value("vcpu_vmx.ple_window_dirty") === 0n
        ? expect(view.value("vcpu_vmx.ple_window"), "vcpu_vmx.ple_window")
        : undefined,
    ],
    [
      "VMCS_LINK_POINTER",
      has(controls, VMCS_SHADOWING) ? undefined : expect((1n << 64n) - 1n, "INVALID_GPA"),
    ],
  ];
}

/** Write-back memory and the length of the walk; whether accessed and dirty bits are on is left open. */
const WRITE_BACK = 6n;
const ACCESSED_DIRTY = 1n << 6n;
const INVALID = 0xffff_ffff_ffff_ffffn;

/** `construct_eptp` of `vcpu.arch.mmu->root` (embedded in kvm_vcpu_arch before 5.0). */
function eptPointer(view: VmxView) {
  const { reader, types } = view.kernel;
  const mmu =
    types.member("kvm_vcpu.arch.root_mmu") === undefined
      ? view.place("kvm_vcpu.arch.mmu")
      : view.u64("kvm_vcpu.arch.mmu");
  const at = offsetOf(types, "kvm_mmu.root.hpa", "kvm_mmu.root_hpa");
  const level = offsetOf(types, "kvm_mmu.root_role", "kvm_mmu.shadow_root_level");
  if (mmu === undefined || at === undefined || level === undefined) return undefined;
  const root = reader.u64(mmu + BigInt(at));
  // `level` is the lowest four bits of the role.
  const levels = (reader.u32(mmu + BigInt(level)) ?? 0) & 15;
  if (root === undefined || root === INVALID || root === 0n || levels < 4 || levels > 5) return undefined;
  const value = root | (BigInt(levels - 1) << 3n) | WRITE_BACK;
  return expect(value, "kvm_mmu.root.hpa", "written", INVALID ^ ACCESSED_DIRTY);
}

function counts(view: VmxView): Known[] {
  const nr = (side: string) => {
    const path = `vcpu_vmx.msr_autoload.${side}.nr`;
    return view.isLoaded ? expect(view.value(path), path) : undefined;
  };
  return [
    ["VM_EXIT_MSR_LOAD_COUNT", nr("host")],
    ["VM_ENTRY_MSR_LOAD_COUNT", nr("guest")],
    ["VM_EXIT_MSR_STORE_COUNT", expect(0n, "init_vmcs")],
    ["CR3_TARGET_COUNT", expect(0n, "init_vmcs")],
    ["PAGE_FAULT_ERROR_CODE_MASK", expect(0n, "init_vmcs", "derived")],
    ["PAGE_FAULT_ERROR_CODE_MATCH", expect(0n, "init_vmcs", "derived")],
  ];
}

function clock(view: VmxView, controls: bigint | undefined): Known[] {
  const offset = "kvm_vcpu.arch.tsc_offset";
  const ratio = "kvm_vcpu.arch.tsc_scaling_ratio";
  return [
    ["TSC_OFFSET", expect(view.value(offset), offset)],
    ["TSC_MULTIPLIER", has(controls, TSC_SCALING) ? expect(view.value(ratio), ratio) : undefined],
  ];
}
