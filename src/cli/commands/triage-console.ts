import { Argument, InvalidArgumentError } from "commander";
import { UnavailableError, UsageError } from "../../core/errors.ts";
import type { ConsoleResult } from "../../jobs/triage-console.ts";
import type { BootChoice, ConsoleChoice } from "../../report/triage-console.ts";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { ToldError } from "../errors.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { withFailOn } from "./fail-on.ts";

const EXAMPLES = [
  "guestcore triage console serial.log                      what happened, boot by boot",
  "guestcore triage console serial.log --fail-on oops && echo healthy",
  "tail -F serial.log | guestcore triage console - --follow --timeout 600",
  "guestcore triage console *.log --json | jq -r '.result.logs[].findings[].title'",
];

interface ConsoleFlags extends JobFlags, ConsoleChoice {
  readonly follow: boolean;
  readonly timeout: number | undefined;
  readonly force: boolean;
}

/** Adds `console` to `triage`. */
export const triageConsoleCommand: AddCommand = (triage, terminal) =>
  withFailOn(withJobOptions(withExamples(triage.command("console"), EXAMPLES)))
    .summary("what a serial log tells: panics, oopses, hangs, failed boots")
    .description(
      "Finds panics, oopses, hangs, machine checks and failed boots in console logs of Linux, the BSDs, Windows,\nXen and firmware, and tells words in passing from the real thing. Exits with 1 when a finding is as bad as\n--fail-on says.",
    )
    .usage("FILE... [options]")
    .addArgument(new Argument("<file...>", "console logs, plain or compressed, or - for standard input"))
    .option("--boot <which>", "judge one boot of each log only: its number, or last", bootChoice, "all")
    .option("--follow", "watch a pipe or a growing file until something is found", false)
    .option("--timeout <seconds>", "with --follow: no longer than this", seconds)
    .option("--force", "replace an existing --json-file", false)
    .action((files: string[], flags: ConsoleFlags) => run(files, flags, terminal));

function bootChoice(value: string): BootChoice {
  if (value === "last" || value === "all") return value;
  if (!/^[1-9]\d{0,5}$/.test(value)) throw new InvalidArgumentError("It is a number from 1 on, last or all.");
  return Number(value);
}

function seconds(value: string): number {
  if (!/^\d{1,7}(\.\d{1,3})?$/.test(value)) throw new InvalidArgumentError("It is a number of seconds.");
  return Number(value);
}

async function run(paths: readonly string[], flags: ConsoleFlags, terminal: Terminal): Promise<void> {
  const { follow, timeout, failOn } = flags;
  if (follow && paths.length > 1) throw new UsageError("--follow takes one file");
  if (!follow && timeout !== undefined) throw new UsageError("--timeout goes with --follow");
  const files = paths.filter((path) => path !== "-");
  prepareDelivery(flags, files);
  const [{ triageConsole }, { consoleJson, consoleText, hasFailed }] = await Promise.all([
    import("../../jobs/triage-console.ts"),
    import("../../report/triage-console.ts"),
  ]);
  const context = jobContext(terminal, flags);
  const results: ConsoleResult[] = [];
  for (const path of paths) {
    const result = await triageConsole(path, { failOn, follow, timeout, now: terminal.now }, context);
    for (const warning of result.warnings) context.warn(warning);
    results.push(result);
  }
  if (!follow && results.every(({ report }) => report.lines === 0)) throw emptyLog();
  deliver(
    terminal,
    flags,
    {
      kind: "triage-console",
      inputs: results.map(({ input }) => input),
      warnings: results.flatMap(({ warnings }) => warnings),
      result: consoleJson(results, flags),
      text: consoleText(results, flags),
    },
    files,
  );
  if (hasFailed(results, flags)) throw new ToldError(1);
}

const emptyLog = (): UnavailableError =>
  new UnavailableError("the log is empty: it tells neither that the guest lived nor that it died", {
    hint: "boot the guest with console=ttyS0 (arm64: ttyAMA0, powerpc: hvc0) and QEMU with -serial file:FILE",
  });
