import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MAX_VMCOREINFO_BYTES, Vmcoreinfo } from "../src/kernel/vmcoreinfo.ts";

/** Lines of a Debian 6.1 kernel, as /proc/vmcore shows them. */
const TEXT = `OSRELEASE=6.1.0-56-amd64
BUILD-ID=eb4fbcd037e7253717950bf2b93bd5566f47c56f
PAGESIZE=4096
SYMBOL(init_uts_ns)=ffffffffabbfb000
OFFSET(uts_namespace.name)=0
SYMBOL(swapper_pg_dir)=ffffffffaba10000
SIZE(page)=64
LENGTH(mem_section)=4096
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129
NUMBER(phys_base)=-687865856
NUMBER(VMALLOC_START)=0xffffa44040000000
KERNELOFFSET=29000000
CONFIG_X86_PAE=y
CRASHTIME=1795233118
`;

const of = (...lines: string[]) => new Vmcoreinfo(lines.join("\n"));

describe("Vmcoreinfo", () => {
  const info = new Vmcoreinfo(Buffer.from(TEXT));

  test("keeps the text as it is", () => {
    expect(info.text).toBe(TEXT);
    expect(info.keys).toHaveLength(14);
    expect(info.keys[0]).toBe("OSRELEASE");
  });

  test("reads each kind of value", () => {
    expect(info.osrelease).toBe("6.1.0-56-amd64");
    expect(info.buildId).toBe("eb4fbcd037e7253717950bf2b93bd5566f47c56f");
    expect(info.symbol("swapper_pg_dir")).toBe(0xffff_ffff_aba1_0000n);
    expect(info.get("LENGTH(mem_section)")).toBe("4096");
    expect(info.number("PAGE_BUDDY_MAPCOUNT_VALUE")).toBe(-129n);
    expect(info.number("VMALLOC_START")).toBe(0xffff_a440_4000_0000n);
    expect(info.physBase).toBe(-687_865_856);
    expect(info.kernelOffset).toBe(0x2900_0000n);
    expect(info.crashTime).toBe(1_795_233_118);
    expect(info.get("CONFIG_X86_PAE")).toBe("y");
  });

  test("what is not there is undefined", () => {
    expect(info.symbol("prb")).toBeUndefined();
    expect(info.number("swapper_pg_dir")).toBeUndefined();
    expect(of("PAGESIZE=4096").osrelease).toBeUndefined();
    expect(of("PAGESIZE=4096").physBase).toBeUndefined();
  });

  test("lines that are no KEY=VALUE are passed over, the first of two equal keys counts", () => {
    const odd = of("garbage", "=1", "", "OSRELEASE=6.1.0", "OSRELEASE=5.0.0", "A=B=C");
    expect(odd.keys).toEqual(["OSRELEASE", "A"]);
    expect(odd.osrelease).toBe("6.1.0");
    expect(odd.get("A")).toBe("B=C");
  });

  test("the text ends at a NUL, as in the kernel's data page", () => {
    const page = new Vmcoreinfo(Buffer.from("OSRELEASE=6.1.0\n\0OSRELEASE=9.9\nPAGESIZE=4096\n"));
    expect(page.text).toBe("OSRELEASE=6.1.0\n");
    expect(page.get("PAGESIZE")).toBeUndefined();
  });

  test("a value without its key's form counts as not there", () => {
    const bad = of(
      "OSRELEASE=6.1\x1b[31m",
      "BUILD-ID=xyz",
      "PAGESIZE=5000",
      "SYMBOL(a)=0x",
      "SYMBOL(b)=fffffffff00000000",
      "OFFSET(c)=-1",
      "NUMBER(d)=12a",
      "NUMBER(phys_base)=99999999999999999999",
      "KERNELOFFSET=",
      "SIZE(e)=1e3",
    );
    expect(bad.osrelease).toBeUndefined();
    expect(bad.buildId).toBeUndefined();
    expect(bad.symbol("a")).toBeUndefined();
    expect(bad.symbol("b")).toBeUndefined();
    expect(bad.number("d")).toBeUndefined();
    expect(bad.physBase).toBeUndefined();
    expect(bad.kernelOffset).toBeUndefined();
  });

  test.each([
    ["6.1.113", undefined],
    ["6.1.119", "aabbccdd"],
    ["6.1.0-56-amd64", "aabbccdd"],
    ["6.10.14-custom", undefined],
    ["6.11.2", "aabbccdd"],
    ["6.12", "aabbccdd"],
  ])("BUILD-ID of %s, which may be one of those that print garbage", (release, expected) => {
    expect(of(`OSRELEASE=${release}`, "BUILD-ID=aabbccdd").buildId).toBe(expected);
  });

  test("takes any bytes, bounded, and never throws", () => {
    const large = new Vmcoreinfo(Buffer.alloc(MAX_VMCOREINFO_BYTES * 4, "A=1\n"));
    expect(large.text).toHaveLength(MAX_VMCOREINFO_BYTES);
    const line = fc.tuple(
      fc.constantFrom("SYMBOL(x)", "NUMBER(x)", "CRASHTIME", "KERNELOFFSET", "OSRELEASE"),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(line), fc.uint8Array(), (lines, bytes) => {
        const text = lines.map(([key, value]) => `${key}=${value}`).join("\n");
        for (const info of [new Vmcoreinfo(text), new Vmcoreinfo(bytes)]) {
          const numbers = [info.physBase, info.crashTime];
          expect(numbers.every((n) => n === undefined || Number.isSafeInteger(n))).toBe(true);
          expect(info.symbol("x") ?? 0n).toBeLessThan(1n << 64n);
          expect(info.number("x") ?? 0n).toBeTypeOf("bigint");
          expect(info.osrelease ?? "").toMatch(/^[\x21-\x7e]{0,64}$/);
        }
      }),
    );
  });
});
