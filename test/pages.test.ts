import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { PageCodec } from "../src/codec/page-codec.ts";
import { IMPLEMENTATIONS, type PageCompression, packers } from "../src/codec/pages.ts";
import { foreign } from "../src/codec/shared-library.ts";
import { block } from "./support/blocks.ts";

const SEED = Number(process.env.GUESTCORE_SEED ?? 20_261_126);
const MUTANTS = Number(process.env.GUESTCORE_MUTANTS ?? 1500);

const loaded = Object.entries(IMPLEMENTATIONS).map(([compression, implementations]) => ({
  compression: compression as PageCompression,
  here: implementations.flatMap(({ name, load }) => {
    const codec = load();
    return codec === undefined ? [] : [{ name, ...codec }];
  }),
  absent: implementations.filter(({ load }) => load() === undefined).map(({ name }) => name),
}));

/** What is left of a word's worth of prose, a page of pointers, noise: a page in the style of each. */
const pageLike = fc
  .tuple(fc.constantFrom("text", "pointers", "noise", "zeros"), fc.infiniteStream(fc.nat(0xffff)))
  .map(([style, numbers]) => {
    const page = Buffer.alloc(4096);
    const next = () => numbers.next().value as number;
    if (style === "noise") for (let at = 0; at < 4096; at += 2) page.writeUInt16LE(next(), at);
    if (style === "text") {
      for (let at = 0; at < 4096; ) at += page.write(` ${(next() % 300).toString(36)}`, at);
    }
    if (style === "pointers") {
      for (let at = 0; at < 4096; at += 8)
        page.writeBigUInt64LE(0xffff_8881_0000_0000n + BigInt(next() * 64), at);
    }
    return page;
  });
const input = fc.oneof(block, pageLike);

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const EDGE = 64;

/** The bytes as a part of a larger buffer, with `edge` on either side. */
function between(bytes: Uint8Array, edge: number): Buffer {
  const whole = Buffer.alloc(bytes.length + 2 * EDGE, edge);
  whole.set(bytes, EDGE);
  return whole.subarray(EDGE, EDGE + bytes.length);
}

/** Runs a decoder or an encoder on a room in the middle of a buffer; what it wrote, in hex, or "no". */
function run(codec: PageCodec["unpack"], bytes: Uint8Array, room: number, edge = 0x55): string {
  const whole = Buffer.alloc(room + 2 * EDGE, 0xee);
  const output = whole.subarray(EDGE, EDGE + room);
  const size = codec(between(bytes, edge), output);
  const outside = [...whole.subarray(0, EDGE), ...whole.subarray(EDGE + room)];
  expect(outside.every((byte) => byte === 0xee)).toBe(true);
  if (size === undefined) return "no";
  expect(size).toBeLessThanOrEqual(room);
  return hex(output.subarray(0, size));
}

test("a library or a function that is not there is none", () => {
  const prototypes = { length: "size_t strlen(const char *text)" };
  expect(foreign(["libno-such-thing.so.9"], prototypes)).toBeUndefined();
  expect(foreign([null], { ...prototypes, other: "int no_such_function_at_all(void)" })).toBeUndefined();
  const found = foreign(["libno-such-thing.so.9", null], prototypes);
  if (found !== undefined) expect(found.length("four")).toBe(4);
});

/** Packs the page in shared memory and unpacks it behind, over and over, with what the thread chose. */
const THREAD = `
const { parentPort, workerData } = require("node:worker_threads");
import(workerData.module).then(({ packers, unpackers }) => {
  const [page, packed, again] = [0, 1, 2].map((i) => Buffer.from(workerData.memory, i * 4096, 4096));
  const sizes = {};
  for (const compression in packers) {
    for (let i = 0; i < 200; i++) {
      again.fill(0);
      const size = packers[compression]?.(page, packed);
      if (size === undefined) break;
      unpackers[compression](packed.subarray(0, size), again);
      sizes[compression] = again.equals(page) ? size : -1;
    }
  }
  parentPort.postMessage(sizes);
});
`;

