import type { VmResult } from "../jobs/triage.ts";
import type { TriageReportOptions } from "./triage-shared.ts";

/**
 * A report that is made VM by VM: what stands for each VM is given at once and need not be kept; what stands before and
 * behind all of them is known at the end, of the little that is.
 */
export interface PiecewiseReport {
  add(result: VmResult): string;
  /** Known when all VMs were added. */
  head(): string;
  tail(): string;
}

export type MakeReport = (options: TriageReportOptions) => PiecewiseReport;

/** The whole report of VMs that are there at once. */
export function wholeReport(
  make: MakeReport,
  results: readonly VmResult[],
  options: TriageReportOptions,
): string {
  const report = make(options);
  const body = results.map((result) => report.add(result));
  return [report.head(), ...body, report.tail()].join("");
}

/** Lines, each with its end. */
export const linesText = (lines: readonly string[]): string => lines.map((line) => `${line}\n`).join("");
