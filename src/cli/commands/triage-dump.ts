import { Argument } from "commander";
import { jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { ToldError } from "../errors.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { filesOf, type HostFlags, hostOptionsOf, withHostOptions, withLayoutOption } from "./host-options.ts";
import { type HardwareFlags, withHardwareOptions } from "./triage-hardware-options.ts";

const EXAMPLES = [
  "guestcore triage dump vmcore                   why the dumped machine stopped",
  "guestcore triage dump core.qemu                the guest of a qemu process",
  "guestcore triage dump vmcore --guest web1 --json   a guest in its host's memory",
];

interface DumpFlags extends HardwareFlags, HostFlags {
  readonly guest: string | undefined;
}

export const triageDumpCommand: AddCommand = (program, terminal) =>
  withJobOptions(
    withHostOptions(
      withLayoutOption(withHardwareOptions(withExamples(program.command("dump"), EXAMPLES))).option(
        "--guest <n|name>",
        "of a host's vmcore this guest",
      ),
    ),
  )
    .summary("say what a dump tells of why its machine stopped")
    .description(
      "Says what the dump of a machine, a guest of a dumped host, or the guest in the core of a qemu process tells\nof why it stopped: the kernel's log and variables, and the states of its processors. Exits with 1 for\nfindings as bad as --fail-on.",
    )
    .usage("FILE [options]")
    .addArgument(new Argument("<file>", "vmcore, or core of a qemu process"))
    .action((file: string, flags: DumpFlags) => run(file, flags, terminal));

/** @throws ToldError when a finding is as bad as asked for */
async function run(path: string, flags: DumpFlags, terminal: Terminal): Promise<void> {
  const files = filesOf(path, flags);
  prepareDelivery(flags, files);
  const [{ triageDump }, { consoleText }, { triageDumpJson, triageDumpText }, { isFailure }] =
    await Promise.all([
      import("../../jobs/triage-dump.ts"),
      import("../../jobs/console-text.ts"),
      import("../../report/triage-dump.ts"),
      import("../../report/triage-hardware.ts"),
    ]);
  const options = { guest: flags.guest, host: hostOptionsOf(flags), console: consoleText };
  const result = await triageDump(path, options, jobContext(terminal, flags));
  deliver(
    terminal,
    flags,
    {
      kind: "triage-dump",
      inputs: [result.input],
      warnings: result.warnings,
      result: triageDumpJson(result),
      text: triageDumpText(result),
    },
    files,
  );
  if (isFailure([result], flags.failOn)) throw new ToldError(1);
}
