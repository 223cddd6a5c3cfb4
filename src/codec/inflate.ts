/** Deflate as far as it goes: zlib by Node, asked again for less where the stream is damaged. */

import * as zlib from "node:zlib";
import type { Unpacked } from "./unpacked.ts";

type Inflate = typeof zlib.inflateSync;

/** Node gives the engine, which knows how much it took, when it is asked for `info`. */
interface Informed {
  readonly buffer: Buffer;
  readonly engine: { readonly bytesWritten: number };
}

/**
 * Unpacks a zlib stream (RFC 1950), or one of deflate alone (RFC 1951); windows up to 32 KiB.
 * @param limit bytes of output at most
 */
export function unpackDeflate(input: Uint8Array, wrapped: boolean, limit: number): Unpacked {
  const inflate = wrapped ? zlib.inflateSync : zlib.inflateRawSync;
  const all = attempt(inflate, input, limit);
  if (typeof all !== "string") {
    const { bytesWritten } = all.engine;
    // Without its last bytes the same comes out, unless it was cut.
    const whole = wholly(inflate, input.subarray(0, bytesWritten), limit);
    return { bytes: all.buffer, read: bytesWritten, fault: whole ? undefined : "cut" };
  }
  // The longest beginning without the fault: where a beginning has it, every longer one has.
  let [good, bad] = [0, input.length];
  let best: Buffer = Buffer.alloc(0);
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    const some = attempt(inflate, input.subarray(0, middle), limit);
    if (typeof some === "string") bad = middle;
    else [good, best] = [middle, some.buffer];
  }
  return { bytes: best, read: bad, fault: all };
}

/**
 * What the beginning of a stream gives.
 * @returns undefined when there is a fault in it
 */
export function inflateBeginning(input: Uint8Array, wrapped: boolean, limit: number): Buffer | undefined {
  const some = attempt(wrapped ? zlib.inflateSync : zlib.inflateRawSync, input, limit);
  return typeof some === "string" ? undefined : some.buffer;
}

function attempt(inflate: Inflate, input: Uint8Array, limit: number): Informed | "damaged" | "full" {
  const options = { finishFlush: zlib.constants.Z_SYNC_FLUSH, maxOutputLength: limit, info: true };
  try {
    return inflate(input, options) as unknown as Informed;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ERR_BUFFER_TOO_LARGE") return "full";
    // Whatever zlib has against the bytes has a code.
    if (typeof code === "string") return "damaged";
    throw error;
  }
}

/** Whether a stream ends with the input: Z_FINISH has an error otherwise. */
function wholly(inflate: Inflate, input: Uint8Array, limit: number): boolean {
  try {
    inflate(input, { maxOutputLength: limit });
    return true;
  } catch (error) {
    if (typeof (error as NodeJS.ErrnoException).code === "string") return false;
    throw error;
  }
}
