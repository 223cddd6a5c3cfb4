import { ADDRESS_LIMIT } from "../core/address.ts";
import { type Coverage, sumOf } from "../core/coverage.ts";
import { naming, UnavailableError, UsageError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { Warning } from "../core/warnings.ts";
import { PF_R, PF_W, PF_X } from "../elf/constants.ts";
import type { MemslotFacts } from "../guest/memslot-memory.ts";
import { processSpace } from "../guest/process-space.ts";
import { identitiesOf } from "../io/file.ts";
import { refuseToOverwrite } from "../io/output.ts";
import type { LinuxKernel } from "../kernel/open-kernel.ts";
import { ProcessPages } from "../kernel/process-pages.ts";
import { listVmas, type Vma, type VmaList } from "../kernel/vmas.ts";
import { LostPages } from "../vmcore/lost-pages.ts";
import type { MissingRange } from "../vmcore/plan.ts";
import { type CoreMapping, planCore, writeCore } from "../vmcore/process-core.ts";
import { type CoreNotes, coreNotes } from "./gcore-notes.ts";
import { type ChosenProcess, chooseProcess, type ProcessChoice } from "./gcore-process.ts";
import { DUMP_HINT, gcoreWarnings } from "./gcore-warnings.ts";
import { type HostDump, type HostOptions, openHost } from "./host.ts";
import { type Input, openInput } from "./input.ts";
import { keepingPartial, openVmcoreOutput } from "./vmcore-output.ts";

export interface GcoreOptions extends ProcessChoice {
  readonly input: string;
  readonly host?: HostOptions;
  /** Path of the core, or "-" for standard output; not needed for a dry run. */
  readonly output: string | undefined;
  readonly dryRun: boolean;
  readonly force: boolean;
  readonly keepPartial: boolean;
}

/** A mapping of the process, and how much of it is in the core. */
export interface MappingCoverage extends CoreMapping {
  readonly coverage: Coverage;
}

export interface GcoreResult {
  readonly input: Input["facts"];
  readonly host: HostDump;
  readonly process: ChosenProcess;
  readonly notes: CoreNotes;
  readonly mappings: readonly MappingCoverage[];
  readonly coverage: Coverage;
  /** What the host's memory has of the mappings that are written. */
  readonly memory: MemslotFacts;
  /** Of which the core has nothing. */
  readonly missing: readonly MissingRange[];
  readonly output: {
    /** Undefined for a dry run. */
    readonly path: string | undefined;
    /** Length of the core in bytes, and how many of them are not holes. */
    readonly size: number;
    readonly bytes: number;
  };
  readonly warnings: readonly Warning[];
}

/**
 * Writes the core of a process out of the vmcore of its host.
 * @throws UnsupportedError, CorruptError for the input; UsageError when no process is named, or for the output;
 * UnavailableError when there is no such process, or nothing of its memory; IoError for the output
 */
export async function gcore(options: GcoreOptions, context: JobContext): Promise<GcoreResult> {
  const { input: path, output, dryRun, force } = options;
  const { vmcsinfo, parts = [] } = options.host ?? {};
  if (!dryRun && output !== undefined && output !== "-") {
    const read = [path, ...parts, ...(vmcsinfo === undefined ? [] : [vmcsinfo])];
    refuseToOverwrite(output, force, identitiesOf(read));
  }
  const warnings: Warning[] = [];
  const warn = (found: readonly Warning[]) => {
    for (const warning of found) {
      warnings.push(warning);
      context.warn(warning);
    }
  };
  return await naming(path, async () => {
    const input = await openInput(path, context, options.host);
    try {
      warn(input.warnings);
      const host = await openHost(input, options.host ?? {}, warn, context);
      return { ...(await coreOf(host, input, options, warn, context)), warnings };
    } finally {
      input.close();
    }
  });
}

async function coreOf(
  host: HostDump,
  input: Input,
  options: GcoreOptions,
  warn: (warnings: readonly Warning[]) => void,
  context: JobContext,
): Promise<Omit<GcoreResult, "warnings">> {
  const chosen = chooseProcess(host, options);
  const { kernel, mm } = chosen;
  const pages = ProcessPages.of(kernel, mm);
  if (pages === undefined) {
    throw new UnavailableError("the page tables of the process are not in this dump", {
      hint: "another process's may be: guestcore kernel HOST --tasks lists them",
    });
  }
  const vmas = listVmas(kernel.reader, kernel.types, mm);
  const all = mappingsOf(kernel, vmas);
  const notes = coreNotes(host, chosen, vmas.vmas);
  const readable = all.filter(({ contents }) => contents === "memory");
  const memory = await processSpace(host.memory, pages, readable, context.checkpoint);
  const mappings = all.map((mapping): CoreMapping => {
    if (mapping.contents !== "memory" || mapping.flags !== 0) return mapping;
    const { state, end } = memory.extentAt(mapping.start, mapping.end);
    return state === "zero" && end === mapping.end ? { ...mapping, contents: "left-out" } : mapping;
  });
  const plan = await planCore(memory, mappings, notes.bytes.length, context.checkpoint);
  if (plan.loads.length === 0) {
    throw new UnavailableError("none of the process's memory is in this dump", { hint: DUMP_HINT });
  }
  const lost = new LostPages();
  const job = { memory, plan, notes: notes.bytes, context, lost };
  const coverages = await writeOrRead(job, input, options, warn, context);
  const coverage = sumOf(coverages);
  warn([
    ...lost.warnings(),
    ...gcoreWarnings(host, chosen, notes, { vmas, known: all.length }, memory.facts, coverage),
  ]);
  return {
    input: input.facts,
    host,
    process: chosen,
    notes,
    mappings: mappings.map((mapping, i) => ({ ...mapping, coverage: coverages[i]! })),
    coverage,
    memory: memory.facts,
    missing: plan.missing,
    output: {
      path: options.dryRun ? undefined : options.output,
      size: plan.size,
      bytes: coverage.present,
    },
  };
}

async function writeOrRead(
  job: Omit<Parameters<typeof writeCore>[0], "output">,
  input: Input,
  { output: path, dryRun, force, keepPartial }: GcoreOptions,
  warn: (warnings: readonly Warning[]) => void,
  context: JobContext,
): Promise<Coverage[]> {
  if (dryRun) return await writeCore({ ...job, output: undefined });
  if (path === undefined) throw new UsageError("no output given", { hint: "name one with -o CORE" });
  const sources = {
    identities: input.facts.identities,
    sizeOnDisk: input.sizeOnDisk,
    counting: "gcore --dry-run counts exactly how much it will be",
  };
  const output = openVmcoreOutput(path, force, job.plan, sources, warn, context);
  return await keepingPartial(output, keepPartial, context, () => writeCore({ ...job, output }));
}

/** VM_* of include/linux/mm.h, the same in every version. */
const VM_READ = 1n;
const VM_WRITE = 2n;
const VM_EXEC = 4n;
/** Page frames without a struct page, and registers of devices: no memory, and reading one could have had effects. */
const VM_PFNMAP = 0x400n;
const VM_IO = 0x4000n;

/** All that lies in user space, as a processor of the kernel's paging has it. */
export function mappingsOf({ shape }: Pick<LinuxKernel, "shape">, { vmas }: VmaList): CoreMapping[] {
  const limit = Math.min(ADDRESS_LIMIT, 2 ** (shape.addressBits - 1));
  return vmas.filter(({ end }) => end <= BigInt(limit)).map(mappingOf);
}

function mappingOf({ start, end, flags }: Vma): CoreMapping {
  const protection =
    ((flags & VM_READ) !== 0n ? PF_R : 0) |
    ((flags & VM_WRITE) !== 0n ? PF_W : 0) |
    ((flags & VM_EXEC) !== 0n ? PF_X : 0);
  const isMemory = (flags & (VM_PFNMAP | VM_IO)) === 0n;
  return {
    start: Number(start),
    end: Number(end),
    flags: protection,
    contents: isMemory ? "memory" : "left-out",
  };
}
