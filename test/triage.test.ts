import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { Command } from "commander";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { completionScript } from "../src/cli/completion.ts";
import { main } from "../src/cli/main.ts";
import { manPage } from "../src/cli/man.ts";
import { leavesOf, pathOf } from "../src/cli/subcommands.ts";
import { CorruptError } from "../src/core/errors.ts";
import type { JobContext } from "../src/core/job.ts";
import type { Warning } from "../src/core/warnings.ts";
import { type TriageOptions, triage, type VmResult } from "../src/jobs/triage.ts";
import type { Reader } from "../src/jobs/triage-artefact.ts";
import { READERS } from "../src/jobs/triage-readers.ts";
import { envelope } from "../src/report/json.ts";
import { triageJson } from "../src/report/triage-json.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { DOUBLES } from "./support/triage-doubles.ts";

const samples = join(import.meta.dirname, "../samples/triage/vms");
let top: string;
beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "guestcore-triage-"));
});
afterEach(() => rmSync(top, { recursive: true }));

async function run(
  paths: readonly string[],
  options: TriageOptions = {},
): Promise<{ results: VmResult[]; warnings: Warning[] }> {
  const warnings: Warning[] = [];
  const context: JobContext = {
    progress: { start: () => {}, update: () => {}, finish: () => {} },
    warn: (warning) => warnings.push(warning),
    checkpoint: async () => {},
    temporaryDirectories: [top],
  };
  const results: VmResult[] = [];
  for await (const result of triage(paths, { readers: DOUBLES, ...options }, context)) results.push(result);
  return { results, warnings };
}

const validate = schemas().getSchema("triage.json")!;
function expectValid(json: unknown): void {
  const isValid = validate(json);
  expect(validate.errors ?? []).toEqual([]);
  expect(isValid).toBe(true);
}

