import { Argument } from "commander";
import { GuestcoreError, InterruptedError, UsageError } from "../../core/errors.ts";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { ToldError, tell } from "../errors.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { type DumpFlags, dumpNamingOf, dumpWordsOf, filesOfDump, withDumpOptions } from "./dump-options.ts";

const EXAMPLES = [
  "guestcore info core.qemu                    what it is, whether it is whole, what to do with it",
  "guestcore info /var/crash/*/vmcore",
  "guestcore info vmcore --json | jq -r .result.vmcore.vmcoreinfo.keys.OSRELEASE",
];

interface InfoFlags extends JobFlags, DumpFlags {
  readonly segments: boolean;
  readonly force: boolean;
}

export const infoCommand: AddCommand = (program, terminal) =>
  withJobOptions(withDumpOptions(withExamples(program.command("info"), EXAMPLES)))
    .summary("say what a file is, whether it is whole, and what to do with it")
    .description("Says what a file is, whether it is whole, and what to do with it.")
    .usage("FILE... [options]")
    .addArgument(new Argument("<file...>", "core, vmcore or any other dump"))
    .option("--segments", "list every segment, not only a summary", false)
    .option("--force", "replace an existing --json-file", false)
    .action((files: string[], flags: InfoFlags) => run(files, flags, terminal));

/** One file that cannot be read does not keep the others from being looked at. */
async function run(files: readonly string[], flags: InfoFlags, terminal: Terminal): Promise<void> {
  if (files.length > 1 && flags.jsonFile !== undefined) {
    throw new UsageError("--json-file takes one file at a time", { hint: "--json prints one object a file" });
  }
  prepareDelivery(flags, [...files, ...filesOfDump(flags)]);
  let exitCode = 0;
  for (const file of files) {
    try {
      await show(file, flags, terminal);
    } catch (error) {
      const goesOn = error instanceof GuestcoreError && !(error instanceof InterruptedError);
      if (files.length === 1 || !goesOn) throw error;
      const status = tell(error, flags, terminal);
      exitCode ||= status;
    }
  }
  if (exitCode > 0) throw new ToldError(exitCode);
}

async function show(file: string, flags: InfoFlags, terminal: Terminal): Promise<void> {
  const [{ inspect }, { infoJson, infoText }] = await Promise.all([
    import("../../jobs/inspect.ts"),
    import("../../report/info.ts"),
  ]);
  const context = jobContext(terminal, flags);
  const result = await inspect(file, context, dumpNamingOf(flags));
  const words = dumpWordsOf(flags);
  for (const warning of result.warnings) context.warn(warning);
  deliver(
    terminal,
    flags,
    {
      kind: "info",
      inputs: [result.input],
      warnings: result.warnings,
      result: infoJson(result, words),
      text: infoText(result, flags.segments, words),
    },
    [file, ...filesOfDump(flags)],
  );
}
