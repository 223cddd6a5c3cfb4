import type { Finding, Moment, Severity, TimelineEvent } from "../triage/finding.ts";

/** What `--fail-on` takes, worst first: a notice is nothing to fail of. */
export const FAIL_ON: readonly Exclude<Severity, "notice">[] = ["panic", "oops", "hang", "warning"];

const momentJson = (at: Moment | undefined) =>
  at === undefined ? null : { uptime: at.uptime ?? null, wall: at.wall ?? null };

/** A finding as every command of triage writes it: `finding` of schema/common.json. */
export const findingJson = (finding: Finding) => ({
  rule: finding.rule,
  class: finding.class,
  severity: finding.severity,
  side: finding.side,
  trust: finding.trust,
  title: finding.title,
  signature: finding.signature ?? null,
  survived: finding.survived ?? null,
  at: momentJson(finding.at),
  evidence: finding.evidence.map(({ source, line, offset, text }) => ({
    source,
    line: line ?? null,
    offset: offset ?? null,
    text,
  })),
  details: finding.details ?? {},
});

/** `event` of schema/common.json. */
export const eventJson = ({ kind, at, source, line, text }: TimelineEvent) => ({
  kind,
  at: momentJson(at),
  source,
  line: line ?? null,
  text,
});
