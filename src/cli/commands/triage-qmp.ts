import { Argument } from "commander";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { ToldError } from "../errors.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { type FailOnFlags, withFailOn } from "./fail-on.ts";

const EXAMPLES = [
  "guestcore triage qmp qmp.jsonl                 panicked, crash loaded, or a silent reboot?",
  "guestcore triage qmp qmp.jsonl --cmdline /proc/4711/cmdline --explain",
  "guestcore triage qmp /var/log/libvirt/qemu/web1.log --fail-on hang",
  "virsh qemu-monitor-event web1 --loop --timestamp | guestcore triage qmp -",
];

interface QmpFlags extends JobFlags, FailOnFlags {
  readonly cmdline?: string;
  readonly explain: boolean;
  readonly force: boolean;
}

/** Adds `qmp` to `triage`. */
export const triageQmpCommand: AddCommand = (triage, terminal) =>
  withFailOn(withJobOptions(withExamples(triage.command("qmp"), EXAMPLES)))
    .summary("what QEMU said of a guest, event by event, and what it means")
    .description(
      "Reads QMP messages as a client, libvirt, virsh or strace logged them, a libvirt domain log, QEMU's\nstandard error, or a trace of I/O ports; replays the machine's run states, and says whether the guest\npanicked, went over to its crash kernel, reset itself, hung, or was stopped, and by whom.\nExits with 1 when a finding is as bad as --fail-on, or worse.",
    )
    .usage("FILE... [options]")
    .addArgument(new Argument("<file...>", "logs, plain or compressed (.zst, .gz), or - for standard input"))
    .option("--cmdline <file>", "QEMU's command line, as a shell or /proc/PID/cmdline has it")
    .option(
      "--explain",
      "which panic devices, actions and events this QEMU has, and whether cont works",
      false,
    )
    .option("--force", "replace an existing --json-file", false)
    .action((files: string[], flags: QmpFlags) => run(files, flags, terminal));

async function run(paths: readonly string[], flags: QmpFlags, terminal: Terminal): Promise<void> {
  const { cmdline, explain, failOn } = flags;
  const files = [...paths, ...(cmdline === undefined ? [] : [cmdline])].filter((path) => path !== "-");
  prepareDelivery(flags, files);
  const [{ reaches, triageQmp }, { triageQmpJson, triageQmpText }] = await Promise.all([
    import("../../jobs/triage-qmp.ts"),
    import("../../report/triage-qmp.ts"),
  ]);
  const context = jobContext(terminal, flags);
  const result = await triageQmp(paths, { cmdline }, context);
  for (const warning of result.warnings) context.warn(warning);
  deliver(
    terminal,
    flags,
    {
      kind: "triage-qmp",
      inputs: [
        ...result.files.map(({ input }) => input),
        ...(result.cmdline === undefined ? [] : [result.cmdline]),
      ],
      warnings: result.warnings,
      result: triageQmpJson(result, { explain }),
      text: triageQmpText(result, { explain }),
    },
    files,
  );
  if (reaches(result, failOn)) throw new ToldError(1);
}
