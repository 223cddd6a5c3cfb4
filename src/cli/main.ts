import { Command, CommanderError, type Option } from "commander";
import { UsageError } from "../core/errors.ts";
import { VERSION } from "../core/version.ts";
import { COLOR_MODES } from "./color.ts";
import { completionCommand } from "./commands/completion.ts";
import { convertCommand } from "./commands/convert.ts";
import { dmesgCommand } from "./commands/dmesg.ts";
import { explainCommand } from "./commands/explain.ts";
import { extractCommand } from "./commands/extract.ts";
import { gcoreCommand } from "./commands/gcore.ts";
import { guestsCommand } from "./commands/guests.ts";
import { infoCommand } from "./commands/info.ts";
import { kernelCommand } from "./commands/kernel.ts";
import { manCommand } from "./commands/man.ts";
import { triageCommand } from "./commands/triage.ts";
import { verifyCommand } from "./commands/verify.ts";
import { vmcsCommand } from "./commands/vmcs.ts";
import { vmcsinfoCommand } from "./commands/vmcsinfo.ts";
import { withCommonOptions } from "./context.ts";
import { isBrokenPipe, type TellFlags, ToldError, tell } from "./errors.ts";
import { withExamples } from "./examples.ts";
import { exitStatusText } from "./exit.ts";
import { leavesOf, withDescendants } from "./subcommands.ts";
import type { AddCommand, Terminal } from "./terminal.ts";

/** A new command is one file and one line here. */
const COMMANDS: readonly AddCommand[] = [
  infoCommand,
  verifyCommand,
  extractCommand,
  guestsCommand,
  gcoreCommand,
  convertCommand,
  dmesgCommand,
  kernelCommand,
  vmcsCommand,
  vmcsinfoCommand,
  triageCommand,
  explainCommand,
  completionCommand,
  manCommand,
];

/** Builds the command line; commands are wired but nothing runs. */
export function createProgram(terminal: Terminal): Command {
  const program = withExamples(new Command("guestcore"), [
    "guestcore info core.qemu                          what it is, and what to do with it",
    "guestcore extract core.qemu -o guest.vmcore       the guest's memory and registers as a vmcore",
  ])
    .description("Turns crash artefacts of virtual machines into files a debugger opens.")
    .usage("COMMAND [options]")
    .version(VERSION, "-V, --version", "print the version")
    .showSuggestionAfterError(true)
    // A command that has others below it takes only the options in front of their names.
    .enablePositionalOptions()
    .configureHelp({ optionDescription: describeOption })
    .addHelpText("after", exitStatusText());
  for (const add of COMMANDS) leavesOf(add(program, terminal)).forEach(withCommonOptions);
  for (const command of withDescendants(program)) {
    command
      .exitOverride()
      .allowExcessArguments(false)
      .configureOutput({
        writeOut: (text) => terminal.stdout.write(text),
        writeErr: (text) => terminal.stderr.write(text),
        getOutHelpWidth: () => terminal.stdout.columns ?? 80,
        getErrHelpWidth: () => terminal.stderr.columns ?? 80,
        // main() prints every error in one form.
        outputError: () => {},
      });
  }
  return program;
}

/** Choices and defaults, without the "default: false" of every switch. */
function describeOption({ description, argChoices, defaultValue }: Option): string {
  const notes = argChoices === undefined ? [] : [argChoices.join(", ")];
  if (typeof defaultValue === "string") notes.push(`default: ${defaultValue}`);
  return notes.length === 0 ? description : `${description} (${notes.join("; ")})`;
}

/**
 * Runs one command line.
 * @param argv arguments without node and script
 * @returns the exit status
 */
export async function main(argv: readonly string[], terminal: Terminal): Promise<number> {
  try {
    const program = createProgram(terminal);
    if (argv.length === 0) {
      program.outputHelp({ error: true });
      return 2;
    }
    await program.parseAsync([...argv], { from: "user" });
    return 0;
  } catch (thrown) {
    const error = thrown instanceof CommanderError ? usageOf(thrown) : thrown;
    if (error === undefined) return 0;
    if (error instanceof ToldError) return error.exitCode;
    // A group of commands without one of them: its help is on stderr.
    if (thrown instanceof CommanderError && thrown.code === "commander.help") return 2;
    return isBrokenPipe(error) ? 141 : tell(error, flagsOf(argv), terminal);
  }
}

/** Options of one command that others are given, too. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  "--follow": "guestcore triage console FILE --follow watches a console",
};

/** --help and --version end by exception too: those are no error. */
function usageOf(error: CommanderError): UsageError | undefined {
  if (error.exitCode === 0) return undefined;
  const [message = "", suggestion] = error.message.replace(/^error: (command-argument )?/, "").split("\n");
  const elsewhere = Object.entries(ELSEWHERE).find(
    ([option]) => message === `unknown option '${option}'`,
  )?.[1];
  const hint = elsewhere ?? suggestion?.replace(/^\(Did (.*)\)$/, "did $1") ?? "see guestcore --help";
  return new UsageError(message, { hint });
}

/** How to tell an error of a command line that may not have been understood. */
function flagsOf(argv: readonly string[]): TellFlags {
  const end = argv.indexOf("--");
  const words = end < 0 ? argv : argv.slice(0, end);
  const color = COLOR_MODES.find((mode) => words.join("=").includes(`--color=${mode}`)) ?? "auto";
  return { json: words.includes("--json"), color, debug: words.includes("--debug") };
}
