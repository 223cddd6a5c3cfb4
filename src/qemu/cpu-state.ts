import { u64, u64big } from "../core/bytes.ts";
import { CR0_PG, CR4_PAE, EFER_LMA, EFER_LME, EFER_SCE, RFLAGS_FIXED } from "../x86/registers.ts";
import {
  ENCODED_REGISTERS,
  type GeneralRegister,
  type Segment,
  type SegmentRegister,
  type X86State,
} from "../x86/state.ts";

/**
 * CPUX86State, the head of which has kept its order since 2008 (QEMU `target/i386/cpu.h`): regs[], eip, eflags,
 * cc_dst, cc_src, cc_src2, cc_op, df, hflags, hflags2, segs[6], ldt, tr, gdt, idt, cr[5], … Offsets behind the head
 * depend on the version and are found in the bytes.
 */

const SEGMENTS: readonly SegmentRegister[] = ["es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr"];

/** Where the members of the head are, in bytes from the start of CPUX86State. */
export interface CpuStateHead {
  /** Bytes of a target_ulong: 8 in qemu-system-x86_64, 4 in qemu-system-i386. */
  readonly word: 4 | 8;
  /** Entries of regs[]. */
  readonly registers: number;
  readonly eip: number;
  readonly eflags: number;
  readonly segs: number;
  /** SegmentCache: u32 selector, target_ulong base (aligned), u32 limit, u32 flags. */
  readonly segmentSize: number;
  readonly gdt: number;
  readonly idt: number;
  readonly cr: number;
  readonly end: number;
}

function headOf(word: 4 | 8, registers: number): CpuStateHead {
  const eip = registers * word;
  // eip, eflags, cc_dst, cc_src, cc_src2; then cc_op, df, hflags, hflags2 of 4 bytes each.
  const segs = eip + 5 * word + 16;
  const segmentSize = 2 * word + 8;
  const gdt = segs + 8 * segmentSize;
  const cr = gdt + 2 * segmentSize;
  return {
    ...{ word, registers, eip, eflags: eip + word, segs, segmentSize },
    ...{ gdt, idt: gdt + segmentSize, cr, end: cr + 5 * word },
  };
}

/** qemu-system-x86_64. */
export const HEAD_64 = headOf(8, 16);
/** qemu-system-x86_64 since QEMU made room for APX in regs[] (seen in 11.1). */
export const HEAD_64_APX = headOf(8, 32);
/** qemu-system-i386. */
export const HEAD_32 = headOf(4, 8);

/** a20_mask is ~0 or ~(1 << 20); behind cr[], or behind pdptrs_valid and pdptrs[4] since QEMU 6.1. */
const A20_AFTER_CR = [40, 0] as const;
/** a20_mask, bnd_regs[4], bndcs_regs, msr_bndcfgs, efer. */
const EFER_AFTER_A20 = 96;

/** star, vm_hsave, lstar, cstar, fmask, kernelgsbase. */
const KERNEL_GS_BASE_AFTER_STAR = 40;
/** Distance of `star` from regs[] (16 entries) in the versions measured: 7.2, 10.0, 5.2, 11.1. */
const KNOWN_STAR = [11_312, 11_328, 4_800, 11_296] as const;

const RFLAGS_LIMIT = 1n << 22n;
const CR3_LIMIT = 1n << 63n;
const CR4_LIMIT = 1n << 33n;
const EFER_KNOWN = 0x0000_0000_0036_fd01n;

export interface CpuStateOffsets {
  readonly head: CpuStateHead;
  readonly efer: number | undefined;
  readonly star: number | undefined;
}

/** How many bytes from the start of CPUX86State a look at its head needs, whatever its shape. */
export const CPU_STATE_HEAD = HEAD_64_APX.end;

/** A target_ulong. */
const word = (view: DataView, at: number, head: CpuStateHead): bigint =>
  head.word === 8 ? u64big(view, at) : BigInt(view.getUint32(at, true));

/** Whether the upper half of a target_ulong, where it has one, is zero. */
const isHalf = (view: DataView, at: number, head: CpuStateHead): boolean =>
  head.word === 4 || view.getUint32(at + 4, true) === 0;

