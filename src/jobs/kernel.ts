import { GuestcoreError, naming, UnavailableError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { Warning } from "../core/warnings.ts";
import { findCrash } from "../kernel/crash-log.ts";
import { spaceOfVmcoreinfo } from "../kernel/kernel-tables.ts";
import { describeLinux, type LinuxImage } from "../kernel/linux.ts";
import { type AddressFacts, lookUpSymbol, lookUpType, type TypeFacts } from "../kernel/lookup.ts";
import { type MachineState, readMachineState } from "../kernel/machine-state.ts";
import type { ModuleList } from "../kernel/modules.ts";
import { type KernelParts, readKernel } from "../kernel/open-kernel.ts";
import { readKernelLog } from "../kernel/printk.ts";
import { type TaskFacts, TaskReader } from "../kernel/task-facts.ts";
import { listTasks, type Task } from "../kernel/tasks.ts";
import type { Vmcoreinfo } from "../kernel/vmcoreinfo.ts";
import { findVmcoreinfo, overlookedWarnings } from "../kernel/vmcoreinfo-scan.ts";
import { problemText } from "../kvm/problem.ts";
import type { GuestName, HostOptions } from "./host.ts";
import { type Input, openInput } from "./input.ts";
import { kernelPartsWarnings, openKernelFiles } from "./kernel-files.ts";
import { type Machine, openMachine } from "./machine.ts";

export interface KernelOptions {
  /** A host's guest, whose kernel is wanted instead of the host's own. */
  readonly guest: GuestName | undefined;
  readonly host: HostOptions;
  /** Names and addresses to look up. */
  readonly symbols: readonly string[];
  /** Types, and members by their paths. */
  readonly types: readonly string[];
}

/** A task and more of it. */
export type ListedTask = Task & TaskFacts;

export interface KernelTasks {
  readonly tasks: readonly ListedTask[];
  readonly complete: boolean;
}

/** What was asked for, and what of it there is. */
export interface SymbolAnswer {
  readonly query: string;
  readonly found: readonly AddressFacts[];
}

export interface TypeAnswer {
  readonly query: string;
  readonly found: TypeFacts | undefined;
}

export interface KernelResult {
  readonly input: Input["facts"];
  readonly image: LinuxImage;
  /** Undefined where the kernel's page tables are not known: then nothing of what follows is. */
  readonly parts: KernelParts | undefined;
  /** Seconds since 1970, as the crashed kernel noted it. */
  readonly crashTime: number | undefined;
  readonly state: MachineState | undefined;
  /** The line of the log that says what happened. */
  readonly crash: string | undefined;
  /** Nanoseconds since boot of the log's last record. */
  readonly lastLogged: bigint | undefined;
  readonly modules: ModuleList | undefined;
  readonly tasks: KernelTasks | undefined;
  readonly symbols: readonly SymbolAnswer[];
  readonly types: readonly TypeAnswer[];
  readonly warnings: readonly Warning[];
}

const NO_TABLES: Warning = {
  code: "KRN009",
  message: "the kernel's symbols and types are not known: no page tables of an x86-64 kernel lead to them",
};

type Warn = (warnings: readonly Warning[]) => void;

/**
 * Says what the kernel of a dumped machine, of a host's guest, or of the guest in the core of a qemu process tells of
 * itself by its own symbols and types.
 * @throws UnsupportedError, CorruptError for the input; UnavailableError when no x86 Linux kernel is in it
 */
export function describeKernel(
  path: string,
  options: KernelOptions,
  context: JobContext,
): Promise<KernelResult> {
  return naming(path, async () => {
    const warnings: Warning[] = [];
    const warn = (found: readonly Warning[]) => {
      for (const warning of found) {
        warnings.push(warning);
        context.warn(warning);
      }
    };
    const opened = await openKernelFiles(options.host, context);
    warn(opened.warnings);
    const input = await openInput(path, context, options.host);
    try {
      warn(input.warnings);
      const { host, guest } = options;
      // Files are of the kernel that is described; a guest's are not its host's.
      const machine = await openMachine(
        input,
        { guest, host: { ...host, btf: undefined, vmlinux: undefined } },
        warn,
        context,
      );
      const { image, vmcoreinfo } = await imageOf(machine, warn, context);
      const parts = readKernel(machine.memory, { image, vmcoreinfo, files: opened.files });
      await context.checkpoint();
      warn(parts === undefined ? [NO_TABLES] : kernelPartsWarnings(parts, host));
      const log = await logOf(machine, vmcoreinfo, context);
      return {
        input: input.facts,
        image,
        parts,
        crashTime: vmcoreinfo?.crashTime,
        ...log,
        ...factsOf(parts, options, warn),
        warnings,
      };
    } finally {
      input.close();
    }
  });
}

async function imageOf(
  { memory, vmcoreinfo: noted, states }: Machine,
  warn: Warn,
  { checkpoint }: JobContext,
): Promise<{ readonly image: LinuxImage; readonly vmcoreinfo: Vmcoreinfo | undefined }> {
  const search = noted === undefined ? await findVmcoreinfo(memory, { states, checkpoint }) : undefined;
  const vmcoreinfo = noted ?? search?.best?.vmcoreinfo;
  if (search !== undefined) warn(overlookedWarnings(search));
  const image = await describeLinux(memory, { vmcoreinfo, states }, checkpoint);
  if (image === undefined) {
    throw new UnavailableError("no x86 Linux kernel was found in this dump", {
      hint: "neither VMCOREINFO nor page tables lead to one: memory is missing, or another system ran",
    });
  }
  warn(image.warnings);
  return { image, vmcoreinfo };
}

/** What the kernel log says; a log that cannot be read says nothing. */
async function logOf(
  { memory }: Machine,
  vmcoreinfo: Vmcoreinfo | undefined,
  { checkpoint }: JobContext,
): Promise<Pick<KernelResult, "crash" | "lastLogged">> {
  const nothing = { crash: undefined, lastLogged: undefined };
  const space = vmcoreinfo && spaceOfVmcoreinfo(memory, vmcoreinfo);
  if (vmcoreinfo === undefined || space === undefined) return nothing;
  try {
    const { records } = await readKernelLog(memory, space, vmcoreinfo, checkpoint);
    const crash = await findCrash(records, checkpoint);
    return { crash: crash?.title, lastLogged: records.at(-1)?.time };
  } catch (error) {
    if (error instanceof GuestcoreError && (error.code === "unavailable" || error.code === "corrupt")) {
      return nothing;
    }
    throw error;
  }
}

type Facts = Pick<KernelResult, "modules" | "state" | "symbols" | "tasks" | "types">;

function factsOf(
  parts: KernelParts | undefined,
  { symbols: names, types: paths }: KernelOptions,
  warn: Warn,
): Facts {
  const { symbols, types } = parts ?? {};
  const modules = symbols?.modules;
  if (modules?.complete === false) {
    warn([{ code: "KRN012", message: `not all modules are listed: ${modules.reason}` }]);
  }
  const answers = {
    symbols: names.map((query) => ({ query, found: parts === undefined ? [] : lookUpSymbol(parts, query) })),
    types: paths.map((query) => ({ query, found: types && lookUpType(types, query) })),
  };
  warn(unknownWarnings(answers));
  return {
    ...answers,
    state:
      parts === undefined || symbols === undefined
        ? undefined
        : readMachineState({ reader: parts.reader, symbols, types }),
    modules,
    tasks: tasksOf(parts, warn),
  };
}

/** Whether all that was asked for is known. */
export const answersAll = ({ symbols, types }: Pick<KernelResult, "symbols" | "types">): boolean =>
  symbols.every(({ found }) => found.length > 0) && types.every(({ found }) => found !== undefined);

function unknownWarnings({ symbols, types }: Pick<Facts, "symbols" | "types">): Warning[] {
  const unknown = [
    ...symbols.filter(({ found }) => found.length === 0).map(({ query }) => `symbol or address ${query}`),
    ...types.filter(({ found }) => found === undefined).map(({ query }) => `type or member ${query}`),
  ];
  return unknown.map((what) => ({
    code: "KRN013",
    message: `this kernel has no ${what}, as far as is known`,
  }));
}

function tasksOf(parts: KernelParts | undefined, warn: Warn): KernelTasks | undefined {
  if (parts?.symbols === undefined || parts.types === undefined) return undefined;
  const { reader, types, symbols } = parts;
  const { tasks, outcome } = listTasks(reader, types, symbols);
  const problem = problemText("the list of tasks", outcome);
  if (problem !== undefined) warn([{ code: "KRN012", message: `not all tasks are listed: ${problem}` }]);
  const more = new TaskReader(reader, types);
  return { tasks: tasks.map((task) => ({ ...task, ...more.of(task) })), complete: outcome.complete };
}
