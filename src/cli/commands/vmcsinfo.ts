import { Argument, type Command, Option } from "commander";
import { UsageError } from "../../core/errors.ts";
import type { AttachOptions } from "../../jobs/vmcsinfo-attach.ts";
import type { ConvertOptions } from "../../jobs/vmcsinfo-write.ts";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { type HostFlags, hostOptionsOf, withHostOptions, withLayoutOption } from "./host-options.ts";
import { type VmcsInfoFlags, withVmcsInfoOptions } from "./vmcsinfo-options.ts";

const EXAMPLES = [
  "guestcore vmcsinfo show vmcore                            of the note in a dump",
  "guestcore vmcsinfo convert vmcsinfo.tar --to v2 -o note   of a saved sysfs tree",
  "guestcore vmcsinfo attach vmcore --from vmcsinfo.txt -o vmcore.with-note",
];

const SHOW_EXAMPLES = [
  "guestcore vmcsinfo show vmcore",
  "guestcore vmcsinfo show saved-sys/devices/system/cpu --numbers hex",
  "guestcore vmcsinfo show dmesg-with-rekall-profile.txt",
  "guestcore vmcsinfo show vmcore --json | jq '.result.fields[] | select(.name==\"GUEST_RIP\")'",
];

const CONVERT_EXAMPLES = [
  "guestcore vmcsinfo convert vmcore --to table -o -",
  "guestcore vmcsinfo convert vmcsinfo.txt --to v2 --note -o vmcsinfo.note",
  "guestcore vmcsinfo convert dmesg.txt --to json -o layout.json",
];

const ATTACH_EXAMPLES = [
  "guestcore vmcsinfo attach vmcore --from vmcsinfo.txt -o vmcore.with-note",
  "guestcore vmcsinfo attach core.qemu.zst --from other.vmcore --to v1 -o core.with-note",
  "guestcore vmcsinfo attach core.qemu --vmcs host.vmcore --guest 2 -o core.with-vmcs",
];

export const vmcsinfoCommand: AddCommand = (program, terminal) => {
  const command = withExamples(program.command("vmcsinfo"), EXAMPLES)
    .summary("read, convert and attach descriptions of VMCS layouts")
    .description(
      "Reads, converts and attaches VMCSINFO: where a processor keeps the fields of a VMCS region.",
    );
  addShow(command, terminal);
  addConvert(command, terminal);
  addAttach(command, terminal);
  return command;
};

const FROM = "dump with the note, a note, table or kernel log, or a saved sysfs tree (directory or tar)";

const addShow: AddCommand = (parent, terminal) =>
  withJobOptions(withVmcsInfoOptions(withExamples(parent.command("show"), SHOW_EXAMPLES)))
    .summary("show names, encodings, offsets and how sure they are")
    .description("Shows every field of VMCSINFO: name, encoding, width, offset, how sure it is, raw value.")
    .usage("FILE [options]")
    .addArgument(new Argument("<file>", FROM))
    .action((file: string, flags: ShowFlags) => show(file, flags, terminal));

type ShowFlags = JobFlags & VmcsInfoFlags;

async function show(file: string, flags: ShowFlags, terminal: Terminal): Promise<void> {
  prepareDelivery(flags, [file]);
  const [{ openVmcsInfo }, { showText, vmcsInfoJson }] = await Promise.all([
    import("../../jobs/vmcsinfo.ts"),
    import("../../report/vmcsinfo.ts"),
  ]);
  const context = jobContext(terminal, flags);
  const opened = await openVmcsInfo(file, flags, context);
  for (const warning of opened.warnings) context.warn(warning);
  deliver(
    terminal,
    flags,
    {
      kind: "vmcsinfo",
      inputs: [opened.input],
      warnings: opened.warnings,
      result: vmcsInfoJson(opened),
      text: showText(opened),
    },
    [file],
  );
}

type ConvertFlags = JobFlags &
  VmcsInfoFlags & {
    readonly to: ConvertOptions["to"];
    readonly output?: string;
    readonly note: boolean;
    readonly force: boolean;
  };

const addConvert: AddCommand = (parent, terminal) =>
  withJobOptions(withVmcsInfoOptions(withExamples(parent.command("convert"), CONVERT_EXAMPLES)))
    .summary("write VMCSINFO in another form")
    .description("Writes VMCSINFO in another form: the notes of 2012, an array, a table or JSON.")
    .usage("FILE --to FORM -o OUT [options]")
    .addArgument(new Argument("<file>", FROM))
    .addOption(
      new Option("--to <form>", "form to write")
        .choices(["v1", "v2", "array", "table", "json"])
        .makeOptionMandatory(),
    )
    .option("-o, --output <out>", 'the file to write, "-" for standard output')
    .option("--note", "with the header and name of an ELF note", false)
    .option("--force", "replace an existing output", false)
    .action((file: string, flags: ConvertFlags) => convert(file, flags, terminal));

