import { plural } from "../core/text.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { offsetOf } from "../kernel/types.ts";
import { xarrayEntries } from "../kernel/walk/xarray.ts";
import { type GuestFpu, guestFpu } from "./fpu.ts";
import { type KernelGsBase, kernelGsBaseOf, type UserReturnMsrs, userReturnMsrs } from "./msrs.ts";
import { problemsOf, problemText } from "./problem.ts";
import { type KvmRegisters, registersAt } from "./registers.ts";

/** KVM_MP_STATE_* (Linux include/uapi/linux/kvm.h). */
export const MP_STATES: readonly string[] = [
  "runnable",
  "uninitialized",
  "init received",
  "halted",
  "SIPI received",
  "stopped",
  "check stop",
  "operating",
  "load",
  "AP reset hold",
  "suspended",
];

/** enum: OUTSIDE_GUEST_MODE, IN_GUEST_MODE, EXITING_GUEST_MODE, READING_SHADOW_PAGE_TABLES. */
const IN_GUEST_MODE = 1;

/** A virtual CPU as KVM knows it (struct kvm_vcpu, Linux include/linux/kvm_host.h). */
export interface KvmVcpu {
  /** Of its struct kvm_vcpu. */
  readonly address: bigint;
  /** Its place among the VM's, and vcpu_id: the APIC ID on x86. */
  readonly index: number;
  readonly id: number;
  /** The host's processor that it runs on, or ran on last; undefined when it never ran. */
  readonly cpu: number | undefined;
  /** Whether it was in the guest: of a dump that KVM did not interrupt, what the processor held is newer then. */
  readonly inGuest: boolean;
  /**
   * Whether it ran a guest of its own: its registers and MSRs here are that one's then, and its control block, which
   * another one stood in for, has its own.
   */
  readonly inNested: boolean;
  /** Of MP_STATES. */
  readonly mpState: number | undefined;
  /** PID of the thread that runs it; undefined when none has. */
  readonly thread: number | undefined;
  /** Physical address of its VMCS or VMCB: of its own, not of a guest that it runs. */
  readonly controlBlock: number | undefined;
  readonly registers: KvmRegisters | undefined;
  /** On Intel only. */
  readonly msrs: UserReturnMsrs;
  readonly kernelGsBase: KernelGsBase | undefined;
  readonly fpu: GuestFpu;
}

export interface Vcpus {
  readonly vcpus: readonly KvmVcpu[];
  /** What could not be read. */
  readonly problems: readonly string[];
}

/** KVM_MAX_VCPUS (CONFIG_KVM_MAX_NR_VCPUS) of x86 is at most 4096. */
const MAX_VCPUS = 4096;
/** Nodes of an xarray of as many: one has 64 slots, or 16 (CONFIG_BASE_SMALL). */
const MAX_NODES = MAX_VCPUS / 8;

/**
 * The vCPUs of a VM in the order they were made.
 * @param budget how many may be read of all VMs together
 */
export function vcpusOf(kernel: Kernel, kvm: bigint, budget = { left: MAX_VCPUS }): Vcpus {
  const found = addressesOf(kernel, kvm);
  if (found === undefined)
    return { vcpus: [], problems: ["the kernel does not tell where a VM's vCPUs are"] };
  const vcpus: KvmVcpu[] = [];
  const unread: bigint[] = [];
  const entries = found.entries.slice(0, budget.left);
  budget.left -= entries.length;
  for (const { index, address } of entries) {
    const vcpu = vcpuAt(kernel, kvm, index, address);
    if (vcpu === undefined) unread.push(address);
    else vcpus.push(vcpu);
  }
  const problems = [
    ...(found.problem === undefined ? [] : [found.problem]),
    ...(entries.length === found.entries.length
      ? missing(kernel, kvm, entries.length)
      : [
          `of ${plural(found.entries.length, "vCPU")} ${entries.length} are looked at: the host's have too many`,
        ]),
    ...problemsOf("vCPU", ["cannot be read", "cannot be read"], unread),
  ];
  return { vcpus, problems };
}

