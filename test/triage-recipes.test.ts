import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { READERS } from "../src/jobs/triage-readers.ts";

const root = join(import.meta.dirname, "..");
/** Fenced blocks of the page that are recipes, by name. */
const recipes = new Map(
  [...readFileSync(join(root, "README.md"), "utf8").matchAll(/```bash recipe=(\S+)\n([\s\S]*?)```/g)].map(
    ([, name, script]) => [name!, script!],
  ),
);
const isReady = existsSync(join(root, "dist/cli/main.js")) && READERS.console !== undefined;

const top = mkdtempSync(join(tmpdir(), "guestcore-recipes-"));
afterAll(() => rmSync(top, { recursive: true }));

function runRecipe(name: string, artefacts: string): { status: number | null; out: string; folder: string } {
  const folder = mkdtempSync(join(top, "run-"));
  const bin = join(folder, "bin");
  mkdirSync(bin);
  writeFileSync(join(bin, "guestcore"), `#!/bin/sh\nexec node '${join(root, "bin/guestcore.js")}' "$@"\n`);
  chmodSync(join(bin, "guestcore"), 0o755);
  const { status, stdout, stderr } = spawnSync("bash", ["-euo", "pipefail", "-c", recipes.get(name)!], {
    cwd: folder,
    encoding: "utf8",
    env: {
      PATH: `${bin}:${process.env.PATH}`,
      ARTEFACTS: artefacts,
      GITHUB_STEP_SUMMARY: join(folder, "step-summary"),
    },
  });
  return { status, out: stdout + stderr, folder };
}

test("the page has the recipes", () => {
  expect([...recipes.keys()]).toEqual(["shell", "github-actions", "gitlab-ci"]);
});

describe.skipIf(!isReady)("recipes of the README (skipped without dist/ or a reader of consoles)", () => {
  const samples = join(root, "samples/triage/vms");
  test("shell", () => {
    const { status, out } = runRecipe("shell", samples);
    expect(out).toMatch(/guest-panic/);
    expect(out).toMatch(/a guest panicked\n/);
    expect(status).toBe(1);
    expect(runRecipe("shell", join(samples, "shut-down.console.log"))).toMatchObject({ status: 0 });
  });
  test("GitHub Actions", () => {
    const { status, out, folder } = runRecipe("github-actions", samples);
    expect(status).toBe(1);
    expect(out).toMatch(/^::error file=/m);
    expect(readFileSync(join(folder, "step-summary"), "utf8")).toMatch(/\*\*guest-panic\*\*/);
    expect(readFileSync(join(folder, "triage.html"), "utf8")).toMatch(/^<!DOCTYPE html>/);
  });
  test("GitLab CI", () => {
    const { status, folder } = runRecipe("gitlab-ci", samples);
    expect(status).toBe(1);
    expect(readFileSync(join(folder, "triage.xml"), "utf8")).toMatch(/<failure type="guest-panic"/);
  });
});
