import type { JobContext } from "../core/job.ts";
import type { StreamReader } from "./migration-reader.ts";

/** QEMU_VM_*: end of the stream, and types of sections. */
const EOF = 0x00;
const COMMAND = 0x08;
const WITH_NAME: readonly (number | undefined)[] = [0x01, 0x04];
const CONTINUING: readonly (number | undefined)[] = [0x02, 0x03];
const FOOTER = 0x7e;
const FOOTER_SIZE = 5;

/** Bytes between two looks at signals. */
const CHECKPOINT = 2 ** 26;

/** Whether what comes next in a stream can be a section, or its end. */
export function isSectionStart(reader: StreamReader): boolean {
  const type = reader.peek();
  if (WITH_NAME.includes(type)) return hasName(reader.lookAhead(6 + 255));
  return type === EOF || type === COMMAND || CONTINUING.includes(type);
}

/** A name of printable characters behind type, id and the name's length. */
function hasName(bytes: Buffer): boolean {
  const length = bytes[5] ?? 0;
  const name = bytes.subarray(6, 6 + length);
  return length > 0 && name.length === length && name.every((byte) => byte > 0x20 && byte < 0x7f);
}

/**
 * Passes over a section of unknown length, up to behind its footer: the first that has its id and is followed by a
 * section.
 * @returns false when there is none; the position is as before then
 */
export async function findFooter(
  reader: StreamReader,
  id: number,
  checkpoint: JobContext["checkpoint"] | undefined,
): Promise<boolean> {
  const from = reader.position;
  const footer = Buffer.alloc(FOOTER_SIZE);
  footer[0] = FOOTER;
  footer.writeUInt32BE(id, 1);
  let looked = from;
  for (let at = from; ; ) {
    reader.position = at;
    const bytes = reader.lookFar(FOOTER_SIZE);
    if (bytes.length < FOOTER_SIZE) break;
    const found = bytes.indexOf(footer);
    at += found < 0 ? bytes.length - FOOTER_SIZE + 1 : found + 1;
    if (found >= 0) {
      reader.position = at - 1 + FOOTER_SIZE;
      if (!reader.atEnd && isSectionStart(reader)) return true;
    }
    if (at - looked >= CHECKPOINT) {
      await checkpoint?.();
      looked = at;
    }
  }
  reader.position = from;
  return false;
}
