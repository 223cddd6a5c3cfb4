import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { wantsColor } from "../src/cli/color.ts";
import { reportOf } from "../src/cli/errors.ts";
import { main } from "../src/cli/main.ts";
import { CorruptError, GapsError, IoError, UnavailableError } from "../src/core/errors.ts";
import { VERSION } from "../src/core/version.ts";
import { FakeTerminal } from "./support/terminal.ts";

const directory = mkdtempSync(join(tmpdir(), "guestcore-cli-"));
afterAll(() => rmSync(directory, { recursive: true }));

async function run(argv: string[], terminal = new FakeTerminal()) {
  const status = await main(argv, terminal);
  return { status, out: terminal.out, err: terminal.err };
}

const file = (name: string, contents: string | Buffer): string => {
  const path = join(directory, name);
  writeFileSync(path, contents);
  return path;
};

describe("usage", () => {
  test("the version is that of the package", async () => {
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "../package.json"), "utf8"));
    expect(VERSION).toBe(version);
    expect(await run(["--version"])).toEqual({ status: 0, out: `${version}\n`, err: "" });
  });

  test("no command: help on stderr, status 2", async () => {
    const { status, out, err } = await run([]);
    expect([status, out]).toEqual([2, ""]);
    expect(err).toContain("Usage: guestcore COMMAND");
  });

  test.each([
    [["extrct"], "unknown command 'extrct'", "did you mean extract?"],
    [["extract", "core", "--formt", "elf"], "unknown option '--formt'", "did you mean --format?"],
    [["extract", "core", "--format", "pe", "-o", "x"], "argument 'pe' is invalid", "see guestcore --help"],
    [["extract"], "missing required argument 'core'", "see guestcore --help"],
    [["extract", "a", "b", "-o", "c"], "too many arguments", "see guestcore --help"],
    [["extract", "core"], "no output given", "name one with -o OUT"],
    [["extract", "core", "-o", "x", "--ram", "mem0"], "--ram takes BLOCK=PATH", "--ram mem0=/dev/shm"],
    [["explain", "RAM999"], "there is no code RAM999", "lists all"],
    [["explain", "constructor"], "there is no code CONSTRUCTOR", "lists all"],
    [["completion", "tcsh"], "value 'tcsh' is invalid for argument 'shell'", "see guestcore --help"],
    [["man", "nothing"], "there is no command nothing", ""],
  ])("%j", async (argv, message, hint) => {
    const { status, out, err } = await run(argv);
    expect([status, out]).toEqual([2, ""]);
    const [first, second = ""] = err.split("\n");
    expect(first).toMatch(/^guestcore: /);
    expect(first).toContain(message);
    expect(second).toContain(hint);
    expect(err.split("\n").length).toBeLessThanOrEqual(3);
  });

  test("--json and a vmcore cannot share standard output", async () => {
    const { status, err } = await run(["extract", "core", "-o", "-", "--json"]);
    expect(status).toBe(2);
    expect(err).toContain("both want standard output");
  });

  test("with --json a usage error is JSON too", async () => {
    const { status, out, err } = await run(["extrct", "--json"]);
    expect(status).toBe(2);
    expect(JSON.parse(out)).toEqual({
      schema: "guestcore/error/1",
      tool: { name: "guestcore", version: VERSION },
      error: { code: "usage", message: "unknown command 'extrct'", hint: "did you mean extract?" },
    });
    expect(err).toMatch(/^guestcore: /);
  });
});

