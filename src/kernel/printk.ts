import { latin1, u64big, viewOf } from "../core/bytes.ts";
import { CorruptError, UnavailableError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { AddressSpace, PhysicalMemory } from "../core/memory.ts";
import { readVirtual } from "./virtual.ts";
import type { Vmcoreinfo } from "./vmcoreinfo.ts";

/** One record of a kernel log. */
export interface LogRecord {
  readonly sequence: number;
  /** Nanoseconds since boot. */
  readonly time: bigint;
  /** 0 (emergency) to 7 (debug); undefined where the dump does not say. */
  readonly level: number | undefined;
  /** May have several lines; any bytes, as Latin-1. */
  readonly text: string;
}

/** A kernel log, oldest record first. */
export interface KernelLog {
  readonly records: readonly LogRecord[];
  /** Records whose bytes are not in the dump, or make no sense. */
  readonly lost: number;
}

/** log_buf_len takes at most 2 GiB (`LOG_BUF_LEN_MAX`); no machine uses more than a fraction of this. */
const MAX_TEXT = 64 * 2 ** 20;
const MAX_RECORDS = 2 ** 20;

/** Records read between two looks at signals. */
const CHECKPOINT_RECORDS = 1024;

/** Of the structures named here the largest takes 88 bytes; configurations add some. */
const MAX_STRUCTURE = 4096;

type Member = (name: string) => number;

/**
 * Reads the kernel log by what VMCOREINFO says of it: the ring buffer of 5.10 and later, or the records of 3.5 to 5.9.
 * @throws UnavailableError when VMCOREINFO does not describe one, or its head is not in the dump
 * @throws CorruptError when its head makes no sense
 */
export async function readKernelLog(
  memory: PhysicalMemory,
  space: AddressSpace,
  vmcoreinfo: Vmcoreinfo,
  checkpoint?: JobContext["checkpoint"],
): Promise<KernelLog> {
  const reader = new Reader(memory, space, vmcoreinfo);
  if (vmcoreinfo.symbol("prb") !== undefined) return await ringBuffer(reader, checkpoint);
  if (vmcoreinfo.symbol("log_buf") !== undefined) return await records(reader, checkpoint);
  throw new UnavailableError("VMCOREINFO does not say where the kernel log is", {
    hint: "kernels say so since 3.5; crash reads others with their vmlinux",
  });
}

class Reader {
  readonly info: Vmcoreinfo;
  readonly #memory: PhysicalMemory;
  readonly #space: AddressSpace;

  constructor(memory: PhysicalMemory, space: AddressSpace, info: Vmcoreinfo) {
    this.#memory = memory;
    this.#space = space;
    this.info = info;
  }

  /** Bytes at a virtual address; undefined when not all of them are in the dump. */
  read(address: bigint, size: number): Buffer | undefined {
    const bytes = Buffer.alloc(size);
    return readVirtual(this.#memory, this.#space, address, bytes) === size ? bytes : undefined;
  }

  /** @throws UnavailableError when it is not in the dump */
  mustRead(address: bigint, size: number): Buffer {
    const bytes = this.read(address, size);
    if (bytes !== undefined) return bytes;
    throw new UnavailableError("the kernel log's head is not in this dump", {
      hint: "makedumpfile keeps it at every level: the dump is truncated, or not all of memory is in it",
    });
  }

  symbol(name: string): bigint {
    return this.info.symbol(name) ?? lacks(`SYMBOL(${name})`);
  }

  /** The pointer that a symbol is. */
  pointerAt(name: string): bigint {
    return u64big(viewOf(this.mustRead(this.symbol(name), 8)), 0);
  }

  u32At(name: string): number {
    return viewOf(this.mustRead(this.symbol(name), 4)).getUint32(0, true);
  }

  /** OFFSET(name), bytes. */
  offset: Member = (name) => this.#number(`OFFSET(${name})`);
  size: Member = (name) => {
    const size = this.#number(`SIZE(${name})`);
    if (size > MAX_STRUCTURE) throw senseless(`${name} takes ${size} bytes`);
    return size;
  };

  #number(key: string): number {
    const text = this.info.get(key);
    return text !== undefined && /^\d{1,6}$/.test(text) ? Number(text) : lacks(key);
  }
}

function lacks(key: string): never {
  throw new UnavailableError(`VMCOREINFO lacks ${key}, without which the kernel log cannot be read`);
}

const senseless = (what: string): CorruptError =>
  new CorruptError(`the kernel log's ${what}`, {
    hint: "VMCOREINFO may be of another kernel than the memory",
  });

/** A structure's bytes; its members are where VMCOREINFO says, which may be anywhere. */
class Structure {
  readonly #view: DataView;

  constructor(bytes: Buffer) {
    this.#view = viewOf(bytes);
  }

  u8 = (at: number): number => this.#view.getUint8(this.#within(at, 1));
  u16 = (at: number): number => this.#view.getUint16(this.#within(at, 2), true);
  u32 = (at: number): number => this.#view.getUint32(this.#within(at, 4), true);
  u64 = (at: number): bigint => this.#view.getBigUint64(this.#within(at, 8), true);

  /** The byte at `at`, where the structure reaches so far. */
  byteIf = (at: number): number | undefined => (at < this.#view.byteLength ? this.u8(at) : undefined);

  #within(at: number, size: number): number {
    if (at + size <= this.#view.byteLength) return at;
    throw senseless(
      `members lie outside of their structures, one at ${at} of ${this.#view.byteLength} bytes`,
    );
  }
}

/** State of a descriptor: bits 63:62 of its state variable (Linux `kernel/printk/printk_ringbuffer.h`). */
const COMMITTED = 1n;
const FINALIZED = 2n;
const STATE_SHIFT = 62n;
const ID_MASK = (1n << STATE_SHIFT) - 1n;
/** Positions of records without text have bit 0 set. */
const NO_TEXT = 1n;
/** The id in front of each text. */
const ID_SIZE = 8;

async function ringBuffer(
  reader: Reader,
  checkpoint: JobContext["checkpoint"] | undefined,
): Promise<KernelLog> {
  const { offset, size } = reader;
  const prb = new Structure(reader.mustRead(reader.pointerAt("prb"), size("printk_ringbuffer")));
  const counter = offset("atomic_long_t.counter");
  const ring = offset("printk_ringbuffer.desc_ring");
  const text = offset("printk_ringbuffer.text_data_ring");
  const at = (base: number, member: string) => base + offset(member);
  const [descBits, textBits] = [
    prb.u32(at(ring, "prb_desc_ring.count_bits")),
    prb.u32(at(text, "prb_data_ring.size_bits")),
  ];
  if (2 ** descBits > MAX_RECORDS) throw senseless(`number of descriptors is 2^${descBits}`);
  if (2 ** textBits > MAX_TEXT) throw senseless(`size is 2^${textBits} bytes`);
  const word = prb.u64;
  const head = word(at(ring, "prb_desc_ring.head_id") + counter) & ID_MASK;
  const tail = word(at(ring, "prb_desc_ring.tail_id") + counter) & ID_MASK;
  const count = 2 ** descBits;
  const arrays: RingArrays = {
    descriptors: word(at(ring, "prb_desc_ring.descs")),
    infos: word(at(ring, "prb_desc_ring.infos")),
    text: word(at(text, "prb_data_ring.data")),
    textSize: 1n << BigInt(textBits),
  };
  const found: LogRecord[] = [];
  let lost = 0;
  const span = Math.min(count, Number((head - tail) & ID_MASK) + 1);
  for (let i = 0; i < span; i++) {
    const id = (tail + BigInt(i)) & ID_MASK;
    const record = ringRecord(reader, arrays, id, Number(id % BigInt(count)));
    if (record === "lost") lost++;
    else if (record !== undefined) found.push(record);
    if (i % CHECKPOINT_RECORDS === 0) await checkpoint?.();
  }
  return { records: found, lost };
}

interface RingArrays {
  readonly descriptors: bigint;
  readonly infos: bigint;
  readonly text: bigint;
  /** Bytes, a power of two. */
  readonly textSize: bigint;
}

/** Undefined for a descriptor that holds no record. */
function ringRecord(
  reader: Reader,
  { descriptors, infos, text, textSize }: RingArrays,
  id: bigint,
  index: number,
): LogRecord | "lost" | undefined {
  const { offset, size } = reader;
  const descriptor = reader.read(descriptors + BigInt(index * size("prb_desc")), size("prb_desc"));
  const info = reader.read(infos + BigInt(index * size("printk_info")), size("printk_info"));
  if (descriptor === undefined || info === undefined) return "lost";
  const desc = new Structure(descriptor);
  const state = desc.u64(offset("prb_desc.state_var") + offset("atomic_long_t.counter"));
  const kind = state >> STATE_SHIFT;
  if ((state & ID_MASK) !== id || (kind !== COMMITTED && kind !== FINALIZED)) return undefined;
  const lpos = offset("prb_desc.text_blk_lpos");
  const begin = desc.u64(lpos + offset("prb_data_blk_lpos.begin"));
  const next = desc.u64(lpos + offset("prb_data_blk_lpos.next"));
  const view = new Structure(info);
  const length = view.u16(offset("printk_info.text_len"));
  const bytes = textOf(reader, text, textSize, begin, next, length);
  return bytes === undefined ? "lost" : recordOf(reader, view, bytes);
}

/** A block that does not fit in front of the ring's end begins at its start. */
function textOf(
  reader: Reader,
  ring: bigint,
  size: bigint,
  begin: bigint,
  next: bigint,
  length: number,
): Buffer | undefined {
  if ((begin & NO_TEXT) !== 0n && (next & NO_TEXT) !== 0n) return Buffer.alloc(0);
  const last = (next - 1n) / size;
  const [from, end] =
    begin / size === last
      ? [begin % size, (begin % size) + (next - begin)]
      : [0n, next % size === 0n ? size : next % size];
  if (end <= from || end > size) return undefined;
  const room = Number(end - from) - ID_SIZE;
  return room < 0 ? undefined : reader.read(ring + from + BigInt(ID_SIZE), Math.min(length, room));
}

/** `u16 text_len; u8 facility; u8 flags : 5, level : 3`. */
const LEVEL_BEHIND_TEXT_LENGTH = 3;

function recordOf({ offset }: Reader, info: Structure, text: Buffer): LogRecord {
  return {
    sequence: Number(BigInt.asUintN(53, info.u64(offset("printk_info.seq")))),
    time: info.u64(offset("printk_info.ts_nsec")),
    level: levelOf(info.byteIf(offset("printk_info.text_len") + LEVEL_BEHIND_TEXT_LENGTH)),
    text: latin1(text),
  };
}

const levelOf = (byte: number | undefined): number | undefined =>
  byte === undefined ? undefined : byte >> 5;

/** struct printk_log (struct log before 3.11) ends with `u16 text_len, dict_len; u8 facility; u8 flags : 5, level : 3`. */
const LEVEL_BEHIND_TEXT_LENGTH_OLD = 5;

/** Records of 3.5 to 5.9: a header with lengths, the text, a dictionary; one of no length is the last before the start. */
async function records(reader: Reader, checkpoint: JobContext["checkpoint"] | undefined): Promise<KernelLog> {
  const type = reader.info.get("SIZE(printk_log)") === undefined ? "log" : "printk_log";
  const header = reader.size(type);
  const buffer = reader.pointerAt("log_buf");
  const size = reader.u32At("log_buf_len");
  const [first, next] = [reader.u32At("log_first_idx"), reader.u32At("log_next_idx")];
  if (size > MAX_TEXT || size < header) throw senseless(`size is ${size} bytes`);
  if (first >= size || next >= size) throw senseless(`first and next records are at ${first} and ${next}`);
  const found: LogRecord[] = [];
  let wrapped = next > first;
  for (let at = first; at !== next; ) {
    const record = at + header <= size ? recordAt(reader, type, buffer + BigInt(at), header) : "end";
    if (record === "end" && !wrapped) {
      wrapped = true;
      at = 0;
      continue;
    }
    if (typeof record === "string" || found.length === MAX_RECORDS) return { records: found, lost: 1 };
    found.push({ ...record.record, sequence: found.length });
    if (found.length % CHECKPOINT_RECORDS === 0) await checkpoint?.();
    at += record.length;
  }
  return { records: found, lost: 0 };
}

function recordAt(
  reader: Reader,
  type: string,
  address: bigint,
  header: number,
): { readonly record: Omit<LogRecord, "sequence">; readonly length: number } | "end" | "lost" {
  const { offset } = reader;
  const bytes = reader.read(address, header);
  if (bytes === undefined) return "lost";
  const view = new Structure(bytes);
  const length = view.u16(offset(`${type}.len`));
  if (length === 0) return "end";
  if (length < header) return "lost";
  const textLength = offset(`${type}.text_len`);
  const size = Math.min(view.u16(textLength), length - header);
  const text = reader.read(address + BigInt(header), size);
  if (text === undefined) return "lost";
  const record = {
    time: view.u64(offset(`${type}.ts_nsec`)),
    level: levelOf(view.byteIf(textLength + LEVEL_BEHIND_TEXT_LENGTH_OLD)),
    text: latin1(text),
  };
  return { record, length };
}
