import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ElfVmcore } from "../src/dump/elf-vmcore.ts";
import { readElf } from "../src/elf/header.ts";
import { FileSource } from "../src/io/file.ts";
import { btfOfKernel } from "../src/kernel/btf/find.ts";
import { BtfTypes } from "../src/kernel/btf/types.ts";
import { type Kallsyms, readKallsyms } from "../src/kernel/kallsyms.ts";
import { findImage, type KernelImage } from "../src/kernel/kernel-image.ts";
import { tablesOfVmcoreinfo } from "../src/kernel/kernel-tables.ts";
import { LinuxSymbols } from "../src/kernel/linux-symbols.ts";
import { KernelReader } from "../src/kernel/reader.ts";
import type { KernelSymbol } from "../src/kernel/symbols.ts";
import { Vmcoreinfo } from "../src/kernel/vmcoreinfo.ts";
import { mutantOf } from "./support/mutants.ts";
import { readerOf } from "./support/synth-kernel.ts";

const DATA = process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../shared/data");
const missing = ["zstd", "xz"].filter((tool) => spawnSync(tool, ["--version"]).status !== 0);

/** Dumps of two hosts; Debian's 6.1.192, as amd64 and as cloud-amd64. */
const DUMPS = {
  "svm/two-guests": { file: "vmcore.d23.elf.zst", symbols: 94_266, modules: "l1.modules" },
  "vmx/pattern-guest": { file: "vmcore.elf.zst", symbols: 87_347, modules: "modules" },
} as const;

