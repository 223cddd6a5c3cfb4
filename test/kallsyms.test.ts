import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readKallsyms } from "../src/kernel/kallsyms.ts";
import { Vmcoreinfo } from "../src/kernel/vmcoreinfo.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { mutantOf } from "./support/mutants.ts";
import { readerOf } from "./support/synth-kernel.ts";
import { buildKallsyms, type KallsymsOptions, type SynthForm, type SynthSymbol } from "./synth/kallsyms.ts";

const TEXT = 0xffff_ffff_8100_0000n;
/** Of the tables within the image. */
const TABLES = TEXT + 0x20_0000n;
const image = (size: number) => ({ virtual: TEXT, physical: 0x100_0000, size: 0x20_0000 + size });

const percpu = (count: number): SynthSymbol[] =>
  Array.from({ length: count }, (_, n) => ({ name: `per_cpu__${n}`, type: "A", address: BigInt(n * 64) }));
const text = (count: number): SynthSymbol[] => [
  { name: "_text", type: "T", address: TEXT },
  { name: "_stext", type: "T", address: TEXT },
  ...Array.from({ length: count }, (_, n) => ({
    name: n % 7 === 0 ? "init_started.isra.0" : `${"restarted_".repeat(n % 5)}function_${n}`,
    type: n % 3 === 0 ? "t" : "T",
    address: TEXT + BigInt(16 * (n + 1)),
  })),
  { name: "modules", type: "d", address: TEXT + 0x100_0000n },
];

const LAYOUTS: [string, KallsymsOptions][] = [
  ["3.10: absolute, u64 markers", { form: "absolute", order: "addresses-first", markers: 8, escaped: false }],
  ["4.19: per-CPU", { form: "absolute-percpu", order: "addresses-first", markers: 8, escaped: false }],
  ["5.10: base-relative", { form: "base-relative", order: "addresses-first", escaped: false }],
  ["6.1: per-CPU", { form: "absolute-percpu", order: "addresses-first" }],
  ["6.3: sequences", { form: "absolute-percpu", order: "addresses-first", sequences: true }],
  ["6.8: absolute, last", { form: "absolute", order: "addresses-last", sequences: true }],
  ["6.12: per-CPU, last", { form: "absolute-percpu", order: "addresses-last", sequences: true }],
  ["6.18: base-relative, last", { form: "base-relative", order: "addresses-last", sequences: true }],
  ["7.0: place-relative", { form: "place-relative", order: "addresses-last", sequences: true }],
];

const symbolsFor = (form: SynthForm, count = 1500): SynthSymbol[] =>
  form === "absolute-percpu" ? [...percpu(40), ...text(count)] : text(count);

function laidOut(symbols: readonly SynthSymbol[], options: KallsymsOptions) {
  const { bytes, labels } = buildKallsyms(TABLES, symbols, options);
  const lines = Object.entries(labels).map(([name, address]) => `SYMBOL(${name})=${address.toString(16)}\n`);
  const stext = `SYMBOL(_stext)=${TEXT.toString(16)}\n`;
  return { bytes, labels, stext, keys: lines.join("") };
}

describe.each(LAYOUTS)("%s", (_, options) => {
  const symbols = symbolsFor(options.form);
  const { bytes, stext, keys } = laidOut(symbols, options);
  const reader = () => readerOf({ at: TABLES, bytes });

  test.each([
    ["by VMCOREINFO", { vmcoreinfo: new Vmcoreinfo(stext + keys) }, "VMCOREINFO"],
    ["by VMCOREINFO without _stext", { vmcoreinfo: new Vmcoreinfo(keys) }, "VMCOREINFO"],
    ["by a search", { vmcoreinfo: new Vmcoreinfo(stext), image: image(bytes.length) }, "search"],
    ["by a search without VMCOREINFO", { image: image(bytes.length) }, "search"],
  ])("is read %s", (__, evidence, source) => {
    const { kallsyms, reason } = readKallsyms(reader(), evidence);
    expect(reason).toBeUndefined();
    expect(kallsyms).toMatchObject({ form: options.form, source, total: symbols.length });
    expect([...kallsyms!.symbols]).toEqual(symbols);
  });

  test("damaged, or cut, ends in symbols or a reason", () => {
    const outcomes = { read: 0, refused: 0 };
    for (let seed = 0; seed < 60; seed++) {
      const damaged = mutantOf(bytes, seed, 6, (chance) => chance.below(bytes.length - 8));
      if (damaged.length === 0) continue;
      const told = seed % 2 === 0 ? { vmcoreinfo: new Vmcoreinfo(stext + keys) } : {};
      const { kallsyms, reason } = readKallsyms(readerOf({ at: TABLES, bytes: damaged }), {
        ...told,
        image: image(bytes.length),
      });
      expect((kallsyms === undefined) !== (reason === undefined)).toBe(true);
      outcomes[kallsyms === undefined ? "refused" : "read"]++;
      for (const { name } of kallsyms?.symbols ?? []) expect(name).toMatch(/^[\x21-\x7e]{1,511}$/);
    }
    expect(Math.min(outcomes.read, outcomes.refused)).toBeGreaterThan(2);
  });
});

