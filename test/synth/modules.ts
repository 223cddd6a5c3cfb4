/** Modules as a kernel keeps them. Offsets are those of `MODULE_OFFSETS`, made up but for list and name. */
export interface SynthModule {
  readonly name: string;
  readonly state?: number;
  /** As many as there are kinds of memory; of struct module before 6.4 the first two count. */
  readonly regions?: readonly { readonly base: bigint; readonly size: number }[];
  readonly symbols?: readonly SynthModuleSymbol[];
}

export interface SynthModuleSymbol {
  readonly name: string;
  readonly letter: string;
  readonly address: bigint;
  readonly global?: boolean;
  readonly undefined?: boolean;
}

export interface SynthModules {
  readonly bytes: Buffer;
  /** Address of the list's head. */
  readonly head: bigint;
  /** Of each struct module. */
  readonly places: readonly bigint[];
}

export const MODULE_OFFSETS = {
  "module.state": 0,
  "module.list": 8,
  "module.name": 24,
  "module.kallsyms": 104,
  "mod_kallsyms.symtab": 0,
  "mod_kallsyms.num_symtab": 8,
  "mod_kallsyms.strtab": 16,
} as const;
/** Where the two shapes have the regions: at 128, 32 bytes each; base at 8, size at 20. */
export const LAYOUT_OFFSETS = {
  "module.core_layout.base": 136,
  "module.core_layout.size": 148,
  "module.init_layout.base": 168,
  "module.init_layout.size": 180,
} as const;
export const MEMORY_OFFSETS = {
  "module.mem": [128, 32, 7],
  "module_memory.base": 8,
  "module_memory.size": 20,
} as const;
export const TYPETAB_OFFSET = { "mod_kallsyms.typetab": 24 } as const;

const MODULE_SIZE = 512;

/** The list's head at `base`, then modules, each with what belongs to it. */
export function buildModules(
  base: bigint,
  modules: readonly SynthModule[],
  /** Where the kernel keeps a symbol's letter: since 5.2 in a table, until 4.20 in st_info. */
  letters: "typetab" | "st_info" = "typetab",
): SynthModules {
  const tables = modules.map(({ symbols = [] }) => symbolTables(symbols, letters));
  const places: bigint[] = [];
  let at = 16;
  for (const { size } of tables) {
    places.push(base + BigInt(at));
    at += MODULE_SIZE + size;
  }
  const bytes = Buffer.alloc(at);
  const links = [base, ...places.map((place) => place + 8n)];
  for (const [i, link] of links.entries()) {
    bytes.writeBigUInt64LE(links[(i + 1) % links.length]!, Number(link - base));
    bytes.writeBigUInt64LE(links.at(i - 1)!, Number(link - base) + 8);
  }
  for (const [i, module] of modules.entries()) {
    const start = Number(places[i]! - base);
    bytes.writeUInt32LE(module.state ?? 0, start);
    bytes.write(module.name, start + 24, "latin1");
    for (const [n, region] of (module.regions ?? []).entries()) {
      bytes.writeBigUInt64LE(region.base, start + 128 + 32 * n + 8);
      bytes.writeUInt32LE(region.size, start + 128 + 32 * n + 20);
    }
    const behind = start + MODULE_SIZE;
    bytes.writeBigUInt64LE(base + BigInt(behind), start + 104);
    const { symtab, strtab, typetab } = tables[i]!;
    const parts = [symtab, strtab, typetab];
    let part = behind + 32;
    for (const [n, offset] of [0, 16, 24].entries()) {
      bytes.writeBigUInt64LE(base + BigInt(part), behind + offset);
      parts[n]!.copy(bytes, part);
      part += parts[n]!.length;
    }
    bytes.writeUInt32LE(symtab.length / 24, behind + 8);
  }
  return { bytes, head: base, places };
}

/** Elf64_Syms, the first of which is null, and what they refer to. */
function symbolTables(symbols: readonly SynthModuleSymbol[], letters: "typetab" | "st_info") {
  const symtab = Buffer.alloc(24 * (symbols.length + 1));
  const typetab = Buffer.from(`?${symbols.map(({ letter }) => letter).join("")}`, "latin1");
  let strings = "\0";
  for (const [i, symbol] of symbols.entries()) {
    const at = 24 * (i + 1);
    const info = letters === "typetab" ? (symbol.global ? 0x10 : 0) : symbol.letter.charCodeAt(0);
    symtab.writeUInt32LE(symbol.name === "" ? 0 : strings.length, at);
    symtab.writeUInt8(info, at + 4);
    symtab.writeUInt16LE(symbol.undefined ? 0 : 3, at + 6);
    symtab.writeBigUInt64LE(symbol.address, at + 8);
    if (symbol.name !== "") strings += `${symbol.name}\0`;
  }
  const strtab = Buffer.from(strings, "latin1");
  const padding = Buffer.alloc((8 - ((strtab.length + typetab.length) % 8)) % 8);
  const size = 32 + symtab.length + strtab.length + typetab.length + padding.length;
  return { symtab, strtab, typetab: Buffer.concat([typetab, padding]), size };
}
