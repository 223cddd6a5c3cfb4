import { isHighEncoding } from "../encoding.ts";
import { VMCS_FIELDS } from "../fields.ts";
import { defineLayout, type Place } from "./define.ts";

/** Slot 0 holds revision and abort indicator, so VPID, which would be there, has the last of its group. */
const VPID_SLOT = 0x3f;

/**
 * Xen keeps 8-byte slots: index bits 4:0, type above them, width above that (`xen/arch/x86/hvm/vmx/vvmx.c`,
 * vvmcs_offset). An index above 0x1f has no slot.
 */
function slotOf(encoding: number): number | undefined {
  const index = (encoding >>> 1) & 0x1ff;
  const slot = index | (((encoding >>> 10) & 3) << 5) | (((encoding >>> 13) & 3) << 7);
  if (index > 0x1f) return undefined;
  return slot === 0 ? VPID_SLOT : slot;
}

/** What Xen keeps for a hypervisor within (nested virtualisation). */
export const XEN_NESTED = defineLayout({
  name: "xen-nested",
  kind: "nested",
  revisionId: 0x4000_0001,
  accessRights: "plain",
  source: "Xen vvmx.c; Actaeon xen_nested agrees in every field",
  confidence: "medium: other versions of Xen may use another revision",
  fields: VMCS_FIELDS.filter(({ encoding }) => !isHighEncoding(encoding)).flatMap(({ encoding }): Place[] => {
    const slot = slotOf(encoding);
    return slot === undefined ? [] : [[encoding, slot * 8]];
  }),
});
