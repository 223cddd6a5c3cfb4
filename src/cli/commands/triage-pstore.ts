import { Argument, InvalidArgumentError, Option } from "commander";
import { UnavailableError, UsageError } from "../../core/errors.ts";
import type { RamoopsRegion, TriagePstoreResult } from "../../jobs/triage-pstore.ts";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { ToldError } from "../errors.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { type FailOnFlags, withFailOn } from "./fail-on.ts";

const EXAMPLES = [
  "guestcore triage pstore /var/lib/systemd/pstore           archived records, parts in order",
  "guestcore triage pstore OVMF_VARS.fd --dmesg dmesg.txt    the log out of EFI variables",
  "guestcore triage pstore acpi-erst.backing --list          every record in QEMU's ERST file",
  "guestcore triage pstore guest.mem --ramoops address=0x10000000,size=0x100000",
];

interface PstoreCommandFlags extends JobFlags, FailOnFlags {
  readonly list: boolean;
  readonly record?: number;
  readonly crash?: number;
  readonly dmesg?: string;
  readonly ramoops?: RamoopsRegion;
  readonly wire?: "v1" | "v2";
  readonly erased: boolean;
  readonly force: boolean;
}

/** Adds `pstore` to `triage`. */
export const triagePstoreCommand: AddCommand = (triage, terminal) =>
  withFailOn(withJobOptions(withExamples(triage.command("pstore"), EXAMPLES)))
    .summary("what a guest's kernel saved of its log before it stopped")
    .description(
      "Reads what a guest's kernel saved of its log when it crashed: pstore files and archives of systemd-pstore,\nhost directories of virtio-pstore, OVMF_VARS.fd, ERST files, ramoops memory, pstore_blk images, powerpc NVRAM.\nUnpacks the records, puts their parts in order, and says which crash each belongs to and what is missing.",
    )
    .usage("PATH... [options]")
    .addArgument(new Argument("<paths...>", "files and directories, or - for standard input"))
    .option("--list", "show every record, and what each file was taken for", false)
    .option("--record <n>", "print record N as it is, instead of the report", number)
    .option("--dmesg <out>", "write the log of the last crash, put together; - for standard output")
    .option("--crash <n>", "of several crashes the log of this one", number)
    .option("--ramoops <key=n,...>", "address, size, record, console, ftrace, pmsg, ecc in bytes", region)
    .addOption(new Option("--wire <version>", "files are buffers of virtio-pstore").choices(["v1", "v2"]))
    .option("--erased", "count dumps that the guest deleted, too", false)
    .option("--force", "replace an existing --dmesg or --json-file", false)
    .action((paths: string[], flags: PstoreCommandFlags) => run(paths, flags, terminal));

function number(value: string): number {
  if (!/^[1-9]\d{0,6}$/.test(value)) throw new InvalidArgumentError("It is a number from 1 on.");
  return Number(value);
}

const KEYS = ["address", "size", "record", "console", "ftrace", "pmsg", "ecc"] as const;
const MAX_SIZE = 2 ** 52;

/** `record=0x8000,ecc=1`, also as the module's own parameters: `ramoops.record_size=0x8000`. */
function region(value: string): RamoopsRegion {
  const found: Partial<Record<(typeof KEYS)[number], number>> = {};
  for (const word of value.split(/[,\s]+/)) {
    const [, name, digits] =
      /^(?:ramoops\.)?(?:mem_)?([a-z]+?)(?:_size)?=(0x[\da-fA-F]+|\d+)$/.exec(word) ?? [];
    const key = KEYS.find((known) => known === name);
    if (key === undefined || Number(digits) > MAX_SIZE) {
      throw new InvalidArgumentError(`It is KEY=BYTES,… with keys ${KEYS.join(", ")}.`);
    }
    found[key] = Number(digits);
  }
  return found;
}

async function run(paths: string[], flags: PstoreCommandFlags, terminal: Terminal): Promise<void> {
  checkOutputs(flags);
  const files = [
    ...paths.filter((path) => path !== "-"),
    ...(flags.dmesg === undefined ? [] : [flags.dmesg]),
  ];
  prepareDelivery(flags, files);
  const [{ failing, triagePstore }, { consoleText }, { triagePstoreJson, triagePstoreText }] =
    await Promise.all([
      import("../../jobs/triage-pstore.ts"),
      import("../../jobs/console-text.ts"),
      import("../../report/triage-pstore.ts"),
    ]);
  const context = jobContext(terminal, flags);
  const { ramoops, wire, erased } = flags;
  const result = await triagePstore(paths, { ramoops, wire, erased, console: consoleText }, context);
  for (const warning of result.warnings) context.warn(warning);
  const bytes = wantedBytes(result, flags);
  if (bytes !== undefined) await writeBytes(bytes, result, flags, terminal);
  const isTaken = flags.record !== undefined || flags.dmesg === "-";
  deliver(
    terminal,
    flags,
    {
      kind: "triage-pstore",
      inputs: result.inputs,
      warnings: result.warnings,
      result: triagePstoreJson(result),
      text: isTaken ? undefined : triagePstoreText(result, flags),
    },
    files,
  );
  if (failing(result, flags.failOn)) throw new ToldError(1);
}

/** Standard output takes one thing. */
function checkOutputs({ json, record, dmesg, crash }: PstoreCommandFlags): void {
  if (record !== undefined && dmesg !== undefined) {
    throw new UsageError("--record and --dmesg go apart", { hint: "run the command twice" });
  }
  if (json && (record !== undefined || dmesg === "-")) {
    throw new UsageError("standard output takes JSON or a log, not both", {
      hint: "--json-file writes the JSON to a file",
    });
  }
  if (crash !== undefined && dmesg === undefined) {
    throw new UsageError("--crash says which log --dmesg writes", { hint: "add --dmesg -" });
  }
}

/** What goes out as it is: a record, or the log of a crash. */
function wantedBytes({ report }: TriagePstoreResult, flags: PstoreCommandFlags): Buffer | undefined {
  const { records, crashes } = report;
  const { record, dmesg, crash = crashes.length } = flags;
  if (record !== undefined) {
    const found = records[record - 1];
    if (found === undefined)
      throw new UsageError(`there is no record ${record}`, { hint: "--list shows them" });
    return found.bytes;
  }
  if (dmesg === undefined) return undefined;
  const found = crashes[crash - 1];
  if (found !== undefined) return found.text;
  if (flags.crash !== undefined) throw new UsageError(`there is no crash ${crash}`);
  throw new UnavailableError("no crash is in it, so that there is no log of one", {
    hint: "--list shows what is in it, --record N prints one of them",
  });
}

async function writeBytes(
  bytes: Buffer,
  { inputs }: TriagePstoreResult,
  { dmesg, record, force }: PstoreCommandFlags,
  terminal: Terminal,
): Promise<void> {
  if (dmesg !== undefined && dmesg !== "-") {
    const { writeTextFile } = await import("../../io/text-file.ts");
    const read = inputs.flatMap(({ identities }) => identities);
    writeTextFile(dmesg, bytes, { force, others: [], inputs: read, option: "--dmesg" });
    return;
  }
  // A guest's text must not reach a terminal as it is.
  const shown = terminal.stdout.isTTY === true;
  const { recordText } = await import("../../report/triage-pstore.ts");
  if (record !== undefined || dmesg === "-") terminal.stdout.write(shown ? recordText(bytes) : bytes);
}
