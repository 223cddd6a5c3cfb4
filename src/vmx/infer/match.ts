import { viewOf } from "../../core/bytes.ts";
import {
  type AccessRightsForm,
  accessRightsBytes,
  isAccessRights,
  storeAccessRights,
} from "../access-rights.ts";
import { bytesOf } from "../encoding.ts";
import { REGION_HEADER, REGION_SIZE } from "../layout.ts";
import { bitsOf, type Expected, type KnownRegion, type Trust } from "./claims.ts";

/** A field whose values are known in some of the VMCSs, and the places where all of these are. */
export interface Sought {
  readonly encoding: number;
  readonly name: string;
  /** Bytes it takes in a region. */
  readonly size: number;
  /** Of the values that count; places hold them all. */
  readonly trust: Trust;
  /** VMCSs in which its value is known that way, and how many different values these are. */
  readonly regions: number;
  readonly distinct: number;
  /** Bits that the values tell, together. */
  readonly bits: number;
  readonly source: string;
  /** Offsets, ascending. */
  readonly places: ReadonlySet<number>;
}

const TRUSTS: readonly Trust[] = ["written", "derived", "stale"];

/**
 * Seeks a field in all regions. Only the most trusted of its values count. Fields lie at multiples of their size, those
 * of 8 bytes at multiples of 4.
 * @returns undefined where no value is known
 */
export function seek(
  encoding: number,
  name: string,
  regions: readonly KnownRegion[],
  form: AccessRightsForm,
): Sought | undefined {
  const known = regions.flatMap(({ bytes, known: fields }) => {
    const expected = fields.get(name);
    return expected === undefined ? [] : [{ view: viewOf(bytes), expected }];
  });
  const trust = TRUSTS.find((level) => known.some(({ expected }) => expected.trust === level));
  if (trust === undefined) return undefined;
  const counted = known.filter(({ expected }) => expected.trust === trust);
  const size = isAccessRights(encoding) ? accessRightsBytes(form) : bytesOf(encoding);
  const values = counted.map(({ view, expected }) => ({
    view,
    expected: isAccessRights(encoding) ? stored(expected, form) : expected,
  }));
  const places = new Set<number>();
  for (let at = REGION_HEADER; at + size <= REGION_SIZE; at += Math.min(size, 4)) {
    if (values.every(({ view, expected }) => holds(view, at, size, expected))) places.add(at);
  }
  const unique = new Map(values.map(({ expected }) => [expected.value, expected]));
  return {
    encoding,
    name,
    size,
    trust,
    regions: counted.length,
    distinct: unique.size,
    bits: [...unique.values()].reduce((sum, expected) => sum + bitsOf(expected, size), 0),
    source: counted[0]!.expected.source,
    places,
  };
}

const stored = (expected: Expected, form: AccessRightsForm): Expected => ({
  ...expected,
  value: BigInt(storeAccessRights(Number(BigInt.asUintN(32, expected.value)), form)),
});

function holds(view: DataView, at: number, size: number, { value, mask, below }: Expected): boolean {
  if (at + size > view.byteLength) return false;
  const found =
    size === 8
      ? view.getBigUint64(at, true)
      : BigInt(size === 4 ? view.getUint32(at, true) : view.getUint16(at, true));
  if (below !== undefined) return found < value && value - found <= below;
  return mask === undefined ? found === BigInt.asUintN(8 * size, value) : ((found ^ value) & mask) === 0n;
}
