import type { Command } from "commander";

/** The commands below one that its help lists. */
export const visibleCommands = (command: Command): readonly Command[] =>
  command
    .createHelp()
    .visibleCommands(command)
    .filter((sub) => sub.name() !== "help");

/** A command and all below it, outermost first. */
export function* withDescendants(command: Command): Generator<Command> {
  yield command;
  for (const sub of command.commands) yield* withDescendants(sub);
}

/** Whether a command has others below it. */
export const isGroup = (command: Command): boolean => command.commands.length > 0;

/** Whether a command does something by itself; one that only groups others has no arguments. */
export const isRunnable = (command: Command): boolean =>
  !isGroup(command) || command.registeredArguments.length > 0;

/** The visible commands that do something, outermost first: the command itself unless it only groups others. */
export const leavesOf = (command: Command): readonly Command[] => [
  ...(isRunnable(command) ? [command] : []),
  ...(isGroup(command) ? visibleCommands(command).flatMap(leavesOf) : []),
];

/** `vmcs layout list`: the words behind the program's name. */
export function pathOf(command: Command): readonly string[] {
  const { parent } = command;
  return parent === null ? [] : [...pathOf(parent), command.name()];
}
