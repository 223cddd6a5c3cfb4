import { type BitName, CR0_BITS, RFLAGS_BITS } from "../x86/bit-names.ts";
import type { VmcbFieldName } from "./fields.ts";

/** Bits of control fields (APM Vol. 2 Table B-1; §15.15.3 for the clean bits) and of registers (§3.1). */
export const BIT_NAMES: Partial<Readonly<Record<VmcbFieldName, readonly BitName[]>>> = {
  int_ctl: [
    [8, "V_IRQ"],
    [9, "V_GIF"],
    [11, "V_NMI"],
    [12, "V_NMI_MASK"],
    [20, "V_IGN_TPR"],
    [24, "V_INTR_MASKING"],
    [25, "V_GIF_ENABLE"],
    [26, "V_NMI_ENABLE"],
    [30, "X2AVIC"],
    [31, "AVIC"],
  ],
  int_state: [
    [0, "INTERRUPT_SHADOW"],
    [1, "GUEST_INTERRUPT_MASK"],
  ],
  erap_ctl: [
    [0, "ALLOW_LARGER_RAP"],
    [1, "CLEAR_RAP"],
  ],
  nested_ctl: [
    [0, "NP"],
    [1, "SEV"],
    [2, "SEV_ES"],
    [3, "GMET"],
    [4, "SSS_CHECK"],
    [5, "VTE"],
    [6, "ROGPT"],
    [7, "INVLPGB"],
    [11, "PML"],
  ],
  virt_ext: [
    [0, "LBR"],
    [1, "VMLOAD_VMSAVE"],
    [2, "IBS"],
    [3, "PMC"],
  ],
  clean: [
    [0, "I"],
    [1, "IOPM"],
    [2, "ASID"],
    [3, "TPR"],
    [4, "NP"],
    [5, "CRx"],
    [6, "DRx"],
    [7, "DT"],
    [8, "SEG"],
    [9, "CR2"],
    [10, "LBR"],
    [11, "AVIC"],
    [12, "CET"],
    [31, "host"],
  ],
  hv_enlightenments_control: [
    [0, "NESTED_FLUSH_HYPERCALL"],
    [1, "MSR_BITMAP"],
    [2, "ENLIGHTENED_NPT_TLB"],
  ],
  efer: [
    [0, "SCE"],
    [8, "LME"],
    [10, "LMA"],
    [11, "NXE"],
    [12, "SVME"],
    [13, "LMSLE"],
    [14, "FFXSR"],
    [15, "TCE"],
    [17, "MCOMMIT"],
    [18, "INTWB"],
    [20, "UAIE"],
    [21, "AIBRSE"],
  ],
  cr0: CR0_BITS,
  cr4: [
    [0, "VME"],
    [1, "PVI"],
    [2, "TSD"],
    [3, "DE"],
    [4, "PSE"],
    [5, "PAE"],
    [6, "MCE"],
    [7, "PGE"],
    [8, "PCE"],
    [9, "OSFXSR"],
    [10, "OSXMMEXCPT"],
    [11, "UMIP"],
    [12, "LA57"],
    [16, "FSGSBASE"],
    [17, "PCIDE"],
    [18, "OSXSAVE"],
    [20, "SMEP"],
    [21, "SMAP"],
    [22, "PKE"],
    [23, "CET"],
  ],
  rflags: RFLAGS_BITS,
};

export const DATA_BITS: readonly BitName[] = [
  [0, "accessed"],
  [1, "writable"],
  [2, "expand-down"],
];
export const CODE_BITS: readonly BitName[] = [
  [0, "accessed"],
  [1, "readable"],
  [2, "conforming"],
];
export const UPPER_BITS: readonly BitName[] = [
  [8, "AVL"],
  [9, "L"],
  [10, "D/B"],
  [11, "G"],
];
/** System-segment types of legacy and long mode (APM Vol. 2 Tables 4-5 and 4-6). */
export const SYSTEM_TYPES: Readonly<Record<number, string>> = {
  1: "TSS16",
  2: "LDT",
  3: "TSS16 busy",
  9: "TSS",
  11: "TSS busy",
};
