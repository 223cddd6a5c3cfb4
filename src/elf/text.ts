import { isUtf8 } from "node:buffer";
import { latin1 } from "../core/bytes.ts";

/** A character of UTF-8 has 4 bytes at most. */
const MAX_CUT = 3;

/** Names and command lines as Linux keeps them, which are bytes: UTF-8 nearly always, read as Latin-1 otherwise. */
export const textOf = (bytes: Uint8Array): string => (isUtf8(bytes) ? utf8(bytes) : latin1(bytes));

/** The same of a text that was cut to fit its field, perhaps inside a character: that one is left out. */
export function cutTextOf(bytes: Uint8Array): string {
  for (let cut = 0; cut <= MAX_CUT && cut < bytes.length; cut++) {
    const whole = bytes.subarray(0, bytes.length - cut);
    if (isUtf8(whole)) return utf8(whole);
  }
  return latin1(bytes);
}

const utf8 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
