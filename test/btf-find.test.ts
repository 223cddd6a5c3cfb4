import { describe, expect, test } from "vitest";
import { CorruptError, UnavailableError, UnsupportedError } from "../src/core/errors.ts";
import type { AddressSpace, ByteSource } from "../src/core/memory.ts";
import { Btf } from "../src/kernel/btf/btf.ts";
import { btfOfFile, btfOfFiles } from "../src/kernel/btf/file.ts";
import { btfOfKernel } from "../src/kernel/btf/find.ts";
import { btfOfModules } from "../src/kernel/btf/modules.ts";
import { BtfTypes } from "../src/kernel/btf/types.ts";
import { KernelReader } from "../src/kernel/reader.ts";
import { SynthBtf } from "./synth/btf.ts";
import { buildElf } from "./synth/elf.ts";
import { memoryFrom } from "./synth/memory.ts";

const MIB = 2 ** 20;
/** Virtual address of physical 0; what is mapped ends 64 MiB behind it. */
const BASE = 0xffff_ffff_8000_0000n;
const space: AddressSpace = {
  translate: (virtual) => {
    const physical = Number(virtual - BASE);
    if (physical < 0 || physical >= 64 * MIB) return { mapped: false, level: 2, reason: "not-present" };
    return { mapped: true, physical, size: 4096, writable: true, user: false, executable: false };
  },
};
const readerOf = (pieces: Parameters<typeof memoryFrom>[0]) => new KernelReader(memoryFrom(pieces), space);
const symbols = (addresses: Readonly<Record<string, bigint>>) => ({
  addressOf: (name: string) => addresses[name],
});

/** The kernel's, with what tells where modules' are. @param filler how many types besides */
function kernelBtf(filler: number): SynthBtf {
  const btf = new SynthBtf();
  const u32 = btf.int("unsigned int", 4);
  const pointer = btf.pointer(0);
  const list = btf.struct("list_head", 16, [
    ["next", pointer, 0],
    ["prev", pointer, 64],
  ]);
  btf.struct("btf_module", 64, [
    ["list", list, 64],
    ["module", pointer, 256],
    ["btf", pointer, 320],
  ]);
  btf.struct("btf", 160, [
    ["data", pointer, 64],
    ["data_size", u32, 512],
    ["start_id", u32, 544],
    ["name", btf.array(btf.int("char", 1), 56), 640],
  ]);
  for (let n = 0; n < filler; n++) btf.struct(`type_${n}`, n, [["x", u32, 0]]);
  return btf;
}

