import type { ConsoleLine } from "./prefix.ts";
import { isDigit, NO_STAMP, type Stamp, stampAt } from "./stamps.ts";

/** What stands before the message in lines that were taken apart. */
interface Header {
  /** Each digit a zero. */
  readonly bytes: Buffer;
  /** Where in it the kernel's stamp is. */
  readonly stamp: number;
  readonly isLevelled: boolean;
}

const MAX_HEADERS = 4;
const MAX_LENGTH = 160;
/** A stamp as `stampAt` reads it, right before the message. */
const STAMP = /\[ {0,6}\d{1,10}\.\d{1,9}\](?: ?\[ {0,7}[CT]\d{1,10}\])? $/;
const PLAIN = Uint8Array.from({ length: 256 }, (_, byte) => (isDigit(byte) ? 48 : byte));

/**
 * Loggers put the same before every line but for digits, and no rule for what they put there knows one digit from another: a
 * line whose header differs from that of one that was taken apart in digits alone has its message in the same place.
 */
export class Headers {
  readonly #known: Header[] = [];
  #latest = 0;
  /** Of the line that was looked at last. */
  isLevelled = false;

  clear(): void {
    this.#known.length = 0;
  }

  /** Where the message of a line begins, or NO_STAMP. */
  messageAt(bytes: Uint8Array, start: number, into: Stamp): number {
    const known = this.#known;
    for (let i = 0; i < known.length; i++) {
      const index = (this.#latest + i) % known.length;
      const header = known[index]!;
      if (!isLike(header.bytes, bytes, start)) continue;
      this.#latest = index;
      this.isLevelled = header.isLevelled;
      const message = stampAt(bytes, start + header.stamp, into);
      return message === start + header.bytes.length ? message : NO_STAMP;
    }
    return NO_STAMP;
  }

  /** @param line as it was, from its beginning on, one byte a character; @param parsed what was made of it */
  learn(line: string, { text, uptime, isLevelled }: ConsoleLine): void {
    const header = line.slice(0, line.length - text.length);
    const stamp = header.search(STAMP);
    if (uptime === undefined || stamp < 0 || header.length > MAX_LENGTH || !line.endsWith(text)) return;
    const bytes = Buffer.from(header, "latin1").map((byte) => PLAIN[byte]!) as Buffer;
    if (this.#known.some((known) => known.bytes.equals(bytes))) return;
    if (this.#known.length === MAX_HEADERS) this.#known.shift();
    this.#known.push({ bytes, stamp, isLevelled });
  }
}

function isLike(header: Uint8Array, bytes: Uint8Array, start: number): boolean {
  for (let i = 0; i < header.length; i++) if (PLAIN[bytes[start + i]!] !== header[i]) return false;
  return true;
}
