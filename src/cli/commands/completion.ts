import { Argument } from "commander";
import { completionScript, SHELLS, type Shell } from "../completion.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand } from "../terminal.ts";

const EXAMPLES = [
  "source <(guestcore completion bash)",
  "guestcore completion zsh > ~/.zfunc/_guestcore     with ~/.zfunc in $fpath",
  "guestcore completion fish > ~/.config/fish/completions/guestcore.fish",
];

export const completionCommand: AddCommand = (program, terminal) =>
  withExamples(program.command("completion"), EXAMPLES)
    .summary("print a completion script for a shell")
    .description("Prints a script that teaches a shell the commands and options of guestcore.")
    .addArgument(new Argument("<shell>", "which shell").choices(SHELLS))
    .action((shell: Shell) => {
      terminal.stdout.write(completionScript(shell, program));
    });
