import {
  appendFileSync,
  copyFileSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { KernelLog, samplePath } from "./support/triage-console.ts";

const folder = mkdtempSync(join(tmpdir(), "guestcore-triage-console-"));
afterAll(() => rmSync(folder, { recursive: true }));

const ajv = schemas();
const PANIC = samplePath("console-null-deref-panic.log");
const ARM = samplePath("console-arm64-oops.log.gz");
const OLD = samplePath("console-replayed-old-panic.log.gz");

function fileOf(name: string, text: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

class LiveTerminal extends FakeTerminal {
  override readonly now = () => performance.now();
}

async function triage(...argv: string[]) {
  const terminal = new LiveTerminal();
  const status = await main(["triage", "console", ...argv, "--progress", "none"], terminal);
  return { status, out: terminal.out, err: terminal.err };
}

async function json(...argv: string[]) {
  const { status, out } = await triage(...argv, "--json");
  const document = JSON.parse(out);
  expect(ajv.validate("triage-console.json", document), ajv.errorsText()).toBe(true);
  return { status, ...document.result };
}

describe("triage console", () => {
  test("a panic, for people", async () => {
    const { status, out, err } = await triage(PANIC);
    expect([status, err]).toEqual([1, ""]);
    expect(out.replaceAll(PANIC, "serial.log")).toMatchSnapshot();
  });

  test("a panic, for programs", async () => {
    const { status, logs, ...rest } = await json(PANIC);
    expect(status).toBe(1);
    expect(rest).toEqual({ verdict: "panic", failOn: "panic", failed: true });
    const { source, findings, ...log } = logs[0];
    expect(source).toBe(PANIC);
    const told = JSON.stringify({ findings, ...log }).replaceAll(PANIC, "serial.log");
    expect(JSON.parse(told)).toMatchSnapshot();
  });

  test("an oops is a finding, but not a panic", async () => {
    expect((await triage(ARM)).status).toBe(0);
    expect((await triage(ARM, "--fail-on", "oops")).status).toBe(1);
    expect(await json(ARM)).toMatchObject({ status: 0, verdict: "oops", failed: false });
  });

  test("several files, each with its verdict", async () => {
    const { status, out } = await triage(OLD, PANIC);
    expect(status).toBe(1);
    expect(out.split("\n").filter((line) => line.includes(": verdict "))).toEqual([
      expect.stringContaining("verdict clean"),
      expect.stringContaining("verdict panic"),
    ]);
    expect(out).toContain("1 incident of an old log that was printed into it left out");
  });

  test("more boots than are kept are counted", async () => {
    const text = new KernelLog();
    for (let i = 0; i < 200; i++) text.boot().say("reboot: Restarting system");
    const clean = fileOf("many.log", `${text}`);
    expect((await triage(clean)).out).toContain("200 boots;");
    const died = fileOf("many-died.log", `${text.boot().panic()}`);
    expect((await triage(died)).out).toContain("boot 201 of 201");
  });

  test("one boot of several", async () => {
    const text = new KernelLog()
      .boot()
      .oops("foo")
      .panic()
      .boot()
      .say("usb 1-1: x")
      .say("reboot: Power down");
    const path = fileOf("boots.log", `${text}`);
    expect((await triage(path)).status).toBe(1);
    expect((await triage(path, "--boot", "last")).status).toBe(0);
    expect(await json(path, "--boot", "2")).toMatchObject({ status: 0, verdict: "clean" });
    expect(await json(path, "--boot", "1")).toMatchObject({ status: 1, verdict: "panic" });
  });

  test("what cannot be judged has a status of its own", async () => {
    expect((await triage(join(folder, "none"))).status).toBe(7);
    expect((await triage(fileOf("empty.log", ""))).status).toBe(5);
    expect((await triage(fileOf("core", Buffer.from("\x7fELF\x02\x01\x01", "latin1")))).status).toBe(3);
    expect((await triage(PANIC, "--timeout", "3")).status).toBe(2);
    expect((await triage(PANIC, PANIC, "--follow")).status).toBe(2);
    expect((await triage(PANIC, "--boot", "first")).status).toBe(2);
    expect((await triage(PANIC, "--fail-on", "notice")).status).toBe(2);
  });

  test("nothing of a guest reaches the terminal unescaped", async () => {
    const evil = "Kernel panic - not syncing: \x1b]0;pwned\x07\x9b31m \u202e <script>alert(1)</script>";
    const { out } = await triage(fileOf("evil.log", `${evil}\n`));
    // biome-ignore lint/suspicious/noControlCharactersInRegex: none may be there
    expect(out).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
  });

  test("lines that are too long are told of", async () => {
    const path = fileOf("long.log", `${"x".repeat(10_000)}\n[    1.000000] Kernel panic - not syncing: x\n`);
    const { status, err } = await triage(path);
    expect(status).toBe(1);
    expect(err).toContain("TRI101");
  });
});

describe("a packed log", () => {
  const panic = "[    1.000000] Kernel panic - not syncing: x\n";
  test("is unpacked as it is read, without a temporary file", async () => {
    const lines = "[    0.500000] a line of a driver\n".repeat(200_000);
    const path = fileOf("long.log.gz", gzipSync(`${lines}${panic}`));
    const nowhere = join(folder, "nowhere");
    expect((await triage(path, "--tmpdir", nowhere)).status).toBe(1);
    const input = JSON.parse((await triage(path, "--tmpdir", nowhere, "--json")).out).inputs[0];
    expect(input.path).toBe(path);
    expect(readdirSync(folder)).not.toContain("nowhere");
  });
  test("that is cut tells what came out, and that it is cut", async () => {
    const whole = gzipSync(`${panic}${"x\n".repeat(10_000)}`, { level: 0 });
    const { status, err } = await triage(fileOf("cut.log.gz", whole.subarray(0, 9000)));
    expect([status, /CORE004.*truncated/.test(err)]).toEqual([1, true]);
    const none = await triage(fileOf("none.log.gz", whole.subarray(0, 12)));
    expect(none.status).toBe(4);
  });
});

describe("--follow", () => {
  test("ends at the first finding in a file that grows", async () => {
    const path = join(folder, "growing.log");
    copyFileSync(fileOf("clean.log", `${new KernelLog().boot()}`), path);
    const timer = setTimeout(() => appendFileSync(path, `${new KernelLog(9).oops("foo").panic()}`), 300);
    const began = performance.now();
    const result = await json(path, "--follow", "--timeout", "30");
    clearTimeout(timer);
    expect(performance.now() - began).toBeLessThan(15_000);
    expect(result).toMatchObject({ status: 1, verdict: "panic", logs: [{ followed: "finding" }] });
  });

  test.each<[string, (path: string) => void]>([
    ["was cut", (path) => truncateSync(path)],
    ["was rotated", (path) => renameSync(path, `${path}.1`)],
  ])("begins again when the file %s", async (_, rotate) => {
    const path = join(folder, "rotated.log");
    writeFileSync(path, `${new KernelLog().boot()}`);
    const timer = setTimeout(() => {
      rotate(path);
      // Shorter than what was there.
      writeFileSync(path, "[    5.000000] Kernel panic - not syncing: x\n");
    }, 400);
    const result = await json(path, "--follow", "--timeout", "10");
    clearTimeout(timer);
    expect(result).toMatchObject({ status: 1, logs: [{ followed: "finding" }] });
    expect(result.logs[0].findings.length).toBe(1);
  });

  test("ends at its time when nothing is found", async () => {
    const path = fileOf("quiet.log", `${new KernelLog().boot()}`);
    expect(await json(path, "--follow", "--timeout", "0.3")).toMatchObject({
      status: 0,
      verdict: "clean",
      logs: [{ followed: "timeout" }],
    });
  });
});