describe("errors", () => {
  test("one line with the file, one with the way out; nothing under OUT", async () => {
    const core = file("not-a-core", "just text\n");
    const output = join(directory, "out");
    const { status, out, err } = await run(["extract", core, "-o", output]);
    expect([status, out]).toEqual([3, ""]);
    expect(err.split("\n")[0]).toContain(core);
    expect([existsSync(output), existsSync(`${output}.incomplete`)]).toEqual([false, false]);
  });

  test("a file that is not there: status 7, also as JSON", async () => {
    const missing = join(directory, "missing");
    const { status, out, err } = await run(["info", missing, "--json"]);
    expect(status).toBe(7);
    expect(JSON.parse(out)).toMatchObject({ error: { code: "io" } });
    expect(err).toBe(`guestcore: cannot open ${missing}: no such file\n`);
  });

  test("text from files and arguments cannot steer the terminal", async () => {
    const { err } = await run(["info", "no\x1b[2Jsuch\nfile"]);
    expect(err).toContain("no\\x1b[2Jsuch\\x0afile");
    expect(err.split("\n")).toHaveLength(2);
  });

  test("a bug: status 70, one line, where to turn to; the stack only with --debug", async () => {
    const broken = (): FakeTerminal => {
      const terminal = new FakeTerminal();
      Object.assign(terminal.stdout, {
        write: () => {
          throw new TypeError("x is undefined");
        },
      });
      return terminal;
    };
    const plain = await run(["explain"], broken());
    expect(plain.status).toBe(70);
    expect(plain.err.split("\n")[0]).toBe("guestcore: internal error: TypeError: x is undefined");
    expect(plain.err).toContain("please report it");
    expect(plain.err).not.toContain("    at ");
    expect((await run(["explain", "--debug"], broken())).err).toContain("    at ");
  });

  test("causes are joined outward, the innermost place and the outermost hint win", () => {
    const inner = new IoError("cannot read page 7", { where: { offset: 0x7000 }, hint: "inner" });
    const middle = new CorruptError("the page table is unreadable", { cause: inner });
    const error = new UnavailableError("no guest found", {
      cause: middle,
      where: { file: "core" },
      hint: "outer",
    });
    expect(reportOf(error)).toEqual({
      code: "unavailable",
      message: "no guest found: the page table is unreadable: cannot read page 7",
      hint: "outer",
      where: { file: "core", offset: 0x7000 },
      exitCode: 5,
    });
    const system = Object.assign(new Error("EIO: i/o error, read"), { code: "EIO" });
    const read = new IoError("cannot read core: input/output error", { cause: system });
    expect(reportOf(read)).toMatchObject({ message: read.message, exitCode: 7 });
  });

  test("things thrown that are no errors, and chains that bite their tail", () => {
    expect(reportOf("text")).toMatchObject({ code: "internal", message: "text", exitCode: 70 });
    expect(reportOf(undefined)).toMatchObject({ code: "internal", exitCode: 70 });
    const loop = new GapsError("gaps");
    loop.cause = loop;
    expect(reportOf(loop)).toMatchObject({ message: "gaps", exitCode: 6 });
  });

  test("the reader of standard output went away: 141 without a word", async () => {
    const terminal = new FakeTerminal();
    Object.assign(terminal.stdout, {
      write: () => {
        throw new IoError("cannot write", { cause: Object.assign(new Error("EPIPE"), { code: "EPIPE" }) });
      },
    });
    expect(await run(["explain"], terminal)).toEqual({ status: 141, out: "", err: "" });
  });
});

