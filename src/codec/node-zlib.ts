import * as zlib from "node:zlib";
import type { PageCodec } from "./page-codec.ts";

/** makedumpfile's, of zlib and of zstd. */
const LEVEL = 1;
/** ZSTD_c_compressionLevel. */
const ZSTD_LEVEL = 100;

/** zlib streams (RFC 1950) by Node: a new stream for each block. */
export const nodeZlib = (): PageCodec => ({
  unpack: (input, output) =>
    copied(() => zlib.inflateSync(input, { maxOutputLength: output.length }), output),
  pack: (input, output) => fitting(zlib.deflateSync(input, { level: LEVEL }), output),
});

/** zstd frames by Node, from 22.15 on. */
export function nodeZstd(): PageCodec | undefined {
  const { zstdDecompressSync, zstdCompressSync } = zlib as {
    zstdDecompressSync?: typeof zlib.inflateSync;
    zstdCompressSync?: (input: Buffer, options: { params: Record<number, number> }) => Buffer;
  };
  if (zstdDecompressSync === undefined || zstdCompressSync === undefined) return undefined;
  return {
    unpack: (input, output) =>
      copied(() => zstdDecompressSync(input, { maxOutputLength: output.length }), output),
    pack: (input, output) => fitting(zstdCompressSync(input, { params: { [ZSTD_LEVEL]: LEVEL } }), output),
  };
}

const fitting = (packed: Buffer, output: Buffer): number | undefined =>
  packed.length > output.length ? undefined : packed.copy(output);

function copied(unpack: () => Buffer, output: Buffer): number | undefined {
  try {
    return unpack().copy(output);
  } catch (error) {
    // Whatever zlib has against the bytes has a code.
    if (typeof (error as NodeJS.ErrnoException).code === "string") return undefined;
    throw error;
  }
}
