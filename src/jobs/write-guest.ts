import { UnavailableError, UsageError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { bytesText } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { Guest } from "../guest/guest.ts";
import type { FileIdentity } from "../io/file.ts";
import { freeSpaceFor, type Output, OutputFile, OutputStream } from "../io/output.ts";
import { describeLinux, type LinuxImage } from "../kernel/linux.ts";
import { overlookedWarnings, VmcoreinfoScanner, type VmcoreinfoSearch } from "../kernel/vmcoreinfo-scan.ts";
import { type Coverage, sumOf } from "../vmcore/copy.ts";
import {
  type MissingRange,
  plannedBytes,
  planVmcore,
  type VmcoreFormat,
  type VmcorePlan,
} from "../vmcore/plan.ts";
import { copyGuest, type KernelView, type RangeCoverage, writeVmcore } from "../vmcore/write.ts";

/** How a guest is to be written, whoever found it. */
export interface WriteGuestOptions {
  /** Path of the vmcore, or "-" for standard output; not needed for a dry run. */
  readonly output: string | undefined;
  readonly format: VmcoreFormat;
  /** p_vaddr of the PT_LOADs: the guest kernel's direct map, or equal to p_paddr. */
  readonly vaddr: "direct-map" | "none";
  readonly dryRun: boolean;
  readonly force: boolean;
  readonly keepPartial: boolean;
}

/** What a guest is read from: files that must not be written to, and how much data they can hold. */
export interface GuestInputs {
  readonly identities: readonly FileIdentity[];
  readonly sizeOnDisk: number;
  /** What to do when nothing of the guest is there. */
  readonly hint: string;
}

export interface WrittenGuest {
  readonly guest: Guest;
  readonly ranges: readonly RangeCoverage[];
  readonly coverage: Coverage;
  /** Guest-physical ranges of which nothing is in the output. */
  readonly missing: readonly MissingRange[];
  readonly vmcoreinfo: VmcoreinfoSearch;
  readonly linux: LinuxImage | undefined;
  /** Program headers of the vmcore, or a few more. */
  readonly headers: number;
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
}

/**
 * Writes a guest as a vmcore, or for a dry run only reads it.
 * @throws UnavailableError when nothing of its memory is there; UsageError, IoError for the output
 */
export async function writeGuest(
  whole: Guest,
  options: WriteGuestOptions,
  inputs: GuestInputs,
  warn: (warnings: readonly Warning[]) => void,
  context: JobContext,
): Promise<WrittenGuest> {
  const guest = options.format === "raw" ? withoutDevices(whole) : whole;
  const plan = await planVmcore(guest, options.format, context.checkpoint);
  if (plan.loads.length === 0) {
    throw new UnavailableError("none of the guest's memory is in this file", { hint: inputs.hint });
  }
  if (options.format === "raw" && plan.missing.length > 0) warn([MISSING_IN_RAW]);
  const kernel = new KernelFinder(guest, options, context);
  const output = openOutput(options, plan, inputs, warn);
  const ranges = await write(guest, plan, output, kernel, options, context);
  warn(await kernel.warnings());
  const coverage = sumOf(ranges.map((range) => range.coverage));
  if (coverage.excluded > 0) warn([excludedWarning(coverage.excluded, inputs.hint)]);
  return {
    guest,
    ranges,
    coverage,
    missing: plan.missing,
    vmcoreinfo: await kernel.search(),
    linux: kernel.linux,
    headers: plan.headers,
    output: {
      path: output === undefined ? undefined : options.output,
      format: options.format,
      size: plan.size,
      bytes: coverage.present,
      kernelAddresses: (await kernel.view()).pageOffset !== undefined,
    },
  };
}

const excludedWarning = (bytes: number, hint: string): Warning => ({
  code: "RAM008",
  message: `${bytesText(bytes)} of the guest's memory were left out of the host's dump on purpose`,
  hint,
});

export const MISSING_IN_RAW: Warning = {
  code: "OUT003",
  message: "a raw image cannot say what is missing: those ranges will read as zeros",
  hint: "--format elf leaves them out; --json lists them",
};

/** A raw image is as long as its highest address: memory behind PCI BARs is no part of it. */
const withoutDevices = (guest: Guest): Guest => ({
  ...guest,
  ranges: guest.ranges.filter(({ kind }) => kind !== "device"),
});

/** Looks for the guest's kernel in memory that is being read anyway. */
class KernelFinder {
  linux: LinuxImage | undefined;
  readonly #guest: Guest;
  readonly #options: WriteGuestOptions;
  readonly #scanner: VmcoreinfoScanner;
  readonly #checkpoint: JobContext["checkpoint"];
  #search: VmcoreinfoSearch | undefined;

  constructor(guest: Guest, options: WriteGuestOptions, { checkpoint }: JobContext) {
    this.#checkpoint = checkpoint;
    this.#guest = guest;
    this.#options = options;
    this.#scanner = new VmcoreinfoScanner(guest.memory, { states: guest.vcpus.map(({ state }) => state) });
  }

  readonly observe = (bytes: Buffer, address: number): void => {
    this.#scanner.scan(bytes, address);
  };

  /** What was found; call it when all memory has been seen. */
  async search(): Promise<VmcoreinfoSearch> {
    if (this.#search === undefined) {
      const search = this.#scanner.result;
      const states = this.#guest.vcpus.map(({ state }) => state);
      const evidence = { states, vmcoreinfo: search.best?.vmcoreinfo };
      this.linux = await describeLinux(this.#guest.memory, evidence, this.#checkpoint);
      this.#search = search;
    }
    return this.#search;
  }

  async warnings(): Promise<readonly Warning[]> {
    return [...overlookedWarnings(await this.search()), ...(this.linux?.warnings ?? [])];
  }

  async view(): Promise<KernelView> {
    const vmcoreinfo = (await this.search()).best?.vmcoreinfo.text;
    const identity = this.#options.vaddr === "none";
    return {
      is32Bit: this.linux?.architecture === "i386",
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
  options: WriteGuestOptions,
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
        message: `what was written until then is in ${kept}; it may not be a whole vmcore`,
      });
    }
    throw error;
  }
}

function openOutput(
  options: WriteGuestOptions,
  plan: VmcorePlan,
  { identities, sizeOnDisk }: GuestInputs,
  warn: (warnings: readonly Warning[]) => void,
): Output | undefined {
  if (options.dryRun) return undefined;
  if (options.output === undefined) throw new UsageError("no output given", { hint: "name one with -o OUT" });
  if (options.output === "-") return new OutputStream(1);
  const output = OutputFile.create(options.output, { force: options.force, inputs: identities });
  // Pages that are holes in the input are zero and become holes again.
  const most = Math.min(plannedBytes(plan), sizeOnDisk) + plan.notesOffset;
  const free = freeSpaceFor(options.output);
  if (free !== undefined && free < most) {
    const message = `up to ${bytesText(most)} will be written, ${bytesText(free)} are free; zero pages take no space`;
    warn([{ code: "OUT001", message, hint: "--dry-run counts exactly how much it will be" }]);
  }
  return output;
}