describe("a kernel's BTF", () => {
  const bytes = kernelBtf(1500).build();
  const small = kernelBtf(20).build();
  const place = (at: number, ...others: (readonly [number, Buffer])[]) => {
    const image = Buffer.alloc(6 * MIB);
    for (const [offset, data] of [[at, bytes] as const, ...others]) data.copy(image, offset);
    return readerOf([{ address: 0, bytes: image }]);
  };
  const image = { virtual: BASE, size: 32 * MIB };

  test("is what lies between its symbols", () => {
    const at = BASE + 0x1234n;
    const where = symbols({ __start_BTF: at, __stop_BTF: at + BigInt(bytes.length) });
    const found = btfOfKernel(place(0x1234), { symbols: where });
    expect(found).toMatchObject({ virtual: at, size: bytes.length });
    expect(new BtfTypes(found.btf!).sizeOf("type_1499")).toBe(1499);
  });

  test("is found in the image, at any address, across the pieces it is read in", () => {
    for (const at of [0x1235, MIB - 2, MIB - 1, 2 * MIB, 3 * MIB - 4]) {
      const found = btfOfKernel(place(at), { symbols: symbols({}), image });
      expect(found, String(at)).toMatchObject({ virtual: BASE + BigInt(at), size: bytes.length });
    }
  });

  test("is told from that of a program within the kernel, and from what only looks like a header", () => {
    const header = Buffer.from(bytes.subarray(0, 24));
    header.writeUInt32LE(40 * MIB, 20);
    const reader = place(MIB, [0x100, small], [0x8000, header], [4 * MIB, small]);
    expect(btfOfKernel(reader, { image })).toMatchObject({ virtual: BASE + BigInt(MIB) });
  });

  test("is found behind what is not in memory", () => {
    const reader = readerOf([
      { address: 0, bytes: Buffer.alloc(8192) },
      { address: 8192, size: 4096, state: "excluded" },
      { address: 12_288, bytes: Buffer.concat([Buffer.alloc(100), bytes]) },
    ]);
    const from = { virtual: BASE - BigInt(8 * MIB), size: 40 * MIB };
    expect(btfOfKernel(reader, { image: from })).toMatchObject({ virtual: BASE + 12_388n });
  });

  test.each<[string, Parameters<typeof btfOfKernel>[1], RegExp]>([
    ["no symbols and no image", {}, /no symbol __start_BTF/],
    ["an image without", { image: { virtual: BASE, size: 4096 } }, /no BTF in the kernel's image/],
    [
      "symbols in the wrong order",
      { symbols: symbols({ __start_BTF: BASE + 1n, __stop_BTF: BASE }) },
      /enclose no BTF/,
    ],
    ["symbols far apart", { symbols: symbols({ __start_BTF: BASE, __stop_BTF: -1n }) }, /enclose no BTF/],
    [
      "symbols of pages that are missing",
      { symbols: symbols({ __start_BTF: BASE + 1n, __stop_BTF: BASE + BigInt(7 * MIB) }) },
      /not all in this dump/,
    ],
    [
      "symbols of something else",
      { symbols: symbols({ __start_BTF: BASE, __stop_BTF: BASE + 4096n }) },
      /magic is missing/,
    ],
  ])("is missing with a reason: %s", (_, places, reason) => {
    const found = btfOfKernel(place(MIB), places);
    expect(found.btf === undefined && found.reason).toMatch(reason);
  });
});

describe("BTF of modules", () => {
  const kernel = kernelBtf(3);
  const vmlinux = new Btf("vmlinux", kernel.build());
  const LIST = 0x100;
  const ENTRY = (n: number) => 0x1000 + 0x400 * n;
  const DATA = (n: number) => 0x10_000 + 0x4000 * n;

  /** A list of modules `m0`, `m1` …, each with a struct of its own; `patch` spoils it. */
  function listed(count: number, patch: (memory: Buffer) => void = () => {}) {
    const memory = Buffer.alloc(0x4_0000);
    const point = (at: number, to: number) => memory.writeBigUInt64LE(BASE + BigInt(to), at);
    let link = LIST;
    for (let n = 0; n < count; n++) {
      const split = new SynthBtf(kernel);
      split.struct(`own_${n}`, 100 + n, [["x", 1, 32]]);
      const data = split.build();
      data.copy(memory, DATA(n));
      const btf = ENTRY(n) + 0x100;
      point(link, ENTRY(n) + 8);
      point(ENTRY(n) + 40, btf);
      point(btf + 8, DATA(n));
      memory.writeUInt32LE(data.length, btf + 64);
      memory.writeUInt32LE(kernel.nextId, btf + 68);
      memory.write(`m${n}\0`, btf + 80);
      link = ENTRY(n) + 8;
    }
    point(link, LIST);
    patch(memory);
    const reader = readerOf([{ address: 0, bytes: memory }]);
    return btfOfModules(reader, vmlinux, BASE + BigInt(LIST));
  }
  const btfField = (n: number, offset: number) => ENTRY(n) + 0x100 + offset;

  test("is split from the kernel's, in the order of the list", () => {
    const { modules, problems } = listed(3);
    expect(problems).toEqual([]);
    expect(modules.map(({ name }) => name)).toEqual(["m0", "m1", "m2"]);
    const types = new BtfTypes(vmlinux, modules);
    expect(types.sizeOf("own_2")).toBe(102);
    expect(types.member("own_1.x")).toEqual({ offset: 4, size: 4, count: 1, stride: 4 });
    expect(listed(0)).toEqual({ modules: [], problems: [] });
  });

  test.each<[string, (memory: Buffer) => void, string[], RegExp]>([
    [
      "a list in a circle",
      (m) => m.writeBigUInt64LE(BASE + BigInt(ENTRY(0) + 8), ENTRY(1) + 8),
      ["m0", "m1"],
      /does not end/,
    ],
    [
      "a list that leads nowhere",
      (m) => m.writeBigUInt64LE(1n, ENTRY(0) + 8),
      ["m0"],
      /not all in this dump/,
    ],
    [
      "another size",
      (m) => m.writeUInt32LE(1 << 30, btfField(1, 64)),
      ["m0", "m2"],
      /claims 1073741824 bytes/,
    ],
    ["no size", (m) => m.writeUInt32LE(0, btfField(1, 64)), ["m0", "m2"], /claims 0 bytes/],
    [
      "data that is missing",
      (m) => m.writeBigUInt64LE(BASE + BigInt(63 * MIB), btfField(1, 8)),
      ["m0", "m2"],
      /not all in/,
    ],
    [
      "a struct btf that is missing",
      (m) => m.writeBigUInt64LE(0n, ENTRY(1) + 40),
      ["m0", "m2"],
      /struct btf is not/,
    ],
    [
      "a name without end",
      (m) => m.fill(0x41, btfField(1, 80), btfField(1, 300)),
      ["m0", "m2"],
      /struct btf is not/,
    ],
    ["another base", (m) => m.writeUInt32LE(5, btfField(1, 68)), ["m0", "m2"], /continues another base/],
    ["other data", (m) => m.fill(0, DATA(1), DATA(1) + 64), ["m0", "m2"], /magic is missing/],
  ])("has problems of its own: %s", (_, patch, names, reason) => {
    const { modules, problems } = listed(3, patch);
    expect(modules.map(({ name }) => name)).toEqual(names);
    expect(problems.map((problem) => problem.reason).join()).toMatch(reason);
  });

  test("cannot be found by a kernel's BTF that does not know struct btf_module", () => {
    const other = new SynthBtf();
    other.int("int", 4);
    const reader = readerOf([{ address: 0, bytes: Buffer.alloc(4096) }]);
    const { problems } = btfOfModules(reader, new Btf("vmlinux", other.build()), BASE);
    expect(problems).toEqual([{ module: undefined, reason: "the kernel's BTF has no btf_module" }]);
  });
});

describe("BTF from files", () => {
  const kernel = kernelBtf(3);
  const split = new SynthBtf(kernel);
  split.struct("own", 48, [["x", 1, 64]]);
  const source = (name: string, bytes: Buffer): ByteSource => ({
    name,
    size: bytes.length,
    read: (offset, target) => bytes.copy(target, 0, offset, offset + target.length),
  });
  const elf = (sections: Readonly<Record<string, Buffer>>, type = 1) =>
    buildElf({ sections: Object.entries(sections).map(([name, bytes]) => ({ name, type, bytes })) });

  test("raw, or a section of an ELF file", () => {
    for (const bytes of [kernel.build(), elf({ ".text": Buffer.alloc(100), ".BTF": kernel.build() })]) {
      const module = elf({ ".BTF": split.build() });
      const types = btfOfFiles(source("/boot/vmlinux-6.1", bytes), [source("/x/kvm-intel.ko.xz", module)]);
      expect(types.all.map(({ name }) => name)).toEqual(["vmlinux", "kvm_intel"]);
      expect(types.member("own.x")).toMatchObject({ offset: 8, size: 4 });
      expect(types.of("kvm_intel")?.sizeOf("own")).toBe(48);
    }
  });

  test("of a module built outside the kernel's tree is split from its own base", () => {
    const distilled = new SynthBtf();
    distilled.int("int", 2);
    const own = new SynthBtf(distilled);
    own.struct("own", 8, [["x", 1, 32]]);
    const file = elf({ ".BTF.base": distilled.build(), ".BTF": own.build() });
    const btf = btfOfFile(source("m.ko", file), new Btf("vmlinux", kernel.build()));
    expect(new BtfTypes(btf).member("own.x")).toMatchObject({ offset: 4, size: 2 });
  });

  test.each<
    [string, Buffer, RegExp, typeof UnavailableError | typeof CorruptError | typeof UnsupportedError]
  >([
    ["a text", Buffer.from("nothing of that kind at all"), /magic is missing/, UnsupportedError],
    ["an empty file", Buffer.alloc(0), /shorter than its header/, UnsupportedError],
    ["an ELF file without", elf({ ".text": Buffer.alloc(9) }), /no section .BTF/, UnavailableError],
    [
      "an ELF file of debug information",
      elf({ ".BTF": kernel.build() }, 8),
      /no section .BTF/,
      UnavailableError,
    ],
    ["a module without its kernel", elf({ ".BTF": split.build() }), /without its base/, UnavailableError],
    ["a section of something else", elf({ ".BTF": Buffer.alloc(99) }), /magic is missing/, CorruptError],
    ["types cut off", kernel.build().subarray(0, 30), /truncated/, CorruptError],
  ])("is refused: %s", (_, bytes, message, kind) => {
    const open = () => btfOfFile(source("file", bytes));
    expect(open).toThrow(message);
    expect(open).toThrow(kind);
  });
});
