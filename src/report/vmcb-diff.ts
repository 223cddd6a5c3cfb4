import { hex } from "../core/text.ts";
import { describeField } from "../svm/describe.ts";
import type { VmcbField } from "../svm/fields.ts";
import { interceptBits } from "../svm/intercepts.ts";
import { fieldValue } from "../svm/vmcb.ts";
import {
  type ComparedField,
  type ComparedSide,
  changedBitsJson,
  differencesOf,
  differencesText,
  either,
} from "./differences.ts";
import { fieldJson, fieldsOf, SECTIONS, type VmcbShow, verdict, violationsOf } from "./vmcb-show.ts";

/** One of two VMCBs that are compared. */
export interface VmcbSide {
  /** What the user called it: `1:0`, `0x2549000`. */
  readonly name: string;
  readonly show: VmcbShow;
}

interface ComparedVmcbField extends ComparedField {
  readonly field: VmcbField;
}

const compared = ({ name, show }: VmcbSide): ComparedSide<ComparedVmcbField> => ({
  name,
  verdict: verdict(show.vmcb),
  fields: SECTIONS.flatMap(([area, section]) =>
    fieldsOf(show.vmcb)
      .filter((field) => field.area === area)
      .map((field) => {
        const value = fieldValue(show.vmcb, field.name);
        const { text, bits = interceptBits(field.name, value) } = describeField(show.vmcb, field.name);
        const valueText = hex(value, 2 * field.size);
        return {
          field,
          key: hex(field.offset, 3),
          name: field.name,
          section,
          value,
          valueText,
          text,
          bits,
          used: true,
        };
      }),
  ),
});

/** What differs between two VMCBs, by area. */
export const vmcbDiffText = (a: VmcbSide, b: VmcbSide): string =>
  differencesText(compared(a), compared(b), true);

/** `result` of guestcore/vmcb-diff/1. */
export function vmcbDiffJson(a: VmcbSide, b: VmcbSide) {
  const { fields, differences } = differencesOf(compared(a), compared(b));
  return {
    first: { name: a.name, violations: violationsOf(a.show.vmcb).length },
    second: { name: b.name, violations: violationsOf(b.show.vmcb).length },
    fields,
    differences: differences.map((pair) => {
      const { name, offset, area } = either(pair).field;
      const [first, second] = [
        pair.first && fieldJson(a.show, pair.first.field),
        pair.second && fieldJson(b.show, pair.second.field),
      ];
      return {
        offset,
        name,
        area,
        first: first ?? null,
        second: second ?? null,
        changedBits: changedBitsJson(pair),
      };
    }),
  };
}
