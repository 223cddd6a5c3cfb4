import { kernelLine } from "../hardware/lines.ts";
import { decodeRtasLog, type RtasLog } from "./decode.ts";
import { FIXED_SIZE, MAX_LOG } from "./header.ts";

/** A log that the kernel printed, and where. */
export interface PrintedLog {
  readonly line: number;
  readonly uptime: number | undefined;
  /** Its number, which counts the events of all boots. */
  readonly event: number | undefined;
  readonly log: RtasLog;
}

/** What the kernel prints of an event without `rtasmsgs=on`. */
export interface PrintedSummary {
  readonly line: number;
  readonly uptime: number | undefined;
  readonly event: number;
  readonly typeCode: number;
  readonly severity: number;
}

/** Linux arch/powerpc/kernel/rtasd.c: printk_log_rtas(); the words between the dashes were others up to 2.6. */
const BEGIN = /^RTAS: (\d{1,10}) -{8} [\w \-/]{1,40} begin -{8}/;
const END = /^RTAS: (\d{1,10}) -{8} [\w \-/]{1,40} end -{8}/;
const WORDS = /^RTAS (\d{1,4}):((?: [0-9a-f]{2,8}){1,4})\s*$/;
const SUMMARY = /^RTAS: event: (\d{1,10}), Type: [\w \-/]{1,60} \((\d{1,3})\), Severity: (\d)\s*$/;

/** Logs, and summaries, that are told of. */
const MAX_PRINTED = 1000;
const LINE_BYTES = 16;
/** A block that is not ended within so many lines of a log is taken for ended. */
const MAX_FOREIGN_LINES = 200;

interface Open {
  readonly line: number;
  readonly uptime: number | undefined;
  readonly event: number | undefined;
  readonly bytes: Buffer;
  /** Bytes that came, one behind the other. */
  size: number;
  /** Whether a line of it is missing. */
  gap: boolean;
  foreign: number;
}

/** Puts logs together that a kernel log has as hexadecimal words, whatever lines stand between theirs. */
export class HexBlocks {
  readonly #found: (log: PrintedLog) => void;
  readonly #summary: (summary: PrintedSummary) => void;
  #open: Open | undefined;
  #logs = 0;
  #summaries = 0;
  #more = false;

  constructor(found: (log: PrintedLog) => void, summary: (summary: PrintedSummary) => void) {
    this.#found = found;
    this.#summary = summary;
  }

  /** @param raw with whatever prefix; @param line its number */
  line(raw: string, line: number): void {
    if (!raw.includes("RTAS")) {
      if (this.#open !== undefined && ++this.#open.foreign > MAX_FOREIGN_LINES) this.#finish();
      return;
    }
    const { text, uptime } = kernelLine(raw);
    const words = WORDS.exec(text);
    if (words !== null) {
      this.#words(Number(words[1]), words[2]!, line, uptime);
      return;
    }
    const begin = BEGIN.exec(text);
    if (begin !== null || END.test(text)) {
      this.#finish();
      if (begin !== null) this.#open = opened(line, uptime, Number(begin[1]));
      return;
    }
    const summary = SUMMARY.exec(text);
    if (summary === null) return;
    if (this.#summaries >= MAX_PRINTED) {
      this.#more = true;
      return;
    }
    this.#summaries++;
    const [, event, type, severity] = summary;
    this.#summary({
      line,
      uptime,
      event: Number(event),
      typeCode: Number(type),
      severity: Number(severity),
    });
  }

  /** Whether there were more than are told of. */
  get more(): boolean {
    return this.#more;
  }

  end(): void {
    this.#finish();
  }

  #words(number: number, text: string, line: number, uptime: number | undefined): void {
    if (this.#open === undefined || (number === 0 && this.#open.size > 0)) {
      // The line that begins it was lost.
      this.#finish();
      this.#open = opened(line, uptime, undefined);
    }
    const open = this.#open!;
    const at = number * LINE_BYTES;
    const bytes = Buffer.from(text.replaceAll(" ", ""), "hex");
    if (at !== open.size || at + bytes.length > MAX_LOG) {
      open.gap = true;
      return;
    }
    bytes.copy(open.bytes, at);
    open.size += bytes.length;
  }

  #finish(): void {
    const open = this.#open;
    this.#open = undefined;
    if (open === undefined || open.size < FIXED_SIZE) return;
    if (this.#logs >= MAX_PRINTED) {
      this.#more = true;
      return;
    }
    const log = decodeRtasLog(open.bytes.subarray(0, open.size));
    if (log === undefined) return;
    this.#logs++;
    const { line, uptime, event, gap } = open;
    const damage = gap ? ["lines of it are missing or twice in the log", ...log.damage] : log.damage;
    this.#found({ line, uptime, event, log: { ...log, damage } });
  }
}

const opened = (line: number, uptime: number | undefined, event: number | undefined): Open => ({
  line,
  uptime,
  event,
  bytes: Buffer.alloc(MAX_LOG),
  size: 0,
  gap: false,
  foreign: 0,
});
