import type { Command } from "commander";

const examples = new WeakMap<Command, readonly string[]>();

/** Shows real command lines before anything else in `--help`; a remark stands behind the command, apart by two spaces. */
export function withExamples(command: Command, lines: readonly string[]): Command {
  examples.set(command, lines);
  return command.addHelpText("before", `Examples:\n${lines.map((line) => `  ${line}\n`).join("")}`);
}

export const examplesOf = (command: Command): readonly string[] => examples.get(command) ?? [];
