import { Argument } from "commander";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { ToldError } from "../errors.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { type DumpFlags, dumpNamingOf, dumpWordsOf, filesOfDump, withDumpOptions } from "./dump-options.ts";

const EXAMPLES = [
  "guestcore verify vmcore                        every table, descriptor and page",
  "guestcore verify vmcore --quick && crash vmlinux vmcore",
  "guestcore verify part1 --part part2 --part part3",
  "guestcore verify vmcore --json | jq -r '.result.findings[] | [.code, .count, .title] | @tsv'",
];

interface VerifyFlags extends JobFlags, DumpFlags {
  readonly quick: boolean;
  readonly force: boolean;
}

export const verifyCommand: AddCommand = (program, terminal) =>
  withJobOptions(withDumpOptions(withExamples(program.command("verify"), EXAMPLES)))
    .summary("tell whether a dump is whole, and what of it is damaged")
    .description(
      "Tells whether a machine's dump or the core of a process is whole: checks its tables, descriptors, notes\nand bitmaps, and reads every page. Exits with 0 when it is whole, with 1 when anything is damaged, and with\nanother status when it could not be looked at.",
    )
    .usage("FILE [options]")
    .addArgument(new Argument("<file>", "the dump; plain or compressed (.zst, .gz)"))
    .option("--quick", "all tables, but of a large dump only every n-th page's contents", false)
    .option("--force", "replace an existing --json-file", false)
    .action((file: string, flags: VerifyFlags) => run(file, flags, terminal));

async function run(file: string, flags: VerifyFlags, terminal: Terminal): Promise<void> {
  const files = [file, ...filesOfDump(flags)];
  prepareDelivery(flags, files);
  const [{ verify }, { verifyJson, verifyText }] = await Promise.all([
    import("../../jobs/verify.ts"),
    import("../../report/verify.ts"),
  ]);
  const { quick } = flags;
  const result = await verify({ input: file, quick, ...dumpNamingOf(flags) }, jobContext(terminal, flags));
  deliver(
    terminal,
    flags,
    {
      kind: "verify",
      inputs: [result.input],
      warnings: [],
      result: verifyJson(result),
      text: verifyText(result, dumpWordsOf(flags)),
    },
    files,
  );
  if (!result.whole) throw new ToldError(1);
}
