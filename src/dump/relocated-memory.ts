import type { Extent, PageState, PhysicalMemory } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";

/** A range of pages whose contents lie at other addresses, from `to` on. */
export interface Relocation extends Range {
  readonly to: number;
}

/** Physical memory of which a range is read from elsewhere in it. */
export class RelocatedMemory implements PhysicalMemory {
  readonly ranges: readonly Range[];
  readonly #memory: PhysicalMemory;
  readonly #moved: Relocation;

  constructor(memory: PhysicalMemory, moved: Relocation) {
    this.ranges = memory.ranges;
    this.#memory = memory;
    this.#moved = moved;
  }

  extentAt(address: number, limit: number, holes = true): Extent {
    const { start, end, to } = this.#moved;
    if (address >= end) return this.#memory.extentAt(address, limit, holes);
    if (address < start) return this.#memory.extentAt(address, Math.min(limit, start), holes);
    const shift = to - start;
    const moved = this.#memory.extentAt(address + shift, Math.min(limit, end) + shift, holes);
    return { ...moved, start: address, end: moved.end - shift };
  }

  readPage(address: number, target: Uint8Array): PageState {
    const { start, end, to } = this.#moved;
    return this.#memory.readPage(address >= start && address < end ? address - start + to : address, target);
  }
}
