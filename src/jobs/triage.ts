import { UnsupportedError, UsageError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { type FoundFile, findArtefacts, MAX_DEPTH, MAX_FILES } from "../io/artefacts.ts";
import type { FileIdentity } from "../io/file.ts";
import { STANDARD_INPUT } from "../io/stream.ts";
import type { SourceKind } from "../triage/verdict/types.ts";
import type { Reader, Recognised } from "./triage-artefact.ts";
import { TriageCrew } from "./triage-crew.ts";
import { byDomain } from "./triage-domains.ts";
import { groupByVm, sourcesOf, type VmSources } from "./triage-group.ts";
import { isArtefact, type JudgedVm, MAX_NAMED, tellUnknown, type VmResult } from "./triage-vm.ts";

export type { VmResult } from "./triage-vm.ts";

export interface TriageOptions {
  /** All artefacts belong to one VM of this name. */
  readonly vm?: string | undefined;
  /** VMs looked at at the same time; results come in order all the same. Default 1. */
  readonly jobs?: number | undefined;
  /** Files that are about to be written anew: none of them is an artefact. */
  readonly replaced?: readonly FileIdentity[];
  /** Sees what was found before any of it is read; what it throws ends the run. */
  readonly onFound?: (paths: readonly string[]) => void;
  /** What reads each kind of artefact. */
  readonly readers?: Readonly<Partial<Record<SourceKind, Reader>>>;
}

/**
 * Finds the artefacts in files and directories, sorts them by VM, reads each and judges each VM: one result for each,
 * in the order of their names.
 * @throws IoError when something named cannot be read; UnsupportedError when nothing in it is an artefact; the error of
 * the first source when nothing at all could be read
 */
export async function* triage(
  paths: readonly string[],
  options: TriageOptions,
  context: JobContext,
): AsyncGenerator<VmResult> {
  if (paths.includes(STANDARD_INPUT)) {
    throw new UsageError("triage takes files and directories", {
      hint: "standard input is read by the detectors: guestcore triage console -",
    });
  }
  if (options.vm?.trim() === "") throw new UsageError("--vm takes the name of a VM");
  const jobs = Math.max(1, options.jobs ?? 1);
  const found = findArtefacts(paths);
  const replaced = new Set(options.replaced?.map(({ device, inode }) => `${device}:${inode}`));
  const files = found.files.filter(({ identity }) => !replaced.has(identity));
  options.onFound?.(files.map(({ path }) => path));
  const warnings = collectingWarnings(found);
  const crew = new TriageCrew({ jobs, readers: options.readers }, files.length, context);
  try {
    const recognised: (readonly [FoundFile, Recognised])[] = [];
    const own: FoundFile[] = [];
    for await (const [file, { also, ...first }] of crew.recognise(files)) {
      if (first.isOwn) {
        own.push(file);
        continue;
      }
      for (const one of await byDomain(file, first, context)) recognised.push([file, one]);
      if (also !== undefined) recognised.push([file, also]);
    }
    const groups = groupByVm(sourcesOf(recognised), options.vm).map(eachOnce).toSorted(byName);
    const vms = groups.filter(({ sources }) => sources.some(isArtefact));
    if (vms.length === 0) throw nothing(paths, files);
    for (const { sources } of groups.filter((group) => !vms.includes(group)))
      tellUnknown(sources, (warning) => warnings.push(warning));
    yield* judgeAll(vms, [...warnings, ...reportWarnings(own)], crew);
  } finally {
    await crew.close();
  }
}

/** VMs of which nothing could be read are told of beside others; by themselves they are an error. */
async function* judgeAll(
  vms: readonly VmSources[],
  warnings: readonly Warning[],
  crew: TriageCrew,
): AsyncGenerator<VmResult> {
  const running: ReturnType<TriageCrew["judge"]>[] = [];
  const begin = (index: number): void => {
    const vm = vms[index];
    if (vm !== undefined) running[index] = crew.judge(vm, index === 0 ? warnings : []);
  };
  crew.begin(vms);
  for (let index = 0; index < crew.ahead; index++) begin(index);
  let held: JudgedVm[] | undefined = [];
  for (let index = 0; index < vms.length; index++) {
    const judged = await crew.told(running[index]!);
    delete running[index];
    begin(index + crew.ahead);
    held?.push(judged);
    if (held !== undefined && !judged.isRead) continue;
    for (const { result } of held ?? [judged]) yield result;
    held = undefined;
  }
  const failure = held?.find((one) => one.failure !== undefined)?.failure;
  if (failure !== undefined) throw failure;
  for (const { result } of held ?? []) yield result;
}

/** A file of several names is one source of a VM for each kind it is of. */
function eachOnce({ name, sources }: VmSources): VmSources {
  const known = new Set<string>();
  return {
    name,
    sources: sources.filter(({ kind, files, domain = "" }) => {
      const key = `${kind} ${domain} ${files.map(({ identity }) => identity).join(" ")}`;
      const isNew = !known.has(key);
      known.add(key);
      return isNew;
    }),
  };
}

const byName = (a: VmSources, b: VmSources): number => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);

function nothing(paths: readonly string[], files: readonly FoundFile[]): UnsupportedError {
  const looked =
    files.length === 0
      ? "it has no files"
      : files.every(({ size }) => size === 0)
        ? `${files.length === 1 ? "the file is" : `all ${files.length} files are`} empty`
        : `none of ${plural(files.length, "file")} is one`;
  const [path] = paths;
  return new UnsupportedError(`no artefact of a VM: ${looked}`, {
    ...(paths.length === 1 && path !== undefined ? { where: { file: path } } : {}),
    hint: "console logs, QMP logs, pstore, RTAS logs and dumps are known; guestcore info FILE says what a file is",
  });
}

/** Reports of earlier runs belong to no VM. */
function reportWarnings(files: readonly FoundFile[]): Warning[] {
  const [first, ...others] = files;
  if (first === undefined) return [];
  const more =
    others.length === 0
      ? ""
      : `, and so ${others.length === 1 ? "is" : "are"} ${plural(others.length, "more file")}`;
  const message = `${first.path} is no artefact that triage knows: a report that guestcore wrote${more}`;
  return [{ code: "TRI004", message, where: { file: first.path } }];
}

function collectingWarnings({ passedOver, unlisted, beyond }: ReturnType<typeof findArtefacts>): Warning[] {
  const warnings: Warning[] = unlisted
    .slice(0, MAX_NAMED)
    .map(({ path, message }) => ({ code: "TRI006", message, where: { file: path } }));
  if (unlisted.length > MAX_NAMED) {
    const more = plural(unlisted.length - MAX_NAMED, "more directory", "more directories");
    warnings.push({ code: "TRI006", message: `${more} could not be looked into either` });
  }
  if (passedOver.length > 0) {
    const more = passedOver.length > 1 ? ` and ${passedOver.length - 1} more` : "";
    warnings.push({
      code: "TRI001",
      message: `${passedOver[0]}${more} passed over: only files and directories are looked into, and no links that lead nowhere or to a directory`,
      hint: "name what a link leads to; guestcore triage console reads a FIFO",
    });
  }
  if (beyond !== undefined) {
    warnings.push({
      code: "TRI002",
      message:
        beyond === "files"
          ? `only the first ${MAX_FILES} entries were looked at`
          : `directories more than ${MAX_DEPTH} deep were not looked into`,
      hint: "name the directories of the VMs, not one far above them",
    });
  }
  return warnings;
}
