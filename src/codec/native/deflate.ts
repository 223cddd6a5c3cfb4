import type { Pack, PageCodec, Unpack } from "../page-codec.ts";
import { Scratch } from "../scratch.ts";
import { foreign, SizeCell } from "../shared-library.ts";

/** Gives no more bytes than zlib's level 1. */
const LEVEL = 1;
/** What it fills of its room, it fills up to some bytes before the end. */
const MARGIN = 64;

/** The zlib format by libdeflate, which is made for whole blocks; undefined where it is not there. */
export function nativeDeflate(): PageCodec | undefined {
  const deflate = foreign(["libdeflate.so.0"], {
    packer: "void *libdeflate_alloc_compressor(int level)",
    unpacker: "void *libdeflate_alloc_decompressor(void)",
    pack: "size_t libdeflate_zlib_compress(void *packer, const void *in, size_t size, void *out, size_t room)",
    unpack:
      "int libdeflate_zlib_decompress(void *unpacker, const void *in, size_t size, void *out, size_t room, void *outSize)",
  });
  if (deflate === undefined) return undefined;
  const packer = deflate.packer(LEVEL);
  const unpacker = deflate.unpacker();
  if (!packer || !unpacker) return undefined;
  const size = new SizeCell();
  const scratch = new Scratch();
  const pack: Pack = (input, output) => {
    const room = output.length + MARGIN;
    // 0: it does not fit.
    const length = Number(deflate.pack(packer, input, input.length, scratch.of(room), room));
    return length === 0 ? undefined : scratch.to(output, length);
  };
  const unpack: Unpack = (input, output) => {
    if (input.length === 0) return undefined;
    const code = deflate.unpack(unpacker, input, input.length, output, output.length, size.pointer);
    return code === 0 ? size.value : undefined;
  };
  return { pack, unpack };
}
