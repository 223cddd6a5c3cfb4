import { printable } from "../core/text.ts";
import type { VmResult } from "../jobs/triage.ts";
import type { Finding } from "../triage/finding.ts";
import { SameFailures } from "../triage/verdict/same-failures.ts";
import { linesText, type MakeReport, wholeReport } from "./triage-pieces.ts";
import {
  failureText,
  hasFailed,
  momentText,
  placeText,
  sourceOutcome,
  type TriageReportOptions,
  trace,
  vmName,
} from "./triage-shared.ts";

/** Entries of the time line and findings that are shown; --json has all. */
const SHOWN = 100;

/** The longest run of backticks in a text. */
const longestRun = (text: string): number =>
  Math.max(0, ...[...text.matchAll(/`{1,1000}/g)].slice(0, 1000).map(([run]) => run.length));

/**
 * Text that came from outside, as a code span: no markup, link or mention in it means anything. A `|` is escaped because
 * it would end a cell even there (GFM 0.29, tables).
 */
export function codeSpan(text: string): string {
  const safe = printable(text).replaceAll("`", "'").replaceAll("|", "\\|").trim();
  return safe === "" ? "" : `\`${safe}\``;
}

/** Lines that came from outside, as a block of code that nothing in them can end. */
export function codeBlock(lines: readonly string[]): string[] {
  const safe = lines.map((line) => printable(line));
  const fence = "`".repeat(Math.max(3, longestRun(safe.join("\n")) + 1));
  return [`${fence}text`, ...safe, fence];
}

const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string[] =>
  rows.length === 0 ? [] : [row(head), row(head.map(() => "---")), ...rows.map(row), ""];

/** VMs that are named of those that failed alike. */
const NAMED = 8;

/** A summary as $GITHUB_STEP_SUMMARY, GitLab and issues show it. */
export const markdownReport: MakeReport = (options) => {
  const rows: string[][] = [];
  const same = new SameFailures();
  return {
    add: (result) => {
      same.add(result.vm, result.verdict);
      rows.push([
        codeSpan(vmName(result)),
        hasFailed(result, options) ? `**${result.verdict.verdict}**` : result.verdict.verdict,
        result.verdict.confidence,
        codeSpan(result.verdict.title),
      ]);
      return linesText(vmLines(result, options));
    },
    head: () =>
      linesText([
        "# guestcore triage",
        "",
        ...table(["VM", "verdict", "confidence", "what"], rows),
        ...table(
          ["failed alike", "what", "signature"],
          same
            .end()
            .slice(0, SHOWN)
            .map(({ vms, count, title, signature }) => [
              `${count}: ${codeSpan(vms.slice(0, NAMED).join(", "))}`,
              codeSpan(title),
              codeSpan(signature),
            ]),
        ),
      ]),
    tail: () => "",
  };
};

export const triageMarkdown = (results: readonly VmResult[], options: TriageReportOptions): string =>
  wholeReport(markdownReport, results, options);

function vmLines(result: VmResult, options: TriageReportOptions): string[] {
  const { verdict, sources } = result;
  const failure = failureText(result, options);
  const evidence = trace(result);
  return [
    `## ${codeSpan(vmName(result))}: ${verdict.verdict}`,
    "",
    ...(failure === undefined ? [] : [`${codeSpan(failure)}`, ""]),
    ...[...verdict.why, ...verdict.agreements.map(({ text }) => text)].map((text) => `- ${codeSpan(text)}`),
    ...verdict.contradictions.map(({ text }) => `- **differs:** ${codeSpan(text)}`),
    ...(verdict.signature === undefined ? [] : [`- signature ${codeSpan(verdict.signature)}`]),
    "",
    ...table(
      ["source", "kind", "result"],
      sources.map((source) => [codeSpan(source.path), source.kind, codeSpan(sourceOutcome(source))]),
    ),
    ...findingLines(verdict.findings),
    ...(evidence.length === 0
      ? []
      : [
          "<details><summary>evidence</summary>",
          "",
          ...codeBlock(evidence.map(evidenceText)),
          "",
          "</details>",
          "",
        ]),
    ...table(
      ["when", "source", "what"],
      verdict.timeline.entries
        .slice(-SHOWN)
        .map((entry) => [codeSpan(momentText(entry)), entry.sourceKind, codeSpan(entry.text)]),
    ),
    ...(verdict.next.length === 0 ? [] : ["Next:", "", ...codeBlock(verdict.next), ""]),
  ];
}

function findingLines(findings: readonly Finding[]): string[] {
  const rows = findings
    .slice(0, SHOWN)
    .map(({ severity, title, evidence: [first] }) => [
      severity,
      codeSpan(title),
      first === undefined ? "" : codeSpan(placeText(first)),
    ]);
  const more = findings.length - rows.length;
  return [...table(["severity", "finding", "where"], rows), ...(more > 0 ? [`and ${more} more`, ""] : [])];
}

const evidenceText = (one: Parameters<typeof placeText>[0]): string => `${placeText(one)}: ${one.text}`;
