import { closeSync, constants, fstatSync, openSync, writeSync } from "node:fs";
import { Socket } from "node:net";
import { setTimeout } from "node:timers/promises";
import { IoError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { attempt } from "./file.ts";
import { countFinished, type Output } from "./output.ts";

const WHAT = "cannot write to standard output";
/** Bytes that are sent at once. */
const PIECE = 1 << 20;
const ZEROS = Buffer.alloc(PIECE);
/** A signal is heard within so many milliseconds though nobody reads. */
const CHECK_INTERVAL = 100;
/** After so many milliseconds it is tried again to write. */
const RETRY_INTERVAL = 2;

/**
 * Standard output as a product: what has been sent cannot be taken back, and gaps are sent as zeros. What is written is
 * sent by `drain` and `finish`, which throw an IoError with cause EPIPE when the reader went away.
 */
export class OutputStream implements Output {
  readonly name = "standard output";
  readonly seekable = false;
  readonly #fd: number;
  readonly #checkpoint: JobContext["checkpoint"];
  /** Of a pipe: waits without keeping the event loop from its turns. */
  readonly #pipe: Socket | undefined;
  /** What is to be sent: bytes, or so many zeros. */
  #waiting: (Buffer | number)[] = [];
  /** Of what comes next. */
  #position = 0;
  /** Where bytes wait: a new buffer for each would cost more than all the rest. */
  readonly #room = Buffer.allocUnsafeSlow(2 * PIECE);
  #used = 0;

  constructor(fd: number, checkpoint: JobContext["checkpoint"]) {
    this.#fd = fd;
    this.#checkpoint = checkpoint;
    this.#pipe = pipeOf(fd);
    // Whoever waits is told by the write itself.
    this.#pipe?.on("error", () => {});
  }

  write(bytes: Buffer, start: number, length: number, position: number): void {
    this.#skipTo(position);
    const zeros = length <= PIECE && bytes.compare(ZEROS, 0, length, start, start + length) === 0;
    if (zeros) this.#skipTo(position + length);
    else this.#waiting.push(this.#kept(bytes, start, length));
    this.#position = position + length;
  }

  #kept(bytes: Buffer, start: number, length: number): Buffer {
    if (this.#used + length > this.#room.length) return Buffer.from(bytes.subarray(start, start + length));
    const kept = this.#room.subarray(this.#used, this.#used + length);
    bytes.copy(kept, 0, start, start + length);
    this.#used += length;
    return kept;
  }

  async drain(): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const part of waiting) {
      const length = typeof part === "number" ? part : part.length;
      for (let at = 0; at < length; at += PIECE) {
        const size = Math.min(PIECE, length - at);
        await this.#send(typeof part === "number" ? ZEROS.subarray(0, size) : part.subarray(at, at + size));
        await this.#checkpoint();
      }
    }
    if (this.#waiting.length === 0) this.#used = 0;
  }

  async finish(size: number): Promise<void> {
    this.#skipTo(size);
    await this.drain();
    this.#pipe?.destroy();
    countFinished();
  }

  abandon(): undefined {
    this.#pipe?.destroy();
  }

  #skipTo(position: number): void {
    if (position < this.#position) throw new IoError("standard output cannot be written out of order");
    const zeros = position - this.#position;
    const last = this.#waiting.at(-1);
    if (typeof last === "number") this.#waiting[this.#waiting.length - 1] = last + zeros;
    else if (zeros > 0) this.#waiting.push(zeros);
    this.#position = position;
  }

  async #send(bytes: Buffer): Promise<void> {
    if (this.#pipe !== undefined) {
      await this.#sendTo(this.#pipe, bytes);
      return;
    }
    for (let done = 0; done < bytes.length; ) {
      const taken = attempt(WHAT, () => writeSome(this.#fd, bytes.subarray(done)));
      done += taken;
      if (taken > 0) continue;
      await setTimeout(RETRY_INTERVAL);
      await this.#checkpoint();
    }
  }

  async #sendTo(pipe: Socket, bytes: Buffer): Promise<void> {
    let watch: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        watch = setInterval(() => this.#checkpoint().catch(reject), CHECK_INTERVAL);
        pipe.write(bytes, (error) => (error ? reject(failureOf(error)) : resolve()));
      });
    } finally {
      clearInterval(watch);
    }
  }
}

/** Bytes taken: 0 by a socket that is full, which Node.js made non-blocking for its own streams. */
function writeSome(fd: number, bytes: Buffer): number {
  try {
    return writeSync(fd, bytes);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EAGAIN") throw cause;
    return 0;
  }
}

/**
 * A pipe once more, opened so that a full one keeps nobody waiting; other processes that share the descriptor see
 * nothing of that. Undefined for what is no pipe, and where the system has no /proc.
 */
function pipeOf(fd: number): Socket | undefined {
  if (!attempt(WHAT, () => fstatSync(fd)).isFIFO()) return undefined;
  let own: number;
  try {
    own = openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  try {
    return new Socket({ fd: own, readable: false, writable: true });
  } catch (error) {
    closeSync(own);
    throw error;
  }
}

/** The failure of a write that ended later, as one that is called and waited for would have it. */
function failureOf(cause: Error): unknown {
  try {
    return attempt(WHAT, () => {
      throw cause;
    });
  } catch (error) {
    return error;
  }
}
