import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { XxHash64 } from "../src/codec/xxhash64.ts";
import { unpackZstd } from "../src/codec/zstd/unpack.ts";
import {
  CorruptError,
  GuestcoreError,
  InterruptedError,
  IoError,
  UnsupportedError,
} from "../src/core/errors.ts";
import type { Warning } from "../src/core/warnings.ts";
import { compressionOf, unpackIfCompressed, unpackingOf } from "../src/io/compressed.ts";
import { FileSource } from "../src/io/file.ts";
import { unpackGzip } from "../src/io/gunzip.ts";
import { sampleText, sampleZstd } from "./support/zstd-sample.ts";

const MiB = 1024 * 1024;
const directory = mkdtempSync(join(tmpdir(), "guestcore-compressed-"));
afterAll(() => rmSync(directory, { recursive: true }));

const zstd = spawnSync("zstd", ["--version"]).status === 0;

/** Unpacks a file and says everything that came of it. */
async function unpack(path: string, options: { checkpoint?: () => Promise<void>; free?: number } = {}) {
  const warnings: Warning[] = [];
  const steps: number[] = [];
  const file = FileSource.open(path);
  try {
    const unpacked = await unpackIfCompressed(
      file,
      {
        directories: [directory],
        ...(options.free === undefined ? {} : { freeSpace: () => options.free }),
      },
      {
        progress: { start: () => {}, update: (done) => steps.push(done), finish: () => {} },
        warn: (warning) => warnings.push(warning),
        checkpoint: options.checkpoint ?? (async () => {}),
      },
    );
    return unpacked === undefined ? undefined : { ...unpacked, warnings, steps, packedSize: file.size };
  } finally {
    file.close();
  }
}

const write = (name: string, ...parts: Uint8Array[]): string => {
  const path = join(directory, name);
  writeFileSync(path, Buffer.concat(parts));
  return path;
};

function contents(source: FileSource): Buffer {
  const bytes = Buffer.alloc(source.size);
  expect(source.read(0, bytes)).toBe(source.size);
  source.close();
  return bytes;
}

/** `toEqual` of buffers compares element by element and prints megabytes. */
const same = (got: Buffer, expected: Buffer): void => {
  expect([got.length, got.equals(expected)]).toEqual([expected.length, true]);
};

/** Unpacks bytes that are expected to be whole. */
async function roundTrip(name: string, ...parts: Uint8Array[]): Promise<Buffer> {
  const unpacked = (await unpack(write(name, ...parts)))!;
  expect(unpacked.warnings).toEqual([]);
  expect(unpacked.whole).toBe(true);
  expect(unpacked.steps.at(-1)).toBe(unpacked.packedSize);
  return contents(unpacked.source);
}

/** Reproducible bytes that do not compress. */
function noise(length: number, seed = 7): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = seed;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return Buffer.from(words.buffer, 0, length);
}

/** A zstd frame written by hand: RFC 8878 §3.1.1, window of 1 MiB, no checksum. */
const frame = (...blocks: Buffer[]): Buffer =>
  Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50]), ...blocks]);

function block(type: number, size: number, content: Uint8Array, last = true): Buffer {
  const header = Buffer.alloc(3);
  header.writeUIntLE(size * 8 + type * 2 + Number(last), 0, 3);
  return Buffer.concat([header, content]);
}

describe("sniffing", () => {
  test.each([
    ["gzip", gzipSync("x")],
    ["zstd", frame(block(0, 1, Buffer.from("x")))],
    ["zstd", Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 0, 0, 0, 0])],
    [undefined, Buffer.from("\x7fELF")],
    [undefined, Buffer.from([0x1f, 0x8b])],
    [undefined, Buffer.from([0x1f, 0x9d, 0x90, 0])],
    [undefined, Buffer.alloc(0)],
  ])("%s by content, whatever the name", (expected, bytes) => {
    expect(
      compressionOf({
        name: "core",
        size: bytes.length,
        read: (offset, target) => bytes.copy(target, 0, offset),
      }),
    ).toBe(expected);
  });

  test("leaves other files alone", async () => {
    expect(await unpack(write("plain", Buffer.from("\x7fELF and more")))).toBeUndefined();
  });
});

