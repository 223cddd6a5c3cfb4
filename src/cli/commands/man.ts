import { Argument } from "commander";
import { UsageError } from "../../core/errors.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand } from "../terminal.ts";

export const manCommand: AddCommand = (program, terminal) =>
  withExamples(
    program
      .command("man")
      .summary("print a manual page")
      .description("Prints a manual page in roff, of guestcore or of one command.")
      .addArgument(new Argument("[command]", "the command the page is about")),
    ["guestcore man | man -l -", "guestcore man extract > guestcore-extract.1"],
  ).action(async (name: string | undefined) => {
    const command = name === undefined ? program : program.commands.find((sub) => sub.name() === name);
    if (command === undefined) throw new UsageError(`there is no command ${name}`);
    const { manPage } = await import("../man.ts");
    terminal.stdout.write(manPage(program, command));
  });
