import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { GuestcoreError } from "../src/core/errors.ts";
import type { ByteSource } from "../src/core/memory.ts";
import type { DumpFiles } from "../src/dump/format.ts";
import { openAnyDump } from "../src/dump/open.ts";
import { siblingNames } from "../src/dump/siblings.ts";
import { expectPages, extents, PAGE, pages, sourceOf, stateOf } from "./support/kdump-pages.ts";
import { physicalAt, readVmcore } from "./support/read-vmcore.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { buildKdump, flattened, type KdumpSpec } from "./synth/kdump.ts";
import { note } from "./synth/notes.ts";
import { patternBytes, random } from "./synth/pattern.ts";

/** Where the set is cut: inside a run of pages, between two, and so that one part has nothing of its own. */
const CUTS = [0, 3, 7, 7, 40_001, 40_003];
const spec: KdumpSpec = { pages, codec: "lzo", timestamp: 1_700_000_000 };

const part = (i: number, more: Partial<KdumpSpec> = {}): Buffer =>
  buildKdump({ ...spec, split: [CUTS[i]!, CUTS[i + 1]!], ...more });
const parts = (more?: Partial<KdumpSpec>): Buffer[] => CUTS.slice(1).map((_, i) => part(i, more));
const named = (files: readonly Buffer[], name = "p"): ByteSource[] =>
  files.map((bytes, i) => sourceOf(bytes, `${name}${i + 1}`));

/** Opens the first of these files, the others named or lying beside it. */
const openWith = (first: ByteSource, files: DumpFiles) => openAnyDump(first, files);
const besides = (files: readonly ByteSource[]): Required<Pick<DumpFiles, "beside">> => ({
  beside: (name) => files.find((file) => file.name === name),
});
const codes = (warnings: readonly { readonly code: string }[]) => warnings.map(({ code }) => code);

