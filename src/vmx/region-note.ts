import { u64, viewOf } from "../core/bytes.ts";
import { CorruptError, UnsupportedError } from "../core/errors.ts";
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
/** Size of the header as it is written; a later one may have more fields behind. */
const HEADER_SIZE = 32;
const AT = { version: 0, headerSize: 4, vcpu: 8, flags: 12, address: 16, size: 24 } as const;

/** The host wrote all that its processors held of the block back to memory before it was dumped. */
const COMPLETE = 1;
const NO_ADDRESS = 0xffff_ffff_ffff_ffffn;

/** KVM_MAX_VCPU_IDS of x86: 4096 vCPUs, four numbers for each (Linux `arch/x86/include/asm/kvm_host.h`). */
export const MAX_VCPU = 4 * 4096;

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
  const { owner, vcpu, complete, address, bytes } = note;
  const header = Buffer.alloc(HEADER_SIZE);
  header.writeUInt32LE(VERSION, AT.version);
  header.writeUInt32LE(HEADER_SIZE, AT.headerSize);
  header.writeUInt32LE(vcpu, AT.vcpu);
  header.writeUInt32LE(complete ? COMPLETE : 0, AT.flags);
  header.writeBigUInt64LE(address === undefined ? NO_ADDRESS : BigInt(address), AT.address);
  header.writeUInt32LE(REGION_SIZE, AT.size);
  return { name: owner, type: TYPE, desc: Buffer.concat([header, bytes], HEADER_SIZE + REGION_SIZE) };
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
  return {
    owner: owner === "VMCB" ? "VMCB" : "VMCS",
    vcpu,
    complete: (view.getUint32(AT.flags, true) & COMPLETE) !== 0,
    address: Number.isFinite(address) ? address : undefined,
    bytes: Buffer.from(desc.subarray(headerSize, headerSize + size)),
  };
}
