import { spawn, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { samplePath } from "./support/triage-console.ts";

/** Threads run the compiled program. */
const guestcore = join(import.meta.dirname, "..", "bin", "guestcore.js");
const folder = mkdtempSync(join(tmpdir(), "guestcore-threads-"));
const vms = join(folder, "vms");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

beforeAll(() => {
  const consoles = ["console-null-deref-panic.log", "console-arm64-oops.log.gz", "x86-mce-fatal.console.log"];
  const panics = readFileSync(samplePath("console-null-deref-panic.log"));
  for (let i = 0; i < 20; i++) {
    const vm = join(vms, `vm${String(i).padStart(2, "0")}`);
    mkdirSync(vm, { recursive: true });
    const name = consoles[i % 3]!;
    cpSync(samplePath(name), join(vm, name.endsWith(".gz") ? "console.log.gz" : "console.log"));
    // Threads help only where it takes longer than they need to begin.
    writeFileSync(join(vm, "serial.log"), panics.toString("latin1").repeat(40 + 10 * (i % 3)), "latin1");
    cpSync(samplePath("qmp-crash-loaded.jsonl"), join(vm, "qmp.jsonl"));
    writeFileSync(join(vm, "notes.xyz"), "nothing that is known\n");
  }
  // Packed, and damaged from its beginning on: told of in its place.
  writeFileSync(
    join(vms, "vm07", "serial.log.gz"),
    Buffer.from([0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
  );
});

const run = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [guestcore, "triage", ...args], {
    encoding: "utf8",
    maxBuffer: 2 ** 28,
  });
  return { status, stdout, stderr };
};

/** Several processes of several threads each, on a machine that may have other work. */
const PATIENCE = 180_000;

test.each(["--json", "--github"])("%s is the same whatever --jobs is", { timeout: PATIENCE }, (form) => {
  const one = run(vms, form, "--progress", "none");
  expect(one.status).toBe(1);
  expect(one.stderr).toContain("TRI004");
  for (const jobs of ["2", "5"]) expect(run(vms, form, "--progress", "none", "--jobs", jobs)).toEqual(one);
});

test("errors are told as without threads", { timeout: PATIENCE }, () => {
  const bad = join(folder, "bad");
  for (const name of ["a", "b"]) {
    mkdirSync(join(bad, name), { recursive: true });
    writeFileSync(
      join(bad, name, "console.log.gz"),
      Buffer.from([0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    );
  }
  const none = join(folder, "none");
  mkdirSync(none);
  writeFileSync(join(none, "x.xyz"), "a\n");
  writeFileSync(join(none, "y.xyz"), "b\n");
  for (const path of [bad, none]) {
    const one = run(path);
    expect(one.status).toBeGreaterThan(2);
    expect(one.stderr).toContain("guestcore: ");
    expect(run(path, "--jobs", "3")).toEqual(one);
  }
});

test("a signal ends threads at work", { timeout: PATIENCE }, async () => {
  const large = join(folder, "large");
  const line = "[    1.000000] WARNING: CPU: 0 PID: 1 at mm/page.c:12 bar+0x1/0x2\n";
  for (const name of ["a", "b", "c"]) {
    mkdirSync(join(large, name), { recursive: true });
    writeFileSync(join(large, name, "console.log"), line.repeat(name === "a" ? 1 : 2 ** 20));
  }
  const args = [guestcore, "triage", large, "--jobs", "2", "--progress", "none"];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "ignore"] });
  const ended = new Promise<number | null>((resolve) => child.on("exit", resolve));
  // The first VM is told while the threads are at the others.
  child.stdout.once("data", () => setTimeout(() => child.kill("SIGTERM"), 1500));
  expect(await ended).toBe(143);
});
