import { deflateRawSync, deflateSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { unpack842 } from "../src/codec/842.ts";
import { unpackDeflate } from "../src/codec/inflate.ts";
import { unpackLz4 } from "../src/codec/lz4.ts";
import { LzoPacker, maxPackedLzo, unpackSomeLzo } from "../src/codec/lzo.ts";
import { ReedSolomon } from "../src/codec/reed-solomon.ts";
import type { Unpacked } from "../src/codec/unpacked.ts";
import { unpackSomeZstd } from "../src/codec/zstd/some.ts";
import { unpackRecord } from "../src/triage/pstore/unpack.ts";
import { sampleText, sampleZstd } from "./support/zstd-sample.ts";
import { random } from "./synth/pattern.ts";
import { lz4Block, PANIC_LINES, pack842, parityOf, record } from "./synth/pstore.ts";

const LIMIT = 2 ** 20;

/** Bytes with repetitions, so that every kind of copy comes up. */
const compressible = fc
  .array(fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 24 }), fc.integer({ min: 1, max: 9 })), {
    maxLength: 12,
  })
  .map((runs) => Buffer.concat(runs.flatMap(([bytes, times]) => new Array<Uint8Array>(times).fill(bytes))));

const packLzo = (data: Buffer): Buffer => {
  const output = Buffer.alloc(maxPackedLzo(data.length));
  return output.subarray(0, new LzoPacker().pack(data, output));
};

const CODECS: readonly [string, (data: Buffer) => Buffer, (bytes: Uint8Array, limit: number) => Unpacked][] =
  [
    ["LZ4", lz4Block, unpackLz4],
    ["842", pack842, unpack842],
    [
      "zlib",
      (data) => deflateSync(data, { windowBits: 12, memLevel: 4 }),
      (b, n) => unpackDeflate(b, true, n),
    ],
    ["deflate", (data) => deflateRawSync(data, { windowBits: 11 }), (b, n) => unpackDeflate(b, false, n)],
    ["LZO", packLzo, unpackSomeLzo],
  ];

