import { ET_CORE, NT_AUXV, NT_PRPSINFO, PT_LOAD } from "../elf/constants.ts";
import type { ElfFile, ProgramHeader } from "../elf/header.ts";
import type { Note } from "../elf/notes.ts";

/** What an ELF file is to us. */
export type ElfKind = "process-core" | "vmcore" | "other";

/**
 * A vmcore of any maker has VMCOREINFO or QEMU notes, or physical addresses, or memory at 0, where no process has any:
 * QEMU's dumps of s390x and ppc64 have one segment, from there on. A process core has NT_PRPSINFO or
 * NT_AUXV, but so has a copy of /proc/kcore (`fs/proc/kcore.c`), next to VMCOREINFO.
 */
export function elfKind(elf: ElfFile, notes: readonly Note[]): ElfKind {
  if (elf.header.type !== ET_CORE) return "other";
  if (notes.some(({ name }) => name === "VMCOREINFO" || name === "QEMU")) return "vmcore";
  const isProcess = notes.some(
    ({ name, type }) => name === "CORE" && (type === NT_PRPSINFO || type === NT_AUXV),
  );
  if (isProcess) return "process-core";
  return elf.programs.some(isPhysical) ? "vmcore" : "process-core";
}

/** Whether a segment shows that it is of a machine's memory. */
export const isPhysical = ({ type, paddr, vaddr, memsz }: ProgramHeader): boolean =>
  type === PT_LOAD && (paddr > 0 || (vaddr === 0n && memsz > 0));
