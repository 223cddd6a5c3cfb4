import type { VmResult } from "../../src/jobs/triage.ts";
import type { Detected, Finding, TimelineEvent } from "../../src/triage/finding.ts";
import { judge } from "../../src/triage/verdict/judge.ts";
import type { MachineFacts, SourceDetected, SourceKind, Verdict } from "../../src/triage/verdict/types.ts";

/** A finding of a console unless said otherwise. */
export const finding = (facts: Partial<Finding> & { readonly line?: number } = {}): Finding => {
  const { line = 10, ...rest } = facts;
  const title = facts.title ?? "Kernel panic - not syncing: Fatal exception";
  return {
    rule: "console/linux/panic",
    class: "panic",
    severity: "panic",
    side: "guest",
    trust: "certain",
    title,
    evidence: [{ source: "serial.log", line, text: title }],
    ...rest,
  };
};

export const oops = (facts: Partial<Finding> & { readonly line?: number } = {}): Finding =>
  finding({
    rule: "console/linux/null-deref",
    class: "null-deref",
    severity: "oops",
    title: "BUG: kernel NULL pointer dereference in foo",
    ...facts,
  });

export const lockup = (facts: Partial<Finding> = {}): Finding =>
  finding({
    class: "soft-lockup",
    severity: "hang",
    title: "BUG: soft lockup - CPU#0 stuck in foo",
    ...facts,
  });

export const event = (kind: string, facts: Partial<TimelineEvent> = {}): TimelineEvent => ({
  kind,
  source: kind.startsWith("qmp/") ? "qmp.jsonl" : "serial.log",
  text: kind,
  ...facts,
});

export const panicEvent = (facts: Partial<Finding> = {}): Finding =>
  finding({
    rule: "qmp/guest-panicked",
    class: "guest-panicked",
    title: "guest panicked; QEMU paused it",
    survived: false,
    evidence: [{ source: "qmp.jsonl", line: 4, text: "{}" }],
    ...facts,
  });

export const source = (
  kind: SourceKind,
  { findings = [], events = [] }: Partial<Detected> = {},
): SourceDetected => ({
  source: SOURCES[kind] ?? kind,
  kind,
  findings,
  events,
});

const SOURCES: Partial<Record<SourceKind, string>> = {
  console: "serial.log",
  qmp: "qmp.jsonl",
  pstore: "pstore",
};

/** One VM as the job gives it, of a verdict. */
export const vmOf = (
  sources: readonly SourceDetected[],
  { vm = "web", machine, ...verdict }: Partial<Verdict> & { vm?: string; machine?: MachineFacts } = {},
): VmResult => ({
  vm,
  verdict: { ...judge(sources, { machine }), ...verdict },
  sources: sources.map(({ source: path, kind, findings, events }) => ({
    path,
    kind,
    label: kind,
    size: 1,
    findings,
    events: events.length,
  })),
  machine,
  warnings: [],
  input: [],
});
