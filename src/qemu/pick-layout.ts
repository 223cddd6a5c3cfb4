import { UnavailableError, UnsupportedError } from "../core/errors.ts";
import type { ProcessImage, ProcessMapping } from "../core/process.ts";
import { totalSize } from "../core/ranges.ts";
import { bytesText, hex } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { Executable } from "../elf/executable.ts";
import { findSystemMemory, type QemuAddressSpace, readFlatView } from "./address-space.ts";
import { Budget } from "./budget.ts";
import { layoutOf, type MemoryLayout } from "./layout.ts";
import { findNameOffset } from "./memory.ts";
import type { ProcessReader } from "./reader.ts";
import { renderRegionTree } from "./region-tree.ts";
import type { Checkpoint } from "./scan.ts";

/** Gap below which a mapping behind the executable's file mappings is still its .bss. */
const BSS_REACH = 64 * 2 ** 20;
/** Steps for all candidates together: 65 536 FlatRanges, read twice, twice over; a few seconds at most. */
const LAYOUT_STEPS = 2 ** 22;

export interface PickedLayout {
  readonly space: QemuAddressSpace;
  readonly layout: MemoryLayout;
  readonly warnings: readonly Warning[];
}

/** One way to read the guest's memory layout; `name` is what `--layout` takes. */
interface Candidate extends PickedLayout {
  readonly name: string;
}

/**
 * The guest's memory layout, read in two independent ways that must agree: the FlatView QEMU keeps, and the tree of
 * memory regions it was rendered from.
 * @param wanted name of a candidate, when there is more than one
 * @throws UnsupportedError when nothing of QEMU is in the process
 * @throws UnavailableError when there is no layout, or the choice between several was not made
 */
export async function pickLayout(
  reader: ProcessReader,
  writable: readonly ProcessMapping[],
  executable: Executable | undefined,
  wanted: string | undefined,
  checkpoint?: Checkpoint,
): Promise<PickedLayout> {
  const budget = new Budget(LAYOUT_STEPS);
  const spaces = await findSystemMemory(reader, dataFirst(writable, executable), budget, checkpoint);
  const all: Candidate[] = [];
  for (const space of spaces) {
    all.push(...candidatesOf(reader, space, spaces.length > 1 ? `${hex(space.address)}:` : "", budget));
    await checkpoint?.();
  }
  const candidates = distinct(all, wanted);
  if (wanted !== undefined) {
    const match = candidates.find(({ name }) => name === wanted.toLowerCase());
    if (match !== undefined) return match;
    throw new UnavailableError(`there is no memory layout "${wanted}" in this core`, {
      hint: listOf(candidates),
    });
  }
  const [only, second] = candidates;
  if (only === undefined) throw noGuest(reader.image, executable, spaces.length > 0);
  if (second !== undefined) {
    throw new UnavailableError(
      `this core holds ${candidates.length} memory layouts that could be the guest's`,
      {
        hint: `choose one with --layout; ${listOf(candidates)}`,
      },
    );
  }
  return only;
}

function candidatesOf(
  reader: ProcessReader,
  space: QemuAddressSpace,
  prefix: string,
  budget: Budget,
): Candidate[] {
  const regionName = findNameOffset(reader, space.root, "system");
  if (regionName === undefined) return [];
  const views = [
    { name: "flat-view", ranges: readFlatView(reader, space.currentMap, budget), warnings: [] },
    {
      name: "region-tree",
      ranges: renderRegionTree(reader, space.root, regionName, budget),
      warnings: [renderedWarning],
    },
  ];
  const candidates: Candidate[] = [];
  for (const { name, ranges, warnings } of views) {
    const layout = ranges === undefined ? undefined : layoutOf(reader, ranges, regionName, budget);
    if (layout !== undefined) {
      candidates.push({ name: prefix + name, space, layout, warnings: [...warnings, ...layout.warnings] });
    }
  }
  return candidates;
}

const renderedWarning: Warning = {
  code: "LAY001",
  message:
    "QEMU's view of guest memory (FlatView) is not in this core; it was rendered anew from the memory regions",
};

/** Candidates that map the same memory are one; the first, which needs no rendering, stands for both. */
const distinct = (candidates: readonly Candidate[], wanted: string | undefined): Candidate[] =>
  wanted !== undefined
    ? [...candidates]
    : candidates.filter(
        (one, i) => !candidates.slice(0, i).some((other) => mapTheSame(one.layout, other.layout)),
      );

const mapTheSame = (one: MemoryLayout, other: MemoryLayout): boolean =>
  one.ranges.length === other.ranges.length &&
  one.ranges.every((range, i) => {
    const { start, end, kind, block, blockOffset } = other.ranges[i]!;
    return (
      range.start === start &&
      range.end === end &&
      range.kind === kind &&
      range.block.address === block.address &&
      range.blockOffset === blockOffset
    );
  });

const listOf = (candidates: readonly Candidate[]): string => {
  const describe = ({ name, layout }: Candidate) => `${name} (${bytesText(totalSize(layout.ranges))})`;
  return `candidates: ${candidates.map(describe).join(", ") || "none"}`;
};

/** The executable's .data and .bss first, where the static AddressSpace lies, then the rest from small to large. */
function dataFirst(
  writable: readonly ProcessMapping[],
  executable: Executable | undefined,
): ProcessMapping[] {
  const isData = (m: ProcessMapping) =>
    executable !== undefined && m.start >= executable.base && m.start < executable.end + BSS_REACH;
  const size = (m: ProcessMapping) => m.end - m.start;
  return [...writable].sort((a, b) => Number(isData(b)) - Number(isData(a)) || size(a) - size(b));
}

/** Targets of QEMU's emulation of user-space programs (`configs/targets/*-linux-user.mak`). */
const USER_MODE =
  /^qemu-(aarch64|alpha|arm|cris|hexagon|hppa|i386|loongarch64|m68k|microblaze|mips|nios2|or1k|ppc|riscv|s390x|sh4|sparc|x86_64|xtensa)[a-z0-9_]*(-static)?$/;

function noGuest(image: ProcessImage, executable: Executable | undefined, isQemu: boolean) {
  // A process without arguments has an empty command line.
  const program = executable?.path || image.psargs?.split(" ")[0] || undefined;
  const name = program?.split("/").at(-1) ?? "";
  const target = /^qemu-system-([a-z0-9_]+)/.exec(name)?.[1];
  if (target !== undefined && target !== "x86_64" && target !== "i386") {
    return new UnsupportedError(`the guest is not x86: the core is of ${program}`, { hint: ONLY_X86 });
  }
  if (isQemu || target !== undefined || /^(qemu-kvm|kvm$)/.test(name)) {
    return new UnavailableError(`a core of ${program ?? "QEMU"}, but no guest memory was found in it`, {
      hint: image.truncated
        ? "the core is truncated before QEMU's data; take it again in full"
        : "the process had no machine yet (or runs -machine none), or coredump_filter bit 0 kept its private memory out",
    });
  }
  if (USER_MODE.test(name)) {
    return new UnsupportedError(`${program} is a user-mode QEMU: it runs a program, no guest machine`, {
      hint: ONLY_X86,
    });
  }
  return new UnsupportedError(`no QEMU in this core${program === undefined ? "" : `: it is of ${program}`}`, {
    hint: ONLY_X86,
  });
}

const ONLY_X86 = "extract needs the core of a qemu-system-x86_64 process";
