import { createHash } from "node:crypto";
import type { Evidence, Finding, Severity } from "../finding.ts";
import { Blame } from "./blame.ts";
import { CLASSES, type IncidentClass } from "./classes.ts";
import { decoded } from "./decoded.ts";
import { functionOf } from "./frames.ts";
import type { SignatureMatch } from "./matcher.ts";
import type { ConsoleLine } from "./prefix.ts";
import { REPORT_IS_OVER } from "./report-lines.ts";
import { hungTask, isTaskLine, type ReportedTask, taskOf } from "./reported-task.ts";
import { MAX_TITLE, titleOf } from "./title.ts";

const MAX_EVIDENCE = 12;
/** Frames that a signature is made of, see docs/triage.md. */
const SIGNATURE_FRAMES = 3;

/** Where an address lies in the first page, s390 calls a NULL dereference a fault as any other. */
const FIRST_PAGE = /^Failing address: 0{13}[0-9a-f]{3} TEID/;
/** mm/debug.c: __dump_page() */
const DUMPS_PAGE = /^page: ?(?:refcount:\d|[0-9a-f]{8,16} (?:refcount|count):\d)/;
/** Whose reports lie between two rules of equal signs. */
const RULED: ReadonlySet<IncidentClass> = new Set(["kasan", "kfence", "kcsan", "kmsan", "ubsan"]);

/** An incident as it grows, line by line. */
export class Incident {
  class: IncidentClass;
  readonly first: ConsoleLine;
  readonly boot: number;
  readonly headline: SignatureMatch;
  /** Where its report began, which may be some lines before the first line that says anything. */
  readonly begins: number;
  last: number;
  /** The latest time any of its lines has. */
  clock: number;
  severity: Severity;
  /** Whether its report goes on. */
  open = true;
  /** Whether its end was told, by a line that ends reports. */
  closed = false;
  /** Lines in a row that do not belong to it. */
  unrelated = 0;
  count = 1;
  survived: boolean | undefined;
  /** What the line behind its first one said of it. */
  #reason: string | undefined;
  /** What a line before its first one said of it. */
  told: string | undefined;
  panic: string | undefined;
  /** Whether the machine began anew behind it: what is told of an end then is not this kernel's. */
  restarts = false;
  /** Whether the kernel that it says died ended in order. */
  #isDoubtful = false;
  readonly #evidence: Evidence[] = [];
  readonly #source: string;
  readonly #blame: Blame;
  #task: ReportedTask;

  constructor(source: string, boot: number, line: ConsoleLine, match: SignatureMatch, begins: number) {
    const { signature, groups } = match;
    this.class = signature.class;
    this.headline = match;
    this.first = line;
    this.boot = boot;
    this.begins = begins;
    this.last = line.number;
    this.clock = line.uptime ?? 0;
    this.severity = signature.severity ?? CLASSES[signature.class].severity;
    this.#source = source;
    const named = signature.frame === undefined ? undefined : functionOf(groups[signature.frame]);
    this.#blame = new Blame(named, line.text);
    this.#task = hungTask(line.text);
    this.cite(line);
  }

  get caller(): string | undefined {
    return this.first.caller;
  }

  get pid(): number | undefined {
    return this.#task.pid;
  }

  /** Keeps a line as evidence. */
  cite(line: ConsoleLine): void {
    if (this.#evidence.length >= MAX_EVIDENCE) return;
    this.#evidence.push({ source: this.#source, line: line.number, text: decoded(line.raw) });
  }

  /** The machine ended with this. */
  panicked(line: ConsoleLine, reason: string): void {
    if (this.panic === undefined) {
      this.panic = reason;
      if (line.number !== this.first.number) this.cite(line);
    }
    this.severity = "panic";
    this.survived = false;
    this.#blame.end();
    this.#extend(line);
  }

  /** Another headline of the same incident. */
  again(line: ConsoleLine): void {
    this.cite(line);
    this.#extend(line);
  }

  /** The machine ended in order, whatever a panic said. */
  endedInOrder({ uptime }: ConsoleLine): void {
    if (this.panic === undefined) this.survived ??= true;
    else if (!this.restarts && (uptime ?? -1) >= this.clock) {
      this.survived = true;
      this.#isDoubtful = true;
    }
  }

  worsen(severity: Severity): void {
    if (this.severity !== "panic" && severity === "oops") this.severity = severity;
  }

  /** Why, where the line behind the first one says it. */
  reasonIn({ number, text }: ConsoleLine): string | undefined {
    return number === this.first.number + 1 ? this.headline.signature.next?.exec(text)?.[1] : undefined;
  }

  #extend(line: ConsoleLine): void {
    this.#reason ??= this.reasonIn(line);
    this.last = Math.max(this.last, line.number);
    if (line.uptime !== undefined && line.uptime > this.clock) this.clock = line.uptime;
    this.unrelated = 0;
  }

