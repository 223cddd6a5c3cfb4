import type { Detected, Evidence, Finding, TimelineEvent } from "../finding.ts";

/** `Panic#1 in PATH`: what the text of a dump put together is called. Its lines are those of no file. */
const OF_A_DUMP = /^(?:\w{1,40}#\d{1,10}|dump without a first line) in /;

/**
 * One finding of one crash: the record knows when and in which file, the console's rules know what it was. What they
 * find in the text of a dump is said to be in the file that has it.
 */
export function withRecords({ findings, events }: Detected): Detected {
  const told = findings.filter(isOfDump);
  const joined = new Set<Finding>();
  const all = findings.map((finding) => {
    const of = finding.rule === "pstore/record" ? told.find((one) => isOf(one, finding, joined)) : undefined;
    if (of === undefined) return finding;
    joined.add(of);
    return both(finding, of);
  });
  return {
    findings: all.flatMap((finding) =>
      joined.has(finding) ? [] : isOfDump(finding) ? [placed(finding)] : [finding],
    ),
    events: events.map(eventInFile),
  };
}

const isOfDump = ({ evidence: [first] }: Finding): boolean =>
  first !== undefined && OF_A_DUMP.test(first.source);

function isOf(told: Finding, record: Finding, taken: ReadonlySet<Finding>): boolean {
  if (taken.has(told) || told.severity !== record.severity) return false;
  const names = Array.isArray(record.details?.dumps) ? record.details.dumps : [];
  const { source } = told.evidence[0]!;
  return record.evidence.some((one) => names.some((name) => source === `${name} in ${one.source}`));
}

function both(record: Finding, told: Finding): Finding {
  const texts = new Set(record.evidence.map(({ text }) => bare(text)));
  const more = placed(told).evidence.filter(({ text }) => !texts.has(bare(text)));
  return {
    ...record,
    ...told,
    trust: record.trust === "certain" ? "certain" : told.trust,
    at: { ...told.at, ...(record.at?.wall === undefined ? {} : { wall: record.at.wall }) },
    evidence: [...record.evidence, ...more],
    details: { ...told.details, ...record.details },
  };
}

const placed = (finding: Finding): Finding => ({ ...finding, evidence: finding.evidence.map(inFile) });

function inFile(one: Evidence): Evidence {
  const name = OF_A_DUMP.exec(one.source)?.[0];
  return name === undefined
    ? one
    : { source: one.source.slice(name.length), text: one.text.replace(LEVEL, "") };
}

function eventInFile(event: TimelineEvent): TimelineEvent {
  const name = OF_A_DUMP.exec(event.source)?.[0];
  if (name === undefined) return event;
  const { line: _, ...rest } = event;
  return { ...rest, source: event.source.slice(name.length), text: event.text.replace(LEVEL, "") };
}

/** What printk puts before a line in a dump. */
const LEVEL = /^<\d{1,3}>/;
/** A line without its level and time. */
const bare = (text: string): string => text.replace(LEVEL, "").replace(/^\[ {0,6}\d{1,8}\.\d{6}\] /, "");
