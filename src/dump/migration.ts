import { UnavailableError, UnsupportedError } from "../core/errors.ts";
import type { ByteSource, PhysicalMemory } from "../core/memory.ts";
import { bytesText, plural, printable } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { EM_X86_64 } from "../elf/constants.ts";
import { pageTablesOf } from "../x86/paging.ts";
import type { X86State } from "../x86/state.ts";
import { type DumpFiles, type DumpFormat, hasMagic, type MachineDump } from "./format.ts";
import { arrange } from "./migration-arrange.ts";
import { cpusOf } from "./migration-cpu.ts";
import {
  type Arrangement,
  type Firmware,
  hasPages,
  isWhole,
  layOutMachine,
  memoryBlocks,
  otherMemory,
} from "./migration-layout.ts";
import { CMOS_SIZE, CONFIG_SIZE, type MachineKind, machineKind, shadowOf } from "./migration-machine.ts";
import { MigrationMemory } from "./migration-memory.ts";
import { PageReader } from "./migration-page-reader.ts";
import type { RamBlock } from "./migration-ram.ts";
import { type MigrationStream, readMigrationStream, type SavedDevice } from "./migration-sections.ts";
import { DeviceState } from "./migration-state.ts";

/** What QEMU writes when a guest migrates into a file, and `virsh dump` without --memory-only. */
export const MIGRATION: DumpFormat = {
  name: "qemu-migration",
  matches: (source) => hasMagic(source, "QEVM"),
  open: (source, files) => openMigration(source, 0, files),
};

/**
 * Opens the migration stream that begins at `start` of a source.
 * @throws CorruptError, UnsupportedError when its memory cannot be used; UnavailableError when none is in it
 */
export async function openMigration(
  source: ByteSource,
  start: number,
  files: DumpFiles,
): Promise<MachineDump> {
  const stream = await readMigrationStream(source, start, files.checkpoint);
  const { blocks, deltas } = stream.ram;
  if (!blocks.some(hasPages)) throw stream.problem ?? noMemory(stream);
  const { cpus, warnings: cpuWarnings } = cpusOf(source, stream.devices);
  const kind = kindOf(stream);
  if (kind === undefined && cpus.length === 0) throw notPc(stream);
  const firmware: Firmware = {
    kind,
    blocks,
    shadow: kind === undefined ? [] : shadowOf(kind, configOf(source, stream)),
  };
  const reader = new PageReader(source, deltas);
  const memoryOf = (arrangement: Arrangement) =>
    new MigrationMemory(reader, layOutMachine(arrangement, firmware));
  const states = cpus.map(({ state }) => state);
  const arranged = arrange({
    kind,
    name: stream.machine,
    blocks: memoryBlocks(blocks),
    cmos: fieldOf(source, stream, ["mc146818rtc"], /^cmos_data$/, CMOS_SIZE),
    agreement: (arrangement) => mapped(memoryOf(arrangement), states),
  });
  if (arranged === undefined) throw notPc(stream);
  const { arrangement, warnings } = arranged;
  return {
    memory: memoryOf(arrangement),
    notes: [],
    cpus,
    machine: EM_X86_64,
    warnings: [
      ...streamWarnings(stream),
      ...memoryWarnings(stream, arrangement.order),
      ...cpuWarnings,
      ...warnings,
    ],
  };
}

/** By its name, its host bridge, or what it calls its memory. */
function kindOf({ machine, devices, ram }: MigrationStream): MachineKind | undefined {
  const has = (wanted: string) => devices.some(({ kind }) => kind === wanted);
  const known = machineKind(machine) ?? (has("mch") ? "q35" : has("I440FX") ? "i440fx" : undefined);
  // Machine types before 2.4 do not tell their name.
  return known ?? (machine === "" && ram.blocks.some(({ name }) => name === "pc.ram") ? "i440fx" : undefined);
}

const configOf = (source: ByteSource, stream: MigrationStream): Buffer | undefined =>
  fieldOf(source, stream, ["mch", "I440FX"], /(^|\.)config(\[0\])?$/, CONFIG_SIZE);

function fieldOf(
  source: ByteSource,
  { devices }: MigrationStream,
  kinds: readonly SavedDevice["kind"][],
  name: RegExp,
  length: number,
): Buffer | undefined {
  const device = devices.find(({ kind }) => kinds.includes(kind));
  return device && new DeviceState(source, device).buffer(name, length);
}

