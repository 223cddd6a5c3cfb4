import { latin1 } from "../core/bytes.ts";
import type { ProcessMemory } from "./process-memory.ts";
import type { KernelReader } from "./reader.ts";
import { type KernelTypes, offsetOf } from "./types.ts";

/** Bytes of arguments read; the kernel takes 6 MiB (`setup_arg_pages`), libvirt's longest lines have some ten KiB. */
const MAX_BYTES = 256 * 1024;

/** A process's arguments. */
export interface CommandLine {
  /** As Latin-1; the last may be cut where the line is not complete. */
  readonly argv: readonly string[];
  /** False where pages of it are not in the dump, or it is too long. */
  readonly complete: boolean;
}

/**
 * What the process was started with, as /proc/PID/cmdline has it: its own memory from mm.arg_start to mm.arg_end.
 * @param mm address of its mm_struct
 * @returns undefined when the kernel does not tell where it is, or nothing of it is in the dump
 */
export function commandLine(
  reader: KernelReader,
  types: KernelTypes,
  mm: bigint,
  memory: ProcessMemory,
): CommandLine | undefined {
  const bound = (name: string): bigint | undefined => {
    const offset = offsetOf(types, `mm_struct.${name}`);
    return offset === undefined ? undefined : reader.u64(mm + BigInt(offset));
  };
  const [start, end] = [bound("arg_start"), bound("arg_end")];
  if (start === undefined || end === undefined || end <= start) return undefined;
  const size = end - start > BigInt(MAX_BYTES) ? MAX_BYTES : Number(end - start);
  const bytes = Buffer.alloc(size);
  const known = memory.read(start, bytes);
  if (known === 0) return undefined;
  const text = latin1(bytes.subarray(0, known));
  const argv = (text.endsWith("\0") ? text.slice(0, -1) : text).split("\0");
  return { argv, complete: BigInt(known) === end - start };
}
