import { plural } from "../core/text.ts";

/** A bit of a field, by name. */
interface NamedBit {
  readonly bit: number;
  readonly name: string;
  readonly set: boolean;
}

/** A field of a control block, as far as comparing needs it. */
export interface ComparedField {
  /** What the field is known by: its encoding or offset, as shown. */
  readonly key: string;
  readonly name: string;
  /** Title of the section it stands in. */
  readonly section: string;
  readonly value: bigint;
  /** The value, as wide as the field. */
  readonly valueText: string;
  readonly text: string;
  readonly bits: readonly NamedBit[] | undefined;
  /** Whether the processor uses it. */
  readonly used: boolean;
}

/** One of two control blocks that are compared. */
export interface ComparedSide<F extends ComparedField> {
  /** What the user called it: `1:0`, `0x2549000`. */
  readonly name: string;
  /** In a line, how sound it is. */
  readonly verdict: string;
  /** In the order in which they are shown. */
  readonly fields: readonly F[];
}

/** A field whose value differs, or that one of the two does not have. */
export interface Difference<F extends ComparedField> {
  readonly first: F | undefined;
  readonly second: F | undefined;
}

export const either = <F extends ComparedField>({ first, second }: Difference<F>): F => (first ?? second)!;

/** Every difference, by key, and of how many fields. */
export function differencesOf<F extends ComparedField>(
  a: ComparedSide<F>,
  b: ComparedSide<F>,
): { readonly fields: number; readonly differences: readonly Difference<F>[] } {
  const [first, second] = [byKey(a), byKey(b)];
  const keys = [...new Set([...first.keys(), ...second.keys()])].sort();
  const pairs = keys.map((key) => ({ first: first.get(key), second: second.get(key) }));
  return {
    fields: keys.length,
    differences: pairs.filter((pair) => pair.first?.value !== pair.second?.value),
  };
}

const byKey = <F extends ComparedField>({ fields }: ComparedSide<F>): Map<string, F> =>
  new Map(fields.map((field) => [field.key, field]));

/** Bits that are set in one and clear in the other. */
export function changedBits({ first, second }: Difference<ComparedField>): NamedBit[] {
  if (first?.bits === undefined || second?.bits === undefined) return [];
  const before = new Map(first.bits.map(({ bit, set }) => [bit, set]));
  return second.bits.filter(({ bit, set }) => before.get(bit) !== set);
}

/** What differs, by section, `<` the first and `>` the second; fields that neither uses are left out unless `all`. */
export function differencesText<F extends ComparedField>(
  a: ComparedSide<F>,
  b: ComparedSide<F>,
  all: boolean,
): string {
  const { fields, differences } = differencesOf(a, b);
  const isUsed = (field: F | undefined) => field?.used === true;
  const shown = all
    ? differences
    : differences.filter(({ first, second }) => isUsed(first) || isUsed(second));
  const lines = [
    `${differences.length} of ${plural(fields, "field")} differ between ${a.name} (<) and ${b.name} (>)`,
    `  < ${a.name}: ${a.verdict}`,
    `  > ${b.name}: ${b.verdict}`,
  ];
  for (const title of sectionsOf(a, b)) {
    const part = shown.filter((pair) => either(pair).section === title);
    if (part.length > 0) lines.push(title, ...part.flatMap(differenceLines));
  }
  const hidden = differences.length - shown.length;
  if (hidden > 0) lines.push(`${plural(hidden, "differing field")} not in use (--all shows them)`);
  return `${lines.join("\n")}\n`;
}

const sectionsOf = <F extends ComparedField>(...sides: readonly ComparedSide<F>[]): Set<string> =>
  new Set(sides.flatMap(({ fields }) => fields.map(({ section }) => section)));

const WIDTH = 18;
const sideLine = (mark: string, field: ComparedField | undefined): string =>
  `          ${mark} ${(field?.valueText ?? "not there").padEnd(WIDTH)}  ${field?.text ?? ""}`.trimEnd();

/** Where the bits that changed have names, those tell more than what all of them mean. */
function differenceLines(pair: Difference<ComparedField>): string[] {
  const { key, name } = either(pair);
  const changed = changedBits(pair);
  const head = `  ${key}  ${name}`;
  if (changed.length === 0) return [head, sideLine("<", pair.first), sideLine(">", pair.second)];
  const plain = (side: ComparedField | undefined) => side && { ...side, text: "" };
  const bits = changed.map(({ name: bitName, set }) => `${set ? "+" : "-"}${bitName}`).join(", ");
  return [head, sideLine("<", plain(pair.first)), sideLine(">", plain(pair.second)), `            ${bits}`];
}

/** What JSON says of the bits that changed. */
export const changedBitsJson = (pair: Difference<ComparedField>) =>
  changedBits(pair).map(({ bit, name, set }) => ({ bit, name, second: set }));
