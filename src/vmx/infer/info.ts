import { isAccessRights } from "../access-rights.ts";
import type { VmcsInfo, VmcsInfoRecord } from "../vmcsinfo/types.ts";
import type { InferredLayout } from "./infer.ts";

/**
 * What was inferred of a layout as VMCSINFO: fields that have a place, all of them or those that are certain.
 * Access rights whose form is not known are left out.
 */
export function infoOfInferred(
  { revisionId, accessRights, fields }: InferredLayout,
  onlyCertain: boolean,
): VmcsInfo {
  const label = "layout inferred from the VMCSs of a host";
  const records = fields.flatMap(({ encoding, offset, verdict }): VmcsInfoRecord[] => {
    if (offset === undefined || (verdict !== "certain" && (onlyCertain || verdict !== "likely"))) return [];
    const form = isAccessRights(encoding) ? accessRights : undefined;
    return [{ encoding, raw: undefined, offset, accessRights: form, certainty: verdict }];
  });
  return {
    form: "layout",
    label,
    revisionId,
    records,
    pattern: undefined,
    accessRights:
      accessRights === undefined ? undefined : { form: accessRights, source: "what KVM read of them" },
    problems: [],
  };
}
