import { basename, dirname } from "node:path";
import type { JobContext } from "../core/job.ts";
import type { Detected, Evidence, Finding, TimelineEvent } from "../triage/finding.ts";
import type { ArtefactInput } from "./triage-artefact.ts";
import { type LogDetector, logChunks } from "./triage-feed.ts";
import type { Source } from "./triage-group.ts";

/** logrotate and virtlogd: `console.log.1`, `web.log-20261120.gz`; the number grows with age, the date does not. */
const ROTATED = /^(.{1,200}\.(?:log|txt|out))(?:\.(\d{1,3})|-(\d{8}(?:-?\d{1,10})?))?(?:\.(?:gz|zst|zstd))?$/;

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
    parts.push({ source, number: Number(number), date });
  }
  const joined = new Map<Source, Source | undefined>();
  for (const parts of groups.values()) {
    const ages = new Set(parts.map(({ number, date }) => `${number} ${date}`));
    // A copy, packed or not, is no part.
    if (parts.length < 2 || ages.size < parts.length) continue;
    const sorted = parts.toSorted((a, b) => b.number - a.number || (a.date < b.date ? -1 : 1));
    const newest = sorted.at(-1)!.source;
    for (const { source } of sorted) joined.set(source, undefined);
    const label = `${newest.label}, rotated: ${parts.length} files`;
    joined.set(newest, { ...newest, label, files: sorted.flatMap(({ source }) => source.files) });
  }
  return sources.flatMap((source) => (joined.has(source) ? (joined.get(source) ?? []) : [source]));
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
