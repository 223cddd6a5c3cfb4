import { CorruptError, UnavailableError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { hex, plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { EM_X86_64 } from "../elf/constants.ts";
import type { DumpFiles, DumpFormat, MachineDump } from "./format.ts";
import { SegmentMemory, segmentsOf } from "./segment-memory.ts";
import { readVmwareCpus } from "./vmware-cpus.ts";
import { piecesOf, readVmwareMemory } from "./vmware-memory.ts";
import { isVmwareState, readGroups } from "./vmware-tags.ts";

/** Suspended machines and snapshots of VMware: a state file, with the memory in it or in a .vmem beside it. */
export const VMWARE: DumpFormat = { name: "vmware-state", matches: isVmwareState, open: openState };

/** The same, opened by the file with the memory, which has no header of its own. */
export const VMWARE_MEMORY: DumpFormat = {
  name: "vmware-memory",
  matches: (source) => VMEM.test(nameOf(source)),
  open: openMemory,
};

const VMEM = /\.vmem$/i;
const STATE = /\.vms[sn]$/i;

/** Without its folder; of a packed file that of its contents. */
const nameOf = ({ name, unpacking }: ByteSource): string => (unpacking?.name ?? name).replace(/^.*\//, "");

/** @throws UnavailableError when the memory is in a file that is not there */
function openState(state: ByteSource, files: DumpFiles): MachineDump {
  return openBoth(state, undefined, files);
}

/** @throws UnavailableError when there is no state file */
function openMemory(memory: ByteSource, { parts = [], beside }: DumpFiles): MachineDump {
  const name = nameOf(memory);
  const names = ["vmss", "vmsn"].map((suffix) => name.replace(VMEM, `.${suffix}`));
  const state = [...parts, ...names.map((other) => beside?.(other))].find(
    (file) => file !== undefined && isVmwareState(file),
  );
  if (state !== undefined) return openBoth(state, memory, {});
  throw new UnavailableError(
    `the state file of this memory, which says where in the machine what is, is not there: looked for ${names.join(" and ")}`,
    {
      hint: "name it with --part FILE; without one --map 0-SIZE says that it is memory from address 0 on, true up to 3 GiB",
    },
  );
}

/** @param vmem the file with the memory, where the user named it */
function openBoth(state: ByteSource, vmem: ByteSource | undefined, files: DumpFiles): MachineDump {
  const groups = readGroups(state);
  const { block, regions } = readVmwareMemory(state, groups.get("memory"));
  const source = block === undefined ? (vmem ?? findMemory(state, files)) : state;
  const { offset, size } = block ?? { offset: 0, size: source.size };
  const pieces = piecesOf(regions, offset, size);
  const end = pieces.reduce((last, piece) => Math.max(last, piece.offset + (piece.end - piece.start)), 0);
  if (end > offset + size && block !== undefined) {
    throw new CorruptError("a region of memory lies outside the block that holds it", { where: { offset } });
  }
  if (pieces.length === 0) throw new UnavailableError("there is no memory in the state file");
  const { cpus, warnings } = readVmwareCpus(state, groups.get("cpu"));
  return {
    memory: new SegmentMemory(source, segmentsOf(pieces)),
    notes: [],
    cpus,
    machine: EM_X86_64,
    warnings: end > source.size ? [cutMemory(nameOf(source), end, source.size), ...warnings] : warnings,
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

const cutMemory = (name: string, end: number, size: number): Warning => ({
  code: "DMP024",
  message: `${name} ends ${plural(end - size, "byte")} before the last of the machine's memory, at offset ${hex(end)}: that is missing`,
  hint: "copy the file again",
});
