import { type Coverage, sumOf } from "../core/coverage.ts";
import { UnavailableError, UsageError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { bytesText } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { encryptedWarning, looksEncrypted } from "../guest/ciphertext.ts";
import type { Guest } from "../guest/guest.ts";
import type { Output } from "../io/output.ts";
import { describeLinux, type LinuxImage } from "../kernel/linux.ts";
import { overlookedWarnings, VmcoreinfoScanner, type VmcoreinfoSearch } from "../kernel/vmcoreinfo-scan.ts";
import type { KernelView } from "../vmcore/kernel-view.ts";
import { LostPages } from "../vmcore/lost-pages.ts";
import { type MissingRange, planVmcore, type VmcoreFormat, type VmcorePlan } from "../vmcore/plan.ts";
import { copyGuest, type RangeCoverage, type WrittenVmcore, writeVmcore } from "../vmcore/write.ts";
import { viewOfKernel } from "./kernel-view.ts";
import { keepingPartial, openVmcoreOutput, type VmcoreSources } from "./vmcore-output.ts";
import { kdumpStyleOf, type VmcoreStyle } from "./vmcore-style.ts";

/** How a guest is to be written, whoever found it. */
export interface WriteGuestOptions extends VmcoreStyle {
  /** Path of the vmcore, or "-" for standard output; not needed for a dry run. */
  readonly output: string | undefined;
  /** p_vaddr of the PT_LOADs: the guest kernel's direct map, or equal to p_paddr. */
  readonly vaddr: "direct-map" | "none";
  readonly dryRun: boolean;
  readonly force: boolean;
  readonly keepPartial: boolean;
}

/** What a guest is read from. */
export interface GuestInputs extends VmcoreSources {
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
  const { guest, firmware } = fittedTo(whole, options);
  if (firmware > 0) warn([firmwareLeftOut(firmware)]);
  const plan = await planVmcore(guest, options.format, context.checkpoint);
  if (plan.loads.length === 0) {
    throw new UnavailableError("none of the guest's memory is in this file", { hint: inputs.hint });
  }
  if (options.format === "raw" && plan.missing.length > 0) warn([MISSING_IN_RAW]);
  const kernel = new KernelFinder(guest, options, context);
  const lost = new LostPages();
  const { ranges, size } = await writeOrRead(guest, plan, kernel, lost, options, inputs, warn, context);
  warn([...lostWarnings(lost, plan), ...(await kernel.warnings())]);
  const coverage = sumOf(ranges.map((range) => range.coverage));
  if (coverage.excluded > 0) warn([excludedWarning(coverage.excluded, inputs.hint)]);
  return {
    guest,
    ranges,
    coverage,
    missing: missingOf(plan, lost),
    vmcoreinfo: await kernel.search(),
    linux: kernel.linux,
    headers: plan.headers + lost.runs.length,
    output: {
      path: options.dryRun ? undefined : options.output,
      format: options.format,
      size,
      bytes: plan.kdump === undefined ? coverage.present : size,
      kernelAddresses: (await kernel.view()).pageOffset !== undefined,
    },
  };
}

/** What was missing from the start, and what turned out to be. */
const missingOf = ({ missing }: VmcorePlan, lost: LostPages): readonly MissingRange[] =>
  lost.runs.length === 0
    ? missing
    : [...missing, ...lost.runs.map((run) => ({ ...run, state: "absent" as const }))].sort(
        (left, right) => left.start - right.start,
      );

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

/** What is to be told of pages that could not be read; of gaps in a raw image only when it had none before. */
export const lostWarnings = (lost: LostPages, { format, missing }: VmcorePlan): Warning[] => [
  ...lost.warnings(),
  ...(format === "raw" && lost.runs.length > 0 && missing.length === 0 ? [MISSING_IN_RAW] : []),
];

const TOP = 2 ** 32;
const MAX_FIRMWARE = 16 * 2 ** 20;

/**
 * What of a machine's memory goes into a format. A raw image is as long as its highest address, and so are bitmaps: memory
 * behind PCI BARs is no part of them. Firmware below 4 GiB, with no RAM above it, has no struct page, and makedumpfile
 * fails on a kdump-compressed dump that has it, as on QEMU's own: only -d 0 keeps it.
 */
export function fittedTo(
  guest: Guest,
  { format, dumpLevel }: VmcoreStyle,
): { readonly guest: Guest; readonly firmware: number } {
  if (format === "elf" || format === "lime") return { guest, firmware: 0 };
  const ranges = guest.ranges.filter(({ kind }) => kind !== "device");
  const [last, before] = [ranges.at(-1), ranges.at(-2)];
  const size = last === undefined ? 0 : last.end - last.start;
  const isFirmware =
    last?.end === TOP && size <= MAX_FIRMWARE && before !== undefined && before.end < last.start;
  if (format === "raw" || dumpLevel === 0 || !isFirmware) return { guest: { ...guest, ranges }, firmware: 0 };
  return { guest: { ...guest, ranges: ranges.slice(0, -1) }, firmware: size };
}

export const firmwareLeftOut = (bytes: number): Warning => ({
  code: "OUT004",
  message: `${bytesText(bytes)} of firmware below 4 GiB are left out: makedumpfile reads no such dump that has them`,
  hint: "-d 0 keeps them; crash and drgn do not mind",
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
    const search = await this.search();
    const isUnknown = this.linux === undefined && search.best === undefined;
    return [
      ...overlookedWarnings(search),
      ...(this.linux?.warnings ?? []),
      ...(isUnknown && looksEncrypted(this.#guest.memory) ? [encryptedWarning()] : []),
    ];
  }

  async view(): Promise<KernelView> {
    const { best } = await this.search();
    const view = viewOfKernel(this.#guest.memory, this.linux, best?.vmcoreinfo);
    if (this.#options.vaddr === "direct-map") return view;
    return { ...view, pageOffset: undefined, image: undefined };
  }
}

async function writeOrRead(
  guest: Guest,
  plan: VmcorePlan,
  kernel: KernelFinder,
  lost: LostPages,
  options: WriteGuestOptions,
  inputs: GuestInputs,
  warn: (warnings: readonly Warning[]) => void,
  context: JobContext,
): Promise<WrittenVmcore> {
  const { output: path, dryRun, force, keepPartial } = options;
  if (dryRun) {
    const { observe } = kernel;
    return { ranges: await copyGuest(guest, plan, { context, observe, lost }), size: plan.size };
  }
  if (path === undefined) throw new UsageError("no output given", { hint: "name one with -o OUT" });
  const output = openVmcoreOutput(path, force, plan, inputs, warn, context);
  return await keepingPartial(output, keepPartial, context, () =>
    write(guest, plan, output, kernel, lost, options, context),
  );
}

async function write(
  guest: Guest,
  plan: VmcorePlan,
  output: Output,
  kernel: KernelFinder,
  lost: LostPages,
  options: WriteGuestOptions,
  context: JobContext,
): Promise<WrittenVmcore> {
  const { observe } = kernel;
  const style = kdumpStyleOf(options, options.output);
  const kdump = style && { ...style, dumpLevel: 0 };
  // A pipe takes the header first, so the kernel has to be found before: the memory is read twice.
  if (!output.seekable && options.format === "elf") await copyGuest(guest, plan, { context, observe });
  return await writeVmcore({
    ...{ guest, plan, output, context, observe, lost, kernel: () => kernel.view() },
    ...(kdump && { kdump }),
  });
}
