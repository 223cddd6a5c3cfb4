import { Boot, STAMPED_LINES } from "./boots.ts";
import { cameBack, canBegin, wentBack } from "./clock.ts";
import { decoded } from "./decoded.ts";
import type { SignatureMatch } from "./matcher.ts";
import type { ConsoleLine } from "./prefix.ts";
import type { RecentIncidents } from "./recent.ts";
import { isReportLine } from "./report-lines.ts";
import { isShellPrompt } from "./saved-log.ts";
import { isShown } from "./silent-resets.ts";
import type { Stamp } from "./stamps.ts";
import type { Told } from "./told.ts";

/** Boots that are kept of a log that has more. */
export const MAX_BOOTS = 128;
/** A kernel that says so much after its end did not end. */
const LIVES = 2;
const UNANNOUNCED = "a boot whose banner is not in the log";

/** The boots of a console, told apart by banners and by the kernel's clock; what is quoted of others is none of them. */
export class BootLog {
  /** The one that goes on. */
  current = new Boot(1, 1, false);
  /** Incidents of logs that were printed into this one. */
  quoted = 0;
  readonly #past: Boot[] = [];
  #number = 1;
  readonly #told: Told;
  readonly #recent: RecentIncidents;

  constructor(told: Told, recent: RecentIncidents) {
    this.#told = told;
    this.#recent = recent;
  }

  /** A line that tells nothing, by its time alone; false when it must be looked at after all. */
  pass(number: number, { uptime }: Stamp, isLevelled: boolean): boolean {
    const boot = this.current;
    if (uptime < boot.clock - 1 || (boot.outer !== undefined && (!boot.banner || boot.end !== undefined)))
      return false;
    if (isLevelled) {
      if (boot.levelled === 0) return false;
      boot.levelled++;
    }
    boot.lastLine = number;
    if (uptime >= 0) boot.tick(uptime);
    return true;
  }

  /** All boots so far were quoted; the first of this log begins with this line. */
  restart(number: number): void {
    this.quoted += this.#told.forgetAll() + this.#recent.drop();
    this.#past.length = 0;
    this.#number = 1;
    this.current = new Boot(1, number, false);
  }

  /** A kernel says who it is. */
  begin(line: ConsoleLine, system: Boot["system"], release: string): void {
    const previous = this.current;
    const isEmpty = previous.clock < 0.5 && previous.release === undefined && this.#recent.all.length === 0;
    previous.hasFailed = this.#recent.hasFailed;
    this.#recent.close();
    if (!isEmpty) this.#keep(previous);
    // Announced after all.
    else this.#told.takeBack(previous.firstLine);
    const isNested = previous.end === undefined && previous.clock > 0.5 && line.uptime !== undefined;
    const outer = previous.banner ? previous : (previous.outer ?? previous);
    const first = isEmpty ? previous.firstLine : line.number;
    const boot = new Boot(this.#number, first, true, isNested && !isEmpty ? outer : undefined);
    boot.system = system;
    boot.release = release;
    if (isShown(line)) boot.shown = decoded(line.raw, 200);
    this.current = boot;
    this.#tick(line);
    this.#told.event("console/boot", line, `${system === "linux" ? "Linux " : ""}${release}`);
  }

  /** The next line is of another boot, by the word of whoever kept the log. */
  turn(number: number): void {
    this.#recent.close();
    this.#keep(this.current);
    this.current = new Boot(this.#number, number, false);
    this.#told.event("console/boot", { number, uptime: undefined, wall: undefined }, UNANNOUNCED);
  }

  /**
   * Follows the kernel's clock; where it goes back and no banner says why, a quotation or a boot without one begins.
   * @param isOrderly whether the line says that the machine ends
   */
  follow(line: ConsoleLine, match: SignatureMatch | undefined, isOrderly: boolean): void {
    const { uptime } = line;
    const boot = this.current;
    if (uptime !== undefined) {
      if (cameBack(boot, uptime)) this.#unquote(line.number);
      else if (wentBack(boot, uptime) && this.#isElsewhere(line, match)) this.#goBack(line, uptime);
    }
    this.#livesOn(line, match, isOrderly);
    this.#tick(line);
  }

  /** Whether a log that somebody at a shell had printed ends here: then it was none of this boot's. */
  endPrinted({ number, text, uptime }: ConsoleLine): void {
    const { isPrinted, outer, latest } = this.current;
    if (!isPrinted) return;
    const isOver =
      uptime === undefined ? isShellPrompt(text) : uptime >= outer!.clock && latest < outer!.clock;
    if (isOver) this.#unquote(number);
  }

  /** @returns all boots that are kept, in order */
  end(): readonly Boot[] {
    if (this.current.isPrinted) this.#unquote(this.current.lastLine);
    this.#recent.close();
    return [...this.#past, this.current];
  }

  /** Of more boots than are kept the first and the last ones stay; the numbers tell of the others. */
  #keep(boot: Boot): void {
    this.#past.push(boot);
    this.#number++;
    if (this.#past.length > MAX_BOOTS) this.#past.splice(MAX_BOOTS / 2, 1);
  }

  #tick({ number, uptime, isLevelled }: ConsoleLine): void {
    const boot = this.current;
    boot.lastLine = number;
    if (uptime === undefined) return;
    if (isLevelled) boot.levelled++;
    boot.tick(uptime);
  }

  /** NMI backtraces are printed later than they were taken; they are no headlines, and nobody else's lines. */
  #isElsewhere({ text }: ConsoleLine, match: SignatureMatch | undefined): boolean {
    if (match !== undefined) return match.signature.role === "cause" || match.signature.role === "panic";
    return !this.#recent.all.some(({ open }) => open) && !isReportLine(text);
  }

  #goBack(line: ConsoleLine, uptime: number): void {
    const previous = this.current;
    if (previous.end !== undefined && !canBegin(uptime)) return;
    const isNested = previous.end === undefined;
    if (!previous.banner && previous.outer !== undefined) {
      // Another jump inside a quotation.
      previous.clock = uptime;
      return;
    }
    this.#recent.close();
    this.#keep(previous);
    const boot = new Boot(this.#number, line.number, false, isNested ? previous : undefined);
    boot.stamped = STAMPED_LINES;
    this.current = boot;
    if (!isNested) this.#told.event("console/boot", line, UNANNOUNCED);
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
    const boot = this.current;
    if (boot.outer === undefined || boot.end === undefined || uptime === undefined) return;
    if (match !== undefined || isReportLine(text) || uptime < boot.clock) return;
    const isOuter = isOrderly && boot.end === "panic" && uptime >= boot.outer.clock;
    if (++boot.afterDeath >= LIVES || isOuter) this.#unquote(number);
  }

  #unquote(number: number): void {
    const boot = this.current;
    const outer = boot.outer!;
    this.quoted += this.#told.forget(boot) + this.#recent.drop();
    const at = this.#past.indexOf(outer);
    if (at !== -1) this.#past.splice(at);
    outer.lastLine = number;
    this.#number = outer.number;
    this.current = outer;
  }
}
