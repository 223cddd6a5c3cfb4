import type { SymbolNames } from "./symbol-names.ts";
import type { KernelSymbol, KernelSymbols } from "./symbols.ts";

/** Below it lie no kernel addresses; what symbols have there are offsets of per-CPU variables. */
const UPPER_HALF = 1n << 63n;

/** Symbols of the kernel, or of one module; some 45 bytes a symbol. */
export class SymbolTable implements KernelSymbols, Iterable<KernelSymbol> {
  readonly size: number;
  /** Of the module whose symbols they are. */
  readonly module: string | undefined;
  readonly #names: SymbolNames;
  readonly #addresses: BigUint64Array;
  /** Indices by address; undefined where they ascend already. */
  #order: Uint32Array | undefined | "unknown" = "unknown";

  /** @param addresses of the names, in the same order; where there are fewer, the last names are left out */
  constructor(names: SymbolNames, addresses: BigUint64Array, module?: string) {
    this.size = Math.min(names.size, addresses.length);
    this.module = module;
    this.#names = names;
    this.#addresses = addresses;
  }

  addressOf(name: string): bigint | undefined {
    for (const index of this.#names.indicesOf(name)) return this.#addresses[index];
    return undefined;
  }

  named(name: string): KernelSymbol[] {
    return [...this.#names.indicesOf(name)].filter((index) => index < this.size).map((i) => this.#symbol(i));
  }

  /**
   * The last symbol at or before an address; of several at the same address the first, as the kernel prints it.
   * A per-CPU variable's offset is no address: `at` finds none.
   */
  at(address: bigint): { readonly symbol: KernelSymbol; readonly offset: bigint } | undefined {
    if (address < UPPER_HALF) return undefined;
    // `below` symbols lie at or before the address; then, where that one lies, as few as possible.
    const below = this.#countWhile((value) => value <= address);
    if (below === 0) return undefined;
    const nearest = this.#addresses[this.#inOrder(below - 1)]!;
    if (nearest < UPPER_HALF) return undefined;
    const first = this.#countWhile((value) => value < nearest);
    return { symbol: this.#symbol(this.#inOrder(first)), offset: address - nearest };
  }

  /** The highest address of a symbol; undefined of an empty table. */
  get last(): bigint | undefined {
    return this.size === 0 ? undefined : this.#addresses[this.#inOrder(this.size - 1)];
  }

  /** All symbols, in the order of the kernel's table. */
  *[Symbol.iterator](): Generator<KernelSymbol> {
    for (let i = 0; i < this.size; i++) yield this.#symbol(i);
  }

  #symbol(index: number): KernelSymbol {
    const symbol = {
      name: this.#names.name(index),
      address: this.#addresses[index]!,
      type: this.#names.type(index),
    };
    return this.module === undefined ? symbol : { ...symbol, module: this.module };
  }

  /** How many symbols, by ascending address, something holds for that holds for no later one. */
  #countWhile(holds: (address: bigint) => boolean): number {
    let low = 0;
    let high = this.size;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (holds(this.#addresses[this.#inOrder(middle)]!)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #inOrder(place: number): number {
    if (this.#order === "unknown") this.#order = orderOf(this.#addresses, this.size);
    return this.#order === undefined ? place : this.#order[place]!;
  }
}

/** Whether addresses never descend. */
export function isAscending(addresses: BigUint64Array, size = addresses.length): boolean {
  for (let i = 1; i < size; i++) if (addresses[i]! < addresses[i - 1]!) return false;
  return true;
}

function orderOf(addresses: BigUint64Array, size: number): Uint32Array | undefined {
  if (isAscending(addresses, size)) return undefined;
  return Uint32Array.from({ length: size }, (_, i) => i).sort((a, b) => {
    const [first, second] = [addresses[a]!, addresses[b]!];
    return first === second ? a - b : first < second ? -1 : 1;
  });
}