describe("a split dump", () => {
  test.each([2, 5, 6])(
    "of version %d is whole with all of its parts named, in any order",
    async (version) => {
      const set = named(parts({ version }));
      for (const order of [
        [0, 1, 2, 3, 4],
        [4, 3, 2, 1, 0],
        [2, 0, 4, 1, 3],
      ]) {
        const [first, ...others] = order.map((i) => set[i]!);
        const { memory, warnings, parts: further } = await openWith(first!, { parts: others });
        expect(warnings).toEqual([]);
        expect(further).toEqual(others.map(({ name }) => name));
        expectPages(memory);
        expect(extents(memory).filter(([from]) => from >= 1 && from < 9)).toEqual([
          [1, 3, "present"],
          [3, 4, "present"],
          [4, 5, "zero"],
          [5, 7, "present"],
          [7, 9, "excluded"],
        ]);
      }
    },
  );

  test.each([
    ["big-endian", "s390x", { bigEndian: true }],
    ["32-bit", "i686", { bits: 32 }],
    ["padded 32-bit", "armv7l", { bits: 32, padded: true }],
  ] as const)("of a %s machine too", async (_, machine, layout) => {
    const [first, ...others] = named(parts({ machine, layout }));
    expectPages((await openWith(first!, { parts: others })).memory);
  });

  test("may be flattened, each part by itself; one that is cut is told of", async () => {
    const flat = parts().map((bytes) => flattened([{ offset: 0, bytes }]));
    const [first, ...others] = named(flat);
    expectPages((await openWith(first!, { parts: others })).memory);
    const cut = [...flat.slice(0, 4), flattened([{ offset: 0, bytes: part(4) }], false)];
    const { warnings } = await openWith(sourceOf(flat[0]!, "p1"), { parts: named(cut).slice(1) });
    expect(codes(warnings)).toEqual(["DMP001"]);
  });

  test("finds its parts by the numbers in their names, whichever is named", async () => {
    const set = named(parts());
    for (const first of set) {
      const { memory, warnings } = await openWith(first, besides(set));
      expect(warnings).toEqual([]);
      expectPages(memory);
    }
  });

  test.each([
    ["vmcore.%d", 0],
    ["dump%d.kdump", 1],
    ["2024-01-02-vmcore-%d", 8],
    ["host7/vmcore.%d-2024", 1],
  ])("finds %s, from %d on", async (pattern, from) => {
    const set = parts().map((bytes, i) => sourceOf(bytes, pattern.replace("%d", String(from + i))));
    const plain = set.map(({ name, ...rest }) => ({ ...rest, name: name.replace(/^.*\//, "") }));
    for (const first of [set[0]!, set[3]!]) {
      const dump = await openWith(first, besides(plain));
      expect([dump.parts?.length, dump.warnings]).toEqual([4, []]);
    }
  });

  test("takes nothing that lies beside it and is not of its set", async () => {
    const other = part(3, { timestamp: 1_700_000_001 });
    const whole = buildKdump(spec);
    for (const stranger of [other, whole, part(0), Buffer.from("KDUMP   "), patternBytes(9000, 1)]) {
      const set = [part(0), part(1), stranger].map((bytes, i) => sourceOf(bytes, `p${i + 1}`));
      const { memory, warnings, parts: found } = await openWith(set[0]!, besides(set));
      expect([found, codes(warnings)]).toEqual([["p2"], ["DMP004"]]);
      expect(stateOf(memory, 5)).toEqual({ state: "present", bytes: pages.get(5) });
      expect(stateOf(memory, 40_000).state).toBe("absent");
    }
  });

  test("of which parts are missing says which page frames, and counts them as missing", async () => {
    const set = named(parts());
    const { memory, warnings } = await openWith(set[1]!, { parts: [set[4]!] });
    expect(warnings).toEqual([
      {
        code: "DMP004",
        message:
          "20.0 KiB of memory are in parts of this split dump that are not here: page frames 0 to 2, 7 to 40000",
        hint: "name each of the other parts with --part FILE",
      },
    ]);
    expect(memory.ranges).toEqual([
      { start: PAGE, end: 9 * PAGE },
      { start: 40_000 * PAGE, end: 40_003 * PAGE },
    ]);
    expect(extents(memory)).toEqual([
      [0, 1, "absent"],
      [1, 3, "absent"],
      [3, 4, "present"],
      [4, 5, "zero"],
      [5, 7, "present"],
      [7, 9, "absent"],
      [9, 40_000, "absent"],
      [40_000, 40_001, "absent"],
      [40_001, 40_002, "zero"],
      [40_002, 40_003, "excluded"],
    ]);
    for (const pfn of [1, 2, 7, 8, 40_000]) expect(stateOf(memory, pfn).state).toBe("absent");
  });

  test("is no less whole without a part that has no memory", async () => {
    const set = named(parts());
    const { memory, warnings } = await openWith(set[0]!, { parts: [set[1]!, set[3]!, set[4]!] });
    expect(warnings).toEqual([]);
    expectPages(memory);
  });

  test("one part of which broke off is marked so, and still a part", async () => {
    const [first, second, ...others] = named(parts());
    const marked = sourceOf(part(1, { incomplete: true }), second!.name);
    const { memory, warnings } = await openWith(first!, { parts: [marked, ...others] });
    expect(codes(warnings)).toEqual(["DMP002"]);
    expectPages(memory);
  });

  test.each([
    [
      "is given twice",
      () => [part(1), part(1)],
      /^the part p3 has page frames 3 to 6, of which p2 has some too/,
    ],
    ["is the first again", () => [part(0)], /^the part p2 has page frames 0 to 2, of which p1 has some too/],
    [
      "is cut differently",
      () => [buildKdump({ ...spec, split: [2, 9] })],
      /^the part p2 has page frames 2 to 8, of which p1/,
    ],
    [
      "was made at another time",
      () => [part(1, { timestamp: 1 })],
      /^the part p2 is of another dump than p1$/,
    ],
    ["was made with another level", () => [part(1, { dumpLevel: 1 })], /^the part p2 is of another dump/],
    [
      "has other bitmaps",
      () => [part(1, { pages: new Map([...pages, [2, null]]) })],
      /^the part p2 is of another dump/,
    ],
    ["is a whole dump", () => [buildKdump(spec)], /^the part p2 is a whole dump/],
    ["is no dump", () => [patternBytes(9000, 1)], /^the part p2 is no kdump-compressed dump$/],
  ])("is refused a part that %s", async (_, others, message) => {
    const [first, ...rest] = named([part(0), ...others()]);
    await expect(openWith(first!, { parts: rest })).rejects.toThrow(message);
    await expect(openWith(first!, { parts: rest })).rejects.toMatchObject({ code: "unsupported" });
  });

  test("that is whole has no parts", async () => {
    const [first, second] = named([buildKdump(spec), part(1)]);
    await expect(openWith(first!, { parts: [second!] })).rejects.toThrow(
      "the dump is whole in one file: p2 is no part of it",
    );
  });

  test("of 64 parts is read from each in turn", async () => {
    const contents = new Map(
      Array.from({ length: 256 }, (_, pfn) => [pfn, patternBytes(PAGE, pfn)] as const),
    );
    const set = named(
      Array.from({ length: 64 }, (_, i) => buildKdump({ pages: contents, split: [4 * i, 4 * i + 4] })),
    );
    const { memory, warnings } = await openWith(set[20]!, besides(set));
    expect(warnings).toEqual([]);
    const chance = random(7);
    for (let n = 0; n < 1000; n++) {
      const pfn = chance.below(256);
      expect(stateOf(memory, pfn).bytes.equals(contents.get(pfn)!), `page ${pfn}`).toBe(true);
    }
  });
});

test("names beside a name: its last number first, up and then down, without and with leading zeros", () => {
  const firstOf = (name: string, count: number) =>
    siblingNames(name).map((direction) => {
      const names: (readonly string[])[] = [];
      for (const spellings of direction) if (names.push(spellings) === count) break;
      return names;
    });
  expect(firstOf("/a1/vmcore.1", 2)).toEqual([[["vmcore.2"], ["vmcore.3"]], [["vmcore.0"]]]);
  expect(firstOf("x9-p09", 2)).toEqual([
    [["x9-p10"], ["x9-p11"]],
    [
      ["x9-p08", "x9-p8"],
      ["x9-p07", "x9-p7"],
    ],
    [["x10-p09"], ["x11-p09"]],
    [["x8-p09"], ["x7-p09"]],
  ]);
  expect(firstOf("vmcore", 2)).toEqual([]);
  expect(firstOf("vmcore.20240101", 2)).toEqual([]);
});

describe("what was erased", () => {
  const erase = "erase jiffies size 8\nerase init_task.comm nullify\n";

  test("is a note of the dump, and told of", async () => {
    const notes = Buffer.concat([
      note("CORE", 1, Buffer.alloc(336)),
      note("ERASEINFO", 0, Buffer.from("old")),
    ]);
    const dump = buildKdump({ pages, notes, eraseinfo: Buffer.from(erase) });
    const { notes: found, warnings } = await openAnyDump(sourceOf(dump));
    expect(found.map(({ name, type }) => [name, type])).toEqual([
      ["CORE", 1],
      ["ERASEINFO", 0],
    ]);
    expect(found[1]!.desc.toString()).toBe(erase);
    expect(warnings.map(({ code, message }) => [code, message])).toEqual([
      ["DMP005", "data were erased from this dump on purpose: 2 entries in its ERASEINFO"],
    ]);
  });

  test("in each part of a split dump is told together", async () => {
    const set = named(
      parts().map((_, i) => part(i, i === 0 ? {} : { eraseinfo: Buffer.from(`erase s${i} size 1\n`) })),
    );
    const { notes, warnings } = await openWith(set[2]!, besides(set));
    expect(notes.map(({ desc }) => desc.toString())).toEqual([
      "erase s1 size 1\nerase s2 size 1\nerase s3 size 1\nerase s4 size 1\n",
    ]);
    expect(warnings.map(({ message }) => message)).toEqual([expect.stringContaining("4 entries")]);
  });

  test("of all parts has the room of one dump's notes", async () => {
    const set = named(parts({ eraseinfo: Buffer.alloc(2 ** 22 + 1, "x") }));
    let most = 0;
    const counted = set.map(
      (file): ByteSource => ({
        ...file,
        read: (offset, target) => {
          if (target.length > 2 ** 20) most += target.length;
          return file.read(offset, target);
        },
      }),
    );
    const { notes, warnings } = await openWith(counted[0]!, besides(counted));
    expect([most, notes.map(({ desc }) => desc.length)]).toEqual([2 ** 24, [2 ** 24]]);
    expect(warnings[0]).toMatchObject({
      code: "CORE003",
      message: expect.stringMatching(/^notes: 4194301 of 4194305 bytes .* are read$/),
    });
    expect(codes(warnings)).toEqual(["CORE003", "CORE003", "DMP005"]);
  });

  test("is nothing in a version that does not have it", async () => {
    const { notes, warnings } = await openAnyDump(
      sourceOf(buildKdump({ pages, version: 4, eraseinfo: Buffer.from(erase) })),
    );
    expect([notes, warnings]).toEqual([[], []]);
  });
});

describe("on the command line", () => {
  const folder = mkdtempSync(join(tmpdir(), "guestcore-split-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const file = (name: string) => join(folder, name);
  const run = async (...words: string[]) => {
    const terminal = new FakeTerminal();
    const status = await main(words, terminal);
    return { status, out: terminal.out, err: terminal.err };
  };
  const eraseinfo = Buffer.from("erase jiffies size 8\n");
  for (const [i, bytes] of parts({ eraseinfo }).entries()) {
    writeFileSync(file(`dump.${i}`), bytes);
    writeFileSync(file(`${"abcde"[i]}.part`), bytes);
  }

  test("convert reads the set that lies beside the file, and carries over what was erased", async () => {
    const { status, out, err } = await run("convert", file("dump.2"), file("out"), "--json");
    expect(status, err).toBe(0);
    expect(err).toMatch(/DMP005/);
    expect(JSON.parse(out).result).toMatchObject({
      parts: ["dump.3", "dump.4", "dump.1", "dump.0"].map(file),
      coverage: { present: 6 * PAGE, zero: 2 * PAGE, excluded: 3 * PAGE, missing: 0 },
    });
    const vmcore = readVmcore(readFileSync(file("out")));
    expect(vmcore.notes.map(({ name, desc }) => [name, desc.toString()])).toEqual([
      ["ERASEINFO", "erase jiffies size 8\n".repeat(5)],
    ]);
    for (const [pfn, bytes] of pages) {
      const found = physicalAt(vmcore, pfn * PAGE, PAGE);
      expect(bytes === null ? found === undefined : found?.equals(bytes), `page ${pfn}`).toBe(true);
    }
    // The note is told of in an ELF dump as well.
    expect((await run("info", file("out"))).err).toMatch(/DMP005.*1 entry|DMP005.*5 entries/);
  });

  test("parts are named with --part; without them --strict says what is missing", async () => {
    const words = ["b", "c", "d", "e"].flatMap((name) => ["--part", file(`${name}.part`)]);
    const whole = await run("convert", file("a.part"), file("named"), ...words);
    expect(whole.status, whole.err).toBe(0);
    expect(readFileSync(file("named")).equals(readFileSync(file("out")))).toBe(true);
    const alone = await run("convert", file("a.part"), file("alone"), "--strict");
    expect(alone.status).toBe(6);
    expect(alone.err).toMatch(/DMP004: 36\.0 KiB of memory are in parts .*: page frames 3 to 40002/);
    const { out } = await run("info", file("dump.0"));
    expect(out).toMatch(/ with +\S+dump\.1, \S+dump\.2, \S+dump\.3, \S+dump\.4\n/);
  });

  test("standard input is one file of it at most", async () => {
    for (const words of [
      ["-", "--part", "-"],
      [file("a.part"), "--part", "-", "--part", "-"],
    ]) {
      const { status, err } = await run("info", ...words);
      expect([status, err]).toEqual([2, expect.stringMatching(/standard input can be named once/)]);
    }
  });

  test("the output is no part of the input", async () => {
    expect((await run("convert", file("dump.0"), file("dump.3"), "--force")).status).toBe(2);
    expect(
      (await run("convert", file("a.part"), file("b.part"), "--force", "--part", file("b.part"))).status,
    ).toBe(2);
  });
});

test("600 mutants of a set end in what is there, or an error of ours", async () => {
  const set = parts({ eraseinfo: Buffer.from("erase jiffies size 8\n") });
  const outcomes = { read: 0, refused: 0, alone: 0 };
  for (let seed = 0; seed < 600; seed++) {
    const chance = random(seed);
    const mutants = set.map((bytes) => Buffer.from(bytes));
    for (let n = chance.below(4); n >= 0; n--) {
      const mutant = chance.pick(mutants);
      const [from, size] = chance.pick([
        [408, 56],
        [PAGE, 104],
        [2 * PAGE, mutant.length - 2 * PAGE],
      ] as const);
      mutant[from + chance.below(size)] = chance.pick([0, 1, 0x7f, 0x80, 0xff, chance.below(256)]);
    }
    const files = named(
      mutants.map((bytes) =>
        chance.below(10) === 0 ? bytes.subarray(0, chance.below(bytes.length)) : bytes,
      ),
    );
    const [first, ...others] = files;
    try {
      const found = chance.below(2) === 0;
      const { memory, parts: further } = await openWith(first!, found ? besides(files) : { parts: others });
      for (const pfn of pages.keys()) {
        const { state, bytes } = stateOf(memory, pfn);
        memory.extentAt(pfn * PAGE, (pfn + 8) * PAGE);
        expect(["present", "zero", "excluded", "absent"]).toContain(state);
        expect(bytes.length).toBe(PAGE);
      }
      outcomes[further === undefined ? "alone" : "read"]++;
    } catch (error) {
      if (!(error instanceof GuestcoreError)) throw error;
      outcomes.refused++;
    }
  }
  expect(outcomes.read).toBeGreaterThan(100);
  expect(outcomes.refused).toBeGreaterThan(50);
});
