import type { Finding, Severity, TimelineEvent } from "../finding.ts";
import { atLeast } from "../finding.ts";
import { Boot, type BootFacts } from "./boots.ts";
import { HANGS } from "./classes.ts";
import { cameBack, canBegin, wentBack } from "./clock.ts";
import { decoded, Incident } from "./incident.ts";
import { continues, diesOf, endsIn, isSoon, sameCaller } from "./joins.ts";
import type { Landmark } from "./landmarks.ts";
import { matchLandmark, matchSignature, type SignatureMatch } from "./matcher.ts";
import type { ConsoleLine } from "./prefix.ts";
import { isPrompt, isReportLine, STARTED } from "./report-lines.ts";
import { isShellPrompt, printsLog, SavedLog } from "./saved-log.ts";
import { isShown, type KeptLog, silentResets } from "./silent-resets.ts";
import type { Stamp } from "./stamps.ts";

/** A console that tells more has told enough; how many are left out is counted. */
export const MAX_FINDINGS = 256;
const MAX_EVENTS = 256;
const MAX_BOOTS = 128;
/** Incidents looked at for what a new line belongs to. */
const MAX_RECENT = 16;
/** A report goes on behind so many lines of others, a kernel lives that prints so many more. */
const UNRELATED_LINES = 12;
const ALIVE_LINES = 3;
/** Of a hang, two are enough; and one that comes so many seconds later is, of all. */
const ALIVE_AFTER_HANG = 2;
const ALIVE_SECONDS = 10;
/** A lead and the headline it belongs to are lines apart, but not many. */
const LEAD_LINES = 5;
/** A system without a banner is confirmed within so many lines. */
const CONFIRM_LINES = 15;
/** A kernel that says so much after its end did not end. */
const LIVES = 2;
const UNANNOUNCED = "a boot whose banner is not in the log";
/** A log has the kernel's time when so many of its lines do. */
const STAMPED_LINES = 2;

interface Pending {
  readonly line: ConsoleLine;
  readonly match: SignatureMatch;
  readonly until: number;
  /** What a lead says that names what follows. */
  readonly tells?: string | undefined;
}

/** Turns lines into boots, incidents and events. */
export class Engine {
  readonly #source: string;
  #boot: Boot;
  readonly #boots: Boot[] = [];
  #numbered = 1;
  readonly #findings: Finding[] = [];
  readonly #events: TimelineEvent[] = [];
  /** The latest incidents of this boot, the last one last. */
  #recent: Incident[] = [];
  #lead: Pending | undefined;
  #pending: Pending | undefined;
  readonly #saved = new SavedLog();
  leftOut = 0;
  quoted = 0;

  constructor(source: string) {
    this.#source = source;
    this.#boot = new Boot(1, 1, false);
  }

  /** Latest time of this boot's lines, -1 without any. */
  get clock(): number {
    return this.#boot.clock;
  }

