import { SEGMENT_REGISTERS, type Segment, type SegmentRegister, type X86State } from "../x86/state.ts";
import type { Vcpu } from "./guest.ts";

/** A processor of a dumped host. */
export interface HostCpu {
  readonly state: X86State;
  /** Of one that was in a guest, where the dump says so: its registers are the guest's. */
  readonly inGuest?: { readonly eptp: bigint } | undefined;
}

/** What a vCPU's VMCS says of how the vCPU runs. */
export interface RunControls {
  readonly eptp: bigint;
  /** Bits of CR0 and CR4 that the hypervisor owns: what the processor has of them is not the guest's. */
  readonly cr0Mask: bigint;
  readonly cr4Mask: bigint;
}

/**
 * Whether the state of a host's processor is that of a vCPU: a dump that a hypervisor made of a running host has the
 * *guest's* registers for a processor that was in the guest. CR3, a guest-physical address then, and the addresses of
 * the processor's own tables tell.
 */
const isOf = (cpu: X86State, { state }: Vcpu): boolean =>
  cpu.cr3 === state.cr3 &&
  cpu.cr0 === state.cr0 &&
  haveSameTables(cpu, state) &&
  cpu.segments.tr.base === state.segments.tr.base;

const haveSameTables = (cpu: X86State, state: X86State): boolean =>
  cpu.idt.base === state.idt.base && cpu.gdt.base === state.gdt.base;

/**
 * Takes the registers of vCPUs that were running from the host's processors they ran on.
 * @param cpus the host's processors, by number
 * @param controls of vCPUs that have a VMCS, by index
 */
export function withRunningState(
  vcpus: readonly Vcpu[],
  cpus: readonly HostCpu[],
  controls: ReadonlyMap<number, RunControls> = new Map(),
): Vcpu[] {
  const stale = vcpus.filter(({ trust }) => trust !== "current");
  const byEptp = processorsByEptp(stale, cpus, controls);
  return vcpus.map((vcpu) => {
    if (vcpu.trust === "current") return vcpu;
    const number = byEptp.get(vcpu.index);
    if (number !== undefined) return inSmm(vcpu, cpus[number]!.state, number, controls.get(vcpu.index)!);
    const other = cpus.findIndex(({ state, inGuest }) => inGuest === undefined && isOf(state, vcpu));
    const cpu = cpus[other]?.state;
    if (cpu === undefined) return vcpu;
    const { efer } = vcpu.state;
    return { ...running(vcpu, other), state: { ...cpu, efer }, trust: "current", sources: {}, caveats: [] };
  });
}

const running = (vcpu: Vcpu, number: number): Vcpu => ({
  ...vcpu,
  source: `the host's processor ${number}, which was in the guest; ${vcpu.source}`,
  halted: false,
});

/**
 * vCPU → the processor that ran it, of those whose EPT pointer the dump tells. vCPUs of a VM share it; which of them it
 * is the addresses of the descriptor tables tell, which each has its own of, and CR3 where they do not. An EPT pointer
 * alone is not enough: it may be left from an earlier SMI.
 */
function processorsByEptp(
  vcpus: readonly Vcpu[],
  cpus: readonly HostCpu[],
  controls: ReadonlyMap<number, RunControls>,
): ReadonlyMap<number, number> {
  const found = new Map<number, number[]>();
  for (const [number, { state, inGuest }] of cpus.entries()) {
    if (inGuest === undefined) continue;
    const possible = vcpus.filter((vcpu) => {
      const own = controls.get(vcpu.index);
      return (
        own !== undefined && rootOf(own.eptp) === rootOf(inGuest.eptp) && haveSameTables(state, vcpu.state)
      );
    });
    const alike = possible.length < 2 ? possible : possible.filter((vcpu) => isLike(state, vcpu, controls));
    const [only, another] = alike;
    if (only !== undefined && another === undefined)
      found.set(only.index, [...(found.get(only.index) ?? []), number]);
  }
  const unique = [...found].filter(([, numbers]) => numbers.length === 1);
  return new Map(unique.map(([index, [number]]) => [index, number!]));
}

const rootOf = (eptp: bigint): bigint => eptp & ~0xfffn;

/** Where CR3 and the bits of CR0 and CR4 that the guest owns are as its VMCS has them. */
function isLike(cpu: X86State, { index, state }: Vcpu, controls: ReadonlyMap<number, RunControls>): boolean {
  const { cr0Mask, cr4Mask } = controls.get(index)!;
  return (
    cpu.cr3 === state.cr3 &&
    ((cpu.cr0 ^ state.cr0) & ~cr0Mask) === 0n &&
    ((cpu.cr4 ^ state.cr4) & ~cr4Mask) === 0n
  );
}

const HIDDEN_PARTS =
  "the processor's selectors are known, and not its segments: bases, limits and attributes are those that the VMCS had, of FS and GS as well";

/**
 * The state that a processor saved when an SMI took it out of the guest. It has the selectors of segments; the rest of
 * them, and the bits of CR0 and CR4 that the hypervisor owns, are the VMCS's.
 */
function inSmm(vcpu: Vcpu, cpu: X86State, number: number, { cr0Mask, cr4Mask }: RunControls): Vcpu {
  const { state, sources = {} } = vcpu;
  const segments = SEGMENT_REGISTERS.map((name) => [name, reloaded(name, cpu, state.segments[name])]);
  return {
    ...running(vcpu, number),
    state: {
      ...cpu,
      cr0: (cpu.cr0 & ~cr0Mask) | (state.cr0 & cr0Mask),
      cr4: (cpu.cr4 & ~cr4Mask) | (state.cr4 & cr4Mask),
      efer: state.efer,
      segments: Object.fromEntries(segments) as Record<SegmentRegister, Segment>,
    },
    trust: "partly-stale",
    sources: Object.fromEntries(
      SEGMENT_REGISTERS.map((name) => [name, `${sources[name] ?? "VMCS"}, may be stale; selector of SMRAM`]),
    ),
    caveats: [HIDDEN_PARTS],
  };
}

const PRIVILEGE = 3;
const PRIVILEGE_AT = 13;

/** Of code and stack the selector tells the privilege level, too. */
function reloaded(name: SegmentRegister, cpu: X86State, held: Segment): Segment {
  const { selector } = cpu.segments[name];
  if (selector === held.selector || (name !== "cs" && name !== "ss")) return { ...held, selector };
  const flags = (held.flags & ~(PRIVILEGE << PRIVILEGE_AT)) | ((selector & PRIVILEGE) << PRIVILEGE_AT);
  return { ...held, selector, flags };
}
