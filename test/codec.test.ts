import { spawnSync } from "node:child_process";
import { deflateSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LzoPacker, maxPackedLzo, unpackLzo } from "../src/codec/lzo.ts";
import { nodeZlib } from "../src/codec/node-zlib.ts";
import { maxPackedSnappy, SnappyPacker, unpackSnappy } from "../src/codec/snappy.ts";
import { ownZstd } from "../src/codec/zstd/page.ts";
import { block } from "./support/blocks.ts";
import { packed } from "./synth/kdump.ts";
import { patternBytes } from "./synth/pattern.ts";

const lzo = new LzoPacker();
const snappy = new SnappyPacker();
const codecs = [
  {
    name: "LZO1X",
    pack: (bytes: Buffer) => {
      const output = Buffer.alloc(maxPackedLzo(bytes.length));
      return output.subarray(0, lzo.pack(bytes, output));
    },
    unpack: unpackLzo,
  },
  {
    name: "snappy",
    pack: (bytes: Buffer) => {
      const output = Buffer.alloc(maxPackedSnappy(bytes.length));
      return output.subarray(0, snappy.pack(bytes, output));
    },
    unpack: unpackSnappy,
  },
  { name: "zlib", pack: (bytes: Buffer) => deflateSync(bytes), unpack: nodeZlib().unpack },
] as const;

describe.each(codecs)("$name", ({ pack, unpack }) => {
  test("unpacks what it packed, and nothing into less room", () => {
    fc.assert(
      fc.property(block, (bytes) => {
        const small = pack(bytes);
        const output = Buffer.alloc(bytes.length);
        expect(unpack(small, output)).toBe(bytes.length);
        expect(output.equals(bytes)).toBe(true);
        expect(unpack(small, Buffer.alloc(bytes.length - 1))).toBeUndefined();
      }),
      { numRuns: 300 },
    );
  });

  test("is bounded by its output, whatever it is given", () => {
    fc.assert(
      fc.property(
        block,
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
        fc.nat(),
        (bytes, edits, end) => {
          const small = Buffer.from(pack(bytes));
          for (const [at, value] of edits) small[at % small.length] = value;
          // The bytes behind the output are another page's.
          const room = Buffer.alloc(4096 + 64, 0xee);
          const size = unpack(small.subarray(0, 1 + (end % small.length)), room.subarray(0, 4096));
          expect(size === undefined || size <= 4096).toBe(true);
          expect(room.subarray(4096).every((byte) => byte === 0xee)).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  });

  test("an empty block is none", () => expect(unpack(Buffer.alloc(0), Buffer.alloc(4096))).toBeUndefined());
});

test("a page of zstd", () => {
  const { unpack } = ownZstd();
  const output = Buffer.alloc(4096);
  expect(unpack(packed(Buffer.alloc(4096, 7), "zstd"), output)).toBe(4096);
  expect(output.every((byte) => byte === 7)).toBe(true);
  expect(unpack(packed(Buffer.alloc(4096, 7), "zstd"), Buffer.alloc(100))).toBeUndefined();
  expect(unpack(Buffer.from("no frame at all"), output)).toBeUndefined();
});

/** liblzo2 and libsnappy, through Python's ctypes: what they pack we unpack, and the other way round. */
const REFERENCE = `
import ctypes, sys
lzo, snappy = ctypes.CDLL("liblzo2.so.2"), ctypes.CDLL("libsnappy.so.1")
work = ctypes.create_string_buffer(1 << 20)
def pack(name, data):
    out, size = ctypes.create_string_buffer(2 * len(data) + 256), ctypes.c_size_t(2 * len(data) + 256)
    if name == "lzo": assert lzo.lzo1x_1_compress(data, ctypes.c_size_t(len(data)), out, ctypes.byref(size), work) == 0
    else: assert snappy.snappy_compress(data, ctypes.c_size_t(len(data)), out, ctypes.byref(size)) == 0
    return out.raw[:size.value]
def unpack(name, data, length):
    out, size = ctypes.create_string_buffer(length + 1), ctypes.c_size_t(length)
    if name == "lzo": code = lzo.lzo1x_decompress_safe(data, ctypes.c_size_t(len(data)), out, ctypes.byref(size), None)
    else: code = snappy.snappy_uncompress(data, ctypes.c_size_t(len(data)), out, ctypes.byref(size))
    return out.raw[:size.value] if code == 0 else b""
for line in sys.stdin:
    what, name, text, length = line.split()
    data = bytes.fromhex(text)
    print((pack(name, data) if what == "pack" else unpack(name, data, int(length))).hex())
`;
const python = (lines: readonly string[]): string[] =>
  spawnSync("python3", ["-c", REFERENCE], {
    input: `${lines.join("\n")}\n`,
    encoding: "latin1",
    maxBuffer: 1 << 28,
  })
    .stdout?.split("\n")
    .slice(0, -1) ?? [];
const hasReference = python([`pack lzo 00 0`, `pack snappy 00 0`]).length === 2;

describe.skipIf(!hasReference)(
  `the reference libraries${hasReference ? "" : " (skipped: no python3, liblzo2 or libsnappy)"}`,
  () => {
    const blocks = [
      ...fc.sample(block, { numRuns: 200, seed: 20_261_125 }),
      ...[1, 2, 3, 4, 17, 18, 19, 237, 238, 239, 4096, 65_536].map((size) =>
        patternBytes(65_536, size).subarray(0, size),
      ),
      Buffer.alloc(65_536),
    ];

    test.each([
      ["lzo", codecs[0]],
      ["snappy", codecs[1]],
    ] as const)("%s", (name, { pack, unpack }) => {
      const theirs = python(blocks.map((bytes) => `pack ${name} ${bytes.toString("hex")} 0`));
      expect(theirs).toHaveLength(blocks.length);
      for (const [i, bytes] of blocks.entries()) {
        const output = Buffer.alloc(bytes.length);
        expect(unpack(Buffer.from(theirs[i]!, "hex"), output), `${name} ${i}`).toBe(bytes.length);
        expect(output.equals(bytes), `${name} ${i}`).toBe(true);
      }
      const ours = python(
        blocks.map((bytes) => `unpack ${name} ${pack(bytes).toString("hex")} ${bytes.length}`),
      );
      expect(ours).toEqual(blocks.map((bytes) => bytes.toString("hex")));
    });
  },
);
