import { naming, UnavailableError, UnsupportedError, UsageError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";
import { bytesText, shellWord } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { elfKind } from "../dump/elf-kind.ts";
import { identify } from "../dump/identify.ts";
import { openProcessCore, type ProcessCore } from "../dump/process-core.ts";
import { ET_CORE } from "../elf/constants.ts";
import { isElf, readElf } from "../elf/header.ts";
import { readNotes } from "../elf/notes.ts";
import { guestFromQemu } from "../guest/from-qemu.ts";
import type { Guest } from "../guest/guest.ts";
import { FileSource } from "../io/file.ts";
import { freeSpaceFor, type Output, OutputFile, OutputStream, refuseToOverwrite } from "../io/output.ts";
import { describeLinux, type LinuxImage } from "../kernel/linux.ts";
import { VmcoreinfoScanner, type VmcoreinfoSearch } from "../kernel/vmcoreinfo-scan.ts";
import { findMachine, type QemuMachine } from "../qemu/machine.ts";
import type { Coverage } from "../vmcore/copy.ts";
import { plannedBytes, planVmcore, type VmcoreFormat, type VmcorePlan } from "../vmcore/plan.ts";
import { copyGuest, type KernelView, type RangeCoverage, writeVmcore } from "../vmcore/write.ts";
import { type Input, openInput } from "./input.ts";

export interface ExtractOptions {
  readonly input: string;
  /** Path of the vmcore, or "-" for standard output; not needed for a dry run. */
  readonly output: string | undefined;
  readonly format: VmcoreFormat;
  /** p_vaddr of the PT_LOADs: the guest kernel's direct map, or equal to p_paddr. */
  readonly vaddr: "direct-map" | "none";
  /** RAMBlock → path of a file with its contents. */
  readonly ram: ReadonlyMap<string, string>;
  readonly layout: string | undefined;
  readonly dryRun: boolean;
  readonly force: boolean;
  readonly keepPartial: boolean;
}

export interface ExtractResult {
  readonly input: Input["facts"];
  readonly core: ProcessCore;
  readonly machine: QemuMachine;
  readonly guest: Guest;
  readonly ranges: readonly RangeCoverage[];
  readonly coverage: Coverage;
  /** Guest-physical ranges of which nothing is in the output. */
  readonly missing: readonly Range[];
  readonly vmcoreinfo: VmcoreinfoSearch;
  readonly linux: LinuxImage | undefined;
  readonly output: {
    /** Undefined for a dry run. */
    readonly path: string | undefined;
    readonly format: VmcoreFormat;
    /** Length of the file in bytes, and how many of them are not holes. */
    readonly size: number;
    readonly bytes: number;
    /** Whether the PT_LOADs carry the guest kernel's virtual addresses. */
    readonly kernelAddresses: boolean;
  };
  readonly warnings: readonly Warning[];
}

/**
 * Writes the guest of a qemu-process core as a vmcore of its own.
 * @throws UnsupportedError, CorruptError, UnavailableError for the input; UsageError, IoError for the output
 */
export function extract(options: ExtractOptions, context: JobContext): Promise<ExtractResult> {
  return naming(options.input, () => extractNamed(options, context));
}

async function extractNamed(options: ExtractOptions, context: JobContext): Promise<ExtractResult> {
  if (options.output !== undefined && options.output !== "-")
    checkOutput(options.input, options.output, options.force);
  const input = await openInput(options.input, context);
  const ram = new Map<string, FileSource>();
  try {
    for (const [block, path] of options.ram) ram.set(block, FileSource.open(path));
    return await extractFrom(input, ram, options, context);
  } finally {
    for (const source of ram.values()) source.close();
    input.close();
  }
}

/** Before the input is unpacked and searched: the answer would be the same afterwards. */
function checkOutput(input: string, output: string, force: boolean): void {
  const source = FileSource.open(input);
  try {
    refuseToOverwrite(output, force, [source.identity()]);
  } finally {
    source.close();
  }
}

async function extractFrom(
  input: Input,
  ram: ReadonlyMap<string, FileSource>,
  options: ExtractOptions,
  context: JobContext,
): Promise<ExtractResult> {
  const warnings: Warning[] = [];
  const warn = (found: readonly Warning[]) => {
    for (const warning of found) {
      warnings.push(warning);
      context.warn(warning);
    }
  };
  warn(input.warnings);
  requireProcessCore(input.source);
  const core = openProcessCore(input.source);
  warn(core.warnings);
  const machine = findMachine(core, {
    ram,
    ...(options.layout === undefined ? {} : { layout: options.layout }),
  });
  warn(machine.warnings);
  checkBlocks(machine, ram, warn);
  const whole = guestFromQemu(machine);
  const guest = options.format === "raw" ? withoutDevices(whole) : whole;
  const plan = planVmcore(guest, options.format);
  if (plan.loads.length === 0) throw nothingThere(machine);
  if (options.format === "raw" && plan.missing.length > 0) warn([MISSING_IN_RAW]);

  const kernel = new KernelFinder(guest, options);
  const output = openOutput(options, plan, input, ram, warn);
  const ranges = await write(guest, plan, output, kernel, options, context);
  warn(kernel.warnings);
  const coverage = sum(ranges);
  return {
    input: input.facts,
    core,
    machine,
    guest,
    ranges,
    coverage,
    missing: plan.missing,
    vmcoreinfo: kernel.search,
    linux: kernel.linux,
    output: {
      path: output === undefined ? undefined : options.output,
      format: options.format,
      size: plan.size,
      bytes: coverage.present,
      kernelAddresses: kernel.view().pageOffset !== undefined,
    },
    warnings,
  };
}

const MISSING_IN_RAW: Warning = {
  code: "OUT003",
  message: "a raw image cannot say what is missing: those ranges will read as zeros",
  hint: "--format elf leaves them out; --json lists them",
};

/** A raw image is as long as its highest address: memory behind PCI BARs is no part of it. */
const withoutDevices = (guest: Guest): Guest => ({
  ...guest,
  ranges: guest.ranges.filter(({ kind }) => kind !== "device"),
});

/** Says what the file is when it is not the core of a process, and what to do with it. */
function requireProcessCore(source: ByteSource): void {
  if (!isElf(source)) {
    const { phrase, advice } = identify(source);
    throw new UnsupportedError(`not the core of a process: ${phrase}`, { hint: advice });
  }
  const elf = readElf(source);
  if (elf.header.type === ET_CORE && elfKind(elf, readNotes(source, elf).notes) === "vmcore") {
    throw new UnsupportedError("a vmcore, not the core of a process: it opens as it is", {
      hint: `guestcore info ${shellWord(source.name)} prints the commands`,
    });
  }
}

/** Looks for the guest's kernel in memory that is being read anyway. */
class KernelFinder {
  linux: LinuxImage | undefined;
  readonly #guest: Guest;
  readonly #options: ExtractOptions;
  readonly #scanner: VmcoreinfoScanner;
  #search: VmcoreinfoSearch | undefined;

  constructor(guest: Guest, options: ExtractOptions) {
    this.#guest = guest;
    this.#options = options;
    this.#scanner = new VmcoreinfoScanner(guest.memory, { states: guest.vcpus.map(({ state }) => state) });
  }

  readonly observe = (bytes: Buffer, address: number): void => {
    this.#scanner.scan(bytes, address);
  };

  /** What was found; call it when all memory has been seen. */
  get search(): VmcoreinfoSearch {
    if (this.#search === undefined) {
      this.#search = this.#scanner.result;
      const vmcoreinfo = this.#search.best?.vmcoreinfo;
      this.linux = describeLinux(this.#guest.memory, {
        states: this.#guest.vcpus.map(({ state }) => state),
        ...(vmcoreinfo === undefined ? {} : { vmcoreinfo }),
      });
    }
    return this.#search;
  }

  get warnings(): readonly Warning[] {
    return this.linux?.warnings ?? [];
  }

  view(): KernelView {
    const vmcoreinfo = this.search.best?.vmcoreinfo.text;
    const identity = this.#options.vaddr === "none";
    return {
      vmcoreinfo: vmcoreinfo === undefined ? undefined : Buffer.from(vmcoreinfo, "latin1"),
      pageOffset: identity ? undefined : this.linux?.pageOffset?.value,
      image: identity ? undefined : this.linux?.text?.value,
    };
  }
}

