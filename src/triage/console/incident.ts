import { createHash } from "node:crypto";
import type { Evidence, Finding, Severity } from "../finding.ts";
import { STOP_CODES } from "../qmp/stop-codes.ts";
import { CLASSES, HANGS, type IncidentClass } from "./classes.ts";
import { counterOf, frameOf, functionOf, isEntry, isHelper, linkOf } from "./frames.ts";
import type { SignatureMatch } from "./matcher.ts";
import type { ConsoleLine } from "./prefix.ts";
import { REPORT_IS_OVER, TRACE_IS_OVER } from "./report-lines.ts";

const MAX_FRAMES = 64;
const MAX_EVIDENCE = 12;
const MAX_TEXT = 1000;
const MAX_TITLE = 240;
/** Frames that a signature is made of, see docs/triage.md. */
const SIGNATURE_FRAMES = 3;

/** kernel: dump_stack_print_info() of lib/dump_stack.c; `UID:` since 6.12. */
const TASK =
  /^CPU: (\d{1,5})(?: UID: \d{1,10})? PID: (\d{1,10}) Comm: (.{1,40}?) (?:Kdump: loaded )?(Not tainted|Tainted: [\w ()=,[\]+-]{1,80}?) +(\d\S{0,80})/;
const OLD_TASK = /^Pid: (\d{1,10}), comm: (.{1,40}?) (Not tainted|Tainted: [\w ]{1,40}?) +\(?(\d\S{0,80})/;
/** Who hangs, in the headline: the task lines below are of whoever found out. */
const HUNG = /^INFO: task (.{1,64}?):(\d{1,10}) |CPU#(\d{1,5}) stuck for \d{1,9}s! \[(.{1,40}?):(\d{1,10})\]/;
/** Where an address lies in the first page, s390 calls a NULL dereference a fault as any other. */
const FIRST_PAGE = /^Failing address: 0{13}[0-9a-f]{3} TEID/;
/** Lockdep's `… at: func+0x12/0x34`, and the work that left a lock behind. */
const LOCK_AT = /(?:, at: (?:\[<[0-9a-f]{4,16}>\] )?| workfn=|^last function: )([A-Za-z_]\S{1,160})/;
/** Who waits for a stall's end is shown too, and is not to blame for it: kernel/rcu/tree_stall.h. */
const WAITS_FOR_GRACE = /^(?:rcu: )?RCU grace-period kthread stack dump/;
const WAITED = /^(?:rcu: Stack dump where|Sending NMI|NMI backtrace|CPU: \d)/;
/** Whose reports lie between two rules of equal signs. */
const RULED: ReadonlySet<IncidentClass> = new Set(["kasan", "kfence", "kcsan", "kmsan", "ubsan"]);
const SOURCE_TREE =
  /^\/.{0,200}?\/((?:arch|block|certs|crypto|drivers|fs|include|init|io_uring|ipc|kernel|lib|mm|net|rust|security|sound|virt)\/.*)$/;

/** Text that was read one byte a character, as UTF-8. */
export const decoded = (text: string, limit = MAX_TEXT): string =>
  Buffer.from(text.slice(0, limit), "latin1").toString("utf8");

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
  readonly frames: string[] = [];
  readonly #evidence: Evidence[] = [];
  readonly #source: string;
  #named: string | undefined;
  #counter: string | undefined;
  /** Who jumped to where the counter is, which is in no function then. */
  #link: string | undefined;
  #traceOver = false;
  #isAside = false;
  readonly #unsure: string[] = [];
  #task: { cpu?: number; pid?: number; comm?: string; taint?: string; release?: string } = {};

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
    if (signature.frame !== undefined) this.#named = functionOf(groups[signature.frame]);
    const hung = HUNG.exec(line.text);
    if (hung !== null) {
      const [, comm = hung[4], pid = hung[5], cpu] = hung;
      this.#task = {
        comm: decoded(comm!),
        pid: Number(pid),
        ...(cpu === undefined ? {} : { cpu: Number(cpu) }),
      };
    }
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
    this.#traceOver ||= this.frames.length > 0;
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

  /** Takes a line of the report. */
  absorb(line: ConsoleLine): void {
    const text = line.text.trimStart();
    if (this.closed && this.panic === undefined && TASK.test(text)) {
      // Behind the end of a report, whose trace this is has not been told: of dump_stack(), or of show_regs().
      this.open = false;
      return;
    }
    this.#extend(line);
    if (text.startsWith("Rebooting in ")) this.restarts = true;
    if (REPORT_IS_OVER.test(text) && line.number > this.first.number) this.closed = true;
    if (this.#isOfOthers(text) || this.#readTask(text)) return;
    if (TRACE_IS_OVER.test(text)) {
      this.#traceOver ||= this.frames.length > 0 || !/^(?:-> #|the existing|other info)/.test(text);
      return;
    }
    if (this.class === "page-fault" && FIRST_PAGE.test(text)) this.class = "null-deref";
    if (this.class === "lockdep") this.#named ??= functionOf(LOCK_AT.exec(text)?.[1]);
    if (/^(?:Call [Tt]race|Backtrace|stack backtrace|backtrace)\b/.test(text)) {
      if (this.frames.length > 0) this.#traceOver = true;
      return;
    }
    this.#readFrame(text, line.text);
  }

  #isOfOthers(text: string): boolean {
    if (WAITS_FOR_GRACE.test(text)) this.#isAside = true;
    else if (this.#isAside && WAITED.test(text)) this.#isAside = false;
    return this.#isAside;
  }

  #readTask(text: string): boolean {
    if (this.#task.release !== undefined) return false;
    const task = TASK.exec(text);
    if (task !== null) {
      const [, cpu, pid, comm, taint, release] = task;
      const told = { cpu: Number(cpu), pid: Number(pid), comm: decoded(comm!) };
      this.#task = { ...told, ...this.#task, taint: taint!, release: release! };
      return true;
    }
    const old = OLD_TASK.exec(text);
    if (old === null) return false;
    const [, pid, comm, taint, release] = old;
    this.#task = { pid: Number(pid), comm: decoded(comm!), ...this.#task, taint: taint!, release: release! };
    return true;
  }

  #readFrame(text: string, whole: string): void {
    const counter = counterOf(text);
    if (counter !== undefined) {
      // In the middle of a trace it is what an interrupt came upon: of a hang, the guilty one.
      if (this.#traceOver) return;
      if (this.#counter === undefined || (HANGS.has(this.class) && isHelper(this.#counter)))
        this.#counter = counter;
      return;
    }
    if (!this.#traceOver) this.#link ??= linkOf(text);
    if (this.#traceOver || this.frames.length >= MAX_FRAMES) return;
    const frame = frameOf(whole);
    if (frame !== undefined) this.frames.push(frame);
    else if (this.#unsure.length < MAX_FRAMES) this.#maybe(text);
  }

  /** A frame that the unwinder was not sure of counts where there are no others. */
  #maybe(text: string): void {
    const [mark, rest] = [text.indexOf("? "), text.slice(text.indexOf("? ") + 2)];
    const frame = mark >= 0 && mark < 64 ? frameOf(rest) : undefined;
    if (frame !== undefined) this.#unsure.push(frame);
  }

  /** Its frames; those that the unwinder was not sure of where there are no others. */
  get #trace(): readonly string[] {
    return this.frames.length > 0 ? this.frames : this.#unsure;
  }

  /** The first function that is to blame rather than a bearer of the news. */
  get guilty(): string | undefined {
    const named = this.#named;
    if (named !== undefined && !isHelper(named)) return named;
    const counter = this.#counter ?? this.#link;
    if (counter !== undefined && !isHelper(counter)) return counter;
    const isToBlame = (frame: string | undefined) => frame !== undefined && !isEntry(frame);
    return (
      this.#trace.find((frame) => !isHelper(frame) && !isEntry(frame)) ?? [named, counter].find(isToBlame)
    );
  }

  get title(): string {
    const { signature, groups } = this.headline;
    const place = this.guilty;
    const at = sourceOf(groups[1]);
    if (this.told !== undefined) return `${this.told}${place === undefined ? "" : ` in ${place}`}`;
    if (signature.title === "WARNING" && place === undefined) return `WARNING at ${at}:${groups[2] ?? "?"}`;
    const filled = signature.title
      .replaceAll("$+", groups.slice(1).find((group) => group !== undefined) ?? "")
      .replace(/\$(\d)/g, (_, digit: string) => (digit === "1" ? at : (groups[Number(digit)] ?? "")))
      .replace(/:\s*$/, "");
    const reasoned = this.#reason === undefined ? filled : `${filled}: ${this.#reason}`;
    const named = this.class === "bugcheck" ? withStopName(reasoned) : reasoned;
    const title = signature.inFrame === true && place !== undefined ? `${named} in ${place}` : named;
    return decoded(withoutAddresses(title), MAX_TITLE);
  }

  /** See docs/triage.md: the class, and the guilty function with its callers, or the title without numbers. */
  get signature(): string {
    const inFrame = this.headline.signature.inFrame === true;
    const place = this.guilty;
    const callers = this.#trace.filter((frame) => !isHelper(frame) && frame !== place);
    const parts =
      inFrame && place !== undefined
        ? [place, ...callers.slice(0, SIGNATURE_FRAMES - 1)]
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
        frames: this.#trace,
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

/** A file of the kernel's source without where it was built. */
const sourceOf = (path: string | undefined): string =>
  (path ?? "").replace(SOURCE_TREE, "$1").replace(/^(?:\.\.?\/)+/, "");

/** A bug check with its name, which Windows does not print. */
const withStopName = (title: string): string => {
  const code = /\b(?:0x)?([0-9A-Fa-f]{1,8})$/.exec(title)?.[1];
  const name = code === undefined ? undefined : STOP_CODES[Number.parseInt(code, 16)];
  return name === undefined ? title : `${title} ${name}`;
};

const withoutAddresses = (title: string): string =>
  title.replace(/\b(?:0x)?[0-9a-f]{9,16}\b/g, "ADDR").replace(/\+0x[0-9a-f]{1,8}\/0x[0-9a-f]{1,8}/g, "");
