import { Argument, type Command } from "commander";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { filesOf, type HostFlags, hostOptionsOf, withHostOptions, withLayoutOption } from "./host-options.ts";
import { vmcsDmesgCommand } from "./vmcs-dmesg.ts";
import { vmcsLayoutCommand } from "./vmcs-layout.ts";

const EXAMPLES = [
  "guestcore vmcs list vmcore                     every VMCS and VMCB in a host's memory",
  "guestcore vmcs show vmcore 1:0                 vCPU 0 of guest 1, field by field",
  "guestcore vmcs parse-dmesg dmesg.txt           what KVM printed of a VMCS it could not enter",
];

const LIST_EXAMPLES = [
  "guestcore vmcs list vmcore",
  "guestcore vmcs list vmcore --reasons           and every check that was made",
  "guestcore vmcs list vmcore --layout haswell --json | jq '.result.blocks[].address'",
];

export const vmcsCommand: AddCommand = (program, terminal) => {
  const command = withExamples(program.command("vmcs"), EXAMPLES)
    .summary("find and decode the VMCSs and VMCBs in a host's vmcore")
    .description("Finds and decodes the control blocks of a host's vCPUs: Intel's VMCS, AMD's VMCB.");
  addList(command, terminal);
  addShow(command, terminal);
  addDiff(command, terminal);
  vmcsDmesgCommand(command, terminal);
  vmcsLayoutCommand(command, terminal);
  return command;
};

interface ListFlags extends JobFlags, HostFlags {
  readonly reasons: boolean;
  readonly force: boolean;
}

const addList: AddCommand = (parent, terminal): Command =>
  withJobOptions(withHostOptions(withLayoutOption(withExamples(parent.command("list"), LIST_EXAMPLES))))
    .summary("list every VMCS and VMCB, and what each is")
    .description("Scans the memory of a host and lists every VMCS and VMCB: address, vCPU, score, last exit.")
    .usage("HOST [options]")
    .addArgument(new Argument("<host>", "vmcore of a host"))
    .option("--reasons", "list the checks behind each score", false)
    .option("--force", "replace an existing --json-file", false)
    .action((host: string, flags: ListFlags) => list(host, flags, terminal));

async function list(path: string, flags: ListFlags, terminal: Terminal): Promise<void> {
  const files = filesOf(path, flags);
  prepareDelivery(flags, files);
  const [{ listVmcs }, { vmcsListJson, vmcsListText }] = await Promise.all([
    import("../../jobs/vmcs.ts"),
    import("../../report/vmcs-list.ts"),
  ]);
  const result = await listVmcs(path, hostOptionsOf(flags), jobContext(terminal, flags));
  deliver(
    terminal,
    flags,
    {
      kind: "vmcs-list",
      inputs: [result.input],
      warnings: result.warnings,
      result: vmcsListJson(result),
      text: vmcsListText(result, flags.reasons),
    },
    files,
  );
}

const SHOW_EXAMPLES = [
  "guestcore vmcs show vmcore 1:0                 vCPU 0 of guest 1",
  "guestcore vmcs show vmcore 0x2549000 --bytes   the region there, and how it is stored",
  "guestcore vmcs show vmcore 1:0 --json | jq '.result.checks.violations'",
];

interface ShowFlags extends JobFlags, HostFlags {
  readonly bytes: boolean;
  readonly all: boolean;
  readonly force: boolean;
}

const WHICH = "GUEST:VCPU, or the address of a page in hexadecimal";

const addShow: AddCommand = (parent, terminal): Command =>
  withJobOptions(withHostOptions(withLayoutOption(withExamples(parent.command("show"), SHOW_EXAMPLES))))
    .summary("decode and check one VMCS or VMCB, field by field")
    .description("Decodes one VMCS or VMCB field by field, and checks it by the rules of VM entry.")
    .usage("HOST WHICH [options]")
    .addArgument(new Argument("<host>", "vmcore of a host"))
    .addArgument(new Argument("<which>", WHICH))
    .option("--bytes", "show the stored bytes beside each value, and bytes that no field covers", false)
    .option("--all", "show fields that are not used and 0, too", false)
    .option("--force", "replace an existing --json-file", false)
    .action((host: string, which: string, flags: ShowFlags) => show(host, which, flags, terminal));

async function show(path: string, which: string, flags: ShowFlags, terminal: Terminal): Promise<void> {
  const files = filesOf(path, flags);
  prepareDelivery(flags, files);
  const [{ showVmcs }, { blockJson, blockKind, blockText }] = await Promise.all([
    import("../../jobs/vmcs.ts"),
    import("../../report/vmcs-block.ts"),
  ]);
  const result = await showVmcs(path, [which], hostOptionsOf(flags), jobContext(terminal, flags));
  const [shown] = result.shown;
  if (shown === undefined) return;
  deliver(
    terminal,
    flags,
    {
      kind: blockKind(shown),
      inputs: [result.input],
      warnings: result.warnings,
      result: blockJson(shown),
      text: blockText(shown, flags),
    },
    files,
  );
}

const DIFF_EXAMPLES = [
  "guestcore vmcs diff vmcore 1:0 1:1             what differs between two vCPUs of a guest",
  "guestcore vmcs diff vmcore 1:0 0x2549000 --all",
];

const addDiff: AddCommand = (parent, terminal): Command =>
  withJobOptions(withHostOptions(withLayoutOption(withExamples(parent.command("diff"), DIFF_EXAMPLES))))
    .summary("show what differs between two VMCSs or VMCBs")
    .description(
      "Shows the fields that differ between two VMCSs or VMCBs of a host, bit by bit where they have bits.",
    )
    .usage("HOST ONE OTHER [options]")
    .addArgument(new Argument("<host>", "vmcore of a host"))
    .addArgument(new Argument("<one>", WHICH))
    .addArgument(new Argument("<other>", WHICH))
    .option("--all", "show fields that neither uses, too", false)
    .option("--force", "replace an existing --json-file", false)
    .action((host: string, one: string, other: string, flags: ShowFlags) =>
      diff(host, [one, other], flags, terminal),
    );

async function diff(
  path: string,
  names: readonly [string, string],
  flags: ShowFlags,
  terminal: Terminal,
): Promise<void> {
  const files = filesOf(path, flags);
  prepareDelivery(flags, files);
  const [{ diffVmcs }, { diffReport }] = await Promise.all([
    import("../../jobs/vmcs.ts"),
    import("../../report/vmcs-block.ts"),
  ]);
  const result = await diffVmcs(path, names, hostOptionsOf(flags), jobContext(terminal, flags));
  const { input, warnings } = result;
  deliver(terminal, flags, { inputs: [input], warnings, ...diffReport(result, flags.all) }, files);
}
