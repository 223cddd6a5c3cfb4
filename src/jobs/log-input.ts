import { UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";
import { type Compression, compressionOf, unpackingOf } from "../io/compressed.ts";
import { FileSource } from "../io/file.ts";
import { isStream, readStream, STANDARD_INPUT } from "../io/stream.ts";
import { type StreamOutcome, unpackedChunks } from "../io/unpacked-stream.ts";
import { type Input, openInput } from "./input.ts";
import { narrowingOf } from "./utf16.ts";

/** A log, read once from its beginning; memory does not grow with it. */
export interface Log {
  /** One byte a character. A chunk is good until the next is asked for. */
  readonly chunks: AsyncIterable<Buffer>;
  /** Known when it has been read. */
  readonly facts: () => Input["facts"];
  readonly warnings: readonly Warning[];
  /** Whether there was more than the limit. */
  readonly larger: () => boolean;
  close(): void;
}

const CHUNK = 2 ** 20;
/** Bytes that tell what a log is encoded in. */
const HEAD = 4;

/** What a log is called in messages. */
export const logName = (path: string): string => (path === STANDARD_INPUT ? "standard input" : path);

/**
 * Opens a log by name: a file, packed or not, or what has no random access.
 * @param limit bytes read at most
 * @throws IoError, CorruptError, UnsupportedError
 */
export async function openLog(path: string, limit: number, context: JobContext): Promise<Log> {
  if (isStream(path)) return streamLog(path, limit, context);
  const file = FileSource.open(path);
  try {
    const compression = compressionOf(file);
    if (compression !== undefined) return packedLog(file, compression, limit, context);
  } catch (error) {
    file.close();
    throw error;
  }
  file.close();
  return fileLog(await openInput(path, context), limit, context);
}

/** A packed log is unpacked as it is read: nobody goes back in it. */
function packedLog(file: FileSource, compression: Compression, limit: number, context: JobContext): Log {
  const outcome: StreamOutcome = { size: 0, warning: undefined };
  let larger = false;
  async function* chunks(): AsyncGenerator<Buffer> {
    let size = 0;
    for await (const chunk of unpackedChunks(file, compression, outcome, context)) {
      larger = chunk.length > limit - size;
      const some = chunk.subarray(0, limit - size);
      size += some.length;
      yield some;
      if (larger) return;
    }
  }
  const path = file.name;
  const identities = [file.identity()];
  return {
    chunks: narrowed(chunks(), () => {}),
    facts: () => {
      const { size, warning } = outcome;
      const whole = warning === undefined && !larger;
      const unpacked = { compression, size, whole, unpacking: unpackingOf(path, compression) };
      return { path, identities, size: file.size, sizeOnDisk: size, unpacked };
    },
    get warnings() {
      return outcome.warning === undefined ? [] : [outcome.warning];
    },
    larger: () => larger,
    close: () => file.close(),
  };
}

function fileLog(input: Input, limit: number, context: JobContext): Log {
  const { source, facts, warnings } = input;
  return {
    chunks: narrowed(fileChunks(source, limit, context), () => {}),
    facts: () => facts,
    warnings,
    larger: () => source.size > limit,
    close: () => input.close(),
  };
}

async function* fileChunks(source: ByteSource, limit: number, context: JobContext): AsyncGenerator<Buffer> {
  const { progress } = context;
  const size = Math.min(source.size, limit);
  const buffer = Buffer.alloc(Math.min(CHUNK, size));
  progress.start(size, "reading the log");
  try {
    for (let offset = 0; offset < size; ) {
      const got = source.read(offset, buffer.subarray(0, Math.min(CHUNK, size - offset)));
      if (got === 0) break;
      yield buffer.subarray(0, got);
      offset += got;
      progress.update(offset);
      await context.checkpoint();
    }
  } finally {
    progress.finish();
  }
}

function streamLog(path: string, limit: number, context: JobContext): Log {
  let size = 0;
  let larger = false;
  async function* chunks(): AsyncGenerator<Buffer> {
    for await (const chunk of readStream(path, logName(path), context.checkpoint)) {
      larger = chunk.length > limit - size;
      const kept = chunk.subarray(0, limit - size);
      size += kept.length;
      yield kept;
      if (larger) return;
      await context.checkpoint();
    }
  }
  return {
    chunks: narrowed(chunks(), refuseCompressed),
    facts: () => ({ path, identities: [], size, sizeOnDisk: size, unpacked: undefined }),
    warnings: [],
    larger: () => larger,
    close: () => {},
  };
}

function refuseCompressed(head: Buffer): void {
  const read = (offset: number, target: Uint8Array): number => head.copy(target, 0, offset);
  const compression = compressionOf({ name: "", size: head.length, read });
  if (compression === undefined) return;
  const unpack = compression === "gzip" ? "gzip" : "zstd";
  throw new UnsupportedError(`compressed with ${compression}`, {
    hint: `unpack it on its way (${unpack} -dc LOG | guestcore vmcs parse-dmesg -) or name the file`,
  });
}

/**
 * A log in UTF-16, as PowerShell writes one, with one byte a character; dumps are ASCII.
 * @param check sees the first bytes
 */
async function* narrowed(
  chunks: AsyncIterable<Buffer>,
  check: (head: Buffer) => void,
): AsyncGenerator<Buffer> {
  let narrow: ((chunk: Buffer) => Buffer) | undefined;
  for await (const chunk of headed(chunks)) {
    if (narrow === undefined) {
      check(chunk);
      narrow = narrowingOf(chunk);
    }
    yield narrow(chunk);
  }
}

/** The same bytes, the first chunk of them with a whole head; a pipe may bring one byte at a time. */
async function* headed(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let head: Buffer | undefined = Buffer.alloc(0);
  for await (const chunk of chunks) {
    const all: Buffer = head === undefined ? chunk : Buffer.concat([head, chunk]);
    head = head !== undefined && all.length < HEAD ? all : undefined;
    if (head === undefined) yield all;
  }
  if (head !== undefined && head.length > 0) yield head;
}
