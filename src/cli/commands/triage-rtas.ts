import { Argument } from "commander";
import { jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { ToldError } from "../errors.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { checkPaths, type HardwareFlags, withHardwareOptions } from "./triage-hardware-options.ts";

const EXAMPLES = [
  "guestcore triage rtas error_log                a copy of /proc/powerpc/rtas/error_log, or nvram's",
  "guestcore triage rtas console.log --explain    words printed with rtasmsgs=on; who handles what",
  "dmesg | guestcore triage rtas - --fail-on warning",
];

interface RtasFlags extends HardwareFlags {
  readonly explain: boolean;
}

export const triageRtasCommand: AddCommand = (program, terminal) =>
  withJobOptions(withHardwareOptions(withExamples(program.command("rtas"), EXAMPLES)))
    .summary("decode POWER's RTAS error logs: machine checks, power, platform events")
    .description(
      "Decodes RTAS error logs of POWER guests, section by section: as bytes, as words in a kernel's log, as\nrecords of nvram or pstore, or in memory. Exits with 1 for findings as bad as --fail-on.",
    )
    .usage("FILE… [options]")
    .addArgument(
      new Argument("<file...>", "logs as bytes or text, plain or compressed; - for standard input"),
    )
    .option("--explain", "what becomes of a machine check, by the age of host and QEMU", false)
    .action((files: string[], flags: RtasFlags) => run(files, flags, terminal));

/** @throws ToldError when a finding is as bad as asked for */
async function run(paths: readonly string[], flags: RtasFlags, terminal: Terminal): Promise<void> {
  checkPaths(paths);
  prepareDelivery(flags, paths);
  const [{ triageRtas }, { triageRtasJson, triageRtasText }, { isFailure }] = await Promise.all([
    import("../../jobs/triage-rtas.ts"),
    import("../../report/triage-rtas.ts"),
    import("../../report/triage-hardware.ts"),
  ]);
  const result = await triageRtas(paths, jobContext(terminal, flags));
  deliver(
    terminal,
    flags,
    {
      kind: "triage-rtas",
      inputs: result.files.map(({ input }) => input),
      warnings: result.warnings,
      result: triageRtasJson(result, flags),
      text: triageRtasText(result, flags),
    },
    paths,
  );
  const detected = result.files.map((file) => file.detected);
  if (isFailure(detected, flags.failOn)) throw new ToldError(1);
}
