import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { KernelLog } from "./support/triage-console.ts";
import { judged } from "./support/triage-run.ts";

let top: string;
beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "guestcore-forms-"));
});
afterEach(() => rmSync(top, { recursive: true }));

test.each([
  ["with a byte order mark", "\ufeff"],
  ["without one", ""],
])("logs that PowerShell wrote, %s: each is read", async (_, mark) => {
  const put = (name: string, text: string) =>
    writeFileSync(join(top, name), Buffer.from(mark + text, "utf16le"));
  put("console.log", `${new KernelLog().boot().oops("foo_write").panic()}`);
  put("qmp.jsonl", '{"QMP": {"version": {}}}\n{"event": "GUEST_PANICKED", "data": {"action": "pause"}}\n');
  put("cmdline.txt", "qemu-system-x86_64 -name web -m 512 -device pvpanic -append 'panic=30'\n");
  const { results, warnings } = await judged([top]);
  expect(results.map(({ verdict, machine }) => [verdict.verdict, machine])).toMatchObject([
    ["guest-panic", { name: "web", pvpanic: true, panicTimeout: 30 }],
  ]);
  expect(results[0]!.verdict.agreements.map(({ rule }) => rule)).toEqual(["console-and-event"]);
  expect(warnings).toEqual([]);
});
