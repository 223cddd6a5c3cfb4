import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { judged } from "./support/triage-run.ts";

let top: string;
beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "guestcore-forms-"));
});
afterEach(() => rmSync(top, { recursive: true }));

function put(name: string, contents: string): void {
  const path = join(top, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, contents);
}

const verdicts = async (vm?: string) => {
  const { results } = await judged([top], vm === undefined ? {} : { vm });
  return Object.fromEntries(results.map((one) => [one.vm, one.verdict.verdict]));
};

const EVENTS = [
  "2026-11-20 22:00:00.000+0000: event 'lifecycle' for domain 'db': Crashed Panicked",
  "2026-11-20 22:00:01.000+0000: event 'lifecycle' for domain 'web': Stopped Shutdown",
  "2026-11-20 22:00:02.000+0000: event 'lifecycle' for domain 'cache': Stopped Destroyed",
];
const CONSOLE = "[    0.000000] Linux version 6.1.0 (a@b) (gcc 12) #1 SMP\n[    5.000000] x\n";

describe("a log of several domains of libvirt", () => {
  test("is one VM for each", async () => {
    put("events.log", `${EVENTS.join("\n")}\n`);
    expect(await verdicts()).toEqual({ cache: "stopped-by-policy", db: "guest-panic", web: "clean" });
  });

  test("of virsh qemu-monitor-event likewise, data on lines of their own or not", async () => {
    put(
      "events.log",
      [
        `event GUEST_PANICKED at 1700000000.123456 for domain 'db': {"action":"pause"}`,
        `event SHUTDOWN at 1700000001.1 for domain 'web': {\n  "guest": true,\n  "reason": "guest-shutdown"\n}\n`,
      ].join("\n"),
    );
    expect(await verdicts()).toEqual({ db: "guest-panic", web: "clean" });
  });

  test("what it tells of a domain is of the VM of that name, wherever its other files lie", async () => {
    put("events.log", `${EVENTS.join("\n")}\n`);
    put("web/console.log", CONSOLE);
    put("libvirt/qemu/db.log", "2024-09-30 16:30:49.506+0000: starting up libvirt version: 9.0.0\n");
    put("cache.console.log", CONSOLE);
    const { results } = await judged([top]);
    expect(results.map(({ vm, sources }) => [vm, sources.map(({ kind }) => kind)])).toEqual([
      ["cache", ["console", "qmp"]],
      ["db", ["qmp", "libvirt-log"]],
      ["web", ["console", "qmp"]],
    ]);
  });

  test("--vm takes what it tells of that domain; of none of that name all", async () => {
    put("events.log", `${EVENTS.join("\n")}\n`);
    expect(await verdicts("web")).toEqual({ web: "clean" });
    expect(await verdicts("other")).toEqual({ other: "guest-panic" });
  });

  test("of one domain is what its file is called", async () => {
    put("vm7/events.log", `${EVENTS[0]}\n`);
    expect(await verdicts()).toEqual({ vm7: "guest-panic" });
  });
});
