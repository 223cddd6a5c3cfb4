import type { VmResult } from "../jobs/triage.ts";
import { triageGithub } from "./triage-github.ts";
import { triageHtml } from "./triage-html.ts";
import { triageJson, triageJsonLines } from "./triage-json.ts";
import { triageJunit } from "./triage-junit.ts";
import { triageMarkdown } from "./triage-markdown.ts";
import { hasFailed, type TriageReportOptions } from "./triage-shared.ts";
import { triageTap } from "./triage-tap.ts";
import { triageText } from "./triage-text.ts";

export { hasFailed, triageJson };

/** Forms of the report that are written VM by VM, as each comes. */
export const STREAMED: Readonly<
  Record<"text" | "jsonl" | "github", (result: VmResult, options: TriageReportOptions) => string>
> = { text: triageText, jsonl: triageJsonLines, github: triageGithub };

/** Forms that need all VMs at once. */
export const WHOLE: Readonly<
  Record<
    "junit" | "tap" | "markdown" | "html",
    (results: readonly VmResult[], options: TriageReportOptions) => string
  >
> = { junit: triageJunit, tap: triageTap, markdown: triageMarkdown, html: triageHtml };

/** `3 VMs: 2 clean, 1 guest-panic`; nothing for one. */
export function triageSummary(verdicts: readonly string[]): string {
  if (verdicts.length < 2) return "";
  const counts = new Map<string, number>();
  for (const verdict of verdicts) counts.set(verdict, (counts.get(verdict) ?? 0) + 1);
  return `${verdicts.length} VMs: ${[...counts].map(([name, count]) => `${count} ${name}`).join(", ")}\n`;
}
