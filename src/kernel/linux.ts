import { PAGE_SIZE } from "../core/address.ts";
import type { PhysicalMemory } from "../core/memory.ts";
import { hex, plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { PageTables } from "../x86/paging.ts";
import { shapeFor } from "../x86/paging-shapes.ts";
import type { X86State } from "../x86/state.ts";
import type { Checkpoint } from "./chunks.ts";
import { findBanner, findDirectMap, findImage, isWhole, type KernelImage } from "./kernel-image.ts";
import { isLongMode, START_KERNEL_MAP, tablesOfStates, tablesOfVmcoreinfo } from "./kernel-tables.ts";
import { describeLinux32 } from "./linux-32.ts";
import { type FactSource, fact, type LinuxImage, vmcoreinfoFacts } from "./linux-image.ts";
import type { Vmcoreinfo } from "./vmcoreinfo.ts";

export type { LinuxImage } from "./linux-image.ts";

/** Where `_text` is linked to, but for KASLR: __START_KERNEL_map + CONFIG_PHYSICAL_START, 16 MiB in all distributions. */
const LINKED_TEXT = START_KERNEL_MAP + 0x100_0000n;
const TEXT_ALIGN = 0x20_0000n;
/** How far from the part of an image that PTI's user tables map its rodata may begin. */
const PARTIAL_IMAGE = 64 * 2 ** 20;

export interface LinuxEvidence {
  readonly vmcoreinfo?: Vmcoreinfo | undefined;
  /** The machine's vCPUs, in order; none where registers are unknown. */
  readonly states: readonly X86State[];
}

/** Kernel page tables that work, what they map, and whose they are. */
interface KernelView {
  readonly tables: PageTables;
  readonly image: KernelImage | undefined;
  readonly pageOffset: bigint | undefined;
  readonly source: FactSource;
}

/**
 * Describes the Linux kernel of a machine. With VMCOREINFO its own page tables are walked; without, or where they
 * do not work, those of the vCPU that map a kernel. The work is bounded whatever the tables hold.
 * @returns undefined when nothing shows that the machine runs Linux
 */
export async function describeLinux(
  memory: PhysicalMemory,
  evidence: LinuxEvidence,
  checkpoint?: Checkpoint,
): Promise<LinuxImage | undefined> {
  const { vmcoreinfo, states } = evidence;
  if (is32Bit(vmcoreinfo, states)) return await describeLinux32(memory, vmcoreinfo, states, checkpoint);
  const view = viewOfVmcoreinfo(memory, vmcoreinfo) ?? (await viewOfStates(memory, states, checkpoint));
  if (vmcoreinfo !== undefined) return await describeKnown(memory, vmcoreinfo, states, view, checkpoint);
  return view?.image && (await describeUnknown(memory, view, view.image, checkpoint));
}

function is32Bit(vmcoreinfo: Vmcoreinfo | undefined, states: readonly X86State[]): boolean {
  const root = vmcoreinfo?.symbol("swapper_pg_dir");
  if (root !== undefined) return root < 1n << 32n;
  return (
    states.length > 0 &&
    states.every((state) => {
      const shape = shapeFor(state);
      return shape === undefined || !isLongMode(shape);
    })
  );
}

function viewOfVmcoreinfo(
  memory: PhysicalMemory,
  vmcoreinfo: Vmcoreinfo | undefined,
): KernelView | undefined {
  const tables = vmcoreinfo && tablesOfVmcoreinfo(memory, vmcoreinfo).tables;
  if (tables === undefined) return undefined;
  const image = findImage(tables, imageSizeOf(vmcoreinfo));
  return { tables, image, pageOffset: findDirectMap(tables, image), source: "page tables" };
}

/**
 * The first vCPU whose page tables map both an image and the direct map. PTI's user tables and stale ones map no
 * direct map: the part of the image they map tells where the kernel lies, not where it begins.
 */
async function viewOfStates(
  memory: PhysicalMemory,
  states: readonly X86State[],
  checkpoint: Checkpoint | undefined,
): Promise<KernelView | undefined> {
  let partial: KernelView | undefined;
  for (const { vcpu, tables } of tablesOfStates(memory, states)) {
    await checkpoint?.();
    const image = findImage(tables);
    if (image === undefined) continue;
    const source = `CR3 of vCPU ${vcpu}` as const;
    const view = { tables, image, pageOffset: findDirectMap(tables, image), source };
    if (view.pageOffset !== undefined) return view;
    partial ??= view;
  }
  return partial;
}

/** A kernel that VMCOREINFO describes. */
async function describeKnown(
  memory: PhysicalMemory,
  vmcoreinfo: Vmcoreinfo,
  states: readonly X86State[],
  view: KernelView | undefined,
  checkpoint: Checkpoint | undefined,
): Promise<LinuxImage> {
  const own = view?.source === "page tables";
  const warnings = [
    ...rootWarnings(memory, vmcoreinfo, view),
    ...levelWarnings(vmcoreinfo, states),
    ...(own ? await otherKernelWarnings(memory, vmcoreinfo, states, checkpoint) : []),
  ];
  const facts = vmcoreinfoFacts(vmcoreinfo);
  const walkedBase = view?.image && physBaseOf(view.image);
  const statedBase = fact(vmcoreinfo.physBase, "VMCOREINFO");
  const five = vmcoreinfo.number("pgtable_l5_enabled");
  return {
    architecture: "x86_64",
    ...facts,
    kaslrOffset: facts.kaslrOffset ?? (view && fact(kaslrOffsetOf(view), view.source)),
    pagingLevels:
      five === undefined
        ? view && fact(view.tables.shape.levels.length, view.source)
        : fact(five === 1n ? 5 : 4, "VMCOREINFO"),
    root: view && fact(view.tables.root, view.source === "page tables" ? "VMCOREINFO" : view.source),
    physBase:
      view === undefined || walkedBase === undefined || walkedBase === statedBase?.value
        ? statedBase
        : fact(walkedBase, view.source),
    pageOffset: view && fact(view.pageOffset, view.source),
    text: view && textOf(view),
    warnings: [...warnings, ...viewWarnings(view)],
  };
}

/**
 * A kernel found by a vCPU's page tables alone. Other systems map theirs into the same range (FreeBSD): undefined
 * unless Linux's banner is there, or may be in a page that is missing.
 */
async function describeUnknown(
  memory: PhysicalMemory,
  view: KernelView,
  image: KernelImage,
  checkpoint: Checkpoint | undefined,
): Promise<LinuxImage | undefined> {
  const bounded = textOf(view) !== undefined;
  const end = image.physical + (bounded ? image.size : PARTIAL_IMAGE);
  const release = await findBanner(memory, image.physical, end, checkpoint);
  const mayBeMissing = bounded && isPresent(memory, image.physical) && !isWhole(memory, image.physical, end);
  if (release === undefined && !mayBeMissing) return undefined;
  return {
    architecture: "x86_64",
    release: fact(release, "linux_banner"),
    buildId: undefined,
    pagingLevels: fact(view.tables.shape.levels.length, view.source),
    root: fact(view.tables.root, view.source),
    kaslrOffset: fact(kaslrOffsetOf(view), view.source),
    physBase: fact(physBaseOf(image), view.source),
    pageOffset: fact(view.pageOffset, view.source),
    text: textOf(view),
    warnings: viewWarnings(view),
  };
}

const isPresent = (memory: PhysicalMemory, page: number): boolean =>
  memory.extentAt(page, page + PAGE_SIZE).state === "present";

/** PTI's user tables map a part of the text only: without a direct map the image's bounds are not known. */
const textOf = (view: KernelView) =>
  view.source === "page tables" || view.pageOffset !== undefined ? fact(view.image, view.source) : undefined;

function kaslrOffsetOf(view: KernelView): bigint | undefined {
  const start = textOf(view)?.value.virtual;
  const offset = start === undefined ? -1n : start - LINKED_TEXT;
  return offset >= 0n && offset % TEXT_ALIGN === 0n ? offset : undefined;
}

const physBaseOf = (image: KernelImage): number => image.physical - Number(image.virtual - START_KERNEL_MAP);

const imageSizeOf = (vmcoreinfo: Vmcoreinfo | undefined): number | undefined => {
  const size = vmcoreinfo?.number("KERNEL_IMAGE_SIZE");
  return size !== undefined && size > 0n && size < 1n << 40n ? Number(size) : undefined;
};

/** VMCOREINFO's page tables do not work (KRN003), or a vCPU's put the kernel elsewhere (KRN001). */
function rootWarnings(
  memory: PhysicalMemory,
  vmcoreinfo: Vmcoreinfo,
  view: KernelView | undefined,
): Warning[] {
  const { state } = tablesOfVmcoreinfo(memory, vmcoreinfo);
  const warnings: Warning[] = [];
  const { physBase } = vmcoreinfo;
  if (state === "missing" || state === "wrong") {
    const what = state === "missing" ? "are not all in memory" : "do not map the kernel it describes";
    warnings.push({
      code: "KRN003",
      message: `the page tables that VMCOREINFO names ${what}`,
      hint: "memory may be missing, or VMCOREINFO of a guest within this machine or of a kernel that ran before",
    });
  }
  const walked = view?.image && physBaseOf(view.image);
  if (walked !== undefined && physBase !== undefined && walked !== physBase) {
    warnings.push({
      code: "KRN001",
      message: `VMCOREINFO gives phys_base ${physBase}, the page tables ${walked} (${view?.source}): the page tables are believed`,
    });
  }
  return warnings;
}

/** NUMBER(pgtable_l5_enabled) against CR4.LA57 (KRN002). */
function levelWarnings(vmcoreinfo: Vmcoreinfo, states: readonly X86State[]): Warning[] {
  const five = vmcoreinfo.number("pgtable_l5_enabled");
  if (five === undefined) return [];
  const levels = five === 1n ? 5 : 4;
  const others = states.flatMap((state, vcpu) => {
    const shape = shapeFor(state);
    return shape !== undefined && isLongMode(shape) && shape.levels.length !== levels ? [vcpu] : [];
  });
  if (others.length === 0) return [];
  const message = `VMCOREINFO says ${levels}-level paging, CR4 of ${vcpuList(others)} the other kind`;
  return [{ code: "KRN002", message }];
}

/** A vCPU's page tables map a kernel, but not the one VMCOREINFO describes (KRN006). */
async function otherKernelWarnings(
  memory: PhysicalMemory,
  vmcoreinfo: Vmcoreinfo,
  states: readonly X86State[],
  checkpoint: Checkpoint | undefined,
): Promise<Warning[]> {
  const others: number[] = [];
  for (const { vcpu, tables } of tablesOfStates(memory, states)) {
    await checkpoint?.();
    const image = findImage(tables);
    if (image !== undefined && physBaseOf(image) !== vmcoreinfo.physBase) others.push(vcpu);
  }
  if (others.length === 0) return [];
  return [
    {
      code: "KRN006",
      message: `${vcpuList(others)} ${others.length === 1 ? "runs" : "run"} another kernel than the one VMCOREINFO describes (${vmcoreinfo.osrelease ?? "no release"})`,
      hint: "a capture kernel after a crash, or VMCOREINFO left by a kernel that ran before",
    },
  ];
}

/** What the page tables should show and do not: the image (KRN005), the direct map (KRN004). */
function viewWarnings(view: KernelView | undefined): Warning[] {
  const warnings: Warning[] = [];
  if (view === undefined || textOf(view) === undefined) {
    const message =
      "no page tables found that map the kernel's image whole: where it lies is not cross-checked";
    warnings.push({ code: "KRN005", message });
  }
  if (view?.pageOffset === undefined) {
    const root = view === undefined ? "" : ` from the root at ${hex(view.tables.root)}`;
    const message = `no direct map of physical memory found${root}: PAGE_OFFSET is unknown`;
    warnings.push({ code: "KRN004", message });
  }
  return warnings;
}

const vcpuList = (vcpus: readonly number[]): string =>
  vcpus.length === 1 ? `vCPU ${vcpus[0]}` : `${plural(vcpus.length, "vCPU")} (${vcpus.join(", ")})`;
