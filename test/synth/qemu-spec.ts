import type { ElfLayout, ElfSpec } from "./elf.ts";
import type { Target } from "./pattern.ts";
import type { CpuPlan } from "./qemu-cpu.ts";
import type { Decoy } from "./qemu-decoys.ts";
import type { LayoutName, QemuLayout } from "./qemu-layouts.ts";
import type { MachineName } from "./qemu-machines.ts";
import type { FlatRangePlan, ObjectWriter } from "./qemu-objects.ts";
import type { SynthRegisters } from "./qemu-presets.ts";
import type { Heap, SyntheticProcess } from "./qemu-process.ts";
import type { CoreFlavour, NamedSegment } from "./qemu-segments.ts";

/** What `buildQemuCore` takes and gives. */

export type BlockKind = "ram" | "rom" | "device" | "nonvolatile" | "rom-device" | "ram-device";

/** Part of a block as the guest sees it: one FlatRange. */
export interface BlockMap {
  readonly gpa: number;
  /** Offset in the block; default 0. */
  readonly offset?: number;
  /** Default: the rest of the block. */
  readonly size?: number;
  readonly readonly?: boolean;
}

/** One PT_LOAD of a block. */
export interface BlockPiece {
  readonly size: number;
  /** Bytes in the file; default all. 0 is what the kernel writes for what it leaves out. */
  readonly filesz?: number;
  /** No PT_LOAD at all. */
  readonly absent?: boolean;
}

export interface BlockSpec {
  readonly idstr: string;
  /** max_length in bytes, a multiple of 4096. */
  readonly size: number;
  /** used_length of a resizeable block; default `size`. */
  readonly used?: number;
  readonly kind: BlockKind;
  /** Where the guest sees it; empty: nowhere. */
  readonly map: readonly BlockMap[];
  /** Default: a pattern seeded by the name, every fourth page zero. */
  readonly contents?: Uint8Array;
  /** Single pages over the default contents, by page number in the block. */
  readonly pages?: Readonly<Record<number, Uint8Array>>;
  /** QOM type of the owner; null: none. Default by kind. */
  readonly owner?: string | null;
  readonly shared?: boolean;
  /** Backed by a guest_memfd too (RAM_GUEST_MEMFD). */
  readonly guestMemfd?: boolean;
  /** Page size of the backing, e.g. 2 MiB for hugetlbfs. Default 4096. */
  readonly pageSize?: number;
  /** Name in NT_FILE: "/memfd:memory-backend-memfd (deleted)", "/dev/zero (deleted)", a path. */
  readonly file?: string;
  /** Default true. False: madvise(MADV_DONTDUMP) or coredump_filter kept it out. */
  readonly dump?: boolean;
  /** HostMemoryBackend.dump. Default: false when `dump` is and no file or huge page makes it the filter's doing. */
  readonly backendDump?: boolean;
  /** Offsets at which another PT_LOAD begins. */
  readonly split?: readonly number[];
  /** Exact PT_LOADs; overrides `dump` and `split`. */
  readonly pieces?: readonly BlockPiece[];
  /** A hot-pluggable DIMM: shown by the device-memory region instead of the main RAM. */
  readonly deviceMemory?: boolean;
  /** Lies directly behind the previous block, in the same PT_LOAD. */
  readonly joinPrevious?: boolean;
  /** Address in the process; default 0x7f00_0000_0000 + n · 0x1000_0000. */
  readonly host?: number;
}

interface VcpuSpec {
  /** Default: a Linux kernel in long mode. */
  readonly registers?: SynthRegisters;
  /** QOM type. Default "qemu64-x86_64-cpu", under KVM "host-x86_64-cpu". */
  readonly type?: string;
  readonly halted?: boolean;
  /** CPUState.vcpu_dirty: QEMU fetched the registers from KVM. Default false; TCG never sets it. */
  readonly dirty?: boolean;
  /** The arithmetic flags are in cc_src and df, as inside a TCG translation block. */
  readonly lazyFlags?: boolean;
}

