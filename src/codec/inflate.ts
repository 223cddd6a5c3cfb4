import * as zlib from "node:zlib";
import { GuestcoreError } from "../core/errors.ts";
import { unpackZstd } from "./zstd/unpack.ts";

/** Node's own, from 22.15 on. */
const zstd = (zlib as { zstdDecompressSync?: typeof zlib.inflateSync }).zstdDecompressSync;

/**
 * Decompresses a zlib stream (RFC 1950) of a page.
 * @returns bytes written; undefined when it is damaged, cut, or does not fit
 */
export const unpackZlib = (input: Buffer, output: Buffer): number | undefined =>
  copied(() => zlib.inflateSync(input, { maxOutputLength: output.length }), output);

/** `unpackZlib` of a zstd frame. */
export const unpackZstdBlock = (input: Buffer, output: Buffer): number | undefined =>
  zstd === undefined
    ? unpackInMemory(input, output)
    : copied(() => zstd(input, { maxOutputLength: output.length }), output);

function copied(unpack: () => Buffer, output: Buffer): number | undefined {
  try {
    return unpack().copy(output);
  } catch (error) {
    // Whatever zlib has against the bytes has a code.
    if (typeof (error as NodeJS.ErrnoException).code === "string") return undefined;
    throw error;
  }
}

function unpackInMemory(input: Buffer, output: Buffer): number | undefined {
  let size = 0;
  const source = {
    name: "",
    size: input.length,
    read: (offset: number, target: Uint8Array) => input.copy(target, 0, offset, offset + target.length),
  };
  const sink = {
    append: (bytes: Buffer, start: number, end: number) => {
      bytes.copy(output, size, start, end);
      size += end - start;
    },
    readBack: (position: number, target: Buffer, start: number, end: number) => {
      output.copy(target, start, position, position + (end - start));
    },
  };
  try {
    const steps = unpackZstd(source, sink);
    let step = steps.next();
    // A bomb ends at its first block that does not fit.
    while (step.done !== true && size <= output.length) step = steps.next();
    return step.done === true && step.value && size <= output.length ? size : undefined;
  } catch (error) {
    if (error instanceof GuestcoreError) return undefined;
    throw error;
  }
}
