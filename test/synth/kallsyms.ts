/**
 * kallsyms as scripts/kallsyms.c writes it, and a list of modules as a kernel keeps it; from the sources of Linux 3.10
 * to 7.0.
 */
export interface SynthSymbol {
  readonly name: string;
  readonly type: string;
  readonly address: bigint;
}

export type SynthForm = "absolute" | "base-relative" | "absolute-percpu" | "place-relative";

export interface KallsymsOptions {
  readonly form: SynthForm;
  /** Whether addresses lie in front of the rest (until 6.3) or behind it. */
  readonly order: "addresses-first" | "addresses-last";
  /** Bytes of a number in kallsyms_markers; kallsyms_num_syms is padded to 8 anyway. */
  readonly markers?: 4 | 8;
  /** Whether a length of 128 and more takes two bytes (6.1+). */
  readonly escaped?: boolean;
  /** Bytes of kallsyms_seqs_of_names (6.2+) behind the markers; with addresses last it lies at the end. */
  readonly sequences?: boolean;
}

export interface SynthKallsyms {
  readonly bytes: Buffer;
  /** Virtual addresses by symbol, as VMCOREINFO has them. */
  readonly labels: Readonly<Record<string, bigint>>;
}

/** Substrings that get a token of their own, in this order. */
const FREQUENT = ["tarted", "T_", "init", "per_cpu", "__", "e_", "ti", "on", "re", "st"];

/** The tables, laid at `base` (a multiple of 8); `symbols` ascend by address. */
export function buildKallsyms(
  base: bigint,
  symbols: readonly SynthSymbol[],
  options: KallsymsOptions,
): SynthKallsyms {
  const tokens = tokensFor(symbols);
  const names = symbols.map(({ name, type }) => compress(type + name, tokens));
  const list = names.map((name) => Buffer.concat([lengthOf(name.length, options.escaped ?? true), name]));
  const offsets: number[] = [];
  let at = 0;
  for (const [i, { length }] of list.entries()) {
    if (i % 256 === 0) offsets.push(at);
    at += length;
  }
  const writer = new Writer(base);
  if (options.order === "addresses-first") writeAddresses(writer, symbols, options.form);
  writer.label("kallsyms_num_syms", Buffer.concat([u32(symbols.length)]));
  writer.label("kallsyms_names", Buffer.concat(list));
  const width = options.markers ?? 4;
  writer.label(
    "kallsyms_markers",
    Buffer.concat(offsets.map((n) => (width === 4 ? u32(n) : u64(BigInt(n))))),
  );
  if (options.sequences && options.order === "addresses-first") writeSequences(writer, symbols.length);
  writer.label("kallsyms_token_table", Buffer.from(`${tokens.join("\0")}\0`, "latin1"));
  const index = Buffer.alloc(512);
  let start = 0;
  for (const [i, token] of tokens.entries()) {
    index.writeUInt16LE(start, 2 * i);
    start += token.length + 1;
  }
  writer.label("kallsyms_token_index", index);
  if (options.order === "addresses-last") writeAddresses(writer, symbols, options.form);
  if (options.sequences && options.order === "addresses-last") writeSequences(writer, symbols.length);
  return { bytes: Buffer.concat(writer.parts), labels: writer.labels };
}

class Writer {
  readonly parts: Buffer[] = [];
  readonly labels: Record<string, bigint> = {};
  at: bigint;

  constructor(base: bigint) {
    this.at = base;
  }

  label(name: string, bytes: Buffer): void {
    const padding = Number((8n - (this.at % 8n)) % 8n);
    this.parts.push(Buffer.alloc(padding), bytes);
    this.labels[name] = this.at + BigInt(padding);
    this.at += BigInt(padding + bytes.length);
  }
}

function writeAddresses(writer: Writer, symbols: readonly SynthSymbol[], form: SynthForm): void {
  if (form === "absolute") {
    writer.label("kallsyms_addresses", Buffer.concat(symbols.map(({ address }) => u64(address))));
    return;
  }
  const lowest = symbols.find(({ address }) => form !== "absolute-percpu" || address >= 1n << 63n)!.address;
  const table = writer.at + ((8n - (writer.at % 8n)) % 8n);
  const offset = (address: bigint, i: number): bigint => {
    if (form === "base-relative") return address - lowest;
    if (form === "place-relative") return address - (table + BigInt(4 * i));
    return address < 1n << 31n ? address : lowest - address - 1n;
  };
  writer.label("kallsyms_offsets", Buffer.concat(symbols.map(({ address }, i) => u32(offset(address, i)))));
  if (form !== "place-relative") writer.label("kallsyms_relative_base", u64(lowest));
}

const writeSequences = (writer: Writer, count: number): void =>
  writer.label("kallsyms_seqs_of_names", Buffer.alloc(3 * count, 0x5a));

/** Characters that occur are their own tokens, and so are digits; the other codes get frequent substrings, or nothing. */
function tokensFor(symbols: readonly SynthSymbol[]): string[] {
  const used = new Set(`0123456789${symbols.map(({ name, type }) => type + name).join("")}`);
  const frequent = [...FREQUENT];
  return Array.from({ length: 256 }, (_, code) => {
    const character = String.fromCharCode(code);
    return used.has(character) ? character : (frequent.shift() ?? "");
  });
}

function compress(text: string, tokens: readonly string[]): Buffer {
  const longest = [...tokens.entries()].filter(([, token]) => token !== "");
  longest.sort((a, b) => b[1].length - a[1].length);
  const codes: number[] = [];
  for (let at = 0; at < text.length; ) {
    const [code, token] = longest.find(([, candidate]) => text.startsWith(candidate, at))!;
    codes.push(code);
    at += token.length;
  }
  return Buffer.from(codes);
}

const lengthOf = (length: number, escaped: boolean): Buffer =>
  escaped && length > 0x7f ? Buffer.of((length & 0x7f) | 0x80, length >> 7) : Buffer.of(length);

const u32 = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(Number(BigInt.asUintN(32, BigInt(value))));
  return bytes;
};

const u64 = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
};
