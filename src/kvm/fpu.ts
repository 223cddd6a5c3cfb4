import type { Kernel } from "../kernel/kernel.ts";
import { fpuOf, fpuState, fpuStateAt } from "../kernel/thread-fpu.ts";
import { isRunning, userRegisters } from "../kernel/thread-registers.ts";
import { offsetOf } from "../kernel/types.ts";
import type { FpuState } from "../x86/fpu-state.ts";

/** Why a vCPU's FPU is not to be had: a processor has it, the kernel does not tell, or it was never written. */
export type FpuAbsence = "in-processor" | "unknown" | "unused";
export type GuestFpu = FpuState | FpuAbsence;

/** ioctl and KVM_RUN, _IO(KVMIO, 0x80) (Linux include/uapi/linux/kvm.h). */
const SYS_IOCTL = 16n;
const KVM_RUN = 0xae80n;
/** TIF_NEED_FPU_LOAD (5.2+): the thread's registers are in memory although it runs. */
const NEED_FPU_LOAD = 1n << 14n;

/**
 * x87, SSE and AVX registers of a vCPU: while its thread is in KVM_RUN they are where the thread's are, else in
 * `kvm_vcpu.arch.guest_fpu`, which points to a struct fpu (4.20 to 5.15), is one (before), or has a pointer to a struct
 * fpstate that KVM makes the thread's own (5.16+, `fpu_swap_kvm_fpstate`).
 * @param vcpu address of its struct kvm_vcpu
 */
export function guestFpu(kernel: Kernel, vcpu: bigint): GuestFpu {
  const { reader, types } = kernel;
  const task = threadOf(kernel, vcpu);
  const swapped = offsetOf(types, "kvm_vcpu.arch.guest_fpu.fpstate");
  if (swapped !== undefined) {
    const state = reader.u64(vcpu + BigInt(swapped));
    const regs = offsetOf(types, "fpstate.regs");
    if (!state || regs === undefined) return "unknown";
    if (task !== undefined && isLoaded(kernel, task, state)) return "in-processor";
    return stateAt(kernel, state + BigInt(regs));
  }
  if (task !== undefined && isInKvmRun(kernel, task)) {
    return isRunning(kernel, task) ? "in-processor" : (fpuState(kernel, task) ?? "unknown");
  }
  const member = types.member("kvm_vcpu.arch.guest_fpu");
  const inside = offsetOf(types, "fpu.state");
  if (member === undefined || inside === undefined) return "unknown";
  const place = vcpu + BigInt(member.offset);
  const fpu = member.size > 8 ? place : reader.u64(place);
  return fpu ? stateAt(kernel, fpu + BigInt(inside)) : "unknown";
}

function stateAt(kernel: Kernel, area: bigint): GuestFpu {
  if (kernel.reader.u64(area) === undefined) return "unknown";
  return fpuStateAt(kernel, area) ?? "unused";
}

/** Whether a processor holds a state that memory has an old copy of. */
function isLoaded(kernel: Kernel, task: bigint, state: bigint): boolean {
  const { reader, types } = kernel;
  const current = offsetOf(types, "fpu.fpstate");
  const own = current === undefined ? undefined : reader.u64(fpuOf(types, task) + BigInt(current));
  if (own !== state || !isRunning(kernel, task)) return false;
  const flags = offsetOf(types, "task_struct.thread_info.flags");
  const set = flags === undefined ? undefined : reader.u64(task + BigInt(flags));
  return set === undefined || (set & NEED_FPU_LOAD) === 0n;
}

function isInKvmRun(kernel: Kernel, task: bigint): boolean {
  const registers = userRegisters(kernel, task);
  return registers !== undefined && registers.orig_rax === SYS_IOCTL && registers.rsi === KVM_RUN;
}

/** task_struct of the thread that runs a vCPU, or ran it last: the first of its struct pid. */
function threadOf({ reader, types }: Kernel, vcpu: bigint): bigint | undefined {
  const [at, tasks, links] = [
    offsetOf(types, "kvm_vcpu.pid"),
    offsetOf(types, "pid.tasks"),
    // An array since 4.19.
    offsetOf(types, "task_struct.pid_links", "task_struct.pids.node"),
  ];
  if (at === undefined || tasks === undefined || links === undefined) return undefined;
  const pid = reader.u64(vcpu + BigInt(at));
  const first = pid ? reader.u64(pid + BigInt(tasks)) : undefined;
  return first ? first - BigInt(links) : undefined;
}
