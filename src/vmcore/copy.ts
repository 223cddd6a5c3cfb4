import { PAGE_SIZE } from "../core/address.ts";
import { isZero } from "../core/bytes.ts";
import { CorruptError, IoError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource, PhysicalMemory } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";
import { hex } from "../core/text.ts";
import type { Output } from "../io/output.ts";

/** Bytes per read: measured best between 64 KiB and 1 MiB, and larger means longer runs. */
const CHUNK = 1 << 20;
/** How much is copied between two looks at signals. */
const CHECKPOINT = 64 * 2 ** 20;

/** Coverage of a range, in bytes; the four add up to its size. */
export interface Coverage {
  present: number;
  zero: number;
  /** Left out on purpose by whoever made the dump. */
  excluded: number;
  /** Not in the input, which should have it. */
  missing: number;
}

export const noCoverage = (): Coverage => ({ present: 0, zero: 0, excluded: 0, missing: 0 });

/** All of them together. */
export function sumOf(coverages: readonly Coverage[]): Coverage {
  const total = noCoverage();
  for (const { present, zero, excluded, missing } of coverages) {
    total.present += present;
    total.zero += zero;
    total.excluded += excluded;
    total.missing += missing;
  }
  return total;
}

export interface CopyOptions {
  readonly memory: PhysicalMemory;
  readonly context: Pick<JobContext, "checkpoint" | "progress">;
  /** Where the memory goes; without it the memory is only read and counted. */
  readonly output?: Output;
  /** Sees every run of memory read, page-aligned. */
  readonly observe?: (bytes: Buffer, address: number) => void;
}

/** Copies guest memory in runs of non-zero pages; zero pages are left as holes and counted. */
export class MemoryCopier {
  readonly #options: CopyOptions;
  readonly #buffer = Buffer.allocUnsafeSlow(CHUNK);
  #done = 0;
  #untilCheckpoint = CHECKPOINT;

  constructor(options: CopyOptions) {
    this.#options = options;
  }

  /** Copies one range; `offsetOf` gives the file offset of an address that is present. */
  async copy(range: Range, offsetOf: (address: number) => number): Promise<Coverage> {
    const coverage = noCoverage();
    for (let at = range.start; at < range.end; ) {
      const extent = this.#options.memory.extentAt(at, range.end);
      const length = extent.end - at;
      if (extent.at !== undefined) {
        await this.#copyRun(extent.at.source, extent.at.offset, extent, offsetOf(at), coverage);
      } else if (extent.state === "present") {
        await this.#copyPages(extent, offsetOf(at), coverage);
      } else if (extent.state === "zero") {
        coverage.zero += length;
        await this.#advance(length);
      } else if (extent.state === "excluded") coverage.excluded += length;
      else coverage.missing += length;
      at = extent.end;
    }
    return coverage;
  }

  async #copyRun(
    source: ByteSource,
    from: number,
    run: Range,
    to: number,
    coverage: Coverage,
  ): Promise<void> {
    for (let done = 0; done < run.end - run.start; done += CHUNK) {
      const length = Math.min(CHUNK, run.end - run.start - done);
      if (source.read(from + done, this.#buffer.subarray(0, length)) < length) {
        throw new IoError(`${source.name} became shorter while it was read, at offset ${hex(from + done)}`);
      }
      this.#take(length, run.start + done, to + done, coverage);
      await this.#advance(length);
    }
  }

  /** Memory that does not lie raw in a file is gathered page by page into the same buffer. */
  async #copyPages(run: Range, to: number, coverage: Coverage): Promise<void> {
    for (let at = run.start; at < run.end; at += CHUNK) {
      const length = Math.min(CHUNK, run.end - at);
      for (let page = 0; page < length; page += PAGE_SIZE) {
        const target = this.#buffer.subarray(page, page + PAGE_SIZE);
        const state = this.#options.memory.readPage(at + page, target);
        // The plan counts on what extentAt promised.
        if (state === "absent" || state === "excluded") {
          throw new CorruptError(
            `the page at ${hex(at + page)} is not what the dump says: it cannot be read`,
            {
              hint: "it is damaged, or the file became shorter; guestcore info FILE says whether it is whole",
            },
          );
        }
      }
      this.#take(length, at, to + (at - run.start), coverage);
      await this.#advance(length);
    }
  }

  /** Writes the buffer's runs of non-zero pages. */
  #take(length: number, address: number, to: number, coverage: Coverage): void {
    const { output, observe } = this.#options;
    const buffer = this.#buffer;
    observe?.(length === buffer.length ? buffer : buffer.subarray(0, length), address);
    let runStart = -1;
    for (let page = 0; page < length; page += PAGE_SIZE) {
      if (isZero(buffer, page, PAGE_SIZE)) {
        if (runStart >= 0) output?.write(buffer, runStart, page - runStart, to + runStart);
        runStart = -1;
        coverage.zero += PAGE_SIZE;
      } else {
        if (runStart < 0) runStart = page;
        coverage.present += PAGE_SIZE;
      }
    }
    if (runStart >= 0) output?.write(buffer, runStart, length - runStart, to + runStart);
  }

  async #advance(length: number): Promise<void> {
    this.#done += length;
    this.#options.context.progress.update(this.#done);
    this.#untilCheckpoint -= length;
    if (this.#untilCheckpoint > 0) return;
    this.#untilCheckpoint = CHECKPOINT;
    await this.#options.context.checkpoint();
  }
}
