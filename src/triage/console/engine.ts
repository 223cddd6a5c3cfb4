import type { Finding, Severity, TimelineEvent } from "../finding.ts";
import { BootLog } from "./boot-log.ts";
import { type BootFacts, hasOwnTime } from "./boots.ts";
import { decoded } from "./decoded.ts";
import type { Landmark } from "./landmarks.ts";
import { matchLandmark, matchSignature, type SignatureMatch } from "./matcher.ts";
import type { ConsoleLine } from "./prefix.ts";
import { RecentIncidents } from "./recent.ts";
import { printsLog, SavedLog } from "./saved-log.ts";
import { type KeptLog, silentResets } from "./silent-resets.ts";
import type { Stamp } from "./stamps.ts";
import { Told, worstOf } from "./told.ts";

/** A system without a banner is confirmed within so many lines. */
const CONFIRM_LINES = 15;

/** What a line seems to say, until another confirms it. */
interface Pending {
  readonly line: ConsoleLine;
  readonly match: SignatureMatch;
  readonly until: number;
}

/** Turns lines into boots, incidents and events. */
export class Engine {
  readonly #source: string;
  readonly #told: Told;
  readonly #recent: RecentIncidents;
  readonly #boots: BootLog;
  readonly #saved = new SavedLog();
  #pending: Pending | undefined;
  /** Lines of saved logs that told of a panic. */
  #saves = 0;

  constructor(source: string) {
    this.#source = source;
    this.#told = new Told(source);
    this.#recent = new RecentIncidents(source, this.#told);
    this.#boots = new BootLog(this.#told, this.#recent);
  }

  /** Latest time of this boot's lines, -1 without any. */
  get clock(): number {
    return this.#boots.current.clock;
  }

  /** Findings beyond those that are kept. */
  get leftOut(): number {
    return this.#told.leftOut;
  }

  /** Incidents of logs that were printed into this one. */
  get quoted(): number {
    return this.#saves + this.#boots.quoted;
  }

  /** Whether every line has to be looked at: a report goes on, or what became of the kernel is not known. */
  get attentive(): boolean {
    const isWaiting = this.#pending !== undefined || this.#saved.isOpen;
    return isWaiting || this.#boots.current.isPrinted || this.#recent.isOpen;
  }

  /** A line that tells nothing, by its time alone; false when it must be looked at after all. */
  pass(number: number, stamp: Stamp, isLevelled: boolean): boolean {
    return this.#boots.pass(number, stamp, isLevelled);
  }

  /** The next line is of another boot, by the word of whoever kept the log. */
  turn(number: number): void {
    this.#boots.turn(number);
    this.#beginAnew();
  }

  /**
   * Every line that `pass` may not.
   * @param before gives the line before it
   */
  line(line: ConsoleLine, before: () => string): void {
    const boots = this.#boots;
    boots.endPrinted(line);
    if (this.#saved.has(line, boots.current)) {
      if (matchSignature(line.text)?.signature.role === "panic") this.#saves++;
      return;
    }
    const told = matchLandmark(line.text);
    const found = told?.landmark.kind === "going-down" || this.#speaks(line) ? told : undefined;
    if (found !== undefined && this.#isBanner(found.landmark)) {
      boots.begin(line, found.landmark.system!, decoded(found.about, 128));
      this.#beginAnew();
      boots.current.isPrinted = boots.current.outer !== undefined && printsLog(before());
      return;
    }
    const match = matchSignature(line.text);
    const kind = found?.landmark.kind;
    const boot = boots.current;
    boots.follow(line, match, kind === "power-down" || kind === "restart");
    if (boots.current !== boot) this.#pending = undefined;
    if (found !== undefined) this.#landmark(line, found.landmark, found.about);
    if (match !== undefined && this.#isCredible(line, match)) this.#mark(line, match);
    else this.#recent.text(line, boots.current);
    this.#confirm(line);
    this.#recent.forgetLead(line.number);
  }

  /** All lines so far were a quotation; the log begins with this one. */
  forgetQuoted(number: number): void {
    this.#boots.restart(number);
    this.#beginAnew();
  }

  #beginAnew(): void {
    this.#pending = undefined;
    this.#recent.forgetLead();
  }

  /** In a log with the kernel's time, only lines with it are the kernel's. */
  #speaks(line: ConsoleLine): boolean {
    return line.uptime !== undefined || !hasOwnTime(this.#boots.current);
  }

