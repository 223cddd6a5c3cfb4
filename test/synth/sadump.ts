/** Dumps as the firmware of Fujitsu's servers writes them, by crash's sadump.h; nothing of src/. */

/** Registers of a processor as SMRAM has them; what is not given is zero. */
export interface SmramSpec {
  readonly registers?: Readonly<Record<string, bigint>>;
  readonly selectors?: Readonly<Record<string, number>>;
  readonly gdt?: readonly [base: bigint, limit: number];
  readonly idt?: readonly [base: bigint, limit: number];
  readonly ldt?: readonly [base: bigint, limit: number];
  readonly eptp?: bigint;
  /** Default: whether there is an EPT pointer. */
  readonly eptpSetting?: number;
  readonly halted?: boolean;
}

export interface SadumpSpec {
  /** Contents by page frame; null: RAM that was not dumped. */
  readonly pages: ReadonlyMap<number, Buffer | null>;
  /** Page frames that have a block although they are no RAM. */
  readonly others?: ReadonlyMap<number, Buffer>;
  /** Header version, default 1. */
  readonly version?: number;
  readonly blockSize?: number;
  /** By APIC ID; undefined: none has it. */
  readonly cpus?: readonly (SmramSpec | undefined)[];
  readonly system?: number;
  readonly set?: number;
  /** Hours and minutes of the time stamp. */
  readonly time?: readonly [number, number];
  /** Blocks of the disk set header. */
  readonly setBlocks?: number;
}

const HEADER = 4096;

/** A UUID of one byte, and one of disk `disk`. */
export const guid = (seed: number, disk = 0): Buffer => Buffer.alloc(16, seed).fill(disk, 15);

function efiTime([hour, minute]: readonly [number, number]): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16LE(2023, 0);
  bytes.set([4, 5, hour, minute, 9], 2);
  bytes.writeInt16LE(2047, 12);
  return bytes;
}

const ids = ({ system = 0xa1, set = 0xb2, time = [3, 7] }: SadumpSpec): [Buffer, Buffer, Buffer] => [
  guid(system),
  guid(set),
  efiTime(time),
];

/** The block that every disk begins with; magic numbers fill it. */
export function partition(spec: SadumpSpec, disk: number, used: number): Buffer {
  const bytes = Buffer.alloc(spec.blockSize ?? HEADER);
  const [system, set, time] = ids(spec);
  bytes.write("sadump", 0, "latin1");
  bytes.writeUInt32LE(1, 8);
  bytes.writeUInt32LE(60, 12);
  system.copy(bytes, 88);
  set.copy(bytes, 104);
  guid(0xc3, disk).copy(bytes, 120);
  time.copy(bytes, 136);
  bytes.writeUInt32LE(disk, 152);
  bytes.writeBigUInt64LE(BigInt(used), 160);
  for (let at = 172; at < bytes.length; at += 4) {
    bytes.writeUInt32LE(Number((BigInt(bytes.readUInt32LE(at - 4)) * 11n + 77n) & 0xffff_ffffn), at);
  }
  return bytes;
}

export function mediaHeader(spec: SadumpSpec, number: number, disks = 0): Buffer {
  const bytes = Buffer.alloc(HEADER);
  const [system, set, time] = ids(spec);
  Buffer.concat([system, set, time]).copy(bytes);
  bytes.set([number, 0, 0, disks], 48);
  return bytes;
}

function diskSetHeader({ blockSize = HEADER, setBlocks = 1 }: SadumpSpec, disks: number): Buffer {
  const bytes = Buffer.alloc(setBlocks * blockSize);
  bytes.writeUInt32LE(setBlocks, 0);
  bytes.writeUInt32LE(disks, 4);
  for (let disk = 2; disk <= disks; disk++) {
    const at = 16 + 32 * (disk - 2);
    guid(0xc3, disk).copy(bytes, at);
    bytes.writeBigUInt64LE(1n << 30n, at + 16);
  }
  return bytes;
}

/** Offsets in the 1024 bytes of a state. */
const GENERAL = [
  ...["r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8"],
  ...["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"],
];
const SELECTORS = ["es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr"];
const WIDE = ["dr7", "dr6", "rip", "efer", "rflags", "cr3", "cr0"];
const TABLES = { gdt: [464, 652], ldt: [468, 668], idt: [472, 660] } as const;

export function smramState(spec: SmramSpec | undefined): Buffer {
  const bytes = Buffer.alloc(1024);
  // What is reserved need not be zero, even where no processor is.
  bytes.fill(0x5a, 500, 516);
  if (spec === undefined) return bytes;
  const { registers = {}, selectors = {} } = spec;
  for (const [name, [upper, lower]] of Object.entries(TABLES)) {
    const [base, limit] = spec[name as keyof typeof TABLES] ?? [0n, 0];
    bytes.writeUInt32LE(Number(base >> 32n), upper);
    bytes.writeUInt32LE(Number(base & 0xffff_ffffn), lower);
    bytes.writeUInt32LE(limit, lower + 4);
  }
  bytes.writeUInt32LE(Number(registers.cr4 ?? 0n), 576);
  bytes.writeBigUInt64LE(spec.eptp ?? 0n, 728);
  bytes.writeUInt32LE(spec.eptpSetting ?? (spec.eptp === undefined ? 0 : 1), 736);
  bytes.writeUInt32LE(0x7e00_0000, 760);
  bytes.writeUInt32LE(0x30100, 764);
  bytes.writeUInt16LE(spec.halted === true ? 1 : 0, 770);
  for (const [i, name] of GENERAL.entries()) bytes.writeBigUInt64LE(registers[name] ?? 0n, 796 + 8 * i);
  for (const [i, name] of SELECTORS.entries()) bytes.writeUInt32LE(selectors[name] ?? 0, 936 + 4 * i);
  for (const [i, name] of WIDE.entries()) bytes.writeBigUInt64LE(registers[name] ?? 0n, 968 + 8 * i);
  return bytes;
}

