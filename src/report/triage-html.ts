import { printable } from "../core/text.ts";
import { VERSION } from "../core/version.ts";
import type { VmResult } from "../jobs/triage.ts";
import type { TimelineEntry } from "../triage/verdict/types.ts";
import { TRIAGE_CSS } from "./triage-html-style.ts";
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

/** Entries of a time line and findings that are shown; --json has all. */
const SHOWN = 500;

/** Text as text: control characters are shown, markup is none. */
export const htmlText = (text: string): string =>
  printable(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/** One file without scripts that needs nothing else: the policy forbids the browser to fetch or run anything. */
export const htmlReport: MakeReport = (options) => {
  /** Of each VM what the table of all has, and the title of the page. */
  const rows: string[][] = [];
  let title = "";
  return {
    add: (result) => {
      const index = rows.length;
      rows.push(overviewRow(result, index, options));
      title = `${vmName(result)}: ${result.verdict.verdict}`;
      return linesText(section(result, index, options));
    },
    head: () =>
      linesText([
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">`,
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        `<title>${htmlText(rows.length === 1 ? title : `triage of ${rows.length} VMs`)}</title>`,
        `<style>${TRIAGE_CSS}</style>`,
        "</head>",
        "<body>",
        ...(rows.length > 1 ? table("", ["VM", "verdict", "confidence", "what"], rows) : []),
      ]),
    tail: () => linesText([`<footer>guestcore ${htmlText(VERSION)}</footer>`, "</body>", "</html>"]),
  };
};

export const triageHtml = (results: readonly VmResult[], options: TriageReportOptions): string =>
  wholeReport(htmlReport, results, options);

const badge = (result: VmResult, options: TriageReportOptions): string =>
  `<span class="badge ${hasFailed(result, options) ? "bad" : "good"}">${result.verdict.verdict}</span>`;

const overviewRow = (result: VmResult, index: number, options: TriageReportOptions): string[] => [
  `<a href="#vm${index}">${htmlText(vmName(result))}</a>`,
  badge(result, options),
  result.verdict.confidence,
  htmlText(result.verdict.title),
];

/** @param rows cells that are HTML already */
const table = (heading: string, head: readonly string[], rows: readonly (readonly string[])[]): string[] =>
  rows.length === 0
    ? []
    : [
        ...(heading === "" ? [] : [`<h3>${heading}</h3>`]),
        "<table>",
        `<tr>${head.map((name) => `<th>${name}</th>`).join("")}</tr>`,
        ...rows.map((cells) => `<tr>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`),
        "</table>",
      ];

const list = (heading: string, name: string, items: readonly string[]): string[] =>
  items.length === 0
    ? []
    : [
        `<h3>${heading}</h3>`,
        `<ul class="${name}">`,
        ...items.map((item) => `<li>${htmlText(item)}</li>`),
        "</ul>",
      ];

function section(result: VmResult, index: number, options: TriageReportOptions): string[] {
  const { verdict } = result;
  const failure = failureText(result, options);
  return [
    `<section id="vm${index}">`,
    `<h1>${badge(result, options)} ${htmlText(vmName(result))}</h1>`,
    `<p class="title">${htmlText(verdict.title)}</p>`,
    ...(failure === undefined ? [] : [`<p class="failure">${htmlText(failure)}</p>`]),
    "<dl>",
    ...fact("side that failed", verdict.side),
    ...fact("confidence", verdict.confidence),
    ...fact("signature", verdict.signature),
    "</dl>",
    ...list("Why", "why", verdict.why),
    ...list(
      "Sources that agree",
      "agree",
      verdict.agreements.map(({ text }) => text),
    ),
    ...list(
      "Sources that differ",
      "differ",
      verdict.contradictions.map(({ text }) => text),
    ),
    ...table(
      "Sources",
      ["kind", "source", "what it is", "result"],
      result.sources.map((source) => [
        source.kind,
        htmlText(source.path),
        htmlText(source.label),
        htmlText(sourceOutcome(source)),
      ]),
    ),
    ...evidence(result),
    ...table(
      "Findings",
      ["severity", "side", "where", "what"],
      verdict.findings
        .slice(0, SHOWN)
        .map(({ severity, side, title, evidence: [first] }) => [
          `<span class="${severity}">${severity}</span>`,
          side,
          first === undefined ? "" : htmlText(placeText(first)),
          htmlText(title),
        ]),
    ),
    ...table(
      "Time line",
      ["when", "source", "what"],
      verdict.timeline.entries.slice(-SHOWN).map(timelineRow),
    ),
    ...verdict.timeline.notes.map((note) => `<p class="note">${htmlText(note)}</p>`),
    ...(verdict.next.length === 0
      ? []
      : ["<h3>Next</h3>", `<pre>${verdict.next.map(htmlText).join("\n")}</pre>`]),
    "</section>",
  ];
}

const fact = (name: string, value: string | undefined): string[] =>
  value === undefined ? [] : [`<dt>${name}</dt><dd>${htmlText(value)}</dd>`];

function evidence(result: VmResult): string[] {
  const lines = trace(result);
  if (lines.length === 0) return [];
  const text = lines.map((one) => `${htmlText(placeText(one)).padEnd(12)}  ${htmlText(one.text)}`);
  return ["<h3>Evidence</h3>", `<pre>${text.join("\n")}</pre>`];
}

const timelineRow = (entry: TimelineEntry): string[] => [
  htmlText(momentText(entry)),
  `<span class="lane ${entry.sourceKind}">${entry.sourceKind}</span>`,
  entry.severity === undefined
    ? htmlText(entry.text)
    : `<span class="${entry.severity}">${entry.severity}</span> ${htmlText(entry.text)}`,
];
