import { printable } from "../core/text.ts";
import type { VmResult } from "../jobs/triage.ts";
import { linesText, type MakeReport, wholeReport } from "./triage-pieces.ts";
import { failureText, hasFailed, type TriageReportOptions, verdictText, vmName } from "./triage-shared.ts";

/** A description of TAP: `#` would begin a directive, a backslash escapes. */
const description = (text: string): string => printable(text).replace(/[\\#]/g, "\\$&");
/** JSON is YAML too. */
const yaml = (text: string): string => JSON.stringify(printable(text));

/** TAP version 14: one test for each VM. */
export const tapReport: MakeReport = (options) => {
  let count = 0;
  return {
    add: (result) => linesText(testLines(result, ++count, options)),
    head: () => linesText(["TAP version 14", `1..${count}`]),
    tail: () => "",
  };
};

export const triageTap = (results: readonly VmResult[], options: TriageReportOptions): string =>
  wholeReport(tapReport, results, options);

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