  /** Whether every line has to be looked at: a report goes on, or what became of the kernel is not known. */
  get attentive(): boolean {
    if (this.#pending !== undefined || this.#lead !== undefined || this.#saved.isOpen) return true;
    if (this.#boot.isPrinted) return true;
    return this.#recent.some(({ panic, open }) => panic === undefined || open);
  }

  /** A line that tells nothing, by its time alone; false when it must be looked at after all. */
  pass(number: number, { uptime }: Stamp, isLevelled: boolean): boolean {
    const boot = this.#boot;
    if (uptime < boot.clock - 1 || (boot.outer !== undefined && (!boot.banner || boot.end !== undefined)))
      return false;
    if (isLevelled) {
      if (boot.levelled === 0) return false;
      boot.levelled++;
    }
    boot.lastLine = number;
    if (uptime >= 0) {
      boot.stamped++;
      boot.latest = uptime;
      if (uptime > boot.clock) boot.clock = uptime;
    }
    return true;
  }

  /**
   * Every line that `pass` may not.
   * @param before gives the line before it
   */
  line(line: ConsoleLine, before: () => string): void {
    if (this.#boot.isPrinted && this.#printsNoMore(line)) this.#unquote(line.number);
    if (this.#saved.has(line, this.#boot)) {
      if (matchSignature(line.text)?.signature.role === "panic") this.quoted++;
      return;
    }
    const told = matchLandmark(line.text);
    const found = told?.landmark.kind === "going-down" || this.#speaks(line) ? told : undefined;
    if (found !== undefined && this.#isBanner(found.landmark)) {
      this.#begin(line, found.landmark.system!, decoded(found.about, 128));
      this.#boot.isPrinted = this.#boot.outer !== undefined && printsLog(before());
      return;
    }
    const match = matchSignature(line.text);
    this.#turnClock(line, match, found?.landmark.kind);
    if (found !== undefined) this.#landmark(line, found.landmark, found.about);
    if (match !== undefined && this.#isCredible(line, match)) this.#mark(line, match);
    else this.#text(line);
    this.#confirm(line);
    if (this.#lead !== undefined && line.number > this.#lead.until) this.#lead = undefined;
  }

  /** Whether a log is over that somebody at a shell had printed. */
  #printsNoMore({ text, uptime }: ConsoleLine): boolean {
    const { outer, latest } = this.#boot;
    if (uptime === undefined) return isShellPrompt(text);
    return uptime >= outer!.clock && latest < outer!.clock;
  }

  /** In a log with the kernel's time, only lines with it are the kernel's. */
  #speaks = (line: ConsoleLine): boolean => line.uptime !== undefined || this.#boot.stamped < STAMPED_LINES;

  #isCredible(line: ConsoleLine, { signature }: SignatureMatch): boolean {
    return signature.speaker === "any" || this.#speaks(line);
  }

  /** BSD says who it is again and again. */
  #isBanner({ kind, system }: Landmark): boolean {
    return kind === "linux" || (kind === "system" && this.#boot.system !== system);
  }

  #landmark(line: ConsoleLine, { kind }: Landmark, about: string): void {
    const boot = this.#boot;
    switch (kind) {
      case "linux":
      case "system":
      case "saved-log":
        break;
      case "command-line":
        if (boot.commandLine === undefined) boot.commandLine = decoded(about);
        if (/\belfcorehdr=/.test(about) && !boot.kdump) {
          boot.kdump = true;
          this.#event("console/kdump", line, "the kernel that saves the memory of the one that crashed");
        }
        break;
      case "firmware":
        if (boot.clock >= 0) boot.end ??= "restart";
        for (const incident of this.#recent) incident.restarts = true;
        break;
      case "going-down":
        boot.isEndTold = true;
        break;
      case "dump-saved":
        boot.dumpSaved = true;
        this.#event("console/dump-saved", line, decoded(line.text, 200));
        break;
      default:
        this.#ends(line, kind);
    }
  }

  #ends(line: ConsoleLine, kind: "power-down" | "restart" | "kexec"): void {
    this.#boot.end = kind;
    this.#boot.isEndTold = true;
    for (const incident of this.#recent) {
      if (kind === "kexec") incident.restarts = true;
      if (kind !== "kexec" || incident.panic === undefined) incident.endedInOrder(line);
    }
    this.#event(kind === "kexec" ? "console/kexec" : "console/shutdown", line, decoded(line.text, 200));
  }

  #begin(line: ConsoleLine, system: Boot["system"], release: string): void {
    const previous = this.#boot;
    const empty = previous.clock < 0.5 && previous.release === undefined && this.#recent.length === 0;
    previous.hasFailed = this.#recent.some(
      ({ severity, survived }) => atLeast(severity, "hang") && survived !== true,
    );
    this.#closeRecent();
    if (!empty) this.#keepBoot(previous);
    // Announced after all.
    else if (this.#events.at(-1)?.line === previous.firstLine) this.#events.pop();
    const isNested = previous.end === undefined && previous.clock > 0.5 && line.uptime !== undefined;
    const outer = previous.banner ? previous : (previous.outer ?? previous);
    const boot = new Boot(
      this.#numbered,
      empty ? previous.firstLine : line.number,
      true,
      isNested && !empty ? outer : undefined,
    );
    boot.system = system;
    boot.release = release;
    boot.lastLine = line.number;
    if (isShown(line)) boot.shown = decoded(line.raw, 200);
    this.#boot = boot;
    this.#lead = undefined;
    this.#tick(line);
    this.#event("console/boot", line, `${system === "linux" ? "Linux " : ""}${release}`);
  }

  /** The next line is of another boot, by the word of whoever kept the log. */
  turn(number: number): void {
    this.#closeRecent();
    this.#keepBoot(this.#boot);
    this.#boot = new Boot(this.#numbered, number, false);
    this.#lead = undefined;
    this.#event("console/boot", { number, uptime: undefined, wall: undefined }, UNANNOUNCED);
  }

  /** Of more boots than are kept the first and the last ones stay; the numbers tell of the others. */
  #keepBoot(boot: Boot): void {
    this.#boots.push(boot);
    this.#numbered++;
    if (this.#boots.length > MAX_BOOTS) this.#boots.splice(MAX_BOOTS / 2, 1);
  }

  /** Follows the kernel's clock; where it goes back and no banner says why, a quotation or a boot without one begins. */
  #turnClock(line: ConsoleLine, match: SignatureMatch | undefined, kind: Landmark["kind"] | undefined): void {
    const { uptime } = line;
    const boot = this.#boot;
    if (uptime !== undefined) {
      if (cameBack(boot, uptime)) this.#unquote(line.number);
      else if (wentBack(boot, uptime) && this.#isElsewhere(line, match)) this.#goBack(line, uptime);
    }
    this.#livesOn(line, match, kind === "power-down" || kind === "restart");
    this.#tick(line);
  }

  #tick({ number, uptime, isLevelled }: ConsoleLine): void {
    const boot = this.#boot;
    boot.lastLine = number;
    if (uptime === undefined) return;
    boot.stamped++;
    if (isLevelled) boot.levelled++;
    boot.latest = uptime;
    if (uptime > boot.clock) boot.clock = uptime;
  }