test("each thread has its own, and they work on shared memory", async () => {
  const module = pathToFileURL(`${import.meta.dirname}/../dist/codec/pages.js`).href;
  const page = Buffer.alloc(4096, "some words that repeat ");
  const expected = Object.entries(packers).flatMap(([compression, pack]) =>
    pack === undefined ? [] : [[compression, pack(page, Buffer.alloc(4096))]],
  );
  const threads = [0, 1, 2].map(() => {
    const memory = new SharedArrayBuffer(3 * 4096);
    page.copy(Buffer.from(memory));
    const worker = new Worker(THREAD, { eval: true, workerData: { module, memory } });
    return new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
  });
  for (const sizes of await Promise.all(threads)) expect(sizes).toEqual(Object.fromEntries(expected));
});

/** What libraries may take that the format forbids. */
function isLax(name: string, result: string, bytes: Uint8Array): boolean {
  // Literal/length codes 286 and 287 (RFC 1951 §3.2.6) are to libdeflate as 285; the checksum must be right.
  if (name === "libdeflate") return result === "no" || result === hex(bytes);
  // libzstd does not ask whether a Huffman stream is used up (RFC 8878 §4.2.2).
  return result === "no" || name === "libzstd" || name === "node:zlib (zstd)";
}

describe.each(loaded)("$compression", ({ compression, here, absent }) => {
  const reference = here.find(({ pack }) => pack !== undefined);

  test(`the implementations of this system${absent.length > 0 ? ` (not there: ${absent})` : ""}`, () => {
    expect(here.length).toBeGreaterThan(0);
    expect(here.every(({ unpack }) => unpack !== undefined)).toBe(true);
    expect(packers[compression] === undefined).toBe(reference === undefined);
  });

  test("each unpacks what each packed, and nothing into less room", () => {
    fc.assert(
      fc.property(input, (bytes) => {
        for (const { name, pack } of here) {
          if (pack === undefined) continue;
          const packed = run(pack, bytes, bytes.length + 100);
          expect(packed, name).not.toBe("no");
          const small = Buffer.from(packed, "hex");
          expect(run(pack, bytes, small.length - 1), name).toBe("no");
          expect(run(pack, bytes, small.length), name).toBe(packed);
          for (const { name: other, unpack } of here) {
            const path = `${name} to ${other}`;
            expect(run(unpack!, small, bytes.length), path).toBe(hex(bytes));
            expect(run(unpack!, small, bytes.length + 9), path).toBe(hex(bytes));
            expect(run(unpack!, small, bytes.length - 1), path).toBe("no");
          }
        }
      }),
      { numRuns: 150, seed: SEED },
    );
  });

  test("damaged and cut blocks: all agree, within their bounds, whatever lies around them", () => {
    if (reference === undefined) return;
    const edits = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 });
    let refused = 0;
    fc.assert(
      fc.property(input, edits, fc.nat(), fc.boolean(), (bytes, changes, end, isCut) => {
        const small = Buffer.from(run(reference.pack!, bytes, bytes.length + 100), "hex");
        for (const [at, value] of changes) small[at % small.length] = value;
        const damaged = small.subarray(0, isCut ? 1 + (end % small.length) : small.length);
        const own = run(here.at(-1)!.unpack!, damaged, 4096);
        if (own === "no") refused++;
        for (const { name, unpack } of here) {
          const path = `${name}: ${hex(damaged)}`;
          const result = run(unpack!, damaged, 4096);
          expect(run(unpack!, damaged, 4096, 0), path).toBe(result);
          expect(run(unpack!, damaged, 4096, 0xff), path).toBe(result);
          if (own === "no") expect(isLax(name, result, bytes), path).toBe(true);
          else expect(result, path).toBe(own);
        }
      }),
      { numRuns: MUTANTS, seed: SEED },
    );
    expect(refused).toBeGreaterThan(MUTANTS / 10);
  });

  test("an empty block is none", () => {
    for (const { name, unpack } of here) expect(run(unpack!, Buffer.alloc(0), 4096), name).toBe("no");
  });
});
