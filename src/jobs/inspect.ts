import { GuestcoreError, naming } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource, PhysicalMemory } from "../core/memory.ts";
import { type Range, totalSize } from "../core/ranges.ts";
import type { Warning } from "../core/warnings.ts";
import { type ElfKind, elfKind } from "../dump/elf-kind.ts";
import { ElfVmcore } from "../dump/elf-vmcore.ts";
import { type Identification, identify } from "../dump/identify.ts";
import { openProcessCore, type ProcessCore } from "../dump/process-core.ts";
import { EM_X86_64, ET_CORE, NT_PRPSINFO, NT_PRSTATUS } from "../elf/constants.ts";
import { decodePrpsinfo, decodePrstatus, type Prpsinfo, type Prstatus } from "../elf/core-notes.ts";
import { type Executable, executableOf } from "../elf/executable.ts";
import { type ElfFile, isElf, isPossible, readElf } from "../elf/header.ts";
import { type Note, readNotes } from "../elf/notes.ts";
import { guestFromQemu } from "../guest/from-qemu.ts";
import type { Guest } from "../guest/guest.ts";
import { describeLinux, type LinuxImage } from "../kernel/linux.ts";
import { Vmcoreinfo } from "../kernel/vmcoreinfo.ts";
import { findVmcoreinfo, type VmcoreinfoSearch } from "../kernel/vmcoreinfo-scan.ts";
import { findMachine, type QemuMachine } from "../qemu/machine.ts";
import { type Input, openInput } from "./input.ts";

/** Reading all of a guest's memory for VMCOREINFO is worth it up to here; `extract` reads it in any case. */
const SEARCH_LIMIT = 8 * 2 ** 30;

export interface ElfInfo {
  readonly kind: ElfKind;
  readonly elf: ElfFile;
  readonly notes: readonly Note[];
  /** Bytes that the segments claim and the file does not have. */
  readonly lost: number;
}

/** A qemu process found in a process core. */
export interface QemuInfo {
  readonly machine: QemuMachine;
  readonly guest: Guest;
  readonly linux: LinuxImage | undefined;
  /** Undefined where the memory is too large to be searched just for information. */
  readonly search: VmcoreinfoSearch | undefined;
}

export interface ProcessInfo {
  readonly core: ProcessCore;
  readonly prpsinfo: Prpsinfo | undefined;
  readonly executable: Executable | undefined;
  readonly qemu: QemuInfo | undefined;
  /** Why a qemu process's guest could not be found. */
  readonly problem: GuestcoreError | undefined;
}

export interface VmcoreInfo {
  readonly ranges: readonly Range[];
  readonly cpus: readonly Prstatus[];
  readonly vmcoreinfo: Vmcoreinfo | undefined;
  /** Whether it is a note of the file; else it was found in the memory, by `search`. */
  readonly hasNote: boolean;
  readonly search: VmcoreinfoSearch | undefined;
  readonly linux: LinuxImage | undefined;
}

export interface InspectResult {
  readonly input: Input["facts"];
  readonly identification: Identification;
  readonly elf: ElfInfo | undefined;
  readonly process: ProcessInfo | undefined;
  readonly vmcore: VmcoreInfo | undefined;
  readonly warnings: readonly Warning[];
}

/**
 * Says what a file is, as deep as that can be told without reading all of it.
 * @throws IoError when it cannot be read; CorruptError when an ELF file has no usable header
 */
export function inspect(path: string, context: JobContext): Promise<InspectResult> {
  return naming(path, async () => {
    const input = await openInput(path, context);
    try {
      return inspectInput(input);
    } finally {
      input.close();
    }
  });
}