describe("colour", () => {
  test.each([
    ["always", false, { NO_COLOR: "1", TERM: "dumb" }, true],
    ["never", true, { FORCE_COLOR: "1" }, false],
    ["auto", true, {}, true],
    ["auto", false, {}, false],
    ["auto", true, { NO_COLOR: "1" }, false],
    ["auto", true, { NO_COLOR: "" }, true],
    ["auto", true, { TERM: "dumb" }, false],
    ["auto", false, { FORCE_COLOR: "1" }, true],
    ["auto", false, { FORCE_COLOR: "0" }, false],
    ["auto", false, { CLICOLOR_FORCE: "1" }, true],
    ["auto", false, { CLICOLOR_FORCE: "1", NO_COLOR: "1" }, false],
  ] as const)("--color=%s, terminal %s, %j: %s", (mode, isTerminal, env, expected) => {
    expect(wantsColor(mode, isTerminal, env)).toBe(expected);
  });

  test.each([["--color=always"], ["--color", "always"]])(
    "%s %s paints, and the words stay",
    async (...flags) => {
      const plain = await run(["info", "missing"]);
      const painted = await run(["info", "missing", ...flags.filter((flag) => flag !== undefined)]);
      expect(plain.err).not.toContain("\x1b");
      expect(painted.err).toContain("\x1b[1;31mguestcore:\x1b[0m");
      // biome-ignore lint/suspicious/noControlCharactersInRegex: colour is made of them
      expect(painted.err.replace(/\x1b\[[\d;]*m/g, "")).toBe(plain.err);
    },
  );
});

describe("explain", () => {
  test("a code in either case; all of them; as JSON", async () => {
    const one = await run(["explain", "ram001"]);
    expect(one.status).toBe(0);
    expect(one.out).toMatch(/^RAM001: .+\n\n(.{1,88}\n)+\n(.{1,88}\n)+$/);
    expect(one.out).toContain("coredump_filter");
    const all = await run(["explain"]);
    expect(all.out.split("\n").filter((line) => /^[A-Z]{3,4}\d{3} {2}\S/.test(line)).length).toBeGreaterThan(
      8,
    );
    const json = JSON.parse((await run(["explain", "RAM001", "--json"])).out);
    expect(json).toMatchObject({ schema: "guestcore/explain/1", result: [{ code: "RAM001" }] });
  });
});

describe("info", () => {
  test("several files: one that cannot be read does not stop the others, the status tells", async () => {
    const text = file("log.txt", "hello\n");
    const { status, out, err } = await run(["info", text, join(directory, "missing"), text]);
    expect(status).toBe(7);
    expect(out.match(/log\.txt: text/g)).toHaveLength(2);
    expect(err).toMatch(/^guestcore: cannot open .*missing: no such file\n$/);
  });

  test("--json-file: private, never over an existing file without --force, one file only", async () => {
    const text = file("log2.txt", "hello\n");
    const json = join(directory, "result.json");
    expect((await run(["info", text, "--json-file", json])).status).toBe(0);
    expect(statSync(json).mode & 0o777).toBe(0o600);
    const document = readFileSync(json, "utf8");
    expect(JSON.parse(document)).toMatchObject({
      schema: "guestcore/info/1",
      inputs: [{ path: text, size: 6 }],
    });
    const again = await run(["info", text, "--json-file", json]);
    expect([again.status, again.out]).toEqual([2, ""]);
    expect(again.err).toContain("--force");
    expect((await run(["info", text, "--json-file", json, "--force"])).status).toBe(0);
    expect(readFileSync(json, "utf8")).toBe(document);
    expect((await run(["info", text, text, "--json-file", json, "--force"])).status).toBe(2);
  });

  test("--json is the same twice", async () => {
    const text = file("log3.txt", "hello\n");
    const first = await run(["info", text, "--json"]);
    expect(first.out).toBe((await run(["info", text, "--json"])).out);
    expect(first.err).toBe("");
  });

  test("a compressed file that is cut: a warning on stderr, in the JSON too, not with --quiet", async () => {
    const core = readFileSync(join(import.meta.dirname, "../samples/nano-pc.core.zst"));
    const path = file("cut.zst", core.subarray(0, 700_000));
    const { status, out, err } = await run(["info", path, "--json", "--tmpdir", directory]);
    expect(status).toBe(0);
    expect(err).toMatch(/^warning CORE004: .*truncated/);
    const { warnings } = JSON.parse(out) as { warnings: { code: string }[] };
    expect(warnings.map(({ code }) => code)).toContain("CORE004");
    expect((await run(["info", path, "-q", "--tmpdir", directory])).err).toBe("");
  });

  test("--tmpdir that does not exist", async () => {
    const missing = join(directory, "nowhere");
    const sample = join(import.meta.dirname, "../samples/nano-pc.core.zst");
    const { status, err } = await run(["info", sample, "--tmpdir", missing]);
    expect(status).toBe(7);
    expect(err).toContain(`cannot create a temporary file in ${missing}`);
  });
});