/** Whether a CPUX86State can start here: all that holds in every mode of a live processor. */
export function looksLikeCpuState(view: DataView, at: number, head: CpuStateHead): boolean {
  if (at + head.end > view.byteLength) return false;
  const cr = (n: number) => at + head.cr + n * head.word;
  // Cheapest and most selective first: cr0 with ET and no upper half, cr1 unused.
  if ((view.getUint32(cr(0), true) & 0x10) === 0 || !isHalf(view, cr(0), head)) return false;
  if (view.getUint32(cr(1), true) !== 0 || !isHalf(view, cr(1), head)) return false;
  const rflags = word(view, at + head.eflags, head);
  if ((rflags & RFLAGS_FIXED) === 0n || rflags >= RFLAGS_LIMIT) return false;
  if (word(view, cr(3), head) >= CR3_LIMIT || word(view, cr(4), head) >= CR4_LIMIT) return false;
  for (let i = 0; i < 8; i++) {
    if (!isSegment(view, at + head.segs + i * head.segmentSize, head)) return false;
  }
  return isTable(view, at + head.gdt, head) && isTable(view, at + head.idt, head);
}

const isSegment = (view: DataView, at: number, head: CpuStateHead): boolean =>
  view.getUint32(at, true) <= 0xffff && isHalf(view, at, head);

/** GDTR and IDTR use only base and limit of their SegmentCache. */
const isTable = (view: DataView, at: number, head: CpuStateHead): boolean =>
  view.getUint32(at, true) === 0 &&
  isHalf(view, at, head) &&
  view.getUint32(at + 2 * head.word, true) <= 0xffff &&
  view.getUint32(at + 2 * head.word + 4, true) === 0;

/**
 * Whether regs[] has 32 entries, given where it would begin with 16. The upper half, APX's r16–r31, then takes the
 * place of rax–r15, which are hardly ever all zero: reset leaves the CPU signature in rdx. Where a guest cleared them
 * all, or uses APX, the end of CPUState tells, which lies in front of either shape.
 * @param isHost whether something writable is mapped at an address of the process
 */
export function hasApxRegisters(
  views: readonly DataView[],
  at: number,
  isHost: (address: number) => boolean,
): boolean {
  if (at < 144) return false;
  // In front of 32 entries: can_do_io, then padding.
  if (views.every((view) => u64big(view, at - 144) === 1n && u64big(view, at - 136) === 0n)) return true;
  const isEmpty = (view: DataView) => isClear(view, at, at + 128);
  return views.every(isEmpty) && !views.every((view) => endsCpuState(view, at, isHost));
}

/**
 * Whether the 128 bytes in front are the end of CPUState up to QEMU 10 and no registers: the addresses of TLBs, which
 * every vCPU has under TCG, or nothing but {u32 icount_decr, bool can_do_io}.
 */
function endsCpuState(view: DataView, at: number, isHost: (address: number) => boolean): boolean {
  for (let i = at - 128; i < at; i += 8) if (isHost(u64(view, i))) return true;
  return isClear(view, at - 128, at - 8) && view.getUint32(at - 4, true) === 1;
}

function isClear(view: DataView, from: number, to: number): boolean {
  for (let at = from; at < to; at += 4) if (view.getUint32(at, true) !== 0) return false;
  return true;
}

/** Whether the state is of a processor that pages, in long mode where it has one: a shape that is no accident. */
export function isPaging(view: DataView, at: number, head: CpuStateHead): boolean {
  const cr = (n: number) => word(view, at + head.cr + n * head.word, head);
  return (cr(0) & CR0_PG) !== 0n && (head.word === 4 || (cr(4) & CR4_PAE) !== 0n) && cr(3) !== 0n;
}

/**
 * Finds `efer` and `star` behind the head. All states must be of one process, whose layout they share. A 32-bit
 * processor has neither long mode nor what goes with it.
 * @param states views that begin at CPUX86State
 */
export function findOffsets(states: readonly DataView[], head: CpuStateHead): CpuStateOffsets {
  const efer = head.word === 8 && states.length > 0 ? findEfer(states, head) : undefined;
  return { head, efer, star: efer === undefined ? undefined : findStar(states, efer, head) };
}

function findEfer(states: readonly DataView[], head: CpuStateHead): number | undefined {
  for (const gap of A20_AFTER_CR) {
    const a20 = head.end + gap;
    const fits = states.every((view) => {
      if (a20 + EFER_AFTER_A20 + 8 > view.byteLength) return false;
      const mask = view.getInt32(a20, true);
      return (mask === -1 || mask === ~(1 << 20)) && isEfer(view, a20 + EFER_AFTER_A20, head);
    });
    if (fits) return a20 + EFER_AFTER_A20;
  }
  // Another version: the only word soon behind that agrees with paging on every processor, one in long mode at least.
  if (!states.some((view) => isPaging(view, 0, head))) return undefined;
  for (let at = head.end; at < head.end + 512; at += 8) {
    if (states.every((view) => at + 8 <= view.byteLength && isEfer(view, at, head))) return at;
  }
  return undefined;
}

