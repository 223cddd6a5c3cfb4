import {
  existsSync,
  linkSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { IoError, UsageError } from "../src/core/errors.ts";
import { FileSource } from "../src/io/file.ts";
import { OutputFile } from "../src/io/output.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "guestcore-output-"));
});
afterEach(() => rmSync(folder, { recursive: true }));
const path = (name: string) => join(folder, name);

const write = (file: OutputFile, text: string, position: number) => {
  const bytes = Buffer.from(text);
  file.write(bytes, 0, bytes.length, position);
};

describe("OutputFile", () => {
  test("appears under its name only when finished, private, with holes where nothing was written", () => {
    const file = OutputFile.create(path("out"));
    write(file, "end", 2 ** 33);
    expect(readdirSync(folder)).toEqual(["out.incomplete"]);
    file.finish(2 ** 33 + 4096);
    expect(readdirSync(folder)).toEqual(["out"]);
    const stat = statSync(path("out"));
    expect(stat.size).toBe(2 ** 33 + 4096);
    expect(stat.blocks * 512).toBeLessThan(64 * 1024);
    expect(stat.mode & 0o777).toBe(0o600);
  });

  test("abandoned, it leaves nothing; or what there is, when asked", () => {
    OutputFile.create(path("out")).abandon(false);
    expect(readdirSync(folder)).toEqual([]);
    const kept = OutputFile.create(path("out"));
    write(kept, "half", 0);
    expect(kept.abandon(true)).toBe(path("out.incomplete"));
    expect(readFileSync(path("out.incomplete"), "utf8")).toBe("half");
  });

  test("an existing output is kept, and replaced only with force", () => {
    writeFileSync(path("out"), "old");
    expect(() => OutputFile.create(path("out"))).toThrow(UsageError);
    const file = OutputFile.create(path("out"), { force: true });
    write(file, "new", 0);
    expect(readFileSync(path("out"), "utf8")).toBe("old");
    file.finish(3);
    expect(readFileSync(path("out"), "utf8")).toBe("new");
  });

  test("an output that appears meanwhile is not replaced", () => {
    const file = OutputFile.create(path("out"));
    write(file, "ours", 0);
    writeFileSync(path("out"), "theirs");
    expect(() => file.finish(4)).toThrow(/appeared while/);
    expect(readFileSync(path("out"), "utf8")).toBe("theirs");
  });

  test("an input is never overwritten, by whatever name, not even with force", () => {
    writeFileSync(path("core"), "precious");
    linkSync(path("core"), path("hardlink"));
    symlinkSync(path("core"), path("symlink"));
    const source = FileSource.open(path("core"));
    for (const name of ["core", "hardlink", "symlink"]) {
      expect(() => OutputFile.create(path(name), { force: true, inputs: [source.identity()] })).toThrow(
        /is an input/,
      );
    }
    source.close();
    expect(readFileSync(path("core"), "utf8")).toBe("precious");
  });

  test("a planted temporary file or link is not followed", () => {
    writeFileSync(path("victim"), "untouched");
    symlinkSync(path("victim"), path("out.incomplete"));
    expect(() => OutputFile.create(path("out"))).toThrow(UsageError);
    const file = OutputFile.create(path("out"), { force: true });
    write(file, "data", 0);
    file.finish(4);
    expect(readFileSync(path("victim"), "utf8")).toBe("untouched");
  });

  test("a directory, a device and a missing folder are refused", () => {
    expect(() => OutputFile.create(folder, { force: true })).toThrow(/not a regular file/);
    expect(() => OutputFile.create("/dev/null", { force: true })).toThrow(/not a regular file/);
    expect(() => OutputFile.create(path("none/out"))).toThrow(IoError);
    expect(existsSync(path("none"))).toBe(false);
  });
});

describe("FileSource", () => {
  test("knows the holes of a sparse file, and that what is not a hole is data", (context) => {
    const file = OutputFile.create(path("sparse"));
    write(file, "x".repeat(4096), 0);
    write(file, "y".repeat(4096), 2 ** 30);
    file.finish(2 ** 31);
    const source = FileSource.open(path("sparse"));
    if (source.extent(0, 4096) === undefined) context.skip("koffi is not installed: holes are read");
    expect(source.extent(0, 2 ** 31)).toMatchObject({ hole: false });
    expect(source.extent(0, 2 ** 31)!.end).toBeLessThan(2 ** 30);
    const hole = source.extent(2 ** 20, 2 ** 31)!;
    expect(hole).toEqual({ hole: true, end: 2 ** 30 });
    expect(source.extent(2 ** 30 + 2 ** 20, 2 ** 31)).toEqual({ hole: true, end: 2 ** 31 });
    source.close();
  });

  test("a directory or a missing file is an error of ours", () => {
    expect(() => FileSource.open(folder)).toThrow(/not a regular file/);
    expect(() => FileSource.open(path("none"))).toThrow(/no such file/);
  });
});
