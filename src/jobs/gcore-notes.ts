import { PAGE_SIZE } from "../core/address.ts";
import { NT_AUXV, NT_FPREGSET, NT_X86_XSTATE } from "../elf/constants.ts";
import {
  encodeFileNote,
  encodeProcessInfo,
  encodeThreadStatus,
  type FileMapping,
  fileMappingSize,
} from "../elf/core-notes-encode.ts";
import { encodeNote } from "../elf/encode.ts";
import { commandLine } from "../kernel/command-line.ts";
import { FilePaths } from "../kernel/file-paths.ts";
import { processFacts, savedAuxv } from "../kernel/process-facts.ts";
import { ProcessMemory } from "../kernel/process-memory.ts";
import type { Task } from "../kernel/tasks.ts";
import { fpuState } from "../kernel/thread-fpu.ts";
import { isRunning, userRegisters } from "../kernel/thread-registers.ts";
import type { Vma } from "../kernel/vmas.ts";
import { encodeRegionNote, type RegionNote } from "../vmx/region-note.ts";
import { VMCSINFO_NOTE, writeVmcsInfo } from "../vmx/vmcsinfo.ts";
import type { ChosenProcess } from "./gcore-process.ts";
import type { HostDump } from "./host.ts";
import { regionsOf } from "./vcpu-notes-write.ts";

/** MAX_FILE_NOTE_SIZE (fs/binfmt_elf.c). */
const MAX_FILE_NOTE = 4 * 2 ** 20;
/** Threads whose notes fill half of what readers take of a PT_NOTE, 64 MiB. */
const MAX_THREADS = 2 ** 14;

/** A thread of the process, and what is known of it. */
export interface CoreThread {
  readonly task: Task;
  /** Its user registers; unknown ones are zero in the note. */
  readonly registers: boolean;
  readonly floatingPoint: boolean;
  /** Whether a processor ran it when the dump was taken. */
  readonly running: boolean;
}

/** The notes of a process core. */
export interface CoreNotes {
  readonly bytes: Buffer;
  readonly threads: readonly CoreThread[];
  /** Threads beyond those that a core has room for. */
  readonly threadsLeftOut: number;
  readonly files: readonly FileMapping[];
  /** Mappings of files that the note lacks: their paths are not in the dump, or it is full. */
  readonly filesUnknown: number;
  readonly auxv: boolean;
  /** As far as it is in the dump. */
  readonly argv: readonly string[];
  /** Number of the guest whose control blocks they are. */
  readonly guest: number | undefined;
  readonly regions: readonly RegionNote[];
}

/** In the kernel's order: the first thread, the process, the other threads; then the control blocks of vCPUs. */
export function coreNotes(host: HostDump, chosen: ChosenProcess, vmas: readonly Vma[]): CoreNotes {
  const { kernel, mm, pid } = chosen;
  const threads = chosen.threads.slice(0, MAX_THREADS).map((task) => threadNotes(chosen, task));
  const [first, ...others] = threads;
  const argv = argvOf(chosen);
  const auxv = savedAuxv(kernel, mm);
  const { files, filesUnknown } = mappedFiles(chosen, vmas);
  const leader = chosen.threads[0];
  const facts = processFacts(kernel, leader.address);
  const info = encodeProcessInfo({
    ...facts,
    state: leader.state ?? "?",
    pid,
    fname: leader.comm,
    psargs: argv.join(" "),
  });
  const [guest] = chosen.guests;
  const { notes: regions, info: layout } =
    guest === undefined ? { notes: [], info: undefined } : regionsOf(host, guest);
  const bytes = Buffer.concat([
    first!.status,
    info,
    ...(auxv === undefined ? [] : [encodeNote("CORE", NT_AUXV, auxv)]),
    encodeFileNote(files, PAGE_SIZE),
    first!.floating,
    ...others.flatMap(({ status, floating }) => [status, floating]),
    ...regions.map(encodeRegionNote).map(({ name, type, desc }) => encodeNote(name, type, desc)),
    ...(layout === undefined
      ? []
      : [encodeNote(VMCSINFO_NOTE.name, VMCSINFO_NOTE.type, writeVmcsInfo(layout, "v2").bytes)]),
  ]);
  return {
    bytes,
    threads: threads.map(({ thread }) => thread),
    threadsLeftOut: chosen.threads.length - threads.length,
    files,
    filesUnknown,
    auxv: auxv !== undefined,
    argv,
    guest: guest?.id,
    regions,
  };
}

function threadNotes({ kernel }: ChosenProcess, task: Task) {
  const registers = userRegisters(kernel, task.address);
  const fpu = fpuState(kernel, task.address);
  const facts = processFacts(kernel, task.address);
  const status = encodeThreadStatus({ ...facts, pid: task.pid, registers, fpValid: fpu !== undefined });
  const floating = Buffer.concat([
    ...(fpu === undefined ? [] : [encodeNote("CORE", NT_FPREGSET, fpu.legacy)]),
    ...(fpu?.extended === undefined ? [] : [encodeNote("LINUX", NT_X86_XSTATE, fpu.extended)]),
  ]);
  const known = { registers: registers !== undefined, floatingPoint: fpu !== undefined };
  return { thread: { task, ...known, running: isRunning(kernel, task.address) }, status, floating };
}

function argvOf({ kernel, mm }: ChosenProcess): readonly string[] {
  const { reader, types, shape, symbols } = kernel;
  const memory = ProcessMemory.of(reader, types, mm, shape, symbols);
  return (memory && commandLine(reader, types, mm, memory)?.argv) ?? [];
}

function mappedFiles({ kernel }: ChosenProcess, vmas: readonly Vma[]) {
  const paths = new FilePaths(kernel);
  const files: FileMapping[] = [];
  let filesUnknown = 0;
  let room = MAX_FILE_NOTE;
  for (const { start, end, pageOffset, file } of vmas) {
    if (file === undefined) continue;
    const path = paths.pathOf(file);
    const mapping = path === undefined ? undefined : { start, end, page: pageOffset, path };
    const size = mapping === undefined ? Number.POSITIVE_INFINITY : fileMappingSize(mapping);
    if (mapping === undefined || size > room) filesUnknown++;
    else {
      files.push(mapping);
      room -= size;
    }
  }
  return { files, filesUnknown };
}
