import { viewOf } from "../../core/bytes.ts";
import { hex64 } from "../../core/text.ts";

/** struct pstore_ftrace_record (Linux fs/pstore/internal.h) of 64-bit kernels since 4.10: two addresses, and a counter. */
const RECORD = 24;
/** The CPU is in the counter's lowest byte. */
const CPU_BITS = 8n;
/** Lines made of one record at most. */
const MAX_LINES = 65_536;

/**
 * Calls that pstore's function tracer recorded, a line each as the guest's own pstore has them but for the names of the
 * functions, which only its kernel knows.
 * @param bytes of a zone, oldest first; the first record may be cut
 */
export function ftraceText(bytes: Uint8Array, littleEndian = true): string {
  const view = viewOf(bytes);
  const lines: string[] = [];
  for (
    let at = bytes.length % RECORD;
    at + RECORD <= bytes.length && lines.length < MAX_LINES;
    at += RECORD
  ) {
    const stamp = view.getBigUint64(at + 16, littleEndian);
    const [ip, parent] = [view.getBigUint64(at, littleEndian), view.getBigUint64(at + 8, littleEndian)];
    const addresses = `${hex64(ip).slice(2)}  ${hex64(parent).slice(2)}`;
    lines.push(`CPU:${stamp & 0xffn} ts:${stamp >> CPU_BITS} ${addresses}\n`);
  }
  return lines.join("");
}