describe.each(Object.entries(DUMPS))("%s", (name, { file, symbols: count, modules }) => {
  const folder = join(DATA, name);
  const skip = !existsSync(folder)
    ? `no ${folder}`
    : missing.length > 0
      ? `no ${missing.join(", ")}`
      : undefined;

  describe.skipIf(skip !== undefined)(skip === undefined ? "real" : `skipped: ${skip}`, () => {
    const temporary = mkdtempSync(join(tmpdir(), "guestcore-symbols-"));
    afterAll(() => rmSync(temporary, { recursive: true }));
    const truth = (path: string) => readFileSync(join(folder, "truth", path), "latin1");
    let vmcoreinfo: Vmcoreinfo;
    let image: KernelImage;
    let reader: KernelReader;
    let kallsyms: Kallsyms;
    let symbols: LinuxSymbols;

    beforeAll(() => {
      const core = join(temporary, "vmcore");
      const run = spawnSync("zstd", ["-dq", "--long=27", join(folder, file), "-o", core], {
        encoding: "utf8",
      });
      if (run.status !== 0) throw new Error(run.stderr);
      const source = FileSource.open(core);
      const memory = new ElfVmcore(source, readElf(source));
      const notes = Buffer.alloc(65_536);
      source.read(0, notes);
      vmcoreinfo = new Vmcoreinfo(notes.subarray(notes.indexOf("OSRELEASE=")));
      const { tables } = tablesOfVmcoreinfo(memory, vmcoreinfo);
      image = findImage(tables!)!;
      reader = new KernelReader(memory, tables!);
      kallsyms = readKallsyms(reader, { vmcoreinfo }).kallsyms!;
      const { btf } = btfOfKernel(reader, { symbols: kallsyms.symbols });
      symbols = new LinuxSymbols(kallsyms.symbols, reader, new BtfTypes(btf!));
    }, 60_000);

    test("the kernel's symbols are those the running system had, in their order", () => {
      expect(kallsyms).toMatchObject({ form: "absolute-percpu", source: "VMCOREINFO", total: count });
      expect(kallsyms.symbols.size).toBe(count);
      expect(kallsyms.symbols.addressOf("_stext")).toBe(vmcoreinfo.symbol("_stext"));
      const { kernel } = truthOf(folder);
      if (kernel.length === count) expect(listing(kallsyms.symbols).join("\n")).toBe(kernel.join("\n"));
      else
        for (const line of kernel)
          expect(listing(kallsyms.symbols.named(line.split(" ")[2]!))).toContain(line);
    });

    test("a search of the image finds the same, with _stext and without VMCOREINFO", () => {
      const without = new Vmcoreinfo(vmcoreinfo.text.replace(/^SYMBOL\(kallsyms.*\n/gm, ""));
      const told = listing(kallsyms.symbols).join("\n");
      for (const evidence of [{ vmcoreinfo: without, image }, { image }]) {
        const found = readKallsyms(reader, evidence).kallsyms!;
        expect(found).toMatchObject({ form: "absolute-percpu", source: "search", total: count });
        expect(listing(found.symbols).join("\n")).toBe(told);
      }
      expect(readKallsyms(reader, { vmcoreinfo: without }).reason).toMatch(/does not say where/);
    });

    test("modules are those of /proc/modules", () => {
      const { modules: found, ...outcome } = symbols.modules;
      expect(outcome).toEqual({ complete: true });
      expect(
        found.map(({ name: module, state, regions }) => [module, state, total(regions), regions[0]!.base]),
      ).toEqual(
        [...truth(modules).matchAll(/^(\S+) (\d+) .* Live (0x[0-9a-f]+)$/gm)].map(
          ([, module, size, base]) => [module, "live", Number(size), BigInt(base!)],
        ),
      );
    });

    test("modules' symbols are those of /proc/kallsyms", () => {
      const own = symbols.modules.modules.map((module) => symbols.symbolsOf(module)!);
      expect(own.filter(({ complete }) => !complete)).toEqual([]);
      // Capitals are for what is exported there, for what is global here.
      const all = own.flatMap((module) => listing(module.symbols)).map(lower);
      const expected = truthOf(folder).modules.map(lower);
      if (expected.length > 1000) expect(all.join("\n")).toBe(expected.join("\n"));
      else expect(new Set(all)).toEqual(new Set([...all, ...expected]));
      expect(symbols.named("vm_list").map(({ module }) => module)).toEqual(["kvm"]);
    });

    test("every address is named by a symbol that lies there", () => {
      const step = Math.floor(count / 500);
      const some = [...kallsyms.symbols].filter((symbol, i) => i % step === 0 && symbol.type !== "A");
      for (const { address } of some) {
        expect(symbols.at(address)?.symbol.address).toBe(address);
        expect(symbols.at(address)?.offset).toBe(0n);
      }
      const kick = symbols.named("kvm_vcpu_kick")[0]!;
      expect(symbols.at(kick.address + 1n)).toEqual({ symbol: kick, offset: 1n });
      expect(symbols.at(kallsyms.symbols.last! + 1n)).toBeUndefined();
    });

    test("damaged tables end in symbols or a reason", () => {
      const from = vmcoreinfo.symbol("kallsyms_offsets")! & ~0xfffn;
      const size = Number(vmcoreinfo.symbol("kallsyms_token_index")! - from) + 512;
      const bytes = reader.bytes(from, size)!;
      const outcomes = { whole: 0, partial: 0, refused: 0 };
      for (let seed = 0; seed < 24; seed++) {
        const tail = seed % 2 === 0 ? 2048 : size - 8;
        const damaged = mutantOf(bytes, seed, 3, (chance) => size - 8 - chance.below(tail));
        const evidence = seed % 3 === 0 ? { image: { ...image, virtual: from, size } } : { vmcoreinfo };
        const { kallsyms: found } = readKallsyms(readerOf({ at: from, bytes: damaged }), evidence);
        if (found === undefined) outcomes.refused++;
        else outcomes[found.symbols.size === count ? "whole" : "partial"]++;
      }
      expect(Math.min(outcomes.refused, outcomes.whole + outcomes.partial)).toBeGreaterThan(2);
    }, 60_000);
  });
});

const total = (regions: readonly { readonly size: number }[]): number =>
  regions.reduce((sum, { size }) => sum + size, 0);

const listing = (symbols: Iterable<KernelSymbol>): string[] =>
  [...symbols].map(({ name, address, type, module }) => {
    const line = `${address.toString(16).padStart(16, "0")} ${type} ${name}`;
    return module === undefined ? line : `${line}\t[${module}]`;
  });

const lower = (line: string): string => line.replace(/ [A-Z] /, (type) => type.toLowerCase());

/** Lines of /proc/kallsyms: all of them, or those that were kept. */
function truthOf(folder: string) {
  const packed = join(folder, "truth/l1.kallsyms.xz");
  const lines = existsSync(packed)
    ? spawnSync("xz", ["-dc", packed], { encoding: "latin1", maxBuffer: 2 ** 26 }).stdout
    : readFileSync(join(folder, "truth/syms"), "latin1");
  const all = lines.trimEnd().split("\n");
  return {
    kernel: all.filter((line) => !line.includes("\t")),
    modules: all.filter((line) => line.includes("\t")),
  };
}
