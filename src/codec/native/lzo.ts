import { maxPackedLzo } from "../lzo.ts";
import type { Pack, PageCodec, Unpack } from "../page-codec.ts";
import { Scratch } from "../scratch.ts";
import { foreign, SizeCell } from "../shared-library.ts";

/** LZO1X_1_MEM_COMPRESS: 16384 pointers. */
const WORK_MEMORY = 16_384 * 8;
/** What lzo_init() passes: sizeof of short, int, long, lzo_uint32_t, lzo_uint, a dictionary entry, char *, void *. */
const SIZES = [2, 4, 8, 4, 8, 8, 8, 8] as const;

/** liblzo2; undefined where it is not there or of another ABI. */
export function nativeLzo(): PageCodec | undefined {
  const lzo = foreign(["liblzo2.so.2"], {
    init: "int __lzo_init_v2(unsigned int version, int, int, int, int, int, int, int, int, int)",
    pack: "int lzo1x_1_compress(const void *in, size_t size, void *out, void *outSize, void *work)",
    unpack: "int lzo1x_decompress_safe(const void *in, size_t size, void *out, void *outSize, void *work)",
  });
  if (lzo === undefined || lzo.init(1, ...SIZES, -1) !== 0) return undefined;
  const size = new SizeCell();
  const scratch = new Scratch();
  const work = Buffer.allocUnsafeSlow(WORK_MEMORY);
  const pack: Pack = (input, output) => {
    const room = scratch.of(maxPackedLzo(input.length));
    // It has no bound but the longest that the input can become.
    const code = lzo.pack(input, input.length, room, size.pointer, work);
    return code === 0 ? scratch.to(output, size.value) : undefined;
  };
  const unpack: Unpack = (input, output) => {
    if (input.length === 0) return undefined;
    size.value = output.length;
    return lzo.unpack(input, input.length, output, size.pointer, null) === 0 ? size.value : undefined;
  };
  return { pack, unpack };
}
