import { MAX_MODULE_SYMBOLS, type ModuleSymbols, readModuleSymbols } from "./module-symbols.ts";
import { type KernelModule, type ModuleList, readModules } from "./modules.ts";
import type { KernelReader } from "./reader.ts";
import type { SymbolTable } from "./symbol-table.ts";
import type { KernelSymbol, KernelSymbols } from "./symbols.ts";
import type { KernelTypes } from "./types.ts";

/** Entries of all modules' symbol tables looked at: some ten times as many as large machines have. */
const MAX_ALL_MODULES = 2 ** 20;

/** Symbols of the kernel and its modules; modules' are decoded when first asked for. */
export class LinuxSymbols implements KernelSymbols {
  readonly kernel: SymbolTable;
  readonly #reader: KernelReader;
  readonly #types: KernelTypes | undefined;
  readonly #tables = new Map<KernelModule, ModuleSymbols>();
  #list: ModuleList | undefined;
  #room = MAX_ALL_MODULES;

  /** @param types without which modules' symbols are not known */
  constructor(kernel: SymbolTable, reader: KernelReader, types?: KernelTypes) {
    this.kernel = kernel;
    this.#reader = reader;
    this.#types = types;
  }

  get modules(): ModuleList {
    this.#list ??= readModules(this.#reader, this.kernel, this.#types);
    return this.#list;
  }

  /** A module's own symbols; undefined where types are not known. `module` is one of `modules`. */
  symbolsOf(module: KernelModule): ModuleSymbols | undefined {
    if (this.#types === undefined) return undefined;
    let found = this.#tables.get(module);
    if (found === undefined) {
      const limit = Math.min(this.#room, MAX_MODULE_SYMBOLS);
      found = readModuleSymbols(this.#reader, this.#types, module, limit);
      this.#room -= found.entries;
      this.#tables.set(module, found);
    }
    return found;
  }

  addressOf(name: string): bigint | undefined {
    const own = this.kernel.addressOf(name);
    if (own !== undefined) return own;
    for (const module of this.modules.modules) {
      const address = this.symbolsOf(module)?.symbols.addressOf(name);
      if (address !== undefined) return address;
    }
    return undefined;
  }

  named(name: string): KernelSymbol[] {
    const others = this.modules.modules.flatMap(
      (module) => this.symbolsOf(module)?.symbols.named(name) ?? [],
    );
    return [...this.kernel.named(name), ...others];
  }

  /** Of a module only within what it occupies, of the kernel not behind its last symbol: nothing is named by chance. */
  at(address: bigint): { readonly symbol: KernelSymbol; readonly offset: bigint } | undefined {
    const { last } = this.kernel;
    if (last !== undefined && address <= last) return this.kernel.at(address);
    for (const module of this.modules.modules) {
      const region = module.regions.find(
        ({ base, size }) => address >= base && address < base + BigInt(size),
      );
      const found = region && this.symbolsOf(module)?.symbols.at(address);
      if (region !== undefined)
        return found !== undefined && found.symbol.address >= region.base ? found : undefined;
    }
    return undefined;
  }
}
