import { Argument, Option } from "commander";
import { UsageError } from "../../core/errors.ts";
import type { InferOptions } from "../../jobs/infer-layout.ts";
import {
  type JobFlags,
  jobContext,
  type ResultFlags,
  withJobOptions,
  withResultOptions,
} from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { ToldError } from "../errors.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { type DumpFlags, dumpNamingOf, withDumpOptions } from "./dump-options.ts";
import { withKernelFileOptions } from "./host-options.ts";
import { type VmcsInfoFlags, withVmcsInfoOptions } from "./vmcsinfo-options.ts";

const EXAMPLES = [
  "guestcore vmcs layout list",
  "guestcore vmcs layout show haswell",
  "guestcore vmcs layout check my-cpu.txt",
  "guestcore vmcs layout infer host.vmcore -o my-cpu.txt",
];

const LIST_EXAMPLES = [
  "guestcore vmcs layout list",
  "guestcore vmcs layout list --json | jq -r '.result.layouts[] | select(.revisionId==18).name'",
];

const SHOW_EXAMPLES = [
  "guestcore vmcs layout show penryn",
  "guestcore vmcs layout show vmcsinfo.txt                 a layout of your own",
  "guestcore vmcs layout show kvm-vmcs12 --json > layout.json",
];

const CHECK_EXAMPLES = [
  "guestcore vmcs layout check my-cpu.txt && echo usable",
  "guestcore vmcs layout check skylake",
];

const INFER_EXAMPLES = [
  "guestcore vmcs layout infer host.vmcore -o my-cpu.txt",
  "guestcore vmcs layout infer host.vmcore -o my-cpu.txt --certain    what is beyond doubt alone",
  "guestcore vmcs layout infer host.vmcore --to v2 -o vmcsinfo.note",
  "guestcore vmcs layout infer host.vmcore --json | jq '.result.open[].name'",
];

/** Adds `layout` with its subcommands to `guestcore vmcs`. */
export const vmcsLayoutCommand: AddCommand = (vmcs, terminal) => {
  const command = withExamples(vmcs.command("layout"), EXAMPLES)
    .summary("list, show, check and infer VMCS layouts")
    .description(
      "Lists, shows, checks and infers layouts: where a processor or hypervisor keeps the fields of a VMCS region.",
    );
  addList(command, terminal);
  addShow(command, terminal);
  addCheck(command, terminal);
  addInfer(command, terminal);
  return command;
};

const addList: AddCommand = (parent, terminal) =>
  withResultOptions(withExamples(parent.command("list"), LIST_EXAMPLES))
    .summary("list the known layouts")
    .description("Lists the known layouts: name, kind, revision, fields, access rights, how sure they are.")
    .action((flags: ResultFlags) => list(flags, terminal));

async function list(flags: ResultFlags, terminal: Terminal): Promise<void> {
  prepareDelivery(flags, []);
  const [{ knownLayouts }, { layoutsJson, layoutsText }] = await Promise.all([
    import("../../jobs/vmcsinfo.ts"),
    import("../../report/vmcs-layout.ts"),
  ]);
  const layouts = knownLayouts();
  deliver(
    terminal,
    flags,
    {
      kind: "vmcs-layout",
      inputs: [],
      warnings: [],
      result: layoutsJson(layouts),
      text: layoutsText(layouts),
    },
    [],
  );
}

type LayoutFlags = JobFlags & VmcsInfoFlags;

const LAYOUT = "name of a known layout, or a file that vmcsinfo show reads";

const addShow: AddCommand = (parent, terminal) =>
  withJobOptions(withVmcsInfoOptions(withExamples(parent.command("show"), SHOW_EXAMPLES)))
    .summary("show the fields of a layout")
    .description("Shows the fields of a layout by offset.")
    .usage("LAYOUT [options]")
    .addArgument(new Argument("<layout>", LAYOUT))
    .action((name: string, flags: LayoutFlags) => show(name, flags, terminal));

async function show(name: string, flags: LayoutFlags, terminal: Terminal): Promise<void> {
  const { opened, inputs, warnings } = await open(name, flags, terminal);
  const { layoutJson, layoutText } = await import("../../report/vmcs-layout.ts");
  deliver(
    terminal,
    flags,
    { kind: "vmcs-layout", inputs, warnings, result: layoutJson(opened), text: layoutText(opened) },
    [name],
  );
}

