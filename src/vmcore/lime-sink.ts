import { viewOf } from "../core/bytes.ts";
import { rangeAt } from "../core/ranges.ts";
import type { Output } from "../io/output.ts";
import { LIME_HEADER_SIZE, type PlannedLoad } from "./plan.ts";
import type { MemorySink } from "./sink.ts";

const MAGIC = 0x4c69_4d45;
const VERSION = 1;

/** Memory in the format of LiME: ranges one after the other, each behind a header. */
export class LimeSink implements MemorySink {
  readonly #output: Output;
  readonly #loads: readonly PlannedLoad[];
  /** Headers of how many ranges have been written. */
  #headers = 0;

  constructor(output: Output, loads: readonly PlannedLoad[]) {
    this.#output = output;
    this.#loads = loads;
  }

  async data(bytes: Buffer, from: number, length: number, address: number): Promise<void> {
    this.#headersUpTo(address);
    const { start, offset } = rangeAt(this.#loads, address)!;
    this.#output.write(bytes, from, length, offset + (address - start));
    await this.#output.drain?.();
  }

  zeros(): void {}

  excluded(): void {}

  finish(): void {
    this.#headersUpTo(Number.POSITIVE_INFINITY);
  }

  /** Headers in their turn, for an output that takes bytes in order only. */
  #headersUpTo(address: number): void {
    for (; this.#headers < this.#loads.length; this.#headers++) {
      const { start, end, offset } = this.#loads[this.#headers]!;
      if (start > address) return;
      const header = Buffer.alloc(LIME_HEADER_SIZE);
      const view = viewOf(header);
      view.setUint32(0, MAGIC, true);
      view.setUint32(4, VERSION, true);
      view.setBigUint64(8, BigInt(start), true);
      view.setBigUint64(16, BigInt(end - 1), true);
      this.#output.write(header, 0, header.length, offset - LIME_HEADER_SIZE);
    }
  }
}
