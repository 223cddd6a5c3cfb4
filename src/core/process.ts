import type { ByteSource } from "./memory.ts";
import type { Range } from "./ranges.ts";

/** One mapping of a process, as its core tells: protection, backing file, and how much of it the core holds. */
export interface ProcessMapping extends Range {
  readonly readable: boolean;
  readonly writable: boolean;
  readonly executable: boolean;
  /** End of the part whose bytes the core claims to hold (p_filesz); `start` when it holds none. */
  readonly dumpedEnd: number;
  /** End of the part whose bytes are in the file; below `dumpedEnd` when the core is truncated. */
  readonly presentEnd: number;
  /** File offset of the byte at `start`. */
  readonly offset: number;
}

/** An entry of NT_FILE: which file a mapping comes from. `offset` is in bytes within that file. */
export interface MappedFile extends Range {
  readonly offset: number;
  readonly path: string;
}

/** A run of process memory in one state: in the file, mapped but not in the file, or not mapped at all. */
export interface ProcessExtent extends Range {
  readonly state: "present" | "absent" | "unmapped";
  readonly at?: { readonly source: ByteSource; readonly offset: number };
}

/** The memory and notes of one process, from its core file. Addresses are user-space, below 2^53. */
export interface ProcessImage {
  readonly name: string;
  /** Ascending and disjoint. */
  readonly mappings: readonly ProcessMapping[];
  /** Ascending by start. */
  readonly files: readonly MappedFile[];
  /** AT_* entry type → value. */
  readonly auxv: ReadonlyMap<number, bigint>;
  readonly psargs: string | undefined;
  readonly threadCount: number;
  /** Whether the file is shorter than its program headers say. */
  readonly truncated: boolean;
  /** The extent that starts at `address`, cut at `limit`. */
  extentAt(address: number, limit: number): ProcessExtent;
  /** Fills `target` from `address`; returns how many leading bytes are there. */
  read(address: number, target: Uint8Array): number;
}
