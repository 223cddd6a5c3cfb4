import { expect, test } from "vitest";
import { CLASSES } from "../src/triage/console/classes.ts";
import { matchLandmark, matchSignature } from "../src/triage/console/matcher.ts";
import { SIGNATURES } from "../src/triage/console/signatures/index.ts";
import { cpuTime } from "./support/cpu-time.ts";

const examples = SIGNATURES.flatMap(({ id, examples }) => examples.map((text) => ({ id, text })));
const negatives = SIGNATURES.flatMap(({ id, negatives = [] }) => negatives.map((text) => ({ id, text })));

test("there are examples of every signature, and no two have one name", () => {
  expect(SIGNATURES.filter((signature) => signature.examples.length === 0)).toEqual([]);
  expect(new Set(SIGNATURES.map(({ id }) => id)).size).toBe(SIGNATURES.length);
});

test.each(examples)("$id: $text", ({ id, text }) => {
  const signature = matchSignature(text)?.signature;
  expect(signature?.id).toBe(id);
  expect(signature!.class in CLASSES).toBe(true);
});

test.each(negatives)("$id is not in: $text", ({ text }) => {
  expect(matchSignature(text)?.signature.id).toBeUndefined();
});

test("every signature can be found: it has a beginning of three characters or a piece of text of seven", () => {
  for (const { id, starts = [], contains } of SIGNATURES) {
    expect(starts.length + (contains === undefined ? 0 : 1), id).toBeGreaterThan(0);
    for (const start of starts) expect(start.length, id).toBeGreaterThanOrEqual(3);
    if (contains !== undefined) expect(contains.length, id).toBeGreaterThanOrEqual(7);
  }
});

test("patterns are anchored and neither global nor sticky", () => {
  for (const { id, pattern } of SIGNATURES) {
    expect(pattern.source.startsWith("^"), id).toBe(true);
    expect(pattern.flags, id).toMatch(/^[i]?$/);
  }
});

test("no class is without a signature", () => {
  const used = new Set<string>(SIGNATURES.map((signature) => signature.class));
  expect(Object.keys(CLASSES).filter((name) => !used.has(name))).toEqual(["silent-reset"]);
});

test("landmarks", () => {
  expect(matchLandmark("Linux version 6.1.0 (a@b) (gcc) #1 SMP")).toMatchObject({ about: "6.1.0" });
  expect(matchLandmark("reboot: Power down")?.landmark.kind).toBe("power-down");
  expect(matchLandmark("Linux version of the game")).toBeUndefined();
});

/** Milliseconds that a pattern takes: the least of some, for a busy machine may take any time for the first. */
function leastTime(pattern: RegExp, lines: readonly string[]): number {
  let least = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < 10 && least >= 50; attempt++) {
    const began = cpuTime();
    for (const line of lines) pattern.test(line.slice(0, 4096));
    least = Math.min(least, cpuTime() - began);
  }
  return least;
}

/** Text that makes a pattern with nested or overlapping repetitions slow. */
test("no pattern takes long, whatever the line", () => {
  const fills = ["a", " ", "-", ":", "[", "0", "(", "a-", "a ", "f:", "x\t", "CPU ", ": ", "'", "A->"];
  for (const signature of SIGNATURES) {
    for (const text of [...signature.examples, ...(signature.starts ?? []), signature.contains ?? ""]) {
      for (const fill of fills) {
        const body = fill.repeat(4096 / fill.length);
        const lines = [text + body, text.slice(0, text.length / 2) + body, body + text];
        expect(leastTime(signature.pattern, lines), `${signature.id} on ${text} and ${fill}`).toBeLessThan(
          50,
        );
      }
    }
  }
});
