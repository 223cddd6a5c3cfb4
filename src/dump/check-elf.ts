import { ADDRESS_LIMIT, PAGE_SIZE } from "../core/address.ts";
import { viewOf } from "../core/bytes.ts";
import { UnsupportedError } from "../core/errors.ts";
import { type ByteSource, rawExtent } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";
import { bytesText, hex } from "../core/text.ts";
import { PT_LOAD, PT_NOTE } from "../elf/constants.ts";
import { type ElfFile, type ElfHeader, isPossible, type ProgramHeader, readElf } from "../elf/header.ts";
import { readNotes } from "../elf/notes.ts";
import { checkAddresses, checkFileBytes, checkSameMemory, type Segment } from "./check-elf-overlap.ts";
import { checkMemory } from "./check-memory.ts";
import { checkNotes } from "./check-notes.ts";
import { type Checked, type CheckReport, FOUND } from "./check-report.ts";
import { elfKind } from "./elf-kind.ts";
import { ElfVmcore } from "./elf-vmcore.ts";
import type { DumpFiles } from "./format.ts";
import { PageReader } from "./page-reader.ts";

/**
 * Checks an ELF vmcore, or the core of a process.
 * @throws CorruptError when it has no usable headers; UnsupportedError when it is no core
 */
export async function checkElf(source: ByteSource, _files: DumpFiles, report: CheckReport): Promise<Checked> {
  const elf = readElf(source);
  const { machine } = elf.header;
  const { notes, warnings } = readNotes(source, elf);
  const kind = elfKind(elf, notes);
  if (kind === "other") throw new UnsupportedError("an ELF file, but not a core file");
  checkTables(source, elf, report);
  for (const { message, where } of warnings) {
    // A segment that no file has is told as that.
    if (Number.isFinite(where?.offset)) report.find(FOUND.notes, message, where);
  }
  checkNotes(notes, { machine, process: kind === "process-core" }, report);
  const segments = segmentsOf(elf);
  for (const segment of segments) checkSegment(segment, source, report);
  const loads = segments.filter(({ type, memsz }) => type === PT_LOAD && memsz > 0).filter(isPossible);
  const inFile = segments.filter(({ type }) => type === PT_LOAD || type === PT_NOTE).filter(isPossible);
  const process = kind === "process-core";
  checkFileBytes(inFile, process, headersOf(elf), report);
  if (process) {
    checkAddresses(loads, report);
    return await checkProcess(source, loads, report);
  }
  await checkSameMemory(source, loads, report);
  return await checkMemory(new ElfVmcore(source, elf), report, true);
}

const entrySize = ({ header }: ElfFile): number => (header.bits === 64 ? 56 : 32);

const headersOf = (elf: ElfFile): Range[] => [
  { start: 0, end: elf.header.bits === 64 ? 64 : 52 },
  { start: elf.header.phoff, end: elf.header.phoff + elf.programs.length * entrySize(elf) },
];

const segmentsOf = (elf: ElfFile): Segment[] =>
  elf.programs.map((program, i) => ({ ...program, header: elf.header.phoff + i * entrySize(elf) }));

/** Program headers that are not there, and section headers with their names; the latter matter to gdb. */
function checkTables(source: ByteSource, { header, programs, programCount }: ElfFile, report: CheckReport) {
  if (programs.length < programCount) {
    const message = `the file ends inside the program headers: ${programs.length} of ${programCount} are there`;
    report.find(FOUND.table, message, { offset: source.size });
  }
  const { shoff, shnum, shentsize } = header;
  if (shoff === 0 || shnum === 0) return;
  if (!(shoff + shnum * shentsize <= source.size)) {
    const message = `${shnum} section headers at offset ${shoff} are not all in a file of ${source.size} bytes`;
    report.find(FOUND.table, message, { offset: header.bits === 64 ? 40 : 32 });
  } else if (!areNamesThere(source, header)) {
    const message = `the names of the sections are not all in a file of ${source.size} bytes`;
    report.find(FOUND.table, message, { offset: header.bits === 64 ? 62 : 50 });
  }
}