/** EFER.LMA is set exactly when EFER.LME and CR0.PG are (Intel SDM Vol. 3A §10.8.5). */
function isEfer(view: DataView, at: number, head: CpuStateHead): boolean {
  const efer = u64big(view, at);
  if ((efer & ~EFER_KNOWN) !== 0n) return false;
  const paging = (u64big(view, head.cr) & CR0_PG) !== 0n;
  const long = (efer & EFER_LME) !== 0n && paging;
  return ((efer & EFER_LMA) !== 0n) === long;
}

/**
 * `star` by its neighbours: an operating system that uses SYSCALL sets STAR's upper half, LSTAR and FMASK alike on
 * every processor. Otherwise the distance known from a measured version.
 */
function findStar(states: readonly DataView[], efer: number, head: CpuStateHead): number | undefined {
  const users = states.filter((view) => (u64big(view, efer) & EFER_SCE) !== 0n);
  const length = Math.min(...states.map((view) => view.byteLength));
  if (users.length > 0) {
    for (let at = efer + 8; at + KERNEL_GS_BASE_AFTER_STAR + 8 <= length; at += 8) {
      if (
        users.every((view) => isSyscallSetup(view, at)) &&
        agree(users, at, 16) &&
        agree(users, at + 32, 8)
      ) {
        return at;
      }
    }
  }
  const shift = head.end - HEAD_64.end;
  const known = KNOWN_STAR.map((star) => star + shift);
  return known.find((at) => at + 48 <= length && users.length > 0 && users.every((v) => hasStar(v, at)));
}

/** STAR: selectors in the upper half, nothing else used in long mode (Intel SDM Vol. 3A §5.8.8). */
const hasStar = (view: DataView, at: number): boolean =>
  view.getUint32(at, true) === 0 && view.getUint32(at + 4, true) !== 0;

function isSyscallSetup(view: DataView, at: number): boolean {
  if (!hasStar(view, at)) return false;
  const lstar = u64big(view, at + 16);
  const fmask = u64big(view, at + 32);
  return (
    lstar >> 47n === 0x1ffffn && fmask !== 0n && fmask < RFLAGS_LIMIT && isCanonical(u64big(view, at + 40))
  );
}

const agree = (views: readonly DataView[], at: number, length: number): boolean => {
  const first = views[0]!;
  for (let i = at; i < at + length; i += 8) {
    const value = u64big(first, i);
    if (!views.every((view) => u64big(view, i) === value)) return false;
  }
  return true;
};

const isCanonical = (address: bigint): boolean => {
  const top = address >> 56n;
  return top === 0n || top === 0xffn;
};

/** Decodes the state; `view` begins at CPUX86State and is at least CPU_STATE_HEAD long. */
export function decodeCpuState(view: DataView, { head, efer, star }: CpuStateOffsets): X86State {
  const general = ENCODED_REGISTERS.map((name, i) => [
    name,
    i < head.registers ? word(view, i * head.word, head) : 0n,
  ]);
  const segments = SEGMENTS.map((name, i) => [
    name,
    decodeSegment(view, head.segs + i * head.segmentSize, head),
  ]);
  const table = (at: number) => {
    const { base, limit } = decodeSegment(view, at, head);
    return { base, limit };
  };
  const cr = (n: number) => word(view, head.cr + n * head.word, head);
  return {
    ...(Object.fromEntries(general) as Record<GeneralRegister, bigint>),
    rip: word(view, head.eip, head),
    rflags: word(view, head.eflags, head),
    segments: Object.fromEntries(segments) as Record<SegmentRegister, Segment>,
    gdt: table(head.gdt),
    idt: table(head.idt),
    cr0: cr(0),
    cr2: cr(2),
    cr3: cr(3),
    cr4: cr(4),
    efer: efer === undefined ? undefined : u64big(view, efer),
    kernelGsBase: star === undefined ? undefined : u64big(view, star + KERNEL_GS_BASE_AFTER_STAR),
  };
}

const decodeSegment = (view: DataView, at: number, head: CpuStateHead): Segment => ({
  selector: view.getUint32(at, true),
  base: word(view, at + head.word, head),
  limit: view.getUint32(at + 2 * head.word, true),
  flags: view.getUint32(at + 2 * head.word + 4, true),
});
