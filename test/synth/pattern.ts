import { ELF64, type Field, putWord, type Word } from "./elf.ts";

/** Deterministic contents and deterministic damage: the same seed gives the same bytes on every machine. */

export const PAGE = 4096;

export interface Random {
  /** Uniform in 0 … 2^32 − 1. */
  u32(): number;
  /** Uniform in 0 … limit − 1; 0 when limit is 0. */
  below(limit: number): number;
  pick<T>(list: readonly T[]): T;
  bytes(length: number): Buffer;
}

/** mulberry32 (Tommy Ettinger, public domain): 32 bits of state are plenty for tests and give readable seeds. */
export function random(seed: number): Random {
  let state = seed >>> 0;
  const u32 = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
  const below = (limit: number): number => (limit === 0 ? 0 : Math.floor((u32() / 2 ** 32) * limit));
  return {
    u32,
    below,
    pick: (list) => list[below(list.length)]!,
    bytes: (length) => {
      const bytes = Buffer.alloc(length);
      for (let i = 0; i < length; i++) bytes[i] = u32() & 0xff;
      return bytes;
    },
  };
}

/** A number for a text, to seed by name (FNV-1a). */
export function seedOf(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text, "latin1")) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}

/** A page that says what it is in its first 32 bytes ("SYNTH seed page") and never repeats within a seed. */
export function patternPage(seed: number, index: number): Buffer {
  const page = Buffer.alloc(PAGE);
  const source = random((seed ^ Math.imul(index + 1, 0x9e3779b1)) >>> 0);
  for (let at = 32; at < PAGE; at += 4) page.writeUInt32LE(source.u32(), at);
  page.write(`SYNTH ${seed.toString(16)} ${index}`, 0, 32, "latin1");
  return page;
}

export interface PatternOptions {
  /** Which pages are zero. Default: every fourth, beginning with page 3. */
  readonly zero?: (index: number) => boolean;
  /** Contents of single pages, over the pattern. */
  readonly pages?: Readonly<Record<number, Uint8Array>>;
}

/** `size` bytes (a multiple of 4096) of pattern pages and zero pages. */
export function patternBytes(size: number, seed: number, options: PatternOptions = {}): Buffer {
  const bytes = Buffer.alloc(size);
  const isZero = options.zero ?? ((index) => index % 4 === 3);
  for (let index = 0; index * PAGE < size; index++) {
    const given = options.pages?.[index];
    if (given !== undefined) bytes.set(given, index * PAGE);
    else if (!isZero(index))
      bytes.set(patternPage(seed, index).subarray(0, size - index * PAGE), index * PAGE);
  }
  return bytes;
}

/** A place in a file where damage is interesting. */
export interface Target {
  /** Offset in the file. */
  readonly offset: number;
  /** 1, 2, 4 or 8. */
  readonly size: number;
  readonly label: string;
}

export interface MutationHints {
  /** Pointers, lengths and counts of the structures inside. */
  readonly targets?: readonly Target[];
  /** File offsets at which something begins or ends. */
  readonly boundaries?: readonly number[];
}

export interface Mutant {
  /** What was done, enough to do it again by hand. */
  readonly name: string;
  readonly core: Buffer;
}

/** Extreme values for a field of this many bytes: ends, sign, the limit of a double, pages, 32-bit and 47-bit ends. */
export function extremes(size: number): readonly bigint[] {
  const bits = BigInt(size * 8);
  const max = (1n << bits) - 1n;
  const sign = 1n << (bits - 1n);
  const wide =
    size < 8 ? [] : [(1n << 53n) - 1n, 1n << 53n, (1n << 53n) + 1n, (1n << 32n) - 1n, 1n << 32n, 1n << 47n];
  const small = size < 2 ? [] : [0xffffn % (max + 1n), 4095n, 4097n];
  return [...new Set([0n, 1n, max, max - 1n, sign, sign - 1n, ...wide, ...small])];
}

interface Anatomy {
  readonly fields: readonly Target[];
  readonly programs: readonly number[];
  readonly notes: readonly { readonly offset: number; readonly size: number }[];
  readonly noteProgram: number | undefined;
}

