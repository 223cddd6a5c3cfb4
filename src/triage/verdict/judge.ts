import { atLeast, type Finding, SEVERITIES, type Severity, type Trust } from "../finding.ts";
import { compareSources } from "./compare.ts";
import { nextSteps } from "./next.ts";
import type { VerdictRule } from "./rule.ts";
import { VERDICT_RULES } from "./rules.ts";
import { isSame } from "./same.ts";
import { type Occurrence, readSigns, type Signs } from "./signs.ts";
import { mergeTimeline } from "./timeline.ts";
import type { JudgeContext, SourceDetected, Verdict } from "./types.ts";

/** Findings kept, the worst first; a log can have any number. */
const MAX_FINDINGS = 1000;
/** Verdicts that a contradiction of the sources makes less sure. */
const UNSURE_BY = new Set(["panic-but-shutdown", "pstore-without-console", "host-fault-and-panic"]);

/**
 * Makes one verdict of all that the detectors found in the sources of one VM.
 * @param sources of one VM, in the order in which they are to be told of
 */
export function judge(sources: readonly SourceDetected[], { machine }: JudgeContext = {}): Verdict {
  // What decides is read in an order of its own, so that of two alike the same one is taken however they were named.
  const signs = readSigns(sources.toSorted((a, b) => compare(a.source, b.source) || compare(a.kind, b.kind)));
  const { rule, rests } = decide(signs, machine);
  const { agreements, contradictions } = compareSources(signs, machine);
  const principal = principalOf(rule, rests, signs);
  const findings = sources
    .flatMap((source) => source.findings)
    .toSorted((a, b) => rank(a.severity) - rank(b.severity))
    .slice(0, MAX_FINDINGS);
  const side = rule.side === "unknown" || rule.side === "policy" ? rule.side : sideOf(principal, rule);
  return {
    verdict: rule.verdict,
    confidence: confidenceOf(
      rule,
      rests,
      contradictions.map(({ rule }) => rule),
    ),
    severity: worst([rule.severity, findings[0]?.severity]),
    side,
    title: titleOf(rule, principal, findings),
    rule: rule.id,
    why: [
      rule.whyOf?.[principal?.class ?? ""] ??
        (findings.some(isFailure) ? rule.outlived?.why : undefined) ??
        rule.why,
      ...restsOn(rests),
      ...whyMore(rule, rests, signs),
    ],
    signature: principal?.signature,
    principal,
    findings,
    timeline: mergeTimeline(sources, signs),
    agreements,
    contradictions,
    next: nextSteps(rule.verdict, sources, signs, machine),
  };
}

