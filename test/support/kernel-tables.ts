import type { KernelSymbol, KernelSymbols } from "../../src/kernel/symbols.ts";
import type { KernelTypes, Member } from "../../src/kernel/types.ts";

/** Offset, and where they are not 8 and 1, size of an element and number of elements. */
export type MemberRow = number | readonly [offset: number, stride: number, count?: number];

/** Types by a table, for tests of what uses them. */
export function typesOf(
  members: Readonly<Record<string, MemberRow>>,
  sizes: Readonly<Record<string, number>> = {},
  constants: Readonly<Record<string, bigint>> = {},
): KernelTypes {
  return {
    sizeOf: (type) => sizes[type],
    member(path): Member | undefined {
      const row = members[path];
      if (row === undefined) return undefined;
      const [offset, stride, count = 1] = typeof row === "number" ? [row, 8] : row;
      return { offset, size: stride * count, count, stride };
    },
    constant: (name) => constants[name],
  };
}

/** Symbols by a table. */
export function symbolsOf(addresses: Readonly<Record<string, bigint>>): KernelSymbols {
  const named = (name: string): readonly KernelSymbol[] => {
    const address = addresses[name];
    return address === undefined ? [] : [{ name, address, type: "?" }];
  };
  return { named, addressOf: (name) => addresses[name], at: () => undefined };
}
