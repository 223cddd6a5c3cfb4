import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { wantsColor } from "../src/cli/color.ts";
import { reportOf, tell } from "../src/cli/errors.ts";
import { createProgram, main } from "../src/cli/main.ts";
import { leavesOf } from "../src/cli/subcommands.ts";
import {
  CorruptError,
  GapsError,
  type GuestcoreError,
  IoError,
  naming,
  UnavailableError,
  UnsupportedError,
} from "../src/core/errors.ts";
import { VERSION } from "../src/core/version.ts";
import { schemas } from "./support/schemas.ts";
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

  test.each<[string, GuestcoreError, string]>([
    ["core", new CorruptError("the core is damaged"), "core: the core is damaged"],
    ["a", new UnsupportedError("not a dump"), "a: not a dump"],
    [
      "x",
      new CorruptError("an offset is odd", { where: { offset: 8 } }),
      "x: an offset is odd (at offset 8)",
    ],
    [
      "o",
      new IoError("cannot open o: no such file", { where: { file: "o" } }),
      "cannot open o: no such file",
    ],
    [
      "i",
      new IoError("cannot read i at offset 8: EIO", { where: { offset: 8 } }),
      "cannot read i at offset 8: EIO",
    ],
  ])("a file called %s is named once, whatever words the message has", async (name, error, expected) => {
    const terminal = new FakeTerminal();
    const thrown = await naming(name, () => {
      throw error;
    }).catch((caught: unknown) => caught);
    tell(thrown, { json: true, color: "never", debug: false }, terminal);
    expect(terminal.err).toBe(`guestcore: ${expected}\n`);
    const document = JSON.parse(terminal.out);
    expect(document.error.where.file).toBe(name);
    const validate = schemas().getSchema("error.json");
    expect(validate?.(document), JSON.stringify(validate?.errors)).toBe(true);
  });

  test("info of several files as JSON: every error says which file it is about", async () => {
    const missing = [join(directory, "missing1"), join(directory, "missing2")];
    const { status, out } = await run(["info", ...missing, "--json"]);
    expect(status).toBe(7);
    const documents = out.split(/^(?=\{)/m).map((text) => JSON.parse(text));
    expect(documents.map(({ error }) => error.where.file)).toEqual(missing);
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
    const validate = schemas().getSchema("explain.json");
    for (const document of [json, JSON.parse((await run(["explain", "--json"])).out)]) {
      expect(validate?.(document), JSON.stringify(validate?.errors)).toBe(true);
    }
  });

  test("--json-file is checked first, replaces only with --force, and is the name of a file", async () => {
    const json = join(directory, "explain.json");
    const explain = (...flags: string[]) => run(["explain", "RAM001", "--json-file", ...flags]);
    expect((await explain(json)).status).toBe(0);
    const again = await explain(json);
    expect([again.status, again.out]).toEqual([2, ""]);
    expect(again.err).toContain("--force");
    expect((await explain(json, "--force")).status).toBe(0);
    const nowhere = await explain(join(directory, "none/explain.json"));
    expect([nowhere.status, nowhere.out]).toEqual([7, ""]);
    expect(nowhere.err).toContain("hint: create it first, or give another name with --json-file");
    const dash = await explain("-");
    expect([dash.status, dash.out]).toEqual([2, ""]);
    expect(dash.err).toContain("--json prints");
    expect(existsSync("-")).toBe(false);
  });

  test("every command that hints at --force has it", () => {
    const commands = leavesOf(createProgram(new FakeTerminal()));
    const longs = commands.map((command) => command.options.map(({ long }) => long));
    expect(longs.filter((names) => names.includes("--json-file")).length).toBeGreaterThan(2);
    for (const names of longs.filter((each) => each.includes("--json-file"))) {
      expect(names.filter((name) => name === "--force")).toHaveLength(1);
    }
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

const samples = join(import.meta.dirname, "../samples");
const core = join(samples, "nano-pc.core.zst");

describe("info of compressed files", () => {
  test("a vmcore: the commands begin with unpacking it", async () => {
    const { out } = await run(["info", join(samples, "nano-pc.dump.elf.zst"), "--tmpdir", directory]);
    const next = out.slice(out.indexOf("next: "));
    const name = join(samples, "nano-pc.dump.elf");
    expect(next.split("\n")[0]).toBe(`next: zstd -d --long=31 ${name}.zst -o ${name}`);
    for (const line of next.split("\n").slice(1)) expect(line).not.toContain(".zst");
    expect(next).toContain(`gdb -c ${name}\n`);
  });

  test("the core of a qemu process is read as it is", async () => {
    const { out } = await run(["info", core, "--tmpdir", directory]);
    expect(out).toContain(`next: guestcore extract ${core} -o ${core.slice(0, -4)}.vmcore`);
  });

  test("packed twice: the advice is not the command just run", async () => {
    const path = file("twice.zst.gz", gzipSync(readFileSync(core).subarray(0, 5000)));
    const { out } = await run(["info", path, "--tmpdir", directory]);
    const inner = path.slice(0, -3);
    expect(out).toContain(`next: gunzip -c ${path} > ${inner} && guestcore info ${inner} `);
  });

  test("other formats: the command is for what comes out, a sentence stays alone", async () => {
    const raw = file("image.gz", gzipSync(Buffer.alloc(8192, 1)));
    const { out } = await run(["info", raw, "--tmpdir", directory]);
    const name = raw.slice(0, -3);
    expect(out).toContain(
      `next: gunzip -c ${raw} > ${name} && guestcore convert ${name} vmcore --map 0-0x2000 `,
    );
    const short = file("a.gz", gzipSync(Buffer.alloc(10, 1)));
    expect((await run(["info", short, "--tmpdir", directory])).out).toContain("next: take the dump again:");
  });
});

describe("info --segments", () => {
  test("a field of 2^53 or more stays in its column, and is null in JSON", async () => {
    const elf = Buffer.alloc(64 + 56);
    elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
    elf.writeUInt16LE(4, 16);
    elf.writeUInt16LE(62, 18);
    elf.writeBigUInt64LE(64n, 32);
    elf.writeUInt16LE(56, 54);
    elf.writeUInt16LE(1, 56);
    elf.writeUInt32LE(1, 64);
    elf.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, 64 + 24);
    elf.writeBigUInt64LE(0x1000n, 64 + 40);
    const path = file("paddr.core", elf);
    const { out } = await run(["info", path, "--segments"]);
    expect(out).not.toContain("Infinity");
    expect(out).toMatch(/ {2}0x0{16} {2}>= 2\^53 {9}0x0{12} {2}0x000000001000/);
    const document = JSON.parse((await run(["info", path, "--json"])).out);
    expect(document.result.elf.segments[0].paddr).toBeNull();
    const validate = schemas().getSchema("info.json");
    expect(validate?.(document), JSON.stringify(validate?.errors)).toBe(true);
  });
});

describe("extract", () => {
  const extract = (...argv: string[]) => run(["extract", core, "--tmpdir", directory, ...argv]);
  /** Options that make any unpacking fail: what is told instead was found before. */
  const unpacksNothing = ["--tmpdir", join(directory, "nowhere")];

  test("a vmcore is not written to a terminal", async () => {
    const onTerminal = (...flags: string[]) =>
      run(
        ["extract", core, "-o", "-", "--tmpdir", directory, ...flags],
        new FakeTerminal({ isTTY: true, env: { NO_COLOR: "1" } }),
      );
    const { status, out, err } = await onTerminal();
    expect([status, out]).toEqual([2, ""]);
    expect(err).toMatch(/nothing for a terminal\n {2}hint: /);
    expect((await onTerminal("--dry-run")).status).toBe(0);
  });

  test("what is wrong with the output is told before the input is unpacked", async () => {
    const ram = file("mem0.ram", "precious");
    const existing = file("existing", "old");
    for (const [argv, status, message] of [
      [["-o", join(directory, "none/out")], 7, "there is no directory"],
      [["-o", existing], 2, "exists"],
      [["-o", ram, "--force", "--ram", `mem0=${ram}`], 2, "is an input"],
      [["-o", ram, "--force", "--vmcsinfo", ram], 2, "is an input"],
    ] as const) {
      const result = await run(["extract", core, ...argv, ...unpacksNothing]);
      expect([result.status, result.out]).toEqual([status, ""]);
      expect(result.err).toContain(message);
    }
    expect([readFileSync(ram, "utf8"), readFileSync(existing, "utf8")]).toEqual(["precious", "old"]);
    expect(readdirSync(directory).filter((name) => name.endsWith(".incomplete"))).toEqual([]);
  });

  test("a dry run writes nothing, so an output may exist", async () => {
    const existing = file("there.vmcore", "old");
    const { status, out } = await extract("--dry-run", "-o", existing);
    expect(status).toBe(0);
    expect(out).toContain("dry run, nothing written");
    expect(readFileSync(existing, "utf8")).toBe("old");
  });

  test("--ram of a compressed file is refused, with the way out", async () => {
    const ram = file("pc.ram.gz", gzipSync("memory"));
    const { status, err } = await extract("--dry-run", "--ram", `pc.ram=${ram}`);
    expect(status).toBe(3);
    expect(err).toContain(`guestcore: ${ram}: gzip compressed: --ram takes the memory itself\n`);
    expect(err).toContain(`gunzip -c ${ram} > ${ram.slice(0, -3)}, then --ram pc.ram=${ram.slice(0, -3)}`);
  });

  test("--strict: bytes that are known to be wrong are no success", async () => {
    const bytes = readFileSync(core);
    bytes[bytes.length - 1]! ^= 1;
    const path = file("flipped.zst", bytes);
    const flipped = (...flags: string[]) =>
      run(["extract", path, "--tmpdir", directory, "--dry-run", ...flags]);
    const lax = await flipped();
    expect(lax.status).toBe(0);
    expect(lax.err).toContain("wrong bytes are among those unpacked");
    expect(lax.err).not.toContain("treated as missing");
    const strict = await flipped("--strict");
    expect(strict.status).toBe(6);
    expect(strict.err).toContain("the output may hold wrong bytes");
    expect((await extract("--dry-run", "--strict")).status).toBe(0);
    const { result } = JSON.parse((await run(["info", path, "--json", "-q", "--tmpdir", directory])).out);
    expect(result.unpacked).toMatchObject({ compression: "zstd", whole: false });
  });
});
