import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Engine } from "../src/triage/console/engine.ts";
import { LANDMARKS } from "../src/triage/console/landmarks.ts";
import { ConsoleReader } from "../src/triage/console/reader.ts";
import { SIGNATURES } from "../src/triage/console/signatures/index.ts";
import { type LineReader, Skimmer } from "../src/triage/console/skimmer.ts";
import { UnwrappedLog } from "../src/triage/console/unwrapped-log.ts";
import {
  detect,
  expectedConsoles,
  KernelLog,
  realConsole,
  sampleConsole,
  whyNoConsoles,
} from "./support/triage-console.ts";

const SEED = 20261126;

/** What is found when every line is taken apart. */
function thorough(bytes: Uint8Array) {
  const engine = new Engine("console");
  const reader = new ConsoleReader(engine);
  const log = new UnwrappedLog();
  const skimmer = new Skimmer({
    isAttentive: true,
    isPlain: false,
    isTimed: true,
    pass: () => false,
    look: (line, number, before, isMoved) => {
      reader.look(line, number, before, isMoved);
      return undefined;
    },
  } satisfies LineReader);
  const skim = (opened: Uint8Array) => {
    reader.turnAt(log.boots);
    skimmer.push(opened);
  };
  skim(log.push(bytes));
  for (const opened of log.end()) skim(opened);
  skimmer.end();
  reader.end();
  const { findings, events, boots } = engine.end(undefined, {
    isJournal: log.isJournal,
    isPlain: reader.isPlain,
  });
  const { quoted, leftOut } = engine;
  return { lines: skimmer.lines, cut: skimmer.cut, findings, events, boots, quoted, leftOut };
}

/** The same, of the detector. */
function skimmed(bytes: Uint8Array, piece = bytes.length) {
  const { lines, cutLines, findings, events, boots, quoted, leftOut } = detect(bytes, Math.max(1, piece));
  const told = events.filter(({ kind }) => kind !== "console/end");
  return { lines, cut: cutLines, findings, events: told, boots, quoted, leftOut };
}

function expectSame(bytes: Uint8Array, piece?: number): void {
  expect(skimmed(bytes, piece)).toEqual(thorough(bytes));
}

