import { HANGS, type IncidentClass } from "./classes.ts";
import { counterOf, frameOf, functionOf, isEntry, isHelper, linkOf } from "./frames.ts";
import { TRACE_IS_OVER } from "./report-lines.ts";

const MAX_FRAMES = 64;
/** Lockdep's `… at: func+0x12/0x34`, and the work that left a lock behind. */
const LOCK_AT = /(?:, at: (?:\[<[0-9a-f]{4,16}>\] )?| workfn=|^last function: )([A-Za-z_]\S{1,160})/;
/** Who waits for a stall's end is shown too, and is not to blame for it: kernel/rcu/tree_stall.h. */
const WAITS_FOR_GRACE = /^(?:rcu: )?RCU grace-period kthread stack dump/;
const WAITED = /^(?:rcu: Stack dump where|Sending NMI|NMI backtrace|CPU: \d)/;
/** Lines that end a trace, but say what comes before one too. */
const INTRODUCES = /^(?:-> #|the existing|other info)/;
const BEGINS_TRACE = /^(?:Call [Tt]race|Backtrace|stack backtrace|backtrace)\b/;

/** Who is to blame for an incident, by the registers and the traces of its report. */
export class Blame {
  readonly #frames: string[] = [];
  /** Frames that the unwinder was not sure of. */
  readonly #unsure: string[] = [];
  #named: string | undefined;
  #counter: string | undefined;
  /** Who jumped to where the counter is, which is in no function then. */
  #link: string | undefined;
  #isOver = false;
  #isAside = false;

  /** @param named whom the first line names */
  constructor(named: string | undefined) {
    this.#named = named;
  }

  /** Its frames; those that the unwinder was not sure of where there are no others. */
  get frames(): readonly string[] {
    return this.#frames.length > 0 ? this.#frames : this.#unsure;
  }

  /** The first function that is to blame rather than a bearer of the news. */
  get guilty(): string | undefined {
    const named = this.#named;
    if (named !== undefined && !isHelper(named)) return named;
    const counter = this.#counter ?? this.#link;
    if (counter !== undefined && !isHelper(counter)) return counter;
    const isToBlame = (frame: string | undefined) => frame !== undefined && !isEntry(frame);
    return (
      this.frames.find((frame) => !isHelper(frame) && !isEntry(frame)) ?? [named, counter].find(isToBlame)
    );
  }

  /** Whoever called the guilty one, helpers left out. */
  get callers(): readonly string[] {
    const place = this.guilty;
    return this.frames.filter((frame) => !isHelper(frame) && frame !== place);
  }

  /** What comes behind a trace is another's. */
  end(): void {
    this.#isOver ||= this.#frames.length > 0;
  }

  /** Whether a line is of the trace of somebody who only waits for the end. */
  isOfOthers(text: string): boolean {
    if (WAITS_FOR_GRACE.test(text)) this.#isAside = true;
    else if (this.#isAside && WAITED.test(text)) this.#isAside = false;
    return this.#isAside;
  }

  /**
   * Reads a line of the report.
   * @param text without what it is indented by; @param whole with it
   */
  read(text: string, whole: string, kind: IncidentClass): void {
    if (TRACE_IS_OVER.test(text)) {
      this.#isOver ||= this.#frames.length > 0 || !INTRODUCES.test(text);
      return;
    }
    if (kind === "lockdep") this.#named ??= functionOf(LOCK_AT.exec(text)?.[1]);
    if (BEGINS_TRACE.test(text)) this.end();
    else if (!this.#isOver) this.#readFrame(text, whole, kind);
  }

  #readFrame(text: string, whole: string, kind: IncidentClass): void {
    const counter = counterOf(text);
    if (counter !== undefined) {
      // In the middle of a trace it is what an interrupt came upon: of a hang, the guilty one.
      if (this.#counter === undefined || (HANGS.has(kind) && isHelper(this.#counter)))
        this.#counter = counter;
      return;
    }
    this.#link ??= linkOf(text);
    if (this.#frames.length >= MAX_FRAMES) return;
    const frame = frameOf(whole);
    if (frame !== undefined) this.#frames.push(frame);
    else if (this.#unsure.length < MAX_FRAMES) this.#maybe(text);
  }

  #maybe(text: string): void {
    const mark = text.indexOf("? ");
    const frame = mark >= 0 && mark < MAX_FRAMES ? frameOf(text.slice(mark + 2)) : undefined;
    if (frame !== undefined) this.#unsure.push(frame);
  }
}
