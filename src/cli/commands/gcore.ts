import { Argument, type Command, InvalidArgumentError, Option } from "commander";
import { UsageError } from "../../core/errors.ts";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { filesOf, type HostFlags, hostOptionsOf, withHostOptions, withLayoutOption } from "./host-options.ts";

const EXAMPLES = [
  "guestcore gcore vmcore --guest 1 -o core.qemu      the process that runs a guest",
  "guestcore gcore vmcore --guest web1 -o core.qemu   the same, by the guest's name",
  "guestcore gcore vmcore --guest 1 --dry-run         what would be written, and how much",
  "guestcore gcore vmcore --pid 1432 -o core.1432     any process of the host",
  "guestcore gcore vmcore --guest 1 -o core.qemu && guestcore extract core.qemu -o guest.vmcore",
];

interface GcoreFlags extends JobFlags, HostFlags {
  readonly guest?: string;
  readonly pid?: number;
  readonly output?: string;
  readonly dryRun: boolean;
  readonly force: boolean;
  readonly keepPartial: boolean;
}

export const gcoreCommand: AddCommand = (program, terminal) =>
  withJobOptions(
    withHostOptions(withLayoutOption(gcoreOptions(withExamples(program.command("gcore"), EXAMPLES)))),
  )
    .summary("write the core of a process, such as a guest's qemu, out of its host's vmcore")
    .description(
      "Writes a process of a host as an ELF core that gdb opens, out of the host's vmcore: threads, mapped files and all memory that is there. The core of a process that runs a guest carries the VMCS or VMCB of each vCPU, and extract takes the guest out of it.",
    )
    .usage("HOST --guest N|NAME | --pid P -o CORE [options]")
    .addArgument(new Argument("<host>", "vmcore of a host"))
    .action((host: string, flags: GcoreFlags) => run(host, flags, terminal));

const gcoreOptions = (command: Command): Command =>
  command
    .addOption(
      new Option("--guest <n>", "the process of a guest, by its number in `guests` or its name").conflicts(
        "pid",
      ),
    )
    .addOption(new Option("--pid <p>", "the process with a thread of this PID").argParser(processId))
    .option("-o, --output <core>", 'the core to write, "-" for standard output')
    .option("--dry-run", "print what is there and the bytes needed, write nothing", false)
    .option("--force", "replace an existing output", false)
    .option("--keep-partial", "after a failure keep what was written, as CORE.incomplete", false);

async function run(host: string, flags: GcoreFlags, terminal: Terminal): Promise<void> {
  const { output, dryRun, force, keepPartial, guest, pid } = flags;
  if (output === undefined && !dryRun && (guest !== undefined || pid !== undefined)) {
    throw new UsageError("no output given", { hint: "name one with -o CORE, or look first with --dry-run" });
  }
  const toStdout = output === "-" && !dryRun;
  if (toStdout && flags.json) {
    throw new UsageError("--json and -o - both want standard output", { hint: "use --json-file FILE" });
  }
  if (toStdout && terminal.stdout.isTTY === true) {
    throw new UsageError("a core is nothing for a terminal", {
      hint: "pipe it somewhere, or name a file with -o CORE",
    });
  }
  const files = [...filesOf(host, flags), ...(output === undefined ? [] : [output])];
  prepareDelivery(flags, files);
  const [{ gcore }, { gcoreJson, gcoreText }] = await Promise.all([
    import("../../jobs/gcore.ts"),
    import("../../report/gcore.ts"),
  ]);
  const began = terminal.now();
  const result = await gcore(
    { input: host, guest, pid, output, dryRun, force, keepPartial, host: hostOptionsOf(flags) },
    jobContext(terminal, flags),
  );
  const text = gcoreText(result, (terminal.now() - began) / 1000);
  // With the core on standard output the summary goes to stderr.
  if (toStdout && !flags.quiet) terminal.stderr.write(text);
  deliver(
    terminal,
    flags,
    {
      kind: "gcore",
      inputs: [result.input],
      warnings: result.warnings,
      result: gcoreJson(result),
      text: toStdout ? undefined : text,
    },
    files,
  );
}

/** @throws InvalidArgumentError, which commander turns into a usage error */
function processId(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError("it is a number from 1.");
  return Number(text);
}