describe("XXH64", () => {
  // Values of the xxHash project's own sanity checks.
  test.each([
    ["", 0xef46db3751d8e999n],
    ["a", 0xd24ec4f1a98c6e5bn],
    ["abc", 0x44bc2cf5ad770999n],
    ["Nobody inspects the spammish repetition", 0xfbcea83c8a378bf1n],
  ])("%j", (text, expected) => {
    const hash = new XxHash64();
    hash.update(Buffer.from(text));
    expect(hash.digest()).toBe(expected);
  });

  test("does not depend on how the bytes are cut", () => {
    const bytes = noise(1000);
    const whole = new XxHash64();
    whole.update(bytes);
    for (const size of [1, 7, 31, 32, 33, 999]) {
      const pieces = new XxHash64();
      for (let at = 0; at < bytes.length; at += size) pieces.update(bytes.subarray(at, at + size));
      expect(pieces.digest()).toBe(whole.digest());
    }
  });
});

describe("gzip", () => {
  const text = sampleText();

  test("one member, several members, an empty one, zero padding", async () => {
    expect(await roundTrip("one.gz", gzipSync(text))).toEqual(text);
    const many = [gzipSync(text), gzipSync(""), gzipSync("tail")];
    expect(await roundTrip("many.gz", ...many)).toEqual(Buffer.concat([text, Buffer.from("tail")]));
    const padded = (await unpack(write("padded.gz", gzipSync(text), Buffer.alloc(512))))!;
    expect([padded.whole, contents(padded.source)]).toEqual([true, text]);
  });

  test("a member larger than every buffer, ending anywhere in an input chunk", async () => {
    const bytes = Buffer.concat([noise(3 * MiB), Buffer.alloc(5 * MiB), noise(MiB, 9)]);
    same(await roundTrip("large.gz", gzipSync(bytes), gzipSync(bytes)), Buffer.concat([bytes, bytes]));
    for (const size of [65536 - 18, 65536 - 10, 65536 - 9, 65536 - 8, 65536 - 7, 65536]) {
      // Stored blocks: the packed size follows the size of the contents.
      const stored = gzipSync(noise(size), { level: 0 });
      same(
        await roundTrip("edge.gz", stored, gzipSync("next")),
        Buffer.concat([noise(size), Buffer.from("next")]),
      );
    }
  });

  test("headers with name, comment, extra field and header checksum", async () => {
    const plain = gzipSync(text);
    const header = Buffer.concat([
      Buffer.from([0x1f, 0x8b, 8, 2 + 4 + 8 + 16, 0, 0, 0, 0, 0, 3]),
      Buffer.from([3, 0, 1, 2, 3]),
      Buffer.from("core.4711\0crash of web1\0"),
      Buffer.from([0, 0]),
    ]);
    expect(await roundTrip("named.gz", header, plain.subarray(10))).toEqual(text);
  });

  test("truncated at every byte: what could be decoded is kept, or nothing and an error", async () => {
    const packed = gzipSync(text);
    let kept = 0;
    for (let length = 4; length < packed.length; length += 13) {
      const path = write("cut.gz", packed.subarray(0, length));
      const unpacked = await unpack(path).catch((error: unknown) => error);
      if (unpacked instanceof CorruptError) {
        expect(unpacked.exitCode).toBe(4);
        expect(length).toBeLessThan(200);
        continue;
      }
      const { whole, warnings, source } = unpacked as NonNullable<Awaited<ReturnType<typeof unpack>>>;
      expect([whole, warnings.map((w) => w.code)]).toEqual([false, ["CORE004"]]);
      const got = contents(source);
      expect(got).toEqual(text.subarray(0, got.length));
      expect(got.length).toBeGreaterThanOrEqual(kept);
      kept = got.length;
    }
    expect(kept).toBe(text.length);
  });

  test("damage is told with its offset, the bytes before it are kept", async () => {
    const packed = gzipSync(noise(4 * MiB), { level: 0 });
    // Stored blocks are {type, length, complement of the length, bytes}: break the complement of one.
    let at = 10;
    while (at < 3 * MiB) at += 5 + packed.readUInt16LE(at + 1);
    packed[at + 3]! ^= 0xff;
    const unpacked = (await unpack(write("bad.gz", packed)))!;
    expect(unpacked.whole).toBe(false);
    expect(unpacked.warnings[0]).toMatchObject({ code: "CORE004" });
    expect(unpacked.warnings[0]!.where!.offset).toBeGreaterThan(2 * MiB);
    const got = contents(unpacked.source);
    expect(got.length).toBeGreaterThan(2 * MiB);
    same(got, noise(4 * MiB).subarray(0, got.length));
  });

  test("a wrong checksum, and rubbish behind the last member", async () => {
    const packed = gzipSync(text);
    packed[packed.length - 6]! ^= 1;
    const wrong = (await unpack(write("crc.gz", packed)))!;
    expect(wrong.warnings[0]!.message).toContain("checksum");
    expect(wrong.warnings[0]!.hint).toContain("wrong bytes are among those unpacked");
    expect(wrong.whole).toBe(false);
    expect(contents(wrong.source)).toEqual(text);
    const rubbish = (await unpack(write("rubbish.gz", gzipSync(text), Buffer.from("rubbish"))))!;
    expect(rubbish.warnings[0]!.message).toContain("no member starts here");
    expect(contents(rubbish.source)).toEqual(text);
  });
});

