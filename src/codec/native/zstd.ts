import type { Pack, PageCodec, Unpack } from "../page-codec.ts";
import { Scratch } from "../scratch.ts";
import { foreign } from "../shared-library.ts";

/** makedumpfile's. */
const LEVEL = 1;

/** libzstd, Node's own or the system's; undefined where it is not there. */
export function nativeZstd(): PageCodec | undefined {
  const zstd = foreign([null, "libzstd.so.1"], {
    packer: "void *ZSTD_createCCtx(void)",
    unpacker: "void *ZSTD_createDCtx(void)",
    pack: "size_t ZSTD_compressCCtx(void *context, void *out, size_t room, const void *in, size_t size, int level)",
    unpack: "size_t ZSTD_decompressDCtx(void *context, void *out, size_t room, const void *in, size_t size)",
  });
  if (zstd === undefined) return undefined;
  const packer = zstd.packer();
  const unpacker = zstd.unpacker();
  if (!packer || !unpacker) return undefined;
  const scratch = new Scratch();
  const pack: Pack = (input, output) => {
    const most = maxPackedZstd(input.length);
    // With less room than the longest it checks more, and does not always use all of it.
    const size = Number(zstd.pack(packer, scratch.of(most), most, input, input.length, LEVEL));
    return size <= most ? scratch.to(output, size) : undefined;
  };
  const unpack: Unpack = (input, output) => {
    if (input.length === 0) return undefined;
    const size = Number(zstd.unpack(unpacker, output, output.length, input, input.length));
    // Errors are at the upper end of size_t.
    return size <= output.length ? size : undefined;
  };
  return { pack, unpack };
}

/** ZSTD_COMPRESSBOUND, or a little more. */
const maxPackedZstd = (size: number): number => size + (size >> 8) + 64;
