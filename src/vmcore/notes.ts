import { viewOf } from "../core/bytes.ts";
import { NT_FPREGSET, NT_PRSTATUS, NT_X86_XSTATE } from "../elf/constants.ts";
import {
  PRSTATUS_FPVALID,
  PRSTATUS_PID,
  PRSTATUS_REGS,
  PRSTATUS_SIZE,
  USER_REGS,
  type UserRegister,
} from "../elf/core-notes.ts";
import { encodeNote } from "../elf/encode.ts";
import type { Note } from "../elf/notes.ts";
import type { Guest, Vcpu } from "../guest/guest.ts";
import { XSAVE_SIZE } from "../x86/fpu-state.ts";
import { encodeQemuCpuState, QEMU_CPU_STATE_SIZE } from "../x86/qemu-cpu-state.ts";
import type { X86State } from "../x86/state.ts";
import type { KernelView } from "./kernel-view.ts";

/** user_fpregs_struct. */
const FPREGSET_SIZE = 512;

/** The notes have no way to say that a register is not known; the report lists those that are not. */
const UNKNOWN = 0n;

/** Notes of another dump as they are, but for its VMCOREINFO. */
export const encodeCarried = (notes: readonly Note[], bigEndian?: boolean): Buffer =>
  Buffer.concat(
    notes
      .filter(({ name }) => name !== "VMCOREINFO")
      .map(({ name, type, desc }) => encodeNote(name, type, desc, bigEndian)),
  );

/**
 * NT_PRSTATUS of a vCPU as QEMU's dump-guest-memory writes it (`target/i386/arch_dump.c`): everything zero but
 * pr_pid = index + 1 and the user registers; where the FPU is known pr_fpvalid too, and notes of it follow as in the
 * core of a process.
 */
export function encodePrstatus({ index, state, fpu }: Pick<Vcpu, "index" | "state" | "fpu">): Buffer {
  const desc = Buffer.alloc(PRSTATUS_SIZE);
  const view = viewOf(desc);
  const values = userRegisters(state);
  view.setInt32(PRSTATUS_PID, index + 1, true);
  for (const [i, name] of USER_REGS.entries()) {
    view.setBigUint64(PRSTATUS_REGS + 8 * i, values[name] ?? UNKNOWN, true);
  }
  if (fpu === undefined) return encodeNote("CORE", NT_PRSTATUS, desc);
  view.setInt32(PRSTATUS_FPVALID, 1, true);
  const { legacy, extended } = fpu;
  return Buffer.concat([
    encodeNote("CORE", NT_PRSTATUS, desc),
    encodeNote("CORE", NT_FPREGSET, legacy),
    ...(extended === undefined ? [] : [encodeNote("LINUX", NT_X86_XSTATE, extended)]),
  ]);
}

function userRegisters(state: X86State): Record<UserRegister, bigint | undefined> {
  const { segments, ...registers } = state;
  const selector = (name: "cs" | "ss" | "ds" | "es" | "fs" | "gs") => BigInt(segments[name].selector);
  return {
    ...registers,
    orig_rax: 0n,
    cs: selector("cs"),
    ss: selector("ss"),
    ds: selector("ds"),
    es: selector("es"),
    fs: selector("fs"),
    gs: selector("gs"),
    fs_base: segments.fs.base,
    gs_base: segments.gs.base,
  };
}

/** struct elf_prstatus of i386: pr_pid at 24, 17 words of user_regs_struct at 72 (Linux `include/linux/elfcore.h`). */
const PRSTATUS_32_SIZE = 144;
const PRSTATUS_32_PID = 24;
const PRSTATUS_32_REGS = 72;

/** NT_PRSTATUS of a vCPU of a 32-bit guest, as QEMU's dump-guest-memory writes it. */
export function encodePrstatus32({ index, state }: Pick<Vcpu, "index" | "state">): Buffer {
  const { rbx, rcx, rdx, rsi, rdi, rbp, rax, rip, rflags, rsp, segments } = state;
  const { ds, es, fs, gs, cs, ss } = segments;
  const selector = (segment: { readonly selector: number }) => BigInt(segment.selector);
  const values = [
    ...[rbx, rcx, rdx, rsi, rdi, rbp, rax],
    ...[ds, es, fs, gs].map(selector),
    0n, // orig_eax
    ...[rip, selector(cs), rflags, rsp, selector(ss)],
  ];
  const desc = Buffer.alloc(PRSTATUS_32_SIZE);
  desc.writeInt32LE(index + 1, PRSTATUS_32_PID);
  for (const [i, value] of values.entries()) {
    desc.writeUInt32LE(Number(BigInt.asUintN(32, value ?? UNKNOWN)), PRSTATUS_32_REGS + 4 * i);
  }
  return encodeNote("CORE", NT_PRSTATUS, desc);
}

/** The note that tells crash and elf2dmp that a hypervisor made the dump, with the system registers. */
export const encodeQemuNote = (state: X86State): Buffer => encodeNote("QEMU", 0, encodeQemuCpuState(state));

export const encodeVmcoreinfo = (text: Buffer, bigEndian?: boolean): Buffer =>
  encodeNote("VMCOREINFO", 0, text, bigEndian);

/** Where the text begins in what `encodeVmcoreinfo` returns: behind the header and the padded name. */
export const VMCOREINFO_TEXT_AT = 24;

/** Sizes of the notes of one vCPU: header 12, name padded, descriptor. */
export const VCPU_NOTES_SIZE =
  20 + PRSTATUS_SIZE + 20 + FPREGSET_SIZE + 20 + XSAVE_SIZE + 20 + QEMU_CPU_STATE_SIZE;
/** The text is at most one page of the guest's kernel, 64 KiB on the largest; the note has 24 bytes in front. */
export const VMCOREINFO_NOTE_LIMIT = VMCOREINFO_TEXT_AT + 65_536;

/** All notes, in the order of the field: processors, QEMU's of them, VMCOREINFO last. */
export function encodeNotes({ vcpus, notes: carried }: Guest, kernel: KernelView) {
  const others = Buffer.concat([
    encodeCarried(carried ?? [], kernel.target?.bigEndian),
    ...vcpus.map((vcpu) => (kernel.is32Bit === true ? encodePrstatus32(vcpu) : encodePrstatus(vcpu))),
    ...vcpus.map((vcpu) => encodeQemuNote(vcpu.state)),
  ]);
  const text = kernel.vmcoreinfo;
  const bytes =
    text === undefined ? others : Buffer.concat([others, encodeVmcoreinfo(text, kernel.target?.bigEndian)]);
  const vmcoreinfo = {
    vmcoreinfoAt: others.length + VMCOREINFO_TEXT_AT,
    vmcoreinfoSize: text?.length ?? 0,
  };
  return { bytes, vmcoreinfo };
}
