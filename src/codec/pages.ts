import { ownLzo } from "./lzo.ts";
import { nativeDeflate } from "./native/deflate.ts";
import { nativeLzo } from "./native/lzo.ts";
import { nativeSnappy } from "./native/snappy.ts";
import { nativeZlib } from "./native/zlib.ts";
import { nativeZstd } from "./native/zstd.ts";
import { nodeZlib, nodeZstd } from "./node-zlib.ts";
import type { Pack, PageCodec, Unpack } from "./page-codec.ts";
import { ownSnappy } from "./snappy.ts";
import { ownZstd } from "./zstd/page.ts";

export type { Pack, Unpack } from "./page-codec.ts";

/** The compressions of kdump-compressed dumps. */
export type PageCompression = "zlib" | "lzo" | "snappy" | "zstd";

/** A way to compress, decompress, or both. */
export interface Implementation {
  readonly name: string;
  /** Undefined where the system lacks what it needs. */
  load(): Partial<PageCodec> | undefined;
}

/** Every implementation, the fastest first (`npm run bench` tells); the last of each needs nothing but Node. */
export const IMPLEMENTATIONS: Readonly<Record<PageCompression, readonly Implementation[]>> = {
  zlib: [
    { name: "libdeflate", load: nativeDeflate },
    { name: "libz", load: nativeZlib },
    { name: "node:zlib", load: nodeZlib },
  ],
  lzo: [
    { name: "liblzo2", load: nativeLzo },
    { name: "JavaScript", load: ownLzo },
  ],
  snappy: [
    { name: "libsnappy", load: nativeSnappy },
    { name: "JavaScript", load: ownSnappy },
  ],
  zstd: [
    { name: "libzstd", load: nativeZstd },
    { name: "node:zlib (zstd)", load: nodeZstd },
    { name: "JavaScript", load: ownZstd },
  ],
};

/**
 * What decompresses pages, chosen when first asked for: the fastest there is on this system. Each thread has its own.
 * Nothing is written behind the output, and nothing is read behind the input, whatever that holds.
 */
export const unpackers: Readonly<Record<PageCompression, Unpack>> = lazily((compression) =>
  first(IMPLEMENTATIONS[compression], "unpack"),
) as Record<PageCompression, Unpack>;

/**
 * What compresses pages, as `unpackers`. There may be none for zstd: that takes libzstd with koffi, or Node 22.15.
 */
export const packers: Readonly<Record<PageCompression, Pack | undefined>> = lazily((compression) =>
  first(IMPLEMENTATIONS[compression], "pack"),
);

function first<Direction extends keyof PageCodec>(
  implementations: readonly Implementation[],
  direction: Direction,
): PageCodec[Direction] | undefined {
  for (const { load } of implementations) {
    const found = load()?.[direction];
    if (found !== undefined) return found;
  }
  return undefined;
}

function lazily<T>(load: (compression: PageCompression) => T): Readonly<Record<PageCompression, T>> {
  const loaded = new Map<PageCompression, T>();
  const of = (compression: PageCompression): T => {
    if (!loaded.has(compression)) loaded.set(compression, load(compression));
    return loaded.get(compression) as T;
  };
  return {
    get zlib() {
      return of("zlib");
    },
    get lzo() {
      return of("lzo");
    },
    get snappy() {
      return of("snappy");
    },
    get zstd() {
      return of("zstd");
    },
  };
}
