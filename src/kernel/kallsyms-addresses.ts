import { u64big, viewOf } from "../core/bytes.ts";
import { START_KERNEL_MAP } from "./kernel-tables.ts";
import type { KernelReader } from "./reader.ts";
import type { SymbolNames } from "./symbol-names.ts";
import { isAscending } from "./symbol-table.ts";

/**
 * How a kernel keeps its symbols' addresses (kernel/kallsyms.c: kallsyms_sym_address()); nothing in a dump says which.
 * - `absolute`: u64s (kallsyms_addresses); all kernels before 4.6, some until 6.10
 * - `base-relative`: relative base + u32 (kallsyms_offsets; 4.6 to 6.19)
 * - `absolute-percpu`: s32; one that is not negative is what a per-CPU symbol has for an address, one that is stands
 *   for relative base − 1 − itself (4.6 to 6.14 where per-CPU symbols begin at 0, as on x86-64)
 * - `place-relative`: the address of the s32 + the s32 (7.0+)
 */
export type AddressForm = "absolute" | "base-relative" | "absolute-percpu" | "place-relative";

/** Where addresses may be kept, and how. */
export interface AddressTables {
  readonly form: AddressForm;
  /** Of kallsyms_addresses or kallsyms_offsets. */
  readonly table: bigint;
  /** Of kallsyms_relative_base, of the forms that have one. */
  readonly base?: bigint | undefined;
}

/** A symbol whose address is known from elsewhere. */
export interface KnownSymbol {
  readonly name: string;
  readonly address: bigint;
}

/**
 * The addresses of all named symbols, of the first tables that give `known` its address; where the names have it not,
 * of the first whose addresses ascend and end in the kernel's image, as scripts/kallsyms.c sorts them.
 */
export function chooseAddresses(
  reader: KernelReader,
  candidates: readonly AddressTables[],
  names: SymbolNames,
  known: KnownSymbol | undefined,
): { readonly form: AddressForm; readonly addresses: BigUint64Array } | undefined {
  const [index] = known === undefined ? [] : names.indicesOf(known.name);
  for (const tables of candidates) {
    const fits = index === undefined || readAddresses(reader, tables, index, 1)?.[0] === known?.address;
    const addresses = fits ? readAddresses(reader, tables, 0, names.size) : undefined;
    if (addresses === undefined || (index === undefined && !looksSorted(addresses))) continue;
    return { form: tables.form, addresses };
  }
  return undefined;
}

const looksSorted = (addresses: BigUint64Array): boolean =>
  (addresses.at(-1) ?? 0n) >= START_KERNEL_MAP && isAscending(addresses);

/** Addresses of `count` symbols from symbol `first` on, or as many of them as are known. */
function readAddresses(
  reader: KernelReader,
  { form, table, base }: AddressTables,
  first: number,
  count: number,
): BigUint64Array | undefined {
  const width = form === "absolute" ? 8 : 4;
  const start = BigInt.asUintN(64, table + BigInt(first * width));
  const bytes = Buffer.alloc(count * width);
  const known = Math.floor(reader.read(start, bytes) / width);
  const relativeBase = base === undefined ? 0n : reader.u64(base);
  if (known === 0 || relativeBase === undefined) return undefined;
  const view = viewOf(bytes);
  const address = ADDRESS_OF[form];
  // Elements of a BigUint64Array wrap at 64 bits, as the kernel's arithmetic does.
  return BigUint64Array.from({ length: known }, (_, i) => address(view, i, relativeBase, start));
}

type AddressOf = (view: DataView, index: number, base: bigint, table: bigint) => bigint;

const ADDRESS_OF: Readonly<Record<AddressForm, AddressOf>> = {
  absolute: (view, index) => u64big(view, 8 * index),
  "base-relative": (view, index, base) => base + BigInt(view.getUint32(4 * index, true)),
  "absolute-percpu": (view, index, base) => {
    const offset = view.getInt32(4 * index, true);
    return offset >= 0 ? BigInt(offset) : base - 1n - BigInt(offset);
  },
  "place-relative": (view, index, _, table) => table + BigInt(4 * index + view.getInt32(4 * index, true)),
};
