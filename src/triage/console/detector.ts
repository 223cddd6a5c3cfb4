import type { Detected, Severity } from "../finding.ts";
import type { BootFacts } from "./boots.ts";
import { Engine } from "./engine.ts";
import { cleanPieces } from "./lines.ts";
import { type ConsoleLine, parseLine } from "./prefix.ts";
import { ConsoleReader } from "./reader.ts";
import { Skimmer } from "./skimmer.ts";
import { UnwrappedLog } from "./unwrapped-log.ts";

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

/** Records of loggers are opened in pieces of this size. */
const PIECE = 2 ** 16;

/**
 * Finds what happened in the bytes of a console, whatever their number: memory is bounded by constants of this folder.
 */
export class ConsoleDetector {
  readonly #source: string;
  readonly #engine: Engine;
  readonly #reader: ConsoleReader;
  readonly #skimmer: Skimmer;
  readonly #log = new UnwrappedLog();
  #bytes = 0;

  /** @param source what the input is called in findings */
  constructor({ source }: { readonly source: string }) {
    this.#source = source;
    this.#engine = new Engine(source);
    this.#reader = new ConsoleReader(this.#engine);
    this.#skimmer = new Skimmer(this.#reader);
  }

  push(chunk: Uint8Array): void {
    this.#bytes += chunk.length;
    for (let start = 0; start < chunk.length; start += PIECE) {
      this.#skim(this.#log.push(chunk.subarray(start, start + PIECE)));
    }
  }

  #skim(bytes: Uint8Array): void {
    this.#reader.turnAt(this.#log.boots);
    this.#skimmer.push(bytes);
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
    for (const bytes of this.#log.end()) this.#skim(bytes);
    this.#skimmer.end();
    this.#reader.end();
    const { findings, events, boots } = this.#engine.end(this.#lastLine(), {
      isJournal: this.#log.isJournal,
      isPlain: this.#reader.isPlain,
    });
    return {
      source: this.#source,
      bytes: this.#bytes,
      lines: this.#skimmer.lines,
      cutLines: this.#skimmer.cut,
      boots,
      quoted: this.#engine.quoted,
      leftOut: this.#engine.leftOut,
      findings,
      events,
    };
  }

  #lastLine(): ConsoleLine | undefined {
    const { text, number } = this.#skimmer.last;
    if (number === 0) return undefined;
    const [last = ""] = cleanPieces(text).slice(-1);
    return parseLine(last, number, 0);
  }
}
