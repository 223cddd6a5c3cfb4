import { EM_ARM, EM_PPC, EM_X86_64 } from "../elf/constants.ts";
import type { ElfTarget } from "../elf/encode.ts";
import type { VmcorePlan } from "./plan.ts";

/** What crash takes in 32-bit ELF files only; i386 it takes in 64-bit ones too (crash `netdump.c` is_netdump). */
const ELF32_MACHINES: readonly number[] = [EM_ARM, EM_PPC];
const ELF32_LIMIT = 2 ** 32;

/**
 * The kind of ELF file for the dump of a machine: 64-bit, as QEMU and kexec write it for 32-bit machines with much
 * memory, but where only 32-bit files are read and it fits into one. Undefined for x86-64.
 */
export function elfTargetOf(
  { machine, bigEndian = false }: { readonly machine: number; readonly bigEndian?: boolean },
  { size, loads }: VmcorePlan,
): ElfTarget | undefined {
  if (machine === EM_X86_64) return undefined;
  const fits = size < ELF32_LIMIT && (loads.at(-1)?.end ?? 0) <= ELF32_LIMIT;
  return { machine, bits: fits && ELF32_MACHINES.includes(machine) ? 32 : 64, bigEndian };
}
