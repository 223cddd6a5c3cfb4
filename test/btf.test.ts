import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Btf } from "../src/kernel/btf/btf.ts";
import { BtfTypes } from "../src/kernel/btf/types.ts";
import { SynthBtf, type SynthMember } from "./synth/btf.ts";

const decode = (synth: SynthBtf): Btf => new Btf("vmlinux", synth.build());
const typesOf = (synth: SynthBtf): BtfTypes => new BtfTypes(decode(synth));

describe("members", () => {
  test("are found behind typedefs and qualifiers, in nested and in anonymous structs and unions", () => {
    const btf = new SynthBtf();
    const u64 = btf.typedef("u64", btf.int("long unsigned int", 8));
    const inner = btf.struct("inner", 16, [
      ["a", u64, 0],
      ["b", btf.constant(btf.volatile(u64)), 64],
    ]);
    const unnamed = btf.struct("", 24, [
      ["head", u64, 0],
      ["", btf.union("", 16, [["deep", btf.typedef("inner_t", inner), 0]]), 64],
    ]);
    btf.struct("outer", 40, [
      ["first", btf.pointer(inner), 0],
      ["", unnamed, 64],
    ]);
    const types = typesOf(btf);
    expect(types.sizeOf("outer")).toBe(40);
    expect(types.sizeOf("u64")).toBe(8);
    expect(types.member("outer.first")).toEqual({ offset: 0, size: 8, count: 1, stride: 8 });
    expect(types.member("outer.head")).toMatchObject({ offset: 8 });
    expect(types.member("outer.deep")).toMatchObject({ offset: 16, size: 16 });
    expect(types.member("outer.deep.b")).toEqual({ offset: 24, size: 8, count: 1, stride: 8 });
    expect(types.member("inner_t.b")).toMatchObject({ offset: 8 });
    for (const path of [
      "outer",
      "outer.first.a",
      "outer.none",
      "none.a",
      "outer.deep.b.c",
      "",
      ".",
      "outer.",
    ])
      expect(types.member(path), path).toBeUndefined();
    expect(types.sizeOf("")).toBeUndefined();
  });

  test("that are arrays count the elements of all dimensions", () => {
    const btf = new SynthBtf();
    const entry = btf.struct("entry", 12, [["value", btf.int("int", 4), 64]]);
    btf.struct("table", 300, [
      ["grid", btf.array(btf.array(entry, 4), 6), 64],
      ["tail", btf.array(entry, 0), 2368],
    ]);
    const types = typesOf(btf);
    expect(types.member("table.grid")).toEqual({ offset: 8, size: 288, count: 24, stride: 12 });
    expect(types.member("table.tail")).toEqual({ offset: 296, size: 0, count: 0, stride: 12 });
    expect(types.member("table.grid.value")).toMatchObject({ offset: 16, size: 4 });
  });

  test("that are bitfields lie in a unit of their type, or across two in the bytes they touch", () => {
    const btf = new SynthBtf();
    const u32 = btf.int("unsigned int", 4);
    btf.struct("flags", 12, [
      ["whole", u32, 0, 0],
      ["low", u32, 32, 3],
      ["high", u32, 35, 29],
      ["across", u32, 62, 7],
    ]);
    const types = typesOf(btf);
    expect(types.member("flags.whole")).toEqual({ offset: 0, size: 4, count: 1, stride: 4 });
    expect(types.member("flags.low")).toMatchObject({ offset: 4, size: 4, bits: { shift: 0, width: 3 } });
    expect(types.member("flags.high")).toMatchObject({ offset: 4, size: 4, bits: { shift: 3, width: 29 } });
    expect(types.member("flags.across")).toMatchObject({ offset: 7, size: 2, bits: { shift: 6, width: 7 } });
  });

  test("that are bitfields by their INT alone, as kernels before 5.0 wrote them", () => {
    const btf = new SynthBtf();
    btf.struct("old", 8, [
      ["byte", btf.int("unsigned char", 1), 0],
      ["three", btf.int("unsigned int", 4, 3), 32],
      ["moved", btf.int("unsigned int", 4, 5, 3), 32],
    ]);
    const types = typesOf(btf);
    expect(types.member("old.byte")).toEqual({ offset: 0, size: 1, count: 1, stride: 1 });
    expect(types.member("old.three")).toMatchObject({ offset: 4, size: 4, bits: { shift: 0, width: 3 } });
    expect(types.member("old.moved")).toMatchObject({ offset: 4, size: 4, bits: { shift: 3, width: 5 } });
  });

  test("of structs of any shape are where a count of the bytes puts them", () => {
    interface Node {
      readonly name: string;
      readonly anonymous: boolean;
      readonly size: number;
      readonly children: readonly Node[];
    }
    const { tree } = fc.letrec<{ tree: Node }>((tie) => ({
      tree: fc.record({
        name: fc.constant(""),
        anonymous: fc.boolean(),
        size: fc.constantFrom(1, 2, 4, 8),
        children: fc.oneof(
          { maxDepth: 4 },
          fc.constant([]),
          fc.array(tie("tree") as fc.Arbitrary<Node>, { maxLength: 4 }),
        ),
      }),
    }));
    fc.assert(
      fc.property(tree, (root) => {
        const btf = new SynthBtf();
        const expected = new Map<string, number>();
        let named = 0;
        const place = (node: Node, path: string, base: number): { type: number; size: number } => {
          if (node.children.length === 0)
            return { type: btf.int(`u${node.size}`, node.size), size: node.size };
          let size = 0;
          const members: SynthMember[] = [];
          for (const child of node.children) {
            const isAnonymous = child.anonymous && child.children.length > 0;
            const name = isAnonymous ? "" : `m${named++}`;
            const inner = isAnonymous ? path : `${path}.${name}`;
            if (!isAnonymous) expected.set(inner, base + size);
            const placed = place(child, inner, base + size);
            members.push([name, placed.type, size * 8]);
            size += placed.size;
          }
          return { type: btf.struct("", size, members), size };
        };
        const { type, size } = place(root, "root", 0);
        btf.typedef("root", type);
        const types = typesOf(btf);
        expect(types.sizeOf("root")).toBe(size);
        for (const [path, offset] of expected) expect(types.member(path)?.offset, path).toBe(offset);
      }),
      { seed: 1, numRuns: 150 },
    );
  });
});