function inspectInput(input: Input): InspectResult {
  const { source } = input;
  const identification = identify(source);
  const nothing = { elf: undefined, process: undefined, vmcore: undefined };
  if (!isElf(source)) return { input: input.facts, identification, ...nothing, warnings: input.warnings };
  const elf = inspectElf(source);
  const process = elf.info.kind === "process-core" ? inspectProcess(source) : undefined;
  const vmcore = elf.info.kind === "vmcore" ? inspectVmcore(source, elf.info) : undefined;
  return {
    input: input.facts,
    identification,
    elf: elf.info,
    process: process?.info,
    vmcore,
    warnings: [...input.warnings, ...(process?.warnings ?? elf.warnings), ...(vmcore?.linux?.warnings ?? [])],
  };
}

function inspectElf(source: ByteSource): { info: ElfInfo; warnings: Warning[] } {
  const elf = readElf(source);
  const { notes, warnings } =
    elf.header.type === ET_CORE ? readNotes(source, elf) : { notes: [], warnings: [] };
  const lost = elf.programs.filter(isPossible).reduce((total, { offset, filesz }) => {
    return total + Math.max(0, Math.min(filesz, offset + filesz - source.size));
  }, 0);
  return { info: { kind: elfKind(elf, notes), elf, notes, lost }, warnings: [...elf.warnings, ...warnings] };
}

function inspectProcess(source: ByteSource): { info: ProcessInfo; warnings: readonly Warning[] } | undefined {
  const core = attempt(() => openProcessCore(source));
  if (core instanceof GuestcoreError) return undefined;
  const desc = core.notes.find(({ name, type }) => name === "CORE" && type === NT_PRPSINFO)?.desc;
  const machine = attempt(() => findMachine(core));
  const found = machine instanceof GuestcoreError ? undefined : machine;
  const qemu = found === undefined ? undefined : inspectGuest(found);
  return {
    info: {
      core,
      prpsinfo: desc === undefined ? undefined : decodePrpsinfo(desc),
      executable: executableOf(core),
      qemu,
      problem: machine instanceof GuestcoreError ? machine : undefined,
    },
    warnings: [...core.warnings, ...(found?.warnings ?? []), ...(qemu?.linux?.warnings ?? [])],
  };
}

function inspectGuest(machine: QemuMachine): QemuInfo {
  const guest = guestFromQemu(machine);
  const states = guest.vcpus.map(({ state }) => state);
  const small = totalSize(guest.ranges) <= SEARCH_LIMIT;
  const search = small ? findVmcoreinfo(guest.memory, { states }) : undefined;
  const linux = describeLinux(guest.memory, { states, vmcoreinfo: search?.best?.vmcoreinfo });
  return { machine, guest, linux, search };
}

function inspectVmcore(source: ByteSource, { elf, notes }: ElfInfo): VmcoreInfo {
  const memory: PhysicalMemory = new ElfVmcore(source, elf);
  const desc = notes.find(({ name }) => name === "VMCOREINFO")?.desc;
  const noted = desc === undefined ? undefined : new Vmcoreinfo(desc);
  const isX86 = elf.header.machine === EM_X86_64;
  // QEMU writes the note only for guests with -device vmcoreinfo; it is in their memory all the same.
  const look = noted === undefined && isX86 && totalSize(memory.ranges) <= SEARCH_LIMIT;
  const search = look ? findVmcoreinfo(memory) : undefined;
  const vmcoreinfo = noted ?? search?.best?.vmcoreinfo;
  return {
    ranges: memory.ranges,
    cpus: notes
      .filter(({ name, type }) => name === "CORE" && type === NT_PRSTATUS)
      .map((note) => (isX86 ? decodePrstatus(note.desc) : undefined))
      .filter((prstatus) => prstatus !== undefined),
    vmcoreinfo,
    hasNote: noted !== undefined,
    search,
    linux: isX86 && vmcoreinfo !== undefined ? describeLinux(memory, { vmcoreinfo, states: [] }) : undefined,
  };
}

/** What cannot be found is part of the answer; only a failing disk is a reason to fail. */
function attempt<T>(look: () => T): T | GuestcoreError {
  try {
    return look();
  } catch (error) {
    if (error instanceof GuestcoreError && error.code !== "io") return error;
    throw error;
  }
}
