import type { PhysicalMemory } from "../core/memory.ts";
import { hex } from "../core/text.ts";
import type { KvmVcpu } from "../kvm/vcpus.ts";
import { stateOf as vmcbStateOf } from "../svm/state.ts";
import { type Vmcb, fieldValue as vmcbValue } from "../svm/vmcb.ts";
import { basicReason } from "../vmx/exit-reasons.ts";
import { eferOfAreas, msrAreasOf } from "../vmx/msr-area.ts";
import type { VmcsRegion } from "../vmx/region.ts";
import { fieldValue } from "../vmx/score.ts";
import { type KnownEfer, stateOf as vmcsStateOf } from "../vmx/state.ts";
import type { Trust, Vcpu } from "./guest.ts";
import type { HostVcpu } from "./host-guest.ts";
import { OWN_CR3, vcpuOfKvm, withKvmState, withPartState } from "./kvm-state.ts";
import { NP_ENABLE, type VmcbBlock } from "./svm-blocks.ts";
import type { VmcsBlock } from "./vmx-blocks.ts";

/** Basic exit reason HLT (Intel SDM Vol. 3D Appendix C). */
const EXIT_HLT = 12;
/** Guest activity state HLT (Vol. 3C §25.4.2). */
const ACTIVITY_HLT = 1n;

/** VMEXIT_HLT (AMD APM Vol. 2 Appendix C). */
const VMEXIT_HLT = 0x78n;

const HLT_RIP = "the vCPU left the guest for HLT: RIP may still be that of the HLT";

/**
 * The registers of a vCPU as its VMCS or VMCB has them.
 * @param trust "current" when the host wrote everything back before it was dumped
 * @returns undefined when the layout lacks a field that every state has and KVM does not tell the rest, or the state is
 * encrypted
 */
export function vcpuOf(
  host: PhysicalMemory,
  { index, block, reason, kvm }: HostVcpu<VmcsBlock | VmcbBlock>,
  trust: Trust,
): Vcpu | undefined {
  if (block === undefined) return kvm && vcpuOfKvm(index, kvm, kvm.inGuest ? trust : "current");
  const held = block.arch === "vmx" ? vmxVcpu(host, index, block, trust) : svmVcpu(index, block, trust, kvm);
  const known = kvm === undefined ? held : held && withKvmState(held, kvm);
  const vcpu =
    known ?? (block.arch === "vmx" && kvm !== undefined ? partVcpu(index, block, trust, kvm) : undefined);
  return vcpu && reason !== undefined ? { ...vcpu, caveats: [...(vcpu.caveats ?? []), reason] } : vcpu;
}

/** Whose registers are told, and by what. */
export type Whose = Pick<Vcpu, "index" | "source" | "trust">;

function vmxVcpu(
  host: PhysicalMemory,
  index: number,
  { address, candidate }: VmcsBlock,
  trust: Trust,
): Vcpu | undefined {
  const { region } = candidate;
  const efer = eferOfAreas(msrAreasOf(host, region));
  return vcpuOfVmcs(region, efer, { index, source: `VMCS at ${hex(address)}`, trust });
}

/** @returns undefined when the layout lacks a field that every state has */
export function vcpuOfVmcs(
  region: VmcsRegion,
  efer: KnownEfer | undefined,
  { index, source, trust }: Whose,
): Vcpu | undefined {
  const { state, sources, ownCr3, caveats } = vmcsStateOf(region, efer);
  if (state === undefined) return undefined;
  const reason = fieldValue(region, "VM_EXIT_REASON");
  const exited = reason !== undefined && basicReason(reason) === EXIT_HLT;
  const vcpu: Vcpu = {
    index,
    state,
    source,
    trust,
    halted: exited || fieldValue(region, "GUEST_ACTIVITY_STATE") === ACTIVITY_HLT,
    sources: sources as Readonly<Record<string, string>>,
    caveats: exited ? [...caveats, HLT_RIP] : caveats,
  };
  return ownCr3 ? withoutCr3(vcpu) : vcpu;
}

/** By a layout in which fields are lacking, as one that was inferred: what KVM tells, with what the VMCS does. */
function partVcpu(
  index: number,
  { address, candidate }: VmcsBlock,
  trust: Trust,
  kvm: KvmVcpu,
): Vcpu | undefined {
  const own = vcpuOfKvm(index, kvm, trust);
  const { partial, sources, caveats, ownCr3 } = vmcsStateOf(candidate.region);
  if (own === undefined || partial === undefined) return own;
  const registers = new Set([...partial.registers].filter((name) => name !== "cr3" || !ownCr3));
  const vcpu = withPartState(own, kvm, { ...partial, registers, sources, caveats });
  return { ...vcpu, source: `VMCS at ${hex(address)}, ${own.source}` };
}

/** A register without a source is not the guest's. */
function withoutCr3({ sources, caveats = [], ...vcpu }: Vcpu): Vcpu {
  const { cr3: _, ...others } = sources ?? {};
  return { ...vcpu, sources: others, caveats: [...caveats, OWN_CR3] };
}

/** #VMEXIT writes all of a VMCB to memory, and a vCPU that halted is not running. */
const svmVcpu = (
  index: number,
  { address, vmcb }: VmcbBlock,
  trust: Trust,
  kvm: KvmVcpu | undefined,
): Vcpu | undefined =>
  vcpuOfVmcb(vmcb, {
    index,
    source: `VMCB at ${hex(address)}`,
    trust: isHalted(vmcb) || kvm?.inGuest === false ? "current" : trust,
  });

const isHalted = (vmcb: Vmcb): boolean => vmcbValue(vmcb, "exit_code") === VMEXIT_HLT;

/** @returns undefined when the state is encrypted */
export function vcpuOfVmcb(vmcb: Vmcb, { index, source, trust }: Whose): Vcpu | undefined {
  const found = vmcbStateOf(vmcb);
  if (found === undefined) return undefined;
  const sources = Object.entries(found.sources).map(([register, field]) => [register, `VMCB ${field}`]);
  const vcpu: Vcpu = {
    index,
    state: found.state,
    source,
    trust,
    halted: isHalted(vmcb),
    sources: Object.fromEntries(sources) as Readonly<Record<string, string>>,
    caveats: found.caveats,
  };
  return (vmcbValue(vmcb, "nested_ctl") & NP_ENABLE) === 0n ? withoutCr3(vcpu) : vcpu;
}
