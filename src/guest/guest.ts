import type { PhysicalMemory } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";
import type { Note } from "../elf/notes.ts";
import type { FpuState } from "../x86/fpu-state.ts";
import type { X86State } from "../x86/state.ts";

/** A guest, whoever found it: what a vmcore is written from. */
export interface Guest {
  readonly memory: PhysicalMemory;
  /** Every range of guest-physical memory, ascending and disjoint. */
  readonly ranges: readonly GuestRange[];
  readonly vcpus: readonly Vcpu[];
  /** Of the dump that it is taken from as it is: they are carried over, but for VMCOREINFO, which goes last. */
  readonly notes?: readonly Note[];
}

/** A range of guest-physical memory and where it came from. */
export interface GuestRange extends Range {
  readonly kind: "ram" | "rom" | "device" | "nonvolatile";
  /** What holds it, e.g. the RAMBlock "pc.ram", and the offset of `start` in it. */
  readonly source: string;
  readonly sourceOffset: number;
}

/** How far a register set can be believed; `partly-stale`: but for the registers that `sources` calls stale. */
export type Trust = "current" | "partly-stale" | "may-be-stale";

/** Registers beyond those of X86State; undefined where the source does not hold them. */
export type SystemRegisters = Readonly<Partial<Record<SystemRegister, bigint | undefined>>>;

type SystemRegister =
  | ("cr8" | "xcr0" | "dr0" | "dr1" | "dr2" | "dr3" | "dr6" | "dr7")
  | ("star" | "lstar" | "cstar" | "syscallMask" | "tscAux");

export interface Vcpu {
  readonly index: number;
  readonly state: X86State;
  /** Where the registers were read, e.g. "QEMU CPUX86State at 0x56426e06a980". */
  readonly source: string;
  readonly trust: Trust;
  /** Waiting in HLT; undefined where the source does not tell. */
  readonly halted: boolean | undefined;
  /** Register → what it was taken from, where that differs from register to register. */
  readonly sources?: Readonly<Record<string, string>>;
  readonly system?: SystemRegisters;
  /** x87, SSE and AVX registers; undefined where the source does not hold them. */
  readonly fpu?: FpuState;
  /** What may make a register differ from the guest's own, a sentence each. */
  readonly caveats?: readonly string[];
}
