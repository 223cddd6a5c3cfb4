import type { BlockSpec } from "./qemu-spec.ts";

/** Register sets and block tables that the laboratory's machines had, made small. */

interface SynthSegment {
  readonly selector: number;
  readonly base: bigint;
  readonly limit: number;
  /** High half of the descriptor, as QEMU's SegmentCache.flags and `info registers` show it. */
  readonly flags: number;
}

interface SynthTable {
  readonly base: bigint;
  readonly limit: number;
}

export type GeneralName =
  | "rax"
  | "rbx"
  | "rcx"
  | "rdx"
  | "rsi"
  | "rdi"
  | "rsp"
  | "rbp"
  | "r8"
  | "r9"
  | "r10"
  | "r11"
  | "r12"
  | "r13"
  | "r14"
  | "r15";
export type SegmentName = "es" | "cs" | "ss" | "ds" | "fs" | "gs" | "ldt" | "tr";

/** The state of one vCPU as `info registers` prints it, and the SYSCALL registers. */
export interface SynthRegisters extends Readonly<Record<GeneralName, bigint>> {
  readonly rip: bigint;
  readonly rflags: bigint;
  readonly segments: Readonly<Record<SegmentName, SynthSegment>>;
  readonly gdt: SynthTable;
  readonly idt: SynthTable;
  readonly cr0: bigint;
  readonly cr2: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
  readonly star: bigint;
  readonly lstar: bigint;
  readonly cstar: bigint;
  readonly fmask: bigint;
  readonly kernelGsBase: bigint;
}

const segment = (selector: number, base: bigint, limit: number, flags: number): SynthSegment => ({
  selector,
  base,
  limit,
  flags,
});
const NULL_SEGMENT = segment(0, 0n, 0, 0);
const NO_LDT = segment(0, 0n, 0, 0x8200);

/** Recognizable values: 0xNN… for register NN, with the vCPU's index in the lowest byte. */
function tagged(index: number): Record<GeneralName, bigint> {
  const value = (byte: number) =>
    BigInt(`0x${byte.toString(16).padStart(2, "0").repeat(7)}00`) + BigInt(index);
  return {
    rax: 0x1122_3344_5566_7700n + BigInt(index),
    rbx: value(0xb0),
    rcx: value(0xc0),
    rdx: value(0x0d),
    rsi: value(0x51),
    rdi: value(0x61),
    rsp: value(0x71),
    rbp: value(0x81),
    r8: value(0x08),
    r9: value(0x09),
    r10: value(0x10),
    r11: value(0x11),
    r12: value(0x12),
    r13: value(0x13),
    r14: value(0x14),
    r15: value(0x15),
  };
}

const LINUX_SYSCALL = {
  star: 0x0023_0010_0000_0000n,
  lstar: 0xffff_ffff_b780_0010n,
  cstar: 0xffff_ffff_b780_1a60n,
  fmask: 0x47700n,
};

/** A Linux kernel in 4-level long mode, in the idle loop: values of a real guest of Debian's 6.1 kernel. */
export function longMode(index = 0): SynthRegisters {
  const perCpu = 0xffff_8a9a_05a0_0000n + BigInt(index) * 0x10_0000n;
  return {
    ...tagged(index),
    rip: 0xffff_ffff_b6c1_7a0bn,
    rflags: 0x246n,
    rsp: 0xffff_ffff_b7c0_3e98n,
    segments: {
      es: NULL_SEGMENT,
      cs: segment(0x10, 0n, 0xffff_ffff, 0x00af_9b00),
      ss: segment(0x18, 0n, 0xffff_ffff, 0x00cf_9300),
      ds: NULL_SEGMENT,
      fs: NULL_SEGMENT,
      gs: segment(0, perCpu, 0, 0),
      ldt: NO_LDT,
      tr: segment(0x40, 0xffff_fe00_0000_3000n + BigInt(index) * 0x3_b000n, 0x4087, 0x8900),
    },
    gdt: { base: 0xffff_fe00_0000_1000n + BigInt(index) * 0x3_b000n, limit: 0x7f },
    idt: { base: 0xffff_fe00_0000_0000n, limit: 0xfff },
    cr0: 0x8005_0033n,
    cr2: 0x57_94a9n,
    cr3: 0x551_c000n + BigInt(index) * 0x1000n,
    cr4: 0x6b0n,
    efer: 0xd01n,
    ...LINUX_SYSCALL,
    kernelGsBase: 0n,
  };
}

/** The same kernel with the vCPU in user mode; kernel_gs_base holds the per-CPU area. */
export function userMode(index = 0): SynthRegisters {
  const kernel = longMode(index);
  return {
    ...kernel,
    rip: 0x40_19d8n,
    rflags: 0x207n,
    rsp: 0x7ffd_0a1c_c8a0n,
    segments: {
      ...kernel.segments,
      cs: segment(0x33, 0n, 0xffff_ffff, 0x00af_fb00),
      ss: segment(0x2b, 0n, 0xffff_ffff, 0x00cf_f300),
      fs: segment(0, 0x3892_a380n, 0, 0),
      gs: NULL_SEGMENT,
    },
    kernelGsBase: kernel.segments.gs.base,
  };
}

