/** What a machine type brings besides memory: device regions in the system view, and bus-master address spaces. */
export interface MachineShape {
  readonly mmio: readonly {
    readonly name: string;
    readonly gpa: number;
    readonly size: number;
    readonly priority: number;
  }[];
  /** `busMaster`: the device may reach memory, so its space shows the system view; others show the empty view. */
  readonly spaces: readonly { readonly name: string; readonly busMaster: boolean }[];
}

export type MachineName = "pc" | "q35" | "microvm";

const IOAPIC = { name: "ioapic", gpa: 0xfec0_0000, size: 0x1000, priority: 0 };
const HPET = { name: "hpet", gpa: 0xfed0_0000, size: 0x400, priority: 0 };
const APIC_MSI = { name: "apic-msi", gpa: 0xfee0_0000, size: 0x10_0000, priority: 4096 };
const idle = (name: string) => ({ name, busMaster: false });

/** As `info mtree -f` showed them. */
export const MACHINES: Readonly<Record<MachineName, MachineShape>> = {
  pc: { mmio: [IOAPIC, HPET, APIC_MSI], spaces: ["i440FX", "PIIX3", "piix3-ide", "PIIX4_PM"].map(idle) },
  q35: {
    mmio: [
      { name: "pcie-mmcfg-mmio", gpa: 0xb000_0000, size: 0x1000_0000, priority: 0 },
      { name: "ahci", gpa: 0xfebf_f000, size: 0x1000, priority: 1 },
      IOAPIC,
      HPET,
      { name: "lpc-rcrb-mmio", gpa: 0xfed1_c000, size: 0x4000, priority: 1 },
      APIC_MSI,
    ],
    spaces: [idle("mch"), idle("ICH9-LPC"), { name: "ich9-ahci", busMaster: true }, idle("ICH9-SMB")],
  },
  microvm: { mmio: [IOAPIC, APIC_MSI], spaces: [] },
};
