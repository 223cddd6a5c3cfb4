import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, statSync } from "node:fs";
import { afterEach, describe, expect, inject, test } from "vitest";
import { extracted, isLinux, oneOfEach, resultPath, type Subject, subjects } from "./extracted.ts";
import { guestcore, runWell, testWith } from "./tools.ts";
import { compareMemory, RawImage, VmcoreFile } from "./vmcore-file.ts";

const toClose: Array<{ close(): void }> = [];
const toRemove: string[] = [];
afterEach(() => {
  for (const file of toClose.splice(0)) file.close();
  for (const path of toRemove.splice(0)) rmSync(path, { force: true });
});

/** A path for a file that only this test needs. */
function ownPath(name: string): string {
  const path = resultPath(name);
  rmSync(path, { force: true });
  toRemove.push(path);
  return path;
}

function open(path: string): VmcoreFile {
  const file = new VmcoreFile(path);
  toClose.push(file);
  return file;
}

/** A second extraction of a core, other than the one all tests share. */
function extractAs(subject: Subject, name: string, ...options: string[]): string {
  const out = ownPath(`${subject.title}.${name}`);
  const { status, stderr } = guestcore("extract", subject.core, "-o", out, ...subject.options, ...options);
  expect(stderr).toBe("");
  expect(status).toBe(0);
  return out;
}

/** What must be empty when `path` shows the memory that QEMU dumped; addresses in hexadecimal. */
function differences(subject: Subject, file: VmcoreFile | RawImage): Record<string, string[]> {
  const { different, absent, compared } = compareMemory(open(subject.guest.dump), file);
  expect(compared).toBeGreaterThan(0);
  const hex = (address: number) => `0x${address.toString(16)}`;
  return { different: different.map(hex), absent: absent.map(hex) };
}

const nothing = { different: [], absent: [] };

for (const note of inject("lab").notes) test.skip(note, () => {});

describe.each(subjects())("the memory of $title", (subject) => {
  test("is what QEMU dumped, page by page, and no more", () => {
    const file = open(extracted(subject));
    expect(differences(subject, file)).toEqual(nothing);
    const truth = open(subject.guest.dump);
    expect(compareMemory(truth, file).beyond).toEqual([]);
    expect(compareMemory(truth, file).compared).toBeGreaterThanOrEqual(
      truth.loads.reduce((pages, { filesz }) => pages + filesz / 4096, 0),
    );
  });

  test("lies in the one ELF layout that every reader opens", () => {
    const file = open(extracted(subject));
    expect(file).toMatchObject({ ehsize: 64, phoff: 64, machine: 62, sections: 0 });
    expect(file.types.indexOf(4)).toBe(0);
    expect(file.types.lastIndexOf(4)).toBe(0);
    expect(file.loads.every(({ filesz, memsz }) => filesz === memsz)).toBe(true);
    const { vcpus } = subject.guest.recipe;
    const vmcoreinfo = isLinux(subject.guest) ? ["VMCOREINFO"] : [];
    const owners = [...Array(vcpus).fill("CORE"), ...Array(vcpus).fill("QEMU"), ...vmcoreinfo];
    expect(file.notes.map(({ name }) => name)).toEqual(owners);
    // Linux: one segment more, the kernel's image at its own address, in memory the others have.
    const physical = isLinux(subject.guest) ? file.loads.slice(0, -1) : file.loads;
    const addresses = physical.map(({ paddr }) => paddr);
    expect(addresses).toEqual(addresses.toSorted((left, right) => left - right));
    const bases = new Set(physical.map(({ vaddr, paddr }) => vaddr - BigInt(paddr)));
    expect(bases.size).toBe(1);
  });

  test("has holes for its zero pages, and is private", () => {
    const file = open(extracted(subject));
    const { zero, pages } = compareMemory(open(subject.guest.dump), file);
    expect(zero).toBeGreaterThan(0);
    // Bounds: what the file system keeps beside the data, and runs it joins.
    const stored = (pages - zero) * 4096;
    expect(file.bytesOnDisk).toBeLessThan(stored * 1.02 + (1 << 20));
    expect(statSync(file.path).mode & 0o777).toBe(0o600);
  });

  testWith(["readelf"], "makes readelf -a say nothing on stderr", () => {
    const { stdout, stderr } = runWell("readelf", ["-a", "-W", extracted(subject)]);
    expect(stderr).toBe("");
    expect(stdout).toMatch(/Type: +CORE \(Core file\)/);
    expect(stdout).not.toMatch(/warning|corrupt/i);
  });
});

describe.each(oneOfEach(subjects()))("the memory of $title, written otherwise", (subject) => {
  test("is the same as a raw image", () => {
    const image = new RawImage(extractAs(subject, "raw", "--format", "raw"));
    toClose.push(image);
    expect(differences(subject, image)).toEqual(nothing);
  });

  test("is the same with --vaddr none, at physical addresses", () => {
    const file = open(extractAs(subject, "identity", "--vaddr", "none"));
    expect(file.loads.every(({ vaddr, paddr }) => vaddr === BigInt(paddr))).toBe(true);
    expect(differences(subject, file)).toEqual(nothing);
  });
});

