import type { Unpack } from "./page-codec.ts";
import { unpackers } from "./pages.ts";

/** Decompresses a zlib stream (RFC 1950) of a page. */
export const unpackZlib: Unpack = (input, output) => unpackers.zlib(input, output);

/** `unpackZlib` of a zstd frame. */
export const unpackZstdBlock: Unpack = (input, output) => unpackers.zstd(input, output);
