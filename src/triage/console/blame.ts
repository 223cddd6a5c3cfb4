import { HANGS, type IncidentClass } from "./classes.ts";
import { counterOf, frameOf, functionOf, isEntry, isHelper, linkOf } from "./frames.ts";
import { TRACE_IS_OVER } from "./report-lines.ts";

const MAX_FRAMES = 64;
/** Lockdep's `… at: func+0x12/0x34`, of a lock that is held behind its number, and the work that left a lock behind. */
const LOCK_AT = /(?:, at: (?:\[<[0-9a-f]{4,16}>\] )?| workfn=|^last function: )([A-Za-z_]\S{1,160})/;
/** Who waits for a stall's end is shown too, and is not to blame for it: kernel/rcu/tree_stall.h. */
const WAITS_FOR_GRACE = /^(?:rcu: )?RCU grace-period kthread stack dump/;
const WAITED = /^(?:rcu: Stack dump where|Sending NMI|NMI backtrace|CPU: \d)/;
/** Lines that end a trace, but say what comes before one too. */
const INTRODUCES = /^(?:-> #|the existing|other info)/;
/** Behind these a line names a function: whose lock it is, or who did what was no harm yet. */
const LOCK_IS_AT = /^.{1,40} is trying to (?:release|contend) lock .{1,160} at:$/;
const EARLIER_AT = /^(?:Preemption|[a-z ]{1,24}) disabled at:$/;
/** Lockdep shows first how its locks were taken before: kernel/locking/lockdep.c. */
const OWN_TRACE = "stack backtrace:";
/** Headlines that whoever took the lock is to blame for, rather than whoever noticed that it is held. */
const IS_HELD = /(?:locks? (?:still )?held|still has locks held)/;
const BEGINS_TRACE = /^(?:Call [Tt]race|Backtrace|stack backtrace|backtrace)\b/;

/** Who is to blame for an incident, by the registers and the traces of its report. */
export class Blame {
  readonly #frames: string[] = [];
  /** Frames that the unwinder was not sure of. */
  readonly #unsure: string[] = [];
  #named: string | undefined;
  /** Who took the first of the locks that are held, helpers left out. */
  #holder: string | undefined;
  readonly #isHeld: boolean;
  /** What the next line's function is. */
  #next: "named" | "nobody" | undefined;
  #counter: string | undefined;
  /** Who jumped to where the counter is, which is in no function then. */
  #link: string | undefined;
  #isOver = false;
  #isAside = false;

  /** @param named whom the first line names; @param headline that line */
  constructor(named: string | undefined, headline: string) {
    this.#named = named;
    this.#isHeld = IS_HELD.test(headline);
  }

  /** Its frames; those that the unwinder was not sure of where there are no others. */
  get frames(): readonly string[] {
    return this.#frames.length > 0 ? this.#frames : this.#unsure;
  }

  /** The first function that is to blame rather than a bearer of the news. */
  get guilty(): string | undefined {
    if (this.#isHeld && this.#holder !== undefined) return this.#holder;
    const named = this.#named;
    if (named !== undefined && !isHelper(named)) return named;
    const counter = this.#counter ?? this.#link;
    if (counter !== undefined && !isHelper(counter)) return counter;
    const isToBlame = (frame: string | undefined) => frame !== undefined && !isEntry(frame);
    return (
      this.frames.find((frame) => !isHelper(frame) && !isEntry(frame)) ??
      [named, counter].find(isToBlame) ??
      this.#holder
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
    if (this.#isExpected(text, whole)) return;
    if (kind === "lockdep") this.#readLock(text);
    if (BEGINS_TRACE.test(text)) this.end();
    else if (!this.#isOver) this.#readFrame(text, whole, kind);
  }

  /** Whether a line is what the one before it announced. */
  #isExpected(text: string, whole: string): boolean {
    const next = this.#next;
    this.#next = LOCK_IS_AT.test(text) ? "named" : EARLIER_AT.test(text) ? "nobody" : undefined;
    if (next === "named") this.#named ??= frameOf(whole);
    return next !== undefined;
  }

  #readLock(text: string): void {
    const place = functionOf(LOCK_AT.exec(text)?.[1]);
    const isBetter = this.#holder === undefined || (isHelper(this.#holder) && place !== undefined);
    if (text.startsWith("#")) this.#holder = isBetter ? place : this.#holder;
    else this.#named ??= place;
    if (text !== OWN_TRACE) return;
    this.#frames.length = this.#unsure.length = 0;
    this.#isOver = false;
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
