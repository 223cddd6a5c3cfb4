import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { QmpDetector } from "../src/triage/qmp/detector.ts";
import type { QmpReport } from "../src/triage/qmp/report.ts";

const root = join(process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../shared/data"), "triage");
const folder = existsSync(root) ? root : "/nonexistent";
const why = existsSync(root) ? undefined : `no ${root}`;

function read(name: string): QmpReport {
  const cmdline = join(folder, name.replace(/\.(qmp\.jsonl|qemu\.log|stdout\.log)$/, ".cmdline.txt"));
  const detector = new QmpDetector({
    source: name,
    cmdline: existsSync(cmdline) ? readFileSync(cmdline, "utf8") : undefined,
  });
  const bytes = readFileSync(join(folder, name));
  // In pieces, as a pipe brings them.
  for (let at = 0; at < bytes.length; at += 700) detector.push(bytes.subarray(at, at + 700));
  return detector.end();
}
const classes = ({ findings }: QmpReport) => findings.map((finding) => finding.class);

/** What each run of the laboratory was made to do. */
const TRUTH: readonly (readonly [string, readonly string[], object])[] = [
  ["crashloaded", ["crash-loaded"], { version: { major: 7, minor: 2, micro: 22 }, lastState: "shutdown" }],
  ["crashloaded-nopost", [], { outcome: { kind: "shut-down" } }],
  ["internal-triplefault", ["guest-reset"], {}],
  ["isa-default", ["guest-panicked"], { policy: { panic: "shutdown" }, exit: 0 }],
  ["isa-events2", ["guest-reset", "timeout"], { commandLine: { events: 2 } }],
  ["isa-none", ["guest-panicked"], { policy: { panic: "none", from: "command line" }, lastState: "running" }],
  ["isa-pause-cont", ["guest-panicked"], { policy: { panic: "pause" }, lastState: "running" }],
  ["isa-pause-dump", ["guest-panicked"], { lastState: "guest-panicked" }],
  ["isa-pause-reset", ["guest-panicked", "guest-reset"], { lastState: "running" }],
  ["isa-pause-stay", ["guest-panicked"], { lastState: "guest-panicked" }],
  ["isa-pause-stop", ["guest-panicked"], { lastState: "running" }],
  ["isa-shutdown", ["guest-panicked"], { policy: { panic: "shutdown", from: "command line" } }],
  ["isa-shutdown-noshutdown", ["guest-panicked"], { policy: { noShutdown: true }, lastState: "running" }],
  ["no-device", ["guest-reset"], { commandLine: { panicDevices: [] } }],
  ["pc-i440fx-2.0", ["guest-panicked"], { machine: "pc-i440fx-2.0" }],
  ["qemu10.0-pause-cont", ["guest-panicked"], { version: { major: 10, minor: 0, micro: 13 } }],
  ["qemu10.0-pvshutdown", [], { outcome: { kind: "shut-down" } }],
  ["qemu5.2-crashloaded", ["crash-loaded"], { version: { major: 5, minor: 2, micro: 0 } }],
  ["qemu5.2-default", ["guest-panicked", "qemu-abort"], { exit: -6, policy: { panic: "shutdown" } }],
  ["qemu5.2-noshutdown-cont", ["guest-panicked"], { lastState: "running" }],
  ["watchdog-pause", [], { outcome: { kind: "shut-down" } }],
];

describe.skipIf(why !== undefined)(`real runs (skipped: ${why ?? "no"})`, () => {
  test.each(TRUTH)("qmp/%s", (name, expected, rest) => {
    const report = read(`qmp/${name}.qmp.jsonl`);
    expect(classes(report)).toEqual(expected);
    expect(report).toMatchObject(rest);
    expect([report.damage, report.contradictions]).toEqual([[], []]);
  });

  test("s390 has its PSW, and QEMU's own log the same", () => {
    for (const name of [
      "s390x-panic.qmp.jsonl",
      "s390x-panic-default.qmp.jsonl",
      "s390x-guest-errors.qemu.log",
    ]) {
      const [panic] = read(`foreign/${name}`).findings;
      expect(panic!.details).toMatchObject({
        info: {
          core: 0,
          pswMask: "0x0002000180000000",
          pswAddress: "0x000000000010fdee",
          reason: "disabled-wait",
        },
      });
    }
  });

  test("pseries has the panic's words on standard error, and stays stopped when it was", () => {
    expect(read("foreign/ppc64le-panic.stdout.log").findings[0]!.title).toBe(
      "guest panicked: sysrq triggered crash",
    );
    expect(classes(read("foreign/ppc64le-mce-nested.qmp.jsonl"))).toEqual([
      "guest-panicked",
      "stopped-by-policy",
    ]);
  });

  test("machine checks that the monitor sent are told as hardware's", () => {
    expect(read("console/mce-fatal.qmp.jsonl").findings[0]).toMatchObject({
      side: "hardware",
      severity: "oops",
    });
    expect(read("console/mce-corrected.qmp.jsonl").findings[0]).toMatchObject({
      severity: "warning",
      survived: true,
    });
  });

  test("no log of all is damaged or contradicts itself, and a panic is told exactly where QEMU told one", () => {
    const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) =>
      name.endsWith(".qmp.jsonl"),
    );
    expect(names.length).toBeGreaterThan(100);
    for (const name of names) {
      const report = read(name);
      expect([name, report.damage, report.contradictions]).toEqual([name, [], []]);
      const text = readFileSync(join(folder, name), "utf8");
      const told = /"event": "GUEST_(PANICKED|CRASHLOADED)"/.test(text);
      expect([
        name,
        report.findings.some(({ severity, side }) => severity === "panic" && side === "guest"),
      ]).toEqual([name, told]);
      expect(report.guests).toHaveLength(1);
    }
  });

  test("consoles are no QMP logs", () => {
    for (const name of readdirSync(join(folder, "console")).filter((one) => one.endsWith(".console.log"))) {
      expect([name, read(`console/${name}`).findings]).toEqual([name, []]);
    }
  });
});
