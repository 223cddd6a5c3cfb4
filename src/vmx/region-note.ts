import { u64, u64big, viewOf } from "../core/bytes.ts";
import { CorruptError, UnsupportedError } from "../core/errors.ts";
import { decodeFpuState, encodeFpuState, type FpuState, XSAVE_SIZE } from "../x86/fpu-state.ts";
import { ENCODED_REGISTERS, type GeneralRegister } from "../x86/state.ts";
import { REGION_SIZE } from "./layout.ts";

/**
 * The notes by which the core of a VMM's process carries its vCPUs' control blocks (docs/formats.md). Zhang Yanfei's
 * plan of 2012 has them as its second step; neither it nor a later patch set says what is in them.
 */

/** Whose control block a note holds: Intel's VMCS, AMD's VMCB. */
export type RegionOwner = "VMCS" | "VMCB";

/**
 * `n_type`, like VMCOREINFO's: crash sorts notes by their type alone, whoever owns them, and 1 is NT_PRSTATUS
 * (`netdump.c` dump_Elf64_Nhdr).
 */
const TYPE = 0;

const VERSION = 1;
/** Size of the least header; a later one may have more fields behind. */
const HEADER_SIZE = 32;
const AT = { version: 0, headerSize: 4, vcpu: 8, flags: 12, address: 16, size: 24 } as const;
/** Fields of a header with KVM's registers. */
const KVM_AT = { vcpu: 32, general: 40, rip: 168, cr2: 176, cr3: 184, efer: 192 } as const;
const KVM_HEADER_SIZE = 200;
/** Behind them x87, SSE and AVX registers: FXSAVE's 512 bytes, or an XSAVE area of the standard form with AVX. */
const FPU_AT = KVM_HEADER_SIZE;
const FPU_HEADER_SIZE = FPU_AT + XSAVE_SIZE;

/** The host wrote all that its processors held of the block back to memory before it was dumped. */
const COMPLETE = 1;
/** The header has KVM's registers; of those that a control block has too, which are newer; and which are known. */
const KVM = { present: 1 << 1, newer: { rsp: 1 << 2, rip: 1 << 3, cr3: 1 << 4 } } as const;
const KVM_KNOWN = { cr2: 1 << 5, cr3: 1 << 6, efer: 1 << 7 } as const;
const FPU = { known: 1 << 8, avx: 1 << 9 } as const;
const NO_ADDRESS = 0xffff_ffff_ffff_ffffn;

/** KVM_MAX_VCPU_IDS of x86: 4096 vCPUs, four numbers for each (Linux `arch/x86/include/asm/kvm_host.h`). */
export const MAX_VCPU = 4 * 4096;

/** What KVM keeps of a vCPU in its own memory: the registers that no control block holds, and newer ones. */
export interface KeptRegisters {
  /** Virtual address of the struct kvm_vcpu in the host's kernel. */
  readonly address: bigint;
  readonly registers: {
    readonly general: Readonly<Record<GeneralRegister, bigint>>;
    readonly rip: bigint;
    /** Which are newer than the control block's. */
    readonly newer: { readonly rsp: boolean; readonly rip: boolean; readonly cr3: boolean };
    readonly cr2: bigint | undefined;
    readonly cr3: bigint | undefined;
    readonly efer: bigint | undefined;
  };
  /** Undefined where a processor had them, or nothing tells. */
  readonly fpu?: FpuState | undefined;
}

export interface RegionNote {
  readonly owner: RegionOwner;
  /** Place of the vCPU in the order in which the VMM made them, from 0: QEMU's cpu_index. Below MAX_VCPU. */
  readonly vcpu: number;
  /** Whether nothing of the block can have been in a processor only; otherwise it is as old as its last write-back. */
  readonly complete: boolean;
  /** Host-physical address the block was at; undefined where that is not known. */
  readonly address: number | undefined;
  /** The block as it lay in memory, 4096 bytes. */
  readonly bytes: Buffer;
  /** Undefined where the host's kernel did not tell them. */
  readonly kept?: KeptRegisters | undefined;
}

/** Whether a note holds a control block, going by its owner. */
export const isRegionNote = ({ name }: { readonly name: string }): boolean =>
  name === "VMCS" || name === "VMCB";

