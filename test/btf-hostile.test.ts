import { describe, expect, test } from "vitest";
import { Btf } from "../src/kernel/btf/btf.ts";
import { BtfTypes } from "../src/kernel/btf/types.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { mutantOf } from "./support/mutants.ts";
import { SynthBtf, type SynthHeader, type SynthMember } from "./synth/btf.ts";
import { btfZoo } from "./synth/btf-zoo.ts";

const decode = (synth: SynthBtf, header?: SynthHeader): Btf => new Btf("vmlinux", synth.build(header));
const typesOf = (synth: SynthBtf): BtfTypes => new BtfTypes(decode(synth));

describe("types in circles", () => {
  test("have no size and no members", () => {
    const btf = new SynthBtf();
    btf.typedef("a", 2);
    btf.typedef("b", 1);
    btf.add(3, "", 0, 0, [3, 3, 2]);
    btf.typedef("array", 3);
    btf.struct("self", 8, [["", 5, 0]]);
    btf.struct("ping", 8, [["", 7, 0]]);
    btf.struct("", 8, [
      ["", 6, 0],
      ["", 7, 0],
    ]);
    btf.struct("of_loops", 8, [
      ["x", 1, 0],
      ["y", 3, 0],
      ["z", 99, 0],
    ]);
    btf.struct("twice", 8, [["again", 9, 0]]);
    const types = typesOf(btf);
    for (const name of ["a", "b", "array"]) {
      expect(types.sizeOf(name), name).toBeUndefined();
      expect(types.member(`${name}.x`)).toBeUndefined();
    }
    for (const name of ["self.x", "ping.x", "of_loops.x", "of_loops.y", "of_loops.z"])
      expect(types.member(name), name).toBeUndefined();
    expect(types.member(`twice${".again".repeat(32)}`)).toMatchObject({ offset: 0, size: 8 });
    expect(types.member(`twice${".again".repeat(33)}`)).toBeUndefined();
    for (const name of ["a", "array", "self", "ping", "of_loops", "twice"])
      expect(types.describe(name)!.length, name).toBeLessThan(5000);
  });

  test("end soon however widely they branch", () => {
    const btf = new SynthBtf();
    const wide = (first: number): SynthMember[] =>
      Array.from({ length: 2000 }, (_, n) => ["", first + (n % 30), 0]);
    for (let n = 0; n < 30; n++) btf.struct(n === 0 ? "wide" : "", 8, wide(1));
    const calls = Array.from({ length: 500 }, (): [string, number] => ["", 32]);
    btf.prototype(31, calls);
    btf.pointer(31);
    btf.typedef("calls", 32);
    btf.array(34, 0xffff_ffff);
    btf.typedef("huge", 34);
    const types = typesOf(btf);
    const start = cpuTime();
    expect(types.member("wide.none")).toBeUndefined();
    expect(types.describe("wide")!.length).toBeLessThan(10_000);
    expect(types.describe("calls")).toHaveLength(1);
    expect(types.sizeOf("huge")).toBeUndefined();
    expect(cpuTime() - start).toBeLessThan(2000);
  });
});

describe("damage", () => {
  const sample = (): SynthBtf => {
    const btf = new SynthBtf();
    btf.struct("before", 4, [["x", btf.int("int", 4), 0]]);
    return btf;
  };

  test("of a record leaves what came before it", () => {
    const unknown = sample();
    unknown.add(20, "new", 0);
    unknown.int("behind", 4);
    expect(decode(unknown).problem).toMatchObject({ kind: "unknown-kind", offset: 24 + 16 + 24 });
    expect(typesOf(unknown).sizeOf("before")).toBe(4);
    expect(typesOf(unknown).sizeOf("behind")).toBeUndefined();
    const long = sample();
    long.add(4, "long", 4, 500);
    expect(decode(long).problem).toMatchObject({ kind: "record" });
    expect(typesOf(long).member("before.x")).toMatchObject({ offset: 0 });
  });

  test("kinds that a layout section describes are skipped", () => {
    const btf = sample();
    btf.add(20, "new", 0, 2, [1, 2, 3]);
    btf.int("behind", 2);
    const layout = Buffer.alloc(4 * 21);
    layout[80] = 4;
    layout[81] = 4;
    const decoded = decode(btf, { length: 32, layout });
    expect(decoded.problem).toBeUndefined();
    expect(new BtfTypes(decoded).sizeOf("behind")).toBe(2);
  });

  test.each<[string, SynthHeader, string]>([
    ["another magic", { magic: 0x1234 }, "BTF magic is missing"],
    ["the other byte order", { magic: 0x9feb }, "BTF is big-endian"],
    ["another version", { version: 2 }, "BTF version is not 1"],
    ["a header of 64 KiB", { length: 65_536 }, "BTF header length is wrong"],
    ["sections that overlap", { strOff: 8 }, "BTF sections overlap"],
    ["strings behind the end", { strLen: 1 << 30 }, "BTF is truncated"],
    ["types behind the end", { typeOff: 0xffff_fff0 }, "BTF is truncated"],
  ])("%s is said", (_, header, message) => {
    expect(decode(sample(), header).problem?.message).toBe(message);
  });

  test("split BTF without its base, or with another, has no types", () => {
    const base = sample();
    const split = new SynthBtf(base);
    split.struct("mine", 4, [["x", 1, 0]]);
    const problemOf = (options: ConstructorParameters<typeof Btf>[2]) => {
      const btf = new Btf("m", split.build(), options);
      return [btf.end - btf.start, btf.problem?.message];
    };
    const vmlinux = decode(base);
    expect(problemOf({ base: vmlinux, startId: 3 })).toEqual([1, undefined]);
    expect(problemOf({})).toEqual([0, "split BTF without its base"]);
    expect(problemOf({ base: vmlinux, startId: 4 })).toEqual([0, "split BTF that continues another base"]);
    const cut = new Btf("vmlinux", base.build().subarray(0, 60));
    expect(problemOf({ base: cut })).toEqual([0, "split BTF whose base is damaged"]);
  });

  test("BTF that stands alone needs no base", () => {
    const btf = new Btf("m", sample().build(), { base: decode(sample()) });
    expect([btf.base, btf.start, btf.problem]).toEqual([undefined, 1, undefined]);
  });

  test("anywhere ends in answers, soon", () => {
    const btf = btfZoo();
    const whole = btf.build();
    const names = ["outer", "table", "flags", "ops", "mode", "u64"];
    for (let seed = 0; seed < 3000; seed++) {
      const bytes = mutantOf(whole, seed, 6, (chance) => chance.below(whole.length - 8));
      const types = new BtfTypes(new Btf("vmlinux", bytes));
      for (const name of names) {
        types.sizeOf(name);
        types.member(`${name}.a.b`);
        types.describe(name);
      }
      types.constant("MODE_B");
    }
  });
});