/** What `kvm.online_vcpus` counts beyond what was met. */
function missing({ reader, types }: Kernel, kvm: bigint, found: number): string[] {
  const offset = offsetOf(types, "kvm.online_vcpus");
  const online = offset === undefined ? undefined : reader.u32(kvm + BigInt(offset));
  return online === undefined || online <= found
    ? []
    : [`of ${plural(online, "vCPU")} ${found} are where the VM should have them`];
}

interface Entries {
  readonly entries: readonly { readonly index: number; readonly address: bigint }[];
  readonly problem?: string | undefined;
}

/** kvm.vcpu_array is an xarray since 5.17; kvm.vcpus was an array of pointers. */
function addressesOf({ reader, types }: Kernel, kvm: bigint): Entries | undefined {
  const xarray = types.member("kvm.vcpu_array");
  if (xarray !== undefined) {
    const entries: { index: number; address: bigint }[] = [];
    const walk = xarrayEntries(reader, types, kvm + BigInt(xarray.offset), MAX_NODES);
    for (let step = walk.next(); ; step = walk.next()) {
      if (step.done) return { entries, problem: problemText("the array of vCPUs", step.value) };
      const { kind, index, value } = step.value;
      if (index >= MAX_VCPUS) return { entries, problem: `the array of vCPUs has more than ${MAX_VCPUS}` };
      if (kind === "pointer") entries.push({ index, address: value });
    }
  }
  const array = types.member("kvm.vcpus");
  if (array === undefined) return undefined;
  const online = types.member("kvm.online_vcpus");
  const count = online === undefined ? array.count : reader.u32(kvm + BigInt(online.offset));
  if (count === undefined) return undefined;
  const entries: { index: number; address: bigint }[] = [];
  for (let index = 0; index < Math.min(count, array.count, MAX_VCPUS); index++) {
    const address = reader.u64(kvm + BigInt(array.offset + 8 * index));
    if (address === undefined) return { entries, problem: "the array of vCPUs cannot be read" };
    if (address !== 0n) entries.push({ index, address });
  }
  return { entries };
}

/** @returns undefined when it is no vCPU of the VM */
function vcpuAt(kernel: Kernel, kvm: bigint, index: number, address: bigint): KvmVcpu | undefined {
  const { reader, types } = kernel;
  const at = (...paths: string[]) => {
    const offset = offsetOf(types, ...paths);
    return offset === undefined ? undefined : address + BigInt(offset);
  };
  const u32 = (...paths: string[]) => read(at(...paths), (place) => reader.u32(place));
  const u64 = (...paths: string[]) => read(at(...paths), (place) => reader.u64(place));
  if (u64("kvm_vcpu.kvm") !== kvm) return undefined;
  const cpu = u32("kvm_vcpu.cpu");
  const vmx = vmxOf(kernel, address);
  return {
    address,
    index,
    id: u32("kvm_vcpu.vcpu_id") ?? index,
    cpu: cpu === undefined || cpu === 0xffff_ffff ? undefined : cpu,
    inGuest: u32("kvm_vcpu.mode") === IN_GUEST_MODE,
    inNested: vmx === undefined ? isSvmNested(kernel, address) : isVmxNested(kernel, vmx),
    mpState: u32("kvm_vcpu.arch.mp_state"),
    thread: threadOf(kernel, u64("kvm_vcpu.pid")),
    controlBlock: vmx === undefined ? vmcbOf(kernel, address) : vmcsOf(kernel, vmx),
    registers: registersAt(kernel, address),
    msrs: vmx === undefined ? {} : userReturnMsrs(kernel, vmx),
    kernelGsBase: vmx === undefined ? undefined : kernelGsBaseOf(kernel, vmx),
    fpu: guestFpu(kernel, address),
  };
}

const read = <T>(address: bigint | undefined, reader: (address: bigint) => T | undefined): T | undefined =>
  address === undefined ? undefined : reader(address);

