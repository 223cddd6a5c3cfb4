import { PAGE_SIZE } from "../core/address.ts";
import { u64big, viewOf } from "../core/bytes.ts";
import { isType } from "./kallsyms-names.ts";
import type { KernelModule } from "./modules.ts";
import type { KernelReader } from "./reader.ts";
import { KSYM_NAME_LEN, SymbolNamesBuilder } from "./symbol-names.ts";
import { SymbolTable } from "./symbol-table.ts";
import { type KernelTypes, offsetOf } from "./types.ts";

/** A module's own symbols. */
export interface ModuleSymbols {
  readonly symbols: SymbolTable;
  /** Whether they are all there are. */
  readonly complete: boolean;
  /** Why they are not. */
  readonly reason?: string | undefined;
  /** How many entries of its table were looked for. */
  readonly entries: number;
}

/** Of one module; the largest (GPU drivers) have some 60 000. */
export const MAX_MODULE_SYMBOLS = 2 ** 18;

/** Elf64_Sym (elf.h): u32 st_name, u8 st_info, u8 st_other, u16 st_shndx, u64 st_value, u64 st_size. */
const SYM = { size: 24, name: 0, info: 4, section: 6, value: 8 } as const;
const SHN_UNDEF = 0;
const STB_GLOBAL = 1;
const UNKNOWN_TYPE = 0x3f;

/**
 * Decodes `module.kallsyms` (struct mod_kallsyms, 4.5+): what the module itself defines, statics too, at the addresses
 * it was loaded to; per-CPU symbols have their offset. Types are nm(1)'s: capital where a symbol is global, while
 * /proc/kallsyms has capitals for what a module exports.
 * @param limit of how many entries of the module's table are looked at
 */
export function readModuleSymbols(
  reader: KernelReader,
  types: KernelTypes,
  module: KernelModule,
  limit = MAX_MODULE_SYMBOLS,
): ModuleSymbols {
  const builder = new SymbolNamesBuilder();
  const addresses: bigint[] = [];
  let count = 0;
  const finish = (reason?: string): ModuleSymbols => ({
    symbols: new SymbolTable(builder.build(), BigUint64Array.from(addresses), module.name),
    complete: reason === undefined,
    reason,
    entries: count,
  });
  const table = tableOf(reader, types, module);
  if (typeof table === "string") return finish(table);
  count = Math.min(table.count, limit, MAX_MODULE_SYMBOLS);
  const symbols = Buffer.alloc(count * SYM.size);
  const known = Math.floor(reader.read(table.symbols, symbols) / SYM.size);
  const letters = Buffer.alloc(table.letters === undefined ? 0 : count);
  const lettersKnown = table.letters === undefined ? 0 : reader.read(table.letters, letters);
  const strings = new Strings(reader, table.strings);
  const view = viewOf(symbols);
  let lost = 0;
  for (let at = 0; at < known * SYM.size; at += SYM.size) {
    if (view.getUint16(at + SYM.section, true) === SHN_UNDEF) continue;
    const name = strings.at(view.getUint32(at + SYM.name, true));
    if (name === undefined) lost++;
    // Section symbols have no name.
    if (name === undefined || name.length === 0) continue;
    const place = at / SYM.size;
    const type = typeOf(view.getUint8(at + SYM.info), place < lettersKnown ? letters[place] : undefined);
    if (!builder.add(name, name.length, type)) return finish("its names take too much room");
    addresses.push(u64big(view, at + SYM.value));
  }
  if (table.count > count) return finish(`its table claims ${table.count} symbols, too many to read`);
  if (known < count) return finish("its table is not all in memory");
  return finish(lost > 0 ? `${lost} of its names are not in memory, or make no sense` : undefined);
}

interface ModuleTable {
  readonly symbols: bigint;
  readonly count: number;
  readonly strings: bigint;
  /** A letter for each symbol, since 5.2. */
  readonly letters: bigint | undefined;
}

/** Where a module's symbols are, or why that is not known. */
function tableOf(
  reader: KernelReader,
  types: KernelTypes,
  { address, state }: KernelModule,
): ModuleTable | string {
  const kallsyms = offsetOf(types, "module.kallsyms");
  const symtab = offsetOf(types, "mod_kallsyms.symtab");
  const count = offsetOf(types, "mod_kallsyms.num_symtab");
  const strtab = offsetOf(types, "mod_kallsyms.strtab");
  if (kallsyms === undefined || symtab === undefined || count === undefined || strtab === undefined) {
    return "the kernel's types do not tell where a module's symbols are";
  }
  if (state === "unformed") return "it was not loaded yet";
  const place = reader.u64(address + BigInt(kallsyms));
  if (place === undefined || place === 0n) return "where its symbols are is not in memory";
  const typetab = offsetOf(types, "mod_kallsyms.typetab");
  const found = {
    symbols: reader.u64(place + BigInt(symtab)),
    count: reader.u32(place + BigInt(count)),
    strings: reader.u64(place + BigInt(strtab)),
  };
  if (found.symbols === undefined || found.count === undefined || found.strings === undefined) {
    return "where its symbols are is not in memory";
  }
  const letters = typetab === undefined ? undefined : reader.u64(place + BigInt(typetab));
  return { symbols: found.symbols, count: found.count, strings: found.strings, letters };
}

/** The kernel's letter (kernel/module/kallsyms.c: elf_type()), which it wrote over st_info until 4.20. */
function typeOf(info: number, letter = info): number {
  if (!isType(letter)) return UNKNOWN_TYPE;
  const isWeak = "vwVW".includes(String.fromCharCode(letter));
  return info >> 4 === STB_GLOBAL && !isWeak ? letter & ~0x20 : letter;
}

/** Names in a string table whose size is not known; it is read in windows, for names ascend. */
class Strings {
  readonly #reader: KernelReader;
  readonly #table: bigint;
  readonly #buffer = Buffer.alloc(2 * PAGE_SIZE);
  #start = 0;
  #length = 0;

  constructor(reader: KernelReader, table: bigint) {
    this.#reader = reader;
    this.#table = table;
  }

  /** The name at an offset, valid until the next call; undefined where it is not known or not printable ASCII. */
  at(offset: number): Buffer | undefined {
    const near = this.#within(offset);
    if (near !== undefined) return near;
    this.#start = offset;
    this.#length = this.#reader.read(BigInt.asUintN(64, this.#table + BigInt(offset)), this.#buffer);
    return this.#within(offset);
  }

  #within(offset: number): Buffer | undefined {
    const from = offset - this.#start;
    if (from < 0 || from >= this.#length) return undefined;
    const known = this.#buffer.subarray(from, Math.min(this.#length, from + KSYM_NAME_LEN));
    const end = known.indexOf(0);
    if (end < 0) return undefined;
    const name = known.subarray(0, end);
    return name.every((byte) => byte > 0x20 && byte < 0x7f) ? name : undefined;
  }
}
