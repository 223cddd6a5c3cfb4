/** Stores of pstore, written field by field from the structures of Linux, QEMU and EDK II. Shares nothing with the reader. */

/** A line of a kernel's log, `<4>[    1.500000] text`. */
export const logLine = (uptime: number, text: string, level = 4): string =>
  `<${level}>[${uptime.toFixed(6).padStart(12)}] ${text}\n`;

export const record = (reason: string, count: number, part: number, lines: readonly string[]): Buffer =>
  Buffer.from(`${reason}#${count} Part${part}\n${lines.join("")}`, "latin1");

/** An oops, and the panic that comes of it. */
export const OOPS_LINES = [
  logLine(0, "Linux version 6.1.0 (test)", 5),
  logLine(1.5, "BUG: kernel NULL pointer dereference, address: 0000000000000000", 1),
  logLine(1.500001, "Oops: 0000 [#1] PREEMPT SMP", 4),
  logLine(1.500002, "---[ end trace 0000000000000000 ]---", 4),
];
export const PANIC_LINES = [
  ...OOPS_LINES,
  logLine(1.6, "Kernel panic - not syncing: Fatal exception", 0),
  logLine(1.600001, "Kernel Offset: disabled", 0),
];

type Word = (bytes: Buffer, value: number, at: number) => void;
const u32le: Word = (bytes, value, at) => void bytes.writeUInt32LE(value >>> 0, at);
const u32be: Word = (bytes, value, at) => void bytes.writeUInt32BE(value >>> 0, at);

const times = (a: number, b: number): number => {
  let product = 0;
  for (let [x, y] = [a, b]; y > 0; y >>= 1, x = x & 0x80 ? (x << 1) ^ 0x11d : x << 1) if (y & 1) product ^= x;
  return product;
};

/** Parity of a shortened Reed-Solomon code: the remainder of the division by the generator, roots 2^0, 2^1 … */
export function parityOf(data: Uint8Array, count: number): Buffer {
  let generator = [1];
  for (let i = 0, root = 1; i < count; i++, root = times(root, 2)) {
    const next = new Array<number>(generator.length + 1).fill(0);
    for (const [power, value] of generator.entries()) {
      next[power]! ^= value;
      next[power + 1]! ^= times(value, root);
    }
    generator = next;
  }
  const rest = [...data, ...new Array<number>(count).fill(0)];
  for (let i = 0; i < data.length; i++) {
    const factor = rest[i]!;
    for (const [k, value] of generator.entries()) rest[i + k]! ^= times(value, factor);
  }
  return Buffer.from(rest.slice(data.length));
}

export interface RamoopsSpec {
  readonly size: number;
  readonly record: number;
  readonly console?: number;
  readonly ftrace?: number;
  readonly pmsg?: number;
  readonly ecc?: number;
  readonly bigEndian?: boolean;
  /** LINUX_VERSION_CODE. */
  readonly version?: number;
}

/** What a region holds. */
export interface RamoopsContents {
  /** By zone: what stands behind `====` and the time. */
  readonly dumps: readonly (Buffer | undefined)[];
  readonly console?: Buffer;
  readonly ftrace?: Buffer;
  readonly pmsg?: Buffer;
}

export const dumpZone = (payload: Uint8Array, packed: boolean, time = "1795230805.862003"): Buffer =>
  Buffer.concat([Buffer.from(`====${time}-${packed ? "C" : "D"}\n`), payload]);

/** A region as ramoops divides it; console and pmsg of more than their zones wrap. */
export function ramoopsRegion(spec: RamoopsSpec, contents: RamoopsContents): Buffer {
  const { size, record: recordSize, ecc = 0, version = 0x06_01c0 } = spec;
  const { console: consoleSize = 4096, ftrace = 4096, pmsg = 4096 } = spec;
  const region = Buffer.alloc(size);
  const dumps = size - consoleSize - ftrace - pmsg;
  const count = Math.floor(dumps / recordSize);
  const span = Math.floor(dumps / count / 2) * 2;
  const put = (at: number, length: number, data: Buffer | undefined, mark = 0) =>
    zone(region.subarray(at, at + length), data, mark, ecc, spec.bigEndian === true);
  for (let i = 0; i < count; i++) put(i * span, span, contents.dumps[i]);
  let at = count * span;
  if (consoleSize > 0) put(at, consoleSize, contents.console);
  at += consoleSize;
  if (ftrace > 0) put(at, ftrace, contents.ftrace, version);
  at += ftrace;
  if (pmsg > 0) put(at, pmsg, contents.pmsg);
  return region;
}

