import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { consoleJson, consoleText } from "../src/report/triage-console.ts";
import { ConsoleDetector } from "../src/triage/console/detector.ts";
import { SIGNATURES } from "../src/triage/console/signatures/index.ts";
import { MAX_FINDINGS } from "../src/triage/console/told.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { schemas } from "./support/schemas.ts";
import { detect, KernelLog, sampleConsole } from "./support/triage-console.ts";

const SEED = 20261126;
const ajv = schemas();

/** A generator of numbers below n, the same in every run. */
function random(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

/** What every report must hold, and can be shown as. */
function check(bytes: Uint8Array, piece = 1000): void {
  const report = detect(bytes, piece);
  expect(report.findings.length).toBeLessThanOrEqual(MAX_FINDINGS);
  for (const { evidence, title, details } of report.findings) {
    expect(title.length).toBeLessThanOrEqual(240);
    expect(evidence.length).toBeGreaterThan(0);
    expect(Number(details!.firstLine)).toBeLessThanOrEqual(evidence[0]!.line!);
    expect(Number(details!.lastLine)).toBeLessThanOrEqual(report.lines);
    for (const { text } of evidence) expect(text.length).toBeLessThanOrEqual(1000);
  }
  const input = { path: "x", identities: [], size: 0, sizeOnDisk: 0, unpacked: undefined };
  const results = [{ input, report, followed: undefined, warnings: [] }];
  const choice = { failOn: "panic", boot: "all" } as const;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: none may be there
  expect(consoleText(results, choice)).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
  const document = {
    schema: "guestcore/triage-console/1",
    tool: { name: "guestcore", version: "0" },
    inputs: [],
    warnings: [],
    result: JSON.parse(JSON.stringify(consoleJson(results, choice))),
  };
  expect(ajv.validate("triage-console.json", document), ajv.errorsText()).toBe(true);
}

const LINES = SIGNATURES.flatMap(({ examples }) => examples);

describe("whatever the input", () => {
  test("how it is cut into pieces makes no difference", () => {
    const bytes = sampleConsole("console-replayed-old-panic.log.gz");
    const whole = detect(bytes, bytes.length);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5000 }), (piece) => {
        expect(detect(bytes, piece)).toEqual(whole);
      }),
      { seed: SEED, numRuns: 15 },
    );
  });

  test("bytes of any kind", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3000 }), (bytes) => check(bytes)),
      { seed: SEED, numRuns: 300 },
    );
  });

  test("lines that tell something, in any order, with any stamps", () => {
    const line = fc
      .tuple(
        fc.constantFrom(
          ...LINES,
          "Linux version 6.1 (x) #1",
          "Call Trace:",
          " foo+0x1/0x2",
          "reboot: Power down",
        ),
        fc.option(fc.double({ min: 0, max: 1e6, noNaN: true })),
        fc.constantFrom("", "T1", "C2"),
      )
      .map(([text, time, caller]) => (time === null ? text : KernelLog.stamp(time, caller) + text));
    fc.assert(
      fc.property(fc.array(line, { maxLength: 60 }), (lines) => check(Buffer.from(lines.join("\n")))),
      { seed: SEED, numRuns: 400 },
    );
  });

  test("real logs with bytes changed, dropped, doubled and moved", () => {
    const next = random(SEED);
    for (const name of ["console-null-deref-panic.log", "console-ppc64-machine-check.log.gz"]) {
      const original = sampleConsole(name);
      for (let round = 0; round < 120; round++) {
        const bytes = Buffer.from(original);
        for (let i = 0; i < 40; i++) bytes[next(bytes.length)] = next(256);
        const at = next(bytes.length);
        const length = next(3000);
        const piece = bytes.subarray(at, at + length);
        const rest = [bytes.subarray(0, at), bytes.subarray(at + length)];
        const mutant = [
          () => Buffer.concat(rest),
          () => Buffer.concat([rest[0]!, piece, piece, rest[1]!]),
          () => Buffer.concat([rest[1]!, piece, rest[0]!]),
        ][next(3)]!();
        check(mutant);
      }
    }
  });
});

describe("bounds", () => {
  /** Detects in a text that is repeated until it has so many bytes; gives milliseconds and growth of the heap. */
  function flood(text: string, size: number) {
    const piece = Buffer.from(text.repeat(Math.ceil(2 ** 20 / text.length)));
    const detector = new ConsoleDetector({ source: "console" });
    detector.push(piece);
    const [began, before] = [cpuTime(), process.memoryUsage().heapUsed];
    for (let done = 0; done < size; done += piece.length) detector.push(piece);
    const [time, grown] = [cpuTime() - began, process.memoryUsage().heapUsed - before];
    return { time, grown, report: detector.end() };
  }

  test.each([
    ["one line without an end", "x"],
    ["NULs", "\0"],
    ["escapes", "\x1b[31m"],
    ["escapes that never end", "\x1b]"],
    ["carriage returns", "a\r"],
    ["brackets", "["],
    ["stamps", "[    1.000000] "],
    ["empty lines", "\n"],
    ["brackets in lines", "a [\n"],
    ["headlines", "[    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000\n"],
    ["panics", "[    1.000000] Kernel panic - not syncing: x\n"],
    ["boots", "[    0.000000] Linux version 6.1 (a) #1\n[    9.000000] Kernel panic - not syncing: x\n"],
    [
      "clocks that jump",
      "[    9.000000] a\n[    5.000000] Kernel panic - not syncing: x\n[    1.000000] b\n",
    ],
    [
      "callers",
      "[    1.000000][ T1] BUG: workqueue lockup - pool\n[    1.000000][ T2] BUG: workqueue leaked lock or atomic\n",
    ],
    ["tasks that hang", "[    1.000000] INFO: task a b c:12 blocked for more than 5 seconds.\n"],
  ])("%s: time and memory stay small", (_, text) => {
    const { time, grown, report } = flood(text, 4 * 2 ** 20);
    expect(time).toBeLessThan(20_000);
    expect(grown).toBeLessThan(100 * 2 ** 20);
    expect(report.findings.length).toBeLessThanOrEqual(MAX_FINDINGS);
    expect(report.events.length).toBeLessThan(300);
    expect(report.boots.length).toBeLessThan(200);
  });

  test("the worst is kept when there is too much", () => {
    const text = Array.from({ length: 2000 }, (_, i) =>
      new KernelLog(i * 10).say(
        `WARNING: CPU: 0 PID: 1 at mm/page.c:12 bar_${i}_x+0x1/0x2`,
        "Call Trace:",
        ` baz_${i}+0x1/0x2`,
      ),
    ).join("");
    const report = detect(`${text}${new KernelLog(30_000).panic("the end")}`);
    expect(report.leftOut).toBeGreaterThan(1000);
    expect(report.findings.filter(({ severity }) => severity === "panic").length).toBe(1);
  });
});
