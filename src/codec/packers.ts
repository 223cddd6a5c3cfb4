import { deflateSync } from "node:zlib";
import { unpackZlib, unpackZstdBlock } from "./inflate.ts";
import { LzoPacker, maxPackedLzo, unpackLzo } from "./lzo.ts";
import { maxPackedSnappy, SnappyPacker, unpackSnappy } from "./snappy.ts";

/** Bytes written; undefined when the input is damaged, cut, or does not fit. */
export type Unpack = (input: Buffer, output: Buffer) => number | undefined;
/** Bytes written; undefined when they do not fit. */
export type Pack = (input: Buffer, output: Buffer) => number | undefined;

export type Codec = "zlib" | "lzo" | "snappy" | "zstd";

const UNPACK = { zlib: unpackZlib, lzo: unpackLzo, snappy: unpackSnappy, zstd: unpackZstdBlock };

export const unpackerOf = (codec: Codec): Unpack => UNPACK[codec];
export const packerOf = (codec: Codec): Pack | undefined => PACK[codec];

const MAX_PAGE = 65_536;
const scratch = Buffer.allocUnsafeSlow(Math.max(maxPackedLzo(MAX_PAGE), maxPackedSnappy(MAX_PAGE)));
const lzo = new LzoPacker();
const snappy = new SnappyPacker();

const PACK: Readonly<Record<Codec, Pack | undefined>> = {
  zlib: (input, output) => copied(deflateSync(input, { level: 1 }), output),
  lzo: (input, output) => copied(scratch.subarray(0, lzo.pack(input, scratch)), output),
  snappy: (input, output) => copied(scratch.subarray(0, snappy.pack(input, scratch)), output),
  zstd: undefined,
};

const copied = (packed: Buffer, output: Buffer): number | undefined =>
  packed.length > output.length ? undefined : packed.copy(output);
