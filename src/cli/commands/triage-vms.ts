import { Argument, type Command, InvalidArgumentError } from "commander";
import { UsageError } from "../../core/errors.ts";
import { type FileIdentity, identitiesOf, outputIdentities } from "../../io/file.ts";
import { refuseToOverwrite } from "../../io/output.ts";
import { probeTextFile, writePieces } from "../../io/text-file.ts";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { ToldError } from "../errors.ts";
import type { Terminal } from "../terminal.ts";
import type { ReportForm } from "../triage-reports.ts";
import { type FailOnFlags, withFailOn } from "./fail-on.ts";

interface TriageFlags extends JobFlags, FailOnFlags {
  readonly vm?: string;
  readonly jobs: number;
  readonly jsonl: boolean;
  readonly github: boolean;
  readonly tap: boolean;
  readonly junit?: string;
  readonly markdown?: string;
  readonly html?: string;
  readonly force: boolean;
}

/** Reports that a file can be named for. */
const WRITTEN = ["junit", "markdown", "html"] as const;
const STANDARD_OUTPUT = "-";
const MAX_JOBS = 64;

export const withTriageVms = (command: Command, terminal: Terminal): Command =>
  withFailOn(withJobOptions(command))
    .usage("PATH... [options]")
    .addArgument(new Argument("[path...]", "artefacts of VMs, and directories of them"))
    .option("--vm <name>", "all artefacts are of one VM of this name")
    .option("--jobs <n>", "VMs looked at at the same time; the output stays in order", jobCount, 1)
    .option("--jsonl", "print each finding, then each verdict, as a line of JSON", false)
    .option("--github", "print workflow commands of GitHub Actions", false)
    .option("--tap", "print TAP version 14, a test for each VM", false)
    .option("--junit <file>", "write JUnit XML; - is standard output")
    .option("--markdown <file>", "write Markdown; - is standard output")
    .option("--html <file>", "write a self-contained page; - is standard output")
    .option("--force", "replace existing files", false)
    .action((paths: string[], flags: TriageFlags) => run(paths, flags, terminal));

function jobCount(value: string): number {
  if (!/^[1-9]\d?$/.test(value) || Number(value) > MAX_JOBS) {
    throw new InvalidArgumentError(`It is a number from 1 to ${MAX_JOBS}.`);
  }
  return Number(value);
}

async function run(paths: readonly string[], flags: TriageFlags, terminal: Terminal): Promise<void> {
  if (paths.length === 0) {
    throw new UsageError("missing required argument 'path'", {
      hint: "name the directory that has the artefacts, or the artefacts themselves",
    });
  }
  const shown = shownFormat(flags);
  const files = prepareFiles(paths, flags);
  const [{ triage }, { STREAMED, hasFailed, TriageSummary }, { Reports }] = await Promise.all([
    import("../../jobs/triage.ts"),
    import("../../report/triage-outputs.ts"),
    import("../triage-reports.ts"),
  ]);
  const { failOn, vm, jobs } = flags;
  const context = jobContext(terminal, flags);
  const streamed = shown === "text" || shown === "jsonl" || shown === "github" ? STREAMED[shown] : undefined;
  const isKept = (form: Shown): form is ReportForm =>
    form !== "text" && form !== "jsonl" && form !== "github";
  const forms = [...files.map(({ form }) => form), shown].filter(isKept);
  const reports = new Reports(forms, { failOn }, context.temporaryDirectories);
  try {
    const summary = new TriageSummary();
    let isFirst = true;
    const inputs: FileIdentity[] = [];
    let failed = false;
    const onFound = (found: readonly string[]) => refuseInputs(files, found, flags);
    const options = { vm, jobs, onFound, replaced: await replacedBy(files, flags) };
    for await (const result of triage(paths, options, context)) {
      failed ||= hasFailed(result, { failOn });
      if (streamed !== undefined) {
        const gap = shown === "text" && !isFirst ? "\n" : "";
        terminal.stdout.write(`${gap}${streamed(result, { failOn })}`);
      }
      isFirst = false;
      summary.add(result);
      reports.add(result);
      if (files.length > 0) inputs.push(...result.input.flatMap(({ identities }) => identities));
    }
    const summed = summary.text();
    if (shown === "text" && summed !== "") terminal.stdout.write(`\n${summed}`);
    const { force } = flags;
    for (const { form, path, option } of files) {
      writePieces(path, reports.pieces(form), { force, others: [], inputs, option });
    }
    if (isKept(shown)) for (const piece of reports.pieces(shown)) terminal.stdout.write(piece);
    if (failed) throw new ToldError(1);
  } finally {
    reports.close();
  }
}

type Shown = "text" | "json" | "jsonl" | "github" | "tap" | (typeof WRITTEN)[number];

/** What standard output gets. */
function shownFormat(flags: TriageFlags): Shown {
  const asked: Shown[] = [
    ...(["json", "jsonl", "github", "tap"] as const).filter((form) => flags[form]),
    ...WRITTEN.filter((form) => flags[form] === STANDARD_OUTPUT),
  ];
  if (asked.length > 1) {
    throw new UsageError(`--${asked[0]} and --${asked[1]} cannot both be printed on standard output`, {
      hint: "write one of them to a file: --json-file, --junit, --markdown and --html take its name",
    });
  }
  return asked[0] ?? "text";
}

interface WrittenFile {
  readonly form: (typeof WRITTEN)[number] | "json";
  readonly path: string;
  readonly option: string;
}

/** @throws UsageError, IoError when a report could not be written: before any work is done */
function prepareFiles(inputs: readonly string[], flags: TriageFlags): WrittenFile[] {
  if (flags.jsonFile === STANDARD_OUTPUT) {
    throw new UsageError("--json-file takes the name of a file", {
      hint: "--json prints the result on standard output",
    });
  }
  const files: WrittenFile[] = [
    ...(flags.jsonFile === undefined
      ? []
      : [{ form: "json" as const, path: flags.jsonFile, option: "--json-file" }]),
    ...WRITTEN.flatMap((form) => {
      const path = flags[form];
      return path === undefined || path === STANDARD_OUTPUT ? [] : [{ form, path, option: `--${form}` }];
    }),
  ];
  for (const [index, { path, option }] of files.entries()) {
    const others = [...inputs, ...files.slice(0, index).map((file) => file.path)];
    probeTextFile(path, { force: flags.force, others, option });
  }
  return files;
}

/** Where this run writes, standard output's file too, and what its reports take the place of: it may lie among the artefacts. */
async function replacedBy(
  files: readonly WrittenFile[],
  { force }: TriageFlags,
): Promise<readonly FileIdentity[]> {
  const outputs = outputIdentities();
  if (!force || files.length === 0) return outputs;
  const { ownReports } = await import("../../jobs/triage-own.ts");
  return [...outputs, ...(await ownReports(files.map(({ path }) => path)))];
}

/** @throws UsageError when a report would be written over what was found below a directory */
function refuseInputs(files: readonly WrittenFile[], found: readonly string[], { force }: TriageFlags): void {
  if (files.length === 0) return;
  const inputs = identitiesOf(found);
  for (const { path, option } of files) refuseToOverwrite(path, force, inputs, option);
}
