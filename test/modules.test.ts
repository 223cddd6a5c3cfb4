import { describe, expect, test } from "vitest";
import { LinuxSymbols } from "../src/kernel/linux-symbols.ts";
import { readModuleSymbols } from "../src/kernel/module-symbols.ts";
import { readModules } from "../src/kernel/modules.ts";
import { SymbolNamesBuilder } from "../src/kernel/symbol-names.ts";
import { SymbolTable } from "../src/kernel/symbol-table.ts";
import { symbolsOf, typesOf } from "./support/kernel-tables.ts";
import { mutantOf } from "./support/mutants.ts";
import { readerOf } from "./support/synth-kernel.ts";
import {
  buildModules,
  LAYOUT_OFFSETS,
  MEMORY_OFFSETS,
  MODULE_OFFSETS,
  type SynthModule,
  TYPETAB_OFFSET,
} from "./synth/modules.ts";

const HEAD = 0xffff_ffff_8230_0000n;
const KVM = 0xffff_ffff_c060_0000n;
const AMD = 0xffff_ffff_c070_0000n;
const OLD = typesOf({ ...MODULE_OFFSETS, ...LAYOUT_OFFSETS, ...TYPETAB_OFFSET });
const NEW = typesOf({ ...MODULE_OFFSETS, ...MEMORY_OFFSETS, ...TYPETAB_OFFSET });

const modules: SynthModule[] = [
  {
    name: "kvm_amd",
    regions: [{ base: AMD, size: 0x3000 }],
    symbols: [
      { name: "svm_exit", letter: "t", address: AMD + 0x100n },
      { name: "shared", letter: "d", address: AMD + 0x2000n },
      { name: "kvm_init", letter: "U", address: 0n, undefined: true },
    ],
  },
  {
    name: "kvm",
    regions: [
      { base: KVM, size: 0x4000 },
      { base: KVM + 0x8000n, size: 0x1000 },
    ],
    symbols: [
      { name: "vm_list", letter: "d", address: KVM + 0x8010n, global: true },
      { name: "", letter: "t", address: KVM },
      { name: "kvm_init", letter: "t", address: KVM + 0x40n, global: true },
      { name: "cpu_kick_mask", letter: "a", address: 0x34020n },
      { name: "shared", letter: "d", address: KVM + 0x8100n },
      { name: "weak", letter: "w", address: KVM + 0x80n, global: true },
    ],
  },
  { name: "loading", state: 1 },
  { name: "unborn", state: 3, symbols: [{ name: "secret", letter: "t", address: KVM }] },
];
const built = buildModules(HEAD, modules);
const kernelSymbols = symbolsOf({ modules: HEAD });
const reader = (bytes = built.bytes) => readerOf({ at: HEAD, bytes });

describe("the list of modules", () => {
  test.each([
    ["mem[] (6.4+)", NEW],
    ["core_layout and init_layout (4.5 to 6.3)", OLD],
  ])("with %s", (_, types) => {
    const list = readModules(reader(), kernelSymbols, types);
    expect(list).toEqual({
      complete: true,
      modules: modules.map(({ name, state = 0, regions = [] }, i) => ({
        name,
        address: built.places[i],
        state: ["live", "coming", "going", "unformed"][state],
        regions,
      })),
    });
  });

  test("without types has the names", () => {
    const list = readModules(reader(), kernelSymbols, undefined);
    expect(list.complete).toBe(true);
    expect(list.modules.map(({ name, state, regions }) => [name, state, regions])).toEqual(
      modules.map(({ name }) => [name, undefined, []]),
    );
  });

  test("is empty, or not there", () => {
    const empty = readerOf({ at: HEAD, bytes: buildModules(HEAD, []).bytes });
    expect(readModules(empty, kernelSymbols, NEW)).toEqual({ modules: [], complete: true });
    expect(readModules(reader(), symbolsOf({}), NEW)).toEqual({
      modules: [],
      complete: false,
      reason: "the kernel has no symbol modules",
    });
    expect(readModules(reader(), symbolsOf({ modules: 0x1000n }), NEW)).toMatchObject({ complete: false });
  });

  const damaged = (change: (bytes: Buffer, links: readonly number[]) => void) => {
    const bytes = Buffer.from(built.bytes);
    change(
      bytes,
      built.places.map((place) => Number(place - HEAD) + 8),
    );
    const { modules: found, complete, reason } = readModules(reader(bytes), kernelSymbols, NEW);
    return { names: found.map(({ name }) => name), complete, reason };
  };

  test("that runs in a circle ends", () => {
    expect(damaged((bytes, links) => bytes.writeBigUInt64LE(built.places[0]! + 8n, links[1]))).toMatchObject({
      names: ["kvm_amd", "kvm", "unborn", "loading"],
      complete: false,
      reason: expect.stringMatching(/runs in a circle at 0xffffffff82300018/),
    });
  });

  test("that is cut is read from both ends", () => {
    expect(damaged((bytes, links) => bytes.writeBigUInt64LE(0xdead_0000_0000_0100n, links[1]))).toMatchObject(
      {
        names: ["kvm_amd", "kvm", "unborn", "loading"],
        complete: false,
        reason: expect.stringMatching(/not all in memory/),
      },
    );
  });

  test("with a link that is no module leaves it out", () => {
    expect(damaged((bytes, links) => bytes.fill(0xff, links[1]! + 16, links[1]! + 20))).toEqual({
      names: ["kvm_amd", "loading", "unborn"],
      complete: false,
      reason: "1 of 4 links lead to no module",
    });
  });
});

