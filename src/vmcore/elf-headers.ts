import { indexAtOrAbove } from "../core/ranges.ts";
import { EM_386, EM_X86_64, ET_CORE, PF_R, PF_W, PF_X, PT_LOAD, PT_NOTE } from "../elf/constants.ts";
import { encodeElfHeaders } from "../elf/encode.ts";
import type { ProgramHeader } from "../elf/header.ts";
import type { Guest } from "../guest/guest.ts";
import type { KernelView } from "./kernel-view.ts";
import { encodeNotes } from "./notes.ts";
import { MAX_IMAGE_LOADS, type VmcorePlan } from "./plan.ts";

/**
 * p_align of every PT_LOAD is 0, as in /proc/vmcore: crash takes a page-aligned first PT_LOAD with any other value
 * for an old netdump, which has no KASLR (crash `netdump.c` is_netdump).
 */
const LOAD_ALIGN = 0;

/**
 * Header, program headers and notes in the one layout that crash, drgn, makedumpfile, vmcore-dmesg and gdb all open:
 * no section headers, one PT_NOTE and it first, PT_LOADs ascending by p_paddr with direct-map p_vaddr, then the
 * kernel image at its own virtual address.
 */
export function encodeVmcoreHeader(plan: VmcorePlan, guest: Guest, kernel: KernelView): Buffer {
  const target = kernel.target ?? { machine: kernel.is32Bit === true ? EM_386 : EM_X86_64 };
  const notes = encodeNotes(guest, kernel).bytes;
  const programs: ProgramHeader[] = [
    {
      type: PT_NOTE,
      flags: 0,
      offset: plan.notesOffset,
      vaddr: 0n,
      paddr: 0,
      filesz: notes.length,
      memsz: notes.length,
      align: 4,
    },
  ];
  for (const { start, end, offset } of plan.loads) {
    programs.push({
      type: PT_LOAD,
      flags: PF_R | PF_W | PF_X,
      offset,
      vaddr: BigInt(start) + (kernel.pageOffset ?? 0n),
      paddr: start,
      filesz: end - start,
      memsz: end - start,
      align: LOAD_ALIGN,
    });
  }
  programs.push(...imageHeaders(plan, kernel.image));
  const header = Buffer.alloc(plan.notesOffset + notes.length);
  encodeElfHeaders(ET_CORE, target, programs).copy(header);
  notes.copy(header, plan.notesOffset);
  return header;
}

/** One PT_LOAD for each load that the image reaches into, over the same bytes of the file. */
function imageHeaders({ loads }: VmcorePlan, image: KernelView["image"]): ProgramHeader[] {
  if (image === undefined) return [];
  const end = image.physical + image.size;
  const headers: ProgramHeader[] = [];
  for (let i = indexAtOrAbove(loads, image.physical); i < loads.length; i++) {
    const load = loads[i]!;
    if (load.start >= end || headers.length === MAX_IMAGE_LOADS) break;
    const from = Math.max(load.start, image.physical);
    const size = Math.min(load.end, end) - from;
    headers.push({
      type: PT_LOAD,
      flags: PF_R | PF_W | PF_X,
      offset: load.offset + (from - load.start),
      vaddr: image.virtual + BigInt(from - image.physical),
      paddr: from,
      filesz: size,
      memsz: size,
      align: LOAD_ALIGN,
    });
  }
  return headers;
}
