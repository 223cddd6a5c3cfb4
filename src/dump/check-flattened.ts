import { PAGE_SIZE } from "../core/address.ts";
import { u64be } from "../core/bytes.ts";
import { CorruptError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { type Range, sizeOf } from "../core/ranges.ts";
import { bytesText, hex } from "../core/text.ts";
import { FlattenedSource, MAX_FLAT_BITMAP } from "../io/flattened.ts";
import { type CheckReport, FOUND } from "./check-report.ts";
import { isKdump, readKdumpHeader } from "./kdump-header.ts";

/** Type and version of the only kind of stream there is (makedumpfile `makedumpfile.h`). */
const HEADER = { type: 16, version: 24 } as const;

/**
 * Puts a flattened stream in order, and tells what is wrong with it. Records that overlap are in order: a header is
 * written anew when its contents are known.
 * @throws CorruptError for a record that cannot be; UnsupportedError for more records than are read
 */
export async function checkFlattened(stream: ByteSource, report: CheckReport): Promise<FlattenedSource> {
  const header = Buffer.alloc(32);
  stream.read(0, header);
  const { type, version } = HEADER;
  if (u64be(header, type) !== 1 || u64be(header, version) !== 1) {
    const message = "the header of the flattened stream is of an unknown type or version";
    report.find(FOUND.streamOddity, message, { offset: type });
  }
  const file = await FlattenedSource.open(stream, report.checkpoint);
  if (!file.whole) {
    const message = "the flattened stream has no end mark: it is cut, and what was to come is missing";
    report.find(FOUND.streamCut, message, { offset: file.end });
  } else if (file.end < stream.size) {
    const message = `${bytesText(stream.size - file.end)} lie behind the end mark of the flattened stream`;
    report.find(FOUND.streamOddity, message, { offset: file.end });
  }
  await checkGaps(file, report);
  return file;
}

/** Gaps looked at between two looks at signals. */
const CHECKPOINT_GAPS = 4096;

async function checkGaps(file: FlattenedSource, report: CheckReport): Promise<void> {
  const sparse = sparseBitmaps(file);
  const isHole = ({ start, end }: Range) =>
    sparse !== undefined && start >= sparse.start && end <= sparse.end;
  let count = 0;
  for (const gap of file.gaps()) {
    if (!isPadding(gap) && !isHole(gap)) {
      const message = `no record of the flattened stream has the bytes ${hex(gap.start)} to ${hex(gap.end)} of the file it describes`;
      report.find(FOUND.streamGap, message, { offset: gap.start });
    }
    if (++count % CHECKPOINT_GAPS === 0) await report.checkpoint();
  }
}

/** Bitmaps that may have holes, in the streams of guestcore: those of memory that is far apart. */
function sparseBitmaps(file: FlattenedSource): Range | undefined {
  if (!isKdump(file)) return undefined;
  try {
    const { ramBitmap, bitmapSize, descriptors } = readKdumpHeader(file);
    return bitmapSize > MAX_FLAT_BITMAP ? { start: ramBitmap, end: descriptors } : undefined;
  } catch (error) {
    // That its headers are damaged is found where they are checked.
    if (error instanceof CorruptError) return undefined;
    throw error;
  }
}

/** makedumpfile and QEMU skip the rest of a block behind headers, notes and bitmaps. */
const isPadding = (gap: Range): boolean => sizeOf(gap) < PAGE_SIZE && gap.end % PAGE_SIZE === 0;
