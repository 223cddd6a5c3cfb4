import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";
import { FlattenedSource } from "../io/flattened.ts";

/** A file as it is, or what a flattened stream describes; a stream that is cut is told of. */
export async function unflattened(
  source: ByteSource,
  checkpoint?: JobContext["checkpoint"],
): Promise<{ readonly source: ByteSource; readonly warnings: readonly Warning[] }> {
  if (!FlattenedSource.matches(source)) return { source, warnings: [] };
  const file = await FlattenedSource.open(source, checkpoint);
  return { source: file, warnings: file.whole ? [] : [cutStream] };
}

const cutStream: Warning = {
  code: "DMP001",
  message: "the flattened stream has no end mark: it is cut, and what was to come is missing",
  hint: "headers and bitmaps are written last; copy the stream again",
};
