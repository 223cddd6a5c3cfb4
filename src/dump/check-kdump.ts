import { noCoverage, sumOf } from "../core/coverage.ts";
import { naming, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { plural } from "../core/text.ts";
import { EM_X86_64 } from "../elf/constants.ts";
import { parseNotes } from "../elf/notes.ts";
import { checkBitmaps, type PageCounts } from "./check-kdump-bitmaps.ts";
import { checkPages } from "./check-kdump-pages.ts";
import { checkNotes } from "./check-notes.ts";
import { type Checked, type CheckReport, FOUND } from "./check-report.ts";
import type { DumpFiles } from "./format.ts";
import { isKdump, type KdumpHeader, readKdumpHeader, type Span } from "./kdump-header.ts";
import { SUB_HEADER_SIZE } from "./kdump-layouts.ts";
import { DESCRIPTOR_SIZE } from "./kdump-page.ts";

/** Notes of 8192 CPUs with room to spare. */
const MAX_NOTES_SIZE = 16 * 2 ** 20;
/** The latest header version there is. */
const LAST_VERSION = 6;
/** DUMP_DH_COMPRESSED_ZLIB, _LZO, _SNAPPY, _INCOMPLETE, _EXCLUDED_VMEMMAP and _ZSTD. */
const STATUS = 0x3f;

/**
 * Checks a kdump-compressed dump, and further parts of a split one.
 * @throws CorruptError when a header cannot be used; UnsupportedError for the dump of another machine
 */
export async function checkKdump(
  source: ByteSource,
  { parts = [] }: DumpFiles,
  report: CheckReport,
): Promise<Checked> {
  const files: PartFile[] = [];
  for (const file of [source, ...parts]) {
    files.push({ file, header: await naming(file.name, () => headerOf(file)) });
  }
  const checked: Checked[] = [];
  for (const { file, header } of files) {
    const own: CheckReport = {
      ...report,
      find: (kind, message, where) =>
        report.find(kind, message, parts.length === 0 ? where : { file: file.name, ...where }),
    };
    checked.push(await checkFile(file, header, own));
  }
  checkParts(files, report);
  return {
    coverage: sumOf(checked.map(({ coverage }) => coverage)),
    pages: {
      total: checked.reduce((sum, { pages }) => sum + pages.total, 0),
      read: checked.reduce((sum, { pages }) => sum + pages.read, 0),
    },
  };
}

function headerOf(file: ByteSource): KdumpHeader {
  if (!isKdump(file)) {
    throw new UnsupportedError("no kdump-compressed dump, as the parts of one are", {
      hint: "--part takes the further files of a split dump",
    });
  }
  const header = readKdumpHeader(file);
  const { littleEndian, bits } = header.layout;
  if (littleEndian && bits === 64 && ["", "x86_64"].includes(header.machine)) return header;
  throw new UnsupportedError(`a dump of ${header.machine}: only those of x86-64 machines are read`);
}

async function checkFile(source: ByteSource, header: KdumpHeader, report: CheckReport): Promise<Checked> {
  checkHeader(header, report);
  const counts = await checkBitmaps(source, header, report);
  checkCounts(source, header, counts, report);
  checkSpans(source, header, counts, report);
  return isWindow(header)
    ? await checkPages(source, header, counts, report)
    : { coverage: noCoverage(), pages: { total: 0, read: 0 } };
}

const isWindow = ({ statedSplit: split, maxMapnr }: KdumpHeader): boolean =>
  split === undefined || (split.start <= split.end && split.end <= maxMapnr);

/** Fields that contradict each other, or say what no known version says. */
function checkHeader(header: KdumpHeader, report: CheckReport): void {
  const {
    version,
    blockSize,
    bitmapBlocks,
    bitmapSize,
    maxMapnr,
    maxMapnr32,
    statedSplit: split,
    dumpLevel,
  } = header;
  const contradiction = (message: string, offset: number) =>
    report.find(FOUND.contradiction, message, { offset });
  const oddity = (message: string, offset: number) => report.find(FOUND.headerOddity, message, { offset });
  if (header.incomplete) {
    const message = "the dump is marked incomplete: there was no room for the rest of it";
    report.find(FOUND.incomplete, message, { offset: 424 });
  }
  if (version < 0 || version > LAST_VERSION) oddity(`the header version ${version} is not known`, 8);
  if (header.status > STATUS) oddity(`the status 0x${header.status.toString(16)} has unknown bits`, 424);
  if (version >= 1 && header.subHeaderBlocks < 1)
    contradiction("a header of this version has no sub header", 432);
  const bitmaps = (bitmapBlocks * blockSize) / bitmapSize;
  if (![1, 2].includes(bitmaps)) {
    const message = `bitmaps of ${plural(bitmapBlocks, "block")} are neither one nor two of ${maxMapnr} page frames`;
    // Where the second one begins every reader agrees on when they are two halves.
    if (bitmaps > 2 && bitmapBlocks % 2 === 0) oddity(message, 436);
    else contradiction(message, 436);
  }
  if (version >= LAST_VERSION && maxMapnr32 !== 0 && maxMapnr32 !== Math.min(maxMapnr, 2 ** 32 - 1)) {
    contradiction(`the header counts ${maxMapnr32} page frames, the sub header ${maxMapnr}`, 440);
  }
  if (split !== undefined && !isWindow(header)) {
    const message = `the part's page frames ${split.start} to ${split.end} are not those of a dump of ${maxMapnr}`;
    contradiction(message, blockSize + 16);
  }
  if (dumpLevel < 0 || dumpLevel > 31) oddity(`the dump level ${dumpLevel} is not known`, blockSize + 8);
}

function checkCounts(
  source: ByteSource,
  { writtenBlocks, descriptors }: KdumpHeader,
  { dumped, own }: PageCounts,
  report: CheckReport,
): void {
  if (writtenBlocks !== 0 && writtenBlocks !== dumped) {
    const message = `the header counts ${plural(writtenBlocks, "page")} written, the bitmap ${dumped}`;
    report.find(FOUND.headerOddity, message, { offset: 452 });
  }
  const there = Math.max(0, Math.floor((source.size - descriptors) / DESCRIPTOR_SIZE));
  // A part without pages of its own may end before the table, which has room for all.
  if (there < own) {
    const message = `the file ends inside the page descriptors: ${there} of ${own} are there`;
    report.find(FOUND.table, message, { offset: descriptors });
  }
}

/** Notes, VMCOREINFO and the log of what was erased: in the file, and not where something else is. */
function checkSpans(
  source: ByteSource,
  header: KdumpHeader,
  { dumped }: PageCounts,
  report: CheckReport,
): void {
  const { blockSize, ramBitmap, descriptors, notes, vmcoreinfo, eraseinfo } = header;
  const tables = [
    { start: 0, end: blockSize + SUB_HEADER_SIZE },
    { start: ramBitmap, end: descriptors + DESCRIPTOR_SIZE * dumped },
  ];
  for (const [name, span] of Object.entries({ notes, VMCOREINFO: vmcoreinfo, eraseinfo })) {
    if (span === undefined) continue;
    const { offset, size } = span;
    if (!(offset + size <= source.size)) {
      const message = `${name}: ${size} bytes at offset ${offset} are not all in a file of ${source.size} bytes`;
      report.find(FOUND.notes, message, { offset });
    } else if (tables.some(({ start, end }) => offset < end && offset + size > start)) {
      const message = `${name}: ${size} bytes at offset ${offset} are those of headers, bitmaps or descriptors`;
      report.find(FOUND.contradiction, message, { offset });
    }
  }
  if (notes !== undefined) checkNoteBytes(source, header, notes, report);
  else if (vmcoreinfo !== undefined) {
    const note = {
      name: "VMCOREINFO",
      type: 0,
      desc: bytesOf(source, vmcoreinfo),
      offset: vmcoreinfo.offset,
    };
    checkNotes([note], { machine: EM_X86_64 }, report);
  }
}

function checkNoteBytes(source: ByteSource, { cpus }: KdumpHeader, span: Span, report: CheckReport): void {
  const damaged = (offset: number) => {
    const message = "a note does not fit into the notes; it and those behind it cannot be read";
    report.find(FOUND.notes, message, { offset });
  };
  const bytes = bytesOf(source, span);
  // Where they are cut, that has been told.
  const notes = [...parseNotes(bytes, span.offset, true, bytes.length < span.size ? undefined : damaged)];
  checkNotes(notes, { machine: EM_X86_64, cpus }, report);
}

function bytesOf(source: ByteSource, { offset, size }: Span): Buffer {
  const bytes = Buffer.alloc(Math.max(0, Math.min(size, MAX_NOTES_SIZE, source.size - offset)));
  return bytes.subarray(0, bytes.length === 0 ? 0 : source.read(offset, bytes));
}

interface PartFile {
  readonly file: ByteSource;
  readonly header: KdumpHeader;
}

/** Whether files are the parts of one split dump, and all of them. */
function checkParts(files: readonly PartFile[], report: CheckReport): void {
  const [first] = files;
  const { split, maxMapnr, blockSize } = first!.header;
  if (files.length === 1) {
    if (split === undefined) return;
    const message = `this is one part of a split dump, with page frames ${split.start} to ${split.end} of ${maxMapnr}`;
    report.find(FOUND.onePart, message, { offset: blockSize + 12 });
    return;
  }
  const wrong = (file: ByteSource, message: string) =>
    report.find(FOUND.parts, message, { file: file.name, offset: blockSize + 12 });
  const parts: { readonly file: ByteSource; readonly start: number; readonly end: number }[] = [];
  for (const { file, header } of files) {
    if (header.split === undefined) wrong(file, "this is no part of a split dump");
    else if (header.maxMapnr !== maxMapnr || header.blockSize !== blockSize) {
      wrong(file, "this is a part of another dump than the first file");
    } else parts.push({ file, ...header.split });
  }
  parts.sort((a, b) => a.start - b.start || a.end - b.end);
  let at = 0;
  for (const { file, start, end } of parts) {
    if (start > at) wrong(file, `no part has the page frames ${at} to ${start}`);
    if (start < at && end > start)
      wrong(file, `two parts have the page frames ${start} to ${Math.min(at, end)}`);
    at = Math.max(at, end);
  }
  if (at < maxMapnr) wrong(first!.file, `no part has the page frames ${at} to ${maxMapnr}`);
}
