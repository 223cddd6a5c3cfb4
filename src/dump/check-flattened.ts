import { PAGE_SIZE } from "../core/address.ts";
import { u64be } from "../core/bytes.ts";
import type { ByteSource } from "../core/memory.ts";
import { type Range, sizeOf } from "../core/ranges.ts";
import { bytesText, hex } from "../core/text.ts";
import { FlattenedSource } from "../io/flattened.ts";
import { type CheckReport, FOUND } from "./check-report.ts";

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
  let count = 0;
  for (const gap of file.gaps()) {
    if (!isPadding(gap)) {
      const message = `no record of the flattened stream has the bytes ${hex(gap.start)} to ${hex(gap.end)} of the file it describes`;
      report.find(FOUND.streamGap, message, { offset: gap.start });
    }
    if (++count % CHECKPOINT_GAPS === 0) await report.checkpoint();
  }
}

/** makedumpfile and QEMU skip the rest of a block behind headers, notes and bitmaps. */
const isPadding = (gap: Range): boolean => sizeOf(gap) < PAGE_SIZE && gap.end % PAGE_SIZE === 0;
