import { printable } from "../core/text.ts";
import type { VmResult } from "../jobs/triage.ts";
import { atLeast, type Finding } from "../triage/finding.ts";
import type { SourceKind } from "../triage/verdict/types.ts";
import { linesText, type MakeReport, wholeReport } from "./triage-pieces.ts";
import {
  decidingFinding,
  failureText,
  findingsOf,
  hasFailed,
  placeText,
  printableLines,
  sourceOutcome,
  type TriageReportOptions,
  trace,
  verdictText,
  vmName,
} from "./triage-shared.ts";

/** Characters that no XML 1.0 document may have, however written, and that `printable` leaves: U+FFFE, U+FFFF. */
const NOT_XML = /[\ufffe\uffff]/g;

/** Text for an attribute or an element: nothing of it is markup, and none of it is forbidden in XML 1.0. */
export const xmlText = (text: string): string =>
  printableLines(text)
    .replace(NOT_XML, (c) => `\\u${c.charCodeAt(0).toString(16)}`)
    .replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`)
    .replace(/[\n\t]/g, (c) => `&#${c.charCodeAt(0)};`);

interface Case {
  readonly name: string;
  readonly failure?: { readonly type: string; readonly message: string; readonly text: string };
  readonly skipped?: string;
}

/** A test suite for each VM: the verdict, and a test case for each kind of source. */
export const junitReport: MakeReport = (options) => {
  const all: Counts = { tests: 0, failures: 0, skipped: 0 };
  return {
    add: (result) => {
      const cases = casesOf(result, options);
      const counts = countsOf(cases);
      all.tests += counts.tests;
      all.failures += counts.failures;
      all.skipped += counts.skipped;
      return linesText(suiteLines(result, cases));
    },
    head: () =>
      linesText([
        '<?xml version="1.0" encoding="UTF-8"?>',
        `<testsuites name="guestcore triage" ${countsText(all)}>`,
      ]),
    tail: () => "</testsuites>\n",
  };
};

export const triageJunit = (results: readonly VmResult[], options: TriageReportOptions): string =>
  wholeReport(junitReport, results, options);

interface Counts {
  tests: number;
  failures: number;
  skipped: number;
}

const countsOf = (cases: readonly Case[]): Counts => ({
  tests: cases.length,
  failures: cases.filter(({ failure }) => failure !== undefined).length,
  skipped: cases.filter(({ skipped }) => skipped !== undefined).length,
});

const countsText = ({ tests, failures, skipped }: Counts): string =>
  `tests="${tests}" failures="${failures}" errors="0" skipped="${skipped}" time="0"`;

function suiteLines(result: VmResult, cases: readonly Case[]): string[] {
  const name = xmlText(vmName(result));
  return [
    `  <testsuite name="${name}" ${countsText(countsOf(cases))}>`,
    ...cases.flatMap((one) => caseLines(one, name)),
    `    <system-out>${xmlText(outputOf(result))}</system-out>`,
    "  </testsuite>",
  ];
}

function caseLines({ name, failure, skipped }: Case, suite: string): string[] {
  const open = `    <testcase classname="${suite}" name="${xmlText(name)}" time="0"`;
  if (failure !== undefined) {
    const { type, message, text } = failure;
    const attributes = `type="${xmlText(type)}" message="${xmlText(message)}"`;
    return [`${open}>`, `      <failure ${attributes}>${xmlText(text)}</failure>`, "    </testcase>"];
  }
  if (skipped === undefined) return [`${open}/>`];
  return [`${open}>`, `      <skipped message="${xmlText(skipped)}"/>`, "    </testcase>"];
}

function casesOf(result: VmResult, options: TriageReportOptions): Case[] {
  const { sources } = result;
  const failed = hasFailed(result, options);
  const whole: Case = {
    name: "verdict",
    ...(failed ? { failure: failureOf(result, options) } : {}),
  };
  const kinds = [...new Set(sources.map(({ kind }) => kind))].filter(
    (kind) => kind !== "cmdline" && kind !== "unknown",
  );
  return [whole, ...kinds.map((kind) => caseOf(kind, result, options))];
}

function failureOf(result: VmResult, options: TriageReportOptions): NonNullable<Case["failure"]> {
  const decides = decidingFinding(result, options);
  const text = whyText(result);
  if (decides === undefined) return { type: result.verdict.verdict, message: verdictText(result), text };
  const message = failureText(result, options)!;
  return { type: decides.class, message, text: [message, findingText(decides), text].join("\n") };
}

function caseOf(kind: SourceKind, result: VmResult, { failOn }: TriageReportOptions): Case {
  const bad = findingsOf(result, kind).filter(({ severity }) => atLeast(severity, failOn));
  const [worst] = bad;
  if (worst !== undefined) {
    return {
      name: kind,
      failure: { type: worst.class, message: worst.title, text: bad.map(findingText).join("\n\n") },
    };
  }
  const sources = result.sources.filter((source) => source.kind === kind);
  const unread = sources.find(({ problem }) => problem !== undefined);
  return unread !== undefined && sources.every(({ problem }) => problem !== undefined)
    ? { name: kind, skipped: sourceOutcome(unread) }
    : { name: kind };
}

const findingText = ({ title, severity, evidence }: Finding): string =>
  [`${severity}: ${title}`, ...evidence.slice(0, 200).map((one) => `${placeText(one)}: ${one.text}`)].join(
    "\n",
  );

const whyText = (result: VmResult): string =>
  [
    ...result.verdict.why,
    ...result.verdict.contradictions.map(({ text }) => text),
    ...trace(result).map((one) => `${placeText(one)}: ${one.text}`),
    ...result.verdict.next.map((command) => `next: ${printable(command)}`),
  ].join("\n");

const outputOf = (result: VmResult): string =>
  [
    `${verdictText(result)} (${result.verdict.confidence})`,
    ...result.sources.map((source) => `${source.kind} ${source.path}: ${sourceOutcome(source)}`),
  ].join("\n");
