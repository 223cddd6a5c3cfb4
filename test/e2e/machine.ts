import type { VmwareCpu } from "../synth/vmware.ts";
import { VMWARE_GPREGS } from "../synth/vmware.ts";
import type { VmcoreFile } from "./vmcore-file.ts";

/** Order of QEMUCPUState (QEMU `target/i386/arch_dump.c`). */
const GENERAL = [
  ...(["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"] as const),
  ...(["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"] as const),
];
const SEGMENTS = ["cs", "ds", "es", "fs", "gs", "ss", "ldt", "tr", "gdt", "idt"] as const;

/** Registers of the notes that QEMU writes, by vCPU. */
export function qemuCpus(file: VmcoreFile) {
  return file.named("QEMU").map(({ desc }) => {
    const word = (index: number) => desc.readBigUInt64LE(8 + 8 * index);
    const segment = (name: (typeof SEGMENTS)[number]) => {
      const at = 152 + 24 * SEGMENTS.indexOf(name);
      return {
        selector: desc.readUInt32LE(at),
        limit: desc.readUInt32LE(at + 4),
        base: desc.readBigUInt64LE(at + 16),
      };
    };
    return {
      general: Object.fromEntries(
        VMWARE_GPREGS.map((name) => [name, word(GENERAL.indexOf(name))]),
      ) as VmwareCpu["general"],
      rip: word(16),
      rflags: word(17),
      segments: Object.fromEntries(SEGMENTS.map((name) => [name, segment(name)])) as Record<
        (typeof SEGMENTS)[number],
        ReturnType<typeof segment>
      >,
      cr: Array.from({ length: 5 }, (_, i) => desc.readBigUInt64LE(392 + 8 * i)),
      kernelGsBase: desc.length >= 440 ? desc.readBigUInt64LE(432) : 0n,
    };
  });
}

/** All that a vmcore has of physical memory in [start, end), zeros where it has nothing. */
export function memoryOf(file: VmcoreFile, start: number, end: number): Buffer {
  const bytes = Buffer.alloc(end - start);
  for (const { paddr, filesz, offset } of file.loads) {
    const [from, to] = [Math.max(start, paddr), Math.min(end, paddr + filesz)];
    if (from < to) file.read(bytes.subarray(from - start, to - start), offset + from - paddr);
  }
  return bytes;
}
