import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { QmpDetector } from "../src/triage/qmp/detector.ts";
import type { QmpReport } from "../src/triage/qmp/report.ts";
import { cpuTime } from "./support/cpu-time.ts";

const samples = join(import.meta.dirname, "../samples/triage");
const SEEDS = readdirSync(samples)
  .filter((name) => name.startsWith("qmp-") && name.endsWith(".jsonl"))
  .map((name) => readFileSync(join(samples, name)));

function read(bytes: Buffer, cmdline?: string): QmpReport {
  const detector = new QmpDetector({ source: "log", cmdline });
  detector.push(bytes);
  return detector.end();
}

/** Milliseconds of reading chunks. */
function timed(chunk: Buffer, times: number): number {
  const detector = new QmpDetector({ source: "log" });
  const start = cpuTime();
  for (let i = 0; i < times; i++) detector.push(chunk);
  detector.end();
  return cpuTime() - start;
}

test("mutants of real logs end in a report with bounded text", () => {
  expect(SEEDS.length).toBeGreaterThan(3);
  const mutation = fc.tuple(
    fc.nat(),
    fc.nat(),
    fc.integer({ min: 0, max: 3 }),
    fc.integer({ min: 0, max: 255 }),
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...SEEDS),
      fc.array(mutation, { minLength: 1, maxLength: 12 }),
      (seed, mutations) => {
        let bytes = Buffer.from(seed);
        for (const [a, b, how, byte] of mutations) {
          const at = a % bytes.length;
          const end = Math.min(bytes.length, at + (b % 60));
          if (how === 0) bytes[at] = byte;
          else if (how === 1) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
          else if (how === 2) bytes = Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)]);
          else bytes = Buffer.from(bytes.subarray(0, Math.max(1, at)));
          if (bytes.length === 0) bytes = Buffer.from(seed);
        }
        const report = read(bytes);
        for (const { evidence, title } of report.findings) {
          expect(title.length).toBeLessThan(2000);
          for (const { text } of evidence) expect(text.length).toBeLessThanOrEqual(1000);
        }
      },
    ),
    { seed: 206, numRuns: 600 },
  );
});

test("bytes of any kind end in a report", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      read(Buffer.from(bytes));
    }),
    { seed: 207, numRuns: 500 },
  );
});

test("values of any type where QMP has another", () => {
  const value = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom("pause", "guest-panic", "stop", "hyper-v", "s390", 1e300, -1),
  );
  const data = fc.record(
    Object.fromEntries(
      ["action", "info", "reason", "guest", "device", "flags", "recipient", "status", "result", "error"].map(
        (key) => [key, value],
      ),
    ),
    { requiredKeys: [] },
  );
  const name = fc.constantFrom(
    "GUEST_PANICKED",
    "RESET",
    "SHUTDOWN",
    "STOP",
    "RESUME",
    "WATCHDOG",
    "BLOCK_IO_ERROR",
    "MEMORY_FAILURE",
    "MIGRATION",
    "DUMP_COMPLETED",
    "__proto__",
    "constructor",
    "TO_STRING",
  );
  const message = fc.oneof(
    fc.record({ event: name, data: fc.oneof(data, value), timestamp: value }, { requiredKeys: ["event"] }),
    fc.record({ return: value, id: value }, { requiredKeys: ["return"] }),
    fc.record({ error: fc.record({ class: value, desc: value }, { requiredKeys: [] }), id: value }),
    fc.record({ QMP: value }),
    fc.record({ execute: fc.constantFrom("cont", "stop", "set-action"), arguments: value, id: value }),
    fc.record({ t: value, dir: fc.constantFrom("<", "#"), msg: fc.oneof(value, fc.record({ exit: value })) }),
  );
  fc.assert(
    fc.property(fc.array(message, { maxLength: 12 }), (messages) => {
      read(Buffer.from(messages.map((one) => JSON.stringify(one)).join("\n")));
    }),
    { seed: 208, numRuns: 500 },
  );
});

describe("time grows with the size only", () => {
  const MIB = 2 ** 20;
  test.each([
    ["NULs", "\0"],
    ["one line", "a"],
    ["braces", "{"],
    ["objects that never end", '{"a":'],
    ["the same on lines", '{"a":\n'],
    ["strings that never end", '{"'],
    ["C strings", '{\\"a'],
    ["small objects on one line", "x{}"],
    ["messages on one line", '{"event":"STOP"}'],
    ["panics", '{"event":"GUEST_PANICKED","data":{"action":"pause"}}\n'],
    ["stops and resumes", '{"event":"STOP"}\n{"event":"RESUME"}\n'],
    ["disks", '{"event":"BLOCK_IO_ERROR","data":{"device":"x","action":"stop"}}\n'],
    ["assertions", ": Assertion `a failed\n"],
    ["phrases of rules", "shutting down, reason=panic hyper-v: Guest crashKVM internal error\n"],
    ["loggers", "QEMU[1]: QEMU[2]: "],
    ["command lines", "LC_ALL=C qemu-kvm -device 'a \\\n"],
    ["domains", "event X for domain "],
    ["ports", "kvm_pio: pio_write at 0x505 size 1 count 1 val 0x1\n"],
  ])("%s", (_name, text) => {
    const chunk = Buffer.alloc(MIB / 16, text);
    timed(chunk, 1);
    const one = Math.max(timed(chunk, 1), 20);
    expect(timed(chunk, 4)).toBeLessThan(40 * one);
    // Measured at 5 to 60 ms for 64 KiB; far more than that is a bomb.
    expect(one).toBeLessThan(2500);
  });
});

test("many machines, disks and events are bounded", () => {
  const lines = Array.from(
    { length: 3000 },
    (_, i) =>
      `mon=0x${(i % 200).toString(16)} event={"event":"BLOCK_IO_ERROR","data":{"device":"d${i}","action":"stop"}}`,
  );
  const report = read(Buffer.from(lines.join("\n")));
  expect(report.guests).toHaveLength(64);
  expect(report.lostGuests).toBeGreaterThan(0);
  const one = read(Buffer.from(lines.map((line) => line.replace(/mon=\S+ event=/, "")).join("\n")));
  expect(one.findings.length).toBeLessThanOrEqual(200);
  expect(one.events.length).toBeLessThanOrEqual(2000);
  expect(one.omitted).toBeGreaterThan(1000);
});

test("no more of a long message is kept than is shown", () => {
  const detector = new QmpDetector({ source: "log" });
  const long = "x".repeat(900_000);
  const before = process.memoryUsage();
  for (let second = 0; second < 300; second++) {
    const stamp = `"timestamp": {"seconds": ${1_795_230_000 + second}, "microseconds": 0}`;
    const event = `"event": "BLOCK_IO_ERROR", "data": {"device": "${long}", "reason": "${second}", "action": "report"}`;
    detector.push(Buffer.from(`{${stamp}, ${event}}\n`));
  }
  const { events, findings } = detector.end();
  const { heapUsed, external } = process.memoryUsage();
  // All of them have 270 MB.
  expect(heapUsed + external - before.heapUsed - before.external).toBeLessThan(120 * 2 ** 20);
  expect(events.length).toBe(300);
  for (const { text } of [...events, ...findings.flatMap(({ evidence }) => evidence)]) {
    expect(text.length).toBeLessThanOrEqual(1000);
  }
  for (const { title, details } of findings) {
    expect(title).toMatch(/^x{200}/);
    expect(JSON.stringify([title, details]).length).toBeLessThan(1000);
  }
});
