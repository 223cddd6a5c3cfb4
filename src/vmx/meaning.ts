/** One named bit of a field. */
export interface BitMeaning {
  readonly bit: number;
  readonly name: string;
  readonly set: boolean;
}

/** What a field's value points at. */
export interface PointerMeaning {
  /** Whose addresses: the host's or guest's, physical or linear (virtual). */
  readonly space: "host-physical" | "host-linear" | "guest-physical" | "guest-linear";
  readonly address: bigint;
  readonly target: string;
  /** Bytes of what it points at; undefined where it has no fixed size. */
  readonly size: number | undefined;
}

/** What a field's value means. */
export interface FieldMeaning {
  /** One short line; "" when the value speaks for itself. */
  readonly text: string;
  /** Every named bit, ascending, where the field is made of bits. */
  readonly bits: readonly BitMeaning[] | undefined;
  readonly pointer: PointerMeaning | undefined;
  /** Whether the processor uses the field under the region's controls; undefined where they do not tell. */
  readonly active: boolean | undefined;
  /** Why it does not. */
  readonly inactiveBecause: string | undefined;
}

/** All named bits of a value. */
export const bitsOf = (
  value: bigint,
  names: readonly (readonly [bit: number, name: string])[],
): BitMeaning[] => names.map(([bit, name]) => ({ bit, name, set: ((value >> BigInt(bit)) & 1n) === 1n }));

/** Names of the bits that are set, then those set that have no name: `PE NE PG bit 28`. */
export function namesOfSet(
  value: bigint,
  names: readonly (readonly [bit: number, name: string])[],
): string[] {
  let rest = value;
  const set: string[] = [];
  for (const [bit, name] of names) {
    if (((value >> BigInt(bit)) & 1n) === 1n) set.push(name);
    rest &= ~(1n << BigInt(bit));
  }
  for (let bit = 0; bit < 64; bit++) if (((rest >> BigInt(bit)) & 1n) === 1n) set.push(`bit ${bit}`);
  return set;
}

/** Bits `high` to `low` of a value. */
export const slice = (value: bigint, high: number, low: number): number =>
  Number((value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n));