function subHeader({ blockSize = HEADER, cpus = [] }: SadumpSpec): Buffer {
  if (cpus.length === 0) return Buffer.alloc(0);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(1024 * cpus.length);
  const apics = Buffer.alloc(16 * cpus.length);
  for (const i of cpus.keys()) apics.writeBigUInt64LE(BigInt(i), 16 * i);
  return padded(Buffer.concat([size, apics, ...cpus.map(smramState)]), blockSize);
}

function padded(bytes: Buffer, to: number): Buffer {
  const rest = bytes.length % to;
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(to - rest)]);
}

/** The dump header and all behind it but the blocks. */
function dumpHeader(spec: SadumpSpec): Buffer {
  const { version = 1, blockSize = HEADER, cpus = [], pages, others = new Map<number, Buffer>() } = spec;
  const pfns = [...pages.keys(), ...others.keys()];
  const maxMapnr = pfns.reduce((most, pfn) => Math.max(most, pfn + 1), 0);
  const bitmapBlocks = Math.ceil(maxMapnr / 8 / blockSize);
  const bits = (set: Iterable<number>): Buffer => {
    const bytes = Buffer.alloc(bitmapBlocks * blockSize);
    for (const pfn of set) bytes[Math.floor(pfn / 8)]! |= 0x80 >> (pfn % 8);
    return bytes;
  };
  const sub = subHeader(spec);
  const header = Buffer.alloc(blockSize);
  header.write("sadump", 0, "latin1");
  header.writeUInt32LE(version, 8);
  ids(spec)[2].copy(header, 16);
  header.writeUInt32LE(blockSize, 40);
  header.writeUInt32LE(sub.length / blockSize, 48);
  header.writeUInt32LE(bitmapBlocks, 52);
  header.writeUInt32LE(bitmapBlocks, 56);
  header.writeUInt32LE(version === 0 ? maxMapnr : 0, 60);
  header.writeUInt32LE(cpus.length, 80);
  if (version > 0) header.writeBigUInt64LE(BigInt(maxMapnr), 88);
  return Buffer.concat([header, sub, bits(pages.keys()), bits(blocksOf(spec).keys())]);
}

/** What has a block, by page frame, ascending. */
function blocksOf({ pages, others = new Map() }: SadumpSpec): Map<number, Buffer> {
  const dumped = [...pages, ...others].filter((entry): entry is [number, Buffer] => entry[1] !== null);
  return new Map(dumped.sort(([a], [b]) => a - b));
}

/** A dump in one partition. */
export function buildSadump(spec: SadumpSpec): Buffer {
  const header = dumpHeader(spec);
  const blocks = [...blocksOf(spec).values()];
  const { blockSize = HEADER } = spec;
  const used = blockSize + header.length + blocks.length * blockSize;
  return Buffer.concat([partition(spec, 0, used), header, ...blocks]);
}

/** Cuts a list into pieces of so many, the last of what is left. */
function cut(blocks: readonly Buffer[], counts: readonly number[]): Buffer[][] {
  const pieces: Buffer[][] = [];
  let at = 0;
  for (const count of counts) {
    pieces.push(blocks.slice(at, at + count));
    at += count;
  }
  return [...pieces, blocks.slice(at)];
}

/** The disks of a set; @param counts blocks on each but the last */
export function buildDiskSet(spec: SadumpSpec, counts: readonly number[]): Buffer[] {
  const { blockSize = HEADER } = spec;
  const header = Buffer.concat([diskSetHeader(spec, counts.length + 1), dumpHeader(spec)]);
  return cut([...blocksOf(spec).values()], counts).map((blocks, i) => {
    const front = i === 0 ? header : Buffer.alloc(0);
    const used = blockSize + front.length + blocks.length * blockSize;
    return Buffer.concat([partition(spec, i + 1, used), front, ...blocks]);
  });
}

export interface MediaOptions {
  /** Whether each medium behind the first has a partition header, too. */
  readonly headers?: boolean;
  /** Number of the disk set's disk in the partition header. */
  readonly disk?: number;
}

/** The media of a backup; @param counts blocks on each but the last */
export function buildMedia(
  spec: SadumpSpec,
  counts: readonly number[] = [],
  { headers = false, disk = 0 }: MediaOptions = {},
): Buffer[] {
  const header = dumpHeader(spec);
  return cut([...blocksOf(spec).values()], counts).map((blocks, i) => {
    const front = i === 0 ? [partition(spec, disk, 0), header] : headers ? [partition(spec, disk, 0)] : [];
    return Buffer.concat([mediaHeader(spec, i + 1, disk), ...front, ...blocks]);
  });
}
