import type { Detected, Severity } from "../finding.ts";
import type { BootFacts } from "./boots.ts";
import { TextBytes } from "./encoding.ts";
import { Engine } from "./engine.ts";
import { Envelopes } from "./envelopes.ts";
import { cleanPieces, DIRTY, LineSplitter } from "./lines.ts";
import { mayTell, nextInside } from "./matcher.ts";
import {
  type ConsoleLine,
  innerLine,
  isStampAt,
  parseLine,
  type QuickLine,
  quickLine,
  wallOfLine,
} from "./prefix.ts";
import { Wrappers } from "./wrappers.ts";

/** What a console says, boot by boot. */
export interface ConsoleReport extends Detected {
  readonly source: string;
  readonly bytes: number;
  readonly lines: number;
  /** Lines of more than 4096 bytes, whose rest was passed over. */
  readonly cutLines: number;
  readonly boots: readonly BootFacts[];
  /** Incidents of a log that was printed into this one, which are none of this machine's boot. */
  readonly quoted: number;
  /** Findings beyond the 256 that are kept. */
  readonly leftOut: number;
}

const PIECE = 2 ** 16;
/** Lines that are held back until it is known what a logger put before them. */
const MAX_HELD = 32;

/**
 * Finds what happened in the bytes of a console, whatever their number: memory is bounded by constants of this folder.
 */
export class ConsoleDetector {
  readonly #source: string;
  readonly #engine: Engine;
  readonly #splitter: LineSplitter;
  readonly #quick: QuickLine = { message: 0, uptime: Number.NaN };
  readonly #encoding = new TextBytes();
  readonly #envelopes = new Envelopes();
  readonly #wrappers = new Wrappers();
  /** Lines whose wrapper is being learned; undefined once that was tried. */
  #held: [text: string, number: number][] | undefined = [];
  /** Lines of the chunk at which a journal goes on with another boot. */
  #boots: readonly number[] = [];
  #lines = 0;
  #bytes = 0;
  /** Whether the chunk has bytes to clean away. */
  #isDirty = false;
  /** Whether it has lines with a host's name behind their stamp, as journalctl writes them. */
  #namesHosts = false;
  /** Next piece of text in the chunk that tells something anywhere in a line. */
  #inside = -1;
  /** Next `[` in the chunk, behind which a stamp may stand in the middle of a line. */
  #bracket = -1;
  /** The line before the one that is looked at, where it may be a shell's. */
  #before = "";
  /** The last line that is not empty. */
  #lastText = "";
  #lastStart = 0;
  #lastEnd = 0;
  #lastNumber = 0;

  /** @param source what the input is called in findings */
  constructor({ source }: { readonly source: string }) {
    this.#source = source;
    this.#engine = new Engine(source);
    this.#splitter = new LineSplitter((text, start, end, isWhole) => this.#line(text, start, end, isWhole));
  }

  push(chunk: Uint8Array): void {
    this.#bytes += chunk.length;
    // Small pieces stay in the processor's cache while they are looked at several times.
    for (let start = 0; start < chunk.length; start += PIECE) {
      this.#push(this.#envelopes.push(this.#encoding.push(chunk.subarray(start, start + PIECE))));
    }
  }

