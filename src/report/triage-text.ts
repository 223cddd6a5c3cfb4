import { printable } from "../core/text.ts";
import type { VmResult } from "../jobs/triage.ts";
import { alignedColumns } from "./columns.ts";
import {
  failureText,
  momentText,
  placeText,
  sourceOutcome,
  type TriageReportOptions,
  verdictText,
  vmName,
} from "./triage-shared.ts";

/** Entries of the time line and findings that are shown; --json has all. */
const SHOWN = 24;

/** For people: the verdict first, the next command last. */
export function triageText(result: VmResult, options: TriageReportOptions): string {
  const { verdict } = result;
  const failure = failureText(result, options);
  return `${[
    `${printable(vmName(result))}: ${verdictText(result)}  (${verdict.confidence})`,
    ...(failure === undefined ? [] : [`  ${printable(failure)}`]),
    ...section("why", [...verdict.why]),
    ...(verdict.signature === undefined ? [] : [`  signature  ${printable(verdict.signature)}`]),
    ...section(
      "agree",
      verdict.agreements.map(({ text }) => text),
    ),
    ...section(
      "differ",
      verdict.contradictions.map(({ text }) => text),
    ),
    ...table(
      "sources",
      result.sources.map((source) => [source.kind, printable(source.path), sourceOutcome(source)]),
    ),
    ...findingLines(result),
    ...timelineLines(result),
    ...verdict.next.map((command, index) => `  ${index === 0 ? "next:" : "     "} ${printable(command)}`),
  ].join("\n")}\n`;
}

const section = (name: string, sentences: readonly string[]): string[] =>
  sentences.map((sentence, index) => `  ${(index === 0 ? name : "").padEnd(9)}  ${printable(sentence)}`);

const table = (name: string, rows: readonly (readonly string[])[]): string[] =>
  rows.length === 0 ? [] : [`  ${name}`, ...alignedColumns(rows).map((row) => `    ${row}`)];

function findingLines({ verdict: { findings } }: VmResult): string[] {
  const rows = findings
    .slice(0, SHOWN)
    .map(({ severity, evidence: [first], title }) => [
      severity,
      first === undefined ? "" : placeText(first),
      printable(title),
    ]);
  const more = findings.length - rows.length;
  return [...table("findings", rows), ...(more > 0 ? [`    and ${more} more`] : [])];
}

function timelineLines({ verdict: { timeline } }: VmResult): string[] {
  const { entries, notes } = timeline;
  const left = Math.max(0, entries.length - SHOWN) + timeline.omitted;
  const rows = entries
    .slice(-SHOWN)
    .map((entry) => [momentText(entry), entry.sourceKind, entry.severity ?? "", printable(entry.text)]);
  return [
    ...table(left > 0 ? `time line, without the first ${left}` : "time line", rows),
    ...notes.map((note) => `    ${printable(note)}`),
  ];
}
