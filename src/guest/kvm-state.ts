import { hex64 } from "../core/text.ts";
import type { GuestFpu } from "../kvm/fpu.ts";
import type { KernelGsBase, UserReturnMsrs } from "../kvm/msrs.ts";
import type { KvmRegisters } from "../kvm/registers.ts";
import type { KvmVcpu } from "../kvm/vcpus.ts";
import { RFLAGS_FIXED } from "../x86/registers.ts";
import {
  GENERAL_REGISTERS,
  SEGMENT_REGISTERS,
  type Segment,
  type SegmentRegister,
  type X86State,
} from "../x86/state.ts";
import type { SystemRegisters, Trust, Vcpu } from "./guest.ts";

/** Until KVM's copy of the registers is found. */
export const OWN_CR3 = "CR3 of the control block is the hypervisor's: it keeps the guest's itself";
const IN_NESTED =
  "the vCPU ran a guest of its own: KVM's copy of general registers, CR2 and MSRs is that one's, and not shown";
const NO_BLOCK =
  "only KVM's own copy was found: segments, descriptor tables and RFLAGS are unknown, and 0 in the notes";

/** What is needed of a struct kvm_vcpu, wherever it was read. */
export interface KeptByKvm {
  /** Of the struct. */
  readonly address: bigint;
  readonly registers: KeptRegisters | undefined;
  /** Whether the registers are those of a guest that the vCPU ran. */
  readonly inNested?: boolean;
  readonly kernelGsBase?: KernelGsBase | undefined;
  readonly msrs?: UserReturnMsrs;
  readonly fpu?: GuestFpu | undefined;
}

type KeptRegisters = Pick<KvmRegisters, "general" | "rip" | "newer" | "cr2" | "cr3" | "efer"> &
  Partial<Pick<KvmRegisters, "cr8" | "xcr0" | "debug">>;

/**
 * A vCPU's registers with those that KVM keeps in struct kvm_vcpu: general registers that no control block holds, and
 * what KVM has not written back to it yet. Of a vCPU that ran a guest of its own KVM keeps that one's.
 */
export function withKvmState(vcpu: Vcpu, kvm: KeptByKvm): Vcpu {
  const { registers } = kvm;
  if (kvm.inNested === true) return { ...vcpu, ...fpuOf(kvm), caveats: [...(vcpu.caveats ?? []), IN_NESTED] };
  if (registers === undefined) return vcpu;
  const { rsp, ...others } = registers.general;
  const { newer } = registers;
  const ownCr3 = vcpu.sources !== undefined && !Object.hasOwn(vcpu.sources, "cr3");
  const taken = {
    ...others,
    ...(newer.rsp ? { rsp } : {}),
    ...(newer.rip ? { rip: registers.rip } : {}),
    ...((newer.cr3 || ownCr3) && registers.cr3 !== undefined ? { cr3: registers.cr3 } : {}),
    ...(registers.cr2 === undefined ? {} : { cr2: registers.cr2 }),
    ...(registers.efer === undefined ? {} : { efer: registers.efer }),
    ...(kvm.kernelGsBase === undefined ? {} : { kernelGsBase: kvm.kernelGsBase.value }),
  };
  const isSolved = (caveat: string) =>
    (newer.rip && /\bRIP\b/.test(caveat)) ||
    (caveat === OWN_CR3 && taken.cr3 !== undefined) ||
    (registers.efer !== undefined && /\bEFER\b/.test(caveat));
  return {
    ...vcpu,
    state: { ...vcpu.state, ...taken },
    sources: { ...vcpu.sources, ...sourcesOf(kvm, Object.keys(taken)) },
    caveats: [...(vcpu.caveats ?? []).filter((caveat) => !isSolved(caveat)), ...staleGsBase(kvm)],
    system: systemOf(kvm),
    ...fpuOf(kvm),
  };
}

/** A guest's own guest shares its registers of the FPU: they are the processor's. */
const fpuOf = ({ fpu }: KeptByKvm): Pick<Vcpu, "fpu"> => (typeof fpu === "object" ? { fpu } : {});

const staleGsBase = ({ kernelGsBase }: KeptByKvm): string[] =>
  kernelGsBase?.stale === true
    ? ["KERNEL_GS_BASE is of the time when the vCPU was loaded: a newer one was in the processor"]
    : [];

/** What no state of a vmcore's notes has room for. */
function systemOf({ registers, msrs }: KeptByKvm): SystemRegisters {
  const [dr0, dr1, dr2, dr3, dr6, dr7] = registers?.debug ?? [];
  return { cr8: registers?.cr8, xcr0: registers?.xcr0, dr0, dr1, dr2, dr3, dr6, dr7, ...msrs };
}

