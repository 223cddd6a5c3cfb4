import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { CorruptError, UnsupportedError } from "../src/core/errors.ts";
import type { ByteSource } from "../src/core/memory.ts";
import { openDump } from "../src/dump/open.ts";
import { FlattenedSource } from "../src/io/flattened.ts";
import { openInput } from "../src/jobs/input.ts";
import { inspect } from "../src/jobs/inspect.ts";
import { listVmcs } from "../src/jobs/vmcs.ts";
import { findingsOf } from "./support/check.ts";
import {
  expectPages,
  extents,
  open,
  PAGE,
  page,
  pages,
  pagesOf,
  sourceOf,
  stateOf,
} from "./support/kdump-pages.ts";
import { quiet } from "./support/memory-io.ts";
import { mutantOf, outcomesOf } from "./support/mutants.ts";
import { physicalAt, readVmcore } from "./support/read-vmcore.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { buildKdump, type FlatRecord, flattened, type KdumpCodec, type KdumpSpec } from "./synth/kdump.ts";
import { note } from "./synth/notes.ts";
import type { Random } from "./synth/pattern.ts";

const folder = mkdtempSync(join(tmpdir(), "guestcore-kdump-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("a kdump-compressed dump", () => {
  test.each(["raw", "zlib", "lzo", "snappy", "zstd"] as KdumpCodec[])("of %s pages", async (codec) => {
    const contents = pagesOf(codec);
    const { memory, warnings } = await open(buildKdump({ pages: contents, codec }));
    expectPages(memory, contents);
    expect(warnings).toEqual([]);
    expect(extents(memory)).toEqual([
      [0, 1, "absent"],
      [1, 4, "present"],
      [4, 5, "zero"],
      [5, 7, "present"],
      [7, 9, "excluded"],
      [9, 40_000, "absent"],
      [40_000, 40_001, "present"],
      [40_001, 40_002, "zero"],
      [40_002, 40_003, "excluded"],
    ]);
  });

  test.each([1, 2, 3, 4, 5, 6])("of header version %d", async (version) => {
    const vmcoreinfo = Buffer.from("OSRELEASE=6.1.0-synth\n");
    const notes = note("CORE", 1, Buffer.alloc(336, 7));
    const dump = await open(buildKdump({ pages, version, vmcoreinfo, notes }));
    expectPages(dump.memory);
    expect(dump.notes.map(({ name, type }) => [name, type])).toEqual([
      ...(version >= 4 ? [["CORE", 1]] : []),
      ...(version >= 3 ? [["VMCOREINFO", 0]] : []),
    ]);
    if (version >= 3) expect(dump.notes.at(-1)!.desc.equals(vmcoreinfo)).toBe(true);
  });

  test("with one bitmap, of a diskdump", async () => {
    const all = new Map([...pages].filter(([, bytes]) => bytes !== null));
    const { memory } = await open(buildKdump({ pages: all, bitmaps: 1, version: 0, signature: "DISKDUMP" }));
    for (const [pfn, bytes] of all) expect(stateOf(memory, pfn)).toEqual({ state: "present", bytes });
    expect(stateOf(memory, 7).state).toBe("absent");
  });

  test("with more room for bitmaps than they need: the second one begins at half of it", async () => {
    expectPages((await open(buildKdump({ pages, spareBlocks: 3 }))).memory);
  });

  test("of level 1 that was filtered before: what is left out is not taken for zeros", async () => {
    const { memory } = await open(buildKdump({ pages, dumpLevel: 1 }));
    expect(stateOf(memory, 7).state).toBe("excluded");
    expect(memory.extentAt(7 * PAGE, 9 * PAGE)).toMatchObject({ state: "excluded", end: 9 * PAGE });
  });

  test("in which each page of zeros has its own bytes", async () => {
    expectPages((await open(buildKdump({ pages, sharedZeros: false }))).memory);
  });

  test("marked incomplete, whose last pages are not there", async () => {
    const whole = buildKdump({ pages, incomplete: true });
    const { memory, warnings } = await open(whole.subarray(0, -PAGE));
    expect(warnings.map(({ code }) => code)).toEqual(["DMP002"]);
    expect(stateOf(memory, 3).state).toBe("present");
    expect(stateOf(memory, 40_000).state).toBe("absent");
    expect(extents(memory)).toContainEqual([40_000, 40_001, "absent"]);
  });

  test("whose first bitmap is noise ends, bounded", async () => {
    const bits = 2 ** 25;
    const half = bits / 8;
    const dump = Buffer.alloc(2 * PAGE + 2 * half);
    buildKdump({ pages }).copy(dump, 0, 0, 2 * PAGE);
    dump.writeBigUInt64LE(BigInt(bits), PAGE + 96);
    dump.writeUInt32LE((2 * half) / PAGE, 436);
    dump.fill(0x55, 2 * PAGE, 2 * PAGE + half);
    await expect(open(dump)).rejects.toThrow(/RAM in more than 1048576 pieces/);
  });

  test("without an excluded page: its bitmap is not read over and over", async () => {
    const frames = 2 ** 21;
    const half = frames / 8;
    const head = buildKdump({ pages });
    head.writeBigUInt64LE(BigInt(frames), PAGE + 96);
    head.writeUInt32LE((2 * half) / PAGE, 436);
    let read = 0;
    const { memory } = await openDump({
      name: "all dumped",
      size: 2 * PAGE + 2 * half + 24 * frames,
      read: (offset, target) => {
        const isBitmap = offset >= 2 * PAGE && offset < 2 * PAGE + 2 * half;
        if (isBitmap) read += target.length;
        if (offset >= 2 * PAGE) target.fill(isBitmap ? 0xff : 0);
        else head.copy(target, 0, offset);
        return target.length;
      },
    });
    read = 0;
    const end = frames * PAGE;
    for (let at = 0; at < end; at = memory.extentAt(at, end).end);
    expect(read).toBeLessThan(4 * half);
  });

  test.each<[string, (dump: Buffer, descriptor: number) => void]>([
    ["size", (dump, descriptor) => put32(dump, descriptor + 8, PAGE + 1)],
    ["compression", (dump, descriptor) => put32(dump, descriptor + 12, 1)],
  ])("a page of an impossible %s is not the one read before at its place", async (_, damage) => {
    const dump = buildKdump({ pages, codec: "lzo" });
    const [first, second] = [6 * PAGE, 6 * PAGE + 24];
    dump.copy(dump, second, first, first + 24);
    damage(dump, second);
    const { memory } = await open(dump);
    for (const [pfn, wanted] of [1, 2, 1].map((pfn) => [pfn, pfn === 1 ? "present" : "absent"] as const)) {
      expect([pfn, stateOf(memory, pfn).state]).toEqual([pfn, wanted]);
    }
  });

  test("of very few pages: what of its bitmaps are holes is not read", async () => {
    const frames = [1, 2 ** 35 + 5, 2 ** 36 - 1];
    const half = 2 ** 33;
    const table = 2 * PAGE + 2 * half;
    const head = buildKdump({ pages }).subarray(0, 2 * PAGE);
    head.writeBigUInt64LE(2n ** 36n, PAGE + 96);
    put32(head, 436, (2 * half) / PAGE);
    put32(head, 440, 2 ** 32 - 1);
    const descriptors = Buffer.alloc(3 * 24);
    for (const i of [0, 1, 2]) {
      descriptors.writeBigUInt64LE(BigInt(table + descriptors.length + i * PAGE), 24 * i);
      put32(descriptors, 24 * i + 8, PAGE);
    }
    const bit = (bitmap: number, pfn: number): FlatRecord => ({
      offset: bitmap + Math.floor(pfn / 8),
      bytes: Buffer.from([1 << (pfn % 8)]),
    });
    const stream = flattened([
      { offset: 0, bytes: head },
      ...[2 * PAGE, 2 * PAGE + half].flatMap((at) => frames.map((pfn) => bit(at, pfn))),
      { offset: table, bytes: Buffer.concat([descriptors, page(1), page(2), page(3)]) },
    ]);
    const file = await FlattenedSource.open(sourceOf(stream));
    let left = 2 ** 26;
    const source: ByteSource = {
      name: "holes",
      size: file.size,
      extent: (offset, limit) => file.extent(offset, limit),
      read: (offset, target) => {
        left -= target.length;
        if (left < 0) throw new Error("holes are read");
        return file.read(offset, target);
      },
    };
    const { memory } = await openDump(source);
    expect(extents(memory)).toEqual(
      frames.flatMap((pfn, i) => [
        [(frames[i - 1] ?? -1) + 1, pfn, "absent"],
        [pfn, pfn + 1, "present"],
      ]),
    );
    for (const [i, pfn] of frames.entries())
      expect(stateOf(memory, pfn).bytes.equals(page(i + 1))).toBe(true);
    const { checked, codes } = await findingsOf(source);
    expect([checked!.coverage, codes]).toEqual([{ present: 3 * PAGE, zero: 0, excluded: 0, missing: 0 }, []]);
  });

  test("one page of which is damaged: the others are there", async () => {
    const dump = buildKdump({ pages, codec: "lzo" });
    const at = dump.indexOf(page(3).subarray(0, 32)) + 33;
    dump[at]! ^= 0x55;
    const { memory } = await open(dump);
    expect(stateOf(memory, 3).state).toBe("absent");
    expect(stateOf(memory, 2).state).toBe("present");
  });

  test.each([
    [
      "cut inside its header",
      (dump: Buffer) => dump.subarray(0, 300),
      CorruptError,
      /ends inside its header/,
    ],
    ["with an odd block size", (dump: Buffer) => put32(dump, 428, 4095), CorruptError, /block size is 4095/],
    ["without page frames", (dump: Buffer) => put32(dump, PAGE + 96, 0), CorruptError, /0 page frames/],
    [
      "whose bitmaps are too small",
      (dump: Buffer) => put32(dump, 436, 1),
      CorruptError,
      /bitmaps of 1 block/,
    ],
    [
      "cut inside its bitmaps",
      (dump: Buffer) => dump.subarray(0, 9000),
      CorruptError,
      /a file of 9000 bytes/,
    ],
    ["of another machine", (dump: Buffer) => dump.fill("ppc64le\0", 272, 280), UnsupportedError, /of ppc64:/],
    ["of no machine known", (dump: Buffer) => dump.fill("pdp11\0", 272, 278), UnsupportedError, /"pdp11"/],
  ])("%s is refused", async (_, damage, kind, message) => {
    const error = await open(damage(buildKdump({ pages }))).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(kind);
    expect((error as Error).message).toMatch(message);
  });
});

