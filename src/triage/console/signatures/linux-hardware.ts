import { signatures } from "../signature.ts";

/** What hardware reported, through Linux: machine checks, NMIs, firmware-first errors. */
export const LINUX_HARDWARE = signatures([
  {
    id: "linux/mce",
    class: "mce",
    starts: [
      "mce: [Hardware Error]: CPU ",
      "[Hardware Error]: CPU ",
      "CPU ",
      "HARDWARE ERROR",
      "mce: [Hardware Error]: Machine check: ",
    ],
    pattern:
      /^(?:(?:mce: )?\[Hardware Error\]: )?CPU \d+: Machine Check(?: Exception)?: +[0-9a-f]+ Bank \d+: [0-9a-f]+/,
    title: "machine check",
    source: "arch/x86/kernel/cpu/mce/core.c: __print_mce()",
    examples: [
      "mce: [Hardware Error]: CPU 0: Machine Check Exception: 7 Bank 1: bf80000000000135",
      "mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 1: bf80000000000135",
      "CPU 0: Machine Check Exception: 4 Bank 4: b200000000070f0f",
    ],
    negatives: [
      "mce: CPU0 supports 10 MCE banks",
      "mce: [Hardware Error]: Machine check events logged",
      "CPU 0: Machine Check Support enabled",
    ],
  },
  {
    id: "linux/mce-part",
    class: "mce",
    role: "part",
    starts: ["mce: [Hardware Error]: ", "[Hardware Error]: "],
    pattern:
      /^(?:mce: )?\[Hardware Error\]: (?:RIP |TSC |PROCESSOR |Machine check: |Run the above|This is not a software problem|PPIN)/,
    title: "machine check",
    source: "arch/x86/kernel/cpu/mce/core.c: __print_mce()",
    examples: ["mce: [Hardware Error]: Machine check: Processor Context Corrupt"],
  },
  {
    id: "linux/memory-failure",
    class: "mce",
    starts: [
      "Memory failure: ",
      "mce: Uncorrected hardware memory error",
      "MCE: Killing",
      "MCE 0x",
      "mce: Killing ",
    ],
    pattern:
      /^(?:Memory failure: 0x[0-9a-f]+: (?=.{0,120}(?:Sending SIGBUS|recovery action for .{1,60}: (?:Failed|Ignored)|Killing))|mce: Uncorrected hardware memory error in user-access|M?m?[Cc][Ee]: Killing )/,
    title: "uncorrected memory error",
    source: "mm/memory-failure.c; arch/x86/kernel/cpu/mce/core.c: kill_me_maybe()",
    examples: [
      "Memory failure: 0x12345: Sending SIGBUS to qemu:123 due to hardware memory corruption",
      "mce: Uncorrected hardware memory error in user-access at 12345000",
    ],
  },
  {
    id: "linux/ghes",
    class: "hardware-error",
    contains: "[Hardware Error]: Hardware error from APEI",
    pattern: /^\{\d+\}\[Hardware Error\]: Hardware error from APEI Generic Hardware Error Source/,
    title: "hardware error reported by firmware (APEI)",
    source: "drivers/acpi/apei/ghes.c: __ghes_print_estatus()",
    examples: ["{1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 1"],
  },
  {
    id: "linux/bert",
    class: "hardware-error",
    starts: ["BERT: Error records from previous boot", "BERT: Total records"],
    pattern: /^BERT: (?:Error records from previous boot|Total records found: [1-9])/,
    title: "BERT: error records of the previous boot",
    severity: "notice",
    source: "drivers/acpi/apei/bert.c: bert_print_all()",
    examples: ["BERT: Error records from previous boot:"],
  },
  {
    id: "linux/edac",
    class: "hardware-error",
    starts: ["EDAC "],
    pattern: /^EDAC \w{1,16}: (?:UE |\d+ UE |\d+ uncorrected )/i,
    title: "EDAC: uncorrected memory error",
    source: "drivers/edac/edac_mc.c: edac_ue_error()",
    examples: ["EDAC MC0: 1 UE memory read error on CPU_SrcID#0 (channel:0 slot:0)"],
    negatives: ["EDAC MC: Ver: 3.0.0", "EDAC MC0: 1 CE memory read error on any memory"],
  },
  {
    id: "linux/aer",
    class: "hardware-error",
    contains: "Error: severity=Uncorrect",
    pattern:
      /^[\w.: -]{1,64}: (?:AER: )?PCIe Bus Error: severity=Uncorrect(?:ed|able) \((?:Fatal|Non-Fatal)\)/,
    title: "PCIe bus error, uncorrected",
    source: "drivers/pci/pcie/aer.c: aer_print_error()",
    examples: [
      "pcieport 0000:00:1c.0: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer, (Requester ID)",
    ],
  },
  {
    id: "linux/aer-received",
    class: "hardware-error",
    starts: ["pcieport "],
    pattern:
      /^[\w.: -]{1,64}: AER: (?:Multiple )?Uncorrect(?:ed|able) \((?:Fatal|Non-Fatal)\) error (?:message )?received/,
    title: "PCIe bus error, uncorrected",
    source: "drivers/pci/pcie/aer.c: aer_print_port_info()",
    examples: [
      "pcieport 0000:00:01.0: AER: Uncorrected (Fatal) error received: 0000:01:00.0",
      "pcieport 0000:00:01.0: AER: Uncorrectable (Non-Fatal) error message received from 0000:01:00.0",
    ],
    negatives: ["pcieport 0000:00:1c.0: AER: Corrected error received: 0000:00:1c.0"],
  },
  {
    id: "linux/nmi-unknown",
    class: "nmi",
    starts: ["Uhhuh. NMI received"],
    pattern: /^Uhhuh\. NMI received for unknown reason [0-9a-f]+/,
    title: "NMI received for unknown reason",
    source: "arch/x86/kernel/nmi.c: unknown_nmi_error()",
    examples: ["Uhhuh. NMI received for unknown reason 21 on CPU 0."],
  },
  {
    id: "linux/nmi-part",
    class: "nmi",
    role: "part",
    starts: ["Dazed and confused", "Do you have a strange power saving"],
    pattern: /^(?:Dazed and confused|Do you have a strange)/,
    title: "NMI",
    source: "arch/x86/kernel/nmi.c: unknown_nmi_error()",
    examples: ["Dazed and confused, but trying to continue"],
  },
  {
    id: "linux/nmi-error",
    class: "nmi",
    starts: ["NMI: PCI system error", "NMI: IOCK error", "NMI: memory parity"],
    pattern: /^NMI: (PCI system error|IOCK error|memory parity error)/,
    title: "NMI: $1",
    side: "hardware",
    source: "arch/x86/kernel/nmi.c: pci_serr_error(), io_check_error()",
    examples: [
      "NMI: PCI system error (SERR) for reason b1 on CPU 0.",
      "NMI: IOCK error (debug interrupt?) for reason 71 on CPU 0.",
    ],
    negatives: ["NMI: patched"],
  },
]);
