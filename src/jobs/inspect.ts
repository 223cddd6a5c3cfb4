import { GuestcoreError, naming } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import { type Range, totalSize } from "../core/ranges.ts";
import type { Warning } from "../core/warnings.ts";
import { type ElfKind, elfKind } from "../dump/elf-kind.ts";
import { ElfVmcore } from "../dump/elf-vmcore.ts";
import { erasedWarnings } from "../dump/eraseinfo.ts";
import type { DumpedCpu } from "../dump/format.ts";
import { type Identification, identify } from "../dump/identify.ts";
import { isMachineDump, type MachineDump, openAnyDump } from "../dump/open.ts";
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
import { findVmcoreinfo, overlookedWarnings, type VmcoreinfoSearch } from "../kernel/vmcoreinfo-scan.ts";
import { findMachine, type QemuMachine } from "../qemu/machine.ts";
import { type DumpNaming, type Input, openInput } from "./input.ts";
import { withVcpuNotes } from "./vcpu-notes.ts";

/** Reading all of a guest's memory for VMCOREINFO is worth it up to here; `extract` reads it in any case. */
const SEARCH_LIMIT = 8 * 2 ** 30;
/** CPUs that Linux supports on x86-64 (`MAXSMP`, arch/x86/Kconfig). */
const MAX_CPUS = 8192;

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
  /** ELF's e_machine. */
  readonly machine: number;
  /** Names of the further files that it was read from. */
  readonly parts: readonly string[];
  readonly ranges: readonly Range[];
  /** Of NT_PRSTATUS notes. */
  readonly cpus: readonly Prstatus[];
  /** Those that the format keeps in a form of its own. */
  readonly processors: readonly DumpedCpu[];
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
export function inspect(path: string, context: JobContext, named: DumpNaming = {}): Promise<InspectResult> {
  return naming(path, async () => {
    const input = await openInput(path, context, named);
    try {
      return await inspectInput(input, context);
    } finally {
      input.close();
    }
  });
}

async function inspectInput(input: Input, context: JobContext): Promise<InspectResult> {
  const { source } = input;
  const identification = identify(source);
  const nothing = { elf: undefined, process: undefined, vmcore: undefined };
  if (!isElf(source) || isMachineDump(source, input.files)) {
    const found = await inspectDump(input, context);
    const warnings = [...input.warnings, ...(found?.warnings ?? [])];
    return { input: input.facts, identification, ...nothing, vmcore: found?.info, warnings };
  }
  const elf = inspectElf(source);
  const process = elf.info.kind === "process-core" ? await inspectProcess(source, context) : undefined;
  const vmcore =
    elf.info.kind === "vmcore"
      ? await inspectVmcore(
          {
            memory: new ElfVmcore(source, elf.info.elf),
            notes: elf.info.notes,
            cpus: [],
            machine: elf.info.elf.header.machine,
          },
          context,
        )
      : undefined;
  return {
    input: input.facts,
    identification,
    elf: elf.info,
    process: process?.info,
    vmcore: vmcore?.info,
    warnings: [...input.warnings, ...(process?.warnings ?? elf.warnings), ...(vmcore?.warnings ?? [])],
  };
}

function inspectElf(source: ByteSource): { info: ElfInfo; warnings: Warning[] } {
  const elf = readElf(source);
  const { notes, warnings } =
    elf.header.type === ET_CORE ? readNotes(source, elf) : { notes: [], warnings: [] };
  const lost = elf.programs.filter(isPossible).reduce((total, { offset, filesz }) => {
    return total + Math.max(0, Math.min(filesz, offset + filesz - source.size));
  }, 0);
  return {
    info: { kind: elfKind(elf, notes), elf, notes, lost },
    warnings: [...elf.warnings, ...warnings, ...erasedWarnings(notes)],
  };
}

async function inspectProcess(
  source: ByteSource,
  context: JobContext,
): Promise<{ info: ProcessInfo; warnings: readonly Warning[] } | undefined> {
  const core = await attempt(() => openProcessCore(source));
  if (core instanceof GuestcoreError) return undefined;
  const desc = core.notes.find(({ name, type }) => name === "CORE" && type === NT_PRPSINFO)?.desc;
  const machine = await attempt(() => findMachine(core, { checkpoint: context.checkpoint }));
  const found = machine instanceof GuestcoreError ? undefined : machine;
  const noted = found && (await withVcpuNotes(core.notes, found, guestFromQemu(found), {}, context));
  const qemu = found && noted && (await inspectGuest(found, noted.guest, context));
  return {
    info: {
      core,
      prpsinfo: desc === undefined ? undefined : decodePrpsinfo(desc),
      executable: executableOf(core),
      qemu,
      problem: machine instanceof GuestcoreError ? machine : undefined,
    },
    warnings: [...core.warnings, ...(noted?.warnings ?? []), ...kernelWarnings(qemu)],
  };
}

