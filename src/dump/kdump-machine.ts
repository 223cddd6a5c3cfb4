import { UnsupportedError } from "../core/errors.ts";
import { printable } from "../core/text.ts";
import {
  EM_386,
  EM_AARCH64,
  EM_ARM,
  EM_IA_64,
  EM_LOONGARCH,
  EM_MIPS,
  EM_PPC,
  EM_PPC64,
  EM_RISCV,
  EM_S390,
  EM_SPARCV9,
  EM_X86_64,
  NT_PRSTATUS,
} from "../elf/constants.ts";
import type { Note } from "../elf/notes.ts";
import type { KdumpHeader } from "./kdump-header.ts";
import type { Layout } from "./kdump-layouts.ts";

interface Named extends Partial<Layout> {
  /** Of `uname -m`, in small letters. */
  readonly name: RegExp;
  readonly machine: number;
}

/**
 * Machines by `uname -m`, or by what QEMU writes for it (ELF_MACHINE_UNAME: "S390X", "ppc64" for either byte order),
 * and the layout of their headers where there is one only.
 */
const MACHINES: readonly Named[] = [
  { name: /^x86_64$/, machine: EM_X86_64, littleEndian: true },
  { name: /^i[3-6]86$/, machine: EM_386, littleEndian: true },
  { name: /^(aarch64|arm64)$/, machine: EM_AARCH64, bits: 64, littleEndian: true },
  { name: /^aarch64_be$/, machine: EM_AARCH64, bits: 64, littleEndian: false },
  { name: /^arm.*b$/, machine: EM_ARM, bits: 32, littleEndian: false },
  { name: /^arm/, machine: EM_ARM, bits: 32, littleEndian: true },
  { name: /^ppc64le$/, machine: EM_PPC64, bits: 64, littleEndian: true },
  { name: /^ppc64$/, machine: EM_PPC64, bits: 64 },
  { name: /^ppc$/, machine: EM_PPC, bits: 32, littleEndian: false },
  { name: /^s390x$/, machine: EM_S390, bits: 64, littleEndian: false },
  { name: /^s390$/, machine: EM_S390, bits: 32, littleEndian: false },
  { name: /^riscv/, machine: EM_RISCV, littleEndian: true },
  { name: /^loongarch/, machine: EM_LOONGARCH, littleEndian: true },
  { name: /^mips64/, machine: EM_MIPS, bits: 64 },
  { name: /^mips/, machine: EM_MIPS, bits: 32 },
  { name: /^ia64$/, machine: EM_IA_64, bits: 64, littleEndian: true },
  { name: /^sparc64$/, machine: EM_SPARCV9, bits: 64, littleEndian: false },
];

/** QEMU has no name for some machines. */
const isUnknown = (name: string): boolean => name === "" || name === "Unknown";

const named = (name: string): Named | undefined =>
  MACHINES.find((machine) => machine.name.test(name.toLowerCase()));

/** What the headers of a machine of that name are likely to look like. */
export const likelyLayout = (name: string): Partial<Layout> => named(name) ?? { littleEndian: true };

/**
 * ELF's e_machine of the machine that was dumped. Where it has no name, the size of its processors' registers tells
 * it, and without registers it is x86. QEMU calls a guest outside long mode what its processors can do, "x86_64"; its
 * registers, or a 32-bit header, show what it is.
 * @throws UnsupportedError for a name that is not known
 */
export function machineOf(name: string, layout: Layout, notes: readonly Note[]): number {
  if (isUnknown(name)) return machineByRegisters(layout, notes);
  const machine = named(name)?.machine;
  if (machine === undefined) {
    throw new UnsupportedError(`a dump of a machine that is not known, "${printable(name)}"`, {
      hint: "crash and makedumpfile of that machine read it",
    });
  }
  const isOld = layout.bits === 32 || prstatusSize(notes) === PRSTATUS_386;
  return machine === EM_X86_64 && isOld ? EM_386 : machine;
}

/**
 * Physical address of page frame 0. On ARM makedumpfile counts them from the kernel's first page, as crash does
 * (`diskdump.c` paddr_to_pfn); QEMU, which knows no system's name, from 0.
 */
export const baseOf = (
  { system, physBase, blockSize }: Pick<KdumpHeader, "system" | "physBase" | "blockSize">,
  machine: number,
): number => (machine === EM_ARM && system !== "" ? physBase - (physBase % blockSize) : 0);

const PRSTATUS_386 = 144;

const prstatusSize = (notes: readonly Note[]): number | undefined =>
  notes.find(({ name, type }) => name === "CORE" && type === NT_PRSTATUS)?.desc.length;

/** struct elf_prstatus, by its size in bytes: 112, or 72 on 32-bit machines, then registers, pr_fpvalid and padding. */
const BY_PRSTATUS: Readonly<Record<string, readonly (readonly [size: number, machine: number])[]>> = {
  "64 little": [
    [392, EM_AARCH64],
    [504, EM_PPC64],
    [376, EM_RISCV],
    [480, EM_LOONGARCH],
    [PRSTATUS_386, EM_386],
    [336, EM_X86_64],
  ],
  "64 big": [
    [504, EM_PPC64],
    [336, EM_S390],
  ],
  "32 little": [
    [148, EM_ARM],
    [PRSTATUS_386, EM_386],
  ],
  "32 big": [[268, EM_PPC]],
};

function machineByRegisters({ bits, littleEndian }: Layout, notes: readonly Note[]): number {
  const known = BY_PRSTATUS[`${bits} ${littleEndian ? "little" : "big"}`]!;
  const size = prstatusSize(notes);
  // The last of each list is what QEMU and makedumpfile wrote most of.
  return (known.find(([bytes]) => bytes === size) ?? known.at(-1)!)[1];
}
