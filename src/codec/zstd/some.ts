import { GuestcoreError } from "../../core/errors.ts";
import type { ByteSource } from "../../core/memory.ts";
import type { Unpacked } from "../unpacked.ts";
import type { UnpackedBytes } from "./history.ts";
import { ZstdUnpacker } from "./unpack.ts";

/** Made when it is first needed: its history takes 16 MiB. */
let unpacker: ZstdUnpacker | undefined;

/**
 * Unpacks the first zstd frame of the input as far as it goes.
 * @param limit bytes of output at most
 */
export function unpackSomeZstd(input: Uint8Array, limit: number): Unpacked {
  const source = sourceOf(input);
  const sink = new Sink(limit);
  unpacker ??= new ZstdUnpacker();
  let read = 0;
  const done = (fault: Unpacked["fault"]): Unpacked => ({ bytes: sink.bytes(), read, fault });
  try {
    const steps = unpacker.unpack(source, sink);
    for (let step = steps.next(); ; step = steps.next()) {
      if (sink.full) return done("full");
      if (step.done === true) return done(step.value ? undefined : "cut");
      read = step.value;
    }
  } catch (error) {
    if (!(error instanceof GuestcoreError)) throw error;
    // What stands behind a frame and is none is not the frame's.
    return done(error.message === BEHIND && read > 0 ? undefined : "damaged");
  }
}

/** What the decoder says of bytes that begin no frame. */
const BEHIND = "zstd: no frame starts here";

const sourceOf = (input: Uint8Array): ByteSource => ({
  name: "",
  size: input.length,
  read: (offset, target) => {
    const part = input.subarray(offset, offset + target.length);
    target.set(part);
    return part.length;
  },
});

class Sink implements UnpackedBytes {
  full = false;
  #length = 0;
  readonly #parts: Buffer[] = [];
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  append(bytes: Buffer, start: number, end: number): void {
    const fits = Math.min(end, start + this.#limit - this.#length);
    this.full ||= fits < end;
    this.#parts.push(Buffer.from(bytes.subarray(start, fits)));
    this.#length += fits - start;
  }

  /** Never asked for: what the decoder keeps is more than the limit. */
  readBack(_position: number, target: Buffer, start: number, end: number): void {
    target.fill(0, start, end);
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}
