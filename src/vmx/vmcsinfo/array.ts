import { viewOf } from "../../core/bytes.ts";
import { CorruptError } from "../../core/errors.ts";
import { isPossibleEncoding } from "../encoding.ts";
import { fieldOf } from "../fields.ts";
import { REGION_HEADER, REGION_SIZE } from "../layout.ts";
import { MAX_RECORDS, type Reading, type VmcsInfo, type VmcsInfoForm } from "./types.ts";
import { lengthInRecords } from "./v2-binary.ts";
import { writeEach } from "./write.ts";

/**
 * Pairs of encoding and offset, as the fifth patch set (July 2012) keeps them in the kernel; it published no note. The
 * toolkit's own: u32 revision, then u32 pairs, little-endian. Without a revision, or with u16 pairs, it is read too.
 */
export const ARRAY: VmcsInfoForm = {
  name: "array",
  label: "array of offsets",
  matches: ({ bytes }) => shapeOf(bytes) !== undefined,
  read: ({ bytes }) => readArray(bytes),
  write: writeArray,
};

interface Shape {
  /** Bytes before the first pair: the revision, or nothing. */
  readonly header: 0 | 4;
  /** Bytes a number. */
  readonly width: 2 | 4;
}

/** The one that explains most pairs is taken, of equal ones the first. */
const SHAPES: readonly Shape[] = [
  { header: 4, width: 4 },
  { header: 0, width: 4 },
  { header: 0, width: 2 },
  { header: 4, width: 2 },
];
/** With fewer pairs, or fewer of them explained, a shape is not believed. */
const MIN_PAIRS = 4;
const MIN_PART = 0.9;

type Pair = readonly [encoding: number, offset: number];

function pairsIn(bytes: Buffer, { header, width }: Shape): Pair[] {
  const size = 2 * width;
  const length = lengthInRecords(bytes, header, size);
  if ((length - header) % size !== 0 || length > header + MAX_RECORDS * size) return [];
  const view = viewOf(bytes);
  const number = (at: number) => (width === 4 ? view.getUint32(at, true) : view.getUint16(at, true));
  const pairs: Pair[] = [];
  for (let at = header; at < length; at += size) {
    const pair = [number(at), number(at + width)] as const;
    if (pair[0] !== 0 || pair[1] !== 0) pairs.push(pair);
  }
  return pairs;
}

/** The shape in which nearly every pair is a field that is known and a place where it can be. */
function shapeOf(bytes: Buffer): Shape | undefined {
  let best: { readonly shape: Shape; readonly part: number } | undefined;
  for (const shape of SHAPES) {
    const part = explained(pairsIn(bytes, shape), shape);
    if (part >= MIN_PART && part > (best?.part ?? 0)) best = { shape, part };
  }
  return best?.shape;
}

/** Which part of the pairs is right, 0 to 1; a field without a place has the offset 0. */
function explained(pairs: readonly Pair[], { header }: Shape): number {
  const placed = new Set<number>();
  const absent = new Set<number>();
  for (const [i, [encoding, offset]] of pairs.entries()) {
    if (!isPossibleEncoding(encoding) || fieldOf(encoding) === undefined) continue;
    if (offset >= REGION_HEADER && offset < REGION_SIZE) placed.add(encoding);
    // In front a number with zeros behind it is a revision.
    else if (offset === 0 && (header !== 0 || i > 0)) absent.add(encoding);
  }
  const enough = placed.size >= MIN_PAIRS && placed.size >= absent.size;
  return enough ? (placed.size + absent.size) / pairs.length : 0;
}

function readArray(bytes: Buffer): Reading {
  const shape = shapeOf(bytes);
  if (shape === undefined) throw new CorruptError("the array of offsets holds no field that is known");
  return {
    revisionId: shape.header === 0 ? undefined : viewOf(bytes).getUint32(0, true),
    records: pairsIn(bytes, shape).map(([encoding, offset]) => ({
      encoding,
      raw: undefined,
      offset: offset === 0 ? undefined : offset,
      accessRights: undefined,
      certainty: undefined,
    })),
    problems: [],
  };
}

function writeArray(info: VmcsInfo) {
  const numbers = [info.revisionId ?? 0];
  const leftOut = writeEach(info, ({ encoding, offset }) => {
    if (offset === undefined) return "its place is not known";
    numbers.push(encoding, offset);
    return undefined;
  });
  const bytes = Buffer.alloc(4 * numbers.length);
  numbers.forEach((number, i) => {
    bytes.writeUInt32LE(number, 4 * i);
  });
  return { bytes, leftOut };
}
