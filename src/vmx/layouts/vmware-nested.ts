import { defineLayout } from "./define.ts";

/** VMware Workstation 9 for a hypervisor within: six fields are known. */
export const VMWARE_NESTED = defineLayout({
  name: "vmware-workstation-nested",
  kind: "nested",
  revisionId: 0x01,
  accessRights: undefined,
  source: "Actaeon (plugin/hypervisors/vmcs_layouts, commit ef30869)",
  confidence: "low: six fields of one version",
  fields: [
    [0x2800, 0x2e8],
    [0x6008, 0x5e8],
    [0x6802, 0x8b0],
    [0x681e, 0x920],
    [0x6c02, 0xa20],
    [0x6c16, 0xa70],
  ],
});