describe("zstd frames written by hand", () => {
  test("raw and RLE blocks, an empty frame, skippable frames, several frames", async () => {
    const text = Buffer.from("raw bytes");
    const skippable = Buffer.concat([Buffer.from([0x57, 0x2a, 0x4d, 0x18, 4, 0, 0, 0]), Buffer.from("skip")]);
    const first = frame(
      block(0, text.length, text, false),
      block(1, 100_000, Buffer.from("z"), false),
      block(0, 0, Buffer.alloc(0)),
    );
    const got = await roundTrip(
      "hand.zst",
      skippable,
      first,
      skippable,
      frame(block(1, 3, Buffer.from("!"))),
    );
    same(got, Buffer.concat([text, Buffer.alloc(100_000, "z"), Buffer.from("!!!")]));
  });

  test.each([
    ["a reserved block type", frame(block(3, 1, Buffer.from("x"))), 6],
    ["a block above the window", frame(block(1, 128 * 1024 + 1, Buffer.from("x"))), 6],
    ["a compressed block of rubbish", frame(block(2, 9, Buffer.alloc(9, 0xff))), 6],
    ["an empty compressed block", frame(block(2, 0, Buffer.alloc(0))), 6],
    ["a treeless block without a tree", frame(block(2, 5, Buffer.from([0x13, 0x40, 0, 1, 0]))), 6],
    ["a reserved header bit", Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x08, 0x50, 1, 0, 0]), undefined],
    ["a content size that is not kept", Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, 9, 9, 0, 0, 0x41]), 10],
  ])("%s is refused", async (_what, bytes, offset) => {
    const error = await unpack(write("hostile.zst", bytes)).then(
      (unpacked) => unpacked!.warnings[0],
      (thrown: unknown) => thrown,
    );
    if (error instanceof CorruptError) expect(error.where?.offset).toBe(offset);
    else expect(error).toMatchObject({ code: "CORE004", where: { offset } });
  });

  test("a dictionary is not supported, and the error says what to do", async () => {
    const bytes = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x50, 0x07, 1, 0, 0]);
    const error = await unpack(write("dictionary.zst", bytes)).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UnsupportedError);
    expect((error as UnsupportedError).hint).toContain("-D");
  });

  test("a window of 1 TiB in the header costs no memory", async () => {
    const bytes = Buffer.concat([
      Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf0]),
      block(0, 2, Buffer.from("ok")),
    ]);
    expect(await roundTrip("window.zst", bytes)).toEqual(Buffer.from("ok"));
  });
});

