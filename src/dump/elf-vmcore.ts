import type { ByteSource } from "../core/memory.ts";
import { PT_LOAD } from "../elf/constants.ts";
import type { ElfFile } from "../elf/header.ts";
import { SegmentMemory } from "./segment-memory.ts";

/**
 * Physical memory of an ELF vmcore: /proc/vmcore, makedumpfile -E, QEMU's dump-guest-memory, or our own. Aliases of
 * the same memory (the kernel image beside the direct map) collapse. What p_filesz leaves out of p_memsz was
 * *excluded* by whoever filtered the dump (makedumpfile -E -d); what the file ends before is *absent*; what another
 * segment has is neither. /proc/vmcore has ranges that begin or end inside a page.
 */
export class ElfVmcore extends SegmentMemory {
  constructor(source: ByteSource, elf: ElfFile) {
    super(
      source,
      elf.programs.filter(({ type }) => type === PT_LOAD),
    );
  }
}
