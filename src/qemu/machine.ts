import type { ByteSource } from "../core/memory.ts";
import type { ProcessImage, ProcessMapping } from "../core/process.ts";
import { indexAtOrAbove, mergeRanges, rangeAt } from "../core/ranges.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { commandLineOf, type Executable, executableOf } from "../elf/executable.ts";
import { type Accelerator, accelerationOf } from "./accelerator.ts";
import { listAddressSpaces } from "./address-space.ts";
import { DumpedMemory } from "./dumped.ts";
import { type HostedRange, QemuGuestMemory } from "./guest-memory.ts";
import type { LayoutRange } from "./layout.ts";
import type { RamBlock } from "./memory.ts";
import { doubtfulFiles, explainMissing, incompleteBlocks, privateMemory } from "./missing.ts";
import { pickLayout } from "./pick-layout.ts";
import { ProcessReader } from "./reader.ts";
import type { Checkpoint } from "./scan.ts";
import { dumpGuestCoreOff, findUnwritten, type MappedBlock } from "./unwritten.ts";
import { findVcpus, type QemuVcpu } from "./vcpus.ts";

/** Everything a core tells of the machine that its qemu process ran. */
export interface QemuMachine {
  readonly executable: Executable | undefined;
  readonly commandLine: readonly string[] | undefined;
  /** QOM type, e.g. "pc-q35-7.2-machine". */
  readonly machineType: string | undefined;
  readonly accelerator: Accelerator | undefined;
  readonly blocks: readonly RamBlock[];
  readonly layout: readonly LayoutRange[];
  readonly vcpus: readonly QemuVcpu[];
  /** How many vCPUs the machine has, where that is known. */
  readonly expectedVcpus: number | undefined;
  readonly memory: QemuGuestMemory;
  /** RAMBlocks of which the core lacks something. */
  readonly incomplete: ReadonlySet<string>;
  readonly warnings: readonly Warning[];
}

export interface MachineOptions {
  /** Contents of RAMBlocks saved beside the core: idstr → bytes. */
  readonly ram?: ReadonlyMap<string, ByteSource>;
  /** Which of several candidate memory layouts to use, as the error listed them. */
  readonly layout?: string;
  /** Awaited every MiB that is searched. */
  readonly checkpoint?: Checkpoint;
}

/**
 * Finds the guest in the core of a qemu process.
 * @throws UnsupportedError when nothing of QEMU is in it
 * @throws UnavailableError when QEMU is there but its memory layout is not, or there are several
 * @throws UnsupportedError when the guest is not x86
 */
export async function findMachine(image: ProcessImage, options: MachineOptions = {}): Promise<QemuMachine> {
  const { checkpoint } = options;
  const reader = new ProcessReader(image);
  const executable = executableOf(image);
  const commandLine = commandLineOf(image);
  const writable = image.mappings.filter((m) => m.writable && !m.executable && m.presentEnd > m.start);
  const {
    space,
    layout,
    warnings: layoutWarnings,
  } = await pickLayout(reader, writable, executable, options.layout, checkpoint);
  const heap = outsideGuest(writable, layout.blocks);
  const { vcpus, expected, machineType, warnings } = await findVcpus(
    reader,
    listAddressSpaces(reader, space),
    heap,
    checkpoint,
  );
  const accelerator = accelerationOf(image, commandLine);
  const dumped = new DumpedMemory(image.mappings);
  const mapped = mappedBlocks(layout.ranges);
  const off = dumpGuestCoreOff(commandLine);
  const unwritten = findUnwritten(image, mapped, off);
  const context = { image, dumped, mapped, unwritten, off };
  const incomplete = incompleteBlocks(dumped, mapped, unwritten.zero);
  const ram = options.ram ?? new Map<string, ByteSource>();
  return {
    executable,
    commandLine,
    machineType,
    accelerator,
    blocks: layout.blocks,
    layout: layout.ranges,
    vcpus,
    expectedVcpus: expected,
    incomplete,
    memory: new QemuGuestMemory(image, hostedRanges(image, layout.ranges, ram, unwritten.zero)),
    warnings: [
      ...layoutWarnings,
      ...explainMissing(context, new Set([...ram.keys(), ...unwritten.zero])),
      ...doubtfulFiles(context, incomplete, ram),
      ...privateMemory(mapped),
      ...vcpuWarnings(vcpus, expected, warnings),
      ...staleness(vcpus, accelerator),
    ],
  };
}

