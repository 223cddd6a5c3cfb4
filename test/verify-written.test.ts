import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { buildKdump } from "./synth/kdump.ts";
import { PAGE, patternBytes } from "./synth/pattern.ts";

const folder = mkdtempSync(join(tmpdir(), "guestcore-verify-written-"));
afterAll(() => rmSync(folder, { recursive: true }));
const path = (name: string) => join(folder, name);

async function run(...words: string[]) {
  const terminal = new FakeTerminal();
  const status = await main(words, terminal);
  return { status, out: terminal.out, err: terminal.err };
}

const memory = patternBytes(16 * PAGE, 1, { zero: (page) => page % 4 === 0 });
writeFileSync(path("raw"), memory);
/** Where the second half of it lies: the last is where bitmaps have holes in a stream as well. */
const MAPS = [
  ["in one piece", ["0-0x10000"]],
  ["with a hole of 8 GiB", ["0-0x8000@0", "0x200000000-0x200008000@0x8000"]],
  ["at both ends of 4 TiB", ["0-0x8000@0", "0x40000000000-0x40000008000@0x8000"]],
] as const;
const mapOf = (pieces: readonly string[]) => pieces.flatMap((piece) => ["--map", piece]);
const STYLES = [[], ["-d", "0"], ["--compress", "none"]];

/** The reader of such streams; where it is not installed the rest is tested. */
const TOOL = "makedumpfile";
const hasTool = spawnSync(TOOL, ["-v"]).error === undefined;

test.each(MAPS)("a flattened stream of memory %s is whole", async (_, map) => {
  const isFar = map === MAPS[2][1];
  for (const [i, style] of (isFar ? STYLES.slice(0, 1) : STYLES).entries()) {
    const [flat, kdump] = [path(`flat${i}`), path(`kdump${i}`)];
    const options = [...mapOf(map), "--force", ...style];
    expect((await run("convert", path("raw"), flat, "--format", "flat", ...options)).status).toBe(0);
    expect((await run("convert", path("raw"), kdump, "--format", "kdump", ...options)).status).toBe(0);
    for (const file of [flat, kdump]) expect(await run("verify", file)).toMatchObject({ status: 0 });
    if (!hasTool || isFar) continue;
    execFileSync(TOOL, ["-R", path("ordered")], {
      stdio: [openSync(flat, "r"), "ignore", "ignore"],
    });
    expect(readFileSync(path("ordered")).equals(readFileSync(kdump))).toBe(true);
    rmSync(path("ordered"));
  }
});

test("a record lost of the bitmaps is found", async () => {
  const flat = path("flat");
  await run("convert", path("raw"), flat, "--format", "flat", ...mapOf(MAPS[1][1]));
  const stream = readFileSync(flat);
  // Records in the order of the stream, the bitmaps' among them.
  for (let at = 4096, found = 0; found < 4; ) {
    const [offset, size] = [Number(stream.readBigInt64BE(at)), Number(stream.readBigInt64BE(at + 8))];
    const end = at + 16 + size;
    if (offset > 0 && size === 65536) {
      writeFileSync(path("lost"), Buffer.concat([stream.subarray(0, at), stream.subarray(end)]));
      const { status, out } = await run("verify", path("lost"));
      expect([status, out]).toEqual([1, expect.stringMatching(/VRF004/)]);
      found++;
    }
    at = end;
  }
});

test.each(["kdump", "flat"])("a %s of which pages were lost on the way is whole", async (format) => {
  const contents = (pfn: number) => Buffer.alloc(PAGE, pfn % 3 === 0 ? 0 : pfn);
  const pages = new Map(Array.from({ length: 60 }, (_, pfn) => [pfn, contents(pfn)] as const));
  const bytes = buildKdump({ pages, codec: "zlib" });
  for (const pfn of [7, 8, 25]) {
    packedOf(bytes, pfn).fill(0xff);
  }
  writeFileSync(path("damaged"), bytes);
  const [out, again] = [path(`re.${format}`), path("again")];
  const converted = await run("convert", path("damaged"), out, "--format", format);
  expect([converted.status, converted.err]).toEqual([0, expect.stringMatching(/DMP007.*3 pages/)]);
  expect(await run("verify", out)).toMatchObject({
    status: 0,
    out: expect.stringMatching(/whole\n {2}memory: .*present, 80\.0 KiB zero/),
  });
  expect((await run("convert", out, again, "--format", "elf", "--force")).status).toBe(0);
});

/** The packed bytes of a page of a dump whose page frames are all dumped, from 0 on. */
function packedOf(bytes: Buffer, pfn: number): Buffer {
  const blocks = 1 + bytes.readUInt32LE(432) + bytes.readUInt32LE(436);
  const at = blocks * PAGE + 24 * pfn;
  const offset = Number(bytes.readBigUInt64LE(at));
  return bytes.subarray(offset, offset + bytes.readUInt32LE(at + 8));
}
