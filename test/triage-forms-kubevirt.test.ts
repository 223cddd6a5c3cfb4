import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { KernelLog } from "./support/triage-console.ts";
import { judged } from "./support/triage-run.ts";

let top: string;
beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "guestcore-forms-"));
});
afterEach(() => rmSync(top, { recursive: true }));

const cri = (stream: string, text: string) => `2026-11-26T01:02:03.123456789Z ${stream} F ${text}\n`;
const launcher = (msg: string, more = {}) =>
  cri("stderr", JSON.stringify({ component: "virt-launcher", level: "info", msg, ...more }));
const lifecycle = (id: number, reason: number) =>
  launcher(
    `DomainLifecycle event Domain event="unknown" detail="" with event id ${id} reason ${reason} received`,
  );
const console = (log: KernelLog) =>
  `${log}`
    .trimEnd()
    .split("\n")
    .map((line) => cri("stdout", line))
    .join("");

function put(pod: string, container: string, text: string): void {
  const path = join(top, "pods", `default_virt-launcher-${pod}_0123`, container, "0.log");
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

test("pods of virt-launcher are VMs: libvirt's events and QEMU's words of one container, the console of another", async () => {
  put(
    "web-1-abcde",
    "compute",
    `${launcher("Collected all requested hook sidecar sockets")}${lifecycle(8, 0)}`,
  );
  put("web-1-abcde", "guest-console-log", console(new KernelLog().boot().oops("foo_write").panic()));
  put("db-x7k2p", "compute", `${lifecycle(2, 0)}${lifecycle(5, 0)}`);
  put(
    "cache-zzzzz",
    "compute",
    launcher("qemu-system-x86_64: terminating on signal 15 from pid 1 (x)", { subcomponent: "qemu" }),
  );
  const { results, warnings } = await judged([top]);
  expect(
    results.map(({ vm, verdict, sources }) => [vm, verdict.verdict, sources.map(({ kind }) => kind)]),
  ).toEqual([
    ["cache", "stopped-by-policy", ["qmp"]],
    ["db", "clean", ["qmp"]],
    ["web-1", "guest-panic", ["console", "qmp"]],
  ]);
  expect(results[2]!.verdict.agreements.map(({ rule }) => rule)).toContain("console-and-event");
  expect(warnings).toEqual([]);
});

test("other words of virt-launcher, and other programs' of events, tell nothing", async () => {
  const others = [
    "DomainLifecycle event 8 with reason x received",
    "saw: DomainLifecycle event 8 with reason 0 received",
  ];
  put(
    "web-abcde",
    "compute",
    `${lifecycle(2, 0)}${others.map((msg) => launcher(msg)).join("")}${lifecycle(77, 0)}`,
  );
  const { results } = await judged([top]);
  expect(results[0]!.verdict).toMatchObject({ verdict: "unknown", findings: [] });
});

test("older words", async () => {
  put("web-abcde", "compute", launcher("DomainLifecycle event 8 with reason 1 received"));
  expect((await judged([top])).results[0]!.verdict).toMatchObject({
    verdict: "guest-panic",
    rule: "crash-loaded",
  });
});
