import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { extracted, isLinux, subjects } from "./extracted.ts";
import { guestcore, missing, run, runWell, testWith } from "./tools.ts";

/** What makedumpfile, QEMU, the kernel and gdb write is whole; cut, it is not. */
const folder = mkdtempSync(join(tmpdir(), "guestcore-verify-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);

interface Verdict {
  readonly status: number | null;
  readonly format: string;
  readonly whole: boolean;
  readonly coverage: {
    readonly present: number;
    readonly zero: number;
    readonly excluded: number;
    readonly missing: number;
  };
  readonly errors: readonly string[];
  readonly warnings: readonly string[];
}

function verify(...words: string[]): Verdict {
  const { status, stdout, stderr } = guestcore("verify", "--json", ...words);
  if (status !== 0 && status !== 1) throw new Error(`exit status ${status}\n${stdout}${stderr}`);
  const { format, whole, coverage, findings } = JSON.parse(stdout).result;
  const codes = (severity: string) =>
    findings
      .filter((found: { severity: string }) => found.severity === severity)
      .map(({ code }: { code: string }) => code);
  return { status, format, whole, coverage, errors: codes("error"), warnings: codes("warning") };
}

/** Cuts a file in place. */
function cut(path: string, size: number): void {
  const file = openSync(path, "r+");
  ftruncateSync(file, size);
  closeSync(file);
}

/** A file is whole, quickly too; and each time a part of its end is lost, it is damaged. */
function expectWhole(path: string, format: string, warnings: string[] = []): Verdict {
  const verdict = verify(path);
  expect(verdict).toMatchObject({ status: 0, format, whole: true, errors: [], warnings });
  expect(verify(path, "--quick")).toMatchObject({ status: 0, whole: true, errors: [], warnings });
  return verdict;
}

function expectCutFound(path: string): void {
  const { size } = statSync(path);
  for (const length of [size - 1, size - 5000, Math.floor(size / 2), Math.floor(size / 10), 9000]) {
    if (length <= 0 || length >= statSync(path).size) continue;
    cut(path, length);
    for (const quick of [[], ["--quick"]]) {
      const { status, whole, errors } = verify(path, ...quick);
      expect([length, status, whole], `cut to ${length} of ${size}`).toEqual([length, 1, false]);
      expect(errors.length).toBeGreaterThan(0);
    }
  }
}

const linux = subjects(isLinux)[0];

describe.runIf(linux !== undefined)("what makedumpfile writes", () => {
  const source = () => extracted(linux!);
  let all: Verdict["coverage"];
  beforeAll(() => {
    all = expectWhole(source(), "elf").coverage;
  });

  const filtered = (options: string, path: string): void => {
    const target = options.includes("-F") ? `${source()} > ${path}` : `${source()} ${path}`;
    const command = ["-c", `makedumpfile ${options} ${target}`];
    rmSync(path, { force: true });
    // Its threads may abort as they end ("libgcc_s.so.1 must be installed for pthread_exit to work").
    if (options.includes("--num-threads") && run("sh", command).status === 0) return;
    rmSync(path, { force: true });
    runWell("sh", command);
  };

  for (const [options, format] of [
    ["-c -d 0", "kdump"],
    ["-l -d 1", "kdump"],
    ["-c -d 31", "kdump"],
    ["-l -d 31", "kdump"],
    ["-l -d 31 --num-threads 2", "kdump"],
    ["-E -d 0", "elf"],
    ["-E -d 31", "elf"],
    ["-c -d 31 -F", "kdump"],
    ["-E -d 31 -F", "elf"],
  ] as const) {
    testWith(["makedumpfile", "sh"], `with ${options}`, () => {
      const path = at("filtered");
      filtered(options, path);
      const { coverage } = expectWhole(path, format);
      const { present, zero, excluded, missing } = coverage;
      expect(missing).toBe(0);
      // makedumpfile leaves out firmware, which is no RAM of the kernel's.
      expect(present + zero + excluded).toBeLessThanOrEqual(all.present + all.zero + all.excluded);
      if (options.includes("-d 31")) expect(excluded).toBeGreaterThan(zero);
      expectCutFound(path);
      rmSync(path);
    });
  }

  testWith(["makedumpfile"], "with --split, of which one part is missing or cut", () => {
    const parts = ["first", "second", "third"].map(at);
    runWell("makedumpfile", ["-l", "-d", "31", "--splitblock-size", "16", "--split", source(), ...parts]);
    const [one, two, three] = parts as [string, string, string];
    for (const part of parts) expectWhole(part, "kdump", ["VRF033"]);
    expect(verify(two, "--part", one, "--part", three)).toMatchObject({
      whole: true,
      errors: [],
      warnings: [],
    });
    expect(verify(one, "--part", three)).toMatchObject({ status: 1, errors: ["VRF032"] });
    filtered("-l -d 31", at("one"));
    expect(verify(one, "--part", two, "--part", three).coverage).toEqual(verify(at("one")).coverage);
    cut(two, statSync(two).size - 1000);
    expect(verify(one, "--part", two, "--part", three)).toMatchObject({ status: 1, errors: ["VRF023"] });
  });

  test("where there is no room for all of it", (context) => {
    const small = at("small");
    mkdirSync(small);
    const absent = missing(["makedumpfile", "mount", "umount"]);
    if (absent.length > 0) context.skip(`not installed: ${absent.join(", ")}`);
    // Only root may.
    const { status } = run("mount", ["-t", "tmpfs", "-o", "size=4m", "none", small]);
    if (status !== 0) context.skip("no file system of 4 MiB could be mounted");
    try {
      run("makedumpfile", ["-l", "-d", "1", source(), join(small, "dump")]);
      const { status: found, errors, coverage } = verify(join(small, "dump"));
      expect([found, errors]).toEqual([1, ["VRF018", "VRF022"]]);
      expect(Math.min(coverage.present, coverage.missing)).toBeGreaterThan(0);
    } finally {
      runWell("umount", [small]);
    }
  });
});

describe("what QEMU writes of a machine that has not begun", () => {
  testWith(["qemu-system-x86_64"], "as ELF and kdump-zlib", () => {
    const dumps = [
      ["plain", "", "elf"],
      ["zlib", "-z", "kdump"],
      ["lzo", "-l", "kdump"],
      ["snappy", "-s", "kdump"],
    ] as const;
    const commands = dumps.map(([name, option]) => `dump-guest-memory ${option} ${at(name)}\n`);
    runWell(
      "qemu-system-x86_64",
      [
        "-machine",
        "q35",
        "-m",
        "24M",
        "-smp",
        "2",
        "-nodefaults",
        "-display",
        "none",
        "-S",
        "-monitor",
        "stdio",
      ],
      { input: `${commands.join("")}quit\n` },
    );
    // Debian's QEMU has no LZO and no snappy.
    const written = dumps.filter(([name]) => existsSync(at(name)));
    expect(written.length).toBeGreaterThanOrEqual(2);
    for (const [name, , format] of written) {
      const { coverage } = expectWhole(at(name), format);
      expect(coverage.present + coverage.zero).toBe(24 * 2 ** 20 + 256 * 1024);
      expectCutFound(at(name));
    }
  });

  for (const guest of inject("lab").guests) {
    test(`of ${guest.name}, while it ran`, () => {
      expectWhole(guest.dump, "elf");
    });
  }
});

describe("cores of processes", () => {
  for (const { title, core } of subjects()) {
    test(title, () => {
      expectWhole(core, "elf");
    });
  }

  const small = subjects(({ recipe }) => typeof recipe.system !== "string")[0];
  testWith(["cp", "gzip", "sh"], "cut, compressed, and cut when they were compressed", () => {
    if (small === undefined) return;
    const [path, packed] = [at("core"), at("core.gz")];
    runWell("cp", ["--sparse=always", small.core, path]);
    runWell("sh", ["-c", `gzip -1 -c ${path} > ${packed}`]);
    expectWhole(packed, "elf");
    cut(packed, statSync(packed).size - 100_000);
    const { status, errors } = verify(packed);
    expect([status, errors[0], errors.at(-1)]).toEqual([1, "VRF001", "VRF014"]);
    expectCutFound(path);
  });
});