/** Guest RAM is no place to look for QEMU's own structures, and by far the largest. */
function outsideGuest(writable: readonly ProcessMapping[], blocks: readonly RamBlock[]): ProcessMapping[] {
  const hosts = mergeRanges(
    blocks.map((block) => ({ start: block.host, end: block.host + block.maxLength })),
  );
  const isGuest = (m: ProcessMapping): boolean => {
    const host = hosts[indexAtOrAbove(hosts, m.start)];
    return host !== undefined && host.start < m.end;
  };
  return writable.filter((m) => !isGuest(m)).sort((a, b) => a.end - a.start - (b.end - b.start));
}

function hostedRanges(
  image: ProcessImage,
  layout: readonly LayoutRange[],
  ram: ReadonlyMap<string, ByteSource>,
  untouched: ReadonlySet<string>,
): HostedRange[] {
  return layout.map(({ start, end, block, blockOffset }) => {
    const source = ram.get(block.idstr);
    const offset = source === undefined ? 0 : offsetInFile(image, block, source.size) + blockOffset;
    return {
      start,
      end,
      host: block.host + blockOffset,
      ...(source === undefined ? {} : { fallback: { source, offset } }),
      untouched: untouched.has(block.idstr),
    };
  });
}

/**
 * Where a block begins in its backing file (`memory-backend-file,offset=`), from NT_FILE; 0 in a file that is too
 * short for that, which then holds the block alone.
 */
export function offsetInFile(image: ProcessImage, block: RamBlock, fileSize: number): number {
  const mapped = rangeAt(image.files, block.host);
  const offset = mapped === undefined ? 0 : mapped.offset + (block.host - mapped.start);
  return offset + block.usedLength > fileSize ? 0 : offset;
}

function mappedBlocks(layout: readonly LayoutRange[]): MappedBlock[] {
  const mapped = new Map<string, MappedBlock>();
  for (const range of layout) mapped.set(range.block.idstr, range);
  return [...mapped.values()];
}

function vcpuWarnings(
  vcpus: readonly QemuVcpu[],
  expected: number | undefined,
  notes: readonly string[],
): Warning[] {
  const warnings = notes.map((message) => ({ code: "REG002", message }));
  if (expected === undefined && vcpus.length === 0) {
    warnings.push({ code: "REG002", message: "no vCPU was found in this core" });
  } else if (expected !== undefined && vcpus.length < expected) {
    warnings.push({
      code: "REG002",
      message: `the registers of ${plural(expected - vcpus.length, "vCPU")} of ${expected} are not in this core`,
    });
  }
  return warnings;
}

/**
 * KVM keeps the registers; QEMU's copy is filled when something asks for it, and not when the process dies.
 * vcpu_dirty tells whether it is (QEMU `accel/kvm/kvm-all.c` do_kvm_cpu_synchronize_state). Under TCG the copy is the
 * only one. A state found by its shape alone may be a copy of another time.
 */
export const isStale = (vcpu: QemuVcpu, accelerator: QemuMachine["accelerator"]): boolean =>
  vcpu.type === undefined || (accelerator !== "tcg" && vcpu.run?.synchronised !== true);

/** REG001 for those of the vCPUs whose registers are stale. */
export function staleness(vcpus: readonly QemuVcpu[], accelerator: QemuMachine["accelerator"]): Warning[] {
  const stale = vcpus
    .filter((vcpu) => vcpu.type !== undefined && isStale(vcpu, accelerator))
    .map(({ index }) => index);
  const holder = accelerator === "kvm" ? "KVM held" : "an accelerator may have held";
  if (stale.length === 0) return [];
  return [
    {
      code: "REG001",
      message: `${holder} the registers of ${plural(stale.length, "vCPU")} (${stale.join(", ")}): what QEMU last saw of them is stale`,
      hint: "a dump of the host taken then still holds them; before a planned core, HMP `info registers -a` makes QEMU fetch them",
    },
  ];
}