describe("many × many: the cost follows the size of the file, not the number of frames", () => {
  /** Bytes in memory that count how often they are asked for. */
  const counting = (bytes: Buffer) => {
    const source = {
      name: "many",
      size: bytes.length,
      reads: 0,
      read: (offset: number, target: Uint8Array) => {
        source.reads++;
        return bytes.copy(target, 0, offset);
      },
    };
    return source;
  };

  test("skippable frames of 8 bytes: one read for all of them, and a step after each", () => {
    const source = counting(Buffer.alloc(400_000, Buffer.from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0])));
    const steps = [...unpackZstd(source, { append: () => {}, readBack: () => {} })];
    expect(steps).toHaveLength(50_000);
    expect(steps.at(-1)).toBe(400_000);
    expect(source.reads).toBeLessThan(5);
  });

  test("a skippable frame that reaches beyond the buffer, and one beyond the end", async () => {
    const header = (size: number) => {
      const bytes = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
      bytes.writeUInt32LE(size, 4);
      return bytes;
    };
    const large = Buffer.concat([header(3 * MiB), Buffer.alloc(3 * MiB, 0xff)]);
    const text = frame(block(0, 2, Buffer.from("ok")));
    expect(await roundTrip("skip-far.zst", large, text, large, text)).toEqual(Buffer.from("okok"));
    const cut = (await unpack(write("skip-cut.zst", text, header(9), Buffer.alloc(8))))!;
    expect([cut.whole, contents(cut.source)]).toEqual([false, Buffer.from("ok")]);
  });

  test("gzip members of 20 bytes: a read for 128 KiB of them", async () => {
    const member = gzipSync("");
    const source = counting(Buffer.alloc(5000 * member.length, member));
    let steps = 0;
    for await (const _offset of unpackGzip(source, { append: () => {} })) steps++;
    expect(steps).toBeGreaterThanOrEqual(5000);
    expect(source.reads).toBeLessThan(5);
  });
});

describe("how to unpack a file for other tools", () => {
  test.each([
    ["core.zst", "zstd", "core", "zstd -d --long=31 core.zst -o core"],
    ["a b.gz", "gzip", "a b", "gunzip -c 'a b.gz' > 'a b'"],
    ["c.zst.gz", "gzip", "c.zst", "gunzip -c c.zst.gz > c.zst"],
    ["core", "zstd", "core.unpacked", "zstd -d --long=31 core -o core.unpacked"],
    ["dir/.gz", "gzip", "dir/.gz.unpacked", "gunzip -c dir/.gz > dir/.gz.unpacked"],
  ] as const)("%s", (path, compression, name, command) => {
    expect(unpackingOf(path, compression)).toEqual({ name, command });
  });

  test("the contents know it, the file itself does not", async () => {
    const path = write("known.gz", gzipSync("text"));
    const unpacked = (await unpack(path))!;
    expect(unpacked.source.unpacking?.name).toBe(path.slice(0, -3));
    unpacked.source.close();
    const file = FileSource.open(path);
    expect(file.unpacking).toBeUndefined();
    file.close();
  });
});

