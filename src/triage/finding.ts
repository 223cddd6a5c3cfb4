/**
 * What every detector of triage tells, whatever it looked at: findings, each with the lines or bytes it rests on, and
 * events on a time line. The verdict (verdict/) is made of these alone.
 */

/** How bad, worst first. `--fail-on` takes panic, oops, hang and warning. */
export const SEVERITIES = ["panic", "oops", "hang", "warning", "notice"] as const;
export type Severity = (typeof SEVERITIES)[number];

/** Whether one severity is as bad as another, or worse. */
export const atLeast = (severity: Severity, limit: Severity): boolean =>
  SEVERITIES.indexOf(severity) <= SEVERITIES.indexOf(limit);

/** Which side failed. `policy`: somebody told the machine to stop, and it did. */
export type Side = "guest" | "host" | "hardware" | "qemu" | "policy" | "unknown";

/** How much a finding is worth: `certain` can be nothing else, `possible` is a hint. */
export type Trust = "certain" | "likely" | "possible";

/** What a finding rests on. Text is as the input has it: it is escaped where it is shown. */
export interface Evidence {
  /** The input as it was named, `serial.log`, or a part of it, `OVMF_VARS.fd:dump-type0-1-1-1795230000-C`. */
  readonly source: string;
  /** Line of a text, counted from 1. */
  readonly line?: number;
  /** Byte of a binary input. */
  readonly offset?: number;
  /** At most 1000 characters. */
  readonly text: string;
}

/**
 * When something was. Clocks differ: `uptime` is the guest kernel's, in seconds since its boot; `wall` is Unix time in
 * milliseconds, of a QMP event the host's, of a pstore record the guest's.
 */
export interface Moment {
  readonly uptime?: number;
  readonly wall?: number;
}

/** One thing that happened and that somebody should know of. */
export interface Finding {
  /** Which rule told, stable: `console/linux/panic`, `qmp/guest-panicked`, `pstore/record`, `rtas/machine-check`. */
  readonly rule: string;
  /** What kind of failure, stable: `panic`, `null-deref`, `soft-lockup`, `oom`, `machine-check`, `watchdog` … */
  readonly class: string;
  readonly severity: Severity;
  readonly side: Side;
  readonly trust: Trust;
  /** One line: what happened, in the words of whoever said it as far as that serves. */
  readonly title: string;
  /** The same for the same defect, whatever addresses, CPUs, PIDs and times were: see docs/triage.md. */
  readonly signature?: string;
  /** Whether what failed went on afterwards; undefined where that cannot be told. */
  readonly survived?: boolean;
  readonly at?: Moment;
  /** Where it stands among all else of its source, where lines of the evidence do not tell: those of a log's parts. */
  readonly place?: number;
  /** The first is the most telling one. */
  readonly evidence: readonly Evidence[];
  /** Facts of this kind of finding, by name, for machines and for the details of a report: JSON values. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** Something that belongs on the time line without being a failure: a boot, a STOP, a reset, the last line of a log. */
export interface TimelineEvent {
  /** Stable: `console/boot`, `console/end`, `qmp/stop`, `qmp/resume`, `pstore/record` … */
  readonly kind: string;
  readonly at?: Moment;
  readonly source: string;
  readonly line?: number;
  /** As a finding's. */
  readonly place?: number;
  readonly text: string;
}

/** What a detector gives back of one input. */
export interface Detected {
  readonly findings: readonly Finding[];
  readonly events: readonly TimelineEvent[];
}