export interface QemuSpec {
  /** Default "7.2-debian". */
  readonly layout?: LayoutName | QemuLayout;
  /** Default "pc". */
  readonly machine?: MachineName;
  /** In order of creation. Default: `mainRam()` and `firmware()`. */
  readonly blocks?: readonly BlockSpec[];
  /** Default: one in long mode. */
  readonly vcpus?: readonly VcpuSpec[];
  /** Default "tcg". Xen keeps the registers as KVM does, and maps nothing that shows it. */
  readonly accel?: "tcg" | "kvm" | "xen";
  /** Who wrote the core. Default "kernel". */
  readonly flavour?: CoreFlavour;
  /** Path of the executable. Default "/usr/bin/qemu-system-x86_64". */
  readonly exe?: string;
  readonly argv?: readonly string[];
  /** Default `LITTER`: what every long-lived heap has. */
  readonly decoys?: readonly Decoy[];
  /**
   * Whether the tree of memory regions that the FlatView is rendered from is there and agrees with `blocks`. Default:
   * unless `flatRanges` changes the view.
   */
  readonly regionTree?: boolean;
  /** Changes the FlatRanges of the system view before they are written. */
  readonly flatRanges?: (ranges: FlatRangePlan[]) => readonly FlatRangePlan[];
  /** Changes the finished process memory before it is dumped. */
  readonly patch?: (world: World) => void;
  /** Drops, reorders or changes the PT_LOADs. */
  readonly arrange?: (segments: NamedSegment[]) => readonly NamedSegment[];
  /** Drops, reorders or changes the notes. */
  readonly notes?: (notes: Buffer[]) => readonly Buffer[];
  /** Everything else about the file: PN_XNUM, header overrides, size … */
  readonly elf?: Omit<ElfSpec, "segments">;
}

/** What decoys and patches may touch. */
export interface World {
  readonly process: SyntheticProcess;
  readonly layout: QemuLayout;
  readonly writer: ObjectWriter;
  readonly heap: Heap;
  readonly arena: Heap;
  /**
   * Addresses by name: address_space_memory, address_space_io, ram_list, cpus, current_machine, flatview, flatranges,
   * system, empty_view, exe, and per item block:NAME, region:NAME, cpu:N, env:N, cpu_ases:N, cpu-memory-N.
   */
  readonly addresses: Map<string, number>;
  readonly ranges: readonly FlatRangePlan[];
  readonly cpuPlans: readonly CpuPlan[];
  /** Contents of the blocks by name; changes are seen by the core and the truth. */
  readonly contents: ReadonlyMap<string, Buffer>;
}

export interface Span {
  readonly start: number;
  readonly end: number;
}

export interface TruthBlock {
  readonly idstr: string;
  readonly kind: BlockKind;
  /** Of the RAMBlock structure. */
  readonly address: number;
  readonly regionAddress: number;
  readonly host: number;
  readonly offset: number;
  readonly usedLength: number;
  readonly maxLength: number;
  readonly pageSize: number;
  readonly shared: boolean;
  readonly owner: string | undefined;
  /** All of max_length, whether in the core or not. */
  readonly bytes: Buffer;
  /** Offsets whose bytes are in the core. */
  readonly present: readonly Span[];
}

/** One FlatRange with a RAMBlock behind it. */
export interface TruthRange {
  readonly start: number;
  readonly end: number;
  readonly idstr: string;
  readonly kind: BlockKind;
  readonly readonly: boolean;
  readonly blockOffset: number;
  /** What the guest sees there, whether in the core or not. */
  readonly bytes: Buffer;
  /** Guest-physical addresses whose bytes are in the core. */
  readonly present: readonly Span[];
}

interface TruthVcpu {
  readonly index: number;
  readonly type: string;
  readonly cpuAddress: number;
  readonly envAddress: number;
  readonly registers: SynthRegisters;
  readonly halted: boolean;
  readonly dirty: boolean;
}

interface QemuTruth {
  readonly layout: QemuLayout;
  readonly machineType: string;
  readonly accel: "tcg" | "kvm" | "xen" | "xen";
  readonly exe: {
    readonly path: string;
    readonly base: number;
    readonly end: number;
    readonly buildId: string;
  };
  readonly argv: readonly string[];
  readonly pid: number;
  /** In the order of ram_list: largest first. */
  readonly blocks: readonly TruthBlock[];
  /** Ascending; every FlatRange of the system view that has a block. */
  readonly ranges: readonly TruthRange[];
  readonly vcpus: readonly TruthVcpu[];
  readonly addresses: ReadonlyMap<string, number>;
  readonly segments: readonly NamedSegment[];
  readonly elf: ElfLayout;
  /** Words worth damaging, by place in the file. */
  readonly targets: readonly Target[];
  /** File offsets at which something begins or ends, ascending. */
  readonly boundaries: readonly number[];
  /** Offset in the file of a process address; undefined when it is not in the core. */
  fileOffset(address: number): number | undefined;
}

export interface QemuCore {
  readonly core: Buffer;
  readonly truth: QemuTruth;
  /** What `core` was built from, to build it once more with changes, or with `writeElf`. */
  readonly file: ElfSpec & { readonly segments: readonly NamedSegment[] };
}
