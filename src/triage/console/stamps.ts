/** The kernel's stamps in bytes, for lines by the million: see prefix.ts for what they are. */

const ZERO = 48;
const SPACE = 32;
const OPEN = 91;
const CLOSE = 93;
const DOT = 46;
const AT = 64;
const LESS = 60;
const MORE = 62;
const MAX_SPACES = 6;
const MAX_WHOLE = 10;
const MAX_PART = 9;
const MAX_CALLER_SPACES = 7;
const MAX_CALLER = 10;
const POWERS = Array.from({ length: MAX_PART + 1 }, (_, digits) => 10 ** digits);

export const isDigit = (byte: number): boolean => byte >= ZERO && byte <= ZERO + 9;

/** No stamp of the common form; what stands there may be another, which has to be taken apart. */
export const NO_STAMP = -1;

/** A stamp that was read. */
export interface Stamp {
  uptime: number;
}

/**
 * Reads `[   12.345678] `, with or without `[  T123]` behind it.
 * @returns where the message begins, or NO_STAMP
 */
export function stampAt(bytes: Uint8Array, start: number, into: Stamp): number {
  if (bytes[start] !== OPEN) return NO_STAMP;
  let at = start + 1;
  while (bytes[at] === SPACE) at++;
  const whole = at;
  let seconds = 0;
  for (let byte = bytes[at]!; isDigit(byte); byte = bytes[++at]!) seconds = seconds * 10 + byte - ZERO;
  if (bytes[at] !== DOT || at === whole || whole - start - 1 > MAX_SPACES || at - whole > MAX_WHOLE)
    return NO_STAMP;
  const part = ++at;
  let fraction = 0;
  for (let byte = bytes[at]!; isDigit(byte); byte = bytes[++at]!) fraction = fraction * 10 + byte - ZERO;
  if (bytes[at] !== CLOSE || at === part || at - part > MAX_PART) return NO_STAMP;
  into.uptime = seconds + fraction / POWERS[at - part]!;
  return messageAt(bytes, at + 1);
}

/** Where behind a stamp, and who called printk, the message begins. */
function messageAt(bytes: Uint8Array, end: number): number {
  const open = bytes[end] === SPACE ? end + 1 : end;
  const caller = bytes[open] === OPEN ? callerEnd(bytes, open) : open;
  if (caller === open) return open > end && bytes[open] !== LESS ? open : NO_STAMP;
  return bytes[caller] === SPACE && bytes[caller + 1] !== LESS ? caller + 1 : NO_STAMP;
}

/** Behind `[  T123]`; where it begins when it is none. */
function callerEnd(bytes: Uint8Array, open: number): number {
  let at = open + 1;
  while (bytes[at] === SPACE) at++;
  const letter = bytes[at];
  // "C" or "T".
  if ((letter !== 67 && letter !== 84) || at - open - 1 > MAX_CALLER_SPACES) return open;
  const digits = ++at;
  while (isDigit(bytes[at]!)) at++;
  return bytes[at] === CLOSE && at > digits && at - digits <= MAX_CALLER ? at + 1 : open;
}

/**
 * Whether a `]` may end a stamp: digits stand before it, and before those what parts of a stamp are parted by; in
 * `[   12.345678 <    0.000001>]` a `>` as well.
 */
export function mayEndStamp(bytes: Uint8Array, close: number): boolean {
  const last = bytes[close - 1] === MORE ? close - 2 : close - 1;
  let at = last;
  while (isDigit(bytes[at]!)) at--;
  return at < last && (bytes[at] === DOT || bytes[at] === AT);
}
