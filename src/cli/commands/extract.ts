import { Argument, type Command, Option } from "commander";
import { GapsError, UsageError } from "../../core/errors.ts";
import type { ExtractResult } from "../../jobs/extract.ts";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { withExamples } from "../examples.ts";
import { refuseGaps } from "../strict.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { type FormatFlags, styleOf, withFormatOptions } from "./format-options.ts";
import { filesOf, type HostFlags, hostOptionsOf, withHostOptions } from "./host-options.ts";

const EXAMPLES = [
  "guestcore extract core.qemu -o guest.vmcore",
  "guestcore extract core.qemu --dry-run             what would be written, and how much",
  "guestcore extract core.qemu -o guest.vmcore --ram mem0=/dev/shm/vm1.ram",
  "guestcore extract core.qemu.zst -o guest.vmcore --json | jq .result.coverage",
  "guestcore extract core.qemu -o - | ssh host 'cat > guest.vmcore'",
  "guestcore extract host.vmcore --guest 2 -o guest.vmcore            a guest out of its host's dump",
];

interface ExtractFlags extends JobFlags, HostFlags, FormatFlags {
  readonly guest?: string;
  readonly output?: string;
  readonly vaddr: "direct-map" | "none";
  readonly ram: ReadonlyMap<string, string>;
  readonly dryRun: boolean;
  readonly force: boolean;
  readonly strict: boolean;
  readonly keepPartial: boolean;
}

export const extractCommand: AddCommand = (program, terminal) =>
  withJobOptions(withHostOptions(extractOptions(withExamples(program.command("extract"), EXAMPLES))))
    .summary("write a guest as a vmcore, out of its qemu-process core or its host's vmcore")
    .description(
      "Writes a guest as a vmcore that crash, drgn, gdb and makedumpfile open: out of the core of its qemu process, or out of the vmcore of its host.",
    )
    .usage("CORE -o OUT [options]")
    .addArgument(
      new Argument(
        "<core>",
        "core file of a qemu process, or a host's vmcore; plain or compressed (.zst, .gz)",
      ),
    )
    .action((core: string, flags: ExtractFlags) => run(core, flags, terminal));

const extractOptions = (command: Command): Command =>
  withFormatOptions(command)
    .option("-o, --output <out>", 'the vmcore to write, "-" for standard output')
    .addOption(
      new Option("--vaddr <how>", "p_vaddr of the memory segments: the guest kernel's, or p_paddr")
        .choices(["direct-map", "none"])
        .default("direct-map"),
    )
    .addOption(
      new Option("--ram <block=path>", "contents of a RAMBlock that the core lacks; repeatable")
        .argParser(addRam)
        .default(new Map(), "none"),
    )
    .addOption(new Option("--guest <n|name>", "which guest of a host, as `guests` lists them"))
    .option("--layout <name>", "memory layout of a core that holds several, or VMCS layout of a host")
    .option("--dry-run", "print the map and the bytes needed, write nothing", false)
    .option("--force", "replace an existing output", false)
    .option("--strict", "exit with 6 when any of the guest's memory is missing or may be wrong", false)
    .option("--keep-partial", "after a failure keep what was written, as OUT.incomplete", false);

async function run(core: string, flags: ExtractFlags, terminal: Terminal): Promise<void> {
  if (flags.output === undefined && !flags.dryRun) {
    throw new UsageError("no output given", { hint: "name one with -o OUT, or look first with --dry-run" });
  }
  const toStdout = flags.output === "-" && !flags.dryRun;
  if (toStdout && flags.json) {
    throw new UsageError("--json and -o - both want standard output", { hint: "use --json-file FILE" });
  }
  if (toStdout && terminal.stdout.isTTY === true) {
    throw new UsageError("a vmcore is nothing for a terminal", {
      hint: "pipe it somewhere, or name a file with -o OUT",
    });
  }
  const files = [
    ...filesOf(core, flags),
    ...flags.ram.values(),
    ...(flags.output === undefined ? [] : [flags.output]),
  ];
  prepareDelivery(flags, files);
  const [{ extract }, { extractJson, extractText }] = await Promise.all([
    import("../../jobs/extract.ts"),
    import("../../report/extract.ts"),
  ]);
  const began = terminal.now();
  const { ram, vaddr, dryRun, force, keepPartial, guest } = flags;
  const result = await extract(
    {
      input: core,
      output: flags.output,
      layout: flags.layout,
      ram,
      ...styleOf(flags),
      vaddr,
      dryRun,
      force,
      keepPartial,
      guest,
      host: hostOptionsOf(flags),
    },
    jobContext(terminal, flags),
  );
  const text = extractText(result, (terminal.now() - began) / 1000);
  // With the vmcore on standard output the summary goes to stderr.
  if (toStdout && !flags.quiet) terminal.stderr.write(text);
  deliver(
    terminal,
    flags,
    {
      kind: "extract",
      inputs: [result.input],
      warnings: result.warnings,
      result: extractJson(result),
      text: toStdout ? undefined : text,
    },
    files,
  );
  if (flags.strict) {
    refuseUnmapped(result);
    refuseGaps(result, "the guest's memory");
  }
}

/** @throws GapsError when not all of a host's tables that say what the guest's memory is could be read */
function refuseUnmapped({ origin }: ExtractResult): void {
  if (origin.kind === "host" && origin.slots === undefined && isPartial(origin.tables)) {
    throw new GapsError("not all of the guest's second-level tables could be read: what they map is missing");
  }
}

const isPartial = (
  tables: { readonly tablesMissing: number; readonly complete: boolean } | undefined,
): boolean => tables !== undefined && (tables.tablesMissing > 0 || !tables.complete);

function addRam(value: string, previous: ReadonlyMap<string, string>): Map<string, string> {
  const at = value.indexOf("=");
  if (at <= 0 || at === value.length - 1) {
    throw new UsageError(`--ram takes BLOCK=PATH, not "${value}"`, {
      hint: "for example --ram mem0=/dev/shm/vm1.ram",
    });
  }
  return new Map([...previous, [value.slice(0, at), value.slice(at + 1)]]);
}