describe("a zstd sample", () => {
  test("a wrong checksum: whole is false, and the hint does not speak of missing bytes", async () => {
    const packed = sampleZstd();
    packed[packed.length - 1]! ^= 1;
    const { whole, warnings, source } = (await unpack(write("checksum.zst", packed)))!;
    expect([whole, warnings.map(({ code }) => code)]).toEqual([false, ["CORE004"]]);
    expect(warnings[0]!.hint).toContain("wrong bytes are among those unpacked");
    expect(contents(source)).toEqual(sampleText());
  });

  test("unpacks to what it was made from", async () => {
    expect(await roundTrip("sample.zst", sampleZstd())).toEqual(sampleText());
  });

  test("truncated at every byte never yields wrong bytes", async () => {
    const packed = sampleZstd();
    for (let length = 4; length < packed.length; length += 7) {
      const unpacked = await unpack(write("cut.zst", packed.subarray(0, length))).catch((e: unknown) => e);
      if (unpacked instanceof CorruptError) continue;
      const { whole, source } = unpacked as NonNullable<Awaited<ReturnType<typeof unpack>>>;
      expect(whole).toBe(false);
      const got = contents(source);
      expect(got).toEqual(sampleText().subarray(0, got.length));
    }
  });

  test("2000 mutants: our errors only, and never silently wrong", { timeout: 60_000 }, async () => {
    const original = sampleZstd();
    const text = sampleText();
    const random = noise(4 * 6000, 4711);
    for (let mutant = 0; mutant < 2000; mutant++) {
      const bytes = Buffer.from(original);
      for (let change = 0; change <= mutant % 3; change++) {
        const at = random.readUInt16LE((mutant * 3 + change) * 4) % bytes.length;
        bytes[at] = random[(mutant * 3 + change) * 4 + 2]!;
      }
      const unpacked = await unpack(write("mutant.zst", bytes)).catch((error: unknown) => error);
      if (unpacked === undefined) continue;
      if (unpacked instanceof Error) expect(unpacked).toBeInstanceOf(GuestcoreError);
      else {
        const { whole, source } = unpacked as NonNullable<Awaited<ReturnType<typeof unpack>>>;
        const got = contents(source);
        // The checksum flag itself may be what changed.
        if (whole && (bytes[4]! & 4) !== 0) expect(got.equals(text)).toBe(true);
      }
    }
  });
});

describe.skipIf(!zstd)("against the zstd program (skipped when it is not installed)", () => {
  /** Zeros, text, noise, and noise again from far behind. */
  const far = noise(3 * MiB, 99);
  const bytes = Buffer.concat([
    far,
    Buffer.alloc(2 * MiB),
    ...Array.from({ length: 150 }, () => sampleText()),
    noise(20 * MiB, 3),
    far,
    sampleText(),
  ]);

  test.each([
    "-1",
    "-3 --no-check",
    "-9",
    "-19 --long=27",
    "--fast=5",
    "--ultra -22 --long=27",
    "-3 --long=31",
  ])("zstd %s", { timeout: 240_000 }, async (flags) => {
    const input = flags.includes("22") || flags.includes("19") ? bytes.subarray(0, 12 * MiB) : bytes;
    const options = flags.split(" ");
    const packed = spawnSync("zstd", [...options, "-q", "-c"], { input, maxBuffer: 1 << 30 }).stdout;
    expect((await roundTrip("tool.zst", packed)).equals(input)).toBe(true);
  });

  test("many small inputs, each its own frame", async () => {
    const frames: Buffer[] = [];
    const expected: Buffer[] = [];
    for (const size of [0, 1, 2, 3, 100, 255, 256, 257, 4095, 65_791, 65_792, 131_072, 131_073]) {
      const piece = Buffer.concat([sampleText(), noise(200_000)]).subarray(0, size);
      expected.push(piece);
      frames.push(spawnSync("zstd", ["-q", "-c", "-7"], { input: piece, maxBuffer: 1 << 28 }).stdout);
    }
    same(await roundTrip("frames.zst", ...frames), Buffer.concat(expected));
  });
});

