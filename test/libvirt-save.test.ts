import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { CorruptError, GuestcoreError, UnsupportedError } from "../src/core/errors.ts";
import { openDump } from "../src/dump/open.ts";
import { openInput } from "../src/jobs/input.ts";
import { MemorySource, quiet } from "./support/memory-io.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { buildMigration, buildSave, type SaveSpec } from "./synth/migration.ts";
import { clock } from "./synth/migration-devices.ts";
import { patternPage, random } from "./synth/pattern.ts";

const PAGE = 4096;
const COUNT = 40;
const folder = mkdtempSync(join(tmpdir(), "guestcore-save-"));
afterAll(() => rmSync(folder, { recursive: true }));

const page = (n: number) => patternPage(5, n);
const state = buildMigration({
  blocks: [{ name: "pc.ram", size: COUNT * PAGE }],
  parts: [Array.from({ length: COUNT }, (_, n) => ({ block: "pc.ram", page: n, bytes: page(n) }))],
  devices: [clock(COUNT * PAGE, 0)],
}).bytes;

const open = (bytes: Buffer) => openDump(new MemorySource(bytes, "db1.save"));
const codes = ({ warnings }: { readonly warnings: readonly { readonly code: string }[] }) =>
  warnings.map(({ code }) => code);

/** How many pages are there, and right, from the first on. */
function pagesOf({ memory }: Awaited<ReturnType<typeof open>>): number {
  const target = Buffer.alloc(PAGE);
  let n = 0;
  while (memory.readPage(n * PAGE, target) === "present" && target.equals(page(n))) n++;
  return n;
}

async function errorOf(spec: SaveSpec): Promise<GuestcoreError> {
  const error = await open(buildSave(spec)).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(GuestcoreError);
  return error as GuestcoreError;
}

describe("a save image", () => {
  test.each<[string, Partial<SaveSpec>]>([
    ["of a little-endian host", {}],
    ["of a big-endian host", { order: "big" }],
    ["of the first version", { version: 1 }],
    ["in the format sparse", { format: 6 }],
    ["without padding", { padding: 0 }],
    ["that says it is compressed and is not", { format: 1 }],
  ])("%s is its stream", async (_, spec) => {
    const dump = await open(buildSave({ state, ...spec }));
    expect([pagesOf(dump), codes(dump)]).toEqual([COUNT, []]);
  });

  test("that was not finished gives what it has", async () => {
    const magic = "LibvirtQemudPart";
    const whole = buildSave({ state, magic });
    const dump = await open(whole.subarray(0, whole.indexOf(page(30))));
    expect([pagesOf(dump), codes(dump)]).toEqual([30, ["DMP039", "DMP030", "DMP031"]]);
    expect(codes(await open(whole))).toEqual(["DMP039"]);
  });

  test.each<[string, SaveSpec, new (message: string) => GuestcoreError, RegExp]>([
    ["without a state", { state: Buffer.alloc(0) }, CorruptError, /ends before the guest's state/],
    ["of a later version", { state, version: 3 }, UnsupportedError, /version 3/],
    ["of something unknown", { state: Buffer.alloc(100, 0x33), format: 9 }, CorruptError, /format 9/],
  ])("%s is refused", async (_, spec, kind, message) => {
    const error = await errorOf(spec);
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toMatch(message);
  });

  test("cut inside its header is refused", async () => {
    await expect(open(buildSave({ state }).subarray(0, 80))).rejects.toThrow(/inside its header/);
  });

  test.each([
    ["gzip", "1f8b0800"],
    ["bzip2", "425a6839"],
    ["xz", "fd377a585a00"],
    ["lzop", "894c5a4f00"],
    ["zstd", "28b52ffd"],
  ])("compressed with %s tells how to unpack it, where it is not", async (program, magic) => {
    const packed = Buffer.concat([Buffer.from(magic, "hex"), Buffer.alloc(100)]);
    const image = buildSave({ state: packed });
    const error = await errorOf({ state: packed });
    expect(error.message).toContain(`compressed with ${program}`);
    const offset = image.indexOf(packed);
    expect(error.hint).toContain(`tail -c +${offset + 1} db1.save | ${program} -dc > db1.save.state`);
  });
});

describe("a compressed save image as a file", () => {
  const write = (name: string, bytes: Buffer): string => {
    writeFileSync(join(folder, name), bytes);
    return join(folder, name);
  };

  test("is unpacked on the way, with what is wrong with it", async () => {
    const packed = gzipSync(state);
    for (const [name, bytes, wanted] of [
      ["whole.save", packed, []],
      ["cut.save", packed.subarray(0, packed.length - 30_000), ["CORE004", "DMP030", "DMP031"]],
    ] as const) {
      const input = await openInput(write(name, buildSave({ state: bytes, format: 1 })), quiet);
      try {
        const dump = await openDump(input.source, input.files);
        expect([name, codes(dump)]).toEqual([name, wanted]);
        if (wanted.length === 0) expect(pagesOf(dump)).toBe(COUNT);
        else expect(pagesOf(dump)).toBeGreaterThan(10);
      } finally {
        input.close();
      }
    }
  });

  test("converts to the same as what is in it", async () => {
    const [stream, image] = [
      write("a.qemu", state),
      write("a.save", buildSave({ state: gzipSync(state), format: 1 })),
    ];
    for (const path of [stream, image]) {
      expect(await main(["convert", path, `${path}.out`], new FakeTerminal())).toBe(0);
    }
    expect(readFileSync(`${image}.out`).equals(readFileSync(`${stream}.out`))).toBe(true);
  });
});

test("500 mutants of the header end in pages, or an error of ours", async () => {
  const image = buildSave({ state });
  const outcomes = { read: 0, refused: 0 };
  for (let seed = 0; seed < 500; seed++) {
    const chance = random(seed);
    const bytes = Buffer.from(image.subarray(0, chance.below(6) === 0 ? chance.below(400) : image.length));
    for (let n = chance.below(3); n >= 0; n--) bytes[16 + chance.below(24)] = chance.pick([0, 1, 0x7f, 0xff]);
    const outcome = await open(bytes).catch((error: unknown) => error);
    if (outcome instanceof GuestcoreError) outcomes.refused++;
    else if (outcome instanceof Error) throw outcome;
    else outcomes.read++;
  }
  expect(outcomes.read).toBeGreaterThan(20);
  expect(outcomes.refused).toBeGreaterThan(100);
});
