import type { Range } from "../../core/ranges.ts";
import { typeOf, widthOf } from "../encoding.ts";
import { fieldNamed, VMCS_FIELDS } from "../fields.ts";
import { REGION_HEADER, REGION_SIZE } from "../layout.ts";

/** Encoding → place, of fields whose place is known well enough to tell others'. */
export type Anchors = ReadonlyMap<number, Range>;

/** A place that neighbours tell. */
export interface Predicted {
  readonly offset: number;
  /** Fields on both sides tell it alike, or other segments do: no value is needed to believe it. */
  readonly firm: boolean;
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
export function predict(encoding: number, size: number, anchors: Anchors): Predicted | undefined {
  const found = bySegments(encoding, anchors) ?? byOrder(encoding, anchors);
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
const encodingOf = (segment: string, part: string): number => fieldNamed(`GUEST_${segment}_${part}`)!.encoding;
/** Encodings of a segment's parts, in the order of PARTS. */
const ROWS: readonly (readonly number[])[] = SEGMENTS.map((segment) =>
  PARTS.map((part) => encodingOf(segment, part)),
);

/** A part lies as far from another part as in other segments. */
function bySegments(encoding: number, anchors: Anchors): Predicted | undefined {
  const row = ROWS.find((parts) => parts.includes(encoding));
  if (row === undefined) return undefined;
  const part = row.indexOf(encoding);
  for (const [other, known] of row.entries()) {
    const from = other === part ? undefined : anchors.get(known)?.start;
    const distance = from === undefined ? undefined : distanceOf(other, part, row, anchors);
    if (from !== undefined && distance !== undefined) {
      return { offset: from + distance, firm: true, reason: "as far from its segment's other parts as in other segments" };
    }
  }
  return undefined;
}

/** From one part to another, in all other segments in which both are known; undefined where they disagree. */
function distanceOf(
  from: number,
  to: number,
  own: readonly number[],
  anchors: Anchors,
): number | undefined {
  const distances = ROWS.filter((row) => row !== own).flatMap((row) => {
    const [a, b] = [anchors.get(row[from]!)?.start, anchors.get(row[to]!)?.start];
    return a === undefined || b === undefined ? [] : [b - a];
  });
  return distances.length >= MIN_AGREEING && new Set(distances).size === 1 ? distances[0] : undefined;
}

const classOf = (encoding: number): string => `${widthOf(encoding)} ${typeOf(encoding)}`;
const ENCODINGS = VMCS_FIELDS.map(({ encoding }) => encoding);
const CLASSES: ReadonlyMap<string, readonly number[]> = new Map(
  ENCODINGS.map((encoding) => {
    const name = classOf(encoding);
    return [name, ENCODINGS.filter((other) => classOf(other) === name)];
  }),
);

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
    if (offset === from(after)) return { offset, firm: true, reason: "between its neighbours by encoding" };
  }
  const beside = [before, after].filter(
    (other) => other !== undefined && Math.abs(other - encoding) === STEP,
  );
  const offsets = new Set(beside.map((other) => from(other!)));
  const [offset] = offsets;
  if (offset === undefined || offsets.size > 1) return undefined;
  return { offset, firm: false, reason: "beside its neighbour by encoding" };
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
