/** Writes BTF (Documentation/bpf/btf.rst), honest or not: kinds and layouts are written down once more for this alone. */

/** A member: name ("" is anonymous), id of its type, offset in bits, width of a bitfield. */
export type SynthMember = readonly [name: string, type: number, bitOffset: number, width?: number];

export interface SynthHeader {
  readonly magic?: number;
  readonly version?: number;
  /** Length of the header; 32 has a layout section. */
  readonly length?: number;
  readonly typeOff?: number;
  readonly typeLen?: number;
  readonly strOff?: number;
  readonly strLen?: number;
  /** Contents of the layout section, between types and strings. */
  readonly layout?: Uint8Array;
}

export class SynthBtf {
  readonly #types: Buffer[] = [];
  readonly #names = new Map<string, number>();
  #strings: string;
  readonly #base: SynthBtf | undefined;
  readonly #firstId: number;
  readonly #firstString: number;

  /** @param base of split BTF, which must not grow any more */
  constructor(base?: SynthBtf) {
    this.#base = base;
    this.#firstId = base?.nextId ?? 1;
    this.#firstString = base?.stringEnd ?? 0;
    this.#strings = base === undefined ? "\0" : "";
  }

  get nextId(): number {
    return this.#firstId + this.#types.length;
  }

  get stringEnd(): number {
    return this.#firstString + this.#strings.length;
  }

  /** Offset of a name among the strings. */
  name(text: string): number {
    if (text === "") return 0;
    const known = this.#base?.known(text) ?? this.#names.get(text);
    if (known !== undefined) return known;
    const offset = this.stringEnd;
    this.#names.set(text, offset);
    this.#strings += `${text}\0`;
    return offset;
  }

  known(text: string): number | undefined {
    return this.#names.get(text);
  }

  /** A record of any kind; `words` follow it. @returns its id */
  add(kind: number, name: string, sizeOrType: number, vlen = 0, words: readonly number[] = [], flag = false) {
    const record = [
      this.name(name),
      (flag ? 0x8000_0000 : 0) + kind * 0x100_0000 + vlen,
      sizeOrType,
      ...words,
    ];
    const bytes = Buffer.alloc(4 * record.length);
    for (const [i, word] of record.entries()) bytes.writeUInt32LE(word >>> 0, 4 * i);
    this.#types.push(bytes);
    return this.nextId - 1;
  }

  /** `bits` and `offset` are of a bitfield as kernels before 5.0 describe it. */
  int(name: string, size: number, bits = 8 * size, offset = 0, encoding = 0): number {
    return this.add(1, name, size, 0, [encoding * 0x100_0000 + offset * 0x1_0000 + bits]);
  }

  pointer(to: number): number {
    return this.add(2, "", to);
  }

  array(of: number, count: number): number {
    return this.add(3, "", 0, 0, [of, 1, count]);
  }

  /** kind_flag, when some member has a width. */
  struct(name: string, size: number, members: readonly SynthMember[], kind: 4 | 5 = 4): number {
    const flag = members.some(([, , , width]) => width !== undefined);
    const words = members.flatMap(([member, type, offset, width = 0]) => [
      this.name(member),
      type,
      flag ? width * 0x100_0000 + offset : offset,
    ]);
    return this.add(kind, name, size, members.length, words, flag);
  }

  union(name: string, size: number, members: readonly SynthMember[]): number {
    return this.struct(name, size, members, 5);
  }

  enumeration(name: string, values: Readonly<Record<string, number>>, flag = false): number {
    const words = Object.entries(values).flatMap(([constant, value]) => [this.name(constant), value]);
    return this.add(6, name, 4, words.length / 2, words, flag);
  }

  enumeration64(name: string, values: Readonly<Record<string, bigint>>, flag = false): number {
    const words = Object.entries(values).flatMap(([constant, value]) => [
      this.name(constant),
      Number(BigInt.asUintN(32, value)),
      Number(BigInt.asUintN(32, value >> 32n)),
    ]);
    return this.add(19, name, 8, words.length / 3, words, flag);
  }

  forward(name: string, union = false): number {
    return this.add(7, name, 0, 0, [], union);
  }

  typedef(name: string, of: number): number {
    return this.add(8, name, of);
  }

  volatile(of: number): number {
    return this.add(9, "", of);
  }

  constant(of: number): number {
    return this.add(10, "", of);
  }

  prototype(returns: number, parameters: readonly (readonly [name: string, type: number])[]): number {
    const words = parameters.flatMap(([name, type]) => [this.name(name), type]);
    return this.add(13, "", returns, parameters.length, words);
  }

  func(name: string, prototype: number): number {
    return this.add(12, name, prototype, 1);
  }

  tag(name: string, of: number): number {
    return this.add(18, name, of);
  }

  build(header: SynthHeader = {}): Buffer {
    const types = Buffer.concat(this.#types);
    const strings = Buffer.from(this.#strings, "latin1");
    const layout = Buffer.from(header.layout ?? []);
    const length = header.length ?? 24;
    const head = Buffer.alloc(length);
    head.writeUInt16LE(header.magic ?? 0xeb9f, 0);
    head[2] = header.version ?? 1;
    head.writeUInt32LE(length, 4);
    head.writeUInt32LE(header.typeOff ?? 0, 8);
    head.writeUInt32LE(header.typeLen ?? types.length, 12);
    head.writeUInt32LE(header.strOff ?? types.length + layout.length, 16);
    head.writeUInt32LE(header.strLen ?? strings.length, 20);
    if (length >= 32) {
      head.writeUInt32LE(types.length, 24);
      head.writeUInt32LE(layout.length, 28);
    }
    return Buffer.concat([head, types, layout, strings]);
  }
}
