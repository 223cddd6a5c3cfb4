import { describeField } from "./describe.ts";
import { type FieldType, typeOf } from "./encoding.ts";
import { checkEntry, type EntryChecks } from "./entry-checks.ts";
import type { CheckedValues } from "./entry-rules.ts";
import { fieldOf } from "./fields.ts";
import type { FieldMeaning } from "./meaning.ts";
import { type KnownEfer, stateOf, type VmcsState } from "./state.ts";

/** One field of a VMCS with what it means. */
export interface DecodedField extends FieldMeaning {
  readonly encoding: number;
  /** KVM's name; the encoding for a field that is not known. */
  readonly name: string;
  /** The SDM's words. */
  readonly title: string | undefined;
  readonly type: FieldType;
  readonly value: bigint;
}

/** A VMCS with all that follows from its fields. */
export interface DecodedVmcs {
  /** Ascending by encoding. */
  readonly fields: readonly DecodedField[];
  readonly checks: EntryChecks;
  readonly state: VmcsState;
}

/**
 * Decodes every field of a region, checks it and takes the guest's registers from it.
 * @param everEntered see `checkEntry`
 * @param efer see `stateOf`
 */
export function decodeVmcs(region: CheckedValues, everEntered?: boolean, efer?: KnownEfer): DecodedVmcs {
  const fields = [...region.values]
    .sort(([a], [b]) => a - b)
    .flatMap(([encoding, value]): DecodedField[] => {
      const meaning = describeField(region, encoding);
      if (meaning === undefined) return [];
      const field = fieldOf(encoding);
      const name = field?.name ?? `0x${encoding.toString(16)}`;
      return [{ encoding, name, title: field?.title, type: typeOf(encoding), value, ...meaning }];
    });
  return { fields, checks: checkEntry(region, everEntered), state: stateOf(region, efer) };
}