async function write(
  guest: Guest,
  plan: VmcorePlan,
  output: Output | undefined,
  kernel: KernelFinder,
  options: ExtractOptions,
  context: JobContext,
): Promise<RangeCoverage[]> {
  const { observe } = kernel;
  if (output === undefined) return await copyGuest(guest, plan, { context, observe });
  try {
    // A pipe takes the header first, so the kernel has to be found before: the memory is read twice.
    if (!output.seekable && options.format === "elf") await copyGuest(guest, plan, { context, observe });
    return await writeVmcore({ guest, plan, output, context, observe, kernel: () => kernel.view() });
  } catch (error) {
    const kept = output.abandon(options.keepPartial);
    if (kept !== undefined) {
      context.warn({
        code: "OUT002",
        message: `what was written until then is in ${kept}; it is not a whole vmcore`,
      });
    }
    throw error;
  }
}

function openOutput(
  options: ExtractOptions,
  plan: VmcorePlan,
  input: Input,
  ram: ReadonlyMap<string, FileSource>,
  warn: (warnings: readonly Warning[]) => void,
): Output | undefined {
  if (options.dryRun) return undefined;
  if (options.output === undefined) throw new UsageError("no output given", { hint: "name one with -o OUT" });
  if (options.output === "-") return new OutputStream(1);
  const inputs = [input.identity, ...[...ram.values()].map((source) => source.identity())];
  const output = OutputFile.create(options.output, { force: options.force, inputs });
  // Pages that are holes in the input are zero and become holes again.
  const most = Math.min(plannedBytes(plan), input.facts.sizeOnDisk + ramBytes(ram)) + plan.notesOffset;
  const free = freeSpaceFor(options.output);
  if (free !== undefined && free < most) {
    const message = `up to ${bytesText(most)} will be written, ${bytesText(free)} are free; zero pages take no space`;
    warn([{ code: "OUT001", message, hint: "--dry-run counts exactly how much it will be" }]);
  }
  return output;
}

