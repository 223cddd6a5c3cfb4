import type { VmResult } from "../jobs/triage.ts";
import { triageGithub } from "./triage-github.ts";
import { htmlReport } from "./triage-html.ts";
import { jsonReport, triageJsonLines } from "./triage-json.ts";
import { junitReport } from "./triage-junit.ts";
import { markdownReport } from "./triage-markdown.ts";
import type { MakeReport } from "./triage-pieces.ts";
import { hasFailed, type TriageReportOptions } from "./triage-shared.ts";
import { tapReport } from "./triage-tap.ts";
import { triageText } from "./triage-text.ts";

export { hasFailed };

/** Forms of the report that are written VM by VM, as each comes. */
export const STREAMED: Readonly<
  Record<"text" | "jsonl" | "github", (result: VmResult, options: TriageReportOptions) => string>
> = { text: triageText, jsonl: triageJsonLines, github: triageGithub };

/** Forms that begin with what is known of all VMs. */
export const PIECEWISE: Readonly<Record<"json" | "junit" | "tap" | "markdown" | "html", MakeReport>> = {
  json: jsonReport,
  junit: junitReport,
  tap: tapReport,
  markdown: markdownReport,
  html: htmlReport,
};

/** `3 VMs: 2 clean, 1 guest-panic`; nothing for one. */
export function triageSummary(verdicts: readonly string[]): string {
  if (verdicts.length < 2) return "";
  const counts = new Map<string, number>();
  for (const verdict of verdicts) counts.set(verdict, (counts.get(verdict) ?? 0) + 1);
  return `${verdicts.length} VMs: ${[...counts].map(([name, count]) => `${count} ${name}`).join(", ")}\n`;
}
