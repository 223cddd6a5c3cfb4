import { basename, dirname } from "node:path";
import type { JobContext } from "../core/job.ts";
import type { Detected, Evidence, Finding, TimelineEvent } from "../triage/finding.ts";
import type { ArtefactInput } from "./triage-artefact.ts";
import { type LogDetector, logChunks } from "./triage-feed.ts";
import type { Source } from "./triage-group.ts";

/**
 * logrotate, virtlogd and kubelet: `console.log.1`, `web.log-20261120.gz`, `0.log.20261120-100000.gz`, `serial.log.old`; the
 * number grows with age, the date does not.
 */
const ROTATED =
  /^(.{1,200}\.(?:log|txt|out))(?:\.(\d{1,3}|old)|[.-](\d{4}-?\d\d-?\d\d(?:[T-]?\d{1,10})?))?(?:\.(?:gz|zst|zstd))?$/;

/** A log and its age: what sorts first is older. */
interface Part {
  readonly source: Source;
  readonly number: number;
  readonly date: string;
}

/** Puts a console that was rotated together: one source, its oldest file first. */
export function withRotated(sources: readonly Source[]): Source[] {
  const groups = new Map<string, Part[]>();
  for (const source of sources) {
    const [, stem, number = "-1", date = "~"] = ROTATED.exec(basename(source.path)) ?? [];
    if (stem === undefined || source.kind !== "console" || source.failure !== undefined) continue;
    const key = `${dirname(source.path)}/${stem}`;
    const parts = groups.get(key) ?? [];
    if (parts.length === 0) groups.set(key, parts);
    parts.push({ source, number: number === "old" ? 1 : Number(number), date });
  }
  const joined = new Map<Source, Source | undefined>();
  for (const all of groups.values()) {
    const { parts, copies } = withoutCopies(all);
    const byAge = parts.toSorted((a, b) => b.number - a.number || (a.date < b.date ? -1 : 1));
    const sorted = byAge.slice(firstWithoutGap(byAge));
    if (sorted.length < 2) continue;
    for (const [copy, of] of copies) joined.set(copy, { ...copy, copyOf: of.path });
    const newest = sorted.at(-1)!.source;
    for (const { source } of sorted) joined.set(source, undefined);
    const label = `${newest.label}, rotated: ${sorted.length} files`;
    joined.set(newest, { ...newest, label, files: sorted.flatMap(({ source }) => source.files) });
  }
  return sources.flatMap((source) => (joined.has(source) ? (joined.get(source) ?? []) : [source]));
}

/** A file that was packed and is there as it was too, `console.log.1` and `console.log.1.gz`, is one part. */
function withoutCopies(parts: readonly Part[]): {
  readonly parts: readonly Part[];
  readonly copies: readonly (readonly [Source, Source])[];
} {
  const known = new Map<string, Part>();
  const copies: [Source, Source][] = [];
  for (const part of parts.toSorted((a, b) => a.source.path.length - b.source.path.length)) {
    const age = `${part.number} ${part.date}`;
    const before = known.get(age);
    if (before === undefined) known.set(age, part);
    // What stands beside the log itself may be of another time.
    else if (age === CURRENT) return { parts: [], copies: [] };
    else copies.push([part.source, before.source]);
  }
  return { parts: [...known.values()], copies };
}

/** The age of a log that was not rotated yet. */
const CURRENT = "-1 ~";

/** Behind a number that is missing nobody knows what came between; of parts by age, the newest last. */
function firstWithoutGap(parts: readonly Part[]): number {
  for (let at = parts.length - 1; at > 0; at--) {
    const [older, newer] = [parts[at - 1]!.number, parts[at]!.number];
    // virtlogd begins with 0, logrotate with 1.
    if (older - newer > (newer < 0 ? 2 : 1)) return at;
  }
  return 0;
}

const NEWLINE = 10;

/** Reads the parts of a log as one, and says of what was found in which part it is. */
export async function feedParts(
  { files }: Pick<ArtefactInput, "files">,
  detector: LogDetector<Detected>,
  context: JobContext,
): Promise<Detected> {
  const parts: { readonly path: string; readonly before: number }[] = [];
  let lines = 0;
  for (const { path } of files) {
    parts.push({ path, before: lines });
    let last = NEWLINE;
    for await (const chunk of logChunks(path, context)) {
      for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, at + 1)) lines++;
      last = chunk.at(-1) ?? last;
      detector.push(chunk);
    }
    if (last === NEWLINE) continue;
    detector.push(Buffer.of(NEWLINE));
    lines++;
  }
  const placed = <T extends { readonly source: string; readonly line?: number }>(one: T): T => {
    const part = parts.findLast(({ before }) => one.line !== undefined && one.line > before);
    return part === undefined ? one : { ...one, source: part.path, line: one.line! - part.before };
  };
  const { findings, events } = detector.end();
  return {
    findings: findings.map((finding): Finding => {
      const place = finding.evidence[0]?.line;
      const evidence = finding.evidence.map((one): Evidence => placed(one));
      return { ...finding, evidence, ...(place === undefined ? {} : { place }) };
    }),
    events: events.map(
      (event): TimelineEvent => ({
        ...placed(event),
        ...(event.line === undefined ? {} : { place: event.line }),
      }),
    ),
  };
}