function decide(
  signs: Signs,
  machine: JudgeContext["machine"],
): { readonly rule: VerdictRule; readonly rests: readonly Occurrence[] } {
  for (const rule of VERDICT_RULES) {
    const rests = rule.when(signs, machine);
    if (rests !== undefined) return { rule, rests };
  }
  throw new Error("the last rule holds always");
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

const rank = (severity: Severity): number => SEVERITIES.indexOf(severity);

function worst(severities: readonly (Severity | undefined)[]): Severity | undefined {
  const known = severities.filter((one) => one !== undefined && one !== "notice") as Severity[];
  return known.sort((a, b) => rank(a) - rank(b))[0];
}

/** The finding a verdict rests on: the first, where several sources have the same the one with a signature. */
function principalOf(
  rule: VerdictRule,
  rests: readonly Occurrence[],
  { findings }: Signs,
): Finding | undefined {
  const first = rests.find(({ finding }) => finding !== undefined)?.finding;
  if (first === undefined) {
    // A guest that ended well may have had a failure that it outlived: that is told by findings, not by the verdict.
    return rule.severity === undefined
      ? undefined
      : findings.find(
          ({ finding, ofCrashKernel }) =>
            finding?.signature !== undefined && finding.survived !== true && ofCrashKernel !== true,
        )?.finding;
  }
  if (first.rule === BARE_RECORD) {
    return (
      rests.find(({ finding }) => finding !== undefined && finding.rule !== BARE_RECORD)?.finding ?? first
    );
  }
  if (first.signature !== undefined) return first;
  return (
    rests.find(({ finding }) => finding?.signature !== undefined && isSame(finding, first))?.finding ?? first
  );
}

/** A record of pstore says that there was a panic; what the console's rules find in its text says which. */
const BARE_RECORD = "pstore/record";

const sideOf = (principal: Finding | undefined, rule: VerdictRule): Verdict["side"] =>
  principal === undefined || principal.side === "unknown" || principal.side === "policy"
    ? rule.side
    : principal.side;

/** What a guest that ended well outlived is more than that it did. */
function titleOf(
  { verdict, title, outlived }: VerdictRule,
  principal: Finding | undefined,
  findings: readonly Finding[],
): string {
  if (principal !== undefined && principal.title !== "") return principal.title;
  const worst = findings.find(isFailure);
  if (worst === undefined) return title;
  return verdict === "clean" ? `outlived: ${worst.title}` : (outlived?.title ?? title);
}

/** What a guest may or may not outlive; warnings are nothing to outlive. */
const isFailure = ({ severity }: Finding): boolean => atLeast(severity, "hang");

const TRUSTS: readonly Trust[] = ["possible", "likely", "certain"];

/** As sure as the rule, and as the finding it rests on; two kinds of sources make it surer, contradictions less. */
function confidenceOf(
  { confidence }: VerdictRule,
  rests: readonly Occurrence[],
  contradictions: readonly string[],
): Trust {
  const trusts = new Set(rests.map(({ finding }) => TRUSTS.indexOf(finding?.trust ?? "certain")));
  const best = Math.max(-1, ...trusts);
  const kinds = new Set(rests.map(({ kind }) => kind));
  let sure = Math.min(TRUSTS.indexOf(confidence), best < 0 ? TRUSTS.length : best);
  if (kinds.size > 1) sure++;
  if (contradictions.some((rule) => UNSURE_BY.has(rule))) sure--;
  return TRUSTS[Math.min(TRUSTS.length - 1, Math.max(0, sure))]!;
}

/** Where the evidence is: one place of each source. */
function restsOn(rests: readonly Occurrence[]): string[] {
  const places = new Map<string, string>();
  for (const { source, finding } of rests) {
    if (places.size >= MAX_PLACES && !places.has(source)) break;
    const { source: part = source, line, offset } = finding?.evidence[0] ?? {};
    const at = line === undefined ? (offset === undefined ? "" : ` at offset ${offset}`) : ` line ${line}`;
    // A store has many files.
    if ((places.get(source) ?? source) === source) places.set(source, at === "" ? source : `${part}${at}`);
  }
  if (places.size === 0) return [];
  return [`It rests on ${[...places.values()].join(", ")}.`];
}

const MAX_PLACES = 6;

/** What keeps a reader from a wrong conclusion. */
function whyMore(rule: VerdictRule, rests: readonly Occurrence[], signs: Signs): string[] {
  const sentences: string[] = [];
  const dead = rests.find(({ kind, finding }) => kind === "console" && finding !== undefined);
  const isLater = ({ source, place }: Occurrence): boolean => source === dead?.source && place > dead.place;
  if (rule.verdict === "guest-panic" || rule.verdict === "guest-hang") {
    const crashKernels = signs.kdump.filter(isLater).length;
    const boots = signs.boot.filter(isLater).length - crashKernels;
    if (crashKernels > 0) sentences.push("What booted afterwards is its crash kernel.");
    if (boots > 0)
      sentences.push(`The guest booted ${boots === 1 ? "once" : `${boots} times`} more afterwards.`);
  }
  sentences.push(...crashKernelFailed(signs));
  if (rule.verdict !== "clean") return sentences;
  const outlived = signs.findings.filter(({ finding }) => isFailure(finding!)).length;
  if (outlived > 0) {
    const [those, them] = outlived === 1 ? ["a failure", "it"] : [`${outlived} failures`, "them"];
    sentences.push(`It had ${those} that did not end it: --fail-on oops or hang takes ${them} for one.`);
  }
  return sentences;
}

/** A crash kernel that failed: what it was to save is lost. */
function crashKernelFailed({ findings, dumpSaved }: Signs): string[] {
  const failed = findings.find(
    ({ ofCrashKernel, finding }) =>
      ofCrashKernel === true && atLeast(finding!.severity, "hang") && finding!.survived !== true,
  );
  if (failed === undefined) return [];
  const did = failed.finding!.severity === "panic" ? "panicked" : "failed";
  const saved = dumpSaved.some(({ source, place }) => source === failed.source && place < failed.place);
  return [`Its crash kernel ${did} as well, ${saved ? "after it had saved a dump" : "so it saved no dump"}.`];
}