describe("a module's symbols", () => {
  const list = readModules(reader(), kernelSymbols, NEW).modules;
  const kvm = [
    { name: "vm_list", type: "D", address: KVM + 0x8010n, module: "kvm" },
    { name: "kvm_init", type: "T", address: KVM + 0x40n, module: "kvm" },
    { name: "cpu_kick_mask", type: "a", address: 0x34020n, module: "kvm" },
    { name: "shared", type: "d", address: KVM + 0x8100n, module: "kvm" },
    { name: "weak", type: "w", address: KVM + 0x80n, module: "kvm" },
  ];

  test("are those it defines", () => {
    const { symbols, ...outcome } = readModuleSymbols(reader(), NEW, list[1]!);
    expect([...symbols]).toEqual(kvm);
    expect(outcome).toEqual({ complete: true, reason: undefined, entries: 7 });
    expect([...readModuleSymbols(reader(), NEW, list[0]!).symbols].map(({ name }) => name)).toEqual([
      "svm_exit",
      "shared",
    ]);
  });

  test("have their letters in st_info until 4.20", () => {
    const old = buildModules(HEAD, modules, "st_info");
    const types = typesOf({ ...MODULE_OFFSETS, ...LAYOUT_OFFSETS });
    const [, module] = readModules(reader(old.bytes), kernelSymbols, types).modules;
    // What is global is not told there.
    expect([...readModuleSymbols(reader(old.bytes), types, module!).symbols]).toEqual(
      kvm.map((symbol) => ({ ...symbol, type: symbol.type.toLowerCase() })),
    );
  });

  test("that are missing are counted, never made up", () => {
    expect(readModuleSymbols(reader(), NEW, list[1]!, 3)).toMatchObject({
      complete: false,
      reason: "its table claims 7 symbols, too many to read",
      symbols: { size: 1 },
    });
    expect(readModuleSymbols(reader(), NEW, list[3]!).reason).toBe("it was not loaded yet");
    expect(readModuleSymbols(reader(), typesOf({}), list[1]!).reason).toMatch(/types do not tell/);
    const elsewhere = { ...list[1]!, address: 0xffff_ffff_a000_0000n };
    expect(readModuleSymbols(reader(), NEW, elsewhere).reason).toMatch(/not in memory/);
    const bytes = Buffer.from(built.bytes);
    const symtab = Number(built.places[1]! - HEAD) + 512 + 32;
    bytes.writeUInt32LE(0x7fff_ffff, symtab + 24);
    const { symbols, reason } = readModuleSymbols(reader(bytes), NEW, list[1]!);
    expect([...symbols]).toEqual(kvm.slice(1));
    expect(reason).toBe("1 of its names are not in memory, or make no sense");
  });
});

describe("the kernel and its modules", () => {
  const kernel = kernelTable([
    ["_text", "T", 0xffff_ffff_8100_0000n],
    ["modules", "d", HEAD],
    ["shared", "d", HEAD + 16n],
    ["_end", "B", 0xffff_ffff_8300_0000n],
  ]);
  const symbols = new LinuxSymbols(kernel, reader(), NEW);

  test("names: the kernel's own first", () => {
    expect(symbols.addressOf("vm_list")).toBe(KVM + 0x8010n);
    expect(symbols.addressOf("shared")).toBe(HEAD + 16n);
    expect(symbols.named("shared").map(({ module }) => module)).toEqual([undefined, "kvm_amd", "kvm"]);
    expect(symbols.addressOf("secret")).toBeUndefined();
  });

  test("addresses: only within what a module occupies", () => {
    const at = (address: bigint) => {
      const found = symbols.at(address);
      return found && [found.symbol.name, found.offset];
    };
    expect(at(KVM + 0x60n)).toEqual(["kvm_init", 0x20n]);
    expect(at(KVM + 0x8010n)).toEqual(["vm_list", 0n]);
    expect(at(KVM + 0x3fffn)).toEqual(["weak", 0x3f7fn]);
    expect(at(KVM + 0x4000n)).toBeUndefined();
    expect(at(KVM + 0x8000n)).toBeUndefined();
    expect(at(AMD + 0x2fffn)).toEqual(["shared", 0xfffn]);
    expect(at(HEAD + 4n)).toEqual(["modules", 4n]);
    expect(at(0xffff_ffff_8300_0001n)).toBeUndefined();
    expect(at(0x34020n)).toBeUndefined();
  });

  test("without types there are the kernel's", () => {
    const bare = new LinuxSymbols(kernel, reader());
    expect(bare.modules.modules).toHaveLength(4);
    expect(bare.addressOf("vm_list")).toBeUndefined();
    expect(bare.named("shared")).toHaveLength(1);
    expect(bare.at(KVM + 0x60n)).toBeUndefined();
  });

  test("damaged, they end in what is there", () => {
    let complete = 0;
    for (let seed = 0; seed < 600; seed++) {
      const bytes = mutantOf(built.bytes, seed, 4, (chance) => chance.below(built.bytes.length - 8));
      const damaged = new LinuxSymbols(kernel, reader(bytes.length === 0 ? Buffer.alloc(8) : bytes), NEW);
      damaged.addressOf("nowhere");
      damaged.at(KVM + 0x60n);
      expect(damaged.modules.modules.length).toBeLessThan(6);
      if (damaged.modules.complete) complete++;
    }
    expect(Math.min(complete, 600 - complete)).toBeGreaterThan(50);
  });
});

function kernelTable(rows: readonly (readonly [name: string, type: string, address: bigint])[]): SymbolTable {
  const builder = new SymbolNamesBuilder();
  for (const [name, type] of rows) builder.add(Buffer.from(name), name.length, type.charCodeAt(0));
  return new SymbolTable(
    builder.build(),
    BigUint64Array.from(rows, ([, , address]) => address),
  );
}