describe("the temporary file", () => {
  const packed = gzipSync(Buffer.concat([noise(MiB), Buffer.alloc(64 * MiB), noise(MiB)]));

  test("is sparse, private, and nowhere to be found", async () => {
    const before = readdirSync(directory).sort();
    const path = write("sparse.gz", packed);
    const unpacked = (await unpack(path))!;
    expect(readdirSync(directory).sort()).toEqual([...new Set([...before, "sparse.gz"])].sort());
    expect(unpacked.source.size).toBe(66 * MiB);
    expect(unpacked.source.sizeOnDisk()).toBeLessThan(4 * MiB);
    expect(unpacked.source.name).toBe(path);
    unpacked.source.close();
  });

  test("no room: an I/O error with the way out, nothing left open", async () => {
    const error = await unpack(write("room.gz", packed), { free: MiB }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(IoError);
    expect((error as IoError).message).toContain("not enough space");
    expect((error as IoError).hint).toContain("--tmpdir");
  });

  test("room that runs out while unpacking", async () => {
    const path = write("runs-out.gz", gzipSync(noise(100 * MiB), { level: 0 }));
    const file = FileSource.open(path);
    let calls = 0;
    const error = await unpackIfCompressed(
      file,
      { directories: [directory], freeSpace: () => (calls++ < 2 ? 1 << 30 : MiB) },
      {
        progress: { start: () => {}, update: () => {}, finish: () => {} },
        warn: () => {},
        checkpoint: async () => {},
      },
    ).catch((thrown: unknown) => thrown);
    file.close();
    expect(error).toBeInstanceOf(IoError);
    expect((error as IoError).message).toMatch(/after 6\d\.\d MiB/);
  });

  test("the next directory is tried when one cannot be used; none gives the first error", async () => {
    const path = write("dirs.gz", packed);
    const context = {
      progress: { start: () => {}, update: () => {}, finish: () => {} },
      warn: () => {},
      checkpoint: async () => {},
    };
    const file = FileSource.open(path);
    const missing = join(directory, "missing");
    const unpacked = await unpackIfCompressed(file, { directories: [missing, directory] }, context);
    unpacked!.source.close();
    const error = await unpackIfCompressed(file, { directories: [missing] }, context).catch(
      (e: unknown) => e,
    );
    file.close();
    expect(error).toBeInstanceOf(IoError);
    expect((error as IoError).message).toContain(`${missing}: no such file`);
  });

  test("an interruption ends the work with its own error", async () => {
    let calls = 0;
    const checkpoint = async () => {
      if (++calls === 2) throw new InterruptedError("SIGINT");
    };
    for (const bytes of [
      gzipSync(noise(4 * MiB)),
      Buffer.concat([sampleZstd(), sampleZstd(), sampleZstd()]),
    ]) {
      calls = 0;
      await expect(unpack(write("signal", bytes), { checkpoint })).rejects.toBeInstanceOf(InterruptedError);
    }
  });
});

test("the shipped core unpacks to what zstd makes of it", { timeout: 60_000 }, async () => {
  const path = join(import.meta.dirname, "../samples/nano-pc.core.zst");
  const unpacked = (await unpack(path))!;
  expect(unpacked).toMatchObject({ compression: "zstd", whole: true, warnings: [] });
  expect(createHash("sha256").update(contents(unpacked.source)).digest("hex")).toBe(
    "5754c132248b4a2ac3243d1143d74d41b42e44f110f02c4d87993aa925a342c0",
  );
});

const shared = process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../shared/data");
const big = join(shared, "qemu/tiny-q35/core.abrt.zst");
test.skipIf(!existsSync(big) || !zstd)(
  "a core with a 128 MiB window unpacks exactly (skipped without the shared data or zstd)",
  { timeout: 120_000 },
  async () => {
    const reference = join(directory, "reference");
    spawnSync("zstd", ["-dq", "--long=27", big, "-o", reference]);
    const unpacked = (await unpack(big))!;
    same(contents(unpacked.source), readFileSync(reference));
  },
);