function zone(bytes: Buffer, data: Buffer | undefined, mark: number, ecc: number, bigEndian: boolean): void {
  const u32 = bigEndian ? u32be : u32le;
  const room = bytes.length - 12;
  const blocks = ecc === 0 ? 0 : Math.ceil((room - ecc) / (128 + ecc));
  const capacity = room - (ecc === 0 ? 0 : (blocks + 1) * ecc);
  const size = Math.min(capacity, data?.length ?? 0);
  const start = data === undefined ? 0 : data.length > capacity ? data.length % capacity : size;
  u32(bytes, 0x4347_4244 ^ mark, 0);
  u32(bytes, start, 4);
  u32(bytes, size, 8);
  for (let i = Math.max(0, (data?.length ?? 0) - capacity); i < (data?.length ?? 0); i++) {
    bytes[12 + (i % capacity)] = data![i]!;
  }
  if (ecc === 0) return;
  const inside = bytes.subarray(12, 12 + capacity);
  for (let block = 0; block < blocks; block++) {
    parityOf(inside.subarray(block * 128, (block + 1) * 128), ecc).copy(bytes, 12 + capacity + block * ecc);
  }
  parityOf(bytes.subarray(0, 12), ecc).copy(bytes, 12 + capacity + blocks * ecc);
}

/** A record of pstore/zone's in its zone: struct psz_buffer and psz_kmsg_header, of a 64-bit kernel. */
export function zoneImage(dumps: readonly { payload: Buffer; packed: boolean }[], log: Buffer): Buffer {
  const image = Buffer.alloc(0x8000 + dumps.length * 0x4000);
  const head = (at: number, type: number, length: number, start: number) => {
    image.writeUInt32LE(0x4347_4244 ^ type, at);
    image.writeUInt32LE(length, at + 4);
    image.writeUInt32LE(start, at + 8);
  };
  head(0, 7, 0, 0);
  head(0x4000, 2, log.length, 0);
  log.copy(image, 0x400c);
  for (const [i, { payload, packed }] of dumps.entries()) {
    const at = 0x8000 + i * 0x4000;
    head(at, 0, 40 + payload.length, 0);
    image.writeUInt32LE(0x4dfc_3ae5, at + 12);
    image.writeBigInt64LE(1_795_230_805n, at + 20);
    image.writeBigInt64LE(862_003_000n, at + 28);
    image[at + 36] = packed ? 1 : 0;
    image.writeUInt32LE(3, at + 40);
    image.writeUInt32LE(1, at + 44);
    payload.copy(image, at + 52);
  }
  return image;
}

const DMESG = "4ee097c145d5704a9c17a5549419eb12";
const DMESG_Z = "0787114fdd045540b5dd956d34ddfac6";
export const MCE = "beff08fee495e74bbc734096044a38fc";

/** A CPER record of Linux's ERST. */
export function cperRecord(payload: Buffer, packed: boolean, id: bigint, section = packed ? DMESG_Z : DMESG) {
  const bytes = Buffer.alloc(200 + payload.length);
  bytes.write("CPER", 0, "latin1");
  bytes.writeUInt16LE(0x100, 4);
  bytes.writeUInt32LE(0xffff_ffff, 6);
  bytes.writeUInt16LE(1, 10);
  bytes.writeUInt32LE(1, 12);
  bytes.writeUInt32LE(bytes.length, 20);
  bytes.writeBigUInt64LE(id >> 32n, 24);
  bytes.writeBigUInt64LE(id, 96);
  bytes.writeUInt32LE(200, 128);
  bytes.writeUInt32LE(payload.length, 132);
  bytes.write(section, 144, "hex");
  payload.copy(bytes, 200);
  return bytes;
}

