import { PAGE_SIZE } from "../core/address.ts";
import { CorruptError, UnavailableError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import type { RamPiece } from "../core/ram-map.ts";
import { mergeRanges, totalSize } from "../core/ranges.ts";
import { bytesText, hex, plural, printable } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { EM_X86_64 } from "../elf/constants.ts";
import type { DumpFiles, DumpFormat, MachineDump } from "./format.ts";
import { SegmentMemory, segmentsOf } from "./segment-memory.ts";
import { readVmwareCpus } from "./vmware-cpus.ts";
import { piecesOf, readVmwareMemory } from "./vmware-memory.ts";
import { isVmwareState, readGroups, type VmwareGroup } from "./vmware-tags.ts";

/** Suspended machines and snapshots of VMware: a state file, with the memory in it or in a .vmem beside it. */
export const VMWARE: DumpFormat = {
  name: "vmware-state",
  parts: true,
  matches: isVmwareState,
  open: openState,
};

/** The same, opened by the file with the memory, which has no header of its own. */
export const VMWARE_MEMORY: DumpFormat = {
  name: "vmware-memory",
  parts: true,
  matches: (source) => VMEM.test(nameOf(source)),
  open: openMemory,
};

const VMEM = /\.vmem$/i;
const STATE = /\.vms[sn]$/i;

/** Without its folder; of a packed file that of its contents. */
const nameOf = ({ name, unpacking }: ByteSource): string => (unpacking?.name ?? name).replace(/^.*\//, "");

/** @throws UnavailableError when the memory is in a file that is not there */
async function openState(state: ByteSource, files: DumpFiles): Promise<MachineDump> {
  return await openBoth(state, undefined, files);
}

/** @throws UnavailableError when there is no state file */
async function openMemory(memory: ByteSource, files: DumpFiles): Promise<MachineDump> {
  const { parts = [], beside, checkpoint } = files;
  const name = nameOf(memory);
  const names = ["vmss", "vmsn"].map((suffix) => name.replace(VMEM, `.${suffix}`));
  const state = [...parts, ...names.map((other) => beside?.(other))].find(
    (file) => file !== undefined && isVmwareState(file),
  );
  if (state !== undefined)
    return await openBoth(state, memory, checkpoint === undefined ? {} : { checkpoint });
  throw new UnavailableError(
    `the state file of this memory, which says where in the machine what is, is not there: looked for ${names.join(" and ")}`,
    {
      hint: "name it with --part FILE; without one --map 0-SIZE says that it is memory from address 0 on, true up to 3 GiB",
    },
  );
}

/** @param vmem the file with the memory, where the user named it */
async function openBoth(
  state: ByteSource,
  vmem: ByteSource | undefined,
  files: DumpFiles,
): Promise<MachineDump> {
  const { checkpoint } = files;
  const groups = readGroups(state);
  const { block, regions } = await readVmwareMemory(state, groups.get("memory")?.position, checkpoint);
  const source = block === undefined ? (vmem ?? findMemory(state, files)) : state;
  const { offset, size } = block ?? { offset: 0, size: source.size };
  const pieces = piecesOf(regions, offset, size);
  const end = pieces.reduce((last, piece) => Math.max(last, piece.offset + (piece.end - piece.start)), 0);
  if (end > offset + size && block !== undefined) {
    throw new CorruptError("a region of memory lies outside the block that holds it", { where: { offset } });
  }
  if (pieces.length === 0) throw new UnavailableError("there is no memory in the state file");
  const { cpus, warnings } = await readVmwareCpus(state, groups.get("cpu")?.position, checkpoint);
  return {
    memory: new SegmentMemory(source, segmentsOf(pieces)),
    notes: [],
    cpus,
    machine: EM_X86_64,
    warnings: [
      ...cutGroups(state, groups),
      ...sharedBytes(pieces),
      ...lengthWarnings(source, { end, stated: regions.length > 0, alone: block === undefined }),
      ...warnings,
    ],
  };
}

function findMemory(state: ByteSource, { parts = [], beside }: DumpFiles): ByteSource {
  const name = nameOf(state);
  const wanted = STATE.test(name) ? name.replace(STATE, ".vmem") : `${name}.vmem`;
  const memory = parts.find((part) => !isVmwareState(part)) ?? beside?.(wanted);
  if (memory !== undefined) return memory;
  throw new UnavailableError(
    `the state file does not hold the machine's memory, and ${wanted} is not beside it`,
    { hint: "put it there, or name it with --part FILE; a snapshot taken without memory has none" },
  );
}

const AGAIN = "copy the file again";
/** Groups named in a message. */
const MAX_NAMED = 4;

/** Groups that the file ends before; of memory that is told by its regions. */
function cutGroups({ size: length }: ByteSource, groups: ReadonlyMap<string, VmwareGroup>): Warning[] {
  const cut = [...groups].filter(
    ([name, { position, size }]) => name !== "memory" && position + size > length,
  );
  if (cut.length === 0) return [];
  const named = cut.slice(0, MAX_NAMED).map(([name]) => printable(name));
  const others = cut.length > MAX_NAMED ? [`${cut.length - MAX_NAMED} more`] : [];
  const message = `the state file ends before its groups do: ${[...named, ...others].join(", ")}`;
  return [{ code: "DMP026", message, hint: AGAIN, where: { offset: length } }];
}

/** One page of the file cannot be two of the machine's. */
function sharedBytes(pieces: readonly RamPiece[]): Warning[] {
  const stored = pieces.map(({ start, end, offset }) => ({ start: offset, end: offset + (end - start) }));
  const shared = totalSize(stored) - totalSize(mergeRanges(stored));
  if (shared === 0) return [];
  const message = `regions of the machine's memory share ${bytesText(shared)} of the file: one of them has a wrong place`;
  return [{ code: "DMP027", message, hint: AGAIN }];
}

interface MemoryEnd {
  /** Offset at which the last region ends. */
  readonly end: number;
  /** Whether the state file describes regions. */
  readonly stated: boolean;
  /** Whether the file has nothing but the memory. */
  readonly alone: boolean;
}

function lengthWarnings(source: ByteSource, { end, stated, alone }: MemoryEnd): Warning[] {
  const { size } = source;
  const name = printable(nameOf(source));
  if (end > size) {
    const message = `${name} ends ${plural(end - size, "byte")} before the last of the machine's memory, at offset ${hex(end)}: that is missing`;
    return [{ code: "DMP024", message, hint: AGAIN }];
  }
  if (!stated || !alone || size - end < PAGE_SIZE) return [];
  const message = `${name} has ${bytesText(size - end)} behind the last of the machine's memory, which ends at offset ${hex(end)}: they are left out`;
  return [{ code: "DMP028", message, hint: "is it the memory of another machine, or of a later state?" }];
}
