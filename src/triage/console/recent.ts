import { atLeast } from "../finding.ts";
import { type Boot, hasOwnTime } from "./boots.ts";
import { HANGS } from "./classes.ts";
import { Incident } from "./incident.ts";
import { continues, diesOf, endsIn, isSoon, sameCaller } from "./joins.ts";
import type { SignatureMatch } from "./matcher.ts";
import type { ConsoleLine } from "./prefix.ts";
import { isPrompt, isReportLine, STARTED } from "./report-lines.ts";
import type { Told } from "./told.ts";

/** Incidents looked at for what a new line belongs to. */
const MAX_RECENT = 16;
/** A report goes on behind so many lines of others, a kernel lives that prints so many more. */
const UNRELATED_LINES = 12;
const ALIVE_LINES = 3;
/** Of a hang, two are enough; and one that comes so many seconds later is, of all. */
const ALIVE_AFTER_HANG = 2;
const ALIVE_SECONDS = 10;
/** Seconds after which nothing belongs to an incident any more. */
const OVER_SECONDS = 120;
/** A lead and the headline it belongs to are lines apart, but not many. */
const LEAD_LINES = 5;

interface Lead {
  /** The first of several in a row. */
  readonly line: ConsoleLine;
  readonly until: number;
  /** What it says that names what follows. */
  readonly tells: string | undefined;
}

/** The latest incidents of a boot, and what became of them. */
export class RecentIncidents {
  readonly #source: string;
  readonly #told: Told;
  /** The last one last. */
  #all: Incident[] = [];
  #lead: Lead | undefined;

  constructor(source: string, told: Told) {
    this.#source = source;
    this.#told = told;
  }

  get all(): readonly Incident[] {
    return this.#all;
  }

  /** Whether a report goes on, or what became of the kernel is not known. */
  get isOpen(): boolean {
    return this.#lead !== undefined || this.#all.some(({ panic, open }) => panic === undefined || open);
  }

  /** Whether something failed that the kernel is not known to have outlived. */
  get hasFailed(): boolean {
    return this.#all.some(({ severity, survived }) => atLeast(severity, "hang") && survived !== true);
  }

  /** What a line says of an incident that begins soon. */
  lead(line: ConsoleLine, { signature, groups }: SignatureMatch): void {
    const current = this.#ofCaller(line);
    if (current?.goesOnWith(line) === true) {
      current.absorb(line);
      return;
    }
    const said = groups.slice(1).find((group) => group !== undefined);
    const tells = signature.tells === true ? said : this.#lead?.tells;
    this.#lead = { line: this.#lead?.line ?? line, until: line.number + LEAD_LINES, tells };
  }

  /** A lead that nothing followed is none. */
  forgetLead(number = Number.POSITIVE_INFINITY): void {
    if (this.#lead !== undefined && number > this.#lead.until) this.#lead = undefined;
  }

  /** A line that belongs to the report that is there. */
  part(line: ConsoleLine): void {
    this.#ofCaller(line)?.absorb(line);
  }

  /** The end of the machine: of an incident that is there, or of its own. */
  panic(line: ConsoleLine, match: SignatureMatch, boot: Boot): void {
    const reason = match.groups.slice(1).find((group) => group !== undefined) ?? "";
    const own = this.#all.filter(({ caller }) => sameCaller(caller, line.caller));
    const incident =
      own.findLast((one) => endsIn(one, line, match)) ??
      this.#all.findLast((one) => endsIn(one, line, match));
    (incident ?? this.#begin(line, match, boot)).panicked(line, reason);
  }

  /** The first line of an incident, or another of one that is there. */
  headline(line: ConsoleLine, match: SignatureMatch, boot: Boot): void {
    const { role } = match.signature;
    const known = this.#all.findLast((one) =>
      role === "end" ? diesOf(one, line) : continues(one, line, match),
    );
    if (known === undefined) {
      this.#begin(line, match, boot);
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

  #begin(line: ConsoleLine, match: SignatureMatch, boot: Boot): Incident {
    const lead = this.#lead;
    const isLed = lead !== undefined && line.number <= lead.until;
    const begins = isLed ? lead.line.number : line.number;
    this.#lead = undefined;
    const incident = new Incident(this.#source, boot.number, line, match, begins);
    if (isLed && match.signature.class === "warning") incident.told = lead.tells;
    for (const one of this.#all) if (sameCaller(one.caller, line.caller)) one.open = false;
    this.#all.push(incident);
    if (this.#all.length > MAX_RECENT) this.#told.incident(this.#all.shift()!);
    return incident;
  }

  /** The incident whose report a line may go on with. */
  #ofCaller({ caller }: ConsoleLine): Incident | undefined {
    return this.#all.findLast((one) => one.open && sameCaller(one.caller, caller));
  }

  /** A line that no signature knows: of a report, or a sign of life. */
  text(line: ConsoleLine, boot: Boot): void {
    if (this.#all.length === 0) return;
    const current = this.#ofCaller(line);
    const isPart = isReportLine(line.text) || isPrompt(line.text) || current?.reasonIn(line) !== undefined;
    if (current !== undefined && isPart) current.absorb(line);
    if (isPart || line.text.trim() === "") return;
    for (const incident of this.#all) goesOn(incident, line, boot);
    this.#all = this.#all.filter((incident) => {
      const isOver = incident.panic === undefined && !incident.open && !isSoon(incident, line, OVER_SECONDS);
      if (isOver) this.#told.incident(incident);
      return !isOver;
    });
  }

  /** The boot is over. */
  close(): void {
    for (const incident of this.#all) this.#told.incident(incident);
    this.#all = [];
  }

  /** They were those of another boot. @returns how many */
  drop(): number {
    return this.#all.splice(0).length;
  }
}

/** A line that belongs to no report: something lives. */
function goesOn(incident: Incident, line: ConsoleLine, boot: Boot): void {
  if (incident.panic !== undefined) {
    if (++incident.unrelated >= UNRELATED_LINES) incident.open = false;
    return;
  }
  // A shell that waits for somebody is not outlived by what the kernel says meanwhile.
  if (incident.class === "emergency-mode") {
    if (STARTED.test(line.raw)) incident.survived = true;
    return;
  }
  const { uptime } = line;
  const isLater = uptime === undefined ? !hasOwnTime(boot) : uptime >= incident.clock;
  if (isLater || uptime === undefined) incident.unrelated++;
  const enough = incident.closed ? 1 : HANGS.has(incident.class) ? ALIVE_AFTER_HANG : ALIVE_LINES;
  const isLong = uptime !== undefined && incident.clock > 0 && uptime - incident.clock >= ALIVE_SECONDS;
  if (incident.unrelated >= enough || isLong) incident.survived = true;
  if (incident.unrelated >= UNRELATED_LINES) incident.open = false;
}
