import type { LinuxKernel } from "../kernel/open-kernel.ts";
import { offsetOf } from "../kernel/types.ts";
import type { Expected } from "../vmx/infer/claims.ts";
import { expect, type Known, type VmxView } from "./vmx-view.ts";

/** enum kvm_reg (Linux asm/kvm_host.h); those of vmx.c behind RIP are named by the kernel's types. */
const REG_RSP = 4;
const REG_RIP = 16;

const CR0_PE = 1n;
const CR0_WP = 1n << 16n;
const CR0_NE = 1n << 5n;
const CR0_NW_CD = 3n << 29n;
const CR0_PG = 1n << 31n;
const CR4_MCE = 1n << 6n;
const CR4_VMXE = 1n << 13n;
/** PSE, PAE, VME, SMEP, SMAP, PKE: what `vmx_set_cr4` changes without "unrestricted guest". */
const CR4_BY_MODE = 0x70_0031n;
const EFER_LMA = 1n << 10n;
const EFER_LME = 1n << 8n;
const UNRESTRICTED = 7n;
const ENABLE_EPT = 1n;
const LOAD_PAT = 14n;
const LOAD_EFER = 15n;
const ALL = (1n << 64n) - 1n;

/**
 * Guest state that KVM keeps as it is in the VMCS. What the guest may have changed since is `stale`: of registers the
 * cache's own marks tell (`regs_avail`, which every VM exit clears).
 */
export function knownGuestState(view: VmxView): Known[] {
  if (!view.isLoaded) return [];
  const entry = view.value("loaded_vmcs.controls_shadow.vm_entry") ?? 0n;
  return [
    ...instruction(view),
    ...controlRegisters(view),
    ...segments(view),
    ...exitInformation(view),
    ["GUEST_IA32_PAT", isSet(entry, LOAD_PAT) ? member(view, "kvm_vcpu.arch.pat") : undefined],
    ["GUEST_IA32_EFER", isSet(entry, LOAD_EFER) ? efer(view) : undefined],
    ["GUEST_DR7", dr7(view)],
  ];
}

const isSet = (value: bigint, bit: bigint): boolean => ((value >> bit) & 1n) === 1n;

const member = (view: VmxView, path: string) => expect(view.value(path), path);

const cacheBit = ({ types }: LinuxKernel, name: string): bigint | undefined =>
  types.constant(`VCPU_EXREG_${name}`);

/** Whether the cache has a register that is not among the general ones. */
const isCached = (view: VmxView, name: string): boolean => view.isCached(cacheBit(view.kernel, name));

/** RIP, RSP and RFLAGS. */
function instruction(view: VmxView): Known[] {
  const isReal = view.value("vcpu_vmx.rmode.vm86_active") !== 0n;
  const trust = isCached(view, "RFLAGS") ? "written" : "stale";
  const rflags = expect(view.value("vcpu_vmx.rflags"), "vcpu_vmx.rflags", trust);
  return [
    ["GUEST_RSP", general(view, REG_RSP)],
    ["GUEST_RIP", skipped(view) ?? general(view, REG_RIP)],
    ["GUEST_RFLAGS", isReal ? undefined : rflags],
  ];
}

/** Nothing of a vCPU that was never entered: the VMCS does not have its registers yet. */
function general(view: VmxView, index: number): Expected | undefined {
  const at = view.place("kvm_vcpu.arch.regs");
  const entered = view.value("loaded_vmcs.host_state.rsp") !== 0n;
  if (at === undefined || !entered) return undefined;
  const value = view.kernel.reader.u64(at + BigInt(8 * index));
  return expect(value, "kvm_vcpu.arch.regs", view.isCached(index) ? "written" : "stale");
}

/** KVM_MP_STATE_HALTED, and the basic exit reason HLT (Intel SDM Vol. 3D Appendix C). */
const HALTED = 3n;
const EXIT_HLT = 12n;
/** The longest instruction of x86. */
const LONGEST_INSTRUCTION = 15n;

/** RIP of a vCPU that waits in HLT is behind it in KVM's cache, and at it in the VMCS until the next entry. */
function skipped(view: VmxView): Expected | undefined {
  const reason = view.value(...EXIT_REASON);
  const halted = view.value("kvm_vcpu.arch.mp_state") === HALTED || reason === EXIT_HLT;
  const rip = general(view, REG_RIP);
  if (rip === undefined || !view.isDirty(REG_RIP)) return undefined;
  return { ...rip, below: LONGEST_INSTRUCTION, trust: halted && reason === EXIT_HLT ? "derived" : "stale" };
}

const EXIT_REASON = ["vcpu_vmx.exit_reason", "vcpu_vmx.vt.exit_reason"];