const kernelWarnings = (found: Pick<QemuInfo, "linux" | "search"> | undefined): Warning[] => [
  ...(found?.search === undefined ? [] : overlookedWarnings(found.search)),
  ...(found?.linux?.warnings ?? []),
];

async function inspectGuest(
  machine: QemuMachine,
  guest: Guest,
  { checkpoint }: JobContext,
): Promise<QemuInfo> {
  const states = guest.vcpus.map(({ state }) => state);
  const small = totalSize(guest.ranges) <= SEARCH_LIMIT;
  const search = small ? await findVmcoreinfo(guest.memory, { states, checkpoint }) : undefined;
  const evidence = { states, vmcoreinfo: search?.best?.vmcoreinfo };
  const linux = await describeLinux(guest.memory, evidence, checkpoint);
  return { machine, guest, linux, search };
}

async function inspectDump(
  { source, files }: Input,
  context: JobContext,
): Promise<{ info: VmcoreInfo | undefined; warnings: readonly Warning[] } | undefined> {
  if (!isMachineDump(source, files)) return undefined;
  const dump = await attempt(() => openAnyDump(source, files));
  if (dump instanceof GuestcoreError) {
    const { message, where, hint } = dump;
    const warning = { code: "DMP003", message: `what is inside cannot be read: ${message}` };
    return { info: undefined, warnings: [{ ...warning, ...(where && { where }), ...(hint && { hint }) }] };
  }
  const { info, warnings } = await inspectVmcore(dump, context);
  return { info, warnings: [...dump.warnings, ...warnings] };
}

async function inspectVmcore(
  dump: Pick<MachineDump, "memory" | "notes" | "cpus" | "machine" | "parts">,
  { checkpoint }: JobContext,
): Promise<{ info: VmcoreInfo; warnings: Warning[] }> {
  const { memory, notes, cpus: processors, machine, parts = [] } = dump;
  const isX86 = machine === EM_X86_64;
  const desc = notes.find(({ name }) => name === "VMCOREINFO")?.desc;
  const noted = desc === undefined ? undefined : new Vmcoreinfo(desc);
  // QEMU writes the note only for guests with -device vmcoreinfo; it is in their memory all the same.
  const look = noted === undefined && isX86 && totalSize(memory.ranges) <= SEARCH_LIMIT;
  const search = look ? await findVmcoreinfo(memory, { checkpoint }) : undefined;
  const vmcoreinfo = noted ?? search?.best?.vmcoreinfo;
  const describe = isX86 && vmcoreinfo !== undefined;
  const linux = describe ? await describeLinux(memory, { vmcoreinfo, states: [] }, checkpoint) : undefined;
  const states = notes.filter(({ name, type }) => name === "CORE" && type === NT_PRSTATUS);
  const cpus = states
    .slice(0, MAX_CPUS)
    .map((note) => (isX86 ? decodePrstatus(note.desc) : undefined))
    .filter((prstatus) => prstatus !== undefined);
  return {
    info: {
      machine,
      parts,
      ranges: memory.ranges,
      cpus,
      processors,
      vmcoreinfo,
      hasNote: noted !== undefined,
      search,
      linux,
    },
    warnings: [...tooManyCpus(states.length), ...kernelWarnings({ linux, search })],
  };
}

const tooManyCpus = (count: number): Warning[] =>
  count <= MAX_CPUS
    ? []
    : [{ code: "CORE006", message: `the notes are of ${count} CPUs: the first ${MAX_CPUS} are read` }];

/** What cannot be found is part of the answer; only a failing disk is a reason to fail. */
async function attempt<T>(look: () => T | Promise<T>): Promise<T | GuestcoreError> {
  try {
    return await look();
  } catch (error) {
    if (error instanceof GuestcoreError && error.code !== "io" && error.code !== "interrupted") return error;
    throw error;
  }
}
