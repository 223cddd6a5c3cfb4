import { PAGE_SIZE } from "../core/address.ts";
import type { Extent, PageState, PhysicalMemory } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";

/** A page read by itself is a table, whose 512 entries take as long as so many pages of text. */
const TABLE_COST = 32;

/** Another memory; counts the work with it, in pages searched. */
export class MeteredMemory implements PhysicalMemory {
  readonly ranges: readonly Range[];
  work = 0;
  readonly #memory: PhysicalMemory;

  constructor(memory: PhysicalMemory) {
    this.#memory = memory;
    this.ranges = memory.ranges;
  }

  extentAt(address: number, limit: number, holes?: boolean): Extent {
    const extent = this.#memory.extentAt(address, limit, holes);
    this.work += extent.state === "present" ? Math.ceil((extent.end - extent.start) / PAGE_SIZE) : 1;
    return extent;
  }

  readPage(address: number, target: Uint8Array): PageState {
    this.work += TABLE_COST;
    return this.#memory.readPage(address, target);
  }
}
