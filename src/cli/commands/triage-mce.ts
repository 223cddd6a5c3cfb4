import { Argument, type Command, InvalidArgumentError, Option } from "commander";
import { UsageError } from "../../core/errors.ts";
import { jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { ToldError } from "../errors.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { checkPaths, type HardwareFlags, withHardwareOptions } from "./triage-hardware-options.ts";

const EXAMPLES = [
  "guestcore triage mce serial.log                machine checks, APEI, EDAC, bad memory, in words",
  "guestcore triage mce --status 0xbd80000000000134   one MCi_STATUS, bit by bit",
  "journalctl -k | guestcore triage mce - --fail-on warning --explain",
];

interface MceFlags extends HardwareFlags {
  readonly status: bigint | undefined;
  readonly mcgStatus: bigint | undefined;
  readonly vendor: "intel" | "amd" | undefined;
  readonly explain: boolean;
}

export const triageMceCommand: AddCommand = (program, terminal) =>
  withJobOptions(withHardwareOptions(mceOptions(withExamples(program.command("mce"), EXAMPLES))))
    .summary("decode machine checks and other hardware errors of a log, or one status")
    .description(
      "Finds the errors of hardware that a kernel's log tells of and says what they mean: machine checks of x86\nand POWER, errors that firmware reports (APEI), EDAC, failures of memory, what QEMU says of them. Exits\nwith 1 for findings as bad as --fail-on.",
    )
    .usage("[FILE…] [options]")
    .addArgument(new Argument("[file...]", "logs or consoles, plain or compressed; - for standard input"))
    .action((files: string[], flags: MceFlags) => run(files, flags, terminal));

const mceOptions = (command: Command): Command =>
  command
    .option("--status <value>", "an MCi_STATUS in hexadecimal, instead of a log or beside it", word)
    .option("--mcg-status <value>", "the MCG_STATUS that goes with it", word)
    .addOption(new Option("--vendor <vendor>", "whose bits --status has").choices(["intel", "amd"]))
    .option("--explain", "when a guest sees a machine check, and where it comes from", false);

function word(text: string): bigint {
  const digits = /^(?:0x)?([0-9a-f]{1,16})$/i.exec(text)?.[1];
  if (digits === undefined) throw new InvalidArgumentError("It is a hexadecimal number of 64 bits.");
  return BigInt(`0x${digits}`);
}

/** @throws ToldError when a finding, or the status itself, is as bad as asked for */
async function run(paths: readonly string[], flags: MceFlags, terminal: Terminal): Promise<void> {
  const { status, mcgStatus, vendor, explain, failOn } = flags;
  if (paths.length === 0 && status === undefined && !explain) {
    throw new UsageError("neither a file nor --status is given", {
      hint: "name a log, - for standard input, or paste a value: --status 0xbd80000000000134",
    });
  }
  checkPaths(paths);
  prepareDelivery(flags, paths);
  const [{ triageMce }, { triageMceJson, triageMceText, severityOfValue }, { isFailure, isAtLeast }] =
    await Promise.all([
      import("../../jobs/triage-mce.ts"),
      import("../../report/triage-mce.ts"),
      import("../../report/triage-hardware.ts"),
    ]);
  const result = await triageMce(paths, jobContext(terminal, flags));
  const value = status === undefined ? undefined : { status, mcgStatus, vendor };
  deliver(
    terminal,
    flags,
    {
      kind: "triage-mce",
      inputs: result.files.map(({ input }) => input),
      warnings: result.warnings,
      result: triageMceJson(result, { explain, value }),
      text: triageMceText(result, { explain, value }),
    },
    paths,
  );
  const detected = result.files.map((file) => file.detected);
  const fails = value !== undefined && isAtLeast(severityOfValue(value), failOn);
  if (fails || isFailure(detected, failOn)) throw new ToldError(1);
}
