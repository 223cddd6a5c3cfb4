import type { PhysicalMemory } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";
import type { ProcessPages } from "../kernel/process-pages.ts";
import { MemslotMemory } from "./memslot-memory.ts";

/**
 * A process's own memory by its virtual addresses, out of its host's: memslots at their own addresses.
 * @param mappings what of it is wanted, ascending and disjoint
 */
export const processSpace = (
  host: PhysicalMemory,
  pages: ProcessPages,
  mappings: readonly Range[],
  checkpoint?: () => Promise<void>,
): Promise<MemslotMemory> =>
  MemslotMemory.open(
    host,
    pages,
    mappings.map(({ start, end }, id) => ({ start, end, id, addressSpace: 0, hva: BigInt(start), flags: 0 })),
    undefined,
    checkpoint === undefined ? {} : { checkpoint },
  );
