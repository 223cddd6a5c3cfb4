import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { CorruptError, UnsupportedError } from "../src/core/errors.ts";
import { isDirectory, isTar, readTar, readTree } from "../src/io/tree.ts";
import { E7500, setChecksum, sysfs, tar } from "./synth/vmcsinfo.ts";

const directory = mkdtempSync(join(tmpdir(), "guestcore-tree-"));
afterAll(() => rmSync(directory, { recursive: true }));

function saved(name: string, files: ReadonlyMap<string, string>): string {
  for (const [path, text] of files) {
    const full = join(directory, name, path);
    mkdirSync(dirname(full), { recursive: true });
    writeFileSync(full, text);
  }
  return join(directory, name);
}

const files = sysfs(5, 0xd, E7500);
const entries = (tree: ReadonlyMap<string, string>) => [...tree].sort(([a], [b]) => (a < b ? -1 : 1));

describe("directories", () => {
  test("every file below, by its path", () => {
    const path = saved("v5", files);
    expect(isDirectory(path)).toBe(true);
    expect(entries(readTree(path))).toEqual(entries(files));
  });

  test("links are not followed", () => {
    const path = saved("links", new Map([["vmcs/0800", "0x100"]]));
    symlinkSync("/etc/passwd", join(path, "vmcs/0802"));
    symlinkSync(path, join(path, "again"));
    expect([...readTree(path).keys()]).toEqual(["vmcs/0800"]);
  });

  test("too many entries and too large files are refused", () => {
    const many = saved("many", new Map(Array.from({ length: 4097 }, (_, i) => [`f${i}`, ""])));
    expect(() => readTree(many)).toThrow(/more than 4096 entries/);
    const large = saved("large", new Map([["f", "x".repeat(65_537)]]));
    expect(() => readTree(large)).toThrow(UnsupportedError);
  });

  test.skipIf(process.platform !== "linux")("files of sysfs, which have fewer bytes than they claim", () => {
    const tree = readTree("/sys/kernel/mm/transparent_hugepage/khugepaged");
    for (const text of tree.values()) expect(text).toMatch(/^\d+\n$/);
  });

  test("what is not there is no directory", () => {
    expect(isDirectory(join(directory, "nothing"))).toBe(false);
    expect(() => readTree(join(directory, "nothing"))).toThrow(/cannot list/);
  });
});

describe("tar", () => {
  test("an archive of our own", () => {
    const archive = tar(files);
    expect(isTar(archive)).toBe(true);
    expect(entries(readTar(archive))).toEqual(entries(files));
  });

  test.skipIf(spawnSync("tar", ["--version"]).error !== undefined)(
    "archives of GNU tar in every format (skipped without tar)",
    () => {
      const path = saved("gnu", files);
      for (const format of ["gnu", "oldgnu", "pax", "posix", "ustar", "v7"]) {
        const { stdout, status } = spawnSync("tar", [`--format=${format}`, "-C", path, "-cf", "-", "."]);
        expect(status).toBe(0);
        expect(isTar(stdout)).toBe(true);
        expect(entries(readTar(stdout)), format).toEqual(entries(files));
      }
    },
  );

  const damage = (change: (archive: Buffer) => void, checksum = true): Buffer => {
    const archive = tar(files);
    change(archive);
    if (checksum) setChecksum(archive);
    return archive;
  };

  test.each([
    ["a negative size", damage((archive) => archive.write("-0000002000\0", 124)), CorruptError],
    ["a size beyond the end", damage((archive) => archive.write("77777777777\0", 124)), CorruptError],
    ["a size that is none", damage((archive) => archive.write("zzzzzzzzzzz\0", 124)), CorruptError],
    ["a wrong checksum", damage((archive) => archive.write("9", 100), false), CorruptError],
    ["cut inside an entry", damage(() => {}).subarray(0, 514), CorruptError],
    [
      "a huge extended header",
      damage((archive) => {
        archive.write("00000020000\0", 124);
        archive.write("g", 156);
      }),
      UnsupportedError,
    ],
  ])("%s", (_, archive, expected) => {
    expect(() => readTar(archive)).toThrow(expected);
  });

  test("too many entries", () => {
    const many = tar(new Map(Array.from({ length: 4097 }, (_, i) => [`f${i}`, ""])));
    expect(() => readTar(many)).toThrow(/more than 4096 entries/);
  });

  test("other bytes are no tar", () => {
    for (const bytes of [Buffer.alloc(0), Buffer.alloc(2048), Buffer.from("x".repeat(600))]) {
      expect(isTar(bytes)).toBe(false);
    }
  });
});
