/** What a line keeps; the rest of a longer one is passed over. printk's own limit is 1024 for one record. */
export const LINE_LIMIT = 4096;

/** Whether bytes need cleaning: escapes, NULs, backspaces, and carriage returns inside a line. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to clean away
export const DIRTY = /[\x00\x08\x1b]|\r[^\r\n]/;

/** ECMA-48 control sequences that move the cursor or clear: what follows stands elsewhere, on a line of its own. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control sequences begin with one
const MOVES = /\x1b(?:\[[0-9;?=]{0,32}[HJfABEF]|c)/g;
/** All other control sequences: CSI, OSC, and those of two characters. Bounded, so that none can make it slow. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control sequences begin with one
const SEQUENCES = /\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[ -/]{0,4}[0-~])/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to clean away
const CONTROLS = /[\x00\x08\x1b]/g;

/** A dirty line as a terminal would have shown it, in the pieces that its carriage returns and cursor moves make. */
export const cleanPieces = (line: string): string[] =>
  line
    .replace(MOVES, "\r")
    .replace(SEQUENCES, "")
    .replace(CONTROLS, "")
    .split("\r")
    .filter((piece) => piece !== "");

const ESCAPE = 27;
const MAX_PARAMETERS = 32;
/** Of the control sequences with numbers those that move the cursor or clear, as above. */
const MOVE_ENDS = Buffer.from("HJfABEF");

/**
 * Copies a line without the control sequences in it that neither move the cursor nor clear, which mostly are colours.
 * @returns how long it is; -1 when it has anything else to clean away
 */
export function copyUnpainted(bytes: Uint8Array, start: number, end: number, target: Uint8Array): number {
  let length = 0;
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!;
    if (byte === ESCAPE) {
      const last = paintEnd(bytes, at);
      if (last < 0 || last >= end) return -1;
      at = last;
    } else if (byte === 0 || byte === 8 || byte === 13) return -1;
    else target[length++] = byte;
  }
  return length;
}

/** The last byte of `ESC [ 0;32 m`; -1 for any other sequence. */
function paintEnd(bytes: Uint8Array, start: number): number {
  // "["
  if (bytes[start + 1] !== 91) return -1;
  let at = start + 2;
  // Digits and ";".
  while ((bytes[at]! >= 48 && bytes[at]! <= 57) || bytes[at] === 59) at++;
  const isEnd = bytes[at]! >= 64 && bytes[at]! <= 126 && !MOVE_ENDS.includes(bytes[at]!);
  return isEnd && at - start <= MAX_PARAMETERS ? at : -1;
}
