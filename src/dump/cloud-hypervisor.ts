import { PAGE_SIZE } from "../core/address.ts";
import { CorruptError, UnsupportedError } from "../core/errors.ts";
import { consecutive, type RamPiece } from "../core/ram-map.ts";
import type { Range } from "../core/ranges.ts";

/** A machine has some dozen ranges; tools that leave out what was never touched write a few thousand. */
const MAX_RANGES = 1 << 16;

/**
 * Where the memory in `memory-ranges` of a Cloud Hypervisor snapshot belongs, as `state.json` beside it says: the state of
 * the memory manager is JSON in a string (vmm/src/memory_manager.rs MemoryManagerSnapshotData, vm-migration/src/protocol.rs
 * MemoryRangeTable). The ranges follow each other in the file.
 * @throws UnsupportedError when it is no such file; CorruptError for ranges that cannot be
 */
export function cloudHypervisorPieces(text: string): RamPiece[] {
  const state = member(parsed(text), "snapshots", "memory-manager", "snapshot_data", "state");
  const ranges = typeof state === "string" ? member(parsed(state), "memory_ranges", "data") : undefined;
  if (!Array.isArray(ranges)) {
    throw new UnsupportedError("no state.json of a Cloud Hypervisor snapshot: it names no memory ranges");
  }
  if (ranges.length > MAX_RANGES) throw new UnsupportedError(`a snapshot of ${ranges.length} memory ranges`);
  return consecutive(ranges.map(rangeOf));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CorruptError("a description of a machine that is not JSON", { cause: error });
  }
}

/** What a path of keys leads to. */
function member(value: unknown, ...keys: readonly string[]): unknown {
  let at = value;
  for (const key of keys) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, key)) return undefined;
    at = (at as Readonly<Record<string, unknown>>)[key];
  }
  return at;
}

function rangeOf(entry: unknown, index: number): Range {
  const [start, length] = [Number(member(entry, "gpa")), Number(member(entry, "length"))];
  const isRange = start >= 0 && length > 0 && start + length <= 2 ** 52;
  if (!isRange || start % PAGE_SIZE !== 0 || length % PAGE_SIZE !== 0) {
    throw new CorruptError(`memory range ${index} of the snapshot is none of whole pages`);
  }
  return { start, end: start + length };
}
