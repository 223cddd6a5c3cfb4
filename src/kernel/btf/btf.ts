import { latin1, viewOf } from "../../core/bytes.ts";
import { type BtfHeader, type BtfProblem, isProblem, KIND, kindOf, readBtfHeader } from "./format.ts";
import { NameIndex } from "./names.ts";
import { BtfType, indexRecords } from "./records.ts";

export { BtfType } from "./records.ts";

/** KSYM_NAME_LEN: the kernel takes no longer names, their NUL included. */
const MAX_NAME_BYTES = 512;

const NOTHING = new DataView(new ArrayBuffer(0));

export interface BtfOptions {
  /** Of split BTF: what its type ids and string offsets continue. BTF that begins its own strings does without. */
  readonly base?: Btf | undefined;
  /** `struct btf.start_id`: the first id as the kernel has it, to tell whether `base` is the one. */
  readonly startId?: number | undefined;
}

/**
 * The types of a kernel (`vmlinux`) or, split, of a module. Types are known by their ids, from 1; those below `start`
 * are of the base. Decoding never fails: `problem` says where it ended, what came before is usable.
 */
export class Btf {
  /** `vmlinux`, or the module's name. */
  readonly name: string;
  readonly base: Btf | undefined;
  /** Bytes it was decoded from. */
  readonly size: number;
  /** The first id of its own. */
  readonly start: number;
  /** The id behind its last. */
  readonly end: number;
  /** Why not all types are known. */
  readonly problem: BtfProblem | undefined;
  /**
   * Whether values of ENUM are signed whatever their kind_flag: only encoders since 6.0 (pahole 1.24) set it, and
   * every kernel has some negative ones.
   */
  readonly signedEnums: boolean;
  readonly #view: DataView;
  /** Byte offset of each record, by id − start. */
  readonly #records: Uint32Array;
  readonly #strings: Buffer;
  /** Offset of the string section's first byte among all strings, and of the one behind its last. */
  readonly #stringStart: number;
  readonly #stringEnd: number;
  #names: NameIndex | undefined;

  /** @param bytes header and sections; kept, not copied */
  constructor(name: string, bytes: Uint8Array, options: BtfOptions = {}) {
    this.name = name;
    this.size = bytes.length;
    const header = readBtfHeader(bytes);
    const isStandalone = !isProblem(header) && bytes[header.strings.start] === 0;
    this.base = isStandalone ? undefined : options.base;
    this.start = this.base?.end ?? 1;
    this.#stringStart = this.base === undefined ? 0 : this.base.#stringEnd;
    const problem = isProblem(header) ? header : baseProblem(header, this.base, bytes, options.startId);
    if (isProblem(header) || problem !== undefined) {
      this.#view = NOTHING;
      this.#records = new Uint32Array(0);
      this.#strings = Buffer.alloc(0);
      this.#stringEnd = this.#stringStart;
      this.problem = problem;
      this.signedEnums = false;
    } else {
      const { start, end } = header.strings;
      this.#view = viewOf(bytes);
      this.#strings = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).subarray(start, end);
      this.#stringEnd = this.#stringStart + end - start;
      const index = indexRecords(this.#view, header);
      this.#records = index.records;
      this.problem = index.problem;
      this.signedEnums = !index.hasEnumFlags && (this.base === undefined || this.base.signedEnums);
    }
    this.end = this.start + this.#records.length;
  }

  /** The type of an id, of the base too; undefined for void (0) and ids that nothing has. */
  type(id: number): BtfType | undefined {
    if (id < this.start) return this.base?.type(id);
    const at = this.#records[id - this.start];
    return at === undefined ? undefined : new BtfType(id, this.#view, at);
  }

  /** The text at a string offset, "" for none; as Latin-1, at most 511 bytes. */
  string(offset: number): string {
    if (offset < this.#stringStart) return this.base?.string(offset) ?? "";
    const at = offset - this.#stringStart;
    const text = this.#strings.subarray(at, at + MAX_NAME_BYTES);
    return latin1(text.subarray(0, Math.max(0, text.indexOf(0))));
  }

  /** Whether `name` is the text at a string offset. */
  stringIs(offset: number, name: Buffer): boolean {
    if (offset < this.#stringStart) return this.base?.stringIs(offset, name) ?? false;
    const at = offset - this.#stringStart;
    const end = at + name.length;
    // Two bytes tell most texts apart, for less than a call.
    if (this.#strings[end] !== 0 || this.#strings[at] !== name[0]) return false;
    return this.#strings.compare(name, 0, name.length, at, end) === 0;
  }

  /** Its own types of that name, without the base's, in the order of their ids. */
  *named(name: string): Generator<BtfType> {
    this.#names ??= new NameIndex(this.#view, this.#records);
    for (const offset of this.#offsetsOf(name)) {
      for (const index of this.#names.at(offset)) yield this.type(this.start + index)!;
    }
  }

  /** Its own enums, of both kinds. */
  *enums(): Generator<BtfType> {
    for (const at of this.#records) {
      const kind = kindOf(this.#view.getUint32(at + 4, true));
      if (kind === KIND.ENUM || kind === KIND.ENUM64) yield new BtfType(0, this.#view, at);
    }
  }

  /** Where a text is among the strings, the base's first: once, but for writers that did not care. */
  #offsetsOf(name: string): readonly number[] {
    const before = this.base === undefined ? [] : this.base.#offsetsOf(name);
    return before.length >= MAX_SAME_STRINGS ? before : [...before, ...this.#ownOffsetsOf(name)];
  }

  #ownOffsetsOf(name: string): readonly number[] {
    if (this.#lastOffsets?.name === name) return this.#lastOffsets.offsets;
    const offsets: number[] = [];
    const text = Buffer.from(`${name}\0`, "latin1");
    if (name !== "" && !name.includes("\0")) {
      for (
        let at = this.#strings.indexOf(text);
        at >= 0;
        at = this.#strings.indexOf(text, at + text.length)
      ) {
        if (at === 0 || this.#strings[at - 1] === 0) offsets.push(this.#stringStart + at);
        if (offsets.length >= MAX_SAME_STRINGS) break;
      }
    }
    this.#lastOffsets = { name, offsets };
    return offsets;
  }

  /** The last answer: the base is asked the same for one module after the other. */
  #lastOffsets: { readonly name: string; readonly offsets: readonly number[] } | undefined;
}

/** Strings are unique in what pahole writes. */
const MAX_SAME_STRINGS = 16;

/** Split BTF needs the base it was made for, whole; its own strings do not begin with the empty one. */
function baseProblem(
  header: BtfHeader,
  base: Btf | undefined,
  bytes: Uint8Array,
  startId: number | undefined,
): BtfProblem | undefined {
  const problem = (message: string): BtfProblem => ({ kind: "base", message, offset: header.strings.start });
  if (base === undefined) {
    const isSplit = header.strings.start < bytes.length && bytes[header.strings.start] !== 0;
    return isSplit ? problem("split BTF without its base") : undefined;
  }
  if (base.problem !== undefined) return problem("split BTF whose base is damaged");
  return startId !== undefined && startId !== base.end
    ? problem("split BTF that continues another base")
    : undefined;
}
