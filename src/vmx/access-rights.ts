import { fieldNamed } from "./fields.ts";

/**
 * How a VMCS region holds the eight access-rights fields, which processors do not store as VMREAD returns them:
 * `plain` as read (KVM's vmcs12, Hyper-V, Xen); `rotated` left by 8 bits, so that the dword looks like the upper half
 * of a descriptor (Core 2 to Ivy Bridge, Bochs by default); `packed` into 16 bits, with "unusable" in bit 11 (Haswell
 * and later, Bochs' Skylake models).
 */
export type AccessRightsForm = "plain" | "rotated" | "packed";
export const ACCESS_RIGHTS_FORMS = ["plain", "rotated", "packed"] as const satisfies AccessRightsForm[];

/** "Segment unusable" (Intel SDM Vol. 3C Table 25-2). */
export const UNUSABLE = 1 << 16;

const FIRST = fieldNamed("GUEST_ES_AR_BYTES")!.encoding;
const LAST = fieldNamed("GUEST_TR_AR_BYTES")!.encoding;

export const isAccessRights = (encoding: number): boolean => encoding >= FIRST && encoding <= LAST;

/** Bytes an access-rights field takes in the region. */
export const accessRightsBytes = (form: AccessRightsForm): 2 | 4 => (form === "packed" ? 2 : 4);

/** From what is stored (16 bits when packed, else 32) to what VMREAD returns. */
export function loadAccessRights(stored: number, form: AccessRightsForm): number {
  if (form === "rotated") return ((stored >>> 8) | (stored << 24)) >>> 0;
  return form === "packed" ? (stored & 0xf0ff) | ((stored & 0x800) << 5) : stored >>> 0;
}

/** From what VMWRITE was given to what is stored; bits that a form has no room for are lost. */
export function storeAccessRights(value: number, form: AccessRightsForm): number {
  if (form === "rotated") return ((value << 8) | (value >>> 24)) >>> 0;
  return form === "packed" ? (value & 0xf0ff) | ((value & UNUSABLE) >>> 5) : value >>> 0;
}