function put32(bytes: Buffer, offset: number, value: number): Buffer {
  bytes.writeUInt32LE(value, offset);
  return bytes;
}

describe("a flattened stream", () => {
  const file = buildKdump({ pages, codec: "zlib" });
  const cut = (sizes: readonly number[]): FlatRecord[] => {
    const records: FlatRecord[] = [];
    for (let at = 0, i = 0; at < file.length; i++) {
      const size = sizes[i % sizes.length]!;
      records.push({ offset: at, bytes: file.subarray(at, at + size) });
      at += size;
    }
    return records;
  };

  test.each([
    ["in order", cut([4096])],
    ["backwards", cut([1000, 7, 4096]).toReversed()],
    [
      "the header written last, over what was a placeholder",
      [{ offset: 0, bytes: Buffer.alloc(9000, 0xaa) }, ...cut([500])],
    ],
  ])("gives the dump inside: %s", async (_, records) => {
    const { memory, warnings } = await open(flattened(records));
    expectPages(memory);
    expect(warnings).toEqual([]);
  });

  test("is as a file that was written in that order", async () => {
    const record = fc.record({
      offset: fc.nat(300),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 90 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(record, { minLength: 1, maxLength: 30 }), async (records) => {
        const written = Buffer.alloc(400);
        let size = 0;
        for (const { offset, bytes } of records) {
          written.set(bytes, offset);
          size = Math.max(size, offset + bytes.length);
        }
        const source = await FlattenedSource.open(sourceOf(flattened(records)));
        const target = Buffer.alloc(400, 0xee);
        expect(source.size).toBe(size);
        expect(source.read(0, target)).toBe(size);
        expect(target.subarray(0, size).equals(written.subarray(0, size))).toBe(true);
        const part = Buffer.alloc(37);
        expect(source.read(11, part)).toBe(Math.max(0, Math.min(37, size - 11)));
        expect(
          part
            .subarray(0, Math.max(0, size - 11))
            .equals(written.subarray(11, Math.min(48, Math.max(11, size)))),
        ).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  test("that is cut gives what is there, and is told", async () => {
    const stream = flattened(cut([4096]), false);
    const { memory, warnings } = await open(stream.subarray(0, -3000));
    expect(warnings.map(({ code }) => code)).toEqual(["DMP001"]);
    expect(stateOf(memory, 1).state).toBe("present");
    expect(stateOf(memory, 40_000).state).toBe("absent");
  });

  test.each([
    ["a size of nothing", 0n],
    ["a size below nothing", -5n],
    ["a size beyond every file", 2n ** 60n],
  ])("with %s is damaged", async (_, size) => {
    const stream = flattened(cut([4096]));
    stream.writeBigInt64BE(size, 4096 + 8);
    await expect(open(stream)).rejects.toThrow(/impossible offset or size/);
  });
});

describe("convert", () => {
  const info = Buffer.from("OSRELEASE=6.1.0-synth\nNUMBER(phys_base)=0\n");
  const notes = Buffer.concat([
    note("CORE", 1, Buffer.alloc(336, 7)),
    note("QEMU", 0, Buffer.alloc(440, 1)),
    note("VMCOREINFO", 0, info),
  ]);
  const input = join(folder, "convert.kdump");
  writeFileSync(input, buildKdump({ pages, codec: "lzo", notes }));
  const run = async (...words: string[]) => {
    const terminal = new FakeTerminal();
    return {
      status: await main(["convert", input, ...words], terminal),
      out: terminal.out,
      err: terminal.err,
    };
  };

  test("to ELF: pages and notes are the input's, what was left out has no segment", async () => {
    const output = join(folder, "converted.elf");
    const { status, out } = await run(output, "--json");
    expect(status).toBe(0);
    const document = JSON.parse(out);
    const validate = schemas().getSchema("convert.json")!;
    expect(validate(document), JSON.stringify(validate.errors)).toBe(true);
    expect(document.result).toMatchObject({
      coverage: { present: 6 * PAGE, zero: 2 * PAGE, excluded: 3 * PAGE, missing: 0 },
      vmcoreinfo: "carried",
    });
    const vmcore = readVmcore(readFileSync(output));
    expect(vmcore.notes.map(({ name, type, desc }) => [name, type, desc.length])).toEqual([
      ["CORE", 1, 336],
      ["QEMU", 0, 440],
      ["VMCOREINFO", 0, info.length],
    ]);
    for (const [pfn, bytes] of pages) {
      const found = physicalAt(vmcore, pfn * PAGE, PAGE);
      if (bytes === null) expect(found, `page ${pfn}`).toBeUndefined();
      else expect(found?.equals(bytes), `page ${pfn}`).toBe(true);
    }
  });

  test("to a raw image: the offset is the address", async () => {
    const output = join(folder, "converted.raw");
    const { status, err } = await run(output, "--format", "raw", "--strict");
    expect([status, err]).toEqual([6, expect.stringMatching(/^warning OUT003: /m)]);
    const raw = readFileSync(output);
    for (const [pfn, bytes] of pages) {
      if (bytes !== null) expect(raw.subarray(pfn * PAGE, (pfn + 1) * PAGE).equals(bytes)).toBe(true);
    }
  });

  /** A dump in which these page frames cannot be unpacked. */
  const damagedDump = (name: string, pfns: readonly number[]): string => {
    const dump = buildKdump({ pages, codec: "lzo", notes });
    for (const pfn of pfns) dump[dump.indexOf(pages.get(pfn)!.subarray(0, 32)) + 33]! ^= 0x55;
    const path = join(folder, name);
    writeFileSync(path, dump);
    return path;
  };
  const convert = async (...words: string[]) => {
    const terminal = new FakeTerminal();
    return { status: await main(["convert", ...words], terminal), out: terminal.out, err: terminal.err };
  };

  test("of a dump with damaged pages leaves them out, and tells", async () => {
    const input = damagedDump("damaged.kdump", [3, 40_000]);
    const output = join(folder, "damaged.elf");
    const { status, out, err } = await convert(input, output, "--json", "--strict");
    expect(status).toBe(6);
    expect(err).toMatch(
      /warning DMP007: 2 pages \(8\.0 KiB\) cannot be read although the dump has them, the first at 0x3000: /,
    );
    const { result, warnings } = JSON.parse(out);
    expect(result.coverage).toEqual({
      present: 4 * PAGE,
      zero: 2 * PAGE,
      excluded: 3 * PAGE,
      missing: 2 * PAGE,
    });
    expect(warnings.map(({ code }: { code: string }) => code)).toEqual(["KRN005", "KRN004", "DMP007"]);
    const vmcore = readVmcore(readFileSync(output));
    expect(vmcore.loads.map(({ paddr, bytes }) => [Number(paddr) / PAGE, bytes.length / PAGE])).toEqual([
      [1, 2],
      [4, 3],
      [40_001, 1],
    ]);
    expect(vmcore.notes.map(({ name }) => name)).toEqual(["CORE", "QEMU", "VMCOREINFO"]);
    for (const [pfn, bytes] of pages) {
      const found = physicalAt(vmcore, pfn * PAGE, PAGE);
      const there = bytes !== null && pfn !== 3 && pfn !== 40_000;
      expect(there ? found?.equals(bytes) : found === undefined, `page ${pfn}`).toBe(true);
    }
  });

  test("of a dump with damaged pages to a raw image has zeros there, and tells", async () => {
    const { status, err } = await convert(
      damagedDump("raw.kdump", [5]),
      join(folder, "damaged.raw"),
      "--format",
      "raw",
    );
    expect([status, err]).toEqual([0, expect.stringMatching(/OUT003[\s\S]*DMP007: 1 page /)]);
    const raw = readFileSync(join(folder, "damaged.raw"));
    expect(raw.subarray(5 * PAGE, 6 * PAGE).equals(Buffer.alloc(PAGE))).toBe(true);
    expect(raw.subarray(3 * PAGE, 4 * PAGE).equals(pages.get(3)!)).toBe(true);
  });

  test("of a dump with nothing but damaged pages fails, and leaves nothing", async () => {
    const dump = buildKdump({ pages: new Map([[3, page(3)]]), codec: "lzo" });
    dump[dump.indexOf(page(3).subarray(0, 32)) + 33]! ^= 0x55;
    writeFileSync(join(folder, "all.kdump"), dump);
    const { status, err } = await convert(join(folder, "all.kdump"), join(folder, "never"));
    expect([status, err]).toEqual([
      4,
      expect.stringMatching(/none of the memory that the dump has can be read/),
    ]);
    expect(existsSync(join(folder, "never"))).toBe(false);
  });

  test("never over what is there, nor over itself", async () => {
    expect((await run(input)).status).toBe(2);
    expect((await run(input, "--force")).status).toBe(2);
    expect((await run(join(folder, "no-such-folder/x"))).status).toBe(7);
    expect((await run("-", "--json")).status).toBe(2);
  });
});

describe("damage", () => {
  test("2000 mutants of a dump and 500 of a stream end in what is there, or an error of ours", async () => {
    const spec: KdumpSpec = { pages, codec: "lzo", notes: note("CORE", 1, Buffer.alloc(336)) };
    const dump = buildKdump(spec);
    const stream = flattened([{ offset: 0, bytes: dump }]);
    const ofDump = await outcomesOf(2000, (seed) => open(damaged(dump, seed)));
    const ofStream = await outcomesOf(500, (seed) => open(damaged(stream, seed)));
    const outcomes = { read: ofDump.read + ofStream.read, refused: ofDump.refused + ofStream.refused };
    expect(outcomes.read).toBeGreaterThan(100);
    expect(outcomes.refused).toBeGreaterThan(10);
  });
});

/** Cut, or with bytes changed: one in two in the headers, bitmaps and descriptors. */
function damaged(original: Buffer, seed: number): Buffer {
  const place = (chance: Random) => chance.below(chance.below(2) === 0 ? 5 * PAGE : original.length - 8);
  return mutantOf(original, seed, 4, place);
}

describe("jobs", () => {
  /** The shipped dump of a KVM host as kdump would have compressed it. */
  const host = join(folder, "host.kdump");
  const plain = join(import.meta.dirname, "../samples/kvm-host.vmcore.zst");

  test("find the guests of a host in it, and info describes it", async () => {
    const input = await openInput(plain, quiet);
    const elf = Buffer.alloc(input.source.size);
    input.source.read(0, elf);
    input.close();
    const { loads, notes } = readVmcore(elf);
    const contents = new Map<number, Buffer>();
    for (const { paddr, bytes } of loads) {
      for (let at = 0; at + PAGE <= bytes.length; at += PAGE) {
        contents.set((Number(paddr) + at) / PAGE, bytes.subarray(at, at + PAGE));
      }
    }
    const all = Buffer.concat(notes.map(({ name, type, desc }) => note(name, type, desc)));
    writeFileSync(
      host,
      flattened([{ offset: 0, bytes: buildKdump({ pages: contents, codec: "lzo", notes: all }) }]),
    );
    const facts = async (path: string) => {
      const { host: found } = await listVmcs(path, {}, quiet);
      return found.blocks.map(({ block, ...rest }) => [block.address, rest]);
    };
    expect(await facts(host)).toEqual(await facts(plain));
    const { vmcore, identification, warnings } = await inspect(host, quiet);
    expect(identification.format).toBe("flattened");
    expect(vmcore?.vmcoreinfo?.osrelease).toMatch(/^6\.1\./);
    const codes = (found: typeof warnings) => found.map(({ code }) => code);
    expect(codes(warnings)).toEqual(codes((await inspect(plain, quiet)).warnings));
  });
});
