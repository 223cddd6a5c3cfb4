import { type Command, Option } from "commander";

/** What VMCSINFO does not say itself; every command that reads it takes these. */
export interface VmcsInfoFlags {
  readonly numbers?: "hex" | "decimal";
  readonly accessRights?: "plain" | "rotated" | "packed";
}

export const withVmcsInfoOptions = (command: Command): Command =>
  command
    .addOption(new Option("--numbers <base>", "how numbers without 0x are meant").choices(["hex", "decimal"]))
    .addOption(
      new Option("--access-rights <form>", "how access rights are stored").choices([
        "plain",
        "rotated",
        "packed",
      ]),
    );
