import { u64big } from "../core/bytes.ts";
import { ENCODED_REGISTERS, type GeneralRegister } from "../x86/state.ts";

/**
 * The head of struct kvm_vcpu_arch (Linux `arch/x86/include/asm/kvm_host.h`), in this order since 2.6.30: unsigned long
 * regs[NR_VCPU_REGS], u32 regs_avail, u32 regs_dirty, cr0, cr0_guest_owned_bits, cr2, cr3, cr4, cr4_guest_owned_bits.
 * Where it lies in struct kvm_vcpu changes with every kernel; what it holds tells it.
 */

/** enum kvm_reg is the instruction encoding's order, with RIP behind. */
const RSP_BIT = 1 << 4;
const RIP_BIT = 1 << 16;
export const RSP_OFFSET = 4 * 8;
const RIP = 16 * 8;
const AVAILABLE = 17 * 8;
const DIRTY = AVAILABLE + 4;
const CR0 = DIRTY + 4;
const CR0_OWNED = CR0 + 8;
const CR2 = CR0 + 16;
const CR3 = CR0 + 24;
const CR4 = CR0 + 32;
const CR4_OWNED = CR0 + 40;
/** Bytes of the head. */
export const ARCH_REGISTERS_SIZE = CR0 + 48;

/** General registers that KVM keeps, which a VMCS or VMCB does not hold. */
export interface ArchRegisters {
  readonly general: Readonly<Record<GeneralRegister, bigint>>;
  readonly cr2: bigint;
  /** RIP and RSP here are newer than the control block's: KVM has not written them back yet. */
  readonly ripIsNewer: boolean;
  readonly rspIsNewer: boolean;
  readonly rip: bigint;
  readonly cr3: bigint;
  /** Whether it is the control block's, which is no must: KVM fetches it when it needs it. */
  readonly sameCr3: boolean;
}

/** What the control block says of the vCPU. */
export interface KnownState {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
}

/**
 * Decodes the head where it may begin at `at`. CR0 and CR4 must be the guest's but for the bits that the guest changes
 * without KVM seeing it, and those must be few.
 * @returns undefined when it cannot be the vCPU's
 */
export function archRegistersAt(view: DataView, at: number, known: KnownState): ArchRegisters | undefined {
  if (at < 0 || at + ARCH_REGISTERS_SIZE > view.byteLength) return undefined;
  const word = (offset: number) => u64big(view, at + offset);
  if (!agrees(word(CR0), known.cr0, word(CR0_OWNED))) return undefined;
  if (!agrees(word(CR4), known.cr4, word(CR4_OWNED))) return undefined;
  const available = view.getUint32(at + AVAILABLE, true);
  const dirty = view.getUint32(at + DIRTY, true);
  // What is newer is known, and the sixteen that KVM saves by itself always are.
  if ((dirty & ~available) !== 0 || (available & SAVED) !== SAVED) return undefined;
  return {
    general: Object.fromEntries(ENCODED_REGISTERS.map((name, i) => [name, word(i * 8)])) as Record<
      GeneralRegister,
      bigint
    >,
    cr2: word(CR2),
    ripIsNewer: (dirty & RIP_BIT) !== 0,
    rspIsNewer: (dirty & RSP_BIT) !== 0,
    rip: word(RIP),
    cr3: word(CR3),
    sameCr3: word(CR3) === known.cr3,
  };
}

/** All general registers but RSP. */
const SAVED = 0xffef;
/** TS and WP of CR0; PVI, TSD, DE, PSE, PGE, PCE, OSFXSR … of CR4: bits 0 to 16 and FSGSBASE to SMAP at most. */
const MAX_OWNED = 0xff_ffffn;

const agrees = (cached: bigint, effective: bigint, owned: bigint): boolean =>
  owned <= MAX_OWNED && ((cached ^ effective) & ~owned) === 0n;