/** An application processor that SeaBIOS started and parked: 32-bit protected mode, halted, paging off. */
export function seabiosParked(index = 1): SynthRegisters {
  const data = segment(0x10, 0n, 0xffff_ffff, 0x00cf_9300);
  const zero = resetState(index);
  return {
    ...zero,
    rax: 0xf_49f6n,
    rcx: 0x2ffn,
    rdx: BigInt(index),
    rsp: 0x6c5cn,
    rip: 0xf_d09an,
    rflags: 0x2n,
    segments: {
      es: data,
      cs: segment(0x08, 0n, 0xffff_ffff, 0x00cf_9b00),
      ss: data,
      ds: data,
      fs: data,
      gs: data,
      ldt: segment(0, 0n, 0xffff, 0x8200),
      tr: segment(0, 0n, 0xffff, 0x8b00),
    },
    gdt: { base: 0xf_6180n, limit: 0x37 },
    idt: { base: 0xf_61ben, limit: 0 },
    cr0: 0x11n,
  };
}

/** As after RESET or INIT: CS base 0xffff0000, CR0 0x60000010 (Intel SDM Vol. 3A Table 10-1). */
export function resetState(_index = 0): SynthRegisters {
  const real = segment(0, 0n, 0xffff, 0x9300);
  const none = Object.fromEntries(Object.keys(tagged(0)).map((name) => [name, 0n]));
  return {
    ...(none as Record<GeneralName, bigint>),
    rdx: 0x60fb1n,
    rip: 0xfff0n,
    rflags: 0x2n,
    segments: {
      es: real,
      cs: segment(0xf000, 0xffff_0000n, 0xffff, 0x9b00),
      ss: real,
      ds: real,
      fs: real,
      gs: real,
      ldt: segment(0, 0n, 0xffff, 0x8200),
      tr: segment(0, 0n, 0xffff, 0x8b00),
    },
    gdt: { base: 0n, limit: 0xffff },
    idt: { base: 0n, limit: 0xffff },
    cr0: 0x6000_0010n,
    cr2: 0n,
    cr3: 0n,
    cr4: 0n,
    efer: 0n,
    star: 0n,
    lstar: 0n,
    cstar: 0n,
    fmask: 0n,
    kernelGsBase: 0n,
  };
}

const FOUR_GIB = 0x1_0000_0000;

export interface RamSizes {
  /** Bytes below the PCI hole; at least 64 KiB. Default 96 KiB. */
  readonly below?: number;
  /** Bytes from 4 GiB on. Default 32 KiB; 0 for none. */
  readonly above?: number;
  /** Name of the block: pc.ram, or microvm.ram. */
  readonly idstr?: string;
}

/**
 * Main memory in one block, its first part below the PCI hole and the rest at 4 GiB. The first 64 KiB carry the
 * pattern that the PAM registers leave in a real machine's first MiB: RAM, read-only, RAM, read-only, RAM.
 */
export function mainRam({ below = 0x1_8000, above = 0x8000, idstr = "pc.ram" }: RamSizes = {}): BlockSpec {
  const low = [
    { gpa: 0, offset: 0, size: 0xc000 },
    { gpa: 0xc000, offset: 0xc000, size: 0x2000, readonly: true },
    { gpa: 0xe000, offset: 0xe000, size: 0x1000 },
    { gpa: 0xf000, offset: 0xf000, size: 0x1000, readonly: true },
    { gpa: 0x1_0000, offset: 0x1_0000, size: below - 0x1_0000 },
  ].filter((part) => part.size > 0);
  const high = above === 0 ? [] : [{ gpa: FOUR_GIB, offset: below, size: above }];
  return { idstr, size: below + above, kind: "ram", map: [...low, ...high] };
}

/** Firmware: pc.bios below 4 GiB, and blocks that are mapped nowhere (pc.rom hidden by PAM, fw_cfg files). */
export const firmware = (): BlockSpec[] => [
  { idstr: "pc.bios", size: 0x4000, kind: "rom", map: [{ gpa: FOUR_GIB - 0x4000 }] },
  { idstr: "pc.rom", size: 0x2000, kind: "rom", map: [] },
  { idstr: "/rom@etc/acpi/tables", size: 0x4000, used: 0x1000, kind: "rom", map: [] },
  { idstr: "/rom@etc/acpi/rsdp", size: 0x1000, kind: "rom", map: [] },
];

/** Video memory of the standard VGA at its usual BAR. */
export const vga = (gpa = 0xfd00_0000, size = 0x4000): BlockSpec => ({
  idstr: "0000:00:02.0/vga.vram",
  size,
  kind: "device",
  map: [{ gpa }],
});

/** Two NUMA backends; the second begins where the first ends and is split by the PCI hole. */
export const numaNodes = (hole = 0x8000_0000): BlockSpec[] => [
  { idstr: "mem0", size: 0x8000, kind: "ram", map: [{ gpa: 0 }] },
  {
    idstr: "mem1",
    size: 0xc000,
    kind: "ram",
    map: [
      { gpa: hole - 0x4000, size: 0x4000 },
      { gpa: FOUR_GIB, offset: 0x4000, size: 0x8000 },
    ],
  },
];

/** A hot-plugged DIMM in the device memory area behind 4 GiB. */
export const dimm = (gpa = 0x1_4000_0000, idstr = "dimm0"): BlockSpec => ({
  idstr,
  size: 0x4000,
  kind: "ram",
  map: [{ gpa }],
  deviceMemory: true,
});

/** Blocks that QEMU's own dump leaves out: an NVDIMM, flash in ROMD mode, and a passed-through BAR. */
export const undumped = (): BlockSpec[] => [
  { idstr: "nvdimm0", size: 0x4000, kind: "nonvolatile", map: [{ gpa: 0x1_8000_0000 }], deviceMemory: true },
  { idstr: "system.flash1", size: 0x2000, kind: "rom-device", map: [{ gpa: 0xffb0_0000 }] },
  { idstr: "0000:01:00.0 BAR 0 mmaps[0]", size: 0x2000, kind: "ram-device", map: [{ gpa: 0xfc00_0000 }] },
];