describe.each(CODECS)("%s", (name, pack, unpack) => {
  test("gives back what was packed", () => {
    fc.assert(
      fc.property(compressible, (data) => {
        const { bytes, fault } = unpack(pack(data), LIMIT);
        expect(fault).toBe(undefined);
        expect(bytes.equals(data)).toBe(true);
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  test("a cut stream gives its beginning", () => {
    fc.assert(
      fc.property(compressible, fc.double({ min: 0, max: 1, noNaN: true }), (data, part) => {
        const packed = pack(data);
        const cut = packed.subarray(0, Math.floor(packed.length * part));
        const { bytes, fault } = unpack(cut, LIMIT);
        expect(data.subarray(0, bytes.length).equals(bytes)).toBe(true);
        // An LZ4 block has no end: it may end wherever literals do; of 842 what follows the CRC is padding.
        if (bytes.length < data.length && name !== "LZ4") expect(fault).not.toBe(undefined);
      }),
      { seed: 2, numRuns: 300 },
    );
  });

  test("what is damaged is told or unpacks, and never grows beyond the limit", () => {
    const text = record("Panic", 1, 1, PANIC_LINES);
    const packed = pack(Buffer.concat(new Array<Buffer>(20).fill(text)));
    for (let seed = 0; seed < 400; seed++) {
      const chance = random(seed);
      const bytes = Buffer.from(packed);
      for (let i = chance.below(4); i >= 0; i--) bytes[chance.below(bytes.length)] = chance.below(256);
      expect(unpack(bytes, 5000).bytes.length).toBeLessThanOrEqual(5000);
    }
  });

  test("a bomb stops at the limit", () => {
    const packed = pack(Buffer.alloc(200_000));
    const { bytes, fault } = unpack(packed, 1000);
    expect(bytes.length).toBeLessThanOrEqual(1000);
    expect(fault).not.toBe(undefined);
  });
});

describe("LZ4", () => {
  test("the example of lz4_Block_format.md's rules: a match may overlap what it writes", () => {
    const block = Buffer.from([0x1a, 0x61, 1, 0, 0x50, 0x62, 0x63, 0x64, 0x65, 0x66]);
    expect(unpackLz4(block, LIMIT).bytes.toString()).toBe(`${"a".repeat(15)}bcdef`);
  });

  test.each([
    ["distance 0", [0x10, 0x61, 0, 0]],
    ["a distance beyond the start", [0x10, 0x61, 2, 0]],
  ])("%s is damage", (_, bytes) => expect(unpackLz4(Buffer.from(bytes), LIMIT).fault).toBe("damaged"));
});

describe("zstd", () => {
  test("one frame, with anything behind it", () => {
    const { bytes, read, fault } = unpackSomeZstd(Buffer.concat([sampleZstd(), Buffer.from("\nECC")]), LIMIT);
    expect([bytes.equals(sampleText()), read, fault]).toEqual([true, sampleZstd().length, undefined]);
  });

  test("a cut frame gives the blocks before, a bomb no more than the limit", () => {
    expect(unpackSomeZstd(sampleZstd().subarray(0, -9), LIMIT).fault).toBe("cut");
    const { bytes, fault } = unpackSomeZstd(sampleZstd(), 100);
    expect([bytes.length, fault]).toEqual([100, "full"]);
  });
});

describe("which algorithm", () => {
  const text = record("Panic", 1, 1, PANIC_LINES);

  test.each([
    ["zlib", deflateSync(text, { windowBits: 12, memLevel: 4 })],
    ["deflate", deflateRawSync(text, { windowBits: 11 })],
    ["deflate", deflateRawSync(text)],
    ["lzo", packLzo(text)],
    ["lz4", lz4Block(text)],
    ["842", pack842(text)],
  ])("%s is told by what comes out", (algorithm, packed) => {
    const found = unpackRecord(packed);
    expect([found?.algorithm, found?.bytes.equals(text)]).toEqual([algorithm, true]);
  });

  test("what is no record of any is none", () => {
    for (let seed = 0; seed < 300; seed++) {
      expect(unpackRecord(random(seed).bytes(random(seed).below(600)))).toBe(undefined);
    }
    expect(unpackRecord(deflateRawSync(Buffer.from("any other text\n")))).toBe(undefined);
  });
});

describe("Reed-Solomon", () => {
  const block = (length: number, seed: number) => random(seed).bytes(length);

  test("parity is that of another implementation", () => {
    for (const parity of [2, 8, 16, 32]) {
      const data = block(100, parity);
      expect(new ReedSolomon(parity).isRight(data, parityOf(data, parity))).toBe(true);
    }
  });

  test("up to half as many wrong bytes as there is parity are repaired, more are told or left", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(4, 8, 16, 32),
        fc.integer({ min: 12, max: 128 }),
        fc.integer({ min: 0, max: 40 }),
        fc.nat(),
        (parity, length, errors, seed) => {
          const chance = random(seed);
          const word = block(length, seed);
          const all = Buffer.concat([word, parityOf(word, parity)]);
          const damaged = Buffer.from(all);
          const places = new Set<number>();
          while (places.size < Math.min(errors, all.length)) places.add(chance.below(all.length));
          for (const at of places) damaged[at]! ^= 1 + chance.below(255);
          const [data, rest] = [damaged.subarray(0, length), damaged.subarray(length)];
          const before = Buffer.from(damaged);
          const repaired = new ReedSolomon(parity).repair(data, rest);
          if (2 * places.size <= parity) {
            expect([repaired, damaged.equals(all)]).toEqual([places.size, true]);
          } else if (repaired === undefined) {
            expect(damaged.equals(before)).toBe(true);
          } else {
            // Nearer to another word of the code than to this: no decoder can tell, and with 16 bytes of parity one
            // damage in 8! of them is.
            expect(new ReedSolomon(parity).isRight(data, rest)).toBe(true);
            expect(parity).toBeLessThan(16);
          }
        },
      ),
      { seed: 3, numRuns: 600 },
    );
  });
});
