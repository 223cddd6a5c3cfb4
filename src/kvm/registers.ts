import type { Kernel } from "../kernel/kernel.ts";
import { offsetOf } from "../kernel/types.ts";
import { ENCODED_REGISTERS, type GeneralRegister } from "../x86/state.ts";

/** enum kvm_reg: the instruction encoding's order, then RIP and what else is cached (Linux asm/kvm_host.h). */
const REG_RSP = 4;
const REG_RIP = 16;

/**
 * The registers that KVM keeps of a vCPU in struct kvm_vcpu_arch. RSP, RIP and control registers are cached there:
 * `regs_dirty` marks those that are newer than the control block's. The other general registers are there and nowhere
 * else.
 */
export interface KvmRegisters {
  readonly general: Readonly<Record<GeneralRegister, bigint>>;
  readonly rip: bigint;
  /** Registers that are cached and newer than the control block's. */
  readonly newer: { readonly rsp: boolean; readonly rip: boolean; readonly cr3: boolean };
  /**
   * Whether the cache has RSP and RIP of the last exit (`regs_avail`): on Intel they are read when they are needed, and
   * older before.
   */
  readonly cached: { readonly rsp: boolean; readonly rip: boolean };
  readonly cr0: bigint | undefined;
  readonly cr2: bigint | undefined;
  readonly cr3: bigint | undefined;
  readonly cr4: bigint | undefined;
  readonly cr8: bigint | undefined;
  /** The guest's own; the control block's has bits that KVM needs. */
  readonly efer: bigint | undefined;
  readonly xcr0: bigint | undefined;
  /** DR0–DR3, DR6, DR7. */
  readonly debug: readonly (bigint | undefined)[];
}

const GENERAL_BYTES = 8 * (ENCODED_REGISTERS.length + 1);

/** @param vcpu address of a struct kvm_vcpu @returns undefined where its registers are not to be had */
export function registersAt({ reader, types }: Kernel, vcpu: bigint): KvmRegisters | undefined {
  const placeOf = (path: string): bigint | undefined => {
    const offset = offsetOf(types, `kvm_vcpu.arch.${path}`);
    return offset === undefined ? undefined : vcpu + BigInt(offset);
  };
  const u64 = (path: string, index = 0) => {
    const place = placeOf(path);
    return place === undefined ? undefined : reader.u64(place + BigInt(8 * index));
  };
  const u32 = (path: string) => {
    const place = placeOf(path);
    return place === undefined ? undefined : reader.u32(place);
  };
  const regs = placeOf("regs");
  const bytes = regs === undefined ? undefined : reader.bytes(regs, GENERAL_BYTES);
  const dirty = u32("regs_dirty");
  if (bytes === undefined || dirty === undefined) return undefined;
  const available = u32("regs_avail");
  const isCached = (bit: number) => available === undefined || ((available >>> bit) & 1) === 1;
  const isDirty = (bit: number) => ((dirty >>> bit) & 1) === 1;
  const value = (index: number) => bytes.readBigUInt64LE(8 * index);
  const general = Object.fromEntries(ENCODED_REGISTERS.map((name, i) => [name, value(i)]));
  return {
    general: general as Record<GeneralRegister, bigint>,
    rip: value(REG_RIP),
    newer: { rsp: isDirty(REG_RSP), rip: isDirty(REG_RIP), cr3: isDirty(cr3Bit(types)) },
    cached: { rsp: isCached(REG_RSP), rip: isCached(REG_RIP) },
    cr0: u64("cr0"),
    cr2: u64("cr2"),
    cr3: u64("cr3"),
    cr4: u64("cr4"),
    cr8: u64("cr8"),
    efer: u64("efer"),
    xcr0: u64("xcr0"),
    debug: [u64("db", 0), u64("db", 1), u64("db", 2), u64("db", 3), u64("dr6"), u64("dr7")],
  };
}

/** VCPU_EXREG_CR3 differs from kernel to kernel; 31, which nothing has, where it is not told. */
const cr3Bit = (types: Kernel["types"]): number => Number(types.constant("VCPU_EXREG_CR3") ?? 31n) & 31;