const NO_SEGMENT: Segment = { selector: 0, base: 0n, limit: 0, flags: 0 };

/** What KVM alone tells of a vCPU whose control block cannot be read; undefined where it tells nothing. */
export function vcpuOfKvm(index: number, kvm: KvmVcpu, trust: Trust): Vcpu | undefined {
  const { registers } = kvm;
  if (registers === undefined || kvm.inNested) return undefined;
  const { general, rip, cr0 = 0n, cr2, cr3 = 0n, cr4 = 0n, efer } = registers;
  const segments = Object.fromEntries(SEGMENT_REGISTERS.map((name) => [name, NO_SEGMENT]));
  const none = { base: 0n, limit: 0 };
  const known = { ...general, rip, cr0, cr2, cr3, cr4, efer };
  const state: X86State = {
    ...known,
    rflags: RFLAGS_FIXED,
    segments: segments as Record<SegmentRegister, Segment>,
    gdt: none,
    idt: none,
    kernelGsBase: kvm.kernelGsBase?.value,
  };
  return {
    index,
    state,
    source: sourceOf(kvm),
    trust,
    halted: isHalted(kvm),
    sources: sourcesOf(kvm, Object.keys(known)),
    caveats: [
      NO_BLOCK,
      ...oldCaveats((["rsp", "rip"] as const).filter((name) => !registers.cached[name])),
      ...staleGsBase(kvm),
    ],
    system: systemOf(kvm),
    ...fpuOf(kvm),
  };
}

/** KVM_MP_STATE_HALTED. */
const HALTED = 3;

/** Whether KVM holds a vCPU that executed HLT. */
export const isHalted = ({ mpState }: KvmVcpu): boolean => mpState === HALTED;

/** Registers that a control block tells, where others of it are at unknown places. */
export interface PartState {
  readonly state: X86State;
  readonly registers: ReadonlySet<string>;
  readonly sources: Readonly<Record<string, string | undefined>>;
  readonly caveats: readonly string[];
}

/**
 * What KVM tells of a vCPU with what is known of its control block: of registers that both have the control block's,
 * unless KVM's are newer.
 */
export function withPartState(vcpu: Vcpu, { registers }: KvmVcpu, part: PartState): Vcpu {
  const newer = registers?.newer;
  const isOlder = (name: string) =>
    (name === "rsp" && newer?.rsp === true) ||
    (name === "rip" && newer?.rip === true) ||
    (name === "cr3" && newer?.cr3 === true);
  const taken = [...part.registers].filter((name) => !isOlder(name));
  const isSegment = (name: string): name is SegmentRegister =>
    (SEGMENT_REGISTERS as readonly string[]).includes(name);
  const held = Object.entries(part.state).filter(([name]) => taken.includes(name));
  const segments = taken.filter(isSegment).map((name) => [name, part.state.segments[name]]);
  const lacking = [...SEGMENT_REGISTERS, "gdt", "idt", "rflags"].filter((name) => !taken.includes(name));
  const old = (["rsp", "rip"] as const).filter(
    (name) => !taken.includes(name) && registers?.cached[name] === false,
  );
  return {
    ...vcpu,
    state: {
      ...vcpu.state,
      ...Object.fromEntries(held),
      segments: { ...vcpu.state.segments, ...Object.fromEntries(segments) },
    },
    sources: {
      ...vcpu.sources,
      ...Object.fromEntries(
        taken.flatMap((name) => (part.sources[name] ? [[name, part.sources[name]]] : [])),
      ),
    },
    caveats: [
      ...(lacking.length === 0 ? [] : [`where the VMCS has ${upper(lacking)} is not known: 0 in the notes`]),
      ...oldCaveats(old),
      ...part.caveats,
    ],
  };
}

const upper = (names: readonly string[]): string => names.map((name) => name.toUpperCase()).join(", ");

const oldCaveats = (names: readonly ("rsp" | "rip")[]): string[] =>
  names.length === 0 ? [] : [`${upper(names)} of KVM's own copy may be of an earlier exit`];

const sourceOf = ({ address }: KeptByKvm): string => `struct kvm_vcpu at ${hex64(address)}`;

function sourcesOf({ address }: KeptByKvm, names: readonly string[]): Record<string, string> {
  const isGeneral = (name: string) =>
    name === "rip" || (GENERAL_REGISTERS as readonly string[]).includes(name);
  const memberOf = (name: string) => {
    if (name === "kernelGsBase") return "vcpu_vmx.msr_guest_kernel_gs_base";
    return `kvm_vcpu.arch.${isGeneral(name) ? "regs" : name}`;
  };
  return Object.fromEntries(names.map((name) => [name, `${memberOf(name)} at ${hex64(address)}`]));
}
