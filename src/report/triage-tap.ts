import { printable } from "../core/text.ts";
import type { VmResult } from "../jobs/triage.ts";
import { failureText, hasFailed, type TriageReportOptions, verdictText, vmName } from "./triage-shared.ts";

/** A description of TAP: `#` would begin a directive, a backslash escapes. */
const description = (text: string): string => printable(text).replace(/[\\#]/g, "\\$&");
/** JSON is YAML too. */
const yaml = (text: string): string => JSON.stringify(printable(text));

/** TAP version 14: one test for each VM. */
export const triageTap = (results: readonly VmResult[], options: TriageReportOptions): string =>
  `${[
    "TAP version 14",
    `1..${results.length}`,
    ...results.flatMap((result, index) => testLines(result, index + 1, options)),
  ].join("\n")}\n`;

function testLines(result: VmResult, number: number, options: TriageReportOptions): string[] {
  const { verdict } = result;
  const ok = hasFailed(result, options) ? "not ok" : "ok";
  const failure = failureText(result, options);
  const [at] = verdict.principal?.evidence ?? [];
  return [
    `${ok} ${number} - ${description(`${vmName(result)}: ${verdictText(result)}`)}`,
    "  ---",
    `  verdict: ${verdict.verdict}`,
    `  confidence: ${verdict.confidence}`,
    `  side: ${verdict.side}`,
    ...(verdict.signature === undefined ? [] : [`  signature: ${yaml(verdict.signature)}`]),
    ...(at === undefined ? [] : [`  file: ${yaml(at.source)}`]),
    ...(at?.line === undefined ? [] : [`  line: ${at.line}`]),
    ...(failure === undefined ? [] : [`  failure: ${yaml(failure)}`]),
    `  why: ${yaml(verdict.why.join(" "))}`,
    "  ...",
  ];
}