/** Control registers, their masks and read shadows (`vmx_set_cr0`, `vmx_set_cr4`). */
function controlRegisters(view: VmxView): Known[] {
  const of = (name: string) => view.value(`kvm_vcpu.arch.${name}`);
  const [cr0, cr4] = [of("cr0"), of("cr4")];
  const [owned0, owned4] = [of("cr0_guest_owned_bits"), of("cr4_guest_owned_bits")];
  const controls = view.value("loaded_vmcs.controls_shadow.secondary_exec") ?? 0n;
  const unrestricted = isSet(controls, UNRESTRICTED);
  const paging = isSet(controls, ENABLE_EPT) && (unrestricted || ((cr0 ?? 0n) & CR0_PG) !== 0n);
  const known: Known[] = [
    ["GUEST_CR3", paging ? cr3(view) : undefined],
    ["CR0_GUEST_HOST_MASK", mask(owned0, "cr0_guest_owned_bits")],
    ["CR4_GUEST_HOST_MASK", mask(owned4, "cr4_guest_owned_bits")],
  ];
  if (cr0 !== undefined && owned0 !== undefined) {
    const free = isCached(view, "CR0") ? 0n : owned0;
    const forced = unrestricted ? 0n : CR0_PE | CR0_PG | CR0_WP;
    const held = (cr0 & ~CR0_NW_CD) | CR0_NE;
    known.push(["GUEST_CR0", expect(held, "kvm_vcpu.arch.cr0", "derived", ALL & ~free & ~forced)]);
    known.push(["CR0_READ_SHADOW", expect(cr0, "kvm_vcpu.arch.cr0", "derived", ALL & ~owned0)]);
  }
  if (cr4 !== undefined && owned4 !== undefined) {
    const free = isCached(view, "CR4") ? 0n : owned4;
    const forced = unrestricted ? CR4_MCE : CR4_MCE | CR4_BY_MODE;
    const held = cr4 | CR4_VMXE;
    known.push(["GUEST_CR4", expect(held, "kvm_vcpu.arch.cr4", "derived", ALL & ~free & ~forced)]);
    known.push(["CR4_READ_SHADOW", expect(cr4, "kvm_vcpu.arch.cr4", "derived", ALL & ~owned4)]);
  }
  return known;
}

/** With EPT; a cached CR3 that is not dirty was read since the last exit, or written. */
const cr3 = (view: VmxView) =>
  expect(view.value("kvm_vcpu.arch.cr3"), "kvm_vcpu.arch.cr3", isCached(view, "CR3") ? "written" : "stale");

const mask = (owned: bigint | undefined, name: string) =>
  owned === undefined ? undefined : expect(ALL & ~owned, `kvm_vcpu.arch.${name}`);

/** Without LMA LME is taken away, too (`update_transition_efer`). */
function efer(view: VmxView) {
  const path = "kvm_vcpu.arch.efer";
  const value = view.value(path);
  if (value === undefined) return undefined;
  return expect((value & EFER_LMA) === 0n ? value & ~EFER_LME : value, path, "derived");
}

/** What the guest was given, as long as it may not write DR7 without an exit. */
function dr7(view: VmxView) {
  const debugged =
    view.value("kvm_vcpu.guest_debug") !== 0n || view.value("kvm_vcpu.arch.switch_db_regs") !== 0n;
  return debugged ? undefined : expect(view.value("kvm_vcpu.arch.dr7"), "kvm_vcpu.arch.dr7", "derived");
}

/** Numbers of segments in `segment_cache`: VCPU_SREG_ES … VCPU_SREG_LDTR (Linux asm/kvm_host.h). */
const SEGMENTS = ["ES", "CS", "SS", "DS", "FS", "GS", "TR", "LDTR"] as const;
/** SEG_FIELD_SEL … SEG_FIELD_AR (arch/x86/kvm/vmx/vmx.c), and members of struct kvm_save_segment. */
const PARTS = [
  ["SELECTOR", "selector", 2],
  ["BASE", "base", 8],
  ["LIMIT", "limit", 4],
  ["AR_BYTES", "ar", 4],
] as const;

/** Parts of segments that KVM read since the last exit. */
function segments(view: VmxView): Known[] {
  const cache = view.place("vcpu_vmx.segment_cache.seg");
  const size = view.kernel.types.member("vcpu_vmx.segment_cache.seg")?.stride;
  const valid = view.value("vcpu_vmx.segment_cache.bitmask");
  if (cache === undefined || size === undefined || valid === undefined) return [];
  const isFresh = isCached(view, "SEGMENTS");
  return SEGMENTS.flatMap((segment, i) =>
    PARTS.map(([part, name, bytes], j): Known => {
      const at = partOffset(view, name);
      const source = `vcpu_vmx.segment_cache.seg[${segment}].${name}`;
      if (at === undefined || !isSet(valid, BigInt(4 * i + j))) return [source, undefined];
      const place = cache + BigInt(i * size + at);
      return [
        `GUEST_${segment}_${part}`,
        expect(read(view, place, bytes), source, isFresh ? "written" : "stale"),
      ];
    }),
  );
}

/** struct kvm_save_segment is declared within struct vcpu_vmx. */
function partOffset({ kernel: { types } }: VmxView, name: string): number | undefined {
  const whole = offsetOf(types, "vcpu_vmx.segment_cache.seg");
  const part = offsetOf(types, `vcpu_vmx.segment_cache.seg.${name}`);
  return whole === undefined || part === undefined ? undefined : part - whole;
}

function read({ kernel: { reader } }: VmxView, at: bigint, bytes: 2 | 4 | 8): bigint | undefined {
  if (bytes === 8) return reader.u64(at);
  const value = bytes === 4 ? reader.u32(at) : reader.u16(at);
  return value === undefined ? undefined : BigInt(value);
}

/** What KVM read of the last exit: the reason always, others when they were needed. */
function exitInformation(view: VmxView): Known[] {
  const cached = (field: string, bit: string): Expected | undefined =>
    isCached(view, bit)
      ? expect(view.value(`vcpu_vmx.${field}`, `vcpu_vmx.vt.${field}`), `vcpu_vmx.${field}`)
      : undefined;
  return [
    ["VM_EXIT_REASON", expect(view.value(...EXIT_REASON), "vcpu_vmx.exit_reason")],
    ["EXIT_QUALIFICATION", cached("exit_qualification", "EXIT_INFO_1")],
    ["VM_EXIT_INTR_INFO", cached("exit_intr_info", "EXIT_INFO_2")],
    ["IDT_VECTORING_INFO_FIELD", member(view, "vcpu_vmx.idt_vectoring_info")],
  ];
}