async function convert(file: string, flags: ConvertFlags, terminal: Terminal): Promise<void> {
  const { output = outputMissing(), to, json, quiet } = flags;
  if (output === "-" && json) {
    throw new UsageError("--json and -o - both want standard output", { hint: "use --json-file FILE" });
  }
  const files = output === "-" ? [file] : [file, output];
  prepareDelivery(flags, files);
  const [{ convertVmcsInfo }, { convertJson, convertText, vmcsInfoJson }, { envelope }] = await Promise.all([
    import("../../jobs/vmcsinfo-write.ts"),
    import("../../report/vmcsinfo.ts"),
    import("../../report/json.ts"),
  ]);
  const { numbers, accessRights, note, force } = flags;
  const result = await convertVmcsInfo(
    { input: file, output, to, numbers, accessRights, note, force },
    jobContext(terminal, flags),
    (opened) => envelope("vmcsinfo", [opened.input], opened.warnings, vmcsInfoJson(opened)),
  );
  const product = { path: output, to };
  const text = convertText(result, product);
  if (output === "-" && !quiet) terminal.stderr.write(text);
  deliver(
    terminal,
    flags,
    {
      kind: "vmcsinfo",
      inputs: [result.opened.input],
      warnings: result.warnings,
      result: convertJson(result, product),
      text: output === "-" ? undefined : text,
    },
    files,
  );
}

interface AttachFlags extends JobFlags, HostFlags {
  readonly from?: string;
  readonly vmcs?: string;
  readonly guest?: string;
  readonly to: AttachOptions["to"];
  readonly output?: string;
  readonly replace: boolean;
  readonly force: boolean;
}

const addAttach: AddCommand = (parent, terminal) =>
  withJobOptions(
    withHostOptions(withLayoutOption(attachOptions(withExamples(parent.command("attach"), ATTACH_EXAMPLES)))),
  )
    .summary("add VMCSINFO and VMCSs to a vmcore or core as notes")
    .description(
      "Copies a vmcore or core with VMCSINFO as one more note; with --vmcs the core of a VMM's process gets the VMCS or VMCB of each vCPU too, out of its host's vmcore, for extract to read registers from. Everything else stays where it is.",
    )
    .usage("DUMP --from FILE | --vmcs HOST -o OUT [options]")
    .addArgument(new Argument("<dump>", "64-bit ELF vmcore or core, plain or compressed (.zst, .gz)"))
    .action((dump: string, flags: AttachFlags) => attach(dump, flags, terminal));

const attachOptions = (command: Command): Command =>
  command
    .option("--from <file>", FROM)
    .option("--vmcs <host>", "vmcore of the host that ran the process; its layout is written without --from")
    .addOption(new Option("--guest <n|name>", "which guest of that host, as `guests` lists them"))
    .option("-o, --output <out>", "the file to write")
    .addOption(new Option("--to <form>", "form of VMCSINFO").choices(["v1", "v2", "array"]).default("v2"))
    .option("--replace", "drop such notes that are there already", false)
    .option("--force", "replace an existing output", false);

async function attach(dump: string, flags: AttachFlags, terminal: Terminal): Promise<void> {
  const { output = outputMissing(), from, vmcs, vmcsinfo, to } = flags;
  if (output === "-") {
    throw new UsageError("attach writes a file, not standard output", { hint: "name one with -o OUT" });
  }
  const files = [dump, from, vmcs, vmcsinfo, output].filter((path) => path !== undefined);
  prepareDelivery(flags, files);
  const [{ attachVmcsInfo }, { attachJson, attachText }] = await Promise.all([
    import("../../jobs/vmcsinfo-attach.ts"),
    import("../../report/vmcsinfo-attach.ts"),
  ]);
  const { guest, numbers, accessRights, replace, force } = flags;
  const host = hostOptionsOf(flags);
  const result = await attachVmcsInfo(
    { dump, from, vmcs, guest, host, output, to, numbers, accessRights, replace, force },
    jobContext(terminal, flags),
  );
  const product = { path: output, to };
  const others = [result.regions?.input, result.vmcsinfo?.opened.input];
  const inputs = [result.input, ...others.filter((input) => input !== undefined)];
  deliver(
    terminal,
    flags,
    {
      kind: "vmcsinfo",
      inputs: inputs.filter(({ path }, i) => inputs.findIndex((input) => input.path === path) === i),
      warnings: result.warnings,
      result: attachJson(result, product),
      text: attachText(result, product),
    },
    files,
  );
}

function outputMissing(): never {
  throw new UsageError("no output given", { hint: "name one with -o OUT" });
}
