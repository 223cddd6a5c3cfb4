import {
  type BtfHeader,
  type BtfProblem,
  extraBytes,
  flagOf,
  KIND,
  kindOf,
  TYPE_BYTES,
  vlenOf,
} from "./format.ts";

/** A type's record. */
export class BtfType {
  /** 0 of an enum that was enumerated. */
  readonly id: number;
  readonly kind: number;
  /** kind_flag. */
  readonly flag: boolean;
  /** vlen: how many members, values or parameters. */
  readonly count: number;
  /** Of its name; 0: anonymous. */
  readonly nameOffset: number;
  /** Bytes, or the id of the type it is made of, by its kind. */
  readonly sizeOrType: number;
  readonly #view: DataView;
  readonly #extra: number;

  constructor(id: number, view: DataView, at: number) {
    const info = view.getUint32(at + 4, true);
    this.id = id;
    this.kind = kindOf(info);
    this.flag = flagOf(info);
    this.count = vlenOf(info);
    this.nameOffset = view.getUint32(at, true);
    this.sizeOrType = view.getUint32(at + 8, true);
    this.#view = view;
    this.#extra = at + TYPE_BYTES;
  }

  /** The n-th 32-bit word behind `struct btf_type`; how many there are is the kind's and `count`'s to say. */
  word(n: number): number {
    return this.#view.getUint32(this.#extra + 4 * n, true);
  }
}

/** The records of a type section, as far as they can be told apart. */
interface RecordIndex {
  /** Byte offset of each. */
  readonly records: Uint32Array;
  readonly problem: BtfProblem | undefined;
  /** Whether any ENUM or ENUM64 has kind_flag. */
  readonly hasEnumFlags: boolean;
}

/** One pass over the type section, which its length bounds. */
export function indexRecords(view: DataView, header: BtfHeader): RecordIndex {
  const size = view.byteLength;
  const end = Math.min(header.types.end, size);
  const layout = sectionView(view, header.layout);
  const records = new Uint32Array(Math.max(0, Math.floor((end - header.types.start) / TYPE_BYTES)));
  let count = 0;
  let hasEnumFlags = false;
  let problem: BtfProblem | undefined;
  for (let at = header.types.start; at < end; ) {
    const info = at + TYPE_BYTES <= end ? view.getUint32(at + 4, true) : 0;
    const kind = kindOf(info);
    const extra = at + TYPE_BYTES <= end ? extraBytes(kind, vlenOf(info), layout) : 0;
    if (extra === undefined) {
      problem = { kind: "unknown-kind", message: `BTF type of unknown kind ${kind}`, offset: at };
      break;
    }
    const next = at + TYPE_BYTES + extra;
    if (next > end) {
      problem = { kind: "record", message: "BTF type leaves its section", offset: at };
      break;
    }
    if (flagOf(info) && (kind === KIND.ENUM || kind === KIND.ENUM64)) hasEnumFlags = true;
    records[count++] = at;
    at = next;
  }
  if (header.size > size) problem = { kind: "truncated", message: "BTF is truncated", offset: size };
  return { records: records.slice(0, count), problem, hasEnumFlags };
}

const sectionView = (view: DataView, section: BtfHeader["layout"]): DataView => {
  const [start, end] = [section.start, section.end].map((at) => Math.min(at, view.byteLength)) as [
    number,
    number,
  ];
  return new DataView(view.buffer, view.byteOffset + start, end - start);
};
