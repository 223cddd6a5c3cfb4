import { noCoverage, sumOf } from "../core/coverage.ts";
import { naming, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { plural } from "../core/text.ts";
import { checkBitmaps, type PageCounts } from "./check-kdump-bitmaps.ts";
import { checkSpans, kdumpMachine } from "./check-kdump-notes.ts";
import { checkPages } from "./check-kdump-pages.ts";
import { type Checked, type CheckReport, FOUND } from "./check-report.ts";
import type { DumpFiles } from "./format.ts";
import { isKdump, type KdumpHeader, readKdumpHeader } from "./kdump-header.ts";
import { BEHIND_STATUS, statusOffset, subHeaderOf } from "./kdump-layouts.ts";
import { baseOf } from "./kdump-machine.ts";
import { DESCRIPTOR_SIZE } from "./kdump-page.ts";
import { isOfAnotherDump } from "./kdump-split.ts";

/** The latest header version there is. */
const LAST_VERSION = 6;
/** DUMP_DH_COMPRESSED_ZLIB, _LZO, _SNAPPY, _INCOMPLETE, _EXCLUDED_VMEMMAP and _ZSTD. */
const STATUS = 0x3f;

/**
 * Checks a kdump-compressed dump, and further parts of a split one.
 * @throws CorruptError when a header cannot be used; UnsupportedError for a part of another format
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
  return readKdumpHeader(file);
}

async function checkFile(source: ByteSource, header: KdumpHeader, report: CheckReport): Promise<Checked> {
  checkHeader(header, report);
  const machine = kdumpMachine(source, header);
  const placed = { ...header, base: baseOf(header, machine) };
  const counts = await checkBitmaps(source, placed, report);
  checkCounts(source, header, counts, report);
  checkSpans(source, header, machine, counts, report);
  return isWindow(header)
    ? await checkPages(source, placed, counts, report)
    : { coverage: noCoverage(), pages: { total: 0, read: 0 } };
}

const isWindow = ({ statedSplit: split, maxMapnr }: KdumpHeader): boolean =>
  split === undefined || (split.start <= split.end && split.end <= maxMapnr);

/** Fields that contradict each other, or say what no known version says. */
function checkHeader(header: KdumpHeader, report: CheckReport): void {
  const {
    layout,
    version,
    blockSize,
    bitmapBlocks,
    bitmapSize,
    maxMapnr,
    maxMapnr32,
    statedSplit: split,
    dumpLevel,
  } = header;
  const status = statusOffset(layout);
  const sub = subHeaderOf(layout);
  const contradiction = (message: string, offset: number) =>
    report.find(FOUND.contradiction, message, { offset });
  const oddity = (message: string, offset: number) => report.find(FOUND.headerOddity, message, { offset });
  if (header.incomplete) {
    const message = "the dump is marked incomplete: a part of the memory is not in it";
    report.find(FOUND.incomplete, message, { offset: status });
  }
  if (version < 0 || version > LAST_VERSION) oddity(`the header version ${version} is not known`, 8);
  if (header.status > STATUS) oddity(`the status 0x${header.status.toString(16)} has unknown bits`, status);
  if (version >= 1 && header.subHeaderBlocks < 1)
    contradiction("a header of this version has no sub header", status + BEHIND_STATUS.subHeaderBlocks);
  const bitmaps = (bitmapBlocks * blockSize) / bitmapSize;
  if (![1, 2].includes(bitmaps)) {
    const message = `bitmaps of ${plural(bitmapBlocks, "block")} are neither one nor two of ${maxMapnr} page frames`;
    const at = status + BEHIND_STATUS.bitmapBlocks;
    // Where the second one begins every reader agrees on when they are two halves.
    if (bitmaps > 2 && bitmapBlocks % 2 === 0) oddity(message, at);
    else contradiction(message, at);
  }
  if (version >= LAST_VERSION && maxMapnr32 !== 0 && maxMapnr32 !== Math.min(maxMapnr, 2 ** 32 - 1)) {
    const message = `the header counts ${maxMapnr32} page frames, the sub header ${maxMapnr}`;
    contradiction(message, status + BEHIND_STATUS.maxMapnr);
  }
  if (split !== undefined && !isWindow(header)) {
    const message = `the part's page frames ${split.start} to ${split.end} are not those of a dump of ${maxMapnr}`;
    contradiction(message, blockSize + sub.start);
  }
  if (dumpLevel < 0 || dumpLevel > 31)
    oddity(`the dump level ${dumpLevel} is not known`, blockSize + sub.dumpLevel);
}

function checkCounts(
  source: ByteSource,
  { layout, writtenBlocks, descriptors }: KdumpHeader,
  { dumped, own }: PageCounts,
  report: CheckReport,
): void {
  if (writtenBlocks !== 0 && writtenBlocks !== dumped) {
    const message = `the header counts ${plural(writtenBlocks, "page")} written, the bitmap ${dumped}`;
    const offset = statusOffset(layout) + BEHIND_STATUS.writtenBlocks;
    report.find(FOUND.headerOddity, message, { offset });
  }
  const there = Math.max(0, Math.floor((source.size - descriptors) / DESCRIPTOR_SIZE));
  // A part without pages of its own may end before the table, which has room for all.
  if (there < own) {
    const message = `the file ends inside the page descriptors: ${there} of ${own} are there`;
    report.find(FOUND.table, message, { offset: descriptors });
  }
}

interface PartFile {
  readonly file: ByteSource;
  readonly header: KdumpHeader;
}

/** Whether files are the parts of one split dump, and all of them. */
function checkParts(files: readonly PartFile[], report: CheckReport): void {
  const [first] = files;
  const { layout, split, maxMapnr, blockSize } = first!.header;
  const splitAt = blockSize + subHeaderOf(layout).split;
  if (files.length === 1) {
    if (split === undefined) return;
    const message = `this is one part of a split dump, with page frames ${split.start} to ${split.end} of ${maxMapnr}`;
    report.find(FOUND.onePart, message, { offset: splitAt });
    return;
  }
  const wrong = (file: ByteSource, message: string) =>
    report.find(FOUND.parts, message, { file: file.name, offset: splitAt });
  const parts: { readonly file: ByteSource; readonly start: number; readonly end: number }[] = [];
  for (const { file, header } of files) {
    if (header.split === undefined) wrong(file, "this is no part of a split dump");
    else if (isOfAnotherDump({ source: first!.file, header: first!.header }, { source: file, header })) {
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
