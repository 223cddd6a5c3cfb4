import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { DAMAGE_CODES } from "../src/core/warnings.ts";
import { EXPLANATIONS } from "../src/report/codes.ts";

const root = join(import.meta.dirname, "../src");
/** The table, and the list of codes that tell of damage. */
const LISTS = ["report/codes.ts", "core/warnings.ts"];

/** Warning codes that stand as a string in any source but these. */
function usedCodes(): Set<string> {
  const files = readdirSync(root, { recursive: true, encoding: "utf8" }).filter(
    (name) => name.endsWith(".ts") && !name.endsWith(".test.ts") && !LISTS.includes(name),
  );
  expect(files.length).toBeGreaterThan(30);
  const codes = files.flatMap(
    (name) => readFileSync(join(root, name), "utf8").match(/"(?:[A-Z]{3,4}\d{3})"/g) ?? [],
  );
  return new Set(codes.map((quoted) => quoted.slice(1, -1)));
}

test("every code a warning can carry is explained", () => {
  expect([...usedCodes()].filter((code) => !Object.hasOwn(EXPLANATIONS, code))).toEqual([]);
});

test("every explanation is of a code that is used", () => {
  const used = usedCodes();
  expect(Object.keys(EXPLANATIONS).filter((code) => !used.has(code))).toEqual([]);
});

test("every code that tells of damage is one that is used", () => {
  const used = usedCodes();
  expect([...DAMAGE_CODES].filter((code) => !used.has(code))).toEqual([]);
});

test("explanations are in order and complete sentences", () => {
  expect(Object.keys(EXPLANATIONS)).toEqual(Object.keys(EXPLANATIONS).toSorted());
  for (const { title, meaning, cure } of Object.values(EXPLANATIONS)) {
    expect(title).toMatch(/^[^.\n]{5,90}$/);
    expect(meaning).toMatch(/^[A-Z`-][^\n]+\.$/);
    expect(cure).toMatch(/^[a-zA-Z`-][^\n]+\.$/);
  }
});
