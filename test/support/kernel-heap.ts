import { KernelReader } from "../../src/kernel/reader.ts";
import type { KernelTypes } from "../../src/kernel/types.ts";
import { CONSTANTS, DIRECT_MAP, LAYOUT, PAGE_STRUCT } from "../synth/kernel-heap.ts";
import { memoryFrom, type Piece } from "../synth/memory.ts";
import { typesOf } from "./kernel-tables.ts";

/** The types of the imaginary kernel. */
export const HEAP_TYPES: KernelTypes = typesOf(LAYOUT, { page: PAGE_STRUCT }, CONSTANTS);

/** The same with structures and members under other names, or without them. */
export function renamed(names: Readonly<Record<string, string | undefined>>): KernelTypes {
  const members = Object.entries(LAYOUT)
    .map(([path, row]) => [path in names ? names[path] : path, row] as const)
    .filter(([path]) => path !== undefined);
  return typesOf(Object.fromEntries(members), { page: PAGE_STRUCT }, CONSTANTS);
}

/** Reads at DIRECT_MAP + physical. */
export function readerOf(pieces: readonly Piece[]): KernelReader {
  return new KernelReader(memoryFrom(pieces), {
    translate(virtual) {
      const physical = Number(virtual - DIRECT_MAP);
      if (physical < 0 || physical >= 2 ** 46) return { mapped: false, level: 1, reason: "not-present" };
      return { mapped: true, physical, size: 4096, writable: true, user: false, executable: false };
    },
  });
}
