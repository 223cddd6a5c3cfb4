/**
 * Lines of a log as hardware-error detectors need them: whole, of bounded length, without what consoles, syslog and
 * printk put in front. Text is Latin-1, a byte a character.
 */

import { isQuoted } from "../console/prefix.ts";

/** What of a line is looked at; hardware errors take some 200 characters. */
export const MAX_LINE = 4096;
const NEWLINE = 10;

/** Cuts chunks of bytes into lines; memory does not grow with the length of a line. */
export class LineCutter {
  readonly #line: (text: string, number: number) => void;
  #rest = "";
  #number = 0;

  /**
   * @param line is given each line but empty ones, without its end, at most MAX_LINE characters of it, and its number
   * from 1
   */
  constructor(line: (text: string, number: number) => void) {
    this.#line = line;
  }

  push(bytes: Uint8Array): void {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let start = 0;
    for (let end = buffer.indexOf(NEWLINE); end >= 0; end = buffer.indexOf(NEWLINE, start)) {
      this.#take(buffer, start, end);
      this.#end();
      start = end + 1;
    }
    this.#take(buffer, start, buffer.length);
  }

  /** How many lines there were, empty ones too. */
  get count(): number {
    return this.#number;
  }

  /** The last line may lack its end. */
  end(): void {
    if (this.#rest !== "") this.#end();
  }

  #take(buffer: Buffer, start: number, end: number): void {
    const room = MAX_LINE - this.#rest.length;
    if (room > 0 && end > start) this.#rest += buffer.toString("latin1", start, Math.min(end, start + room));
  }

  #end(): void {
    const text = this.#rest;
    this.#rest = "";
    this.#number++;
    if (text !== "") this.#line(text, this.#number);
  }
}

/** By so many first bytes it is told what an input is. */
const HEAD = 4096;
/** A serial log may have a few NULs and escapes; what is no text has little else. */
const MAX_CONTROLS = HEAD / 20;

/** Tells a text from other bytes. */
export class TextProbe {
  #size = 0;
  #controls = 0;

  push(bytes: Uint8Array): void {
    const looked = Math.min(bytes.length, Math.max(0, HEAD - this.#size));
    for (let at = 0; at < looked; at++) {
      const byte = bytes[at]!;
      if (byte < 9 || (byte > 13 && byte < 27)) this.#controls++;
    }
    this.#size += bytes.length;
  }

  /** Bytes that came. */
  get size(): number {
    return this.#size;
  }

  /** Nothing at all is none. */
  get isText(): boolean {
    const share = Math.min(this.#size, HEAD) / HEAD;
    return this.#size > 0 && this.#controls <= MAX_CONTROLS * share;
  }
}

/** A line without its prefixes. */
export interface KernelLine {
  readonly text: string;
  /** Seconds since boot, where printk gave them. */
  readonly uptime: number | undefined;
}

/** CSI sequences, and the two-character ones that reset terminals. Every repetition is bounded. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences are what is taken out
const ESCAPES = /\x1b(?:\[[0-9;?]{0,32}[ -/]{0,4}[@-~]|[a-zA-Z0-9=>])/g;
/** "Nov 26 07:35:34 host ", "2026-11-26T07:35:34.123456+00:00 host ", in front of "kernel: ". */
const SYSLOG = /^[\w.:+\- /]{4,160}$/;
const KERNEL = "kernel: ";
const LEVEL = /^<\d{1,3}>/;
/** printk's time, and CONFIG_PRINTK_CALLER's "[    C0]", "[  T123]". */
const TIME = /^\[ {0,12}(\d{1,10}\.\d{1,9})\] ?(?:\[ {0,12}[CT]\d{1,10}\] ?)?/;
/** dmesg -T. */
const HUMAN_TIME = /^\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\] ?/;
/** A prompt that waits when the kernel prints. */
const LOGIN = "login: [";
const MAX_PROMPT = 100;
/** printk's time behind whatever a logger put before it. */
const MIDDLE_TIME = /\[ {0,6}\d{1,8}\.\d{6}\](?:\[ {0,12}[CT]\d{1,10}\])? /;
const MAX_WRAPPER = 160;

/**
 * Takes off what stands in front of the kernel's own words: escapes, carriage returns, a login prompt, syslog's or the
 * journal's stamp, `<level>`, printk's time and caller. Linear in the line.
 */
export function kernelLine(raw: string): KernelLine {
  let text = raw.includes("\x1b") ? raw.replace(ESCAPES, "") : raw;
  if (text.includes("\r")) text = text.replaceAll("\r", "");
  const prompt = text.indexOf(LOGIN);
  if (prompt >= 0 && prompt < MAX_PROMPT) text = text.slice(prompt + LOGIN.length - 1);
  const named = text.indexOf(KERNEL);
  if (named > 0 && SYSLOG.test(text.slice(0, named))) text = text.slice(named + KERNEL.length);
  text = text.replace(LEVEL, "");
  if (text[0] !== "[") {
    const { index = 0 } = MIDDLE_TIME.exec(text.slice(0, MAX_WRAPPER)) ?? {};
    if (index > 0 && !isQuoted(text.slice(0, index))) text = text.slice(index);
  }
  const time = TIME.exec(text);
  if (time !== null) return { text: text.slice(time[0].length), uptime: Number(time[1]) };
  return { text: text.replace(HUMAN_TIME, ""), uptime: undefined };
}