/** Runs something as somebody who may not read everything. */
async function asNobody<T>(action: () => Promise<T>): Promise<T> {
  chmodSync(top, 0o755);
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(65_534);
  try {
    return await action();
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
}

describe("the samples", () => {
  test("are a VM that stands in its panic, and one that shut down", async () => {
    const { results, warnings } = await run([samples]);
    expect(warnings).toEqual([]);
    expect(results.map(({ vm, verdict }) => [vm, verdict.verdict, verdict.confidence, verdict.side])).toEqual(
      [
        ["paused-in-panic", "guest-panic", "certain", "guest"],
        ["shut-down", "clean", "certain", "unknown"],
      ],
    );
    const [panicked, clean] = results;
    expect(panicked!.verdict.agreements.map(({ rule }) => rule)).toEqual(["console-and-event"]);
    // Its QEMU is gone: there is nothing left to dump.
    expect(panicked!.verdict.next).toEqual([]);
    expect(panicked!.machine).toMatchObject({ pvpanic: true, panicAction: "pause" });
    expect(clean!.verdict.agreements.map(({ rule }) => rule)).toEqual(["orderly-end"]);
    expect(clean!.machine).toMatchObject({ pvpanic: false, panicTimeout: 30 });
  });

  test("as JSON are by the schema", async () => {
    const { results } = await run([samples]);
    const inputs = results.flatMap(({ input }) => input);
    expectValid(JSON.parse(envelope("triage", inputs, [], triageJson(results, { failOn: "panic" }))));
  });

  test("the output is the same whatever --jobs is", async () => {
    for (let vm = 0; vm < 9; vm++) {
      mkdirSync(join(top, `vm${vm}`));
      const name = vm % 2 === 0 ? "shut-down" : "paused-in-panic";
      for (const end of ["console.log", "qmp.jsonl", "cmdline.txt"]) {
        copyFileSync(join(samples, `${name}.${end}`), join(top, `vm${vm}`, end));
      }
    }
    const slow: Reader = async (input, context) => {
      await new Promise((resolve) => setTimeout(resolve, input.path.charCodeAt(top.length + 3) % 7));
      return DOUBLES.console!(input, context);
    };
    const readers = { ...DOUBLES, console: slow };
    const one = await run([top], { jobs: 1, readers });
    const many = await run([top], { jobs: 5, readers });
    expect(one.results.map(({ vm }) => vm)).toEqual(Array.from({ length: 9 }, (_, vm) => `vm${vm}`));
    expect(triageJson(many.results, { failOn: "panic" })).toEqual(
      triageJson(one.results, { failOn: "panic" }),
    );
  });
});

describe("sources that cannot be read", () => {
  const broken: Reader = async () => {
    throw new CorruptError("nothing in it makes sense");
  };
  test("are told of, and the others decide", async () => {
    const { results, warnings } = await run([samples], { readers: { ...DOUBLES, qmp: broken } });
    expect(results.map(({ verdict }) => verdict.verdict)).toEqual(["guest-panic", "clean"]);
    expect(results[0]!.sources[1]).toMatchObject({ kind: "qmp", problem: "nothing in it makes sense" });
    expect(warnings.map(({ code }) => code)).toEqual(["TRI003", "TRI003"]);
    expectValid(JSON.parse(envelope("triage", [], warnings, triageJson(results, { failOn: "oops" }))));
  });
  test("when it is all of them, are an error", async () => {
    await expect(run([samples], { readers: { console: broken, qmp: broken } })).rejects.toThrow(
      "nothing in it makes sense",
    );
  });
  test("when it is all of one VM, do not keep the others from being judged", async () => {
    for (const vm of ["a", "b", "c"]) {
      mkdirSync(join(top, vm));
      copyFileSync(join(samples, "paused-in-panic.console.log"), join(top, vm, "console.log"));
    }
    const console: Reader = (input, context) =>
      input.path.includes("/b/") ? broken(input, context) : DOUBLES.console!(input, context);
    for (const jobs of [1, 3]) {
      const { results, warnings } = await run([top], { readers: { console }, jobs });
      expect(results.map(({ vm, verdict }) => [vm, verdict.verdict])).toEqual([
        ["a", "guest-panic"],
        ["b", "unknown"],
        ["c", "guest-panic"],
      ]);
      expect(results[1]!.sources[0]!.problem).toBe("nothing in it makes sense");
      expect(warnings.map(({ code }) => code)).toEqual(["TRI003"]);
    }
    await expect(run([join(top, "b")], { readers: { console } })).rejects.toThrow("makes sense");
  });
  // Opens as a file and cannot be read, whoever asks.
  test.runIf(existsSync("/proc/self/mem"))("an unreadable file is one of its VM's", async () => {
    for (const vm of ["a", "b"]) mkdirSync(join(top, vm));
    copyFileSync(join(samples, "shut-down.console.log"), join(top, "a", "console.log"));
    symlinkSync("/proc/self/mem", join(top, "b", "vmcore"));
    const { results, warnings } = await run([top]);
    expect(results.map(({ vm, verdict }) => [vm, verdict.verdict])).toEqual([
      ["a", "clean"],
      ["b", "unknown"],
    ]);
    expect(results[1]!.sources[0]!.problem).toMatch(/^cannot read .*vmcore/);
    expect(warnings.map(({ code }) => code)).toEqual(["TRI003"]);
    await expect(run([join(top, "b")])).rejects.toThrow(/cannot read .*vmcore/);
  });
  test("a store is the records found, not what lies around them", async () => {
    mkdirSync(join(top, "other"));
    writeFileSync(join(top, "dmesg-efi-170000000001001"), "Panic#1 Part1\n<0>[    1.0] Kernel panic\n");
    writeFileSync(join(top, "other", "dmesg-efi-170000000002001"), "Panic#2 Part1\n<0>[    1.0] panic\n");
    writeFileSync(join(top, "dmesg-efi-170000000003001"), "Panic#3 Part1\n", { mode: 0 });
    const { results, warnings } = await asNobody(() => run([top], { readers: READERS }));
    expect(
      results.map(({ vm, sources }) => [
        vm.split("/").at(-1),
        sources.map(({ findings }) => findings.length),
      ]),
    ).toEqual([
      [top.split("/").at(-1), [1]],
      ["other", [1]],
    ]);
    // The file that could not be read is told of, and the record beside it is read.
    expect(warnings.map(({ code }) => code)).toEqual(["TRI003"]);
  });
  test("a console that QEMU writes to as well is read as both", async () => {
    const panic = "[    5.000000] Kernel panic - not syncing: x\n[    5.1] ---[ end Kernel panic\n";
    writeFileSync(join(top, "console.log"), `qemu-system-x86_64: warning: no CPUID\n${panic}`);
    const { results } = await run([top], { readers: READERS });
    expect(results.map(({ verdict }) => verdict.verdict)).toEqual(["guest-panic"]);
    expect(results[0]!.sources.map(({ kind }) => kind)).toEqual(["console", "qemu-log"]);
    expect(results[0]!.input.length).toBe(1);
  });
  test("one file of two VMs counts for both, and once for each", async () => {
    for (const vm of ["a/logs", "b"]) mkdirSync(join(top, vm), { recursive: true });
    copyFileSync(join(samples, "shut-down.console.log"), join(top, "a", "console.log"));
    for (const name of ["a/logs/serial.log", "b/console.log"]) {
      linkSync(join(top, "a/console.log"), join(top, name));
    }
    const { results } = await run([top]);
    expect(results.map(({ vm, sources }) => [vm, sources.length])).toEqual([
      ["a", 1],
      ["b", 1],
    ]);
  });
  test("without a reader are listed as such", async () => {
    const { results } = await run([samples], { readers: {} });
    expect(results.map(({ verdict }) => verdict.rule)).toEqual(["undecided", "undecided"]);
    expect(results[0]!.sources[0]!.problem).toBe("recognised, but nothing here reads it");
  });
  test("files that nothing knows are listed, not guessed", async () => {
    copyFileSync(join(samples, "shut-down.console.log"), join(top, "console.log"));
    writeFileSync(join(top, "notes.txt"), "Kernel, panic!\n");
    const { results, warnings } = await run([top]);
    expect(results[0]!.sources.map(({ kind }) => kind)).toEqual(["console", "unknown"]);
    expect(warnings.map(({ code, message }) => [code, message.includes("notes.txt")])).toEqual([
      ["TRI004", true],
    ]);
  });
  test("a directory without any artefact is an error", async () => {
    writeFileSync(join(top, "notes.txt"), "Kernel, panic!\n");
    await expect(run([top])).rejects.toThrow("no artefact of a VM: none of 1 file is one");
    await expect(run(["-"])).rejects.toThrow("triage takes files and directories");
    await expect(run([top], { vm: "" })).rejects.toThrow("--vm takes the name of a VM");
  });
  test("an empty file is said to be empty", async () => {
    writeFileSync(join(top, "console.log"), "");
    await expect(run([join(top, "console.log")])).rejects.toThrow("the file is empty");
    await expect(run([top])).rejects.toThrow("the file is empty");
  });
});

describe("consoles of one VM", () => {
  const booted = (version: string, end = "") => `[    0.000000] Linux version ${version} (a@b) #1\n${end}`;
  const PANIC = "[    9.000000] Kernel panic - not syncing: VFS: Unable to mount root fs\n";
  const OFF = "[    9.000000] reboot: Power down\n";
  test.each([
    ["kernels that differ", booted("6.1.0"), booted("5.4.0"), ["TRI005"]],
    ["ends that differ", booted("6.1.0", PANIC), booted("6.1.0", OFF), ["TRI005"]],
    ["the same", booted("6.1.0", OFF), booted("6.1.0", OFF), []],
    ["one without a kernel", booted("6.1.0"), "SeaBIOS (version 1.16)\n", []],
  ])("%s", async (_, one, other, codes) => {
    writeFileSync(join(top, "console.log"), one);
    writeFileSync(join(top, "serial.log"), other);
    const { results, warnings } = await run([top], { readers: READERS });
    expect(results.length).toBe(1);
    expect(warnings.map(({ code }) => code)).toEqual(codes);
  });
});

describe("machine checks on a console", () => {
  const sample = join(samples, "../x86-mce-fatal.console.log");
  test("are said in words, each once", async () => {
    const { results } = await run([sample], { readers: READERS });
    const { verdict, title, findings, principal } = results[0]!.verdict;
    expect(verdict).toBe("hardware-fault");
    expect(title).toMatch(/bank \d/);
    expect(findings.filter((one) => one.class === "mce")).toEqual([principal]);
    expect(principal!.details).toMatchObject({ machineCheck: { status: expect.any(BigInt) } });
  });
  test("nothing else is touched", async () => {
    const { results } = await run([join(samples, "../console-null-deref-panic.log")], { readers: READERS });
    for (const { details } of results[0]!.verdict.findings)
      expect(details).not.toHaveProperty("machineCheck");
  });
});

describe("a pstore", () => {
  const dump = (reason: string, ...lines: string[]) =>
    [`${reason}#1 Part1`, ...lines.map((line, n) => `<0>[    1.00000${n}] ${line}`), ""].join("\n");
  const read = async (text: string) => {
    mkdirSync(join(top, "web/pstore"), { recursive: true });
    writeFileSync(join(top, "web/pstore/dmesg-efi-179523104901001"), text);
    const { results } = await run([top], { readers: READERS });
    return results[0]!.verdict;
  };
  test("has each panic once, and in its file", async () => {
    const file = join(top, "web/pstore/dmesg-efi-179523104901001");
    const words = "Kernel panic - not syncing: sysrq triggered crash";
    const { findings, principal } = await read(dump("Panic", "sysrq: Trigger a crash", words));
    expect(findings).toEqual([principal]);
    expect(principal).toMatchObject({
      ...{ rule: "console/linux/panic", trust: "certain", title: words, signature: expect.any(String) },
      ...{ at: { wall: expect.any(Number) }, details: { dumps: ["Panic#1"] } },
    });
    expect(principal!.evidence[0]).toMatchObject({ source: file, line: 3, text: words });
    for (const { source } of principal!.evidence) expect(source).toBe(file);
  });
  test("without words of the console's rules still has its record", async () => {
    const { findings } = await read(dump("Panic", "nothing that is known"));
    expect(findings.map(({ rule }) => rule)).toEqual(["pstore/record"]);
  });
});

describe("guestcore triage", () => {
  async function command(...argv: string[]): Promise<{ status: number; out: string; err: string }> {
    const terminal = new FakeTerminal();
    const status = await main(["triage", ...argv], terminal);
    return { status, out: terminal.out, err: terminal.err };
  }

  test.each<[string, string[], number, RegExp]>([
    ["without a path", [], 2, /missing required argument 'path'/],
    ["two formats on standard output", [samples, "--json", "--tap"], 2, /--json and --tap cannot both/],
    [
      "two files on standard output",
      [samples, "--html", "-", "--junit", "-"],
      2,
      /--junit and --html cannot both/,
    ],
    ["--json-file -", [samples, "--json-file", "-"], 2, /takes the name of a file/],
    ["--jobs 0", [samples, "--jobs", "0"], 2, /from 1 to 64/],
    ["--fail-on notice", [samples, "--fail-on", "notice"], 2, /Allowed choices/],
    ["--follow", [samples, "--follow"], 2, /unknown option '--follow'\n.*triage console FILE --follow/],
    ["standard input", ["-"], 2, /triage takes files and directories/],
    ["what is not there", ["/nonexistent/x"], 7, /no such file/],
  ])("%s: an error", async (_, argv, status, message) => {
    const told = await command(...argv);
    expect([told.status, told.out]).toEqual([status, argv.includes("--json") ? told.out : ""]);
    expect(told.err).toMatch(message);
  });

  test("nothing that is an artefact: exit status 3", async () => {
    writeFileSync(join(top, "x.bin"), Buffer.from([1, 2, 3]));
    expect(await command(top)).toMatchObject({ status: 3, out: "" });
  });

  test("every form, each by its own rules", async () => {
    const files = ["json-file", "junit", "markdown", "html"].map((form) => [`--${form}`, join(top, form)]);
    const { out, err } = await command(samples, ...files.flat());
    expect(err).toBe("");
    expect(out).toMatch(/^paused-in-panic: /);
    expect(out).toMatch(/\n2 VMs: /);
    expectValid(JSON.parse(readFileSync(join(top, "json-file"), "utf8")));
    expect(readFileSync(join(top, "junit"), "utf8")).toMatch(/^<\?xml /);
    expect(readFileSync(join(top, "markdown"), "utf8")).toMatch(/^# guestcore triage/);
    expect(readFileSync(join(top, "html"), "utf8")).toMatch(/^<!DOCTYPE html>/);
    expect(statSync(join(top, "html")).mode & 0o777).toBe(0o600);
    expectValid(JSON.parse((await command(samples, "--json")).out));
    const lines = (await command(samples, "--jsonl")).out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.filter(({ type }) => type === "verdict").map(({ vm }) => vm)).toEqual([
      "paused-in-panic",
      "shut-down",
    ]);
    expect((await command(samples, "--tap")).out).toMatch(/^TAP version 14\n1\.\.2\n/);
    expect((await command(samples, "--github")).out).toMatch(/^::\w+ .*::.*\n::/);
  });

  test("a FIFO is for a detector (skipped without mkfifo)", async ({ skip }) => {
    if (spawnSync("/usr/bin/env", ["mkfifo", join(top, "f")]).status !== 0) skip();
    const { status, err } = await command(join(top, "f"));
    expect([status, err.includes(`guestcore triage console ${join(top, "f")}`)]).toEqual([3, true]);
  });

  test("reports of its own are no artefacts", async () => {
    copyFileSync(join(samples, "paused-in-panic.console.log"), join(top, "console.log"));
    const reports = ["json-file", "junit", "markdown", "html"];
    await command(top, ...reports.flatMap((form) => [`--${form}`, join(top, `console.${form}`)]));
    for (const form of ["tap", "jsonl", "github"]) {
      writeFileSync(join(top, `console.${form}`), (await command(join(top, "console.log"), `--${form}`)).out);
    }
    const log = join(top, "console.log");
    const detectors = { verdict: [log], failing: [log, "--fail-on", "warning"], detector: ["console", log] };
    for (const [name, argv] of Object.entries(detectors)) {
      writeFileSync(join(top, `${name}.txt`), (await command(...argv)).out);
    }
    const { out } = await command(top, "--json");
    const { result, warnings } = JSON.parse(out);
    expect(result.vms[0].findings.length).toBe(1);
    expect(result.vms.length).toBe(1);
    expect(result.vms[0].sources.map(({ kind }: { kind: string }) => kind)).toEqual(["console"]);
    expect(warnings).toMatchObject([
      { code: "TRI004", message: expect.stringMatching(/, and so are 9 more files$/) },
    ]);
    // What is like one, and is none.
    writeFileSync(join(top, "serial.log"), "# guestcore triage of today\n[    0.000000] Linux version 6\n");
    expect(
      JSON.parse((await command(join(top, "serial.log"), "--json")).out).result.vms[0].sources,
    ).toMatchObject([{ kind: "console" }]);
    writeFileSync(
      join(top, "serial.log"),
      "vm1: guest-panic: x  (certain)\n[    0.000000] Linux version 6\n",
    );
    expect((await command(join(top, "serial.log"))).out).toMatch(/console +\S+serial.log {2}0 findings/);
  });

  test("what is of no VM is told of beside those that are there, and is none", async () => {
    for (const vm of ["vm1", "vm2"]) {
      mkdirSync(join(top, vm));
      copyFileSync(join(samples, "shut-down.console.log"), join(top, vm, "console.log"));
    }
    writeFileSync(join(top, "README.txt"), "What is here.\n");
    writeFileSync(join(top, "verdict.txt"), (await command(join(top, "vm1"))).out);
    const { out } = await command(top, "--json");
    const { result, warnings } = JSON.parse(out);
    expect(result.vms.map(({ vm }: { vm: string }) => vm)).toEqual(["vm1", "vm2"]);
    expect(warnings.map(({ code, where }: Warning) => [code, basename(where?.file ?? "")])).toEqual([
      ["TRI004", "README.txt"],
      ["TRI004", "verdict.txt"],
    ]);
  });

  test("an earlier report among the artefacts is replaced with --force, and no artefact", async () => {
    copyFileSync(join(samples, "paused-in-panic.console.log"), join(top, "console.log"));
    const argv = [top, "--html", join(top, "vm.html"), "--junit", join(top, "vm.xml")];
    expect((await command(...argv)).status).toBe(1);
    expect(await command(...argv)).toMatchObject({ status: 2, out: "" });
    const { status, err, out } = await command(...argv, "--force");
    expect([status, err]).toEqual([1, ""]);
    expect(out).not.toContain("vm.html");
    // One that nothing takes the place of is told of.
    expect((await command(top, "--html", join(top, "vm.html"), "--force")).err).toMatch(
      /^warning TRI004: \S+vm\.xml/,
    );
  });

  test("a file is replaced only with --force, an input never", async () => {
    const file = join(top, "out.xml");
    writeFileSync(file, "kept");
    expect(await command(samples, "--junit", file)).toMatchObject({ status: 2, out: "" });
    expect(readFileSync(file, "utf8")).toBe("kept");
    copyFileSync(join(samples, "shut-down.console.log"), join(top, "console.log"));
    const input = await command(top, "--html", join(top, "console.log"), "--force");
    expect([input.status, input.out]).toEqual([2, ""]);
    const linked = join(top, "elsewhere.html");
    symlinkSync(join(top, "console.log"), linked);
    expect(await command(top, "--html", linked, "--force")).toMatchObject({ status: 2, out: "" });
    expect((await command(top, "--html", join(top, "new.html"))).status).toBe(0);
    expect(input.err).toMatch(/input|read/);
    expect(await command(samples, "--html", join(top, "x"), "--junit", join(top, "x"))).toMatchObject({
      status: 2,
    });
    expect(existsSync(join(top, "x"))).toBe(false);
  });
});

describe("a command with commands below it", () => {
  const ran: string[] = [];
  const group = (): Command => {
    const program = new Command("guestcore").exitOverride().enablePositionalOptions();
    const triage = program
      .command("triage")
      .summary("judge")
      .argument("[path...]", "artefacts")
      .option("--json", "as JSON")
      .option("--vm <name>", "name")
      .enablePositionalOptions()
      .action((paths: string[], flags) => void ran.push(`triage ${paths} ${JSON.stringify(flags)}`));
    triage
      .command("console")
      .summary("read")
      .argument("<file>")
      .option("--json", "as JSON")
      .action((file: string, flags) => void ran.push(`console ${file} ${JSON.stringify(flags)}`));
    return program;
  };

  test.each([
    [["x", "y", "--json"], 'triage x,y {"json":true}'],
    [["--vm", "console", "x"], 'triage x {"vm":"console"}'],
    [["console", "x", "--json"], 'console x {"json":true}'],
    [["./console", "x"], "triage ./console,x {}"],
  ])("%j", async (argv, expected) => {
    ran.length = 0;
    await group().parseAsync(["triage", ...argv], { from: "user" });
    expect(ran).toEqual([expected]);
  });

  test("is among those that do something", () => {
    expect(leavesOf(group()).map(pathOf)).toEqual([["triage"], ["triage", "console"]]);
  });

  test("has its own options in completions and on its page", () => {
    const program = group();
    for (const shell of ["bash", "zsh", "fish"] as const) {
      expect(completionScript(shell, program)).toMatchSnapshot(shell);
    }
    expect(manPage(program, program.commands[0]!)).toMatchSnapshot("man");
  });
});
