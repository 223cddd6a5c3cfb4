import { type FpuState, fpuStateOf, XSAVE_SIZE } from "../x86/fpu-state.ts";
import type { Kernel } from "./kernel.ts";
import { isRunning } from "./thread-registers.ts";
import { offsetOf } from "./types.ts";

/** ARCH_MIN_TASKALIGN: struct fpu lies behind the task_struct since 6.16. */
const FPU_ALIGN = 64n;

/**
 * What the kernel saved of a thread's FPU when it switched it out, or when KVM put a guest's in its place.
 * @param task address of its task_struct
 * @returns undefined where the processor has it: the thread is running
 */
export function fpuState(kernel: Kernel, task: bigint): FpuState | undefined {
  const area = areaOf(kernel, task);
  return area === undefined ? undefined : fpuStateAt(kernel, area);
}

/** @param area address of an XSAVE area */
export function fpuStateAt({ reader }: Kernel, area: bigint): FpuState | undefined {
  const bytes = reader.bytes(area, XSAVE_SIZE);
  return bytes && fpuStateOf(bytes);
}

/** Address of the XSAVE area with the thread's own registers. */
function areaOf(kernel: Kernel, task: bigint): bigint | undefined {
  const { reader, types } = kernel;
  const fpu = fpuOf(types, task);
  const own = offsetOf(types, "fpu.__task_fpstate");
  const current = offsetOf(types, "fpu.fpstate");
  const regs = offsetOf(types, "fpstate.regs");
  // While KVM runs a guest in the thread the guest's is current (5.16+).
  const aside = own === undefined ? 0n : reader.u64(fpu + BigInt(own));
  if (aside === undefined) return undefined;
  if (aside !== 0n) return regs === undefined ? undefined : aside + BigInt(regs);
  if (isRunning(kernel, task)) return undefined;
  if (current !== undefined) {
    const state = reader.u64(fpu + BigInt(current));
    return state && regs !== undefined ? state + BigInt(regs) : undefined;
  }
  const inline = offsetOf(types, "fpu.state");
  return inline === undefined ? undefined : fpu + BigInt(inline);
}

/** Address of the struct fpu of a thread. */
export function fpuOf(types: Kernel["types"], task: bigint): bigint {
  const member = types.member("task_struct.thread.fpu");
  const size = BigInt(types.sizeOf("task_struct") ?? 0);
  // A debugging kernel keeps a pointer in its old place.
  if (member !== undefined && member.size > 8) return task + BigInt(member.offset);
  return task + ((size + FPU_ALIGN - 1n) / FPU_ALIGN) * FPU_ALIGN;
}
