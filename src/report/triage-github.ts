import { printable } from "../core/text.ts";
import type { VmResult } from "../jobs/triage.ts";
import { atLeast, type Evidence, type Finding } from "../triage/finding.ts";
import { hasFailed, type TriageReportOptions, verdictText, vmName } from "./triage-shared.ts";

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
  const failed = hasFailed(result, options);
  const [at] = verdict.principal?.evidence ?? [];
  const others = verdict.findings
    .filter((finding) => finding !== verdict.principal && atLeast(finding.severity, "warning"))
    .slice(0, SHOWN);
  return [
    annotation(
      failed ? "error" : "notice",
      `${vmName(result)}: ${verdict.verdict}`,
      `${verdictText(result)} (${verdict.confidence}). ${verdict.why.join(" ")}`,
      at,
    ),
    ...others.map((finding) => findingAnnotation(finding, options)),
  ].join("");
}

const findingAnnotation = (
  { severity, class: name, title, evidence: [at] }: Finding,
  { failOn }: TriageReportOptions,
): string => annotation(atLeast(severity, failOn) ? "error" : "warning", `${severity}: ${name}`, title, at);
