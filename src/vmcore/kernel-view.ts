import type { ElfTarget } from "../elf/encode.ts";

/** What the headers say of the kernel inside; all of it is known only once the memory has been read. */
export interface KernelView {
  /** Whether the guest runs a 32-bit kernel: tools then want EM_386 and its registers. */
  readonly is32Bit?: boolean;
  /** Of a machine that is no x86; its notes are those of its dump. */
  readonly target?: ElfTarget | undefined;
  /** Text of the VMCOREINFO note, at most 64 KiB. */
  readonly vmcoreinfo: Buffer | undefined;
  /** Virtual address of physical address 0 in the direct map; undefined writes p_vaddr = p_paddr. */
  readonly pageOffset: bigint | undefined;
  /** The six fields of struct new_utsname in order; "" what is not known. */
  readonly utsname?: readonly string[];
  /** When it crashed, in seconds since 1970. */
  readonly crashTime?: number | undefined;
  /** x86_64: physical − (virtual − 0xffffffff80000000) within the image. */
  readonly physBase?: bigint | undefined;
  /** Where the kernel image is mapped; it gets a PT_LOAD of its own over the same bytes. */
  readonly image: { readonly virtual: bigint; readonly physical: number; readonly size: number } | undefined;
}
