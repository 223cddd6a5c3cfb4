import type { BtfTypes } from "./btf/types.ts";
import type { KernelParts } from "./open-kernel.ts";
import type { KernelSymbol } from "./symbols.ts";
import type { Member } from "./types.ts";

/** An address of a kernel, as a symbol and a distance. */
export interface AddressFacts {
  readonly address: bigint;
  /** Undefined where no symbol names it. */
  readonly symbol: KernelSymbol | undefined;
  /** How far behind the symbol. */
  readonly offset: bigint;
  /** undefined where it is not mapped, or is a per-CPU variable's offset. */
  readonly physical: number | undefined;
  /** Whether it is no address but the offset of a per-CPU variable. */
  readonly perCpu: boolean;
}

/** Below it lie no kernel addresses. */
const UPPER_HALF = 1n << 63n;
const HEX = /^(?:0x([0-9a-f]{1,16})|([0-9a-f]{16}))$/i;
const SUM = /^([^+]+)\+(0x[0-9a-f]{1,16}|\d{1,15})$/i;
/** Symbols of one name that are told; of statics like `init` a kernel has some dozen. */
const MAX_SAME_NAME = 256;

/**
 * What a symbol or an address is: a name, of which there may be several, `name+0x10`, `0x…`, or 16 hexadecimal digits.
 * Symbols are those of `kernel`, its modules' too.
 */
export function lookUpSymbol({ reader, symbols }: KernelParts, text: string): AddressFacts[] {
  const facts = (address: bigint, symbol: KernelSymbol | undefined, offset: bigint): AddressFacts => {
    const perCpu = symbol !== undefined && symbol.address < UPPER_HALF;
    const mapping = perCpu ? undefined : reader.space.translate(address);
    return { address, symbol, offset, physical: mapping?.mapped ? mapping.physical : undefined, perCpu };
  };
  const [, prefixed, plain] = HEX.exec(text) ?? [];
  if (prefixed !== undefined || plain !== undefined) {
    const address = BigInt(`0x${prefixed ?? plain}`);
    const found = symbols?.at(address);
    const known = facts(address, found?.symbol, found?.offset ?? 0n);
    return known.symbol === undefined && known.physical === undefined ? [] : [known];
  }
  const [, name = text, distance = "0"] = SUM.exec(text) ?? [];
  const offset = BigInt(distance);
  return (symbols?.named(name) ?? [])
    .slice(0, MAX_SAME_NAME)
    .map((symbol) => facts(BigInt.asUintN(64, symbol.address + offset), symbol, offset));
}

/** A type, or a member of one, as C declares it. */
export type TypeFacts =
  | { readonly kind: "type"; readonly size: number | undefined; readonly lines: readonly string[] }
  | { readonly kind: "member"; readonly member: Member; readonly declaration: string };

/** What a type is, `kvm_vcpu` or `struct kvm_vcpu`, or where a member of it lies: `kvm_vcpu.arch.regs`. */
export function lookUpType(types: BtfTypes, text: string): TypeFacts | undefined {
  const path = text.trim().replace(/^(?:struct|union|enum)\s+/, "");
  if (path.includes(".")) {
    const member = types.member(path);
    const declaration = types.declaration(path);
    return member === undefined || declaration === undefined
      ? undefined
      : { kind: "member", member, declaration };
  }
  const lines = types.describe(path);
  return lines && { kind: "type", size: types.sizeOf(path), lines };
}