describe("lengths of names", () => {
  // No token shortens them.
  const long: SynthSymbol = { name: "Q".repeat(300), type: "t", address: TEXT + 8n };
  const old: SynthSymbol = { ...long, name: "Q".repeat(200) };

  test.each([
    ["of two bytes (6.1+)", long, true],
    ["of one byte, above 127 (before)", old, false],
  ])("%s", (_, symbol, escaped) => {
    const [first, second, ...others] = text(1000);
    const symbols = [first!, second!, symbol, ...others];
    const { bytes, stext, keys } = laidOut(symbols, {
      form: "absolute",
      order: "addresses-first",
      escaped,
    });
    for (const evidence of [{ vmcoreinfo: new Vmcoreinfo(stext + keys) }, { image: image(bytes.length) }]) {
      const { kallsyms } = readKallsyms(readerOf({ at: TABLES, bytes }), evidence);
      expect([...kallsyms!.symbols]).toEqual(symbols);
    }
  });

  test("a name longer than any symbol's ends the table", () => {
    const [first, second, ...others] = text(1000);
    const symbols = [first!, second!, { ...long, name: "Q".repeat(512) }, ...others];
    const { bytes, stext, keys } = laidOut(symbols, { form: "absolute", order: "addresses-first" });
    const { kallsyms } = readKallsyms(readerOf({ at: TABLES, bytes }), {
      vmcoreinfo: new Vmcoreinfo(stext + keys),
    });
    expect(kallsyms?.symbols.size).toBe(2);
    expect(kallsyms?.total).toBe(symbols.length);
  });
});

describe("lookups", () => {
  const symbols = symbolsFor("absolute-percpu", 600);
  const { bytes, stext, keys } = laidOut(symbols, { form: "absolute-percpu", order: "addresses-first" });
  const table = readKallsyms(readerOf({ at: TABLES, bytes }), {
    vmcoreinfo: new Vmcoreinfo(stext + keys),
  }).kallsyms!.symbols;

  test("by name find what a search through all symbols does, first and all", () => {
    const names = symbols.map(({ name }) => name);
    fc.assert(
      fc.property(fc.oneof(fc.constantFrom(...names), fc.string()), (name) => {
        const same = symbols.filter((symbol) => symbol.name === name);
        expect(table.named(name)).toEqual(same);
        expect(table.addressOf(name)).toBe(same[0]?.address);
      }),
      { numRuns: 300 },
    );
    expect(table.named("init_started.isra.0").length).toBeGreaterThan(50);
    // Not taken for "@".
    expect(table.addressOf("\u0140")).toBeUndefined();
  });

  test("by address find the nearest at or before it, of aliases the first, and no per-CPU variable", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: TEXT - 100n, max: TEXT + 16n * 700n }), (address) => {
        const before = symbols.filter((symbol) => symbol.address >= TEXT && symbol.address <= address);
        const nearest = before.find((symbol) => symbol.address === before.at(-1)!.address);
        expect(table.at(address)).toEqual(nearest && { symbol: nearest, offset: address - nearest.address });
      }),
      { numRuns: 300 },
    );
    expect(table.at(TEXT)?.symbol.name).toBe("_text");
    expect(table.at(64n)).toBeUndefined();
    expect(table.at(TEXT - 1n)).toBeUndefined();
  });
});

