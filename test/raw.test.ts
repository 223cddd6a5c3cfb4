import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { CorruptError, GuestcoreError, UnsupportedError, UsageError } from "../src/core/errors.ts";
import { consecutive, layoutPieces, parseRamMap, type RamPiece } from "../src/core/ram-map.ts";
import { cloudHypervisorPieces } from "../src/dump/cloud-hypervisor.ts";
import { openDump } from "../src/dump/open.ts";
import { MemorySource } from "./support/memory-io.ts";
import { physicalAt, readVmcore } from "./support/read-vmcore.ts";
import { FakeTerminal } from "./support/terminal.ts";
import {
  IMAGE,
  linuxGuest,
  RAM,
  RELEASE,
  TEXT,
  vmcoreinfoNote,
  vmcoreinfoText,
} from "./synth/linux-guest.ts";
import { patternBytes } from "./synth/pattern.ts";
import { ringLog } from "./synth/printk.ts";

const PAGE = 4096;
const GIB = 2 ** 30;
const folder = mkdtempSync(join(tmpdir(), "guestcore-raw-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);

const run = async (...words: string[]) => {
  const terminal = new FakeTerminal();
  return { status: await main(words, terminal), out: terminal.out, err: terminal.err };
};

describe("--map", () => {
  test("pieces: numbers of both kinds, in any order, each behind the one before it unless it says where", () => {
    expect(
      parseRamMap(["0x100000000-0x100002000@0x3000", "0-8192@4096", "0x5000-0x6000", "16384-20480"]),
    ).toEqual({
      pieces: [
        { start: 0, end: 8192, offset: 4096 },
        { start: 0x4000, end: 0x5000, offset: 0x4000 },
        { start: 0x5000, end: 0x6000, offset: 0x3000 },
        { start: 2 ** 32, end: 2 ** 32 + 8192, offset: 0x3000 },
      ],
    });
    expect(parseRamMap(["0-0x1000"])).toEqual({ pieces: [{ start: 0, end: PAGE, offset: 0 }] });
  });

  test("a layout, or a file that describes the machine", () => {
    expect(parseRamMap(["q35"])).toEqual({ layout: "q35" });
    expect(parseRamMap(["/snap/state.JSON"])).toEqual({ description: "/snap/state.JSON" });
  });

  test.each([
    [["0x1000"], /--map 0x1000: it is no START-END@OFFSET/],
    [["0-0x1000@"], /no START-END/],
    [["-1-0x1000"], /no START-END/],
    [["0-0xg000"], /no START-END/],
    [["toString"], /no START-END/],
    [["i440fx"], /no START-END/],
    [["0x2000-0x1000"], /START is below END/],
    [["0x1000-0x1000"], /START is below END/],
    [["0-0x20000000000000"], /at most 2\^52/],
    [["0-0x1001"], /whole pages/],
    [["12-0x1000"], /whole pages/],
    [["0-0x1000@99999999999999999999"], /beyond any file/],
    [["0-0x2000", "0x1000-0x3000"], /two pieces of --map hold the memory at 0x1000/],
    [["q35", "0-0x1000"], /--map q35 says where all of the memory is/],
    [["pc", "q35"], /--map pc says/],
    [["0-0x1000", "state.json"], /--map state\.json says/],
  ])("%j is refused", (texts, message) => {
    const parse = () => parseRamMap(texts);
    expect(parse).toThrow(UsageError);
    expect(parse).toThrow(message);
  });
});

/** As [start, end, offset] in GiB. */
const inGib = (pieces: readonly RamPiece[]) =>
  pieces.map(({ start, end, offset }) => [start / GIB, end / GIB, offset / GIB]);

describe("the layout of", () => {
  test.each([
    ["pc", 1, [[0, 1, 0]]],
    ["pc", 3.25, [[0, 3.25, 0]]],
    [
      "pc",
      3.5,
      [
        [0, 3, 0],
        [4, 4.5, 3],
      ],
    ],
    [
      "pc",
      16,
      [
        [0, 3, 0],
        [4, 17, 3],
      ],
    ],
    ["q35", 2.5, [[0, 2.5, 0]]],
    [
      "q35",
      2.75,
      [
        [0, 2, 0],
        [4, 4.75, 2],
      ],
    ],
    [
      "q35",
      8,
      [
        [0, 2, 0],
        [4, 10, 2],
      ],
    ],
    ["microvm", 3, [[0, 3, 0]]],
    [
      "microvm",
      4,
      [
        [0, 3, 0],
        [4, 5, 3],
      ],
    ],
    ["firecracker", 2, [[0, 2, 0]]],
    [
      "firecracker",
      4,
      [
        [0, 3, 0],
        [4, 5, 3],
      ],
    ],
    [
      "firecracker",
      255,
      [
        [0, 3, 0],
        [4, 256, 3],
      ],
    ],
    [
      "firecracker",
      300,
      [
        [0, 3, 0],
        [4, 256, 3],
        [512, 557, 255],
      ],
    ],
    [
      "firecracker-mmio",
      4,
      [
        [0, 3.25, 0],
        [4, 4.75, 3.25],
      ],
    ],
    [
      "firecracker-mmio",
      300,
      [
        [0, 3.25, 0],
        [4, 300.75, 3.25],
      ],
    ],
  ] as const)("%s with %d GiB", (layout, size, pieces) => {
    expect(inGib(layoutPieces(layout, size * GIB))).toEqual(pieces);
    // Less than a page at the end is none of the machine's.
    expect(inGib(layoutPieces(layout, size * GIB + 5))).toEqual(pieces);
  });

  test("QEMU's machines near 1 TiB depends on the host", () => {
    expect(inGib(layoutPieces("pc", 1011 * GIB)).at(-1)).toEqual([4, 1012, 3]);
    expect(() => layoutPieces("pc", 1012 * GIB)).toThrow(/--map pc: where RAM beyond 0xfd00000000 lies/);
    expect(() => layoutPieces("q35", 2000 * GIB)).toThrow(UsageError);
  });

  test("nothing is nothing", () => {
    expect(layoutPieces("pc", 0)).toEqual([]);
    expect(layoutPieces("pc", 4095)).toEqual([]);
  });

  test("any has all of the file once, in order", () => {
    fc.assert(
      fc.property(
        fc.constantFrom("pc", "q35", "microvm", "firecracker", "firecracker-mmio"),
        fc.integer({ min: 1, max: 2 ** 27 }),
        (layout, pages) => {
          const pieces = layoutPieces(layout as "pc", pages * PAGE);
          let [next, above] = [0, 0];
          for (const { start, end, offset } of pieces) {
            expect(offset).toBe(next);
            expect(start).toBeGreaterThanOrEqual(above);
            expect(end).toBeGreaterThan(start);
            next += end - start;
            above = end;
          }
          expect(next).toBe(pages * PAGE);
        },
      ),
    );
  });
});

/** As Cloud Hypervisor's state.json has it: JSON in a string, deep in JSON. */
const stateOf = (data: unknown, more: object = {}): string =>
  JSON.stringify({
    id: "",
    snapshots: {
      "cpu-manager": { id: "cpu-manager", snapshots: {}, snapshot_data: null },
      "memory-manager": {
        id: "memory-manager",
        snapshots: {},
        snapshot_data: {
          state: JSON.stringify({ memory_ranges: { data }, start_of_device_area: 2 ** 40, ...more }),
        },
      },
    },
    snapshot_data: null,
  });

describe("state.json of Cloud Hypervisor", () => {
  test("ranges follow each other in the file, in its order", () => {
    const pieces = cloudHypervisorPieces(
      stateOf([
        { gpa: 4 * GIB, length: 2 * PAGE },
        { gpa: 0, length: 3 * PAGE },
      ]),
    );
    expect(pieces).toEqual([
      { start: 0, end: 3 * PAGE, offset: 2 * PAGE },
      { start: 4 * GIB, end: 4 * GIB + 2 * PAGE, offset: 0 },
    ]);
    expect(consecutive([])).toEqual([]);
  });

  test.each([
    ["no JSON", "{", CorruptError, /not JSON/],
    ["another JSON", "[1]", UnsupportedError, /no state\.json/],
    ["nothing", "null", UnsupportedError, /no state\.json/],
    ["ranges as no list", stateOf({}), UnsupportedError, /no state\.json/],
    ["a state that is no JSON", stateOf([]).replace('"{', '"<'), CorruptError, /not JSON/],
    ["a range of half a page", stateOf([{ gpa: 0, length: 2048 }]), CorruptError, /memory range 0/],
    [
      "a range without address",
      stateOf([{ gpa: 0, length: PAGE }, { length: PAGE }]),
      CorruptError,
      /memory range 1/,
    ],
    ["a range below 0", stateOf([{ gpa: -PAGE, length: PAGE }]), CorruptError, /memory range 0/],
    ["a range of nothing", stateOf([{ gpa: 0, length: 0 }]), CorruptError, /memory range 0/],
    [
      "a range beyond every machine",
      stateOf([{ gpa: 2 ** 63, length: PAGE }]),
      CorruptError,
      /memory range 0/,
    ],
    [
      "ranges that overlap",
      stateOf([
        { gpa: 0, length: 2 * PAGE },
        { gpa: PAGE, length: PAGE },
      ]),
      UsageError,
      /two pieces/,
    ],
    [
      "many ranges",
      stateOf(Array(70_000).fill({ gpa: 0, length: PAGE })),
      UnsupportedError,
      /70000 memory ranges/,
    ],
    ["deep nesting", "[".repeat(100_000) + "]".repeat(100_000), GuestcoreError, /no state\.json|not JSON/],
  ])("%s is refused", (_, text, kind, message) => {
    expect(() => cloudHypervisorPieces(text)).toThrow(kind);
    expect(() => cloudHypervisorPieces(text)).toThrow(message);
  });
});

describe("a raw image", () => {
  const image = patternBytes(8 * PAGE, 9, { zero: () => false });
  const open = (pieces: readonly RamPiece[], bytes: Uint8Array = image) =>
    openDump(new MemorySource(bytes, "ram.img"), { map: pieces });

  test("whose pieces need not begin at a page of the file", async () => {
    const { memory, warnings, cpus, notes, machine } = await open([
      { start: 0x1000, end: 0x3000, offset: 100 },
      { start: 2 ** 33, end: 2 ** 33 + PAGE, offset: 0 },
    ]);
    expect([warnings, cpus, notes, machine]).toEqual([[], [], [], 62]);
    const page = Buffer.alloc(PAGE);
    expect(memory.readPage(0x2abc, page)).toBe("present");
    expect(page.equals(image.subarray(PAGE + 100, 2 * PAGE + 100))).toBe(true);
    expect(memory.readPage(2 ** 33, page)).toBe("present");
    expect(page.equals(image.subarray(0, PAGE))).toBe(true);
    expect(memory.readPage(0, page)).toBe("absent");
    expect(memory.extentAt(0, 2 ** 40)).toEqual({ start: 0, end: 0x1000, state: "absent" });
    expect(memory.extentAt(0x3000, 2 ** 40)).toEqual({ start: 0x3000, end: 2 ** 33, state: "absent" });
    expect(memory.extentAt(2 ** 34, 2 ** 40)).toEqual({ start: 2 ** 34, end: 2 ** 40, state: "absent" });
  });

  test("that ends before its map does: told", async () => {
    const { memory, warnings } = await open([{ start: 0, end: 8 * PAGE, offset: PAGE + 1 }]);
    expect(warnings).toMatchObject([
      { code: "DMP024", message: expect.stringMatching(/offset 0x9001, and the image is 32768 bytes/) },
    ]);
    expect(memory.extentAt(0, 2 ** 40)).toMatchObject({ end: 6 * PAGE, state: "present" });
    expect(memory.extentAt(6 * PAGE, 2 ** 40)).toEqual({ start: 6 * PAGE, end: 8 * PAGE, state: "absent" });
    expect(memory.readPage(6 * PAGE, Buffer.alloc(PAGE))).toBe("absent");
  });

  test.each([
    ["that the map does not touch", [{ start: 0, end: PAGE, offset: 8 * PAGE }], /begins at offset 0x8000/],
    ["of less than a page", [{ start: 0, end: PAGE, offset: 7 * PAGE + 1 }], /begins at offset 0x7001/],
    ["of nothing", [], /the map is empty/],
  ])("%s is refused", async (_, pieces, message) => {
    const error = await open(pieces).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(CorruptError);
    expect((error as Error).message).toMatch(message);
  });
});

describe("the command line", () => {
  const log = ringLog(TEXT + 0x2000n, [
    { time: 1_000_000n, level: 6, text: "Linux version 6.1.0-synth" },
    { time: 2_000_000n, level: 3, text: "a raw image has a log too" },
  ]);
  /** A guest's memory from 1 MiB on, of which the image begins with the second. */
  const image = Buffer.alloc(RAM - 0x100000);
  const info = `${vmcoreinfoText()}${log.keys.join("\n")}\n`;
  const extra = [
    { address: IMAGE + 0x2000, bytes: log.bytes },
    { address: IMAGE + 0x30_0000, bytes: vmcoreinfoNote(info) },
  ];
  for (const piece of [...linuxGuest(), ...extra]) {
    if ("bytes" in piece && piece.address >= 0x100000) image.set(piece.bytes, piece.address - 0x100000);
  }
  const map = "0x100000-0x2000000";

  beforeAll(() => {
    writeFileSync(at("ram.img"), image);
    writeFileSync(at("prefixed.img"), Buffer.concat([Buffer.alloc(100, 7), image]));
  });

  test.each([
    ["ram.img", map],
    ["prefixed.img", `${map}@100`],
  ])("convert %s --map %s", async (name, piece) => {
    const { status, out } = await run("convert", at(name), at(`${name}.elf`), "--map", piece, "--json");
    expect(status).toBe(0);
    expect(JSON.parse(out).result).toMatchObject({ vmcoreinfo: "found" });
    const vmcore = readVmcore(readFileSync(at(`${name}.elf`)));
    expect(physicalAt(vmcore, 0x100000, image.length)?.equals(image)).toBe(true);
    expect(vmcore.notes.map((note) => note.name)).toEqual(["VMCOREINFO"]);
  });

  test("to a raw image again, which begins at address 0", async () => {
    expect(
      (await run("convert", at("ram.img"), at("again.img"), "--map", map, "--format", "raw")).status,
    ).toBe(0);
    const again = readFileSync(at("again.img"));
    expect(again.length).toBe(RAM);
    expect(again.subarray(0x100000).equals(image)).toBe(true);
  });

  test("dmesg and info", async () => {
    const dmesg = await run("dmesg", at("ram.img"), "--map", map);
    expect([dmesg.status, dmesg.out]).toEqual([
      0,
      expect.stringMatching(/Linux version 6\.1\.0-synth\n.*a raw image has a log too\n$/),
    ]);
    const found = await run("info", at("ram.img"), "--map", map, "--json");
    expect(JSON.parse(found.out).result).toMatchObject({
      format: "raw",
      vmcore: {
        ranges: [{ start: 0x100000, end: RAM }],
        vmcoreinfo: { keys: { OSRELEASE: RELEASE } },
      },
    });
    const without = await run("info", at("ram.img"), "--json");
    expect(JSON.parse(without.out).result).toMatchObject({
      vmcore: null,
      next: [expect.stringMatching(/^guestcore convert .* vmcore --map 0-0x1f00000 /)],
    });
    expect((await run("dmesg", at("ram.img"), "--map", "0-0x100000")).status).toBe(5);
  });

  test("a snapshot of Cloud Hypervisor, with what info says of it", async () => {
    mkdirSync(at("snap"));
    writeFileSync(at("snap/memory-ranges"), image);
    writeFileSync(
      at("snap/state.json"),
      stateOf([
        { gpa: 4 * GIB, length: 0x100000 },
        { gpa: 0x1000000, length: image.length - 0x100000 },
      ]),
    );
    const { out } = await run("info", at("snap/memory-ranges"), "--json");
    const [command] = JSON.parse(out).result.next as string[];
    const words = command!.replace(/ +#.*/, "").split(" ");
    expect(words.slice(0, 3)).toEqual(["guestcore", "convert", at("snap/memory-ranges")]);
    const output = at("snap/vmcore");
    expect((await run(...words.slice(1).map((word) => (word === "vmcore" ? output : word)))).status).toBe(0);
    const vmcore = readVmcore(readFileSync(output));
    expect(physicalAt(vmcore, 4 * GIB, 0x100000)?.equals(image.subarray(0, 0x100000))).toBe(true);
    expect(physicalAt(vmcore, 0x1000000, image.length - 0x100000)?.equals(image.subarray(0x100000))).toBe(
      true,
    );
  });

  test("the RAM file of a machine with a hole below 4 GiB", async () => {
    const fd = openSync(at("pc.ram"), "w");
    ftruncateSync(fd, 3 * GIB);
    for (const offset of [0, 2 * GIB - PAGE, 2 * GIB, 3 * GIB - PAGE]) {
      writeSync(fd, Buffer.from(`at ${offset}`), 0, 3, offset);
      writeSync(fd, Buffer.from(`at ${offset}`), 0, null, offset);
    }
    closeSync(fd);
    const { out } = await run("convert", at("pc.ram"), at("q35.elf"), "--map", "q35", "--json");
    expect(JSON.parse(out).result.coverage).toMatchObject({
      present: 4 * PAGE,
      zero: 3 * GIB - 4 * PAGE,
      missing: 0,
    });
    const found = await run("info", at("q35.elf"), "--json");
    expect(JSON.parse(found.out).result.vmcore.ranges).toEqual([
      { start: 0, end: 2 * GIB },
      { start: 4 * GIB, end: 5 * GIB },
    ]);
    rmSync(at("q35.elf"));
    rmSync(at("pc.ram"));
  });

  test.each([
    [["--map", "0-10"], 2, /--map 0-10: it is not made of whole pages/],
    [["--map", "nothing.json"], 7, /nothing\.json/],
    [["--map", "q35", "--map", "pc"], 2, /give no other/],
    [["--map", "0x1000000-0x1200000@0x90000000"], 4, /the image is 32505856 bytes long/],
  ])("%j is refused", async (words, status, message) => {
    const { status: ended, err } = await run("convert", at("ram.img"), at("never"), ...words);
    expect([ended, err]).toEqual([status, expect.stringMatching(message)]);
  });

  test("a description that is none, or too long, is refused by name", async () => {
    writeFileSync(at("other.json"), "{}");
    const other = await run("convert", at("ram.img"), at("never"), "--map", at("other.json"));
    expect([other.status, other.err]).toEqual([3, expect.stringMatching(/other\.json: no state\.json/)]);
    const fd = openSync(at("long.json"), "w");
    ftruncateSync(fd, 65 * 2 ** 20);
    closeSync(fd);
    const long = await run("convert", at("ram.img"), at("never"), "--map", at("long.json"));
    expect([long.status, long.err]).toEqual([3, expect.stringMatching(/more than 64\.0 MiB/)]);
    // It is an input: never written over.
    writeFileSync(at("mine.json"), stateOf([{ gpa: 0, length: PAGE }]));
    const over = await run("convert", at("ram.img"), at("mine.json"), "--force", "--map", at("mine.json"));
    expect(over.status).toBe(2);
    expect(JSON.parse(readFileSync(at("mine.json"), "utf8")).id).toBe("");
  });
});
