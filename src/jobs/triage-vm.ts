import type { GuestcoreError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { plural, shellWord } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { identitiesOf } from "../io/file.ts";
import { readHead } from "../io/head.ts";
import type { Detected, Finding } from "../triage/finding.ts";
import { withoutExplained } from "../triage/verdict/explained.ts";
import { judge } from "../triage/verdict/judge.ts";
import { MAX_COMMAND_LINE, machineFacts } from "../triage/verdict/machine.ts";
import type { MachineFacts, SourceDetected, SourceKind, Verdict } from "../triage/verdict/types.ts";
import type { Reader } from "./triage-artefact.ts";
import { contradictingConsoles } from "./triage-consoles.ts";
import { inOrder, type Source, type VmSources } from "./triage-group.ts";
import { isTold } from "./triage-told.ts";
import { headText } from "./utf16.ts";

/** A source as a report lists it. */
export interface SourceFacts {
  /** As named, or found below what was. */
  readonly path: string;
  readonly kind: SourceKind;
  readonly label: string;
  /** Bytes of all its files. */
  readonly size: number;
  readonly findings: readonly Finding[];
  readonly events: number;
  /** Why it was not read. */
  readonly problem?: string;
}

/** What became of one VM. */
export interface VmResult {
  /** As the artefacts call it; empty for files that belong to none. */
  readonly vm: string;
  readonly verdict: Verdict;
  readonly sources: readonly SourceFacts[];
  readonly machine: MachineFacts | undefined;
  readonly warnings: readonly Warning[];
  readonly input: {
    readonly path: string;
    readonly size: number;
    readonly identities: ReturnType<typeof identitiesOf>;
  }[];
}

/** Files of a kind nobody knows, and directories, that are named in warnings. */
export const MAX_NAMED = 20;

/** Whether it is something of a VM: a file that could not even be looked at may be. */
export const isArtefact = ({ kind, failure }: Source): boolean => kind !== "unknown" || failure !== undefined;

/** A VM that was judged. */
export interface JudgedVm {
  readonly result: VmResult;
  /** Whether any source was read. */
  readonly isRead: boolean;
  /** Why the first that could not be read was not. */
  readonly failure: GuestcoreError | undefined;
}

/** Reads the sources of one VM and judges it; what cannot be read is told of, and the others say what they know. */
export async function triageVm(
  { name, sources: unsorted }: VmSources,
  readers: Readonly<Partial<Record<SourceKind, Reader>>>,
  before: readonly Warning[],
  context: JobContext,
): Promise<JudgedVm> {
  const sources = inOrder(unsorted);
  const warnings: Warning[] = [];
  const warn = (warning: Warning): void => {
    warnings.push(warning);
    context.warn(warning);
  };
  before.forEach(warn);
  const commandLine = await commandLineOf(sources);
  const machine = commandLine === undefined ? undefined : machineFacts(commandLine);
  const detected: SourceDetected[] = [];
  const failures: GuestcoreError[] = [];
  for (const source of sources) {
    const { kind, path, files, domain } = source;
    const input = { path, source: path, files, domain, commandLine };
    try {
      const result = await readSource(source, readers[kind], input, { ...context, warn });
      detected.push({ source: path, kind, ...result });
    } catch (error) {
      if (!isTold(error)) throw error;
      failures.push(error);
      detected.push({ source: path, kind, findings: [], events: [], problem: error.message });
      warn({ code: "TRI003", message: `${path} could not be read: ${error.message}`, where: { file: path } });
    }
  }
  tellUnknown(sources, warn);
  const contradiction = contradictingConsoles(detected);
  if (contradiction !== undefined) warn(contradiction);
  const readable = sources.filter(isArtefact).filter(({ kind }) => kind !== "cmdline").length;
  const told = withoutExplained(detected);
  const verdict = judge(told, { machine });
  const result: VmResult = {
    vm: name,
    verdict,
    sources: sources.map((source, index) => factsOf(source, told[index]!)),
    machine,
    warnings,
    input: [
      // A file may be a source twice, as a console and as QEMU's messages.
      ...new Map(sources.flatMap(({ files }) => files.map((file) => [file.path, file] as const))).values(),
    ].map(({ path, size }) => ({ path, size, identities: identitiesOf([path]) })),
  };
  return { result, isRead: failures.length < readable, failure: failures[0] };
}

const NOTHING: Detected = { findings: [], events: [] };

async function readSource(
  { kind, label, failure, copyOf }: Source,
  read: Reader | undefined,
  input: Parameters<Reader>[0],
  context: JobContext,
): Promise<Detected & { readonly problem?: string }> {
  if (failure !== undefined) throw failure;
  if (copyOf !== undefined) return { ...NOTHING, problem: `a copy of ${copyOf}, which is read` };
  if (kind === "cmdline") return NOTHING;
  if (kind === "unknown") return { ...NOTHING, problem: `not recognised: ${label}` };
  if (read === undefined) return { ...NOTHING, problem: "recognised, but nothing here reads it" };
  const { findings, events } = await read(input, context);
  return { findings, events };
}

/** QEMU's command line, of the VM's file that has it. */
async function commandLineOf(sources: readonly Source[]): Promise<string | undefined> {
  const source = sources.find(({ kind }) => kind === "cmdline");
  if (source === undefined) return undefined;
  const { bytes } = await readHead(source.path);
  const text = headText(bytes).slice(0, MAX_COMMAND_LINE);
  return Buffer.from(text, "latin1").toString();
}

/** libvirt can keep UEFI's variables in an image (<nvram format='qcow2'>). */
const unpackedFlash = (path: string): string =>
  `if it has the guest's UEFI variables: qemu-img convert -O raw ${shellWord(path)} vars.fd`;

/** Warns of the files among the sources that nothing knows. */
export function tellUnknown(sources: readonly Source[], warn: (warning: Warning) => void): void {
  const unknown = sources.filter((source) => !isArtefact(source));
  for (const { path, label } of unknown.slice(0, MAX_NAMED)) {
    warn({
      code: "TRI004",
      message: `${path} is no artefact that triage knows: ${label}`,
      where: { file: path },
      ...(/qcow2/i.test(label) ? { hint: unpackedFlash(path) } : {}),
    });
  }
  if (unknown.length <= MAX_NAMED) return;
  warn({
    code: "TRI004",
    message: `${plural(unknown.length - MAX_NAMED, "more file")} are no artefacts either`,
  });
}

const factsOf = (
  { path, kind, label, files }: Source,
  { findings, events, problem }: SourceDetected,
): SourceFacts => ({
  path,
  kind,
  label,
  size: files.reduce((total, { size }) => total + size, 0),
  findings,
  events: events.length,
  ...(problem === undefined ? {} : { problem }),
});
