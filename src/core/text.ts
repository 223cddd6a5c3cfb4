/** How addresses and sizes are spelt everywhere: zero-padded hex, binary units. */

export const hex = (value: number | bigint, digits = 0): string =>
  `0x${value.toString(16).padStart(digits, "0")}`;
/**
 * Physical addresses and file offsets: 12 digits, the common case of a 48-bit space. A field of 2^53 or more, which
 * reads as `Infinity`, takes the same room.
 */
export const hexAddress = (value: number): string =>
  value === Number.POSITIVE_INFINITY ? ">= 2^53".padEnd(14) : hex(value, 12);
/** 64-bit register values and virtual addresses: 16 digits. */
export const hex64 = (value: bigint): string => hex(value, 16);

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] as const;

/** `98918400` → `94.3 MiB`. */
export function bytesText(size: number): string {
  let unit = 0;
  let value = size;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${size} B` : `${value.toFixed(1)} ${UNITS[unit]}`;
}

/**
 * Text from a dump or guest made safe for a terminal: control characters, escape sequences, line
 * separators, bidirectional overrides and lone surrogates become `\x..`/`\u....`.
 */
export function printable(text: string): string {
  return text.replace(UNSAFE, (c) => {
    const point = c.codePointAt(0)!;
    return point < 0x100
      ? `\\x${point.toString(16).padStart(2, "0")}`
      : `\\u${point.toString(16).padStart(4, "0")}`;
  });
}

const UNSAFE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to neutralise
  /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]/gu;

/** `plural(1, "page")` → `1 page`; `plural(2, "vCPU")` → `2 vCPUs`. */
export const plural = (count: number, noun: string, many = `${noun}s`): string =>
  `${count} ${count === 1 ? noun : many}`;

/**
 * A word for a shell, quoted only where it must be; one with control characters in bash's $'…' form, so that it is
 * safe to print. A file name that begins with a dash is not an option.
 */
export function shellWord(text: string): string {
  const word = text.startsWith("-") ? `./${text}` : text;
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  if (printable(word) === word) return `'${word.replaceAll("'", "'\\''")}'`;
  return `$'${word.replace(/[\\']/g, "\\$&").replace(UNSAFE, bytesEscaped)}'`;
}

/** The UTF-8 bytes of a character as `\xHH` each: bash's `\u` depends on the locale, and `\x` is one byte. */
const bytesEscaped = (character: string): string =>
  Buffer.from(character).toString("hex").replace(/../g, "\\x$&");
