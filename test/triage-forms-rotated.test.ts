import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { KernelLog } from "./support/triage-console.ts";
import { judged } from "./support/triage-run.ts";

let top: string;
beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "guestcore-forms-"));
});
afterEach(() => rmSync(top, { recursive: true }));

function put(name: string, contents: string | Buffer): string {
  const path = join(top, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, contents);
  return path;
}

const boot = `${new KernelLog().boot()}`;
const oops = `${new KernelLog(5).oops("foo_write")}`;
const later = `${new KernelLog(90).say("usb 1-1: a", "usb 1-2: b", "usb 1-3: c", "usb 1-4: d")}`;

describe("a console that was rotated", () => {
  test.each([
    ["virtlogd", "console.log.1", "console.log.0", "console.log"],
    ["logrotate, packed", "vm1.log.2.gz", "vm1.log.1", "vm1.log"],
    ["logrotate, by date", "vm1.log-20261119.gz", "vm1.log-20261120", "vm1.log"],
    ["of which the last is gone", "vm1.log.3", "vm1.log.2", "vm1.log.1"],
    ["kubelet", "0.log.20261119-100000.gz", "0.log.20261120-100000", "0.log"],
    ["dates with dashes", "vm1.log-2026-11-19", "vm1.log-20261120T100000.gz", "vm1.log"],
  ])("%s: is one log", async (_, first, second, third) => {
    const pack = (name: string, text: string) => (name.endsWith(".gz") ? gzipSync(text) : text);
    const oldest = put(`vm/${first}`, pack(first, boot));
    const told = put(`vm/${second}`, oops.trimEnd());
    const newest = put(`vm/${third}`, later);
    const { results, warnings } = await judged([top]);
    const [{ verdict, sources, input }] = results as [(typeof results)[number]];
    expect([results.length, warnings]).toEqual([1, []]);
    expect(sources).toMatchObject([
      { kind: "console", path: newest, label: "console log, rotated: 3 files" },
    ]);
    expect(input.length).toBe(3);
    // What the file with the oops alone does not tell.
    expect([verdict.verdict, verdict.findings.map(({ survived }) => survived)]).toEqual(["clean", [true]]);
    expect(verdict.findings[0]!.evidence[0]).toMatchObject({ source: told, line: 1 });
    expect(verdict.timeline.entries.map(({ source, line }) => [source, line])).toEqual([
      [oldest, 1],
      [told, 1],
      [newest, 4],
    ]);
  });

  test.each([
    ["a copy that is packed", "vm1.log", "vm1.log.gz"],
    ["two ports", "serial.0", "serial.1"],
    ["logs of two VMs", "db.log", "web.log"],
  ])("%s: is none", async (_, one, other) => {
    put(`vm/${one}`, one.endsWith(".gz") ? gzipSync(boot) : boot);
    put(`vm/${other}`, other.endsWith(".gz") ? gzipSync(boot) : boot);
    const { results } = await judged([top]);
    expect(results.flatMap(({ sources }) => sources).length).toBe(2);
  });

  test("a part that is packed and there as it was is one part", async () => {
    put("vm/console.log.1", `${boot}${oops}`);
    const copy = put("vm/console.log.1.gz", gzipSync(`${boot}${oops}`));
    put("vm/console.log", later);
    const { results } = await judged([top]);
    const [{ verdict, sources }] = results as [(typeof results)[number]];
    expect(sources).toMatchObject([
      { label: "console log, rotated: 2 files" },
      { path: copy, problem: `a copy of ${join(top, "vm/console.log.1")}, which is read` },
    ]);
    expect(verdict.findings).toMatchObject([{ survived: true, details: { count: 1 } }]);
  });

  test("across a part that is missing nothing is joined", async () => {
    put("vm/console.log.2", boot);
    put("vm/console.log", `${boot}${new KernelLog(99).say("reboot: Power down")}`);
    const { results } = await judged([top]);
    expect(results[0]!.sources).toHaveLength(2);
    expect(results[0]!.verdict).toMatchObject({ verdict: "clean", rule: "orderly-shutdown" });
  });

  test("an order of places that lines do not tell decides what ended what", async () => {
    // The panic's line is beyond that of the power-off, which comes later in the next file.
    put("vm/console.log.1", `${boot}${"x\n".repeat(50)}${oops}`);
    put("vm/console.log", `${later}${new KernelLog(99).say("reboot: Power down")}`);
    const { results } = await judged([top]);
    expect(results[0]!.verdict).toMatchObject({ verdict: "clean", rule: "orderly-shutdown" });
  });
});
