import { isSkippable, ZSTD_MAGIC } from "../codec/zstd/header.ts";
import { unpackZstd } from "../codec/zstd/unpack.ts";
import { CorruptError, type GuestcoreError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource, Unpacking } from "../core/memory.ts";
import { bytesText, hex, shellWord } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { FileSource } from "./file.ts";
import { unpackGzip } from "./gunzip.ts";
import { TemporaryFile, type TemporaryOptions } from "./temporary.ts";

type Surroundings = Pick<JobContext, "progress" | "warn" | "checkpoint">;

export type Compression = "gzip" | "zstd";

/** A compressed file made readable at random. */
export interface Unpacked {
  /** The contents, under the name of the compressed file; the caller closes it. */
  readonly source: FileSource;
  readonly compression: Compression;
  /** Whether all of the contents is there and right as far as checksums tell; otherwise a warning told why not. */
  readonly whole: boolean;
}

/** What the contents show, not the name: gzip or zstd (also behind a skippable frame), else undefined. */
export function compressionOf(source: ByteSource): Compression | undefined {
  const bytes = Buffer.alloc(4);
  if (source.read(0, bytes) < 4) return undefined;
  if (bytes.readUInt16BE(0) === 0x1f8b && bytes[2] === 8) return "gzip";
  const magic = bytes.readUInt32LE(0);
  return magic === ZSTD_MAGIC || isSkippable(magic) ? "zstd" : undefined;
}

/** The command that unpacks a file beside itself; `zstd` refuses windows above 128 MiB unless it is told. */
export function unpackingOf(path: string, compression: Compression): Unpacking {
  const stem = path.replace(/\.(zst|zstd|gz|gzip)$/i, "");
  const name = stem === path || /(^|\/)$/.test(stem) ? `${path}.unpacked` : stem;
  const [from, to] = [shellWord(path), shellWord(name)];
  return {
    name,
    command: compression === "gzip" ? `gunzip -c ${from} > ${to}` : `zstd -d --long=31 ${from} -o ${to}`,
  };
}

/** `unpackingOf` a source, which may have to be saved under a name first. */
function unpackingFrom({ name, unpacking: saving }: ByteSource, compression: Compression): Unpacking {
  if (saving === undefined) return unpackingOf(name, compression);
  const unpacking = unpackingOf(saving.name, compression);
  return { ...unpacking, command: `${saving.command} && ${unpacking.command}` };
}

/**
 * Unpacks a gzip or zstd file into a temporary one, because a dump is read at random. A damaged or truncated stream
 * yields what could be decoded, with warning CORE004.
 * @returns undefined when `file` is not compressed
 * @throws CorruptError when nothing at all could be decoded
 * @throws IoError when there is no room
 */
export async function unpackIfCompressed(
  file: ByteSource,
  temporary: TemporaryOptions,
  context: Surroundings,
): Promise<Unpacked | undefined> {
  const compression = compressionOf(file);
  if (compression === undefined) return undefined;
  const output = TemporaryFile.create(temporary, file.size);
  const { progress } = context;
  progress.start(file.size, `unpacking ${compression}`);
  try {
    const steps = compression === "gzip" ? unpackGzip(file, output) : unpackZstd(file, output);
    const problem = await follow(steps, context, compression, output);
    if (problem !== undefined) context.warn(problem);
    const source = output.finish(file.name, unpackingFrom(file, compression));
    return { source, compression, whole: problem === undefined };
  } catch (error) {
    output.close();
    throw error;
  } finally {
    progress.finish();
  }
}

/** Drives a decoder to its end; a warning when the stream is not whole. */
async function follow(
  steps: AsyncGenerator<number, boolean> | Generator<number, boolean>,
  context: Surroundings,
  compression: Compression,
  output: TemporaryFile,
): Promise<Warning | undefined> {
  let offset = 0;
  try {
    for (;;) {
      const step = await steps.next();
      if (step.done === true) return step.value ? undefined : truncated(compression, output.size, offset);
      offset = step.value;
      context.progress.update(offset);
      await context.checkpoint();
    }
  } catch (error) {
    if (!(error instanceof CorruptError) || output.size === 0) throw error;
    return damaged(error, output.size);
  } finally {
    await steps.return(false);
  }
}

/** Of a stream that ends early. @throws CorruptError when nothing came out of it */
export function truncated(compression: Compression, size: number, offset: number): Warning {
  if (size === 0) {
    throw new CorruptError(`the ${compression} stream ends before anything could be unpacked`, {
      where: { offset },
      hint: "copy the file again: it is truncated at its very start",
    });
  }
  return {
    code: "CORE004",
    message: `the ${compression} stream is truncated: ${bytesText(size)} could be unpacked, the rest is lost`,
    hint: "copy the compressed file again, or compare its size with the original",
    where: { offset },
  };
}

export function damaged(error: GuestcoreError, size: number): Warning {
  const { offset } = error.where ?? {};
  const at = offset === undefined ? "" : ` at offset ${hex(offset)}`;
  return {
    code: "CORE004",
    message: `the compressed stream is damaged${at} (${error.message}): ${bytesText(size)} could be unpacked`,
    hint: error.hint ?? "copy the compressed file again; what lies behind the damage is treated as missing",
    ...(error.where === undefined ? {} : { where: error.where }),
  };
}
