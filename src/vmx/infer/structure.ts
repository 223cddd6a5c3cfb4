import type { Range } from "../../core/ranges.ts";
import { typeOf, widthOf } from "../encoding.ts";
import { fieldNamed, VMCS_FIELDS } from "../fields.ts";
import { REGION_HEADER, REGION_SIZE } from "../layout.ts";

/** Encoding → place, of fields whose place is known well enough to tell others'. */
export type Anchors = ReadonlyMap<number, Range>;

/** A place that neighbours tell. */
export interface Predicted {
  readonly offset: number;
  /**
   * `firm`: fields on both sides, or other segments, tell it alike, and no value is needed to believe it. `line`: it is
   * where its class would have it. `weak`: it is beside one neighbour.
   */
  readonly strength: "firm" | "line" | "weak";
  /** In words. */
  readonly reason: string;
}

/** Encodings of a class are 2 apart. */
const STEP = 2;
/** Equal distances that make a rule. */
const MIN_AGREEING = 2;

/**
 * Where other fields' places put a field. Processors keep many fields of one width and type in the order of their
 * encodings, at one distance, and the four parts of each segment register at the same distances (every layout known).
 * @returns undefined where there is no such rule
 */
export function predict(
  encoding: number,
  size: number,
  anchors: Anchors,
  { lines, distances }: Rules,
): Predicted | undefined {
  const ordered = byOrder(encoding, anchors);
  const firm =
    bySegments(encoding, anchors, distances) ?? (ordered?.strength === "firm" ? ordered : undefined);
  const found = firm ?? byLine(encoding, lines) ?? ordered;
  return found !== undefined && isFree(found.offset, size, anchors) ? found : undefined;
}

/** Whether a place is in a region, at a multiple of what fields of its size are at, and no anchor's. */
function isFree(offset: number, size: number, anchors: Anchors): boolean {
  const end = offset + size;
  if (offset < REGION_HEADER || end > REGION_SIZE || offset % Math.min(size, 4) !== 0) return false;
  for (const place of anchors.values()) if (place.start < end && offset < place.end) return false;
  return true;
}

const SEGMENTS = ["ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"];
const PARTS = ["SELECTOR", "BASE", "LIMIT", "AR_BYTES"];
const encodingOf = (segment: string, part: string): number =>
  fieldNamed(`GUEST_${segment}_${part}`)!.encoding;
/** Encodings of a segment's parts, in the order of PARTS. */
const ROWS: readonly (readonly number[])[] = SEGMENTS.map((segment) =>
  PARTS.map((part) => encodingOf(segment, part)),
);

/** A part lies as far from another part as in other segments. */
function bySegments(encoding: number, anchors: Anchors, distances: Distances): Predicted | undefined {
  const row = ROWS.find((parts) => parts.includes(encoding));
  if (row === undefined) return undefined;
  const part = row.indexOf(encoding);
  for (const [other, known] of row.entries()) {
    const from = anchors.get(known)?.start;
    const distance = distances.get(`${other} ${part}`);
    if (from !== undefined && distance !== undefined) {
      const reason = "as far from another part of its segment as in other segments";
      return { offset: from + distance, strength: "firm", reason };
    }
  }
  return undefined;
}

/** From one part to another, both by their place in PARTS → bytes. */
type Distances = ReadonlyMap<string, number>;

/** The distances that parts have in all segments in which both have a place or a few. */
function distancesOf(placesOf: PlacesOf): Distances {
  const found = new Map<string, number>();
  for (const from of PARTS.keys()) {
    for (const to of PARTS.keys()) {
      const rows = ROWS.flatMap((row): (readonly number[])[][] => {
        const [a, b] = [placesOf(row[from]!), placesOf(row[to]!)];
        return from === to || a === undefined || b === undefined ? [] : [[a, b]];
      });
      const distance = rows.length < MIN_AGREEING ? undefined : distanceIn(rows);
      if (distance !== undefined) found.set(`${from} ${to}`, distance);
    }
  }
  return found;
}

/** The only distance that all pairs of places can have. */
function distanceIn(rows: readonly (readonly number[])[][]): number | undefined {
  const [least, ...others] = [...rows].sort(
    (x, y) => x[0]!.length * x[1]!.length - y[0]!.length * y[1]!.length,
  );
  const possible = new Set(least![0]!.flatMap((a) => least![1]!.map((b) => b - a)));
  const [only, ...more] = [...possible].filter((distance) =>
    others.every(([from, to]) => from!.some((a) => to!.includes(a + distance))),
  );
  return more.length === 0 ? only : undefined;
}

const classOf = (encoding: number): string => `${widthOf(encoding)} ${typeOf(encoding)}`;
const ENCODINGS = VMCS_FIELDS.map(({ encoding }) => encoding);
const CLASSES: ReadonlyMap<string, readonly number[]> = new Map(
  ENCODINGS.map((encoding) => {
    const name = classOf(encoding);
    return [name, ENCODINGS.filter((other) => classOf(other) === name)];
  }),
);

