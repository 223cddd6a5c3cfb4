import type { Pack, PageCodec, Unpack } from "../page-codec.ts";
import { Scratch } from "../scratch.ts";
import { foreign, SizeCell } from "../shared-library.ts";
import { maxPackedSnappy } from "../snappy.ts";

/** libsnappy by its C API, snappy-c.h; undefined where it is not there. */
export function nativeSnappy(): PageCodec | undefined {
  const snappy = foreign(["libsnappy.so.1"], {
    pack: "int snappy_compress(const void *in, size_t size, void *out, void *outSize)",
    unpack: "int snappy_uncompress(const void *in, size_t size, void *out, void *outSize)",
  });
  if (snappy === undefined) return undefined;
  const size = new SizeCell();
  const scratch = new Scratch();
  const pack: Pack = (input, output) => {
    const most = maxPackedSnappy(input.length);
    // It refuses less room than the longest that the input can become.
    const room = scratch.of(most);
    size.value = most;
    const code = snappy.pack(input, input.length, room, size.pointer);
    return code === 0 ? scratch.to(output, size.value) : undefined;
  };
  const unpack: Unpack = (input, output) => {
    if (input.length === 0) return undefined;
    // It compares this with the length in front of the block before it writes.
    size.value = output.length;
    return snappy.unpack(input, input.length, output, size.pointer) === 0 ? size.value : undefined;
  };
  return { pack, unpack };
}
