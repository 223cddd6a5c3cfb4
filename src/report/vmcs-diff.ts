import { hex, plural } from "../core/text.ts";
import type { DecodedField, DecodedVmcs } from "../vmx/decoded.ts";
import { fieldJson, isTelling, SECTIONS, valueText, verdict } from "./vmcs-fields.ts";

/** One of two VMCSs that are compared. */
export interface VmcsSide {
  /** What to call it: `web1:0`, `0x2549000`. */
  readonly name: string;
  readonly decoded: DecodedVmcs;
}

interface Difference {
  readonly first: DecodedField | undefined;
  readonly second: DecodedField | undefined;
}

const either = ({ first, second }: Difference): DecodedField => (first ?? second)!;

function differences(a: VmcsSide, b: VmcsSide): Difference[] {
  const [first, second] = [byEncoding(a), byEncoding(b)];
  return [...new Set([...first.keys(), ...second.keys()])]
    .sort((x, y) => x - y)
    .map((encoding) => ({ first: first.get(encoding), second: second.get(encoding) }))
    .filter((pair) => pair.first?.value !== pair.second?.value);
}

const byEncoding = ({ decoded }: VmcsSide): Map<number, DecodedField> =>
  new Map(decoded.fields.map((field) => [field.encoding, field]));

/** Bits that are set in one and clear in the other, `+` where only the second has them. */
function changedBits({ first, second }: Difference): { bit: number; name: string; set: boolean }[] {
  if (first?.bits === undefined || second?.bits === undefined) return [];
  const before = new Map(first.bits.map(({ bit, set }) => [bit, set]));
  return second.bits.filter(({ bit, set }) => before.get(bit) !== set);
}

const WIDTH = 18;
const sideLine = (mark: string, field: DecodedField | undefined): string => {
  const value = field === undefined ? "not there" : valueText(field.encoding, field.value);
  return `          ${mark} ${value.padEnd(WIDTH)}  ${field?.text ?? ""}`.trimEnd();
};

function differenceLines(pair: Difference): string[] {
  const field = either(pair);
  const changed = changedBits(pair);
  const head = `  ${hex(field.encoding, 4)}  ${field.name}`;
  if (changed.length === 0) return [head, sideLine("<", pair.first), sideLine(">", pair.second)];
  const bits = changed.map(({ name, set }) => `${set ? "+" : "-"}${name}`).join(", ");
  const plain = (side: DecodedField | undefined) => side && { ...side, text: "" };
  return [head, sideLine("<", plain(pair.first)), sideLine(">", plain(pair.second)), `            ${bits}`];
}

/** What differs between two VMCSs, by section; fields that neither uses are left out unless `all`. */
export function vmcsDiffText(a: VmcsSide, b: VmcsSide, all: boolean): string {
  const found = differences(a, b);
  const shown = all ? found : found.filter(({ first, second }) => isUsed(first) || isUsed(second));
  const count = new Set([...byEncoding(a).keys(), ...byEncoding(b).keys()]).size;
  const lines = [
    `${found.length} of ${plural(count, "field")} differ between ${a.name} (<) and ${b.name} (>)`,
    `  < ${a.name}: ${verdict(a.decoded)}`,
    `  > ${b.name}: ${verdict(b.decoded)}`,
  ];
  for (const [type, title] of SECTIONS) {
    const part = shown.filter((pair) => either(pair).type === type);
    if (part.length > 0) lines.push(title, ...part.flatMap(differenceLines));
  }
  const hidden = found.length - shown.length;
  if (hidden > 0) lines.push(`${plural(hidden, "differing field")} not in use (--all shows them)`);
  return `${lines.join("\n")}\n`;
}

const isUsed = (field: DecodedField | undefined): boolean =>
  field !== undefined && isTelling(field) && field.active !== false;

/** `result` of guestcore/vmcs-diff/1. */
export const vmcsDiffJson = (a: VmcsSide, b: VmcsSide) => ({
  first: { name: a.name, violations: a.decoded.checks.violations.length },
  second: { name: b.name, violations: b.decoded.checks.violations.length },
  fields: new Set([...byEncoding(a).keys(), ...byEncoding(b).keys()]).size,
  differences: differences(a, b).map((pair) => ({
    encoding: hex(either(pair).encoding, 4),
    name: either(pair).name,
    type: either(pair).type,
    first: pair.first === undefined ? null : fieldJson(pair.first),
    second: pair.second === undefined ? null : fieldJson(pair.second),
    changedBits: changedBits(pair).map(({ bit, name, set }) => ({ bit, name, second: set })),
  })),
});