/** Whether the section that e_shstrndx names is in the file: QEMU writes it last. */
function areNamesThere(
  source: ByteSource,
  { bits, littleEndian, shoff, shnum, shentsize }: ElfHeader,
): boolean {
  const bytes = Buffer.alloc(64);
  const view = viewOf(bytes);
  source.read(bits === 64 ? 62 : 50, bytes.subarray(0, 2));
  const index = view.getUint16(0, littleEndian);
  // 0: there are none.
  if (index === 0 || index >= shnum) return true;
  source.read(shoff + index * shentsize, bytes);
  const word = (at32: number, at64: number) =>
    bits === 64 ? Number(view.getBigUint64(at64, littleEndian)) : view.getUint32(at32, littleEndian);
  return word(16, 24) + word(20, 32) <= source.size;
}

function checkSegment(segment: Segment, source: ByteSource, report: CheckReport): void {
  const { type, header, offset, filesz, memsz, vaddr, paddr } = segment;
  const where = { offset: header };
  if (!isPossible(segment)) {
    report.find(FOUND.segmentImpossible, "a segment has an offset or size that no file has", where);
    return;
  }
  if (type !== PT_LOAD && type !== PT_NOTE) return;
  const place = type === PT_LOAD ? { ...where, address: addressOf(segment) } : where;
  if (type === PT_LOAD && filesz > memsz) {
    const message = `a segment has ${filesz} bytes in the file for ${memsz} in memory`;
    report.find(FOUND.segmentImpossible, message, place);
  }
  if (type === PT_LOAD && (vaddr + BigInt(memsz) > 2n ** 64n || wraps(paddr, memsz))) {
    report.find(FOUND.segmentImpossible, "a segment ends behind the last address there is", where);
  }
  const lost = Math.min(filesz, Math.max(0, offset + filesz - source.size));
  if (lost > 0) {
    const message = `a segment of ${bytesText(filesz)} at offset ${hex(offset)} reaches beyond the file's end: ${bytesText(lost)} are missing`;
    report.find(FOUND.segmentCut, message, place);
  }
}

/** p_paddr is all ones, which reads as Infinity, where makedumpfile knows no physical address. */
const wraps = (paddr: number, memsz: number): boolean =>
  Number.isFinite(paddr) && paddr + memsz > ADDRESS_LIMIT;

const addressOf = ({ paddr, vaddr }: ProgramHeader): number =>
  Number.isFinite(paddr) && paddr > 0 ? paddr : Number(vaddr);

/** Reads what the core of a process has of its memory; the rest of a mapping was left out on purpose. */
async function checkProcess(
  source: ByteSource,
  loads: readonly Segment[],
  report: CheckReport,
): Promise<Checked> {
  const sizes = loads.map(({ filesz, memsz, offset }) => {
    const dumped = Math.min(filesz, memsz);
    return { dumped, present: Math.max(0, Math.min(dumped, source.size - offset)) };
  });
  const total = sizes.reduce((sum, { present }) => sum + present, 0);
  const reader = new PageReader(total / PAGE_SIZE, report);
  report.progress.start(total, "verifying");
  try {
    let done = 0;
    for (const [i, { offset, memsz, vaddr }] of loads.entries()) {
      const { dumped, present } = sizes[i]!;
      reader.coverage.missing += dumped - present;
      reader.coverage.excluded += memsz - dumped;
      await readRun(source, offset, present, Number(vaddr), reader);
      done += present;
      report.progress.update(done);
      await report.checkpoint();
    }
    return reader.finish();
  } finally {
    report.progress.finish();
  }
}

/** A run of a file; holes of a sparse one are not read. */
async function readRun(
  source: ByteSource,
  offset: number,
  length: number,
  address: number,
  reader: PageReader,
): Promise<void> {
  for (let at = 0; at < length; ) {
    const { end, state } = rawExtent(at, length, source, offset + at);
    if (state === "zero") reader.coverage.zero += end - at;
    else await reader.raw(source, offset + at, end - at, address + at);
    at = end;
  }
}