/** Number of a struct pid in the host's own namespace, which is the first. */
function threadOf({ reader, types }: Kernel, pid: bigint | undefined): number | undefined {
  const offset = offsetOf(types, "pid.numbers.nr");
  return pid === undefined || pid === 0n || offset === undefined
    ? undefined
    : reader.i32(pid + BigInt(offset));
}

/** Whether the vCPUs of a host are Intel's: its kernel may describe those of both. */
export const usesVmx = (kernel: Kernel): boolean =>
  kernel.types.member("vcpu_vmx.vcpu") !== undefined &&
  (kernel.types.member("vcpu_svm.vcpu") === undefined || runsVmx(kernel));

/** struct vcpu_vmx and vcpu_svm hold a struct kvm_vcpu. */
function containerOf({ types }: Kernel, vcpu: bigint, type: "vcpu_vmx" | "vcpu_svm"): bigint | undefined {
  const offset = offsetOf(types, `${type}.vcpu`);
  return offset === undefined ? undefined : vcpu - BigInt(offset);
}

/** The struct vcpu_vmx of a vCPU; undefined where kvm-intel does not run it. */
const vmxOf = (kernel: Kernel, vcpu: bigint): bigint | undefined =>
  usesVmx(kernel) ? containerOf(kernel, vcpu, "vcpu_vmx") : undefined;

/** `vmcs_config`, filled in when kvm-intel starts; `basic` since 6.12 is IA32_VMX_BASIC, the revision in its low half. */
function runsVmx({ reader, types, symbols }: Kernel): boolean {
  const config = symbols.addressOf("vmcs_config");
  const revision = offsetOf(types, "vmcs_config.revision_id", "vmcs_config.basic");
  return config !== undefined && revision !== undefined && reader.u32(config + BigInt(revision)) !== 0;
}

/** Its own: while a vCPU runs a guest of its own, another one is current. */
function vmcsOf(kernel: Kernel, vmx: bigint): number | undefined {
  const offset = offsetOf(kernel.types, "vcpu_vmx.vmcs01.vmcs");
  return offset === undefined ? undefined : pointedTo(kernel, vmx + BigInt(offset));
}

const isVmxNested = (kernel: Kernel, vmx: bigint): boolean =>
  leadsElsewhere(kernel, vmx, "vcpu_vmx.loaded_vmcs", "vcpu_vmx.vmcs01");

/** Since 5.13; before, the one VMCB has the state of whatever runs, as KVM's copy does. */
function isSvmNested(kernel: Kernel, vcpu: bigint): boolean {
  const svm = containerOf(kernel, vcpu, "vcpu_svm");
  return svm !== undefined && leadsElsewhere(kernel, svm, "vcpu_svm.current_vmcb", "vcpu_svm.vmcb01");
}

/** Whether a pointer in a structure leads to something else than a member of it; NULL, of one being made, does not. */
function leadsElsewhere({ reader, types }: Kernel, structure: bigint, pointer: string, own: string): boolean {
  const [from, to] = [offsetOf(types, pointer), offsetOf(types, own)];
  const target = from === undefined || to === undefined ? undefined : reader.u64(structure + BigInt(from));
  return target !== undefined && target !== 0n && target !== structure + BigInt(to ?? 0);
}

/** vmcb01 since 5.13; before, one VMCB ran the vCPU and its guests. */
function vmcbOf(kernel: Kernel, vcpu: bigint): number | undefined {
  const svm = containerOf(kernel, vcpu, "vcpu_svm");
  const offset = offsetOf(kernel.types, "vcpu_svm.vmcb01.ptr", "vcpu_svm.vmcb");
  return svm === undefined || offset === undefined ? undefined : pointedTo(kernel, svm + BigInt(offset));
}

/** Physical address of what a pointer leads to. */
function pointedTo({ reader }: Kernel, pointer: bigint): number | undefined {
  const virtual = reader.u64(pointer);
  const mapping = virtual === undefined ? undefined : reader.space.translate(virtual);
  return mapping?.mapped === true ? mapping.physical : undefined;
}
