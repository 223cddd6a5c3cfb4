/**
 * Where the members of QEMU's structures are, per build. Measured on cores of Debian's QEMU 5.2.0, 7.2.22, 10.0.13 and
 * 11.1.3 (x86-64) by following exported symbols, `vcpu_dirty` in the code of kvm_cpu_synchronize_state. "7.2-lab" is a
 * build of 7.2 without CONFIG_PLUGIN and modules. "apx" is 10.0 with the 32 general registers of Intel APX
 * (`regs[CPU_NB_EREGS]`, in 11.1 for real): nobody shipped it, everything behind `regs` moves by 128 bytes.
 * All offsets and sizes in bytes.
 */
export interface QemuLayout {
  readonly name: string;
  /** QOM name of TYPE_MEMORY_REGION. */
  readonly regionType: string;
  /** struct MemoryRegion. Object 0–40, romd_mode 40, ram 41, … dirty_log_mask 47, ram_block 56, owner 64 everywhere. */
  readonly region: {
    readonly instanceSize: number;
    readonly ops: number;
    readonly container: number;
    readonly mappedViaAlias: number | undefined;
    readonly size: number;
    readonly addr: number;
    readonly destructor: number;
    readonly align: number;
    /** terminates; ram_device, enabled and others follow bytewise. */
    readonly terminates: number;
    readonly alias: number;
    readonly aliasOffset: number;
    readonly priority: number;
    readonly subregions: number;
    readonly subregionsLink: number;
    readonly coalesced: number;
    readonly name: number;
  };
  /** struct RAMBlock from ramblock_notifiers (352) on; what is before is the same everywhere. */
  readonly block: {
    readonly cprBlocker: number | undefined;
    readonly fd: number;
    readonly guestMemfd: number | undefined;
    readonly pageSize: number;
  };
  /** Distance between static AddressSpaces; rcu 0, name 16, root 24, current_map 32, listeners 56, link 72. */
  readonly spaceStride: number;
  readonly maxBounceBufferSize: number | undefined;
  /** Distance of the entries of CPUState.cpu_ases: {cpu, as, memory_dispatch, tcg_as_listener}. */
  readonly cpuSpaceStride: number;
  /** HostMemoryBackend.mr. */
  readonly backendRegion: number;
  readonly backendSize: number;
  readonly machineSize: number;
  /** CPUState and X86CPU. */
  readonly cpu: {
    readonly classSize: number;
    readonly instanceSize: number;
    /** cpu_ases; num_ases, as, memory follow. */
    readonly spaces: number;
    /** CPUArchState *env_ptr, gone in 8.2. */
    readonly envPointer: number | undefined;
    /** QTAILQ_ENTRY node. */
    readonly node: number;
    readonly index: number;
    readonly halted: number;
    readonly exceptionIndex: number;
    /** bool vcpu_dirty. */
    readonly dirty: number;
    /** tb_jmp_cache[4096] inside CPUState (before 7.2): a page and more of code pointers. */
    readonly jumpCache: number | undefined;
    /** The software TLB (CPUNegativeOffsetState): mostly all ones. */
    readonly tlb: readonly [start: number, end: number];
    /** CPUX86State. */
    readonly env: number;
  };
  /** CPUX86State; offsets behind `regs` are for 16 registers and move with the rest. */
  readonly env: {
    readonly registerCount: 16 | 32;
    readonly a20Mask: number;
    readonly efer: number;
    readonly star: number;
    /** Value of CC_OP_EFLAGS: "the flags are in cc_src". */
    readonly ccOpEflags: number;
  };
  /** Name of the vCPU list head: `cpus`, or `cpus_queue` since 9.0. */
  readonly cpusSymbol: string;
  /** Whether the executable exports its data (built with modules), and which of it. */
  readonly exports: readonly string[];
  readonly machineTypes: { readonly pc: string; readonly q35: string; readonly microvm: string };
}

const REGION_52 = {
  instanceSize: 0xf0,
  ops: 72,
  container: 88,
  mappedViaAlias: undefined,
  size: 96,
  addr: 112,
  destructor: 120,
  align: 128,
  terminates: 136,
  alias: 144,
  aliasOffset: 152,
  priority: 160,
  subregions: 168,
  subregionsLink: 184,
  coalesced: 200,
  name: 216,
} as const;

/** With `DeviceState *dev` behind the owner (8.1, and the later 7.2 releases). */
const REGION_DEV = {
  instanceSize: 0x110,
  ops: 80,
  container: 96,
  mappedViaAlias: 104,
  size: 112,
  addr: 128,
  destructor: 136,
  align: 144,
  terminates: 152,
  alias: 160,
  aliasOffset: 168,
  priority: 176,
  subregions: 184,
  subregionsLink: 200,
  coalesced: 216,
  name: 232,
} as const;