/** A generator of numbers below n, the same in every run. */
function random(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

const SAMPLES = [
  "console-null-deref-panic.log",
  "console-arm64-oops.log.gz",
  "console-ppc64-machine-check.log.gz",
  "console-replayed-old-panic.log.gz",
  "x86-mce-fatal.console.log",
  "ppc64le-tlb-multihit-panic.console.log",
].map((name) => ({ name, bytes: sampleConsole(name) }));

/** What loggers put before a line, of the time that it was. */
const HEADERS: readonly ((time: number) => string)[] = [
  () => "",
  (time) =>
    `Nov ${String(1 + (time % 28)).padStart(2)} 01:02:${String(Math.floor(time) % 60).padStart(2, "0")} vm1 kernel: `,
  (time) => `Nov 26 01:02:${String(Math.floor(time) % 60).padStart(2, "0")} vm1 systemd[1]: `,
  (time) =>
    `2026-11-26T01:02:${String(Math.floor(time) % 60).padStart(2, "0")}.${String(Math.floor(time)).padStart(6, "0")}+00:00 vm1 kernel: `,
  () => "vm1-1  | ",
  () => "<6>",
  () => "<4>",
  () => "debian login: ",
  () => "[  OK  ] Started foo ",
  () => "> ",
  () => "\x1b[0;32m",
  () => '{"log":"',
  (time) => `[${time.toFixed(6).padStart(12)}] vm1 kernel: `,
  (time) => `[${time.toFixed(6).padStart(12)} <    0.000001>] `,
];
const QUIET = [
  "usb 1-1: new device [1.2] found",
  "pci 0000:00:01.0: [8086:1237] type 00 class 0x060000",
  "systemd[1]: Started Session 12 of User root.",
  "CPU 3 is up",
  "BUG reports go to the list",
  "x [    5.000000] y",
  "   ",
  "",
  "\r",
  "a\rb",
  "100%\r\r",
  "versions of 1.25] or so",
];
const LOUD = [
  ...SIGNATURES.flatMap(({ examples }) => examples),
  ...LANDMARKS.flatMap(({ starts }) => starts),
];
const CALM = [...QUIET, ...SIGNATURES.flatMap(({ negatives = [] }) => negatives)];

/** Logs whose lines mostly have one header, and mostly say nothing. */
const log = fc
  .tuple(
    fc.constantFrom(...HEADERS),
    fc.array(
      fc.tuple(
        fc.nat(9),
        fc.constantFrom(...HEADERS),
        fc.constantFrom(...CALM),
        fc.constantFrom(...LOUD, "Linux version 6.1 (x) #1", "Call Trace:", " foo+0x1/0x2", "Panic#1 Part1"),
        fc.integer({ min: -20, max: 40 }),
        fc.constantFrom("", "", "T1", "T4711", "C2"),
        fc.constantFrom("\n", "\n", "\n", "\r\n", " \n"),
      ),
      { maxLength: 120 },
    ),
  )
  .map(([header, lines]) => {
    let time = 1;
    return lines
      .map(([dice, other, calm, loud, step, caller, end]) => {
        time = Math.max(0, time + (step < -15 ? -time : step < 0 ? 0 : step / 7));
        const stamp = dice < 7 ? KernelLog.stamp(time, caller) : "";
        return `${(dice === 0 ? other : header)(time)}${stamp}${dice === 1 || dice === 8 ? loud : calm}${end}`;
      })
      .join("");
  });

describe("what is passed over tells nothing: the same is found as when every line is taken apart", () => {
  test.each(SAMPLES)("$name", ({ bytes }) => {
    expectSame(bytes);
  });

  test.skipIf(whyNoConsoles !== undefined)("real consoles", () => {
    for (const { file } of expectedConsoles()) expectSame(realConsole(file));
  });

  test("every example and negative, alone, behind what loggers put there, and in the middle of a line", () => {
    for (const text of [...LOUD, ...CALM]) {
      for (const header of HEADERS) {
        const quiet = Array.from({ length: 5 }, (_, i) => `${header(i)}${KernelLog.stamp(i)}usb ${i}\n`).join(
          "",
        );
        for (const stamp of ["", KernelLog.stamp(7)]) {
          expectSame(Buffer.from(`${quiet}${header(7)}${stamp}${text}\n${header(8)}x ${text}`));
        }
      }
    }
  });

  test("logs of all forms", () => {
    fc.assert(
      fc.property(log, fc.integer({ min: 1, max: 3000 }), (text, piece) => {
        expectSame(Buffer.from(text, "latin1"), piece);
      }),
      { seed: SEED, numRuns: 1500 },
    );
  });

  test("samples with bytes changed, and pieces of them in any order", () => {
    const next = random(SEED);
    for (let round = 0; round < 150; round++) {
      const pieces = Array.from({ length: 1 + next(4) }, () => {
        const { bytes } = SAMPLES[next(SAMPLES.length)]!;
        const at = next(bytes.length);
        return bytes.subarray(at, at + next(20_000));
      });
      const mutant = Buffer.concat(pieces);
      for (let i = 0; i < next(60); i++)
        mutant[next(mutant.length)] = next(3) === 0 ? next(256) : 32 + next(95);
      expectSame(mutant, 1 + next(5000));
    }
  });
});

describe("lines", () => {
  test.each([
    ["a line of the limit", `${"x".repeat(4096)}\n`, 0],
    ["one more", `${"x".repeat(4097)}\n`, 1],
    ["without an end", "x".repeat(4097), 1],
    ["one that goes on and on", `a\n${"x".repeat(300_000)}\nb\n${"y".repeat(70_000)}`, 2],
    ["spaces beyond the limit", `${"x".repeat(10)}${" ".repeat(5000)}\n`, 1],
  ])("%s is cut", (_, text, cut) => {
    for (const piece of [1, 7, 4096, 65_536, 1_000_000]) {
      const { lines, cutLines } = detect(text, piece);
      expect([piece, lines, cutLines]).toEqual([
        piece,
        text.split("\n").filter((line) => line !== "").length,
        cut,
      ]);
    }
  });

  test("a headline within the limit of a line that is too long is found, one beyond it is not", () => {
    const headline = "[    1.000000] Kernel panic - not syncing: x";
    expect(detect(`${headline}${"y".repeat(9000)}\n`).findings).toHaveLength(1);
    expect(detect(`${"y".repeat(4090)}${headline}\n`).findings).toHaveLength(0);
  });

  test("most lines of a clean log are not taken apart, whatever stands before them", () => {
    for (const header of HEADERS.slice(0, 6)) {
      const lines = Array.from(
        { length: 400 },
        (_, i) => `${header(i)}${KernelLog.stamp(i)}usb ${i}: new [x]\n`,
      );
      const engine = new Engine("console");
      const reader = new ConsoleReader(engine);
      let looked = 0;
      const look: LineReader["look"] = (line, number, before) => {
        looked++;
        return reader.look(line, number, before);
      };
      const skimmer = new Skimmer({
        get isAttentive() {
          return reader.isAttentive;
        },
        get isPlain() {
          return reader.isPlain;
        },
        get isTimed() {
          return reader.isTimed;
        },
        pass: (number, stamp, isLevelled) => reader.pass(number, stamp, isLevelled),
        look,
      });
      skimmer.push(Buffer.from(lines.join("")));
      skimmer.end();
      expect(looked, header(0)).toBeLessThan(20);
      expect(engine.end(undefined, { isJournal: false, isPlain: true }).boots[0]).toMatchObject({
        lastLine: 400,
        uptime: 399,
      });
    }
  });

  test("lines without a time are not either", () => {
    const lines = Array.from(
      { length: 400 },
      (_, i) => `Nov 26 01:02:03 vm1 sshd[${i}]: session ${i} [x] opened\n`,
    );
    const { findings, lines: count, events } = detect(lines.join(""));
    expect([findings, count]).toEqual([[], 400]);
    expect(events).toMatchObject([{ kind: "console/end", line: 400 }]);
  });
});
