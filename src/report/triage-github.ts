import { printable } from "../core/text.ts";
import type { VmResult } from "../jobs/triage.ts";
import { atLeast, type Evidence, type Finding } from "../triage/finding.ts";
import {
  decidingFinding,
  failureText,
  hasFailed,
  type TriageReportOptions,
  verdictText,
  vmName,
} from "./triage-shared.ts";

/** Actions shows ten of a kind for each step. */
const SHOWN = 10;

/** Data of a workflow command: nothing in it can end the line or begin another (actions/toolkit, escapeData). */
const data = (text: string): string => printable(text).replaceAll("%", "%25");
/** Value of a property of one: neither can it begin another property (escapeProperty). */
const property = (text: string): string => data(text).replaceAll(":", "%3A").replaceAll(",", "%2C");

function annotation(level: string, title: string, text: string, at: Evidence | undefined): string {
  const properties = [
    ...(at === undefined ? [] : [`file=${property(at.source)}`]),
    ...(at?.line === undefined ? [] : [`line=${at.line}`]),
    `title=${property(title)}`,
  ];
  return `::${level} ${properties.join(",")}::${data(text)}\n`;
}

/** Workflow commands of GitHub Actions: the verdict of each VM, then what else was found. */
export function triageGithub(result: VmResult, options: TriageReportOptions): string {
  const { verdict } = result;
  const level = levelOf(result, options);
  const decides = decidingFinding(result, options);
  const failure = failureText(result, options);
  const [at] = (decides ?? verdict.principal)?.evidence ?? [];
  const others = verdict.findings
    .filter((finding) => finding !== verdict.principal && atLeast(finding.severity, "warning"))
    .slice(0, SHOWN);
  const name = vmName(result);
  return [
    annotation(
      level,
      failure === undefined ? `${name}: ${verdict.verdict}` : `${name}: ${verdict.verdict}, ${failure}`,
      `${verdictText(result)} (${verdict.confidence}). ${verdict.why.join(" ")}`,
      at,
    ),
    ...others.map((finding) => findingAnnotation(name, finding, level, options)),
  ].join("");
}

/** Mildest first. */
const LEVELS = ["notice", "warning", "error"] as const;
type Level = (typeof LEVELS)[number];

/** A guest that did not end well is worth a warning whatever a pipeline fails of. */
function levelOf(result: VmResult, options: TriageReportOptions): Level {
  if (hasFailed(result, options)) return "error";
  const { verdict, severity } = result.verdict;
  return verdict !== "clean" && severity !== undefined && atLeast(severity, "hang") ? "warning" : "notice";
}

/** What was outlived is no worse than the verdict. */
function findingAnnotation(
  name: string,
  { severity, class: what, title, evidence: [at] }: Finding,
  most: Level,
  { failOn }: TriageReportOptions,
): string {
  const own: Level = atLeast(severity, failOn) ? "error" : "warning";
  const level = LEVELS.indexOf(own) > LEVELS.indexOf(most) ? most : own;
  return annotation(level, `${name}: ${severity}: ${what}`, title, at);
}