describe("what is missing", () => {
  const symbols = text(3000);
  const options = { form: "absolute", order: "addresses-last" } as const;
  const { bytes, labels, stext, keys } = laidOut(symbols, options);
  const told = { vmcoreinfo: new Vmcoreinfo(stext + keys) };
  const without = (page: bigint) => {
    const at = Number(page - (page % 4096n) - TABLES);
    return readerOf(
      { at: TABLES, bytes: bytes.subarray(0, at) },
      { at: TABLES + BigInt(at + 4096), bytes: bytes.subarray(at + 4096) },
    );
  };

  test("a page of names: the symbols before it are there", () => {
    const { kallsyms } = readKallsyms(without(labels.kallsyms_names! + 8192n), told);
    const { size } = kallsyms!.symbols;
    expect(size).toBeGreaterThan(300);
    expect([...kallsyms!.symbols]).toEqual(symbols.slice(0, size));
    expect(kallsyms!.total).toBe(symbols.length);
  });

  test("a page of addresses: the symbols before it are there", () => {
    const { kallsyms } = readKallsyms(without(labels.kallsyms_addresses! + 8192n), told);
    const { size } = kallsyms!.symbols;
    expect(size).toBeGreaterThan(900);
    expect([...kallsyms!.symbols]).toEqual(symbols.slice(0, size));
    expect(kallsyms!.symbols.addressOf("modules")).toBeUndefined();
  });

  test.each([
    ["tokens", "kallsyms_token_table", /tokens make no sense/],
    ["the token index", "kallsyms_token_index", /tokens make no sense/],
    ["the count", "kallsyms_num_syms", /head makes no sense/],
  ])("%s", (_, label, reason) => {
    const other = new Vmcoreinfo(
      (stext + keys).replace(
        new RegExp(`(SYMBOL\\(${label}\\)=).*`),
        `$1${(TABLES + 0x80_0000n).toString(16)}`,
      ),
    );
    expect(readKallsyms(readerOf({ at: TABLES, bytes }), { vmcoreinfo: other }).reason).toMatch(reason);
    // What VMCOREINFO says in vain is searched for.
    const found = readKallsyms(readerOf({ at: TABLES, bytes }), {
      vmcoreinfo: other,
      image: image(bytes.length),
    });
    expect(found.kallsyms?.source).toBe("search");
  });

  test("another kernel's _stext, or nothing to go by", () => {
    const other = new Vmcoreinfo(`SYMBOL(_stext)=ffffffff82000000\n${keys}`);
    expect(readKallsyms(readerOf({ at: TABLES, bytes }), { vmcoreinfo: other }).reason).toMatch(/_stext/);
    expect(readKallsyms(readerOf({ at: TABLES, bytes }), {}).reason).toMatch(/image lies is not known/);
    const empty = readerOf({ at: TABLES, bytes: Buffer.alloc(4096) });
    expect(readKallsyms(empty, { image: image(4096) }).reason).toMatch(/none in the kernel's image/);
  });
});

test("an image made of digits and counts is given up on, soon", () => {
  const { bytes } = laidOut(text(600), { form: "absolute", order: "addresses-first" });
  const tail = bytes.subarray(bytes.indexOf("0\x001\x002\x00") - 0x400);
  // Behind each count names without end: the last of every four reaches over the next count.
  const unit = Buffer.from("00001000000000000161016101610961", "hex");
  const hostile = Buffer.alloc(4 * 2 ** 20);
  for (let at = 0; at < hostile.length; at += unit.length) unit.copy(hostile, at);
  const head = Buffer.alloc(Math.ceil(tail.length / 4096) * 4096);
  tail.copy(head);
  const all = Buffer.concat([hostile, ...Array.from({ length: 8 }, () => head)]);
  const start = cpuTime();
  expect(
    readKallsyms(readerOf({ at: TABLES, bytes: all }), { image: image(all.length) }).reason,
  ).toBeDefined();
  expect(cpuTime() - start).toBeLessThan(10_000);
});
