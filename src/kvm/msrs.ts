import type { Kernel } from "../kernel/kernel.ts";
import { offsetOf } from "../kernel/types.ts";

/** Model-specific registers that no control block of Intel's holds, by their numbers (Intel SDM Vol. 4). */
const USER_RETURN: ReadonlyMap<number, keyof UserReturnMsrs> = new Map([
  [0xc000_0081, "star"],
  [0xc000_0082, "lstar"],
  [0xc000_0083, "cstar"],
  [0xc000_0084, "syscallMask"],
  [0xc000_0103, "tscAux"],
]);

/** A guest's values of the registers that KVM loads lazily, for the host uses them in user mode only. */
export interface UserReturnMsrs {
  readonly star?: bigint | undefined;
  readonly lstar?: bigint | undefined;
  readonly cstar?: bigint | undefined;
  /** IA32_FMASK. */
  readonly syscallMask?: bigint | undefined;
  readonly tscAux?: bigint | undefined;
}

export interface KernelGsBase {
  readonly value: bigint;
  /** While the vCPU is loaded the processor has it, and this is what it was when it was loaded. */
  readonly stale: boolean;
}

/**
 * Of a vCPU of kvm-intel (vcpu_vmx.guest_uret_msrs, 5.11+): slot i is of the register that `kvm_uret_msrs_list` has at i.
 * @param vmx address of its struct vcpu_vmx
 */
export function userReturnMsrs({ reader, types, symbols }: Kernel, vmx: bigint): UserReturnMsrs {
  const slots = types.member("vcpu_vmx.guest_uret_msrs");
  const data = offsetOf(types, "vmx_uret_msr.data");
  const list = symbols.addressOf("kvm_uret_msrs_list");
  if (slots === undefined || data === undefined || list === undefined) return {};
  const found: Partial<Record<keyof UserReturnMsrs, bigint>> = {};
  for (let i = 0; i < Math.min(slots.count, MAX_SLOTS); i++) {
    const number = reader.u32(list + BigInt(4 * i));
    const name = number === undefined ? undefined : USER_RETURN.get(number);
    const value = reader.u64(vmx + BigInt(slots.offset + i * slots.stride + data));
    if (name !== undefined && value !== undefined) found[name] = value;
  }
  return found;
}

/** KVM_MAX_NR_USER_RETURN_MSRS. */
const MAX_SLOTS = 16;

/** Of a vCPU of kvm-intel; a VMCB holds it itself. */
export function kernelGsBaseOf({ reader, types }: Kernel, vmx: bigint): KernelGsBase | undefined {
  const offset = offsetOf(types, "vcpu_vmx.msr_guest_kernel_gs_base");
  const value = offset === undefined ? undefined : reader.u64(vmx + BigInt(offset));
  if (value === undefined) return undefined;
  const loaded = offsetOf(types, "vcpu_vmx.guest_state_loaded");
  return { value, stale: loaded === undefined || reader.u8(vmx + BigInt(loaded)) !== 0 };
}
