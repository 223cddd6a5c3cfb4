import type { ByteSource } from "../core/memory.ts";
import { shellWord } from "../core/text.ts";
import { type Format, HEAD_SIZE, type Head, type Identification } from "./identify/format.ts";
import { KDUMP_FORMATS } from "./identify/kdump.ts";
import { MACHINE_DUMP_FORMATS, XEN_ELF_CORE } from "./identify/machine-dumps.ts";
import { ELF_FORMAT, OTHER_FORMATS } from "./identify/others.ts";
import { VM_STATE_FORMATS } from "./identify/vm-state.ts";

export type { Identification } from "./identify/format.ts";

/** Every format known by sight, in the order they are tried; the last matches anything. */
export const FORMATS: readonly Format[] = [
  XEN_ELF_CORE,
  ELF_FORMAT,
  ...KDUMP_FORMATS,
  ...MACHINE_DUMP_FORMATS,
  ...VM_STATE_FORMATS,
  ...OTHER_FORMATS,
];

/**
 * Says what a file is from its first bytes, reading a few kilobytes at most. Nothing in the file can make it fail.
 * The advice on the contents of a compressed file begins with unpacking it.
 * @throws IoError when the source cannot be read
 */
export function identify(source: ByteSource): Identification {
  const { unpacking } = source;
  const bytes = Buffer.alloc(Math.min(HEAD_SIZE, source.size));
  const file = shellWord(unpacking?.name ?? source.name);
  let named = false;
  const head: Head = {
    source,
    bytes: bytes.subarray(0, source.read(0, bytes)),
    get file() {
      named = true;
      return file;
    },
  };
  const format = FORMATS.find(({ matches }) => matches(head))!;
  const { phrase, facts = {}, readable = false, certain = true, advice } = format.describe(head);
  return {
    format: format.name,
    phrase,
    facts,
    readable,
    certain,
    advice: unpacking !== undefined && named ? `${unpacking.command} && ${advice}` : advice,
  };
}
