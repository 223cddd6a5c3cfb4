import type { Engine } from "./engine.ts";
import { MAX_LINES } from "./margin.ts";
import { type ConsoleLine, innerLine, parseLine, wallOfLine } from "./prefix.ts";
import type { LineReader } from "./skimmer.ts";
import type { Stamp } from "./stamps.ts";
import { Wrappers } from "./wrappers.ts";

/** Lines that are held back until it is known what a logger put before them. */
const MAX_HELD = 32;
/** A kernel's stamp that nothing stands before. */
const STAMPED = /^\[ {0,6}\d/;

/** Takes lines out of what loggers put around them, and apart, for an engine. */
export class ConsoleReader implements LineReader {
  readonly #engine: Engine;
  readonly #wrappers = new Wrappers();
  /** Lines whose wrapper is being learned; undefined once that was tried. */
  #held: [text: string, number: number, isMoved: boolean][] | undefined = [];
  /** Lines that begin another boot by a journal's word. */
  #turns: readonly number[] = [];
  /** Gives the line before the one at hand. */
  #before = (): string => "";
  /** What the line at hand was made of: how many, and the last. */
  #taken = 0;
  #parsed: ConsoleLine | undefined;
  isAttentive = true;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  get isPlain(): boolean {
    return this.#wrappers.count === 0;
  }

  get isTimed(): boolean {
    return this.#engine.clock >= 0;
  }

  /** Hears which of the lines to come are of another boot. */
  turnAt(lines: readonly number[]): void {
    if (lines.length > 0) this.#turns = [...this.#turns, ...lines];
  }

  pass(number: number, stamp: Stamp, isLevelled: boolean): boolean {
    this.#turn(number);
    if (this.#wrappers.hasMargin && Number.isNaN(stamp.uptime)) return false;
    if (!this.#engine.pass(number, stamp, isLevelled)) return false;
    if (!Number.isNaN(stamp.uptime)) this.#wrappers.bare();
    return true;
  }

  look(line: string, number: number, before: () => string, isMoved = false): ConsoleLine | undefined {
    this.#turn(number);
    this.#taken = 0;
    this.#before = before;
    this.#wrapped(line, number, isMoved);
    this.isAttentive = this.#wrappers.isWatchful || (this.#held?.length ?? 0) > 0 || this.#engine.attentive;
    return this.#taken === 1 ? this.#withHeader() : undefined;
  }

  /** What is held back is looked at after all. */
  end(): void {
    this.#release();
  }

  #turn(number: number): void {
    while (this.#turns.length > 0 && this.#turns[0]! <= number) {
      this.#engine.turn(this.#turns[0]!);
      this.#turns = this.#turns.slice(1);
    }
  }

  /** The line that was made of the one at hand, if others with such a beginning are certain to be freed of it. */
  #withHeader(): ConsoleLine | undefined {
    const parsed = this.#parsed!;
    const isCertain = this.#wrappers.isBare || (this.#wrappers.count === 1 && STAMPED.test(parsed.raw));
    return isCertain ? parsed : undefined;
  }

  /** Frees a line of the wrapper that the others have, or holds it until that is known. */
  #wrapped(line: string, number: number, isMoved: boolean): void {
    const wrappers = this.#wrappers;
    const length = wrappers.lengthOf(line);
    if (length > 0) {
      this.#message(line.slice(length), number, wallOfLine(line));
      return;
    }
    if (wrappers.hasMargin && !isMoved && line.trim() !== "") {
      wrappers.dropMargin();
      this.#engine.forgetQuoted(number);
    }
    const found = wrappers.learn(line, isMoved);
    if (found === "learned") {
      const held = this.#held ?? [];
      this.#held = undefined;
      for (const [text, at, moved] of held) this.#wrapped(text, at, moved);
      this.#wrapped(line, number, isMoved);
      return;
    }
    const held = this.#held;
    if (held !== undefined && (found === "maybe" || held.length > 0)) {
      held.push([line, number, isMoved]);
      if ((wrappers.isBare && found !== "maybe") || held.length > this.#mostHeld) this.#release();
    } else this.#message(line, number);
  }

  /** What may have a margin is held for longer: that is known late, and of all lines. */
  get #mostHeld(): number {
    return this.#wrappers.isWatchful ? MAX_LINES : MAX_HELD;
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
    const parsed = parseLine(line, number, this.#engine.clock, wall);
    this.#taken++;
    this.#parsed = parsed;
    this.#engine.line(parsed, this.#before);
    this.#before = () => line;
  }
}