describe.each(inject("lab").guests)("$name", (guest) => {
  test("gives the same vmcore from every core, and every time", () => {
    const [first, ...others] = subjects((other) => other === guest);
    const wanted = readFileSync(extracted(first!));
    for (const other of others) expect(readFileSync(extracted(other)).equals(wanted), other.title).toBe(true);
    expect(readFileSync(extractAs(first!, "again")).equals(wanted)).toBe(true);
  });
});

describe.each(subjects(({ recipe }) => recipe.name === "pc-split"))("$title", (subject) => {
  test("gives the same bytes through a pipe", () => {
    const out = ownPath(`${subject.title}.piped`);
    const script = 'exec "$0" "$1" extract "$2" -o - >"$3"';
    const cli = [process.execPath, `${import.meta.dirname}/../../bin/guestcore.js`];
    runWell("sh", ["-c", script, ...cli, subject.core, out]);
    expect(readFileSync(out).equals(readFileSync(extracted(subject)))).toBe(true);
  });

  test.each([
    ["gzip", ".gz"],
    ["zstd", ".zst"],
  ])("gives the same bytes when the core is compressed by %s", (tool, suffix) => {
    const compressed = ownPath(`${subject.title}${suffix}`);
    execFileSync("sh", ["-c", `${tool} -1 -c <"$0" >"$1"`, subject.core, compressed], { stdio: "pipe" });
    const out = ownPath(`${subject.title}${suffix}.vmcore`);
    const { status, stderr } = guestcore("extract", compressed, "-o", out, "--progress", "none");
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(readFileSync(out).equals(readFileSync(extracted(subject)))).toBe(true);
  });
});

describe.each(subjects(({ recipe }) => recipe.fileBacked !== undefined))(
  "$title, without its RAM",
  (subject) => {
    const extract = (out: string, ...options: string[]) =>
      guestcore("extract", subject.core, "-o", out, ...options);

    test("has what exists, names the block that is missing, and counts it", () => {
      const out = ownPath(`${subject.title}.incomplete-memory`);
      rmSync(out, { force: true });
      const { status, stdout, stderr } = extract(out, "--json");
      expect(status).toBe(0);
      const report = JSON.parse(stdout) as { warnings: { code: string; message: string }[] };
      const block = subject.guest.recipe.fileBacked!;
      expect(report.warnings.map(({ code }) => code)).toContain("RAM001");
      expect(report.warnings.find(({ code }) => code === "RAM001")!.message).toContain(block);
      expect(stderr).toContain("RAM001");
      const truth = open(subject.guest.dump);
      const { different, absent, compared } = compareMemory(truth, open(out));
      expect(different).toEqual([]);
      expect(absent[0]).toBe(0);
      expect(compared).toBeGreaterThan(0);
    });

    test("makes --strict end with 6", () => {
      const out = ownPath(`${subject.title}.strict`);
      rmSync(out, { force: true });
      expect(extract(out, "--strict").status).toBe(6);
    });
  },
);

describe.each(subjects())("the core of $title", (subject) => {
  test("is described by info, and so is what came out of it", () => {
    for (const path of [subject.core, extracted(subject)]) {
      const { status, stdout, stderr } = guestcore("info", path);
      expect(stderr).not.toMatch(/guestcore: /);
      expect(status).toBe(0);
      expect(stdout).toMatch(/\bELF\b/);
      expect(stdout).toMatch(/^next: /m);
    }
  });

  test("is mapped by --dry-run as QEMU mapped it, and nothing is written", () => {
    const out = ownPath(`${subject.title}.dry`);
    const { status, stdout } = guestcore(
      "extract",
      subject.core,
      "-o",
      out,
      "--dry-run",
      "--json",
      ...subject.options,
    );
    expect(status).toBe(0);
    expect(existsSync(out)).toBe(false);
    const { ranges } = (JSON.parse(stdout) as { result: { ranges: MappedRange[] } }).result;
    const found = ranges.map(({ start, end, kind, source, sourceOffset }) => ({
      start,
      end,
      kind,
      source,
      sourceOffset,
    }));
    const wanted = flatView(readFileSync(subject.guest.memoryTree, "utf8"));
    expect(wanted.length).toBeGreaterThan(1);
    expect(found).toEqual(wanted);
  });
});

interface MappedRange {
  readonly start: number;
  readonly end: number;
  readonly kind: string;
  readonly source: string;
  readonly sourceOffset: number;
}

/**
 * RAM and ROM in the flat view of the address space "memory" as `info mtree -f` prints it. microvm leaves its firmware
 * writable, so the monitor calls it RAM.
 */
function flatView(text: string): MappedRange[] {
  const view = text.split(/^FlatView #\d+$/m).find((part) => part.includes('AS "memory"')) ?? "";
  const row = /^ +([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (ram|rom)\): (\S+)(?: @([0-9a-f]{16}))?/gm;
  return [...view.matchAll(row)].map(([, first, last, kind, source, offset]) => ({
    start: Number(`0x${first}`),
    end: Number(`0x${last}`) + 1,
    kind: source === "pc.bios" ? "rom" : kind!,
    source: source!,
    sourceOffset: Number(`0x${offset ?? 0}`),
  }));
}
