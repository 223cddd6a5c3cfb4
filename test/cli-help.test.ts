import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createProgram, main } from "../src/cli/main.ts";
import { pathOf, visibleCommands, withDescendants } from "../src/cli/subcommands.ts";
import { FakeTerminal } from "./support/terminal.ts";

const directory = mkdtempSync(join(tmpdir(), "guestcore-help-"));
afterAll(() => rmSync(directory, { recursive: true }));

async function output(...argv: string[]): Promise<string> {
  const terminal = new FakeTerminal();
  expect(await main(argv, terminal)).toBe(0);
  expect(terminal.err).toBe("");
  return terminal.out;
}

const program = createProgram(new FakeTerminal());
const commands = program.commands.map((command) => command.name());
const groups = program.commands.filter((command) => command.commands.length > 0);
/** The words of every command, those within groups too. */
const paths = [...withDescendants(program)].map(pathOf);
const has = (tool: string): boolean => spawnSync(tool, ["--version"]).error === undefined;

describe("--help", () => {
  test.each(paths.map((argv) => ({ argv })))("$argv", async ({ argv }) => {
    const help = await output(...argv, "--help");
    expect(help).toMatchSnapshot();
    // Real command lines come first.
    expect(help).toMatch(/^Examples:\n {2}(source <\()?guestcore /);
    for (const line of help.split("\n")) expect(line.length).toBeLessThanOrEqual(100);
  });
});

describe("completion", () => {
  test.each(["bash", "zsh", "fish"])("%s", async (shell) => {
    expect(await output("completion", shell)).toMatchSnapshot();
  });

  describe("in a real bash", () => {
    const script = join(directory, "completion.bash");
    beforeAll(async () => {
      writeFileSync(script, await output("completion", "bash"));
      writeFileSync(join(directory, "core.1"), "");
      writeFileSync(join(directory, "core of web1"), "");
    });

    /** What bash offers after these words, as readline would ask for it. */
    function complete(...words: string[]): string[] {
      const code = `source "$1"; shift; COMP_WORDS=(guestcore "$@"); COMP_CWORD=$#; _guestcore; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const { stdout, status } = spawnSync("bash", ["-c", code, "bash", script, ...words], {
        cwd: directory,
      });
      expect(status).toBe(0);
      return stdout
        .toString()
        .split("\n")
        .filter((line) => line !== "")
        .sort();
    }

    test.each([
      [["ex"], ["explain", "extract"]],
      [
        ["extract", "--f"],
        ["--force", "--format"],
      ],
      [
        ["extract", "core", "--format", ""],
        ["elf", "flat", "kdump", "lime", "raw"],
      ],
      [["extract", "core", "--vaddr", "=", "n"], ["none"]],
      [
        ["extract", "core", "--vaddr", "="],
        ["direct-map", "none"],
      ],
      [
        ["completion", ""],
        ["bash", "fish", "zsh"],
      ],
      [
        ["vmcsinfo", ""],
        ["--help", "attach", "convert", "show"],
      ],
      [
        ["vmcsinfo", "convert", "x", "--to", "v"],
        ["v1", "v2"],
      ],
      [["vmcsinfo", "attach", "core."], ["core.1"]],
      [["info", "core."], ["core.1"]],
      [
        ["info", "core"],
        ["core of web1", "core.1"],
      ],
      [["extract", "core.1", "-o", "core "], ["core of web1"]],
      [
        ["extract", "--ram", "c"],
        ["completion.bash", "core of web1", "core.1"],
      ],
    ])("%j offers %j", (words, offered) => {
      expect(complete(...words)).toEqual(offered);
    });

    test("every option of every command is offered, and no hidden command", () => {
      const visible = (command: Command): Command[] =>
        visibleCommands(command).flatMap((sub) => [sub, ...visible(sub)]);
      const names = visibleCommands(program).map((command) => command.name());
      expect(complete("")).toEqual([...names, "--help", "--version"].toSorted());
      for (const command of visible(program)) {
        const longs = command.options.map(({ long }) => long);
        expect(complete(...pathOf(command), "--")).toEqual([...longs, "--help"].toSorted());
      }
    });

    test.skipIf(!has("zsh") && !has("fish"))(
      "zsh and fish take their scripts (skipped without both)",
      async () => {
        for (const shell of ["zsh", "fish"].filter(has)) {
          const path = join(directory, `completion.${shell}`);
          writeFileSync(path, await output("completion", shell));
          const { status, stderr } = spawnSync(shell, ["-n", path]);
          expect([status, stderr.toString()]).toEqual([0, ""]);
        }
      },
    );
  });
});

describe("man", () => {
  test.each(
    [[], ["extract"], ["info"], ["explain"], ...groups.map((group) => [group.name()])].map((argv) => ({
      argv,
    })),
  )("$argv", async ({ argv }) => {
    const page = await output("man", ...argv);
    expect(page).toMatchSnapshot();
    expect(page).not.toMatch(/undefined|\[object/);
  });

  test.skipIf(!has("man"))("the formatter has nothing to complain of (skipped without man)", async () => {
    for (const name of ["", ...commands]) {
      const path = join(directory, `page${name}.1`);
      writeFileSync(path, await output("man", ...(name === "" ? [] : [name])));
      const { stdout, stderr } = spawnSync("man", ["--warnings", "-l", path], {
        env: { ...process.env, MANWIDTH: "100", LC_ALL: "C.UTF-8" },
      });
      expect(stderr.toString()).toBe("");
      expect(stdout.toString()).toContain("EXIT STATUS");
    }
  });
});
