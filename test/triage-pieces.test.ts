import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { Spool } from "../src/io/spool.ts";
import { envelope } from "../src/report/json.ts";
import { jsonReport, triageJson } from "../src/report/triage-json.ts";
import { wholeReport } from "../src/report/triage-pieces.ts";
import { oops, panicEvent, source, vmOf } from "./support/triage-synth.ts";

const folder = mkdtempSync(join(tmpdir(), "guestcore-pieces-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const VMS = [
  vmOf([source("qmp", { findings: [panicEvent()] })], { vm: "db" }),
  vmOf([source("console", { findings: [oops({ title: 'BUG: "[]"\n] \u2028 \ud83d\ude00' })] })], {
    vm: 'we"b\n[]',
  }),
  vmOf([source("console")], { vm: "x" }),
].map((result, index) => ({
  ...result,
  input: [{ path: `vm${index}/[]`, size: index, identities: [] }],
  warnings: index === 1 ? [{ code: "TRI004", message: "[]", where: { file: "[]" } }] : [],
}));

describe("JSON that is written VM by VM is the same document", () => {
  test.each([0, 1, 2, 3])("of %i VMs", (count) => {
    for (const failOn of ["panic", "oops"] as const) {
      const results = VMS.slice(0, count);
      const whole = envelope(
        "triage",
        results.flatMap(({ input }) => input),
        results.flatMap(({ warnings }) => warnings),
        triageJson(results, { failOn }),
      );
      expect(wholeReport(jsonReport, results, { failOn })).toBe(whole);
    }
  });
});

describe("a spool", () => {
  const texts = Array.from(
    { length: 300 },
    (_, i) => `${i} \u00e4\u20ac\ud83d\ude00 ${"x".repeat(i * 97)}\n`,
  );
  // A piece is good until the next is asked for.
  const textOf = (spool: Spool): string => {
    const pieces: Buffer[] = [];
    for (const piece of spool.pieces()) pieces.push(Buffer.from(piece));
    return Buffer.concat(pieces).toString();
  };

  test("gives back what was added, more than once, and leaves nothing behind", () => {
    const spool = new Spool([folder]);
    for (const text of texts) spool.add(text);
    expect(textOf(spool)).toBe(texts.join(""));
    expect(textOf(spool)).toBe(texts.join(""));
    expect(readdirSync(folder)).toEqual([]);
    spool.close();
  });

  test("keeps what no file can be made for", () => {
    const file = join(folder, "no-directory");
    writeFileSync(file, "");
    const spool = new Spool([file]);
    for (const text of texts) spool.add(text);
    expect(textOf(spool)).toBe(texts.join(""));
    spool.close();
  });

  test("may be empty", () => {
    expect(textOf(new Spool([folder]))).toBe("");
  });
});
