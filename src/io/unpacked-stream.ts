import { unpackZstd } from "../codec/zstd/unpack.ts";
import { CorruptError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";
import { type Compression, damaged, truncated, unpackIfCompressed } from "./compressed.ts";
import { unpackGzip } from "./gunzip.ts";

/** What became of a stream, known when it has been read. */
export interface StreamOutcome {
  size: number;
  /** Why it is not whole. */
  warning: Warning | undefined;
}

/** Some 8 MiB come out of so much at most. */
const INPUT_SIZE = 8 * 1024;
const CHUNK = 2 ** 20;

/** zstd goes back further than the decoder remembers, which takes a file. */
class FarMatch extends Error {}

/**
 * Unpacks a file from its beginning to its end, in memory that does not grow with it; a zstd stream with matches that reach
 * back over more than 8 MiB (`--long`, `--ultra`) goes through a temporary file.
 * @throws CorruptError when nothing could be unpacked; IoError
 */
export async function* unpackedChunks(
  file: ByteSource,
  compression: Compression,
  outcome: StreamOutcome,
  context: JobContext,
): AsyncGenerator<Buffer> {
  const { progress } = context;
  progress.start(file.size, `reading the log, unpacking ${compression}`);
  try {
    yield* direct(file, compression, outcome, context);
  } catch (error) {
    if (!(error instanceof FarMatch)) throw error;
    yield* byFile(file, outcome, context);
  } finally {
    progress.finish();
  }
}

async function* direct(
  file: ByteSource,
  compression: Compression,
  outcome: StreamOutcome,
  context: JobContext,
): AsyncGenerator<Buffer> {
  let chunks: Buffer[] = [];
  const sink = {
    append: (bytes: Buffer, start: number, end: number): void => {
      chunks.push(Buffer.from(bytes.subarray(start, end)));
    },
    readBack: (): void => {
      throw new FarMatch();
    },
  };
  const steps = compression === "gzip" ? unpackGzip(file, sink, INPUT_SIZE) : unpackZstd(file, sink);
  let offset = 0;
  let isWhole: boolean | undefined;
  let damage: CorruptError | undefined;
  try {
    while (isWhole === undefined && damage === undefined) {
      try {
        const step = await steps.next();
        if (step.done === true) isWhole = step.value;
        else offset = step.value;
      } catch (error) {
        if (!(error instanceof CorruptError)) throw error;
        damage = error;
      }
      for (const chunk of chunks) {
        outcome.size += chunk.length;
        yield chunk;
      }
      chunks = [];
      context.progress.update(offset);
      await context.checkpoint();
    }
  } finally {
    await steps.return(false);
  }
  if (damage !== undefined && outcome.size === 0) throw damage;
  if (damage !== undefined) outcome.warning = damaged(damage, outcome.size);
  else if (isWhole === false) outcome.warning = truncated(compression, outcome.size, offset);
}

/** Goes on behind what `direct` gave. */
async function* byFile(
  file: ByteSource,
  outcome: StreamOutcome,
  context: JobContext,
): AsyncGenerator<Buffer> {
  const warn = (warning: Warning): void => {
    outcome.warning = warning;
  };
  const temporary = { directories: context.temporaryDirectories };
  const unpacked = await unpackIfCompressed(file, temporary, { ...context, warn });
  if (unpacked === undefined) return;
  const { source } = unpacked;
  const buffer = Buffer.alloc(CHUNK);
  try {
    while (outcome.size < source.size) {
      const got = source.read(outcome.size, buffer.subarray(0, source.size - outcome.size));
      outcome.size += got;
      yield buffer.subarray(0, got);
      await context.checkpoint();
    }
  } finally {
    source.close();
  }
}
