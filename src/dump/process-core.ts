import { ADDRESS_LIMIT } from "../core/address.ts";
import { UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import type { MappedFile, ProcessExtent, ProcessImage, ProcessMapping } from "../core/process.ts";
import { indexAtOrAbove, makeDisjoint } from "../core/ranges.ts";
import { bytesText, hex } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import {
  EM_X86_64,
  ET_CORE,
  machineName,
  NT_AUXV,
  NT_FILE,
  NT_PRPSINFO,
  NT_PRSTATUS,
  PF_R,
  PF_W,
  PF_X,
  PT_LOAD,
} from "../elf/constants.ts";
import { decodeAuxv, decodeFileNote, decodePrpsinfo } from "../elf/core-notes.ts";
import { type ElfFile, isPossible, type ProgramHeader, readElf } from "../elf/header.ts";
import { type Note, readNotes } from "../elf/notes.ts";

/**
 * A process core: from the kernel (`fs/binfmt_elf.c` elf_core_dump) or from gdb's gcore (`gdb/gcore.c`).
 * In both, p_filesz < p_memsz means that the rest of the mapping was *not dumped*; it is not zero.
 */
export class ProcessCore implements ProcessImage {
  readonly name: string;
  readonly notes: readonly Note[];
  readonly mappings: readonly ProcessMapping[];
  readonly files: readonly MappedFile[];
  readonly auxv: ReadonlyMap<number, bigint>;
  readonly psargs: string | undefined;
  readonly threadCount: number;
  readonly truncated: boolean;
  readonly warnings: readonly Warning[];
  readonly #source: ByteSource;

  constructor(source: ByteSource, elf: ElfFile) {
    const { notes, warnings: noteWarnings } = readNotes(source, elf);
    const noteOf = (type: number) => notes.find((n) => n.type === type && n.name === "CORE")?.desc;
    const { mappings, warnings } = toMappings(source, elf.programs);
    const lost = lostBytes(mappings) + lostBeyond(source, elf.programs);
    this.#source = source;
    this.name = source.name;
    this.notes = notes;
    this.mappings = mappings;
    this.files = decodeFileNote(noteOf(NT_FILE) ?? Buffer.alloc(0));
    this.auxv = decodeAuxv(noteOf(NT_AUXV) ?? Buffer.alloc(0));
    this.psargs = decodePrpsinfo(noteOf(NT_PRPSINFO) ?? Buffer.alloc(0))?.psargs;
    this.threadCount = notes.filter((n) => n.type === NT_PRSTATUS && n.name === "CORE").length;
    this.truncated = lost > 0 || elf.programs.length < elf.programCount;
    this.warnings = [...elf.warnings, ...noteWarnings, ...warnings, ...truncation(source, lost)];
  }

  extentAt(address: number, limit: number): ProcessExtent {
    const mapping = this.mappings[indexAtOrAbove(this.mappings, address)];
    if (mapping === undefined || mapping.start >= limit)
      return { start: address, end: limit, state: "unmapped" };
    if (mapping.start > address) return { start: address, end: mapping.start, state: "unmapped" };
    if (address >= mapping.presentEnd) {
      return { start: address, end: Math.min(limit, mapping.end), state: "absent" };
    }
    return {
      start: address,
      end: Math.min(limit, mapping.presentEnd),
      state: "present",
      at: { source: this.#source, offset: mapping.offset + (address - mapping.start) },
    };
  }

  read(address: number, target: Uint8Array): number {
    let done = 0;
    while (done < target.length) {
      const extent = this.extentAt(address + done, address + target.length);
      if (extent.at === undefined) break;
      const part = target.subarray(done, done + (extent.end - extent.start));
      const got = extent.at.source.read(extent.at.offset, part);
      done += got;
      if (got < part.length) break;
    }
    return done;
  }
}

/**
 * Opens an x86-64 ELF core as a process image.
 * @throws UnsupportedError when it is not ELF, not a core, or of another architecture
 */
export function openProcessCore(source: ByteSource): ProcessCore {
  const elf = readElf(source);
  const { header } = elf;
  if (header.type !== ET_CORE) {
    throw new UnsupportedError("an ELF file, but not a core file", {
      hint: "give the core file of the qemu process, not its executable",
    });
  }
  if (header.machine !== EM_X86_64 || header.bits !== 64 || !header.littleEndian) {
    throw new UnsupportedError(
      `a core of ${machineName(header.machine)}, ${header.bits}-bit: only x86-64 hosts are supported`,
    );
  }
  return new ProcessCore(source, elf);
}

/** PT_LOADs as disjoint mappings, ascending. */
function toMappings(source: ByteSource, programs: readonly ProgramHeader[]) {
  const loads = programs
    .filter((p) => p.type === PT_LOAD && p.memsz > 0)
    .map((p) => toMapping(source, p))
    .filter((m) => m !== undefined);
  const { ranges, dropped } = makeDisjoint(loads, cutFront);
  return { mappings: ranges, warnings: dropped === 0 ? [] : [overlapWarning(dropped)] };
}

const overlapWarning = (bytes: number): Warning => ({
  code: "CORE002",
  message: `segments overlap in ${bytesText(bytes)}; the one that starts lower is used`,
});

/** vsyscall lies at the top of the address space: no part of the heap or of guest RAM. */
const isBeyond = ({ vaddr }: ProgramHeader): boolean => vaddr >= ADDRESS_LIMIT;

function toMapping(source: ByteSource, program: ProgramHeader): ProcessMapping | undefined {
  if (isBeyond(program)) return undefined;
  const start = Number(program.vaddr);
  const end = start + program.memsz;
  if (!(end <= ADDRESS_LIMIT)) return undefined;
  const dumped = Math.min(program.filesz, program.memsz);
  const present = Math.max(0, Math.min(dumped, source.size - program.offset));
  return {
    start,
    end,
    readable: (program.flags & PF_R) !== 0,
    writable: (program.flags & PF_W) !== 0,
    executable: (program.flags & PF_X) !== 0,
    dumpedEnd: start + dumped,
    presentEnd: start + present,
    offset: program.offset,
  };
}

function cutFront(mapping: ProcessMapping, start: number): ProcessMapping {
  return {
    ...mapping,
    start,
    dumpedEnd: Math.max(start, mapping.dumpedEnd),
    presentEnd: Math.max(start, mapping.presentEnd),
    offset: mapping.offset + (start - mapping.start),
  };
}

const lostBytes = (mappings: readonly ProcessMapping[]): number =>
  mappings.reduce((lost, m) => lost + (m.dumpedEnd - m.presentEnd), 0);

/** What a truncated core lacks of segments that are no mapping here: vsyscall is the last of most cores. */
const lostBeyond = (source: ByteSource, programs: readonly ProgramHeader[]): number =>
  programs
    .filter((program) => program.type === PT_LOAD && isBeyond(program) && isPossible(program))
    .reduce(
      (lost, { offset, filesz }) => lost + Math.min(filesz, Math.max(0, offset + filesz - source.size)),
      0,
    );

function truncation(source: ByteSource, lost: number): Warning[] {
  if (lost === 0) return [];
  return [
    {
      code: "CORE001",
      message: `the core is truncated: ${bytesText(lost)} that its segments claim lie beyond the end of the file at ${hex(source.size)}`,
      where: { offset: source.size },
    },
  ];
}
