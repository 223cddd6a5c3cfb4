import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import { main } from "../src/cli/main.ts";
import { readKdump } from "./support/read-kdump.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { buildElf } from "./synth/elf.ts";
import { note } from "./synth/notes.ts";
import { patternBytes } from "./synth/pattern.ts";

const disk = { free: undefined as number | undefined };
vi.mock("../src/io/output.ts", async (original) => ({
  ...(await original<typeof import("../src/io/output.ts")>()),
  freeSpaceFor: () => disk.free,
}));

const PAGE = 4096;
const folder = mkdtempSync(join(tmpdir(), "guestcore-space-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);
beforeEach(() => {
  disk.free = undefined;
});

async function run(...words: string[]) {
  const terminal = new FakeTerminal();
  return { status: await main(words, terminal), out: terminal.out, err: terminal.err };
}

/** Four pages at 4 GiB, as filtered as this: the rest of so many bytes was left out. */
function filtered(name: string, memsz: number): string {
  const notes = note("VMCOREINFO", 0, Buffer.from("OSRELEASE=6.1.0-synth\n"));
  const segment = { paddr: 2 ** 32, bytes: patternBytes(4 * PAGE, 1), memsz };
  writeFileSync(at(name), buildElf({ notes, segments: [segment] }));
  return at(name);
}

describe("bitmaps of a kdump-compressed dump", () => {
  test.each(["kdump", "flat"])("--format %s has none for memory that no machine has", async (format) => {
    const input = filtered("absurd", 2 ** 44);
    const { status, err } = await run("convert", input, at("absurd.out"), "--format", format);
    expect(status).toBe(3);
    expect(err).toMatch(
      /would have 512\.\d MiB of bitmaps, for memory that a dump of .* only speaks of\n.*--format elf/,
    );
    expect([existsSync(at("absurd.out")), existsSync(at("absurd.out.incomplete"))]).toEqual([false, false]);
    expect((await run("convert", input, at("absurd.elf"), "--force")).status).toBe(0);
  });

  test("are those of a large machine that was filtered", async () => {
    const { status } = await run("convert", filtered("large", 2 ** 39), at("large.out"), "--format", "kdump");
    expect(status).toBe(0);
    const kdump = readKdump(readFileSync(at("large.out")));
    const last = (2 ** 32 + 2 ** 39) / PAGE - 1;
    expect([kdump.ram(last), kdump.dumped(last)]).toEqual([true, false]);
  });

  test("and descriptors count when the disk may be too small", async () => {
    const input = filtered("roomy", 2 ** 39);
    // Four pages fit, and 16 MiB of bits for 512 GiB do not.
    disk.free = 2 ** 20;
    const { err } = await run("convert", input, at("roomy.out"), "--format", "kdump");
    expect(err).toMatch(/^warning OUT001: up to 16\.\d MiB will be written, 1\.0 MiB are free/m);
    expect(err).toContain("hint: guestcore verify, on the dump itself,");
    expect(err).not.toContain("extract --dry-run");
    expect((await run("convert", input, at("roomy.elf"))).err).not.toContain("OUT001");
  });
});
