import type { AddressSpace } from "../../src/core/memory.ts";
import { KernelReader } from "../../src/kernel/reader.ts";
import { memoryFrom, type Piece } from "../synth/memory.ts";

/** A reader of bytes that lie at virtual addresses, page-aligned, not further apart than 1 TiB; nothing else is mapped. */
export function readerOf(
  ...parts: readonly { readonly at: bigint; readonly bytes: Uint8Array }[]
): KernelReader {
  const [lowest = 0n] = parts.map(({ at }) => at).sort((a, b) => Number(a - b));
  const pieces: Piece[] = parts.map(({ at, bytes }) => ({ address: Number(at - lowest), bytes }));
  const memory = memoryFrom(pieces);
  const space: AddressSpace = {
    translate: (virtual) => {
      const physical = Number(virtual - lowest);
      const isMapped = memory.ranges.some(({ start, end }) => physical >= start && physical < end);
      return isMapped
        ? { mapped: true, physical, size: 4096, writable: true, user: false, executable: true }
        : { mapped: false, level: 1, reason: "not-present" };
    },
  };
  return new KernelReader(memory, space);
}
