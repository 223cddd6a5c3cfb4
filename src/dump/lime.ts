import { CorruptError, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { mergeRanges, sizeOf, totalSize } from "../core/ranges.ts";
import { hex, plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { EM_X86_64 } from "../elf/constants.ts";
import { type DumpFormat, hasMagic, type MachineDump } from "./format.ts";
import { LIME_HEADER_SIZE, MAX_LIME_RANGES, readLimeHeader } from "./lime-header.ts";
import { SegmentMemory, segmentsOf, type WholeSegment } from "./segment-memory.ts";

const MAGIC = "EMiL";

/**
 * Images of LiME, and of AVML without compression: ranges of memory as /proc/iomem has them, each behind a header. It may
 * begin or end inside a page; such a page is there only where another range has the rest of it.
 */
export const LIME: DumpFormat = {
  name: "lime",
  matches: (source) => hasMagic(source, MAGIC),
  open: openLime,
};

function openLime(source: ByteSource): MachineDump {
  const { ranges, warnings } = readRanges(source);
  const twice = totalSize(ranges) - totalSize(mergeRanges(ranges));
  if (twice > 0) {
    warnings.push({
      code: "DMP021",
      message: `ranges overlap: ${plural(twice, "byte")} of memory are in the image more than once, of which the first counts`,
    });
  }
  const memory = new SegmentMemory(source, segmentsOf(ranges));
  return { memory, notes: [], cpus: [], machine: EM_X86_64, warnings };
}

function readRanges(source: ByteSource): { ranges: WholeSegment[]; warnings: Warning[] } {
  const ranges: WholeSegment[] = [];
  let offset = 0;
  while (offset < source.size) {
    const header = readLimeHeader(source, offset);
    if (header === undefined) return { ranges, warnings: [cut(ranges, `inside a header`, offset)] };
    const { magic, version, range } = header;
    const isKnown = magic === MAGIC && version === 1 && range !== undefined;
    if (!isKnown && offset > 0) return { ranges, warnings: [strayBytes(source, offset)] };
    if (version !== 1) {
      throw new UnsupportedError(`a LiME image of version ${version}: only version 1 is read`, {
        where: { offset: 4 },
      });
    }
    if (range === undefined) {
      throw new CorruptError("the first range of the image is none", { where: { offset: 8 } });
    }
    if (ranges.length === MAX_LIME_RANGES) {
      throw new UnsupportedError(`a LiME image of more than ${MAX_LIME_RANGES} ranges`, {
        where: { offset },
      });
    }
    ranges.push({ ...range, offset: offset + LIME_HEADER_SIZE });
    offset += LIME_HEADER_SIZE + sizeOf(range);
  }
  const missing = offset - source.size;
  const warnings =
    missing === 0 ? [] : [cut(ranges, `${plural(missing, "byte")} before the end of a range`, source.size)];
  return { ranges, warnings };
}

/** @throws CorruptError when there is nothing else */
function cut(ranges: readonly WholeSegment[], place: string, offset: number): Warning {
  if (ranges.length === 0) {
    throw new CorruptError(`the image ends ${place}`, { where: { offset }, hint: CUT_HINT });
  }
  const message = `the image ends ${place}: what was to follow is missing`;
  return { code: "DMP020", message, hint: CUT_HINT, where: { offset } };
}

const CUT_HINT = "copy the image again, or take it again";

const strayBytes = (source: ByteSource, offset: number): Warning => ({
  code: "DMP020",
  message: `there is no range at offset ${hex(offset)}: ${plural(source.size - offset, "byte")} from there on are left out`,
  hint: CUT_HINT,
  where: { offset },
});
