import type { KernelReader } from "./reader.ts";
import type { KernelSymbols } from "./symbols.ts";
import type { KernelTypes } from "./types.ts";

/** A Linux kernel that explains itself: its memory, what lies where in it, and how that is laid out. */
export interface Kernel {
  readonly reader: KernelReader;
  readonly symbols: KernelSymbols;
  readonly types: KernelTypes;
}
