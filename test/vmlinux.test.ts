import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GuestcoreError } from "../src/core/errors.ts";
import type { LinuxImage } from "../src/kernel/linux-image.ts";
import { placeVmlinux } from "../src/kernel/place-vmlinux.ts";
import { readVmlinux } from "../src/kernel/vmlinux.ts";
import { MemorySource } from "./support/memory-io.ts";
import { mutantOf } from "./support/mutants.ts";
import { readerOf } from "./support/synth-kernel.ts";
import type { SynthSymbol } from "./synth/kallsyms.ts";
import { buildVmlinux } from "./synth/vmlinux.ts";

const LINKED = 0xffff_ffff_8100_0000n;
const SHIFT = 0x1d40_0000n;
const SYMBOLS: readonly SynthSymbol[] = [
  { name: "runqueues", type: "D", address: 0x2_cd40n },
  { name: "_text", type: "T", address: LINKED },
  { name: "_stext", type: "T", address: LINKED },
  { name: "vdso_end", type: "A", address: 0xffff_ffff_ff60_0000n },
  { name: "linux_banner", type: "R", address: LINKED + 0x1000n },
  { name: "weak_one", type: "W", address: LINKED + 0x2000n },
  { name: "local", type: "t", address: LINKED + 0x20n },
  { name: "zeros", type: "b", address: LINKED + 0x3000n },
  { name: "abs_inside", type: "A", address: LINKED + 0x3800n },
  { name: "_end", type: "B", address: LINKED + 0x4000n },
  { name: "scratch", type: "d", address: LINKED + 0x5000n },
];
const elf = buildVmlinux({ symbols: SYMBOLS, buildId: "c0ffee00" });
const open = (bytes: Uint8Array) => readVmlinux(new MemorySource(bytes, "vmlinux"));

describe("the symbols of a vmlinux", () => {
  test("are those it defines, with nm's letters", () => {
    const { names, addresses, complete, buildId, file } = open(elf);
    const read = [...addresses].map((address, i) => ({ name: names.name(i), type: names.type(i), address }));
    expect(read).toEqual(SYMBOLS);
    expect([names.size, complete, buildId, file]).toEqual([SYMBOLS.length, true, "c0ffee00", "vmlinux"]);
  });

  test.each<[string, Uint8Array, RegExp]>([
    ["no ELF file", Buffer.from("MZ"), /not an ELF vmlinux/],
    ["a stripped one", buildVmlinux({ symbols: [], sectionHeaders: { 4: { type: 1 } } }), /no symbols/],
    [
      "a table behind the end",
      buildVmlinux({ symbols: SYMBOLS, sectionHeaders: { 4: { offset: 1n << 40n } } }),
      /outside/,
    ],
    [
      "a table without an end",
      buildVmlinux({ symbols: SYMBOLS, sectionHeaders: { 4: { link: 200 } } }),
      /no symbols/,
    ],
  ])("%s has none", (_, bytes, reason) => {
    expect(() => open(bytes)).toThrow(reason);
    expect(() => open(bytes)).toThrow(GuestcoreError);
  });

  test("a table that claims more than the file has is read to its end", () => {
    const { names, complete } = open(
      buildVmlinux({ symbols: SYMBOLS, sectionHeaders: { 4: { size: (1n << 60n) + 8n } } }),
    );
    expect(complete).toBe(false);
    expect(names.size).toBeGreaterThanOrEqual(SYMBOLS.length);
  });

  test("property: whatever symbols there are, they come back", () => {
    const symbol = fc.record({
      name: fc.stringMatching(/^[A-Za-z_.$][\w.$]{0,40}$/),
      type: fc.constantFrom("T", "t", "D", "d", "R", "r", "B", "b", "W", "A"),
      address: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    });
    fc.assert(
      fc.property(fc.array(symbol, { minLength: 1, maxLength: 40 }), (symbols) => {
        const { names, addresses } = open(buildVmlinux({ symbols }));
        expect(
          [...addresses].map((address, i) => ({ name: names.name(i), type: names.type(i), address })),
        ).toEqual(symbols);
      }),
      { seed: 5, numRuns: 200 },
    );
  });

  test("damaged files end in symbols or an error of ours", () => {
    const outcomes = { read: 0, refused: 0 };
    for (let seed = 0; seed < 2000; seed++) {
      try {
        open(mutantOf(elf, seed, 6, (chance) => chance.below(elf.length - 8)));
        outcomes.read++;
      } catch (error) {
        if (!(error instanceof GuestcoreError)) throw error;
        outcomes.refused++;
      }
    }
    expect(Math.min(outcomes.read, outcomes.refused)).toBeGreaterThan(100);
  });
});

describe("a vmlinux in memory", () => {
  const banner = Buffer.alloc(8192);
  banner.write("Linux version 6.1.0-x (me@here) #1\n", 0);
  const at = LINKED + SHIFT + 0x1000n;
  const memory = (bytes: Buffer = banner) => readerOf({ at, bytes });
  const fact = <T>(value: T) => ({ value, source: "VMCOREINFO" as const });
  const image = (changes: Partial<LinuxImage> = {}): LinuxImage => ({
    architecture: "x86_64",
    release: fact("6.1.0-x"),
    buildId: fact("c0ffee00"),
    pagingLevels: undefined,
    root: undefined,
    kaslrOffset: undefined,
    physBase: undefined,
    pageOffset: undefined,
    text: fact({ virtual: LINKED + SHIFT, physical: 0, size: 0x4000 }),
    warnings: [],
    ...changes,
  });

  test("moves with the kernel; per-CPU offsets and absolute values stay", () => {
    const { symbols, shift } = placeVmlinux(open(elf), memory(), { image: image() });
    expect(shift).toBe(SHIFT);
    const stay = ["runqueues", "vdso_end"];
    expect([...symbols!]).toEqual(
      SYMBOLS.map((symbol) =>
        stay.includes(symbol.name) ? symbol : { ...symbol, address: symbol.address + SHIFT },
      ),
    );
  });

  test("is told where the kernel is by VMCOREINFO's offset alone", () => {
    const known = image({ text: undefined, kaslrOffset: fact(SHIFT) });
    expect(placeVmlinux(open(elf), memory(), { image: known }).shift).toBe(SHIFT);
    const unknown = image({ text: undefined });
    expect(placeVmlinux(open(elf), memory(), { image: unknown }).reason).toMatch(/how far KASLR/);
  });

  test("of another kernel is refused; a banner that is missing tells nothing", () => {
    const refused = (changes: Partial<LinuxImage>, bytes?: Buffer) =>
      placeVmlinux(open(elf), memory(bytes), { image: image(changes) }).reason;
    expect(refused({ buildId: fact("c0ffee01") })).toMatch(/its build-id is c0ffee00, not c0ffee01/);
    expect(refused({ release: fact("6.1.0") })).toMatch(/another kernel than 6\.1\.0$/);
    expect(refused({}, Buffer.alloc(8192))).toMatch(/no banner at 0x/);
    expect(refused({}, Buffer.alloc(8192, 0x41))).toMatch(/no banner at 0x/);
    const elsewhere = readerOf({ at: at + 0x10_0000n, bytes: banner });
    expect(placeVmlinux(open(elf), elsewhere, { image: image() }).symbols?.size).toBe(SYMBOLS.length);
  });
});
