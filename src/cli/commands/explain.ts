import { Argument } from "commander";
import { UsageError } from "../../core/errors.ts";
import { EXPLANATIONS } from "../../report/codes.ts";
import type { Explanation } from "../../report/explanation.ts";
import { type ResultFlags, withResultOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand } from "../terminal.ts";

const EXAMPLES = [
  "guestcore explain RAM001",
  "guestcore explain                every code with its title",
  "guestcore explain --json         all of it for a program",
];

export const explainCommand: AddCommand = (program, terminal) =>
  withResultOptions(withExamples(program.command("explain"), EXAMPLES))
    .summary("say what a warning code means and what cures it")
    .description("Says what a warning code means and what cures it.")
    .addArgument(new Argument("[code]", "a code as warnings print it, e.g. RAM001"))
    .action((code: string | undefined, flags: ResultFlags) => {
      prepareDelivery(flags, []);
      const explained = code === undefined ? Object.keys(EXPLANATIONS) : [code.toUpperCase()];
      deliver(
        terminal,
        flags,
        {
          kind: "explain",
          inputs: [],
          warnings: [],
          result: explained.map((name) => ({ code: name, ...explanationOf(name) })),
          text: code === undefined ? listText() : explanationText(code.toUpperCase()),
        },
        [],
      );
    });

const listText = (): string =>
  Object.entries(EXPLANATIONS)
    .map(([code, { title }]) => `${code}  ${title}\n`)
    .join("");

function explanationOf(code: string): Explanation {
  const explanation = Object.hasOwn(EXPLANATIONS, code) ? EXPLANATIONS[code] : undefined;
  if (explanation === undefined) {
    throw new UsageError(`there is no code ${code}`, { hint: "guestcore explain lists all of them" });
  }
  return explanation;
}

function explanationText(code: string): string {
  const { title, meaning, cure } = explanationOf(code);
  return `${code}: ${title}\n\n${wrap(meaning)}\n\n${wrap(cure)}\n`;
}

const WIDTH = 88;

function wrap(text: string): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line].join("\n");
}