  #push(text: string): void {
    this.#boots = this.#envelopes.boots;
    this.#isDirty = DIRTY.test(text);
    this.#namesHosts = text.includes(" kernel: ");
    this.#inside = nextInside(text, 0);
    this.#bracket = -1;
    this.#splitter.push(text);
  }

  /**
   * The worst severity of what was found so far.
   * @param evenUnsure also of what may turn out to be a log that was printed into this one
   */
  worst(evenUnsure = false): Severity | undefined {
    return this.#engine.worst(evenUnsure);
  }

  /** Ends the last line and gives what was found. */
  end(): ConsoleReport {
    this.#push(this.#envelopes.push(this.#encoding.end()));
    this.#push(this.#envelopes.end());
    this.#splitter.end();
    this.#release();
    const { findings, events, boots } = this.#engine.end(this.#lastLine(), this.#envelopes.isJournal);
    return {
      source: this.#source,
      bytes: this.#bytes,
      lines: this.#lines,
      cutLines: this.#splitter.cut,
      boots,
      quoted: this.#engine.quoted,
      leftOut: this.#engine.leftOut,
      findings,
      events,
    };
  }

  #lastLine(): ConsoleLine | undefined {
    if (this.#lastNumber === 0) return undefined;
    const [text = ""] = cleanPieces(this.#lastText.slice(this.#lastStart, this.#lastEnd)).slice(-1);
    return parseLine(text, this.#lastNumber, 0);
  }

  #line(text: string, start: number, until: number, isWhole: boolean): void {
    this.#lines++;
    if (this.#boots[0] === this.#lines) {
      this.#boots = this.#boots.slice(1);
      this.#engine.turn(this.#lines);
    }
    let end = until;
    while (end > start && (text.charCodeAt(end - 1) === 13 || text.charCodeAt(end - 1) === 32)) end--;
    if (end === start) return;
    this.#lastText = text;
    this.#lastStart = start;
    this.#lastEnd = end;
    this.#lastNumber = this.#lines;
    if (isWhole && !this.#isDirty) {
      if (!this.#isDull(text, start, end)) this.#look(text.slice(start, end));
      return;
    }
    const line = text.slice(start, end);
    if (DIRTY.test(line)) for (const piece of cleanPieces(line)) this.#look(piece);
    else this.#look(line);
  }

  /** Most lines tell nothing, and that is seen without taking them apart. */
  #isDull(text: string, start: number, end: number): boolean {
    if (this.#namesHosts) return false;
    if (this.#inside < start) this.#inside = nextInside(text, start);
    if (this.#inside < end || this.#engine.attentive || (this.#held?.length ?? 0) > 0) return false;
    const quick = this.#quick;
    quickLine(text, start, end, quick);
    const { message, uptime } = quick;
    if (message === -1 || mayTell(text, message)) return false;
    if (this.#hasBracket(text, message, end) && (Number.isNaN(uptime) || isStampAt(text, this.#bracket))) {
      return false;
    }
    this.#before = Number.isNaN(uptime) ? text.slice(start, end) : "";
    if (!Number.isNaN(uptime)) this.#wrappers.bare();
    return this.#engine.pass(this.#lines, uptime);
  }

  #hasBracket(text: string, start: number, end: number): boolean {
    if (this.#bracket < start) {
      const found = text.indexOf("[", start);
      this.#bracket = found === -1 ? Number.POSITIVE_INFINITY : found;
    }
    return this.#bracket < end;
  }

  /** Frees a line of the wrapper that the others have, or holds it until that is known. */
  #look(line: string, number = this.#lines): void {
    const wrappers = this.#wrappers;
    const length = wrappers.lengthOf(line);
    if (length > 0) {
      this.#message(line.slice(length), number, wallOfLine(line));
      return;
    }
    const found = wrappers.learn(line);
    if (found === "learned") {
      const held = this.#held ?? [];
      this.#held = undefined;
      for (const [text, at] of held) this.#look(text, at);
      this.#look(line, number);
      return;
    }
    const held = this.#held;
    if (held !== undefined && (found === "maybe" || held.length > 0)) {
      held.push([line, number]);
      if ((wrappers.isBare && found !== "maybe") || held.length > MAX_HELD) this.#release();
    } else this.#message(line, number);
  }

  #release(): void {
    for (const [text, number] of this.#held ?? []) this.#message(text, number);
    this.#held = undefined;
  }

  /** @param wall when it was, by the wrapper that it was freed of */
  #message(line: string, number: number, wall?: number): void {
    const inner = innerLine(line);
    if (inner > 0) {
      this.#one(line.slice(0, inner), number, wall);
      this.#one(line.slice(inner), number, wall);
    } else this.#one(line, number, wall);
  }

  #one(line: string, number: number, wall: number | undefined): void {
    this.#engine.line(parseLine(line, number, this.#engine.clock, wall), this.#before);
    this.#before = line;
  }
}
