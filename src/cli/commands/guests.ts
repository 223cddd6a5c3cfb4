import { Argument } from "commander";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import {
  filesOf,
  type HostFlags,
  hostOptionsOf,
  hostWordsOf,
  withHostOptions,
  withLayoutOption,
} from "./host-options.ts";

const EXAMPLES = [
  "guestcore guests vmcore",
  "guestcore guests vmcore --check",
  "guestcore guests vmcore --vmcsinfo saved-vmcsinfo.txt",
  "guestcore guests vmcore --json | jq '.result.guests[].linux.release.value'",
];

interface GuestsFlags extends JobFlags, HostFlags {
  readonly check: boolean;
  readonly force: boolean;
}

export const guestsCommand: AddCommand = (program, terminal) =>
  withJobOptions(withHostOptions(withLayoutOption(withExamples(program.command("guests"), EXAMPLES))))
    .summary("list the guests in the vmcore of a host")
    .description("Lists the virtual machines in the vmcore of a KVM host: vCPUs, memory, kernel inside.")
    .usage("HOST [options]")
    .addArgument(new Argument("<host>", "vmcore of a host"))
    .option("--check", "compare memslots with second-level tables, page by page", false)
    .option("--force", "replace an existing --json-file", false)
    .action((host: string, flags: GuestsFlags) => run(host, flags, terminal));

async function run(path: string, flags: GuestsFlags, terminal: Terminal): Promise<void> {
  const files = filesOf(path, flags);
  prepareDelivery(flags, files);
  const [{ listGuests }, { guestsJson, guestsText }] = await Promise.all([
    import("../../jobs/guests.ts"),
    import("../../report/guests.ts"),
  ]);
  const result = await listGuests(
    path,
    { ...hostOptionsOf(flags), check: flags.check },
    jobContext(terminal, flags),
  );
  deliver(
    terminal,
    flags,
    {
      kind: "guests",
      inputs: [result.input],
      warnings: result.warnings,
      result: guestsJson(result),
      text: guestsText(result, hostWordsOf(flags)),
    },
    files,
  );
}