/** Finds the headers of a healthy little-endian ELF64 file of ours: an own walk, so that no reader is trusted. */
function anatomyOf(core: Buffer): Anatomy {
  const fields: Target[] = [];
  const add = (base: number, table: Readonly<Record<string, Field>>, label: string): void => {
    for (const [name, [offset, size]] of Object.entries(table)) {
      fields.push({ offset: base + offset, size, label: `${label}.${name}` });
    }
  };
  const word = (at: number): number => Number(core.readBigUInt64LE(at));
  add(0, ELF64.ehdr, "ehdr");
  const phoff = word(32);
  const shoff = word(40);
  const shnum = core.readUInt16LE(60);
  const counted = core.readUInt16LE(56);
  const phnum = counted === 0xffff ? core.readUInt32LE(shoff + 44) : counted;
  const programs = Array.from({ length: phnum }, (_, i) => phoff + i * ELF64.phdrSize);
  const noteProgram = programs.find((at) => core.readUInt32LE(at) === 4);
  const notes = noteProgram === undefined ? [] : notesIn(core, word(noteProgram + 8), word(noteProgram + 32));
  for (const [i, at] of programs.entries()) add(at, ELF64.phdr, `phdr[${i}]`);
  // One section header of each end is enough: the others are alike, and a reader has no use for them.
  for (const i of new Set([0, shnum - 1])) {
    if (i >= 0 && i < shnum) add(shoff + i * ELF64.shdrSize, ELF64.shdr, `shdr[${i}]`);
  }
  const noteFields = { namesz: [0, 4], descsz: [4, 4], type: [8, 4] } as const;
  for (const [i, { offset }] of notes.entries()) add(offset, noteFields, `note[${i}]`);
  return { fields, programs, notes, noteProgram };
}

function notesIn(core: Buffer, start: number, size: number): { offset: number; size: number }[] {
  const found: { offset: number; size: number }[] = [];
  for (let at = start; at + 12 <= start + size; ) {
    const length = 12 + round4(core.readUInt32LE(at)) + round4(core.readUInt32LE(at + 4));
    found.push({ offset: at, size: length });
    at += length;
  }
  return found;
}

const round4 = (value: number): number => value + ((4 - (value % 4)) % 4);

const changed = (core: Buffer, name: string, change: (copy: Buffer) => void): Mutant => {
  const copy = Buffer.from(core);
  change(copy);
  return { name, core: copy };
};

const setWord = (core: Buffer, target: Target, value: Word): Mutant =>
  changed(
    core,
    `${target.label} = 0x${BigInt.asUintN(target.size * 8, BigInt(value)).toString(16)}`,
    (copy) => putWord(copy, target.offset, target.size, value),
  );

/** Every field of every ELF, program, section and note header set to every extreme; thousands for one core. */
export function* headerMutants(core: Buffer): Generator<Mutant> {
  for (const field of anatomyOf(core).fields) {
    for (const value of extremes(field.size)) yield setWord(core, field, value);
  }
}

/** The file cut at, one before and one behind each boundary. */
export function* truncations(core: Buffer, boundaries: readonly number[]): Generator<Mutant> {
  const cuts = new Set(boundaries.flatMap((at) => [at - 1, at, at + 1]));
  for (const length of [...cuts].sort((a, b) => a - b)) {
    if (length >= 0 && length < core.length) yield truncated(core, length);
  }
}

const truncated = (core: Buffer, length: number): Mutant => ({
  name: `truncated to ${length} of ${core.length}`,
  core: Buffer.from(core.subarray(0, length)),
});

/**
 * `count` different kinds of damage to a core, by chance but repeatable: mutant i depends on (core, seed, i) alone.
 * Each is a fresh copy.
 */
export function* mutants(
  core: Buffer,
  seed: number,
  count: number,
  hints: MutationHints = {},
): Generator<Mutant> {
  const anatomy = anatomyOf(core);
  for (let i = 0; i < count; i++) {
    const chance = random((Math.imul(seed, 0x85ebca6b) ^ Math.imul(i + 1, 0xc2b2ae35)) >>> 0);
    const kind = chance.pick(KINDS);
    let mutant = kind(core, chance, anatomy, hints);
    // One in eight is damaged twice; headers are looked up in the healthy core, so the second may hit anything.
    if (chance.below(8) === 0) {
      const again = chance.pick(IN_PLACE)(mutant.core, chance, anatomy, hints);
      mutant = { name: `${mutant.name}; ${again.name}`, core: again.core };
    }
    yield { name: `seed ${seed} #${i}: ${mutant.name}`, core: mutant.core };
  }
}

type Kind = (core: Buffer, chance: Random, anatomy: Anatomy, hints: MutationHints) => Mutant;

const headerField: Kind = (core, chance, { fields }) => {
  const field = chance.pick(fields);
  return fits(core, field)
    ? setWord(core, field, chance.pick(extremes(field.size)))
    : flipBytes(core, chance);
};

/** A word inside a structure: an extreme, a neighbouring value, or the value of another such word. */
const structureWord: Kind = (core, chance, anatomy, { targets = [] }) => {
  const inside = targets.filter((target) => fits(core, target));
  if (inside.length === 0) return headerField(core, chance, anatomy, {});
  const target = chance.pick(inside);
  const old = readWord(core, target);
  const near = chance.pick([-4096n, -64n, -8n, -1n, 1n, 8n, 64n, 4096n, 1n << 20n]);
  const other = chance.pick(inside);
  const value = chance.pick([
    () => chance.pick(extremes(target.size)),
    () => old + near,
    () => old ^ (1n << BigInt(chance.below(target.size * 8))),
    () => readWord(core, other),
    () => BigInt(chance.u32()),
  ])();
  return setWord(core, target, value);
};