/** QEMU's backing file; a slot without its number in the map was cleared. */
export function erstFile(records: readonly { bytes: Buffer; id: bigint }[]): Buffer {
  const file = Buffer.alloc(8192 * (records.length + 2));
  file.write("ERSTSTOR", 0, "latin1");
  file.writeUInt32LE(8192, 8);
  file.writeUInt32LE(8192, 12);
  file.writeUInt16LE(0x100, 16);
  file.writeUInt32LE(records.length, 20);
  for (const [i, { bytes, id }] of records.entries()) {
    file.writeBigUInt64LE(id, 24 + 8 * (i + 1));
    bytes.copy(file, 8192 * (i + 1));
  }
  return file;
}

/** A flash image with a store of variables; `state` 0x3f is one that is there. */
export function efiVolume(
  variables: readonly { name: string; data: Buffer; state?: number; guid?: string }[],
  authenticated = true,
): Buffer {
  const image = Buffer.alloc(0x2_0000, 0xff);
  const view = image;
  view.fill(0, 0, 72);
  view.writeBigUInt64LE(BigInt(image.length), 32);
  view.write("_FVH", 40, "latin1");
  view.writeUInt16LE(72, 48);
  view.write(
    authenticated ? "782cf3aa7b949a43a1802e144ec37792" : "1636cfdd7532644198b6fe85707ffe7d",
    72,
    "hex",
  );
  view.writeUInt32LE(image.length - 72, 88);
  view[92] = 0x5a;
  view[93] = 0xfe;
  const header = authenticated ? 60 : 32;
  let at = 100;
  for (const { name, data, state = 0x3f, guid = "79fcc8cf2ebedc4d97f09f98bfe298a0" } of variables) {
    const wide = Buffer.from(`${name}\0`, "utf16le");
    view.fill(0, at, at + header);
    view.writeUInt16LE(0x55aa, at);
    view[at + 2] = state;
    view.writeUInt32LE(7, at + 4);
    const sizes = at + (authenticated ? 36 : 8);
    view.writeUInt32LE(wide.length, sizes);
    view.writeUInt32LE(data.length, sizes + 4);
    view.write(guid, sizes + 8, "hex");
    wide.copy(view, at + header);
    data.copy(view, at + header + wide.length);
    at += header + wide.length + data.length;
    at += -(at - 100) & 3;
  }
  return image;
}

export interface NvramPartition {
  readonly name: string;
  readonly data: Buffer;
  /** Bytes with the header. */
  readonly length: number;
}

export function nvram(partitions: readonly NvramPartition[]): Buffer {
  return Buffer.concat(
    partitions.map(({ name, data, length }) => {
      const bytes = Buffer.alloc(length);
      bytes[0] = 0xa0;
      bytes.writeUInt16BE(length / 16, 2);
      bytes.write(name, 4, 12, "latin1");
      let sum = bytes[0]!;
      for (let i = 2; i < 16; i++) {
        sum += bytes[i]!;
        if (sum > 0xff) sum -= 0xff;
      }
      bytes[1] = sum;
      data.copy(bytes, 16);
      return bytes;
    }),
  );
}

/** err_log_info and oops_log_info in front of a dump. */
export function oopsLog(kind: number, sequence: number, text: Buffer, seconds = 1_795_230_805n): Buffer {
  const head = Buffer.alloc(20);
  head.writeUInt32BE(kind, 0);
  head.writeUInt32BE(sequence, 4);
  head.writeUInt16BE(5000, 8);
  head.writeUInt16BE(text.length, 10);
  head.writeBigUInt64BE(seconds, 12);
  return Buffer.concat([head, text]);
}

