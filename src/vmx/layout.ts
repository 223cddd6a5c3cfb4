import { type AccessRightsForm, accessRightsBytes, isAccessRights } from "./access-rights.ts";
import { bytesOf, isHighEncoding } from "./encoding.ts";

/** A VMCS region takes at most a page (Intel SDM Vol. 3D Appendix A.1: IA32_VMX_BASIC bits 44:32). */
export const REGION_SIZE = 4096;
/** Revision identifier and VMX-abort indicator come first (SDM Vol. 3C Table 25-1). */
export const REGION_HEADER = 8;

/** Who keeps regions of a layout: a processor, or a hypervisor for the guests of its guests. */
export type LayoutKind = "processor" | "emulator" | "nested";

/** Where a VMCS region keeps its fields. */
export interface VmcsLayout {
  readonly name: string;
  readonly kind: LayoutKind;
  /** VMCS revision identifier, bit 31 clear; undefined where the layout goes with none. It does not identify a layout. */
  readonly revisionId: number | undefined;
  /** Identifiers that the layout goes with besides, as an emulator's does with each processor it poses as. */
  readonly otherRevisions?: readonly number[];
  /** Encoding → offset in bytes. The high half of a 64-bit field is at offset + 4 unless listed itself. */
  readonly fields: ReadonlyMap<number, number>;
  /** Undefined where it is not known: access rights then cannot be read. */
  readonly accessRights: AccessRightsForm | undefined;
  /** Encodings whose offset was inferred or guessed, not measured. */
  readonly unsure: ReadonlySet<number>;
  /**
   * Those of them that were picked among several places without a reason, and the places: nothing is concluded from
   * them.
   */
  readonly guessed?: ReadonlyMap<number, readonly number[]>;
  /** Where the layout comes from, and how sure it is, in words. */
  readonly source: string;
  readonly confidence: string;
}

/** Bytes a field takes in a region of this layout. */
export const storedBytes = (layout: Pick<VmcsLayout, "accessRights">, encoding: number): number =>
  isAccessRights(encoding) ? accessRightsBytes(layout.accessRights ?? "plain") : bytesOf(encoding);

/**
 * Offset of a field. A high half that is not listed follows its low half; a 64-bit field of which only the halves are
 * known is found by the low one, which has the same encoding.
 */
export function offsetOf(layout: Pick<VmcsLayout, "fields">, encoding: number): number | undefined {
  const own = layout.fields.get(encoding);
  if (own !== undefined || !isHighEncoding(encoding)) return own;
  const low = layout.fields.get(encoding - 1);
  return low === undefined ? undefined : low + 4;
}
