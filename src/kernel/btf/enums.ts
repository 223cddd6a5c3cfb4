import type { Btf, BtfType } from "./btf.ts";
import { KIND } from "./format.ts";

/** The value of a constant of any enum of this BTF, without its base's. */
export function constantOf(btf: Btf, name: string): bigint | undefined {
  const text = Buffer.from(name, "latin1");
  for (const type of btf.enums()) {
    for (let n = 0; n < type.count; n++) {
      if (btf.stringIs(enumName(type, n), text)) return enumValue(btf, type, n);
    }
  }
  return undefined;
}

/** String offset of the n-th name of an enum. */
export const enumName = (type: BtfType, n: number): number =>
  type.word(type.kind === KIND.ENUM ? 2 * n : 3 * n);

/** The n-th value of an enum. */
export function enumValue(btf: Btf, type: BtfType, n: number): bigint {
  const isSigned = type.flag || (type.kind === KIND.ENUM && btf.signedEnums);
  if (type.kind === KIND.ENUM) {
    const value = type.word(2 * n + 1);
    return BigInt(isSigned ? value | 0 : value);
  }
  const value = BigInt(type.word(3 * n + 1)) + (BigInt(type.word(3 * n + 2)) << 32n);
  return isSigned ? BigInt.asIntN(64, value) : value;
}
