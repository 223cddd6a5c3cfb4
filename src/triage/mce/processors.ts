import type { McVendor } from "./status.ts";

/** x86_vendor of Linux (arch/x86/include/asm/processor.h), as print_mce() has it in front of CPUID. */
const VENDORS: Readonly<Record<number, string>> = {
  0: "Intel",
  1: "Cyrix",
  2: "AMD",
  3: "UMC",
  5: "Centaur",
  7: "Transmeta",
  8: "NSC",
  9: "Hygon",
  10: "Zhaoxin",
  11: "Vortex",
};

/** A processor by vendor and CPUID(1).EAX. */
export interface McProcessor {
  readonly vendor: string;
  readonly family: number;
  readonly model: number;
  readonly stepping: number;
}

export function decodeProcessor(vendor: number, cpuid: number): McProcessor {
  const base = (cpuid >>> 8) & 15;
  const family = base === 15 ? base + ((cpuid >>> 20) & 0xff) : base;
  // Family 6 and 15 have an extended model (SDM Vol. 2A, CPUID).
  const extended = base === 6 || base === 15 ? ((cpuid >>> 16) & 15) << 4 : 0;
  return {
    vendor: VENDORS[vendor] ?? `unknown (${vendor})`,
    family,
    model: extended | ((cpuid >>> 4) & 15),
    stepping: cpuid & 15,
  };
}

/** AMD's bits are Hygon's too; all others follow Intel. */
export const bitsOfVendor = (vendor: string): McVendor =>
  vendor === "AMD" || vendor === "Hygon" ? "amd" : "intel";

/** Hardware id and type of a bank of Scalable MCA (Linux arch/x86/kernel/cpu/mce/amd.c: smca_hwid_mcatypes). */
const SMCA_BANKS: ReadonlyMap<number, string> = new Map([
  [0x00b0_0000, "load-store unit"],
  [0x00b0_0010, "load-store unit"],
  [0x00b0_0001, "instruction fetch unit"],
  [0x00b0_0002, "L2 cache"],
  [0x00b0_0003, "decode unit"],
  [0x00b0_0005, "execution unit"],
  [0x00b0_0006, "floating-point unit"],
  [0x00b0_0007, "L3 cache"],
  [0x002e_0000, "coherent slave"],
  [0x002e_0002, "coherent slave"],
  [0x002e_0001, "power, interrupts, etc."],
  [0x0096_0000, "memory controller (UMC)"],
  [0x0096_0001, "memory controller (UMC)"],
  [0x0005_0000, "parameter block"],
  [0x00ff_0000, "platform security processor"],
  [0x00ff_0001, "platform security processor"],
  [0x0001_0000, "system management unit"],
  [0x0001_0001, "system management unit"],
  [0x0001_0002, "microprocessor 5"],
  [0x0001_0003, "MPDMA"],
  [0x0018_0000, "northbridge I/O unit"],
  [0x0046_0000, "PCI Express root port"],
  [0x0046_0001, "PCI Express root port"],
  [0x0050_0000, "xGMI controller"],
  [0x0048_0000, "WAFL controller"],
]);

/** Which unit a bank of Scalable MCA is, by MCA_IPID; undefined where it is none that is known. */
export function smcaBank(ipid: bigint): string | undefined {
  const hardware = Number((ipid >> 32n) & 0xfffn);
  const type = Number((ipid >> 48n) & 0xffffn);
  return SMCA_BANKS.get(hardware * 0x1_0000 + type);
}
