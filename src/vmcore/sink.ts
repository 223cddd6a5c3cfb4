import { type Range, rangeAt } from "../core/ranges.ts";
import type { Output } from "../io/output.ts";
import type { PlannedLoad } from "./plan.ts";

/** Takes a machine's memory, in ascending order of addresses. Ranges are page-aligned. */
export interface MemorySink {
  /** Pages none of which is all zeros: `length` bytes of `bytes`, from `from` on, are the memory at `address`. */
  data(bytes: Buffer, from: number, length: number, address: number): void | Promise<void>;
  /** Pages of zeros. */
  zeros(range: Range): void | Promise<void>;
  /** Pages that were left out on purpose. */
  excluded(range: Range): void | Promise<void>;
}

/** Memory at planned places of a file; what is zeros or left out is a hole. */
export class PositionedSink implements MemorySink {
  readonly #output: Output;
  readonly #loads: readonly PlannedLoad[];

  constructor(output: Output, loads: readonly PlannedLoad[]) {
    this.#output = output;
    this.#loads = loads;
  }

  async data(bytes: Buffer, from: number, length: number, address: number): Promise<void> {
    const { start, offset } = rangeAt(this.#loads, address)!;
    this.#output.write(bytes, from, length, offset + (address - start));
    await this.#output.drain?.();
  }

  zeros(): void {}

  excluded(): void {}
}
