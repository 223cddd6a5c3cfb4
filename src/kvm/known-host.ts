import { offsetOf } from "../kernel/types.ts";
import { expect, type Known, type VmxView } from "./vmx-view.ts";

/** CR0_STATE (Linux asm/processor-flags.h): PE, MP, ET, NE, WP, AM, PG; a kernel runs with no other since 4.14. */
const LINUX_CR0 = 0x8005_0033n;
/** What `pat_init` sets (arch/x86/mm/pat/memtype.c, 4.2+). */
const LINUX_PAT = 0x0407_0506_0007_0106n;
const KERNEL_CS = 0x10n;
const KERNEL_DS = 0x18n;
/** GDT_ENTRY_TSS × 8. */
const KERNEL_TR = 0x40n;
/** CPU_ENTRY_AREA_BASE of x86-64 (asm/pgtable_64_types.h); a page with the IDT comes first (4.15+). */
const CPU_ENTRY_AREA_PER_CPU = 0xffff_fe00_0000_1000n;

/** Host state: constants of the kernel, and what `struct vmcs_host_state` keeps (arch/x86/kvm/vmx/vmcs.h). */
export function knownHostState(view: VmxView): Known[] {
  const kept = (member: string) => {
    const path = `loaded_vmcs.host_state.${member}`;
    return expect(view.value(path), path);
  };
  const exit = ["vmx_vmexit", "vmx_return"].find((name) => view.kernel.symbols.addressOf(name) !== undefined);
  const compat = view.kernel.symbols.addressOf("entry_SYSENTER_compat");
  return [
    ["HOST_CR0", expect(LINUX_CR0, "CR0_STATE", "derived")],
    ["HOST_CR3", kept("cr3")],
    ["HOST_CR4", kept("cr4")],
    ["HOST_FS_BASE", kept("fs_base")],
    ["HOST_GS_BASE", kept("gs_base")],
    ["HOST_RSP", kept("rsp")],
    ["HOST_RIP", exit === undefined ? undefined : expect(view.kernel.symbols.addressOf(exit), exit)],
    ["HOST_IDTR_BASE", expect(view.variable("host_idt_base", 8), "host_idt_base")],
    ["HOST_IA32_EFER", expect(view.variable("host_efer", 8), "host_efer")],
    ["HOST_IA32_PAT", expect(LINUX_PAT, "pat_init", "derived")],
    ["HOST_IA32_SYSENTER_EIP", expect(compat, "entry_SYSENTER_compat", "derived")],
    ["HOST_ES_SELECTOR", expect(0n, "vmx_set_constant_host_state")],
    ["HOST_CS_SELECTOR", expect(KERNEL_CS, "__KERNEL_CS")],
    ["HOST_SS_SELECTOR", expect(KERNEL_DS, "__KERNEL_DS")],
    ["HOST_DS_SELECTOR", expect(0n, "vmx_set_constant_host_state")],
    ["HOST_FS_SELECTOR", selector(view, "fs_sel")],
    ["HOST_GS_SELECTOR", selector(view, "gs_sel")],
    ["HOST_TR_SELECTOR", expect(KERNEL_TR, "GDT_ENTRY_TSS")],
    ...entryArea(view),
  ];
}

/** One that VM entry does not allow is kept, and 0 written (`vmx_set_host_fs_gs`). */
function selector(view: VmxView, member: string) {
  const path = `loaded_vmcs.host_state.${member}`;
  const value = view.value(path);
  return value === undefined ? undefined : expect((value & 7n) === 0n ? value : 0n, path);
}

/** What lies in the cpu_entry_area of the processor on which the VMCS was loaded last (`vmx_vcpu_load_vmcs`, 4.15+). */
function entryArea(view: VmxView): Known[] {
  const cpu = Number(BigInt.asIntN(32, view.value("loaded_vmcs.cpu") ?? -1n));
  const { types, symbols } = view.kernel;
  const size = types.sizeOf("cpu_entry_area");
  if (cpu < 0 || cpu >= MAX_CPUS || size === undefined) return [];
  // Places are drawn by lot since 6.2.
  const drawn = symbols.addressOf("_cea_offset") !== undefined;
  const index = drawn ? view.perCpu("_cea_offset", cpu, 4) : BigInt(cpu);
  if (index === undefined) return [];
  const area = CPU_ENTRY_AREA_PER_CPU + index * BigInt(size);
  const at = (path: string): bigint | undefined => {
    const offset = offsetOf(types, `cpu_entry_area.${path}`);
    return offset === undefined ? undefined : area + BigInt(offset);
  };
  const stack = at("entry_stack_page.stack") ?? at("entry_stack_page");
  const stackSize = types.sizeOf("entry_stack");
  const top = stack === undefined || stackSize === undefined ? undefined : stack + BigInt(stackSize);
  return [
    ["HOST_GDTR_BASE", expect(at("gdt"), "cpu_entry_area.gdt")],
    ["HOST_TR_BASE", expect(at("tss.x86_tss") ?? at("tss"), "cpu_entry_area.tss")],
    ["HOST_IA32_SYSENTER_ESP", expect(top, "cpu_entry_area.entry_stack_page", "derived")],
  ];
}

/** NR_CPUS of x86-64 is at most 8192. */
const MAX_CPUS = 8192;
