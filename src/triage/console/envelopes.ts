import { latin1 } from "../../core/bytes.ts";

/** A line of a console out of what a logger wrapped it in, one byte a character. */
export interface Message {
  readonly text: string;
  readonly number: number;
  /** Milliseconds since 1970 by the logger. */
  readonly wall: number | undefined;
}

/** `Thu 2026-11-26 01:02:03.123456 UTC [s=…`, of `journalctl -o verbose`. */
const ENTRY = /^[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})? \S{1,8} \[s=[0-9a-f]{8,32};/;
const FIELD = /^ {4}([A-Z_][A-Z0-9_]{0,63})=(.*)$/;
const JSON_LINE = /^(?:- )?\{.*\},?$/;
/** What LAVA says itself has another level than what the machine printed. */
const LAVA_MACHINE: ReadonlySet<unknown> = new Set(["target", "feedback"]);

type Fields = Readonly<Record<string, unknown>>;

const stringOf = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);

function wallOf(date: unknown, microseconds: unknown): number | undefined {
  const text = stringOf(date);
  // A date without a zone is nobody's clock.
  const isDated = text !== undefined && /^\d{4}-.{1,40}(?:Z|[+-]\d\d:\d\d)$/.test(text);
  const wall = isDated ? Date.parse(text) : Math.floor(Number(stringOf(microseconds) ?? "x") / 1000);
  return Number.isNaN(wall) ? undefined : wall;
}

/** A record of the journal as the line that dmesg prints, or that syslog would have. */
function ofJournal(fields: Fields): string | undefined {
  const message = stringOf(fields.MESSAGE);
  if (message === undefined) return undefined;
  const program = stringOf(fields.SYSLOG_IDENTIFIER) ?? stringOf(fields._COMM);
  const isKernel =
    fields._TRANSPORT === "kernel" || (fields._TRANSPORT === undefined && program === "kernel");
  const since = Number(stringOf(fields._SOURCE_MONOTONIC_TIMESTAMP) ?? "x");
  if (isKernel)
    return Number.isNaN(since) ? message : `[${(since / 1e6).toFixed(6).padStart(12)}] ${message}`;
  return program === undefined ? message : `${program}[${stringOf(fields._PID) ?? "1"}]: ${message}`;
}

/** What a JSON record has of a console: docker's `log`, LAVA's and others' `msg`, the journal's `MESSAGE`. */
function ofRecord(fields: Fields): string | undefined {
  if (fields.MESSAGE !== undefined) return ofJournal(fields);
  const log = stringOf(fields.log);
  if (log !== undefined) return log;
  if (fields.lvl !== undefined && fields.dt !== undefined && !LAVA_MACHINE.has(fields.lvl)) return undefined;
  return stringOf(fields.msg);
}

/** Takes lines out of records that loggers put them in: JSON, one record a line, and journalctl's verbose form. */
export class Envelopes {
  #entry: Record<string, string> | undefined;
  #number = 0;

  /** Whether the lines that come next may be of a record. */
  get isOpen(): boolean {
    return this.#entry !== undefined;
  }

  /** What a line gives; undefined when it is no part of a record. */
  open(line: string, number: number): readonly Message[] | undefined {
    if (line.startsWith("{") || line.startsWith("- {")) return this.#json(line, number);
    if (ENTRY.test(line)) {
      const messages = this.end();
      this.#entry = {};
      return messages;
    }
    const field = this.#entry === undefined ? null : FIELD.exec(line);
    if (field === null) return undefined;
    this.#entry![field[1]!] = field[2]!;
    if (field[1] === "MESSAGE") this.#number = number;
    return [];
  }

  /** What the last record gives. */
  end(): readonly Message[] {
    const fields = this.#entry;
    this.#entry = undefined;
    const text = fields === undefined ? undefined : ofJournal(fields);
    return text === undefined ? [] : [{ text, number: this.#number, wall: undefined }];
  }

  #json(line: string, number: number): readonly Message[] | undefined {
    if (!JSON_LINE.test(line)) return undefined;
    let fields: unknown;
    try {
      fields = JSON.parse(Buffer.from(line.slice(line.indexOf("{")).replace(/,$/, ""), "latin1").toString());
    } catch {
      return undefined;
    }
    const text = ofRecord(fields as Fields);
    if (text === undefined) return undefined;
    const { time, dt, ts, __REALTIME_TIMESTAMP } = fields as Fields;
    const wall = wallOf(time ?? dt ?? ts, __REALTIME_TIMESTAMP);
    return latin1(Buffer.from(text))
      .split("\n")
      .filter((part) => part.trim() !== "")
      .map((part) => ({ text: part.trimEnd(), number, wall }));
  }
}
