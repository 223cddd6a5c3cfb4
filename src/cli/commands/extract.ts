import { Argument, type Command, Option } from "commander";
import { GapsError, UsageError } from "../../core/errors.ts";
import { bytesText } from "../../core/text.ts";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";

const EXAMPLES = [
  "guestcore extract core.qemu -o guest.vmcore",
  "guestcore extract core.qemu --dry-run             what would be written, and how much",
  "guestcore extract core.qemu -o guest.vmcore --ram mem0=/dev/shm/vm1.ram",
  "guestcore extract core.qemu.zst -o guest.vmcore --json | jq .result.coverage",
  "guestcore extract core.qemu -o - | ssh host 'cat > guest.vmcore'",
];

interface ExtractFlags extends JobFlags {
  readonly output?: string;
  readonly format: "elf" | "raw";
  readonly vaddr: "direct-map" | "none";
  readonly ram: ReadonlyMap<string, string>;
  readonly layout?: string;
  readonly dryRun: boolean;
  readonly force: boolean;
  readonly strict: boolean;
  readonly keepPartial: boolean;
}

export const extractCommand: AddCommand = (program, terminal) =>
  withJobOptions(extractOptions(withExamples(program.command("extract"), EXAMPLES)))
    .summary("write the guest of a qemu-process core as a vmcore")
    .description(
      "Writes the guest of a qemu-process core as a vmcore that crash, drgn, gdb and makedumpfile open.",
    )
    .usage("CORE -o OUT [options]")
    .addArgument(new Argument("<core>", "core file of a qemu process, plain or compressed (.zst, .gz)"))
    .action((core: string, flags: ExtractFlags) => run(core, flags, terminal));

const extractOptions = (command: Command): Command =>
  command
    .option("-o, --output <out>", 'the vmcore to write, "-" for standard output')
    .addOption(new Option("--format <format>", "format to write").choices(["elf", "raw"]).default("elf"))
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
    .option("--layout <name>", "which memory layout to use when the core holds several")
    .option("--dry-run", "print the map and the bytes needed, write nothing", false)
    .option("--force", "replace an existing output", false)
    .option("--strict", "exit with 6 when any of the guest's memory is missing", false)
    .option("--keep-partial", "after a failure keep what was written, as OUT.incomplete", false);

async function run(core: string, flags: ExtractFlags, terminal: Terminal): Promise<void> {
  if (flags.output === undefined && !flags.dryRun) {
    throw new UsageError("no output given", { hint: "name one with -o OUT, or look first with --dry-run" });
  }
  if (flags.output === "-" && flags.json) {
    throw new UsageError("--json and -o - both want standard output", { hint: "use --json-file FILE" });
  }
  const files = [core, ...flags.ram.values(), ...(flags.output === undefined ? [] : [flags.output])];
  prepareDelivery(flags, files);
  const [{ extract }, { extractJson, extractText }] = await Promise.all([
    import("../../jobs/extract.ts"),
    import("../../report/extract.ts"),
  ]);
  const began = terminal.now();
  const { ram, format, vaddr, dryRun, force, keepPartial } = flags;
  const result = await extract(
    {
      input: core,
      output: flags.output,
      layout: flags.layout,
      ram,
      format,
      vaddr,
      dryRun,
      force,
      keepPartial,
    },
    jobContext(terminal, flags),
  );
  const text = extractText(result, (terminal.now() - began) / 1000);
  // With the vmcore on standard output the summary goes to stderr.
  if (flags.output === "-" && !flags.quiet) terminal.stderr.write(text);
  deliver(
    terminal,
    flags,
    {
      kind: "extract",
      inputs: [result.input],
      warnings: result.warnings,
      result: extractJson(result),
      text: flags.output === "-" ? undefined : text,
    },
    files,
  );
  const { missing } = result.coverage;
  if (flags.strict && missing > 0) {
    throw new GapsError(`${bytesText(missing)} of the guest's memory are missing from the output`);
  }
}

function addRam(value: string, previous: ReadonlyMap<string, string>): Map<string, string> {
  const at = value.indexOf("=");
  if (at <= 0 || at === value.length - 1) {
    throw new UsageError(`--ram takes BLOCK=PATH, not "${value}"`, {
      hint: "for example --ram mem0=/dev/shm/vm1.ram",
    });
  }
  return new Map([...previous, [value.slice(0, at), value.slice(at + 1)]]);
}
