import type { X86State } from "../x86/state.ts";
import type { Vcpu } from "./guest.ts";

/**
 * Whether the state of a host's processor is that of a vCPU: a dump that a hypervisor made of a running host has the
 * *guest's* registers for a processor that was in the guest. CR3, a guest-physical address then, and the addresses of
 * the processor's own tables tell.
 */
const isOf = (cpu: X86State, { state }: Vcpu): boolean =>
  cpu.cr3 === state.cr3 &&
  cpu.cr0 === state.cr0 &&
  cpu.idt.base === state.idt.base &&
  cpu.gdt.base === state.gdt.base &&
  cpu.segments.tr.base === state.segments.tr.base;

/**
 * Takes the registers of vCPUs that were running from the host's processors they ran on.
 * @param cpus states of the host's processors, by number
 */
export function withRunningState(vcpus: readonly Vcpu[], cpus: readonly X86State[]): Vcpu[] {
  return vcpus.map((vcpu) => {
    if (vcpu.trust === "current") return vcpu;
    const number = cpus.findIndex((cpu) => isOf(cpu, vcpu));
    const cpu = cpus[number];
    if (cpu === undefined) return vcpu;
    const { efer } = vcpu.state;
    return {
      ...vcpu,
      state: { ...cpu, efer },
      source: `the host's processor ${number}, which was in the guest; ${vcpu.source}`,
      trust: "current",
      halted: false,
      sources: {},
      caveats: [],
    };
  });
}
