import { Argument } from "commander";
import { UsageError } from "../../core/errors.ts";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { withExamples } from "../examples.ts";
import { refuseGaps } from "../strict.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { type DumpFlags, dumpNamingOf, filesOfDump, withDumpOptions } from "./dump-options.ts";
import { type FormatFlags, styleOf, withFormatOptions } from "./format-options.ts";

const EXAMPLES = [
  "guestcore convert vmcore.kdump vmcore.elf      a compressed dump as ELF",
  "guestcore convert qemu.dump vmcore.elf         QEMU's dump as drgn and makedumpfile want it",
  "guestcore convert vmcore vmcore.kdump --format kdump --compress zstd",
  "guestcore convert vmcore.flat ram.img --format raw",
  "guestcore convert vmcore - --format flat | ssh host 'makedumpfile -R vmcore.kdump'",
  "guestcore convert web1.vmss vmcore.elf         with web1.vmem beside it",
  "guestcore convert pc.ram vmcore.elf --map q35  the RAM file of a QEMU machine",
  "guestcore convert vmcore - | ssh host 'cat > vmcore.elf'",
];

interface ConvertFlags extends JobFlags, DumpFlags, FormatFlags {
  readonly force: boolean;
  readonly strict: boolean;
  readonly keepPartial: boolean;
}

export const convertCommand: AddCommand = (program, terminal) =>
  withJobOptions(withDumpOptions(withFormatOptions(withExamples(program.command("convert"), EXAMPLES))))
    .summary("write a machine's dump anew, in another format")
    .description(
      "Writes a machine's dump anew: as the ELF vmcore that every tool opens, kdump-compressed, raw or as LiME has it.\nReads ELF vmcores of every maker, kdump-compressed dumps and sets of them, flattened streams, sadump, LiME and AVML images, QEMU's migration streams, libvirt's save images, VMware's suspended machines, cores of Xen's domains, and raw memory by --map.",
    )
    .usage("IN OUT [options]")
    .addArgument(new Argument("<in>", "the dump; plain or compressed (.zst, .gz)"))
    .addArgument(new Argument("<out>", 'what to write, "-" for standard output'))
    .option("--force", "replace an existing output", false)
    .option("--strict", "exit with 6 when any of the memory is missing or may be wrong", false)
    .option("--keep-partial", "after a failure keep what was written, as OUT.incomplete", false)
    .action((input: string, output: string, flags: ConvertFlags) => run(input, output, flags, terminal));

async function run(input: string, output: string, flags: ConvertFlags, terminal: Terminal): Promise<void> {
  const toStdout = output === "-";
  if (toStdout && flags.json) {
    throw new UsageError("--json and - both want standard output", { hint: "use --json-file FILE" });
  }
  if (toStdout && terminal.stdout.isTTY === true) {
    throw new UsageError("a dump is nothing for a terminal", { hint: "pipe it somewhere, or name a file" });
  }
  const files = [input, ...filesOfDump(flags), ...(toStdout ? [] : [output])];
  prepareDelivery(flags, files);
  const [{ convertDump }, { convertJson, convertText }] = await Promise.all([
    import("../../jobs/convert.ts"),
    import("../../report/convert.ts"),
  ]);
  const began = terminal.now();
  const { force, keepPartial } = flags;
  const result = await convertDump(
    { input, output, force, keepPartial, ...styleOf(flags), ...dumpNamingOf(flags) },
    jobContext(terminal, flags),
  );
  const text = convertText(result, (terminal.now() - began) / 1000);
  if (toStdout && !flags.quiet) terminal.stderr.write(text);
  deliver(
    terminal,
    flags,
    {
      kind: "convert",
      inputs: [result.input],
      warnings: result.warnings,
      result: convertJson(result),
      text: toStdout ? undefined : text,
    },
    files,
  );
  if (flags.strict) refuseGaps(result, "the memory");
}