function flipBytes(core: Buffer, chance: Random): Mutant {
  const places = Array.from({ length: 1 + chance.below(8) }, () => chance.below(core.length));
  return changed(core, `bytes flipped at ${places.join(",")}`, (copy) => {
    for (const at of places) if (at < copy.length) copy[at] = copy[at]! ^ (1 + chance.below(255));
  });
}

const alignedWord: Kind = (core, chance) => {
  const offset = Math.max(0, Math.min(core.length - 8, chance.below(core.length) & ~7));
  if (core.length < 8) return flipBytes(core, chance);
  return setWord(core, { offset, size: 8, label: `word at ${offset}` }, chance.pick(extremes(8)));
};

const cut: Kind = (core, chance, { fields }, { boundaries = [], targets = [] }) => {
  const places = [...boundaries, chance.below(core.length), chance.pick(fields).offset];
  if (targets.length > 0) places.push(chance.pick(targets).offset);
  const at = chance.pick(places) + chance.pick([-8, -1, 0, 1, 8]);
  return truncated(core, Math.max(0, Math.min(core.length, at)));
};

/** Two program headers change places, so that segments are unordered. */
const swapSegments: Kind = (core, chance, { programs }) => {
  const first = chance.pick(programs);
  const second = chance.pick(programs);
  return changed(core, `phdrs at ${first} and ${second} swapped`, (copy) => {
    const size = ELF64.phdrSize;
    const kept = Buffer.from(copy.subarray(first, first + size));
    copy.copyWithin(first, second, second + size);
    kept.copy(copy, second, 0, Math.max(0, Math.min(size, copy.length - second)));
  });
};

/** One segment is moved over another, in the address space or in the file. */
const overlapSegments: Kind = (core, chance, { programs }) => {
  const from = chance.pick(programs);
  const to = chance.pick(programs);
  const field = chance.pick([8, 16, 32, 40]);
  const shift = chance.pick([0n, 1n, 8n, 4096n, -4096n]);
  if (Math.max(from, to) + field + 8 > core.length) return flipBytes(core, chance);
  const value = core.readBigUInt64LE(from + field) + shift;
  return setWord(
    core,
    { offset: to + field, size: 8, label: `phdr at ${to} +${field} (as at ${from})` },
    value,
  );
};

/** Notes doubled, shuffled or dropped; the new list goes behind the file and PT_NOTE points there. */
const rearrangeNotes: Kind = (core, chance, { notes, noteProgram }) => {
  if (noteProgram === undefined || notes.length === 0 || noteProgram + 56 > core.length) {
    return flipBytes(core, chance);
  }
  const order = notes.map((_, i) => i);
  const what = chance.pick(["doubled", "dropped", "shuffled", "repeated"] as const);
  const one = chance.below(order.length);
  if (what === "doubled") order.splice(chance.below(order.length + 1), 0, one);
  if (what === "dropped") order.splice(one, 1);
  if (what === "shuffled") shuffle(order, chance);
  if (what === "repeated") order.push(...Array.from({ length: 200 }, () => one));
  const list = Buffer.concat(
    order.map((i) => core.subarray(notes[i]!.offset, notes[i]!.offset + notes[i]!.size)),
  );
  const copy = Buffer.concat([core, list]);
  putWord(copy, noteProgram + 8, 8, core.length);
  putWord(copy, noteProgram + 32, 8, list.length);
  return { name: `notes ${what} (${one})`, core: copy };
};

function shuffle(list: number[], chance: Random): void {
  for (let i = list.length - 1; i > 0; i--) {
    const j = chance.below(i + 1);
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
}

/** A page filled with one byte, or replaced by another page of the file. */
const spoilPage: Kind = (core, chance) => {
  const pages = Math.max(1, Math.floor(core.length / PAGE));
  const to = chance.below(pages) * PAGE;
  const from = chance.below(pages) * PAGE;
  const fill = chance.pick([0, 0xff, 0x41, undefined]);
  return changed(
    core,
    `page at ${to} ${fill === undefined ? `from ${from}` : `filled with ${fill}`}`,
    (copy) => {
      if (fill === undefined) copy.copyWithin(to, from, from + PAGE);
      else copy.fill(fill, to, Math.min(copy.length, to + PAGE));
    },
  );
};

const fits = (core: Buffer, target: Target): boolean => target.offset + target.size <= core.length;

function readWord(core: Buffer, target: Target): bigint {
  let value = 0n;
  for (let i = target.size - 1; i >= 0; i--) value = (value << 8n) | BigInt(core[target.offset + i]!);
  return value;
}

const flip: Kind = (core, chance) => flipBytes(core, chance);
const IN_PLACE: readonly Kind[] = [headerField, structureWord, flip, alignedWord];
/** Structure words and header fields are where readers break, so they are drawn more often. */
const KINDS: readonly Kind[] = [
  headerField,
  headerField,
  structureWord,
  structureWord,
  structureWord,
  structureWord,
  flip,
  alignedWord,
  cut,
  swapSegments,
  overlapSegments,
  rearrangeNotes,
  spoilPage,
];
