import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";

const samples = join(import.meta.dirname, "../samples/triage");
const directory = mkdtempSync(join(tmpdir(), "guestcore-triage-qmp-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** Samples are named as from the project's root: what is printed is the same everywhere. */
const before = process.cwd();
beforeAll(() => process.chdir(samples));
afterAll(() => process.chdir(before));

async function run(...argv: string[]) {
  const terminal = new FakeTerminal();
  const status = await main(["triage", "qmp", ...argv], terminal);
  return { status, out: terminal.out, err: terminal.err };
}
function file(name: string, contents: string | Buffer): string {
  const path = join(directory, name);
  writeFileSync(path, contents);
  return path;
}
const ajv = schemas();
function validated(json: string) {
  const document = JSON.parse(json);
  const valid = ajv.validate("triage-qmp.json", document);
  expect(ajv.errors ?? []).toEqual([]);
  expect(valid).toBe(true);
  return document;
}

describe("real samples", () => {
  test("text and JSON of a panic told twice by a QEMU that died", async () => {
    const argv = [
      "qmp-panicked-twice-abort.jsonl",
      ...["--cmdline", "qmp-panicked-twice-abort.cmdline.txt", "--explain"],
    ];
    const text = await run(...argv);
    expect(text.status).toBe(1);
    expect(text.err).toBe("");
    expect(text.out).toMatchSnapshot();
    const json = await run(...argv, "--json");
    expect(json.status).toBe(1);
    const { result, inputs } = validated(json.out);
    expect(result).toMatchSnapshot();
    expect(inputs.map(({ path }: { path: string }) => path)).toEqual([argv[0], argv[2]]);
  });

  test.each([
    ["qmp-clean.jsonl", 0, "shut-down"],
    ["qmp-crash-loaded.jsonl", 1, "crash-loaded"],
    ["qmp-panicked-s390.jsonl", 1, "guest-panicked"],
    ["qmp-silent-resets.jsonl", 0, "guest-reset"],
  ])("%s", async (name, status, kind) => {
    const json = await run(name, "--json");
    expect(json.status).toBe(status);
    expect(validated(json.out).result.files[0].machines[0].outcome.kind).toBe(kind);
    const text = await run(name);
    expect(text.out).toMatch(new RegExp(`^${name}: ${kind}: `));
  });

  test("--fail-on", async () => {
    const limits = ["panic", "oops", "hang", "warning"];
    const statuses = await Promise.all(
      limits.map(async (limit) => (await run("qmp-silent-resets.jsonl", "--fail-on", limit)).status),
    );
    expect(statuses).toEqual([0, 0, 0, 1]);
  });

  test("several files, each with its own verdict", async () => {
    const { status, out } = await run("qmp-clean.jsonl", "qmp-crash-loaded.jsonl", "--json");
    expect(status).toBe(1);
    expect(validated(out).result).toMatchObject({ worst: "panic", files: [{}, {}] });
  });

  test("--json-file beside the text", async () => {
    const path = join(directory, "out.json");
    const { out } = await run("qmp-clean.jsonl", "--json-file", path);
    expect(out).toContain("shut-down");
    expect((await run("qmp-clean.jsonl", "--json-file", path)).status).toBe(2);
  });

  const built = existsSync(join(import.meta.dirname, "../dist/cli/main.js"));
  test.skipIf(!built)("standard input (skipped where dist is not built)", () => {
    const input = '{"event":"GUEST_PANICKED","data":{"action":"pause"}}\n';
    const bin = join(import.meta.dirname, "../bin/guestcore.js");
    const { status, stdout } = spawnSync(process.execPath, [bin, "triage", "qmp", "-"], { input });
    expect([status, stdout.toString().split("\n")[0]]).toEqual([
      1,
      "standard input: guest-panicked: guest panicked; QEMU paused it",
    ]);
  });
});

describe("exit statuses and warnings", () => {
  test("nothing of QEMU's, nothing whole, nothing there", async () => {
    expect((await run(file("text", "hello\n"))).status).toBe(3);
    expect((await run(file("empty", ""))).status).toBe(3);
    expect((await run(file("damaged", '{"event": "GUEST_PAN'))).status).toBe(4);
    expect((await run(join(directory, "missing"))).status).toBe(7);
    expect((await run()).status).toBe(2);
    expect((await run("qmp-clean.jsonl", "--fail-on", "notice")).status).toBe(2);
  });

  test("damage and contradictions are told, and the rest is read", async () => {
    const answer = (status: string) =>
      `{"return":{"status":"${status}","running":${status === "running"}}}\n`;
    const path = file(
      "mixed",
      `{"event": "STO\n{"a" 1}\n${'{"a":'.repeat(65)}\n${answer("shutdown")}${answer("running")}`,
    );
    const { status, err } = await run(path, "--cmdline", file("no-command", "hello"));
    expect(status).toBe(0);
    for (const code of ["TRI201", "TRI202", "TRI203", "TRI204", "TRI207"]) expect(err).toContain(code);
  });

  test("too many machines and events are told", async () => {
    const lines = Array.from({ length: 3000 }, (_, i) => `mon=0x${i % 65} event={"event":"WAKEUP"}`);
    expect((await run(file("many", lines.join("\n")))).err).toContain("TRI205");
    const one = lines.map(() => '{"event":"WAKEUP"}').join("\n");
    expect((await run(file("long", one))).err).toContain("TRI206");
  });

  test("what a guest or a log says cannot change the terminal", async () => {
    const evil = "\\u001b[2J\\u202eevil";
    const path = file(
      "evil\u001b[2J",
      `{"event":"GUEST_PANICKED","data":{"action":"${evil}","info":{"type":"tdx","error-code":0,"message":"${evil}"}}}\n` +
        `{"execute":"cont"}\n{"error":{"class":"X","desc":"${evil}"}}\nmon=0x1 event={"event":"WATCHDOG","data":{"action":"${evil}"}}\n`,
    );
    const { out, err } = await run(
      path,
      "--explain",
      "--cmdline",
      file("cmd", "qemu-kvm -M '\u001b[2Jpc' -name '\u001b]0;x'"),
    );
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that must not be there
    expect(out + err).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
    expect(out).toContain("\\x1b[2J");
  });
});
