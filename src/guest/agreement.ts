import type { MemslotMemory } from "./memslot-memory.ts";
import { Pace } from "./pace.ts";
import type { SecondLevelMemory } from "./second-level.ts";

/** How two ways to a guest's memory agree, in bytes. */
export interface Agreement {
  /** Both lead to one place of the host's memory. */
  readonly equal: number;
  /** They lead to different ones. */
  readonly different: number;
  /** Of the VMM's alone: the guest has not touched it. */
  readonly slotsOnly: number;
  /** Of the second-level tables alone: memory of system management mode, pages of KVM's own, or what a VMM has unmapped. */
  readonly tablesOnly: number;
  /** The first guest-physical addresses at which they lead to different places. */
  readonly examples: readonly number[];
}

const EXAMPLES = 8;

/** Compares what memslots and the VMM's page tables say of every page with what second-level tables say. */
export async function agreementOf(
  slots: MemslotMemory,
  tables: SecondLevelMemory,
  checkpoint?: () => Promise<void>,
): Promise<Agreement> {
  let [equal, different, slotsOnly] = [0, 0, 0];
  const examples: number[] = [];
  const pace = new Pace();
  for (const { start, end, physical } of slots.placedRuns()) {
    if (pace.isDue(end - start)) await checkpoint?.();
    if (physical === undefined) continue;
    for (let at = start; at < end; ) {
      const run = tables.hostRunAt(at, end);
      const own = physical + (at - start);
      if (run.physical === undefined) slotsOnly += run.size;
      else if (run.physical === own) equal += run.size;
      else {
        different += run.size;
        if (examples.length < EXAMPLES) examples.push(at);
      }
      at += run.size;
      if (pace.isDue(0)) await checkpoint?.();
    }
  }
  const tablesOnly = Math.max(0, tables.facts.mapped - equal - different);
  return { equal, different, slotsOnly, tablesOnly, examples };
}
