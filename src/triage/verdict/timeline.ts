import type { Moment, Severity, TimelineEvent } from "../finding.ts";
import { type Anchor, anchorsOf } from "./clocks.ts";
import { placeOf, type Signs } from "./signs.ts";
import type { Clock, SourceDetected, SourceKind, Timeline, TimelineEntry } from "./types.ts";

/** Entries kept; the first and the last tell most. */
const FIRST = 200;
const LAST = 800;
/** A difference of clocks below this is the time that a line takes. */
const SKEW_MS = 2000;
/** Sources whose wall clock is the guest's. */
const GUEST_CLOCK: ReadonlySet<SourceKind> = new Set(["pstore", "rtas", "dump", "console"]);

interface Raw {
  readonly at: Moment | undefined;
  readonly place: number;
  /** The source, or the file of it. */
  readonly part: string;
  readonly line?: number;
  readonly kind: string;
  readonly severity?: Severity;
  readonly text: string;
}

/** An entry, and when it is put on the time line; undefined where only its source's order is known. */
interface Placed {
  readonly entry: TimelineEntry;
  time: number | undefined;
  /** Whether the time is that of the entry before it: it comes after all that is known to be of that time. */
  readonly later: boolean;
}

/**
 * Puts the findings and events of all sources on one time line. Within a source its own order stays; between sources
 * the host's clock decides, onto which uptimes are put by what two sources tell of. What cannot be put there comes
 * first, in the order of the sources.
 */
export function mergeTimeline(sources: readonly SourceDetected[], signs: Signs): Timeline {
  const { anchors, notes } = anchorsOf(sources, signs);
  const skew = guestSkew(signs, anchors);
  const placed = sources.flatMap((source) => placeSource(source, anchors, skew ?? 0));
  const order = placed.toSorted(
    (a, b) => (a.time ?? -Infinity) - (b.time ?? -Infinity) || Number(a.later) - Number(b.later),
  );
  const entries = order.map(({ entry }) => entry);
  const omitted = Math.max(0, entries.length - FIRST - LAST);
  return {
    entries: omitted === 0 ? entries : [...entries.slice(0, FIRST), ...entries.slice(-LAST)],
    omitted,
    notes: skew === undefined || Math.abs(skew) < SKEW_MS ? notes : [...notes, skewText(skew)],
  };
}

const skewText = (skew: number): string =>
  `The guest's clock is ${(Math.abs(skew) / 1000).toFixed(1)} s ${skew > 0 ? "ahead of" : "behind"} the host's.`;

/** How far the guest's clock is ahead of the host's, in milliseconds, by a panic that both tell of. */
function guestSkew(signs: Signs, anchors: readonly Anchor[]): number | undefined {
  const record = signs.death.find(({ kind, at }) => kind === "pstore" && at?.wall !== undefined)?.at?.wall;
  const event =
    signs.panicEvent.find(({ at }) => at?.wall !== undefined)?.at?.wall ?? joinedDeath(signs, anchors);
  return record === undefined || event === undefined ? undefined : record - event;
}

function joinedDeath(signs: Signs, anchors: readonly Anchor[]): number | undefined {
  const death = signs.death.find(({ kind, at }) => kind === "console" && at?.uptime !== undefined);
  return death && wallOf(death.at, death.source, death.place, anchors);
}

/** Where an uptime lies on the host's clock; undefined where its boot has no anchor. */
function wallOf(
  at: Moment | undefined,
  source: string,
  place: number,
  anchors: readonly Anchor[],
): number | undefined {
  if (at?.uptime === undefined) return undefined;
  const holds = ({ boot }: Anchor): boolean =>
    boot.source === source && boot.first <= place && place < boot.end;
  const anchor = anchors.find(holds);
  return anchor && Math.round(at.uptime * 1000 + anchor.offset);
}

/** Events and findings of a source in its own order; a finding that an event tells of already is that event. */
function rawEntries({ source, kind, findings, events }: SourceDetected): Raw[] {
  const entries: Raw[] = events.filter(isNoRepetition).map((event, order) => ({
    kind: event.kind,
    at: event.at,
    text: event.text,
    place: placeOf(event, order),
    part: event.place === undefined ? source : event.source,
    ...(event.line === undefined ? {} : { line: event.line }),
  }));
  const known = new Map(entries.map((entry, index) => [`${entry.part} ${entry.line} ${entry.kind}`, index]));
  for (const [order, finding] of findings.entries()) {
    const { rule, severity, at, title, evidence } = finding;
    const [first] = evidence;
    // A store has many files, each with lines of its own.
    const line = kind !== "pstore" || first?.source === source ? first?.line : undefined;
    const part = finding.place === undefined ? source : (first?.source ?? source);
    const same = line === undefined ? undefined : known.get(`${part} ${line} ${rule}`);
    if (same !== undefined) entries[same] = { ...entries[same]!, severity };
    else {
      const place = finding.place ?? line ?? order;
      const more = line === undefined ? {} : { line };
      entries.push({ kind: rule, severity, at, text: title, place, part, ...more });
    }
  }
  const isTimed = kind === "pstore" && entries.every(({ line }) => line === undefined);
  return entries.toSorted(isTimed ? byTime : (a, b) => a.place - b.place);
}

const byTime = (a: Raw, b: Raw): number =>
  (a.at?.wall ?? 0) - (b.at?.wall ?? 0) || (a.at?.uptime ?? 0) - (b.at?.uptime ?? 0);

/** The last line of a console may be told of already for what it says. */
const isNoRepetition = (
  { kind, line }: TimelineEvent,
  index: number,
  all: readonly TimelineEvent[],
): boolean => kind !== "console/end" || line === undefined || all[index - 1]?.line !== line;

function placeSource(source: SourceDetected, anchors: readonly Anchor[], skew: number): Placed[] {
  const { source: name, kind } = source;
  const ofGuest = GUEST_CLOCK.has(kind);
  let latest: number | undefined;
  let later = false;
  const placed = rawEntries(source).map((raw): Placed => {
    const joined = wallOf(raw.at, name, raw.place, anchors);
    const wall = raw.at?.wall ?? joined;
    const time = raw.at?.wall !== undefined && ofGuest ? raw.at.wall - skew : wall;
    const known = time !== undefined && Number.isFinite(time);
    if (known && (latest === undefined || time > latest)) later = false;
    else if (!known && latest !== undefined) later = true;
    if (known) latest = Math.max(latest ?? time, time);
    return { entry: entryOf(raw, kind, wall, clockOf(raw.at, ofGuest, joined)), time: latest, later };
  });
  // What comes before the first known time of a source is put right before it.
  const first = placed.find(({ time }) => time !== undefined)?.time;
  for (const one of placed) one.time ??= first;
  return placed;
}

function clockOf(at: Moment | undefined, ofGuest: boolean, joined: number | undefined): Clock {
  if (at?.wall !== undefined) return ofGuest ? "guest" : "host";
  if (joined !== undefined) return "joined";
  return at?.uptime === undefined ? "order" : "uptime";
}

const entryOf = (
  { at, part: source, line, kind, severity, text }: Raw,
  sourceKind: SourceKind,
  wall: number | undefined,
  clock: Clock,
): TimelineEntry => ({
  clock,
  ...(wall === undefined ? {} : { wall }),
  ...(at?.uptime === undefined ? {} : { uptime: at.uptime }),
  source,
  sourceKind,
  ...(line === undefined ? {} : { line }),
  kind,
  ...(severity === undefined ? {} : { severity }),
  text,
});
