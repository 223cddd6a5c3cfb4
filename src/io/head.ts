import { unpackZstd } from "../codec/zstd/unpack.ts";
import { CorruptError, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { type Compression, compressionOf } from "./compressed.ts";
import { FileSource } from "./file.ts";
import { unpackGzip } from "./gunzip.ts";

/** The beginning of a file's contents, unpacked where it is compressed. */
export interface FileHead {
  readonly bytes: Buffer;
  readonly compression: Compression | undefined;
}

/** Enough to tell a log by what is in it: firmware and boot loader may write some ten KiB first. */
export const HEAD_BYTES = 64 * 1024;

/**
 * Reads the beginning of a file. No more of a compressed one is unpacked than that takes; of a damaged one what comes
 * out.
 * @param use may read the file further while it is open; not called of a compressed one
 * @throws IoError; UnsupportedError for what is no regular file
 */
export async function readHead(
  path: string,
  use: (source: ByteSource) => void = () => {},
): Promise<FileHead> {
  const source = FileSource.open(path);
  try {
    const compression = compressionOf(source);
    if (compression !== undefined) return { bytes: await unpackHead(source, compression), compression };
    use(source);
    const bytes = Buffer.alloc(Math.min(HEAD_BYTES, source.size));
    return { bytes: bytes.subarray(0, source.read(0, bytes)), compression };
  } finally {
    source.close();
  }
}

async function unpackHead(source: ByteSource, compression: Compression): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  const sink = {
    append: (bytes: Buffer, start: number, end: number): void => {
      const kept = Math.min(end - start, HEAD_BYTES - size);
      if (kept > 0) chunks.push(Buffer.from(bytes.subarray(start, start + kept)));
      size += Math.max(0, kept);
    },
    // The decoder keeps more of what it unpacked than is ever taken here.
    readBack: (_position: number, target: Buffer, start: number, end: number): void => {
      target.fill(0, start, end);
    },
  };
  const steps = compression === "gzip" ? unpackGzip(source, sink) : unpackZstd(source, sink);
  try {
    for (;;) {
      const step = await steps.next();
      if (step.done === true || size >= HEAD_BYTES) break;
    }
  } catch (error) {
    if (!(error instanceof CorruptError) && !(error instanceof UnsupportedError)) throw error;
  } finally {
    await steps.return(false);
  }
  return Buffer.concat(chunks);
}
