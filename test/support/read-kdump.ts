import { inflateSync } from "node:zlib";

/** A kdump-compressed dump read from the format's documentation alone: small files, version 6, nothing of src/. */
export interface ReadKdump {
  readonly status: number;
  readonly utsname: readonly string[];
  readonly dumpLevel: number;
  readonly cpus: number;
  readonly physBase: bigint;
  readonly notes: Buffer;
  readonly vmcoreinfo: string;
  readonly ram: (pfn: number) => boolean;
  readonly dumped: (pfn: number) => boolean;
  /** Of a page that was dumped: where it is, how large, how compressed. */
  readonly descriptor: (pfn: number) => {
    readonly offset: number;
    readonly size: number;
    readonly flags: number;
  };
  /** Undefined for codecs that Node.js has not. */
  readonly page: (pfn: number) => Buffer | undefined;
}

export function readKdump(file: Buffer): ReadKdump {
  if (file.toString("latin1", 0, 8) !== "KDUMP   " || file.readInt32LE(8) !== 6)
    throw new Error("no kdump v6");
  const block = file.readUInt32LE(428);
  const sub = block;
  const maxMapnr = Number(file.readBigUInt64LE(sub + 96));
  const bitmaps = (1 + file.readUInt32LE(432)) * block;
  const half = (file.readUInt32LE(436) / 2) * block;
  if (half * 8 < maxMapnr) throw new Error("bitmaps too small");
  const descriptors = bitmaps + 2 * half;
  const bit = (at: number, pfn: number) => ((file[at + (pfn >> 3)]! >> (pfn & 7)) & 1) === 1;
  const dumped = (pfn: number) => pfn < maxMapnr && bit(bitmaps + half, pfn);
  const text = (at: number, length: number) => {
    const whole = file.toString("latin1", at, at + length);
    return whole.slice(0, whole.indexOf("\0"));
  };
  const span = (at: number) => {
    const [offset, size] = [Number(file.readBigUInt64LE(at)), Number(file.readBigUInt64LE(at + 8))];
    return file.subarray(offset, offset + size);
  };
  const frames: number[] = [];
  for (let i = 0; i < half; i++) {
    if (file[bitmaps + half + i] === 0) continue;
    for (let pfn = 8 * i; pfn < 8 * i + 8; pfn++) if (dumped(pfn)) frames.push(pfn);
  }
  const descriptor = (pfn: number) => {
    const at = descriptors + 24 * frames.indexOf(pfn);
    return {
      offset: Number(file.readBigUInt64LE(at)),
      size: file.readUInt32LE(at + 8),
      flags: file.readUInt32LE(at + 12),
    };
  };
  return {
    status: file.readUInt32LE(424),
    utsname: [0, 1, 2, 3, 4, 5].map((i) => text(12 + 65 * i, 65)),
    dumpLevel: file.readInt32LE(sub + 8),
    cpus: file.readUInt32LE(460),
    physBase: file.readBigInt64LE(sub),
    notes: span(sub + 48),
    vmcoreinfo: span(sub + 32).toString("latin1"),
    ram: (pfn) => pfn < maxMapnr && bit(bitmaps, pfn),
    dumped,
    descriptor,
    page: (pfn) => {
      const { offset, size, flags } = descriptor(pfn);
      const bytes = file.subarray(offset, offset + size);
      if (flags === 0) return bytes;
      return flags === 1 ? inflateSync(bytes) : undefined;
    },
  };
}