  /** Whether a line that mostly begins a report is of this one: it ends a sanitizer's, and a dead kernel begins none. */
  goesOnWith({ text }: ConsoleLine): boolean {
    if (this.panic !== undefined) return true;
    const isRuled =
      RULED.has(this.headline.signature.class) || this.headline.signature.id === "linux/kasan-null";
    return isRuled && !this.closed && REPORT_IS_OVER.test(text);
  }

  /** Whether it has its trace: of a page itself, or all there is to say. */
  get #isBehindTrace(): boolean {
    return this.closed || (this.class === "bad-page" && this.frames.length > 0);
  }

  /** Takes a line of the report. */
  absorb(line: ConsoleLine): void {
    const text = line.text.trimStart();
    if (this.closed && this.panic === undefined && isTaskLine(text)) {
      // Behind the end of a report, whose trace this is has not been told: of dump_stack(), or of show_regs().
      this.open = false;
      return;
    }
    if (this.#isBehindTrace && this.panic === undefined && DUMPS_PAGE.test(text)) {
      // Behind the trace of a report, dump_page() says what the next one is of.
      this.open = false;
      this.unrelated++;
      return;
    }
    this.#extend(line);
    if (text.startsWith("Rebooting in ")) this.restarts = true;
    if (REPORT_IS_OVER.test(text) && line.number > this.first.number) this.closed = true;
    if (this.#blame.isOfOthers(text) || this.#readTask(text)) return;
    if (this.class === "page-fault" && FIRST_PAGE.test(text)) this.class = "null-deref";
    this.#blame.read(text, line.text, this.class);
  }

  /** The first that a report tells of; who hangs is known before. */
  #readTask(text: string): boolean {
    const task = this.#task.release === undefined ? taskOf(text) : undefined;
    if (task !== undefined) this.#task = { ...task, ...this.#task };
    return task !== undefined;
  }

  /** Its frames; those that the unwinder was not sure of where there are no others. */
  get frames(): readonly string[] {
    return this.#blame.frames;
  }

  get guilty(): string | undefined {
    return this.#blame.guilty;
  }

  get title(): string {
    const { class: kind, guilty: place, told } = this;
    return titleOf(this.headline, { class: kind, place, told, reason: this.#reason });
  }

  /** See docs/triage.md: the class, and the guilty function with its callers, or the title without numbers. */
  get signature(): string {
    const inFrame = this.headline.signature.inFrame === true;
    const place = this.guilty;
    const parts =
      inFrame && place !== undefined
        ? [place, ...this.#blame.callers.slice(0, SIGNATURE_FRAMES - 1)]
        : [this.title.replace(/\b(?:0x)?[0-9a-f]*\d[0-9a-f]*\b/gi, "N")];
    return createHash("sha256")
      .update(["console/1", this.class, ...parts].join("\n"))
      .digest("hex")
      .slice(0, 16);
  }

  finding(): Finding {
    const { signature } = this.headline;
    const task = this.#task;
    const { uptime, wall } = this.first;
    return {
      rule: `console/${signature.id}`,
      class: this.class,
      severity: this.severity,
      side: signature.side ?? CLASSES[this.class].side,
      trust: this.#isDoubtful ? "possible" : (signature.trust ?? "certain"),
      title: this.title,
      signature: this.signature,
      ...(this.survived === undefined ? {} : { survived: this.survived }),
      at: { ...(uptime === undefined ? {} : { uptime }), ...(wall === undefined ? {} : { wall }) },
      evidence: this.#evidence,
      details: {
        boot: this.boot,
        firstLine: this.begins,
        lastLine: this.last,
        count: this.count,
        guilty: this.guilty ?? null,
        frames: this.frames,
        panic: this.panic === undefined ? null : decoded(this.panic, MAX_TITLE),
        cpu: task.cpu ?? null,
        pid: task.pid ?? null,
        comm: task.comm ?? null,
        taint: task.taint ?? null,
        kernel: task.release ?? null,
        caller: this.caller ?? null,
      },
    };
  }
}