/** vCPUs that are asked whether an arrangement is right. */
const WITNESSES = 16;

/** How many of the addresses that every kernel maps are mapped in the vCPUs' page tables. */
function mapped(memory: PhysicalMemory, states: readonly X86State[]): number {
  let count = 0;
  for (const state of states.slice(0, WITNESSES)) {
    const tables = pageTablesOf(memory, state);
    const addresses = [state.idt.base, state.gdt.base, state.rip];
    count += addresses.filter((address) => tables?.translate(address).mapped).length;
  }
  return count;
}

const ONE_CHANNEL = "migrate without that capability to exec:cat>FILE or file:FILE, or with mapped-ram";

function noMemory({ ram, postcopy }: MigrationStream): UnavailableError | UnsupportedError {
  if (ram.multifd || postcopy || ram.blocks.length > 0) {
    const way = ram.blocks.every(({ ignorable }) => ignorable) ? "x-ignore-shared" : "multifd or RDMA";
    return new UnsupportedError(`the guest's memory is not in this stream: it went another way (${way})`, {
      hint: ONE_CHANNEL,
    });
  }
  return new UnavailableError("none of the machine's memory is in this stream");
}

function notPc({ machine, ram }: MigrationStream): UnsupportedError {
  const what = machine === "" ? "unknown type" : `type ${printable(machine)}`;
  const blocks = ram.blocks.slice(0, 4).map(({ name }) => printable(name));
  return new UnsupportedError(
    `a migration stream of a machine of ${what}, with memory called ${blocks.join(", ")}: only PCs are read`,
  );
}

function* streamWarnings({
  ram,
  ramWhole,
  postcopy,
  described,
  marked,
  problem,
}: MigrationStream): Generator<Warning> {
  if (problem !== undefined || (!ramWhole && !postcopy)) {
    const where = problem?.where;
    const lost = ramWhole ? "its memory came whole before that" : "pages that had not come are missing";
    yield {
      code: "DMP030",
      message: `the migration stream cannot be followed to its end (${problem?.message ?? "it ends early"}): ${lost}`,
      hint: "copy the file again, or save the guest again",
      ...(where === undefined ? {} : { where }),
    };
  }
  if (postcopy) {
    yield {
      code: "DMP036",
      message:
        "the guest went on elsewhere before all of its memory was sent (postcopy): what was not is missing",
      hint: "the guest itself is what is left to dump",
    };
  }
  if (!described && !marked && ramWhole && problem === undefined) {
    yield {
      code: "DMP040",
      message:
        "the stream is cut behind the memory: what describes its devices is lost, and with it the registers",
      hint: "copy the file again, or save the guest again",
    };
  } else if (!described) {
    yield {
      code: "DMP031",
      message: "the stream does not describe its devices: registers are not known",
      hint: ramWhole
        ? "the description is the last of the file; machine types before 2.3 have none"
        : "the description is the last of the file, which is cut",
    };
  }
  const sent = ram.blocks.filter((block) => !block.ignorable || hasPages(block));
  if (ram.multifd && !sent.every(isWhole)) {
    yield {
      code: "DMP041",
      message: "other channels carried pages of the stream (multifd): they are missing",
      hint: ONE_CHANNEL,
    };
  }
  if (ram.lost > 0) {
    yield {
      code: "DMP037",
      message: `${plural(ram.lost, "page")} came as a difference from a copy that is not in the stream: missing`,
    };
  }
}

function* memoryWarnings({ ram }: MigrationStream, placed: readonly RamBlock[]): Generator<Warning> {
  const named = (blocks: readonly RamBlock[]) =>
    blocks.map(({ name, size }) => `${printable(name)} (${bytesText(size)})`).join(", ");
  const shared = placed.filter((block) => block.ignorable && !hasPages(block));
  if (shared.length > 0) {
    yield {
      code: "DMP038",
      message: `memory that other processes share was left out of the stream (x-ignore-shared): ${named(shared)}`,
      hint: "it is in the file or memfd behind that memory backend",
    };
  }
  const others = otherMemory(ram.blocks, placed);
  if (others.length > 0) {
    yield {
      code: "DMP035",
      message: `memory in the stream that has no place known: ${named(others.slice(0, 8))}`,
      hint: "memory that was plugged in (DIMMs, virtio-mem) is left out: dump-guest-memory has it",
    };
  }
}
