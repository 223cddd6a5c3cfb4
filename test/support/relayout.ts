/** A field's place in a VMCS region, and of access rights how they are stored. */
export interface FieldPlace {
  readonly offset: number;
  readonly form?: "plain" | "rotated" | "packed";
}
export type Places = ReadonlyMap<number, FieldPlace>;

const isRights = (encoding: number): boolean => encoding >= 0x4814 && encoding <= 0x4822;

/** Bytes of a field by its encoding's width: bits 14:13. */
export function widthOf(encoding: number): 2 | 4 | 8 {
  const width = (encoding >> 13) & 3;
  return width === 0 ? 2 : width === 2 ? 4 : 8;
}

/** A table as VMCSINFO has them, `0x6800 0xbd0 8 0x… plain` a line; high halves left out. */
export const placesIn = (table: string): Places =>
  new Map(
    [...table.matchAll(/^(0x[0-9a-f]{4}) (0x[0-9a-f]+) \d+ \S+ (plain|ror8)$/gm)]
      .map(([, encoding, offset, form]): [number, FieldPlace] => {
        return [Number(encoding), { offset: Number(offset), form: form === "ror8" ? "rotated" : "plain" }];
      })
      .filter(([encoding]) => encoding % 2 === 0),
  );

/** The same fields from the last to the first, in slots of 8 bytes from `start` on, and access rights packed. */
export const reversed = (places: Places, start: number): Places =>
  new Map(
    [...places.keys()]
      .sort((a, b) => b - a)
      .map((encoding, i): [number, FieldPlace] => {
        return [encoding, { offset: start + 8 * i, form: isRights(encoding) ? "packed" : "plain" }];
      }),
  );

function load(page: Buffer, encoding: number, { offset, form }: FieldPlace): bigint {
  if (isRights(encoding)) {
    const word = page.readUInt32LE(offset);
    if (form === "rotated") return BigInt(((word >>> 8) | (word << 24)) >>> 0);
    if (form === "packed") return BigInt((word & 0xf0ff) | ((word & 0x800) << 5));
    return BigInt(word);
  }
  const width = widthOf(encoding);
  if (width === 8) return page.readBigUInt64LE(offset);
  return BigInt(width === 4 ? page.readUInt32LE(offset) : page.readUInt16LE(offset));
}

/** Writes a field as VMWRITE does. */
export function store(page: Buffer, encoding: number, { offset, form }: FieldPlace, value: bigint): void {
  const number = Number(BigInt.asUintN(32, value));
  if (isRights(encoding)) {
    if (form === "packed") page.writeUInt16LE((number & 0xf0ff) | ((number & 0x10000) >>> 5), offset);
    else if (form === "rotated") page.writeUInt32LE(((number << 8) | (number >>> 24)) >>> 0, offset);
    else page.writeUInt32LE(number, offset);
    return;
  }
  const width = widthOf(encoding);
  if (width === 8) page.writeBigUInt64LE(BigInt.asUintN(64, value), offset);
  else if (width === 4) page.writeUInt32LE(number, offset);
  else page.writeUInt16LE(number & 0xffff, offset);
}

/** A region with the same fields at other places; nothing else is kept but the header, with another revision. */
export function relaid(page: Buffer, from: Places, to: Places, revision: number): Buffer {
  const other = Buffer.alloc(page.length);
  other.writeUInt32LE(revision, 0);
  for (const [encoding, place] of from) {
    const target = to.get(encoding);
    if (target !== undefined) store(other, encoding, target, load(page, encoding, place));
  }
  return other;
}
