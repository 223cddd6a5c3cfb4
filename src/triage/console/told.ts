import { atLeast, type Finding, type Severity, type TimelineEvent } from "../finding.ts";
import type { Boot } from "./boots.ts";
import { decoded } from "./decoded.ts";
import type { Incident } from "./incident.ts";
import type { ConsoleLine } from "./prefix.ts";

/** A console that tells more has told enough; how many are left out is counted. */
export const MAX_FINDINGS = 256;
const MAX_EVENTS = 256;

/** What a console told so far: findings of incidents that are over, and events. */
export class Told {
  readonly findings: Finding[] = [];
  readonly events: TimelineEvent[] = [];
  /** Findings beyond those that are kept. */
  leftOut = 0;
  readonly #source: string;

  constructor(source: string) {
    this.#source = source;
  }

  event(
    kind: string,
    { number, uptime, wall }: Pick<ConsoleLine, "number" | "uptime" | "wall">,
    text: string,
  ): void {
    if (this.events.length >= MAX_EVENTS) return;
    const at = { ...(uptime === undefined ? {} : { uptime }), ...(wall === undefined ? {} : { wall }) };
    this.events.push({ kind, at, source: this.#source, line: number, text });
  }

  /** An incident is over: a finding, or one more time that of the same boot which it is again. */
  incident(incident: Incident): void {
    const finding = incident.finding();
    const { findings } = this;
    const same = findings.findIndex(
      ({ signature, details, severity }) =>
        severity !== "panic" && signature === finding.signature && details?.boot === incident.boot,
    );
    const before = findings[same];
    if (before !== undefined && finding.severity === before.severity) {
      const { count, ...rest } = before.details as { count: number };
      const details = { ...rest, count: count + incident.count, lastLine: incident.last };
      const { survived = before.survived } = finding;
      findings[same] = { ...before, ...(survived === undefined ? {} : { survived }), details };
      return;
    }
    if (findings.length < MAX_FINDINGS) findings.push(finding);
    else {
      this.leftOut++;
      // What is worse than the least of those kept takes its place.
      const least = findings.findLastIndex(({ severity }) => !atLeast(severity, finding.severity));
      if (least !== -1) findings.splice(least, 1, finding);
    }
  }

  /** Takes the last event back, if it was told of that line. */
  takeBack(line: number): void {
    if (this.events.at(-1)?.line === line) this.events.pop();
  }

  /** Forgets all since a boot began that was none. @returns how many findings that were */
  forget({ number, firstLine }: Boot): number {
    const first = this.findings.findIndex(({ details }) => details?.boot === number);
    const dropped = first === -1 ? 0 : this.findings.splice(first).length;
    const from = this.events.findIndex(({ line }) => line !== undefined && line >= firstLine);
    if (from !== -1) this.events.splice(from);
    return dropped;
  }

  /** @returns how many findings that were */
  forgetAll(): number {
    this.events.length = 0;
    const dropped = this.findings.splice(0).length + this.leftOut;
    this.leftOut = 0;
    return dropped;
  }

  /** The last line is told of however many events there are. */
  end({ number, raw }: ConsoleLine, { uptime }: Boot): void {
    this.events.push({
      kind: "console/end",
      ...(uptime === undefined ? {} : { at: { uptime } }),
      source: this.#source,
      line: number,
      text: decoded(raw),
    });
  }
}

/** The worst of some severities. */
export const worstOf = (all: readonly { readonly severity: Severity }[]): Severity | undefined =>
  all.reduce<Severity | undefined>(
    (worst, { severity }) => (worst === undefined || atLeast(severity, worst) ? severity : worst),
    undefined,
  );
