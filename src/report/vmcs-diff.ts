import { hex } from "../core/text.ts";
import type { DecodedField, DecodedVmcs } from "../vmx/decoded.ts";
import {
  type ComparedField,
  type ComparedSide,
  changedBitsJson,
  differencesOf,
  differencesText,
  either,
} from "./differences.ts";
import { fieldJson, isTelling, SECTIONS, valueText, verdict } from "./vmcs-fields.ts";

/** One of two VMCSs that are compared. */
export interface VmcsSide {
  /** What the user called it: `1:0`, `0x2549000`. */
  readonly name: string;
  readonly decoded: DecodedVmcs;
}

interface VmcsField extends ComparedField {
  readonly field: DecodedField;
}

const compared = ({ name, decoded }: VmcsSide): ComparedSide<VmcsField> => ({
  name,
  verdict: verdict(decoded),
  fields: SECTIONS.flatMap(([type, section]) =>
    decoded.fields
      .filter((field) => field.type === type)
      .map((field) => ({
        field,
        key: hex(field.encoding, 4),
        name: field.name,
        section,
        value: field.value,
        valueText: valueText(field.encoding, field.value),
        text: field.text,
        bits: field.bits,
        used: isTelling(field) && field.active !== false,
      })),
  ),
});

/** What differs between two VMCSs, by section; fields that neither uses are left out unless `all`. */
export const vmcsDiffText = (a: VmcsSide, b: VmcsSide, all: boolean): string =>
  differencesText(compared(a), compared(b), all);

/** `result` of guestcore/vmcs-diff/1. */
export function vmcsDiffJson(a: VmcsSide, b: VmcsSide) {
  const { fields, differences } = differencesOf(compared(a), compared(b));
  return {
    first: { name: a.name, violations: a.decoded.checks.violations.length },
    second: { name: b.name, violations: b.decoded.checks.violations.length },
    fields,
    differences: differences.map((pair) => ({
      encoding: either(pair).key,
      name: either(pair).name,
      type: either(pair).field.type,
      first: pair.first === undefined ? null : fieldJson(pair.first.field),
      second: pair.second === undefined ? null : fieldJson(pair.second.field),
      changedBits: changedBitsJson(pair),
    })),
  };
}