/** Where the fields of a class lie that follows a line: the offset of encoding 0 would be `origin`. */
interface Line {
  readonly origin: number;
  /** Bytes per step of encodings. */
  readonly distance: number;
}

/** Class → its line. */
type Lines = ReadonlyMap<string, Line>;

/** Places of a field that has one or a few; undefined of any other. */
type PlacesOf = (encoding: number) => readonly number[] | undefined;

/** What the places of fields, settled and possible, tell of those of others. */
export interface Rules {
  readonly lines: Lines;
  readonly distances: Distances;
}

/** @param possible encoding → places, of fields that are not settled and for which a few places are left */
export function rulesOf(anchors: Anchors, possible: ReadonlyMap<number, readonly number[]>): Rules {
  const placesOf: PlacesOf = (encoding) => {
    const anchor = anchors.get(encoding);
    const places = anchor === undefined ? possible.get(encoding) : [anchor.start];
    return places?.length === 0 ? undefined : places;
  };
  return { lines: linesOf(placesOf), distances: distancesOf(placesOf) };
}

/** Fields on a line that tell it. */
const MIN_ON_LINE = 3;
/** Bytes between neighbours, at most, and of what they are multiples. */
const MAX_DISTANCE = 64;
const UNIT = 2;

/** The lines on which all fields of a class can lie that have places. */
function linesOf(placesOf: PlacesOf): Lines {
  const lines = new Map<string, Line>();
  for (const [name, encodings] of CLASSES) {
    const places = encodings.flatMap((encoding) => {
      const own = placesOf(encoding);
      return own === undefined ? [] : [{ encoding, own }];
    });
    const line = places.length < MIN_ON_LINE ? undefined : lineThrough(places);
    if (line !== undefined) lines.set(name, line);
  }
  return lines;
}

/** The only line on which each field has a place; undefined where there is none, or several. */
function lineThrough(
  fields: readonly { readonly encoding: number; readonly own: readonly number[] }[],
): Line | undefined {
  const [first, ...others] = [...fields].sort((a, b) => a.own.length - b.own.length);
  const found: Line[] = [];
  for (const offset of first?.own ?? []) {
    for (let distance = -MAX_DISTANCE; distance <= MAX_DISTANCE; distance += UNIT) {
      const line = { origin: offset - (first!.encoding / STEP) * distance, distance };
      if (distance !== 0 && others.every(({ encoding, own }) => own.includes(onLine(encoding, line))))
        found.push(line);
    }
  }
  return found.length === 1 ? found[0] : undefined;
}

const onLine = (encoding: number, { origin, distance }: Line): number =>
  origin + (encoding / STEP) * distance;

function byLine(encoding: number, lines: Lines): Predicted | undefined {
  const line = lines.get(classOf(encoding));
  if (line === undefined) return undefined;
  const reason = "on the line of all fields of its kind";
  return { offset: onLine(encoding, line), strength: "line", reason };
}

/** Between, or next to, fields of its class at the distance that most of that class keep. */
function byOrder(encoding: number, anchors: Anchors): Predicted | undefined {
  const known = (CLASSES.get(classOf(encoding)) ?? []).filter((other) => anchors.has(other));
  const distance = usualDistance(known, anchors);
  if (distance === undefined) return undefined;
  const from = (other: number) => anchors.get(other)!.start + ((encoding - other) / STEP) * distance;
  const before = known.findLast((other) => other < encoding);
  const after = known.find((other) => other > encoding);
  if (before !== undefined && after !== undefined) {
    const offset = from(before);
    if (offset === from(after))
      return { offset, strength: "firm", reason: "between its neighbours by encoding" };
  }
  const beside = [before, after].filter(
    (other) => other !== undefined && Math.abs(other - encoding) === STEP,
  );
  const offsets = new Set(beside.map((other) => from(other!)));
  const [offset] = offsets;
  if (offset === undefined || offsets.size > 1) return undefined;
  return { offset, strength: "weak", reason: "beside its neighbour by encoding" };
}

/** Of fields that follow each other by encoding; undefined where no distance is that of most. */
function usualDistance(known: readonly number[], anchors: Anchors): number | undefined {
  const counts = new Map<number, number>();
  let pairs = 0;
  for (const encoding of known) {
    const next = anchors.get(encoding + STEP);
    if (next === undefined) continue;
    pairs++;
    const distance = next.start - anchors.get(encoding)!.start;
    counts.set(distance, (counts.get(distance) ?? 0) + 1);
  }
  const [best] = [...counts].sort(([, a], [, b]) => b - a);
  return best !== undefined && best[1] >= MIN_AGREEING && 2 * best[1] > pairs ? best[0] : undefined;
}