  /** NMI backtraces are printed later than they were taken; they are no headlines, and nobody else's lines. */
  #isElsewhere({ text }: ConsoleLine, match: SignatureMatch | undefined): boolean {
    const isOpen = this.#recent.some(({ open }) => open);
    if (match !== undefined) return match.signature.role === "cause" || match.signature.role === "panic";
    return !isOpen && !isReportLine(text);
  }

  #goBack(line: ConsoleLine, uptime: number): void {
    const previous = this.#boot;
    if (previous.end !== undefined && !canBegin(uptime)) return;
    const isNested = previous.end === undefined;
    if (!previous.banner && previous.outer !== undefined) {
      // Another jump inside a quotation.
      previous.clock = uptime;
      return;
    }
    this.#closeRecent();
    this.#keepBoot(previous);
    const boot = new Boot(this.#numbered, line.number, false, isNested ? previous : undefined);
    boot.stamped = STAMPED_LINES;
    this.#boot = boot;
    if (!isNested) this.#event("console/boot", line, UNANNOUNCED);
  }

  /**
   * A boot that nothing announced, whose kernel died and goes on all the same, is the log of another that somebody printed.
   * What a dead kernel may still say is part of a report; an orderly end is none.
   */
  #livesOn(
    { number, text, uptime }: ConsoleLine,
    match: SignatureMatch | undefined,
    isOrderly: boolean,
  ): void {
    const boot = this.#boot;
    if (boot.outer === undefined || boot.end === undefined || uptime === undefined) return;
    if (match !== undefined || isReportLine(text) || uptime < boot.clock) return;
    const isOuter = isOrderly && boot.end === "panic" && uptime >= boot.outer.clock;
    if (++boot.afterDeath >= LIVES || isOuter) this.#unquote(number);
  }

  #unquote(number: number): void {
    const boot = this.#boot;
    const outer = boot.outer!;
    const first = this.#findings.findIndex(({ details }) => details?.boot === boot.number);
    const dropped = first === -1 ? 0 : this.#findings.splice(first).length;
    this.quoted += dropped + this.#recent.length;
    const from = this.#events.findIndex(({ line }) => line !== undefined && line >= boot.firstLine);
    if (from !== -1) this.#events.splice(from);
    this.#recent = [];
    const at = this.#boots.indexOf(outer);
    if (at !== -1) this.#boots.splice(at);
    outer.lastLine = number;
    this.#numbered = outer.number;
    this.#boot = outer;
  }

  #mark(line: ConsoleLine, match: SignatureMatch): void {
    const { role } = match.signature;
    if (role === "panic") this.#panic(line, match);
    else if (role === "lead") this.#leads(line, match);
    else if (role === "part") this.#ofCaller(line)?.absorb(line);
    else if (this.#isConfirmed(match)) this.#headline(line, match);
    else this.#pending ??= { line, match, until: line.number + CONFIRM_LINES };
  }

  #isConfirmed({ signature: { systems } }: SignatureMatch): boolean {
    return systems === undefined || (this.#boot.system !== undefined && systems.includes(this.#boot.system));
  }

  #leads(line: ConsoleLine, match: SignatureMatch): void {
    const current = this.#ofCaller(line);
    if (current?.goesOnWith(line) === true) current.absorb(line);
    const told = match.groups.slice(1).find((group) => group !== undefined);
    const tells = match.signature.tells === true ? told : this.#lead?.tells;
    this.#lead = { line: this.#lead?.line ?? line, match, until: line.number + LEAD_LINES, tells };
  }

  #panic(line: ConsoleLine, match: SignatureMatch): void {
    if (!this.#isConfirmed(match)) {
      this.#pending ??= { line, match, until: line.number + CONFIRM_LINES };
      return;
    }
    const reason = match.groups.slice(1).find((group) => group !== undefined) ?? "";
    const own = this.#recent.filter(({ caller }) => sameCaller(caller, line.caller));
    const incident =
      own.findLast((one) => endsIn(one, line, match)) ??
      this.#recent.findLast((one) => endsIn(one, line, match));
    this.#boot.end = "panic";
    if (incident !== undefined) incident.panicked(line, reason);
    else this.#open(line, match).panicked(line, reason);
  }

  #headline(line: ConsoleLine, match: SignatureMatch): void {
    const { role } = match.signature;
    const known = this.#recent.findLast((one) =>
      role === "end" ? diesOf(one, line) : continues(one, line, match),
    );
    if (known === undefined) {
      this.#open(line, match);
      return;
    }
    if (known.headline.signature === match.signature) known.count++;
    known.again(line);
    // It hangs again, or still.
    if (HANGS.has(known.class)) known.survived = undefined;
    known.open = true;
    known.closed = false;
    known.worsen(match.signature.severity ?? (role === "end" ? "oops" : known.severity));
  }

  #open(line: ConsoleLine, match: SignatureMatch): Incident {
    const lead = this.#lead;
    const isLed = lead !== undefined && line.number <= lead.until;
    const begins = isLed ? lead.line.number : line.number;
    this.#lead = undefined;
    const incident = new Incident(this.#source, this.#boot.number, line, match, begins);
    if (isLed && match.signature.class === "warning") incident.told = lead.tells;
    for (const one of this.#recent) if (sameCaller(one.caller, line.caller)) one.open = false;
    this.#recent.push(incident);
    if (this.#recent.length > MAX_RECENT) this.#close(this.#recent.shift()!);
    return incident;
  }

  /** The incident whose report a line may go on with. */
  #ofCaller({ caller }: ConsoleLine): Incident | undefined {
    return this.#recent.findLast((one) => one.open && sameCaller(one.caller, caller));
  }

  #text(line: ConsoleLine): void {
    if (this.#recent.length === 0) return;
    const current = this.#ofCaller(line);
    const isPart = isReportLine(line.text) || isPrompt(line.text) || current?.reasonIn(line) !== undefined;
    if (current !== undefined && isPart) current.absorb(line);
    if (isPart || line.text.trim() === "") return;
    for (const incident of this.#recent) this.#goesOn(incident, line);
    this.#recent = this.#recent.filter((incident) => {
      const isDone = incident.panic === undefined && !incident.open && !isSoon(incident, line, 120);
      if (isDone) this.#close(incident);
      return !isDone;
    });
  }

  /** A line that belongs to no report: something lives. */
  #goesOn(incident: Incident, line: ConsoleLine): void {
    if (incident.panic !== undefined) {
      if (++incident.unrelated >= UNRELATED_LINES) incident.open = false;
      return;
    }
    // A shell that waits for somebody is not outlived by what the kernel says meanwhile.
    if (incident.class === "emergency-mode") {
      if (STARTED.test(line.raw)) incident.survived = true;
      return;
    }
    const isLater =
      line.uptime === undefined ? this.#boot.stamped < STAMPED_LINES : line.uptime >= incident.clock;
    if (isLater || line.uptime === undefined) incident.unrelated++;
    const enough = incident.closed ? 1 : HANGS.has(incident.class) ? ALIVE_AFTER_HANG : ALIVE_LINES;
    const isLong =
      line.uptime !== undefined && incident.clock > 0 && line.uptime - incident.clock >= ALIVE_SECONDS;
    if (incident.unrelated >= enough || isLong) incident.survived = true;
    if (incident.unrelated >= UNRELATED_LINES) incident.open = false;
  }

  /** A line may confirm what one before it only seemed to say. */
  #confirm(line: ConsoleLine): void {
    const pending = this.#pending;
    if (pending === undefined || pending.line === line) return;
    if (line.number > pending.until) this.#pending = undefined;
    else if (pending.match.signature.confirm?.test(line.text.trimStart()) === true) {
      this.#pending = undefined;
      const { systems } = pending.match.signature;
      this.#boot.system ??= systems?.[0];
      if (!this.#isConfirmed(pending.match)) return;
      this.#mark(pending.line, pending.match);
      this.#text(line);
    }
  }

  #close(incident: Incident): void {
    const finding = incident.finding();
    const same = this.#findings.findIndex(
      ({ signature, details, severity }) =>
        severity !== "panic" && signature === finding.signature && details?.boot === incident.boot,
    );
    const before = this.#findings[same];
    if (before !== undefined && finding.severity === before.severity) {
      const { count, ...rest } = before.details as { count: number };
      const details = { ...rest, count: count + incident.count, lastLine: incident.last };
      const { survived = before.survived } = finding;
      this.#findings[same] = { ...before, ...(survived === undefined ? {} : { survived }), details };
      return;
    }
    if (this.#findings.length < MAX_FINDINGS) this.#findings.push(finding);
    else {
      this.leftOut++;
      // What is worse than the least of those kept takes its place.
      const least = this.#findings.findLastIndex(({ severity }) => !atLeast(severity, finding.severity));
      if (least !== -1) this.#findings.splice(least, 1, finding);
    }
  }

  #closeRecent(): void {
    for (const incident of this.#recent) this.#close(incident);
    this.#recent = [];
    this.#pending = undefined;
  }

  #event(
    kind: string,
    { number, uptime, wall }: Pick<ConsoleLine, "number" | "uptime" | "wall">,
    text: string,
  ): void {
    if (this.#events.length >= MAX_EVENTS) return;
    const at = { ...(uptime === undefined ? {} : { uptime }), ...(wall === undefined ? {} : { wall }) };
    this.#events.push({ kind, at, source: this.#source, line: number, text });
  }

  /** Severities of what was found so far and cannot turn out to be a quotation. */
  worst(evenUnsure: boolean): Severity | undefined {
    const isSure = evenUnsure || this.#boot.outer === undefined;
    const all = [...this.#findings, ...(isSure ? this.#recent : [])].map(({ severity }) => severity);
    return all.reduce<Severity | undefined>(
      (worst, severity) => (worst === undefined || atLeast(severity, worst) ? severity : worst),
      undefined,
    );
  }

  end(
    last: ConsoleLine | undefined,
    kept: KeptLog,
  ): {
    readonly findings: readonly Finding[];
    readonly events: readonly TimelineEvent[];
    readonly boots: readonly BootFacts[];
  } {
    if (this.#boot.isPrinted) this.#unquote(this.#boot.lastLine);
    this.#closeRecent();
    this.#boots.push(this.#boot);
    const boots = this.#boots.filter(
      ({ clock, release, number }) =>
        clock >= 0 || release !== undefined || this.#findings.some(({ details }) => details?.boot === number),
    );
    if (last !== undefined) {
      const at = this.#boot.clock < 0 ? undefined : this.#boot.clock;
      this.#events.push({
        kind: "console/end",
        ...(at === undefined ? {} : { at: { uptime: at } }),
        source: this.#source,
        line: last.number,
        text: decoded(last.raw),
      });
    }
    const reset = silentResets(this.#boots, kept, this.#source);
    const findings = [...this.#findings, ...(reset === undefined ? [] : [reset])].sort(
      (a, b) => (a.evidence[0]?.line ?? 0) - (b.evidence[0]?.line ?? 0),
    );
    return { findings, events: this.#events, boots: boots.map((boot) => boot.facts()) };
  }
}
