import { Argument } from "commander";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";

const EXAMPLES = [
  "guestcore vmcs parse-dmesg dmesg.txt          every dump in the log, and what is inconsistent",
  "guestcore vmcs parse-dmesg kern.log.gz --all",
  "journalctl -k -b -1 | guestcore vmcs parse-dmesg -",
  "guestcore vmcs parse-dmesg dmesg.txt --json | jq '.result.dumps[].vmcs.checks.violations'",
];

interface DmesgFlags extends JobFlags {
  readonly all: boolean;
  readonly force: boolean;
}

/** Adds `parse-dmesg` to `vmcs`. */
export const vmcsDmesgCommand: AddCommand = (vmcs, terminal) =>
  withJobOptions(withExamples(vmcs.command("parse-dmesg"), EXAMPLES))
    .summary("decode and check the VMCS and VMCB dumps in a kernel log")
    .description(
      "Decodes the VMCS and VMCB dumps that KVM or Xen print into a kernel log when VM entry fails, and checks each VMCS by the rules of VM entry.",
    )
    .usage("LOG [options]")
    .addArgument(new Argument("<log>", "dmesg, journal or console log, or - for standard input"))
    .option("--all", "show unused fields that are 0, too", false)
    .option("--force", "replace an existing --json-file", false)
    .action((log: string, flags: DmesgFlags) => run(log, flags, terminal));

async function run(log: string, flags: DmesgFlags, terminal: Terminal): Promise<void> {
  const files = log === "-" ? [] : [log];
  prepareDelivery(flags, files);
  const [{ vmcsDmesg }, { vmcsDmesgJson, vmcsDmesgText }] = await Promise.all([
    import("../../jobs/vmcs-dmesg.ts"),
    import("../../report/vmcs-dmesg.ts"),
  ]);
  const context = jobContext(terminal, flags);
  const result = await vmcsDmesg(log, context);
  for (const warning of result.warnings) context.warn(warning);
  deliver(
    terminal,
    flags,
    {
      kind: "vmcs-dmesg",
      inputs: [result.input],
      warnings: result.warnings,
      result: vmcsDmesgJson(result),
      text: vmcsDmesgText(result, flags.all),
    },
    files,
  );
}
