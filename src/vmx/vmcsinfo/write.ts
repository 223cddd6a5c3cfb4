import { isAccessRights } from "../access-rights.ts";
import { encodeOffset } from "../offset-pattern.ts";
import { usable } from "./judge.ts";
import type { VmcsInfo, VmcsInfoRecord, WrittenVmcsInfo } from "./types.ts";

/**
 * Writes the records that count, in their order.
 * @param write returns why a record cannot be written, or undefined when it was
 */
export function writeEach(
  info: VmcsInfo,
  write: (record: VmcsInfoRecord) => string | undefined,
): WrittenVmcsInfo["leftOut"] {
  return usable(info.records).flatMap((record) => {
    const reason = write(record);
    return reason === undefined ? [] : [{ encoding: record.encoding, reason }];
  });
}

/**
 * The value v1 and v2 keep for a record. One that could not be decoded is passed on as it is.
 * @returns the value, or why there is none
 */
export function rawOf(
  info: Pick<VmcsInfo, "accessRights" | "pattern">,
  { encoding, offset, raw, accessRights }: VmcsInfoRecord,
): bigint | string {
  if (offset === undefined) {
    return raw !== undefined && info.pattern === "codes" ? raw : "its place is not known";
  }
  if (offset % 2 !== 0) return "its offset is odd, which the code of a word cannot say";
  const form = accessRights ?? info.accessRights?.form;
  if (isAccessRights(encoding) && form === undefined) return "how access rights are stored is not known";
  return encodeOffset(encoding, offset, form);
}