async function open(name: string, flags: LayoutFlags, terminal: Terminal) {
  prepareDelivery(flags, [name]);
  const { openLayout } = await import("../../jobs/vmcsinfo.ts");
  const context = jobContext(terminal, flags);
  const opened = await openLayout(name, flags, context);
  const warnings = opened.opened?.warnings ?? [];
  for (const warning of warnings) context.warn(warning);
  return { opened, inputs: opened.opened === undefined ? [] : [opened.opened.input], warnings };
}

const addCheck: AddCommand = (parent, terminal) =>
  withJobOptions(withVmcsInfoOptions(withExamples(parent.command("check"), CHECK_EXAMPLES)))
    .summary("look for contradictions and gaps in a layout")
    .description(
      "Looks for overlaps, impossible encodings, places outside of a region, and fields that decoding needs.\nExits with 1 when there is any.",
    )
    .usage("LAYOUT [options]")
    .addArgument(new Argument("<layout>", LAYOUT))
    .action((name: string, flags: LayoutFlags) => check(name, flags, terminal));

async function check(name: string, flags: LayoutFlags, terminal: Terminal): Promise<void> {
  const { opened, inputs, warnings } = await open(name, flags, terminal);
  const [{ findingsOf }, { checkJson, checkText }] = await Promise.all([
    import("../../jobs/vmcsinfo.ts"),
    import("../../report/vmcs-layout.ts"),
  ]);
  const findings = findingsOf(opened);
  deliver(
    terminal,
    flags,
    {
      kind: "vmcs-layout",
      inputs,
      warnings,
      result: checkJson(opened, findings),
      text: checkText(opened, findings),
    },
    [name],
  );
  if (findings.length > 0) throw new ToldError(1);
}

interface InferFlags extends JobFlags, DumpFlags {
  readonly output?: string;
  readonly to: InferOptions["to"];
  readonly certain: boolean;
  readonly force: boolean;
  readonly btf?: string;
  readonly vmlinux?: string;
}

const addInfer: AddCommand = (parent, terminal) =>
  withJobOptions(
    withKernelFileOptions(withDumpOptions(withExamples(parent.command("infer"), INFER_EXAMPLES))),
  )
    .summary("find out the layout of a host's processor from its vmcore")
    .description(
      "Finds out where a host's Intel processor keeps VMCS fields, from what its KVM knows to be in the VMCSs of its vCPUs, for a processor whose layout nobody published; says of each field how sure it is. The host must have had guests.",
    )
    .usage("HOST [-o OUT] [options]")
    .addArgument(new Argument("<host>", "vmcore of a host"))
    .option("-o, --output <out>", 'write VMCSINFO for --vmcsinfo, "-" for standard output')
    .addOption(
      new Option("--to <form>", "form to write")
        .choices(["v1", "v2", "array", "table", "json"])
        .default("table"),
    )
    .option("--certain", "write only fields that are certain", false)
    .option("--force", "replace an existing output", false)
    .action((host: string, flags: InferFlags) => infer(host, flags, terminal));

async function infer(host: string, flags: InferFlags, terminal: Terminal): Promise<void> {
  const { output, to, certain, force, json, quiet, btf, vmlinux } = flags;
  if (output === "-" && json) {
    throw new UsageError("--json and -o - both want standard output", { hint: "use --json-file FILE" });
  }
  const written = output === undefined || output === "-" ? [] : [output];
  const named = [btf, vmlinux].filter((file) => file !== undefined);
  const files = [host, ...flags.part, ...named, ...written];
  prepareDelivery(flags, files);
  const [{ inferHostLayout }, { inferJson, inferText }, { vmcsInfoJson }, { envelope }] = await Promise.all([
    import("../../jobs/infer-layout.ts"),
    import("../../report/infer-layout.ts"),
    import("../../report/vmcsinfo.ts"),
    import("../../report/json.ts"),
  ]);
  const result = await inferHostLayout(
    host,
    { output, to, onlyCertain: certain, force, btf, vmlinux, ...dumpNamingOf(flags) },
    jobContext(terminal, flags),
    (opened) => envelope("vmcsinfo", [opened.input], opened.warnings, vmcsInfoJson(opened)),
  );
  const product = output === undefined ? undefined : { path: output, to };
  const text = inferText(result, product);
  if (output === "-" && !quiet) terminal.stderr.write(text);
  deliver(
    terminal,
    flags,
    {
      kind: "vmcs-layout",
      inputs: [result.input],
      warnings: result.warnings,
      result: inferJson(result, product),
      text: output === "-" ? undefined : text,
    },
    files,
  );
}
