import { spawnSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  mkdtempSync,
  openSync,
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
import { sizeByReading } from "../src/io/block-device.ts";
import { attempt, FileSource } from "../src/io/file.ts";
import { OutputFile, refuseToOverwrite, removeUnfinished } from "../src/io/output.ts";
import { OutputStream } from "../src/io/output-stream.ts";
import { writeTextFile } from "../src/io/text-file.ts";
import { quiet } from "./support/memory-io.ts";

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
    expect(file.abandon(false)).toBeUndefined();
    expect(readdirSync(folder)).toEqual(["out"]);
  });

  test("what could not get its name is kept when asked", () => {
    const file = OutputFile.create(path("out"));
    write(file, "ours", 0);
    writeFileSync(path("out"), "theirs");
    expect(() => file.finish(4)).toThrow(UsageError);
    expect(file.abandon(true)).toBe(path("out.incomplete"));
    expect(readFileSync(path("out.incomplete"), "utf8")).toBe("ours");
  });

  test("a link that leads nowhere is a name that is taken, before any work", () => {
    symlinkSync("nowhere", path("out"));
    expect(() => OutputFile.create(path("out"))).toThrow(/the output .*out exists/);
    symlinkSync("nowhere", path("other.incomplete"));
    expect(() => OutputFile.create(path("other"))).toThrow(/other\.incomplete exists: another run/);
    const file = OutputFile.create(path("out"), { force: true });
    write(file, "data", 0);
    file.finish(4);
    expect(readFileSync(path("out"), "utf8")).toBe("data");
    expect(existsSync(path("nowhere"))).toBe(false);
  });

  test("what another run made of the temporary name is not removed", () => {
    const file = OutputFile.create(path("out"));
    rmSync(path("out.incomplete"));
    writeFileSync(path("out.incomplete"), "theirs");
    removeUnfinished();
    expect(readFileSync(path("out.incomplete"), "utf8")).toBe("theirs");
    expect(file.abandon(true)).toBeUndefined();
    OutputFile.create(path("mine"));
    removeUnfinished();
    expect(readdirSync(folder)).toEqual(["out.incomplete"]);
  });

  test("once finished there is nothing to abandon, though another run may write there", () => {
    const file = OutputFile.create(path("out"));
    file.finish(0);
    writeFileSync(path("out.incomplete"), "theirs");
    expect(file.abandon(false)).toBeUndefined();
    expect(readdirSync(folder).sort()).toEqual(["out", "out.incomplete"]);
  });

  test("the check before the work finds what creation would, and leaves everything as it is", () => {
    expect(() => refuseToOverwrite(path("none/out"), false, [])).toThrow(/there is no directory .*none$/);
    writeFileSync(path("file"), "");
    expect(() => refuseToOverwrite(path("file/out"), false, [])).toThrow(IoError);
    expect(() => refuseToOverwrite(path("a".repeat(250)), false, [])).toThrow(/name is too long/);
    writeFileSync(path("out.incomplete"), "kept by --keep-partial");
    expect(() => refuseToOverwrite(path("out"), false, [])).toThrow(/another run/);
    refuseToOverwrite(path("out"), true, []);
    expect(readdirSync(folder).sort()).toEqual(["file", "out.incomplete"]);
  });

  test.skipIf(process.getuid?.() === 0)("a folder that cannot be written to (skipped for root)", () => {
    chmodSync(folder, 0o500);
    expect(() => refuseToOverwrite(path("out"), false, [])).toThrow(/permission denied/);
    chmodSync(folder, 0o700);
  });

  test("errors name the file, and hints the option it was named with", () => {
    const thrown = (act: () => unknown): unknown => {
      try {
        return act();
      } catch (error) {
        return error;
      }
    };
    const options = { force: false, others: [], option: "--json-file" };
    expect(thrown(() => writeTextFile(path("none/out"), "", options))).toMatchObject({
      where: { file: path("none/out") },
      hint: expect.stringContaining("--json-file"),
    });
    writeFileSync(path("input"), "");
    expect(
      thrown(() => writeTextFile(path("input"), "", { ...options, others: [path("input")] })),
    ).toMatchObject({ hint: "give another name with --json-file" });
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

describe("OutputStream", () => {
  test.skipIf(!existsSync("/dev/full"))("says why it cannot write (skipped without /dev/full)", async () => {
    const fd = openSync("/dev/full", "w");
    const output = new OutputStream(fd, quiet.checkpoint);
    output.write(Buffer.from("data"), 0, 4, 0);
    await expect(output.drain()).rejects.toThrow("cannot write to standard output: no space left on device");
    closeSync(fd);
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

  test("a block device is read like a file", (context) => {
    writeFileSync(
      path("disk"),
      Buffer.concat([Buffer.alloc(512, "a"), Buffer.alloc(2 ** 20), Buffer.alloc(512, "z")]),
    );
    const set = spawnSync("losetup", ["--find", "--show", "--read-only", path("disk")], { encoding: "utf8" });
    if (set.status !== 0) context.skip("no loop device is to be had");
    const device = set.stdout.trim();
    try {
      const source = FileSource.open(device);
      expect([source.size, source.sizeOnDisk(), source.isRegular]).toEqual([
        2 ** 20 + 1024,
        2 ** 20 + 1024,
        false,
      ]);
      const end = Buffer.alloc(1024);
      expect([source.read(2 ** 20 + 512, end), end.toString("latin1", 0, 512)]).toEqual([
        512,
        "z".repeat(512),
      ]);
      expect(source.extent(0, 2 ** 20)).toBeUndefined();
      source.close();
    } finally {
      spawnSync("losetup", ["--detach", device]);
    }
  });

  test.each([0, 1, 2, 3, 511, 512, 513, 2 ** 32 - 1, 2 ** 40 + 512])(
    "the size of a device of %d bytes",
    (size) => {
      let reads = 0;
      const hasByte = (offset: number) => {
        reads++;
        return offset < size;
      };
      expect(sizeByReading(hasByte)).toBe(size);
      expect(reads).toBeLessThan(110);
    },
  );

  test("what the system refuses is told in words", () => {
    const refuse = () => {
      throw Object.assign(new Error("EPERM: operation not permitted"), { code: "EPERM" });
    };
    expect(() => attempt("cannot open /dev/sda", refuse)).toThrow(
      /^cannot open \/dev\/sda: operation not permitted$/,
    );
  });

  test("a directory or a missing file is an error of ours", () => {
    expect(() => FileSource.open(folder)).toThrow(/not a regular file/);
    expect(() => FileSource.open(path("none"))).toThrow(/no such file/);
    expect(() => FileSource.open(path("none"))).toThrow(
      expect.objectContaining({ where: { file: path("none") } }),
    );
  });
});
