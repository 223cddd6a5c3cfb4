import { latin1 } from "../core/bytes.ts";
import { textOf } from "../triage/console/encoding.ts";

/** How the bytes of a log become one byte a character. */
export function narrowingOf(head: Buffer): (chunk: Buffer) => Buffer {
  const low = lowByteOf(head);
  if (low === undefined) return (chunk) => chunk;
  let odd = Buffer.alloc(0);
  return (chunk) => {
    const all = Buffer.concat([odd, chunk]);
    const narrow = Buffer.alloc(Math.floor(all.length / 2), "?");
    for (let i = 0; i < narrow.length; i++) {
      if (all[2 * i + 1 - low] === 0) narrow[i] = all[2 * i + low]!;
    }
    odd = all.subarray(2 * narrow.length);
    return narrow;
  };
}

/** Which byte of a UTF-16 unit is the low one; undefined when it is no UTF-16. No text but that has bytes of 0. */
function lowByteOf(head: Buffer): 0 | 1 | undefined {
  const [a = 0, b = 0, c = 0, d = 0] = head;
  if ((a === 0xff && b === 0xfe) || (a !== 0 && b === 0 && c !== 0 && d === 0)) return 0;
  if ((a === 0xfe && b === 0xff) || (a === 0 && b !== 0 && c === 0 && d !== 0)) return 1;
  return undefined;
}

/** Bytes by which UTF-16 without a byte order mark is told from other bytes. */
const LOOKED_AT = 256;

/** The beginning of a text, one byte a character, whatever it is encoded in; of other bytes the bytes. */
export function headText(head: Buffer): string {
  const low = lowByteOf(head);
  if (low === undefined || head[0] === 0xff || head[0] === 0xfe) return textOf(head);
  const high = head.subarray(0, LOOKED_AT).filter((_, at) => at % 2 !== low);
  const zeros = high.filter((byte) => byte === 0).length;
  return zeros * 10 < high.length * 9 ? textOf(head) : latin1(narrowingOf(head)(head));
}
