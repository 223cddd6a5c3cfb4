import type { Warning } from "../core/warnings.ts";
import type { VmResult } from "../jobs/triage.ts";
import { type SameFailure, SameFailures } from "../triage/verdict/same-failures.ts";
import type { Verdict } from "../triage/verdict/types.ts";
import { envelope, type InputFacts, jsonElement, jsonLine } from "./json.ts";
import { findingJson } from "./triage-finding.ts";
import type { MakeReport } from "./triage-pieces.ts";
import { hasFailed, type TriageReportOptions } from "./triage-shared.ts";

const timelineJson = ({ entries, omitted, notes }: Verdict["timeline"]) => ({
  entries: entries.map(({ clock, wall, uptime, source, sourceKind, line, kind, severity, text }) => ({
    clock,
    wall: wall ?? null,
    uptime: uptime ?? null,
    source,
    sourceKind,
    line: line ?? null,
    kind,
    severity: severity ?? null,
    text,
  })),
  omitted,
  notes,
});

/** One of `result.vms` of guestcore/triage/1. */
export function vmJson(result: VmResult, options: TriageReportOptions) {
  const { vm, verdict, sources, machine } = result;
  return {
    vm,
    verdict: verdict.verdict,
    confidence: verdict.confidence,
    severity: verdict.severity ?? null,
    failed: hasFailed(result, options),
    side: verdict.side,
    title: verdict.title,
    rule: verdict.rule,
    signature: verdict.signature ?? null,
    why: verdict.why,
    agreements: verdict.agreements,
    contradictions: verdict.contradictions,
    /** Of `findings`; null where it rests on events alone. */
    principal:
      verdict.principal === undefined ? null : nullIfNone(verdict.findings.indexOf(verdict.principal)),
    machine:
      machine === undefined
        ? null
        : {
            name: machine.name ?? null,
            pvpanic: machine.pvpanic,
            noReboot: machine.noReboot,
            panicAction: machine.panicAction ?? null,
            panicTimeout: machine.panicTimeout ?? null,
          },
    sources: sources.map(({ path, kind, label, size, findings, events, problem }) => ({
      path,
      kind,
      label,
      size,
      findings: findings.length,
      events,
      problem: problem ?? null,
    })),
    findings: verdict.findings.map(findingJson),
    timeline: timelineJson(verdict.timeline),
    next: verdict.next,
  };
}

const nullIfNone = (index: number): number | null => (index < 0 ? null : index);

function sameOf(results: readonly VmResult[]): readonly SameFailure[] {
  const same = new SameFailures();
  for (const { vm, verdict } of results) same.add(vm, verdict);
  return same.end();
}

/** `result` of guestcore/triage/1. */
export const triageJson = (results: readonly VmResult[], options: TriageReportOptions) => ({
  failOn: options.failOn,
  failed: results.some((result) => hasFailed(result, options)),
  same: sameOf(results),
  vms: results.map((result) => vmJson(result, options)),
});

/** The same in its envelope; of VMs that were added it keeps their files and warnings. */
export const jsonReport: MakeReport = (options) => {
  const inputs: InputFacts[] = [];
  const warnings: Warning[] = [];
  const same = new SameFailures();
  let failed = false;
  let count = 0;
  /** The document without the VMs, in two: they stand where it ends its only empty list behind all else. */
  const halves = (): readonly [string, string] => {
    const text = envelope("triage", inputs, warnings, {
      failOn: options.failOn,
      failed,
      same: same.end(),
      vms: [],
    });
    const at = text.lastIndexOf("[]") + 1;
    return [text.slice(0, at), text.slice(at)];
  };
  return {
    add: (result) => {
      for (const { path, size } of result.input) inputs.push({ path, size });
      warnings.push(...result.warnings);
      same.add(result.vm, result.verdict);
      failed ||= hasFailed(result, options);
      const gap = count++ === 0 ? "\n" : ",\n";
      return gap + jsonElement(vmJson(result, options), VM_DEPTH);
    },
    head: () => halves()[0],
    tail: () => (count === 0 ? "" : "\n    ") + halves()[1],
  };
};

/** VMs are elements of a list in an object in an object. */
const VM_DEPTH = 3;

/** Lines of --jsonl for one VM: each finding, then the verdict without them. */
export function triageJsonLines(result: VmResult, options: TriageReportOptions): string {
  const { findings, timeline: _, ...verdict } = vmJson(result, options);
  return [
    ...findings.map((finding) => ({ type: "finding", vm: result.vm, ...finding })),
    { type: "verdict", ...verdict },
  ]
    .map(jsonLine)
    .join("");
}