/** @returns owner, type and descriptor of the ELF note */
export function encodeRegionNote(note: RegionNote): {
  readonly name: RegionOwner;
  readonly type: number;
  readonly desc: Buffer;
} {
  const { owner, vcpu, complete, address, bytes, kept } = note;
  const headerSize =
    kept === undefined ? HEADER_SIZE : kept.fpu === undefined ? KVM_HEADER_SIZE : FPU_HEADER_SIZE;
  const header = Buffer.alloc(headerSize);
  header.writeUInt32LE(VERSION, AT.version);
  header.writeUInt32LE(headerSize, AT.headerSize);
  header.writeUInt32LE(vcpu, AT.vcpu);
  header.writeUInt32LE(
    (complete ? COMPLETE : 0) | (kept === undefined ? 0 : encodeKept(header, kept)),
    AT.flags,
  );
  header.writeBigUInt64LE(address === undefined ? NO_ADDRESS : BigInt(address), AT.address);
  header.writeUInt32LE(REGION_SIZE, AT.size);
  return { name: owner, type: TYPE, desc: Buffer.concat([header, bytes], headerSize + REGION_SIZE) };
}

/** Writes KVM's registers behind the fields that every header has. @returns the flags that tell of them */
function encodeKept(header: Buffer, { address, registers, fpu }: KeptRegisters): number {
  const { general, rip, newer } = registers;
  header.writeBigUInt64LE(address, KVM_AT.vcpu);
  for (const [i, name] of ENCODED_REGISTERS.entries()) {
    header.writeBigUInt64LE(general[name], KVM_AT.general + 8 * i);
  }
  header.writeBigUInt64LE(rip, KVM_AT.rip);
  let flags: number = KVM.present;
  for (const name of ["rsp", "rip", "cr3"] as const) if (newer[name]) flags |= KVM.newer[name];
  for (const name of ["cr2", "cr3", "efer"] as const) {
    const value = registers[name];
    if (value === undefined) continue;
    flags |= KVM_KNOWN[name];
    header.writeBigUInt64LE(value, KVM_AT[name]);
  }
  if (fpu !== undefined) {
    flags |= FPU.known | (fpu.extended === undefined ? 0 : FPU.avx);
    encodeFpuState(fpu).copy(header, FPU_AT);
  }
  return flags;
}

function decodeKept(view: DataView, flags: number): KeptRegisters {
  const has = (flag: number) => (flags & flag) !== 0;
  const known = (name: keyof typeof KVM_KNOWN) =>
    has(KVM_KNOWN[name]) ? u64big(view, KVM_AT[name]) : undefined;
  const general = ENCODED_REGISTERS.map((name, i) => [name, u64big(view, KVM_AT.general + 8 * i)]);
  const { rsp, rip, cr3 } = KVM.newer;
  return {
    address: u64big(view, KVM_AT.vcpu),
    registers: {
      general: Object.fromEntries(general) as Record<GeneralRegister, bigint>,
      rip: u64big(view, KVM_AT.rip),
      newer: { rsp: has(rsp), rip: has(rip), cr3: has(cr3) },
      cr2: known("cr2"),
      cr3: known("cr3"),
      efer: known("efer"),
    },
  };
}

/**
 * Reads a note that `isRegionNote` knows. Flags that are not known are ignored, and so is what a longer header or the
 * descriptor's end has more.
 * @throws UnsupportedError when its version is another; CorruptError when it is cut or its header is damaged
 */
export function decodeRegionNote(owner: string, desc: Buffer): RegionNote {
  if (desc.length < HEADER_SIZE) throw new CorruptError("the note of a vCPU ends within its header");
  const view = viewOf(desc);
  const version = view.getUint32(AT.version, true);
  if (version !== VERSION) {
    throw new UnsupportedError(`the note of a vCPU has version ${version}, known is ${VERSION}`);
  }
  const headerSize = view.getUint32(AT.headerSize, true);
  const size = view.getUint32(AT.size, true);
  const vcpu = view.getUint32(AT.vcpu, true);
  if (headerSize < HEADER_SIZE || size !== REGION_SIZE || vcpu >= MAX_VCPU) {
    throw new CorruptError("the header of a vCPU's note is damaged");
  }
  if (headerSize + size > desc.length) throw new CorruptError("the note of a vCPU ends within its region");
  const address = u64(view, AT.address);
  const flags = view.getUint32(AT.flags, true);
  const hasKept = (flags & KVM.present) !== 0 && headerSize >= KVM_HEADER_SIZE;
  const hasFpu = hasKept && (flags & FPU.known) !== 0 && headerSize >= FPU_HEADER_SIZE;
  const fpu = hasFpu
    ? decodeFpuState(desc.subarray(FPU_AT, FPU_HEADER_SIZE), (flags & FPU.avx) !== 0)
    : undefined;
  return {
    owner: owner === "VMCB" ? "VMCB" : "VMCS",
    vcpu,
    complete: (flags & COMPLETE) !== 0,
    address: Number.isFinite(address) ? address : undefined,
    bytes: Buffer.from(desc.subarray(headerSize, headerSize + size)),
    ...(hasKept ? { kept: { ...decodeKept(view, flags), ...(fpu === undefined ? {} : { fpu }) } } : {}),
  };
}