/** LZ4 block of literals and one kind of match: to the same three bytes before. */
export function lz4Block(data: Buffer): Buffer {
  const out: number[] = [];
  const sequence = (from: number, end: number, distance: number, length: number) => {
    const literals = end - from;
    out.push((Math.min(15, literals) << 4) | (distance === 0 ? 0 : Math.min(15, length - 4)));
    if (literals >= 15) lengthBytes(out, literals - 15);
    out.push(...data.subarray(from, end));
    if (distance === 0) return;
    out.push(distance & 255, distance >> 8);
    if (length - 4 >= 15) lengthBytes(out, length - 4 - 15);
  };
  let from = 0;
  for (let at = 4; at + 12 < data.length; ) {
    const before = data.lastIndexOf(data.subarray(at, at + 4), at - 1);
    if (before < 0 || at - before > 65535) {
      at++;
      continue;
    }
    let length = 4;
    while (at + length < data.length - 5 && data[before + length] === data[at + length]) length++;
    sequence(from, at, at - before, length);
    at += length;
    from = at;
  }
  sequence(from, data.length, 0, 0);
  return Buffer.from(out);
}

function lengthBytes(out: number[], value: number): void {
  let rest = value;
  for (; rest >= 255; rest -= 255) out.push(255);
  out.push(rest);
}

/** 842 of literals, zeros, repetitions, and units of two, four and eight bytes that were there before. */
export function pack842(data: Buffer): Buffer {
  let bits = "";
  const put = (value: number, count: number) => {
    bits += value.toString(2).padStart(count, "0");
  };
  const whole = data.length - (data.length % 8);
  /** Number of the unit in the ring that has these bytes; -1 where none has. */
  const indexOf = (unit: Buffer, size: number, count: number, total: number): number => {
    const first = Math.max(0, total - size * count);
    for (let at = Math.ceil(first / size) * size; at + size <= total; at += size) {
      if (data.subarray(at, at + size).equals(unit)) return (at / size) % count;
    }
    return -1;
  };
  for (let at = 0; at < whole; at += 8) {
    const group = data.subarray(at, at + 8);
    if (group.every((byte) => byte === 0)) {
      put(0x1c, 5);
      continue;
    }
    if (at >= 8 && group.equals(data.subarray(at - 8, at))) {
      let count = 1;
      while (
        count < 64 &&
        at + 8 * (count + 1) <= whole &&
        data.subarray(at + 8 * count, at + 8 * count + 8).equals(group)
      )
        count++;
      put(0x1b, 5);
      put(count - 1, 6);
      at += 8 * (count - 1);
      continue;
    }
    const eight = indexOf(group, 8, 256, at);
    const [high, low] = [indexOf(group.subarray(0, 4), 4, 512, at), indexOf(group.subarray(4), 4, 512, at)];
    const twos = [0, 2, 4, 6].map((i) => indexOf(group.subarray(i, i + 2), 2, 256, at));
    const literal = (from: number, count: number) => {
      for (let i = 0; i < count; i++) put(group[from + i]!, 8);
    };
    if (eight >= 0) {
      put(0x19, 5);
      put(eight, 8);
    } else if (high >= 0 && low >= 0) {
      put(0x18, 5);
      put(high, 9);
      put(low, 9);
    } else if (low >= 0) {
      put(0x04, 5);
      literal(0, 4);
      put(low, 9);
    } else if (twos[0]! >= 0 && twos[2]! >= 0) {
      // 0x0c: I2 D2 I2 D2.
      put(0x0c, 5);
      put(twos[0]!, 8);
      literal(2, 2);
      put(twos[2]!, 8);
      literal(6, 2);
    } else {
      put(0, 5);
      literal(0, 8);
    }
  }
  if (whole < data.length) {
    put(0x1d, 5);
    put(data.length - whole, 3);
    for (const byte of data.subarray(whole)) put(byte, 8);
  }
  put(0x1e, 5);
  let crc = 0;
  for (const byte of data) {
    crc ^= byte << 24;
    for (let i = 0; i < 8; i++) crc = (crc << 1) ^ (crc < 0 ? 0x04c1_1db7 : 0);
  }
  put(crc >>> 16, 16);
  put(crc & 0xffff, 16);
  const padded = bits.padEnd(Math.ceil(bits.length / 64) * 64, "0");
  return Buffer.from(padded.match(/.{8}/g)!.map((byte) => Number.parseInt(byte, 2)));
}
