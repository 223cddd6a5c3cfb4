import type { Command, Option } from "commander";
import { VERSION } from "../core/version.ts";
import { examplesOf } from "./examples.ts";
import { EXIT_STATUSES } from "./exit.ts";
import { isGroup, isRunnable, leavesOf, pathOf, visibleCommands } from "./subcommands.ts";

/**
 * A manual page in roff (man(7)) for the program or one of its commands, from commander's own model. The page of a
 * command that groups others describes all of them.
 */
export function manPage(program: Command, command: Command): string {
  const name = command === program ? "guestcore" : `guestcore-${command.name()}`;
  const group = command !== program && isGroup(command);
  return [
    `.TH ${name.toUpperCase()} 1 "" "guestcore ${VERSION}" "User Commands"`,
    ".SH NAME",
    `${roff(name)} \\- ${roff(summaryOf(command))}`,
    ".SH SYNOPSIS",
    ...(group ? leavesOf(command).flatMap(synopsisLines) : synopsisLines(command)),
    ".SH DESCRIPTION",
    roff(command.description()),
    ...exampleLines(command),
    ...(group ? [] : commandLines(command)),
    ...(group && !isRunnable(command) ? [] : optionSection(command)),
    ...(group
      ? leavesOf(command)
          .filter((sub) => sub !== command)
          .flatMap(subcommandLines)
      : []),
    ".SH EXIT STATUS",
    ...EXIT_STATUSES.flatMap(([code, meaning]) => tagged(`\\fB${code}\\fR`, roff(meaning))),
    ".SH SEE ALSO",
    seeAlso(command === program),
    "",
  ].join("\n");
}

const synopsisLines = (command: Command, index: number | undefined = 0): string[] => [
  ...(index > 0 ? [".br"] : []),
  `.B ${roff(["guestcore", ...pathOf(command)].join(" "))}`,
  roff(command.usage()),
];

/** A section of the page for a command within a group. */
const subcommandLines = (command: Command): string[] => [
  `.SH ${roff(pathOf(command).slice(1).join(" ").toUpperCase())}`,
  roff(command.description()),
  ...exampleLines(command, ".SS Examples"),
  ...optionSection(command, ".SS Arguments", ".SS Options"),
];

const optionSection = (
  command: Command,
  ofArguments = ".SH ARGUMENTS",
  ofOptions = ".SH OPTIONS",
): string[] => [
  ...argumentLines(command, ofArguments),
  ofOptions,
  ...command.options.filter(({ hidden }) => !hidden).flatMap(optionLines),
  ...tagged("\\fB\\-h\\fR, \\fB\\-\\-help\\fR", "show help"),
];

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

function exampleLines(command: Command, heading = ".SH EXAMPLES"): string[] {
  const lines = examplesOf(command);
  return lines.length === 0 ? [] : [heading, ".nf", ...lines.map(roff), ".fi"];
}

function commandLines(command: Command): string[] {
  const commands = visibleCommands(command);
  if (commands.length === 0) return [];
  const lines = commands.flatMap((sub) => tagged(`\\fB${roff(sub.name())}\\fR`, roff(sub.summary())));
  return [".SH COMMANDS", ...lines];
}

function argumentLines(command: Command, heading: string): string[] {
  const named = command.registeredArguments.filter(({ description }) => description !== "");
  if (named.length === 0) return [];
  return [
    heading,
    ...named.flatMap((argument) => tagged(`\\fI${roff(argument.name())}\\fR`, roff(argument.description))),
  ];
}

/** Pages that are there to be read: those of guestcore are printed, not installed. */
function seeAlso(isMain: boolean): string {
  const ours = isMain
    ? "\\fBguestcore man\\fR \\fIcommand\\fR prints the page of a command"
    : "\\fBguestcore man\\fR prints the page about all commands";
  return `${ours}; \\fBcrash\\fR(8), \\fBmakedumpfile\\fR(8), \\fBdrgn\\fR(1)`;
}

/** Roff's own characters, and a dot or quote that would start a request. */
const roff = (text: string): string =>
  text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^(?=[.'])/gm, "\\&")
    .trimEnd();
