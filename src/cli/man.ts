import type { Command, Option } from "commander";
import { VERSION } from "../core/version.ts";
import { examplesOf } from "./examples.ts";
import { EXIT_STATUSES } from "./exit.ts";

/** A manual page in roff (man(7)) for the program or one of its commands, from commander's own model. */
export function manPage(program: Command, command: Command): string {
  const name = command === program ? "guestcore" : `guestcore-${command.name()}`;
  return [
    `.TH ${name.toUpperCase()} 1 "" "guestcore ${VERSION}" "User Commands"`,
    ".SH NAME",
    `${roff(name)} \\- ${roff(summaryOf(command))}`,
    ".SH SYNOPSIS",
    `.B ${roff(command === program ? "guestcore" : `guestcore ${command.name()}`)}`,
    roff(command.usage()),
    ".SH DESCRIPTION",
    roff(command.description()),
    ...exampleLines(command),
    ...commandLines(command),
    ...argumentLines(command),
    ".SH OPTIONS",
    ...command.options.filter(({ hidden }) => !hidden).flatMap(optionLines),
    ...tagged("\\fB\\-h\\fR, \\fB\\-\\-help\\fR", "show help"),
    ".SH EXIT STATUS",
    ...EXIT_STATUSES.flatMap(([code, meaning]) => tagged(`\\fB${code}\\fR`, roff(meaning))),
    ".SH SEE ALSO",
    seeAlso(program, command),
    "",
  ].join("\n");
}

const summaryOf = (command: Command): string =>
  (command.summary() || command.description())
    .replace(/\.$/, "")
    .replace(/^[A-Z](?=[a-z])/, (c) => c.toLowerCase());

const tagged = (tag: string, text: string): string[] => [".TP", tag, text];

function optionLines(option: Option): string[] {
  const flags = option.flags.split(", ").map((flag) => {
    const [name = "", value] = flag.split(" ");
    const argument = value === undefined ? "" : ` \\fI${roff(value.replace(/[<>[\]]/g, ""))}\\fR`;
    return `\\fB${roff(name)}\\fR${argument}`;
  });
  const choices = option.argChoices === undefined ? "" : `: ${option.argChoices.join(", ")}`;
  const standard = typeof option.defaultValue === "string" ? ` (default ${option.defaultValue})` : "";
  return tagged(flags.join(", "), roff(`${option.description}${choices}${standard}`));
}

function exampleLines(command: Command): string[] {
  const lines = examplesOf(command);
  return lines.length === 0 ? [] : [".SH EXAMPLES", ".nf", ...lines.map(roff), ".fi"];
}

function commandLines(command: Command): string[] {
  const commands = visibleCommands(command);
  if (commands.length === 0) return [];
  const lines = commands.flatMap((sub) => tagged(`\\fB${roff(sub.name())}\\fR`, roff(sub.summary())));
  return [".SH COMMANDS", ...lines];
}

function argumentLines(command: Command): string[] {
  const named = command.registeredArguments.filter(({ description }) => description !== "");
  if (named.length === 0) return [];
  return [
    ".SH ARGUMENTS",
    ...named.flatMap((argument) => tagged(`\\fI${roff(argument.name())}\\fR`, roff(argument.description))),
  ];
}

/** Commands that help lists. */
const visibleCommands = (command: Command): readonly Command[] =>
  command
    .createHelp()
    .visibleCommands(command)
    .filter((sub) => sub.name() !== "help");

function seeAlso(program: Command, command: Command): string {
  const pages = [program, ...visibleCommands(program)]
    .filter((page) => page !== command)
    .map((page) => `\\fB${roff(page === program ? "guestcore" : `guestcore-${page.name()}`)}\\fR(1)`);
  return [...pages, "\\fBcrash\\fR(8)", "\\fBmakedumpfile\\fR(8)", "\\fBdrgn\\fR(1)"].join(", ");
}

/** Roff's own characters, and a dot or quote that would start a request. */
const roff = (text: string): string =>
  text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^(?=[.'])/gm, "\\&")
    .trimEnd();
