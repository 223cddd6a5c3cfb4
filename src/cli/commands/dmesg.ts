import { Argument, InvalidArgumentError } from "commander";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { filesOf, type HostFlags, hostOptionsOf, withHostOptions, withLayoutOption } from "./host-options.ts";

const EXAMPLES = [
  "guestcore dmesg vmcore                         the dumped machine's own kernel log",
  "guestcore dmesg vmcore --guest 1 --last 40     the end of the log of a guest of that host",
  "guestcore dmesg vmcore --follow-crash          from the first line of the last crash on",
  "guestcore dmesg core.qemu --decode             of the guest in the core of a qemu process",
];

interface DmesgCommandFlags extends JobFlags, HostFlags {
  readonly guest: string | undefined;
  readonly last: number | undefined;
  readonly followCrash: boolean;
  readonly decode: boolean;
  readonly force: boolean;
}

export const dmesgCommand: AddCommand = (program, terminal) =>
  withJobOptions(withHostOptions(withLayoutOption(withExamples(program.command("dmesg"), EXAMPLES))))
    .summary("print the kernel log of a dumped machine or guest")
    .description(
      "Prints the kernel log of a dumped machine, of a guest of a dumped host, or of the guest in the core of a\nqemu process. VMCOREINFO says where it is; no vmlinux is needed.",
    )
    .usage("FILE [options]")
    .addArgument(new Argument("<file>", "vmcore, or core of a qemu process"))
    .option("--guest <n|name>", "of a host's vmcore the log of this guest")
    .option("--last <n>", "the last N records only", count)
    .option(
      "--follow-crash",
      "from the last oops, BUG, panic, lockup, stall or WARNING to the end only",
      false,
    )
    .option("--decode", "begin each line with the level's name", false)
    .option("--force", "replace an existing --json-file", false)
    .action((file: string, flags: DmesgCommandFlags) => run(file, flags, terminal));

function count(value: string): number {
  if (!/^[1-9]\d{0,6}$/.test(value)) throw new InvalidArgumentError("It is a number from 1 on.");
  return Number(value);
}

async function run(path: string, flags: DmesgCommandFlags, terminal: Terminal): Promise<void> {
  const files = filesOf(path, flags);
  prepareDelivery(flags, files);
  const [{ kernelLog }, { dmesgJson, dmesgText }] = await Promise.all([
    import("../../jobs/dmesg.ts"),
    import("../../report/dmesg.ts"),
  ]);
  const options = { guest: flags.guest, host: hostOptionsOf(flags), followCrash: flags.followCrash };
  const result = await kernelLog(path, options, jobContext(terminal, flags));
  deliver(
    terminal,
    flags,
    {
      kind: "dmesg",
      inputs: [result.input],
      warnings: result.warnings,
      result: dmesgJson(result, flags),
      text: dmesgText(result, flags),
    },
    files,
  );
}
