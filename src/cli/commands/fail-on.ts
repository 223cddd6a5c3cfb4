import { type Command, Option } from "commander";
import { FAIL_ON } from "../../report/triage-finding.ts";

export interface FailOnFlags {
  readonly failOn: (typeof FAIL_ON)[number];
}

/** `--fail-on` of every command of triage. */
export const withFailOn = (command: Command): Command =>
  command.addOption(
    new Option("--fail-on <severity>", "exit with 1 for findings as bad as this, or worse")
      .choices(FAIL_ON)
      .default("panic"),
  );