  #isCredible(line: ConsoleLine, { signature }: SignatureMatch): boolean {
    return signature.speaker === "any" || this.#speaks(line);
  }

  /** BSD says who it is again and again. */
  #isBanner({ kind, system }: Landmark): boolean {
    return kind === "linux" || (kind === "system" && this.#boots.current.system !== system);
  }

  #landmark(line: ConsoleLine, { kind }: Landmark, about: string): void {
    const boot = this.#boots.current;
    switch (kind) {
      case "linux":
      case "system":
      case "saved-log":
        break;
      case "command-line":
        if (boot.commandLine === undefined) boot.commandLine = decoded(about);
        if (/\belfcorehdr=/.test(about) && !boot.kdump) {
          boot.kdump = true;
          this.#told.event("console/kdump", line, "the kernel that saves the memory of the one that crashed");
        }
        break;
      case "firmware":
        if (boot.clock >= 0) boot.end ??= "restart";
        for (const incident of this.#recent.all) incident.restarts = true;
        break;
      case "boot-console":
        boot.earlyConsole = about === "enabled" ? "enabled" : "disabled";
        break;
      case "going-down":
        boot.isEndTold = true;
        break;
      case "dump-saved":
        boot.dumpSaved = true;
        this.#told.event("console/dump-saved", line, decoded(line.text, 200));
        break;
      default:
        this.#ends(line, kind);
    }
  }

  #ends(line: ConsoleLine, kind: "power-down" | "restart" | "kexec"): void {
    const boot = this.#boots.current;
    boot.end = kind;
    boot.isEndTold = true;
    for (const incident of this.#recent.all) {
      if (kind === "kexec") incident.restarts = true;
      if (kind !== "kexec" || incident.panic === undefined) incident.endedInOrder(line);
    }
    this.#told.event(kind === "kexec" ? "console/kexec" : "console/shutdown", line, decoded(line.text, 200));
  }

  #mark(line: ConsoleLine, match: SignatureMatch): void {
    const { role } = match.signature;
    const boot = this.#boots.current;
    if (role === "lead") this.#recent.lead(line, match);
    else if (role === "part") this.#recent.part(line);
    else if (!this.#isConfirmed(match)) {
      this.#pending ??= { line, match, until: line.number + CONFIRM_LINES };
    } else if (role === "panic") {
      boot.end = "panic";
      this.#recent.panic(line, match, boot);
    } else this.#recent.headline(line, match, boot);
  }

  #isConfirmed({ signature: { systems } }: SignatureMatch): boolean {
    const { system } = this.#boots.current;
    return systems === undefined || (system !== undefined && systems.includes(system));
  }

  /** A line may confirm what one before it only seemed to say. */
  #confirm(line: ConsoleLine): void {
    const pending = this.#pending;
    if (pending === undefined || pending.line === line) return;
    if (line.number > pending.until) this.#pending = undefined;
    else if (pending.match.signature.confirm?.test(line.text.trimStart()) === true) {
      this.#pending = undefined;
      const boot = this.#boots.current;
      boot.system ??= pending.match.signature.systems?.[0];
      if (!this.#isConfirmed(pending.match)) return;
      this.#mark(pending.line, pending.match);
      this.#recent.text(line, boot);
    }
  }

  /** The worst of what was found so far and cannot turn out to be a quotation. */
  worst(evenUnsure: boolean): Severity | undefined {
    const isSure = evenUnsure || this.#boots.current.outer === undefined;
    return worstOf([...this.#told.findings, ...(isSure ? this.#recent.all : [])]);
  }

  end(
    last: ConsoleLine | undefined,
    kept: KeptLog,
  ): {
    readonly findings: readonly Finding[];
    readonly events: readonly TimelineEvent[];
    readonly boots: readonly BootFacts[];
  } {
    const all = this.#boots.end();
    const { findings, events } = this.#told;
    if (last !== undefined) this.#told.end(last, this.#boots.current);
    const boots = all.filter(
      ({ clock, release, number }) =>
        clock >= 0 || release !== undefined || findings.some(({ details }) => details?.boot === number),
    );
    const reset = silentResets(all, kept, this.#source);
    return {
      findings: [...findings, ...(reset === undefined ? [] : [reset])].sort(
        (a, b) => (a.evidence[0]?.line ?? 0) - (b.evidence[0]?.line ?? 0),
      ),
      events,
      boots: boots.map((boot) => boot.facts()),
    };
  }
}