const QEMU_5_2: QemuLayout = {
  name: "5.2",
  regionType: "qemu:memory-region",
  region: REGION_52,
  block: { cprBlocker: undefined, fd: 360, guestMemfd: undefined, pageSize: 368 },
  spaceStride: 96,
  maxBounceBufferSize: undefined,
  cpuSpaceStride: 200,
  backendRegion: 0x60,
  backendSize: 0x150,
  machineSize: 0x1e0,
  cpu: {
    classSize: 0x230,
    instanceSize: 0xa750,
    spaces: 480,
    envPointer: 512,
    node: 33_312,
    index: 33_432,
    halted: 33_440,
    exceptionIndex: 33_448,
    dirty: 33_452,
    jumpCache: 528,
    tlb: [33_544, 34_408],
    env: 34_912,
  },
  env: { registerCount: 16, a20Mask: 464, efer: 560, star: 4800, ccOpEflags: 1 },
  cpusSymbol: "cpus",
  exports: ["address_space_io", "address_space_memory", "cpus", "current_machine", "e820_table", "ram_list"],
  machineTypes: { pc: "pc-i440fx-5.2-machine", q35: "pc-q35-5.2-machine", microvm: "microvm-machine" },
};

const QEMU_7_2: QemuLayout = {
  name: "7.2-debian",
  regionType: "memory-region",
  region: REGION_DEV,
  block: { cprBlocker: undefined, fd: 360, guestMemfd: undefined, pageSize: 368 },
  spaceStride: 96,
  maxBounceBufferSize: undefined,
  cpuSpaceStride: 216,
  backendRegion: 0x70,
  backendSize: 0x180,
  machineSize: 0x4d0,
  cpu: {
    classSize: 0x198,
    instanceSize: 0x5000,
    spaces: 512,
    envPointer: 544,
    node: 584,
    index: 752,
    halted: 764,
    exceptionIndex: 772,
    dirty: 776,
    jumpCache: undefined,
    tlb: [864, 4880],
    env: 5040,
  },
  env: { registerCount: 16, a20Mask: 504, efer: 600, star: 11_312, ccOpEflags: 1 },
  cpusSymbol: "cpus",
  exports: ["address_space_io", "address_space_memory", "cpus", "current_machine", "e820_table", "ram_list"],
  machineTypes: { pc: "pc-i440fx-7.2-machine", q35: "pc-q35-7.2-machine", microvm: "microvm-machine" },
};

const QEMU_7_2_LAB: QemuLayout = {
  ...QEMU_7_2,
  name: "7.2-lab",
  region: { ...REGION_DEV, ops: 72, container: 88, mappedViaAlias: 96 },
  cpu: {
    ...QEMU_7_2.cpu,
    instanceSize: 0x4fe0,
    index: 728,
    halted: 740,
    exceptionIndex: 748,
    dirty: 752,
    tlb: [832, 4848],
    env: 5008,
  },
  exports: [],
};

const QEMU_10_0: QemuLayout = {
  ...QEMU_7_2,
  name: "10.0",
  block: { cprBlocker: 360, fd: 368, guestMemfd: 384, pageSize: 392 },
  spaceStride: 160,
  maxBounceBufferSize: 88,
  cpuSpaceStride: 208,
  machineSize: 0x740,
  cpu: {
    classSize: 0x1b0,
    instanceSize: 0x6a10,
    spaces: 504,
    envPointer: undefined,
    node: 560,
    index: 704,
    halted: 716,
    exceptionIndex: 720,
    // Since 9.1 with KVM's other members, in front of cpu_index.
    dirty: 684,
    jumpCache: undefined,
    tlb: [824, 11_176],
    env: 11_200,
  },
  env: { registerCount: 16, a20Mask: 504, efer: 600, star: 11_328, ccOpEflags: 0 },
  cpusSymbol: "cpus_queue",
  exports: ["address_space_io", "address_space_memory", "cpus_queue", "current_machine", "ram_list"],
  machineTypes: { pc: "pc-i440fx-10.0-machine", q35: "pc-q35-10.0-machine", microvm: "microvm-machine" },
};

const QEMU_11_1: QemuLayout = {
  ...QEMU_10_0,
  name: "11.1",
  block: { ...QEMU_10_0.block, pageSize: 400 },
  cpu: {
    classSize: 0x1b0,
    instanceSize: 0x8120,
    spaces: 504,
    envPointer: undefined,
    node: 552,
    index: 688,
    halted: 700,
    exceptionIndex: 704,
    dirty: 708,
    jumpCache: undefined,
    tlb: [784, 16_448],
    env: 16_496,
  },
  env: { registerCount: 32, a20Mask: 504, efer: 600, star: 11_296, ccOpEflags: 0 },
  machineTypes: { pc: "pc-i440fx-11.1-machine", q35: "pc-q35-11.1-machine", microvm: "microvm-machine" },
};

const QEMU_APX: QemuLayout = {
  ...QEMU_10_0,
  name: "apx",
  cpu: { ...QEMU_10_0.cpu, instanceSize: 0x6a10 + 128 },
  env: { ...QEMU_10_0.env, registerCount: 32 },
  machineTypes: { pc: "pc-i440fx-10.2-machine", q35: "pc-q35-10.2-machine", microvm: "microvm-machine" },
};

export type LayoutName = "5.2" | "7.2-debian" | "7.2-lab" | "10.0" | "11.1" | "apx";

export const LAYOUTS: Readonly<Record<LayoutName, QemuLayout>> = {
  "5.2": QEMU_5_2,
  "7.2-debian": QEMU_7_2,
  "7.2-lab": QEMU_7_2_LAB,
  "10.0": QEMU_10_0,
  "11.1": QEMU_11_1,
  apx: QEMU_APX,
};