const ramBytes = (ram: ReadonlyMap<string, FileSource>): number =>
  [...ram.values()].reduce((total, source) => total + source.sizeOnDisk(), 0);

function checkBlocks(
  machine: QemuMachine,
  ram: ReadonlyMap<string, FileSource>,
  warn: (warnings: readonly Warning[]) => void,
): void {
  for (const [name, source] of ram) {
    const block = machine.blocks.find(({ idstr }) => idstr === name);
    if (block === undefined) {
      const names = machine.blocks.map(({ idstr }) => idstr).join(", ");
      throw new UsageError(`this machine has no RAMBlock "${name}"`, { hint: `its RAMBlocks are: ${names}` });
    }
    if (!isMissing(machine, name)) {
      const message = `all of ${name} is in the core: ${source.name} is not used`;
      warn([{ code: "RAM007", message }]);
    } else if (source.size < block.usedLength) {
      const message = `${source.name} has ${bytesText(source.size)}, but ${name} is ${bytesText(block.usedLength)} long`;
      warn([{ code: "RAM005", message, hint: "is it the file of this backend, and the whole of it?" }]);
    }
  }
}

const nothingThere = (machine: QemuMachine) =>
  new UnavailableError("none of the guest's memory is in this core", {
    hint: machine.warnings[0]?.hint ?? "take the core again with the guest's memory in it",
  });

function sum(ranges: readonly RangeCoverage[]): Coverage {
  const total: Coverage = { present: 0, zero: 0, missing: 0 };
  for (const { coverage } of ranges) {
    total.present += coverage.present;
    total.zero += coverage.zero;
    total.missing += coverage.missing;
  }
  return total;
}

/** Whether the core lacks any of a block's memory. */
const isMissing = ({ incomplete }: QemuMachine, block: string): boolean => incomplete.has(block);
