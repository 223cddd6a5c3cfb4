import { type Coverage, sumOf } from "../core/coverage.ts";
import { naming, UnavailableError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { Warning } from "../core/warnings.ts";
import type { DumpedCpu } from "../dump/format.ts";
import { type MachineDump, openAnyDump } from "../dump/open.ts";
import { EM_X86_64, machineName } from "../elf/constants.ts";
import type { Guest, Vcpu } from "../guest/guest.ts";
import { identitiesOf } from "../io/file.ts";
import { refuseToOverwrite } from "../io/output.ts";
import { describeLinux, type LinuxImage } from "../kernel/linux.ts";
import { Vmcoreinfo } from "../kernel/vmcoreinfo.ts";
import { findVmcoreinfo } from "../kernel/vmcoreinfo-scan.ts";
import { elfTargetOf } from "../vmcore/elf-target.ts";
import { LostPages } from "../vmcore/lost-pages.ts";
import { planVmcore, type VmcoreFormat } from "../vmcore/plan.ts";
import { kdumpOf, writeVmcore } from "../vmcore/write.ts";
import type { X86State } from "../x86/state.ts";
import { type DumpNaming, type Input, openInput } from "./input.ts";
import { viewOfKernel } from "./kernel-view.ts";
import { keepingPartial, openVmcoreOutput } from "./vmcore-output.ts";
import { kdumpStyleOf, type VmcoreStyle } from "./vmcore-style.ts";
import { firmwareLeftOut, fittedTo, lostWarnings, MISSING_IN_RAW } from "./write-guest.ts";

export interface ConvertDumpOptions extends DumpNaming, VmcoreStyle {
  readonly input: string;
  /** Path, or "-" for standard output. */
  readonly output: string;
  readonly force: boolean;
  readonly keepPartial: boolean;
}

export interface ConvertDumpResult {
  readonly input: Input["facts"];
  /** ELF's e_machine of the machine dumped. */
  readonly machine: number;
  /** Names of the further files that the dump was read from. */
  readonly parts: readonly string[];
  readonly coverage: Coverage;
  readonly linux: LinuxImage | undefined;
  /** Whether VMCOREINFO is a note of what was written, and whether it was one of the input. */
  readonly vmcoreinfo: "carried" | "found" | "none";
  readonly output: {
    readonly path: string;
    readonly format: VmcoreFormat;
    readonly size: number;
    readonly headers: number;
    readonly kernelAddresses: boolean;
  };
  readonly warnings: readonly Warning[];
}

/**
 * Writes a machine's dump anew, in the format asked for.
 * @throws UnsupportedError, CorruptError for the input; UsageError, IoError for the output
 */
export function convertDump(options: ConvertDumpOptions, context: JobContext): Promise<ConvertDumpResult> {
  return naming(options.input, async () => {
    kdumpStyleOf(options, options.output);
    if (options.output !== "-") {
      refuseToOverwrite(
        options.output,
        options.force,
        identitiesOf([options.input, ...(options.parts ?? [])]),
      );
    }
    const input = await openInput(options.input, context, options);
    try {
      return await convertInput(input, options, context);
    } finally {
      input.close();
    }
  });
}

async function convertInput(
  input: Input,
  options: ConvertDumpOptions,
  context: JobContext,
): Promise<ConvertDumpResult> {
  const dump = await openAnyDump(input.source, input.files);
  if (dump.machine !== EM_X86_64 && (options.format === "kdump" || options.format === "flat")) {
    throw kdumpOf(machineName(dump.machine));
  }
  const { vmcoreinfo, source } = await vmcoreinfoOf(dump, context);
  const linux = await kernelOf(dump, vmcoreinfo, context);
  const { guest: machine, firmware } = fittedTo(machineOf(dump), options);
  const plan = await planVmcore(machine, options.format, context.checkpoint);
  const warnings: Warning[] = [];
  const warn = (found: readonly Warning[]) => {
    for (const warning of found) {
      warnings.push(warning);
      context.warn(warning);
    }
  };
  warn([
    ...input.warnings,
    ...dump.warnings,
    ...(linux?.warnings ?? []),
    ...(firmware > 0 ? [firmwareLeftOut(firmware)] : []),
    ...inGuestWarnings(dump.cpus),
    ...(options.format === "raw" && plan.missing.length > 0 ? [MISSING_IN_RAW] : []),
  ]);
  if (plan.loads.length === 0) throw new UnavailableError("none of the machine's memory is in this dump");
  const view = { ...viewOfKernel(dump.memory, linux, vmcoreinfo), target: elfTargetOf(dump, plan) };
  const style = kdumpStyleOf(options, options.output);
  // Pages that only turn out to be damaged are told of by themselves.
  const incomplete = dump.incomplete === true || plan.missing.some(({ state }) => state === "absent");
  const kdump = style && { ...style, dumpLevel: dump.dumpLevel ?? 0, incomplete };
  const lost = new LostPages();
  const { output: path, force, keepPartial } = options;
  const sources = {
    identities: input.facts.identities,
    sizeOnDisk: input.sizeOnDisk,
    counting: "guestcore verify, on the dump itself, counts how much of it is zeros",
  };
  const output = openVmcoreOutput(path, force, plan, sources, warn, context);
  const { ranges, size } = await keepingPartial(output, keepPartial, context, () =>
    writeVmcore({
      ...{ guest: machine, plan, output, kernel: () => view, context, lost },
      ...(kdump && { kdump }),
    }),
  );
  warn(lostWarnings(lost, plan));
  return {
    input: input.facts,
    machine: dump.machine,
    parts: dump.parts ?? [],
    coverage: sumOf(ranges.map(({ coverage }) => coverage)),
    linux,
    vmcoreinfo: source,
    output: {
      path: options.output,
      format: options.format,
      size,
      headers: plan.format === "elf" ? plan.headers + lost.runs.length : 0,
      kernelAddresses: view.pageOffset !== undefined,
    },
    warnings,
  };
}

/** Of other machines than x86-64 the memory is carried over, not understood. */
async function kernelOf(
  { memory, machine, cpus }: MachineDump,
  vmcoreinfo: Vmcoreinfo | undefined,
  { checkpoint }: JobContext,
): Promise<LinuxImage | undefined> {
  if (machine !== EM_X86_64) return undefined;
  return await describeLinux(memory, { states: statesOf(cpus), vmcoreinfo }, checkpoint);
}

/** Registers of a processor that was in a guest are not this machine's. */
const statesOf = (cpus: readonly DumpedCpu[]): X86State[] =>
  cpus.filter(({ inGuest }) => inGuest === undefined).map(({ state }) => state);

/** Its own note's, else one found in memory: QEMU writes the note for few machines. */
async function vmcoreinfoOf(
  { memory, notes, cpus, machine }: MachineDump,
  { checkpoint }: JobContext,
): Promise<{
  readonly vmcoreinfo: Vmcoreinfo | undefined;
  readonly source: ConvertDumpResult["vmcoreinfo"];
}> {
  const desc = notes.find(({ name }) => name === "VMCOREINFO")?.desc;
  if (desc !== undefined) return { vmcoreinfo: new Vmcoreinfo(desc), source: "carried" };
  if (machine !== EM_X86_64) return { vmcoreinfo: undefined, source: "none" };
  const { best } = await findVmcoreinfo(memory, { states: statesOf(cpus), checkpoint });
  return { vmcoreinfo: best?.vmcoreinfo, source: best === undefined ? "none" : "found" };
}

/** Notes have no place to say that registers are a guest's; tools take them for the host's. */
function inGuestWarnings(cpus: MachineDump["cpus"]): Warning[] {
  const guests = cpus.filter(({ inGuest }) => inGuest !== undefined);
  if (guests.length === 0) return [];
  const numbers = guests.map(({ index }) => index).join(", ");
  const message = `${guests.length === 1 ? "CPU" : "CPUs"} ${numbers} ran a guest when the dump was made: in the notes they have the guest's registers, the host's are not in the dump`;
  return [{ code: "DMP012", message, hint: "guestcore guests, on the dump itself, shows whose they are" }];
}

const machineOf = ({ memory, notes, cpus }: MachineDump): Guest => ({
  memory,
  notes,
  vcpus: cpus.map((cpu): Vcpu => ({ ...cpu, trust: "current" })),
  ranges: memory.ranges.map(({ start, end }) => ({
    start,
    end,
    kind: "ram",
    source: "RAM",
    sourceOffset: start,
  })),
});
