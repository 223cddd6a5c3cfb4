import { PAGE_SIZE } from "../core/address.ts";
import type { Extent, PhysicalMemory } from "../core/memory.ts";
import { type Range, totalSize } from "../core/ranges.ts";
import { bytesText, hex } from "../core/text.ts";
import { type Checked, type CheckReport, FOUND } from "./check-report.ts";
import { PageReader } from "./page-reader.ts";

/**
 * Reads the memory of a dump of any format, all of it or every n-th page, and tells of what it should have and has not.
 * A format's own `check` ends with it, when it has no better way to read pages.
 * @param missingTold whether something else tells of memory that the file should have and has not
 */
export async function checkMemory(
  memory: PhysicalMemory,
  report: CheckReport,
  missingTold = false,
): Promise<Checked> {
  const { ranges } = memory;
  const total = totalSize(ranges);
  const reader = new PageReader(total / PAGE_SIZE, report);
  report.progress.start(total, "verifying");
  try {
    let done = 0;
    for (const range of ranges) {
      for (let at = range.start; at < range.end; ) {
        const extent = memory.extentAt(at, range.end);
        await checkExtent(memory, extent, reader);
        if (extent.state === "absent" && !missingTold) tellMissing(extent, report);
        done += extent.end - at;
        at = extent.end;
        report.progress.update(done);
        await report.checkpoint();
      }
    }
    return reader.finish();
  } finally {
    report.progress.finish();
  }
}

async function checkExtent(
  memory: PhysicalMemory,
  { start, end, state, at }: Extent,
  reader: PageReader,
): Promise<void> {
  const { coverage } = reader;
  if (at !== undefined) await reader.raw(at.source, at.offset, end - start, start);
  else if (state === "present") await reader.pages(memory, start, end);
  else if (state === "absent") coverage.missing += end - start;
  else coverage[state] += end - start;
}

function tellMissing({ start, end }: Range, report: CheckReport): void {
  const message = `${bytesText(end - start)} of memory from ${hex(start)} on are not in the file, which should have them`;
  report.find(FOUND.memoryMissing, message, { address: start });
}
