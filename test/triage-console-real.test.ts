import { expect, test } from "vitest";
import {
  detect,
  expectedConsoles,
  kinds,
  realConsole,
  sampleConsole,
  titles,
  whyNoConsoles,
} from "./support/triage-console.ts";

test.skipIf(whyNoConsoles !== undefined)(`real consoles are there (skipped: ${whyNoConsoles})`, () => {
  expect(expectedConsoles().length).toBeGreaterThan(60);
});

test.each(expectedConsoles())("$file is $class", (truth) => {
  const { findings } = detect(realConsole(truth.file));
  const [first] = findings;
  expect(first?.class ?? "none").toBe(truth.class);
  expect(findings.some(({ severity }) => severity === "panic")).toBe(truth.panic);
  if (typeof truth.firstLine !== "number") return;
  expect(first!.details!.firstLine).toBeLessThanOrEqual(truth.firstLine);
  expect(first!.evidence[0]!.line).toBeGreaterThanOrEqual(truth.firstLine);
});

test("the samples that are shipped", () => {
  expect(titles(detect(sampleConsole("console-null-deref-panic.log")))).toEqual([
    "BUG: kernel NULL pointer dereference in lkdtm_EXCEPTION",
  ]);
  expect(kinds(detect(sampleConsole("console-null-deref-panic.log")))).toEqual(["null-deref/panic"]);
  expect(kinds(detect(sampleConsole("console-arm64-oops.log.gz")))).toEqual(["null-deref/oops"]);
  expect(kinds(detect(sampleConsole("console-ppc64-machine-check.log.gz")))).toEqual(["mce/panic"]);
});

test("an old panic that a boot script prints is none of this boot", () => {
  const report = detect(sampleConsole("console-replayed-old-panic.log.gz"));
  expect(report.findings).toEqual([]);
  expect(report.quoted).toBe(1);
  expect(report.boots).toMatchObject([{ number: 1, end: "power-down" }]);
});