describe("types of a name", () => {
  const base = new SynthBtf();
  const int = base.int("int", 4);
  base.forward("only_here");
  base.forward("defined_there");
  base.struct("shared", 8, [["kernel", int, 0]]);
  base.enumeration("mode", { MODE_A: 1, MODE_B: 2 });
  base.typedef("both", int);
  base.struct("both", 64, []);
  const first = new SynthBtf(base);
  first.struct("defined_there", 12, [["value", int, 64]]);
  first.struct("shared", 16, [["module", int, 32]]);
  first.struct("again", 1, []);
  const second = new SynthBtf(base);
  second.struct("again", 2, []);
  second.enumeration("other", { MODE_A: 7, MODE_C: 3 });
  const vmlinux = decode(base);
  const modules = [first, second].map((synth, n) => new Btf(`m${n}`, synth.build(), { base: vmlinux }));
  const types = new BtfTypes(vmlinux, modules);

  test("continue the kernel's ids and strings in a module", () => {
    expect(modules.map(({ start, end, problem }) => [start, end, problem])).toEqual([
      [vmlinux.end, vmlinux.end + 3, undefined],
      [vmlinux.end, vmlinux.end + 2, undefined],
    ]);
    expect(types.member("defined_there.value")).toEqual({ offset: 8, size: 4, count: 1, stride: 4 });
  });

  test("are taken from the kernel first, then from modules in their order", () => {
    expect(types.sizeOf("shared")).toBe(8);
    expect(types.sizeOf("again")).toBe(1);
    expect(types.constant("MODE_A")).toBe(1n);
    expect(types.constant("MODE_C")).toBe(3n);
    expect(types.constant("MODE_D")).toBeUndefined();
  });

  test("are taken from a module first, where one is given", () => {
    expect(types.of("m0")?.sizeOf("shared")).toBe(16);
    expect(types.of("m0")?.member("shared.module")).toMatchObject({ offset: 4 });
    expect(types.of("m1")?.sizeOf("again")).toBe(2);
    expect(types.of("m1")?.sizeOf("shared")).toBe(8);
    expect(types.of("m2")).toBeUndefined();
  });

  test("are a definition rather than a declaration, and a struct rather than a typedef", () => {
    expect(types.sizeOf("defined_there")).toBe(12);
    expect(types.sizeOf("only_here")).toBeUndefined();
    expect(types.sizeOf("both")).toBe(64);
    expect(types.describe("only_here")).toEqual(["struct only_here;  /* declared only */"]);
  });
});

describe("constants", () => {
  test("are signed by kind_flag once its writer knows it, else always", () => {
    const old = new SynthBtf();
    old.enumeration("e", { MINUS: -1, BIG: 0x8000_0000, ONE: 1 });
    expect(["MINUS", "BIG", "ONE"].map((name) => typesOf(old).constant(name))).toEqual([
      -1n,
      -(2n ** 31n),
      1n,
    ]);
    old.enumeration("signed", { MINUS_TWO: -2 }, true);
    const types = typesOf(old);
    expect(["BIG", "MINUS_TWO"].map((name) => types.constant(name))).toEqual([2n ** 31n, -2n]);
  });

  test("have 64 bits in enum64", () => {
    const btf = new SynthBtf();
    btf.enumeration64("u", { ALL: 2n ** 64n - 1n, SOME: 5n << 40n });
    btf.enumeration64("s", { NEGATIVE: -3n }, true);
    const types = typesOf(btf);
    expect(["ALL", "SOME", "NEGATIVE"].map((name) => types.constant(name))).toEqual([
      2n ** 64n - 1n,
      5n << 40n,
      -3n,
    ]);
    expect(types.sizeOf("u")).toBe(8);
  });
});
