import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import type { PhysicalMemory } from "../src/core/memory.ts";
import { openDump } from "../src/dump/open.ts";
import { FlatOutput } from "../src/io/flat-output.ts";
import { FlattenedSource } from "../src/io/flattened.ts";
import { OutputStream } from "../src/io/output-stream.ts";
import { MemorySource, quiet } from "./support/memory-io.ts";
import { readKdump } from "./support/read-kdump.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { buildKdump } from "./synth/kdump.ts";
import { note } from "./synth/notes.ts";
import { patternBytes } from "./synth/pattern.ts";

const PAGE = 4096;
const folder = mkdtempSync(join(tmpdir(), "guestcore-convert-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);

/** A page that every codec makes shorter. */
const repeating = (seed: number): Buffer =>
  Buffer.concat(Array.from({ length: 128 }, () => patternBytes(PAGE, seed).subarray(0, 32)));

/** One that none does. */
const noise = createHash("shake256", { outputLength: PAGE }).update("noise").digest();

const info = Buffer.from("OSRELEASE=6.1.0-synth\nNUMBER(phys_base)=-4096\nCRASHTIME=1700000000\n");
const notes = Buffer.concat([
  note("CORE", 1, Buffer.alloc(336, 7)),
  note("CORE", 1, Buffer.alloc(336, 8)),
  note("VMCOREINFO", 0, info),
]);

/** RAM in two pieces, the second beyond the first window of the bitmap: data, zeros, and some left out. */
const FAR = 600_000;
const contents = new Map<number, Buffer | null>([
  ...Array.from({ length: 300 }, (_, i): [number, Buffer] => [i + 3, repeating(i)]),
  [303, Buffer.alloc(PAGE)],
  [304, Buffer.alloc(PAGE)],
  [305, noise],
  [306, null],
  [307, null],
  [308, repeating(308)],
  [FAR, repeating(1)],
  [FAR + 1, Buffer.alloc(PAGE)],
  [FAR + 2, null],
]);
const input = at("in.kdump");
writeFileSync(input, buildKdump({ pages: contents, codec: "zlib", notes, dumpLevel: 30 }));

async function run(...words: string[]) {
  const terminal = new FakeTerminal();
  const status = await main(["convert", ...words], terminal);
  const codes = [...terminal.err.matchAll(/^warning (\w+):/gm)].map(([, code]) => code!);
  // The kernel of these dumps is a line of text.
  return { status, err: terminal.err, codes: codes.filter((code) => !code.startsWith("KRN")) };
}

/** State and bytes of every page, and of its neighbours. */
function pagesOf(memory: PhysicalMemory): Map<number, string | Buffer> {
  const found = new Map<number, string | Buffer>();
  for (const pfn of [1, 2, ...contents.keys(), 309, FAR - 1, FAR + 3]) {
    const target = Buffer.alloc(PAGE, 0xee);
    const state = memory.readPage(pfn * PAGE, target);
    found.set(pfn, state === "present" || state === "zero" ? target : state);
  }
  return found;
}
const expected = new Map<number, string | Buffer>([
  [1, "absent"],
  [2, "absent"],
  ...[...contents].map(([pfn, bytes]) => [pfn, bytes ?? "excluded"] as const),
  [309, "absent"],
  [FAR - 1, "absent"],
  [FAR + 3, "absent"],
]);

describe("convert --format kdump", () => {
  const FLAGS = { zlib: 1, lzo: 2, snappy: 4, none: 0 };

  test.each(Object.entries(FLAGS))(
    "compressed with %s has the input's pages, states and notes",
    async (codec, flag) => {
      const output = at(`out.${codec}`);
      const { status, codes } = await run(input, output, "--format", "kdump", "--compress", codec);
      expect([status, codes]).toEqual([0, []]);
      const file = readFileSync(output);
      const kdump = readKdump(file);
      expect(kdump).toMatchObject({ status: flag, dumpLevel: 31, cpus: 2, physBase: -4096n });
      expect(kdump.utsname).toEqual(["Linux", "", "6.1.0-synth", "", "x86_64", ""]);
      expect(kdump.notes.equals(notes)).toBe(true);
      expect(kdump.vmcoreinfo).toBe(info.toString());
      for (const [pfn, bytes] of contents) {
        expect([pfn, kdump.ram(pfn), kdump.dumped(pfn)]).toEqual([pfn, true, bytes !== null]);
      }
      for (const pfn of [0, 2, 309, FAR - 1])
        expect([kdump.ram(pfn), kdump.dumped(pfn)]).toEqual([false, false]);
      expect(kdump.descriptor(3).flags).toBe(flag);
      // What no codec makes shorter is stored as it is.
      expect(kdump.descriptor(305)).toMatchObject({ flags: 0, size: PAGE });
      expect(kdump.page(305)!.equals(noise)).toBe(true);
      if (codec === "zlib") expect(kdump.page(3)!.equals(repeating(0))).toBe(true);
      const dump = await openDump(new MemorySource(file));
      expect(pagesOf(dump.memory)).toEqual(expected);
      expect(dump.warnings).toEqual([]);
    },
  );

  test("pages of zeros share one place, unless each is wanted", async () => {
    const [shared, each] = [at("shared"), at("each")];
    await run(input, shared, "--format", "kdump");
    expect((await run(input, each, "--format", "kdump", "-d", "0")).status).toBe(0);
    const [one, all] = [readKdump(readFileSync(shared)), readKdump(readFileSync(each))];
    const places = (kdump: typeof one) => [303, 304, FAR + 1].map((pfn) => kdump.descriptor(pfn).offset);
    expect(new Set(places(one)).size).toBe(1);
    // Before all others, where readers look for it.
    expect(places(one)[0]).toBeLessThan(one.descriptor(3).offset);
    expect(new Set(places(all)).size).toBe(3);
    expect([one.dumpLevel, all.dumpLevel]).toEqual([31, 30]);
    for (const pfn of [303, 304, FAR + 1]) {
      expect(one.page(pfn)!.equals(Buffer.alloc(PAGE))).toBe(true);
      expect(all.page(pfn)!.equals(Buffer.alloc(PAGE))).toBe(true);
    }
    expect(pagesOf((await openDump(new MemorySource(readFileSync(each)))).memory)).toEqual(expected);
  });

  test("of a dump whose level is not known, what was left out is not of level 1: readers would take it for zeros", async () => {
    const [first, filtered, both] = [at("zero.kdump"), at("unknown.kdump"), at("unknown.out")];
    writeFileSync(
      first,
      buildKdump({ pages: new Map([[3, repeating(3)]]), codec: "zlib", notes, dumpLevel: 0 }),
    );
    await run(first, both, "--format", "kdump");
    expect(readKdump(readFileSync(both)).dumpLevel).toBe(1);
    writeFileSync(filtered, buildKdump({ pages: contents, codec: "zlib", notes, dumpLevel: 0 }));
    await run(filtered, both, "--format", "kdump", "--force");
    expect(readKdump(readFileSync(both)).dumpLevel).toBe(31);
    await run(filtered, both, "--format", "kdump", "-d", "0", "--force");
    expect(readKdump(readFileSync(both)).dumpLevel).toBe(30);
  });

  test("there and back again is the same file", async () => {
    await run(input, at("first"), "--format", "kdump", "--compress", "lzo");
    await run(at("first"), at("second"), "--format", "kdump", "--compress", "lzo");
    expect(readFileSync(at("second")).equals(readFileSync(at("first")))).toBe(true);
  });

  test("what is missing is no RAM of the output, and told from what was left out", async () => {
    const cut = at("cut.kdump");
    const whole = readFileSync(input);
    // The descriptor of the page at FAR, behind those of 304 others, leads beyond the file.
    const bitmap = 4096 * Math.ceil((FAR + 3) / 8 / 4096);
    whole.writeBigUInt64LE(2n ** 40n, 2 * PAGE + 2 * bitmap + 24 * 304);
    writeFileSync(cut, whole);
    const { status } = await run(cut, at("cut.out"), "--format", "kdump", "--strict");
    expect(status).toBe(6);
    const kdump = readKdump(readFileSync(at("cut.out")));
    expect([kdump.ram(FAR), kdump.dumped(FAR)]).toEqual([false, false]);
    expect([kdump.ram(FAR + 2), kdump.dumped(FAR + 2)]).toEqual([true, false]);
    // Nor does a bitmap say that there was more: the status does.
    expect(kdump.status).toBe(1 | 8);
  });

  test.each(["kdump", "flat"])("a dump marked incomplete stays one as %s", async (format) => {
    const [marked, output] = [at("marked.kdump"), at(`marked.${format}.out`)];
    writeFileSync(marked, buildKdump({ pages: contents, codec: "zlib", notes, incomplete: true }));
    const { status, codes } = await run(marked, output, "--format", format);
    expect([status, codes]).toEqual([0, ["DMP002"]]);
    expect((await run(output, at("again"), "--format", "kdump", "--force")).codes).toEqual(["DMP002"]);
  });

  test("firmware below 4 GiB is left out where no RAM is above, and -d 0 keeps it", async () => {
    const top = 2 ** 20;
    const firmware = new Map([...contents, [top - 2, repeating(8)], [top - 1, repeating(9)]]);
    writeFileSync(at("firmware.kdump"), buildKdump({ pages: firmware, codec: "zlib", notes }));
    const first = await run(at("firmware.kdump"), at("firmware.out"), "--format", "kdump");
    expect([first.status, first.codes]).toEqual([0, ["OUT004"]]);
    expect(readKdump(readFileSync(at("firmware.out"))).ram(top - 1)).toBe(false);
    const second = await run(at("firmware.kdump"), at("firmware.all"), "--format", "kdump", "-d", "0");
    expect([second.status, second.codes]).toEqual([0, []]);
    expect(
      readKdump(readFileSync(at("firmware.all")))
        .page(top - 1)!
        .equals(repeating(9)),
    ).toBe(true);
    firmware.set(top, repeating(10));
    writeFileSync(at("high.kdump"), buildKdump({ pages: firmware, codec: "zlib", notes }));
    expect((await run(at("high.kdump"), at("high.out"), "--format", "kdump")).codes).toEqual([]);
    expect(readKdump(readFileSync(at("high.out"))).ram(top - 1)).toBe(true);
  });
});

describe("convert --format flat", () => {
  test("is the stream of the kdump-compressed dump", async () => {
    await run(input, at("plain"), "--format", "kdump", "--compress", "snappy");
    const { status } = await run(input, at("flat"), "--format", "flat", "--compress", "snappy");
    expect(status).toBe(0);
    const stream = readFileSync(at("flat"));
    const inside = await FlattenedSource.open(new MemorySource(stream));
    expect(inside.whole).toBe(true);
    const bytes = Buffer.alloc(inside.size);
    inside.read(0, bytes);
    expect(bytes.equals(readFileSync(at("plain")))).toBe(true);
    expect(stream.subarray(-16).every((byte) => byte === 0xff)).toBe(true);
  });

  test("goes where bytes are taken in order only", async () => {
    const path = at("pipe");
    const fd = openSync(path, "w");
    const output = new FlatOutput(new OutputStream(fd, quiet.checkpoint));
    output.write(Buffer.from("later"), 0, 5, 100);
    output.write(Buffer.from("first"), 1, 3, 0);
    await output.finish(200);
    closeSync(fd);
    const stream = readFileSync(path);
    const records: [bigint, bigint][] = [];
    for (let at = 4096; at < stream.length; ) {
      const [offset, size] = [stream.readBigInt64BE(at), stream.readBigInt64BE(at + 8)];
      records.push([offset, size]);
      at += 16 + Math.max(0, Number(size));
    }
    // The last record makes the file as long as it is; then the end mark.
    expect(records).toEqual([
      [100n, 5n],
      [0n, 3n],
      [199n, 1n],
      [-1n, -1n],
    ]);
    expect(output.length).toBe(stream.length);
  });
});

describe("convert --format lime", () => {
  test("has a header per range and the bytes behind it", async () => {
    const { status } = await run(input, at("lime"), "--format", "lime");
    expect(status).toBe(0);
    const file = readFileSync(at("lime"));
    const ranges: [number, number][] = [];
    for (let offset = 0; offset < file.length; ) {
      expect(file.toString("latin1", offset, offset + 4)).toBe("EMiL");
      expect(file.readUInt32LE(offset + 4)).toBe(1);
      const [start, last] = [
        Number(file.readBigUInt64LE(offset + 8)),
        Number(file.readBigUInt64LE(offset + 16)),
      ];
      ranges.push([start / PAGE, (last + 1) / PAGE]);
      for (let address = start; address < last; address += PAGE) {
        const bytes = file.subarray(offset + 32 + address - start, offset + 32 + address - start + PAGE);
        expect(bytes.equals(contents.get(address / PAGE)!)).toBe(true);
      }
      offset += 32 + (last + 1 - start);
    }
    expect(ranges).toEqual([
      [3, 306],
      [308, 309],
      [FAR, FAR + 2],
    ]);
  });
});

describe("convert refuses", () => {
  test.each([
    [["--compress", "lzo"], /--compress is of --format kdump and flat only/],
    [["-d", "1"], /-d is of --format kdump and flat only/],
    [["--format", "raw", "--compress", "none"], /--compress is of/],
    [["--format", "kdump", "--compress", "gzip"], /gzip/],
    [["--format", "kdump", "-d", "31"], /31/],
  ])("%j", async (words, message) => {
    const output = at("refused");
    const { status, err } = await run(input, output, ...words);
    expect([status, err]).toEqual([2, expect.stringMatching(message)]);
    expect(existsSync(output)).toBe(false);
  });

  test("a kdump-compressed dump of another machine", async () => {
    writeFileSync(at("arm.kdump"), buildKdump({ pages: contents, machine: "aarch64" }));
    const { status, err } = await run(at("arm.kdump"), at("refused"), "--format", "kdump");
    expect([status, err]).toEqual([3, expect.stringMatching(/of aarch64 is not written/)]);
    expect(existsSync(at("refused"))).toBe(false);
    expect((await run(at("arm.kdump"), at("arm.elf"))).status).toBe(0);
  });

  test("a kdump-compressed dump on standard output", async () => {
    const { status, err } = await run(input, "-", "--format", "kdump");
    expect([status, err]).toEqual([2, expect.stringMatching(/--format flat/)]);
  });
});

describe("extract", () => {
  const extract = async (...words: string[]) => {
    const terminal = new FakeTerminal();
    return { status: await main(["extract", ...words], terminal), err: terminal.err };
  };
  const core = join(import.meta.dirname, "../samples/nano-pc.core.zst");

  test.each([
    [["-o", at("never"), "--compress", "lzo"], /--compress is of --format kdump and flat only/],
    [["-o", at("never"), "-d", "0"], /-d is of --format kdump and flat only/],
    [["-o", "-", "--format", "kdump"], /--format flat/],
    [["--dry-run", "--compress", "none"], /--compress is of/],
  ])("refuses %j before it looks into the core", async (words, message) => {
    const { status, err } = await extract(core, ...words);
    expect([status, err]).toEqual([2, expect.stringMatching(message)]);
    expect(readdirSync(folder).filter((name) => name.startsWith("never"))).toEqual([]);
  });

  test.each(["kdump", "flat", "lime"])("writes %s: every page is that of the ELF vmcore", async (format) => {
    expect((await extract(core, "-o", at("guest.elf"), "--force")).status).toBe(0);
    expect((await extract(core, "-o", at(`guest.${format}`), "--format", format)).status).toBe(0);
    const [elf, other] = await Promise.all(
      ["elf", format].map(async (name) => openDump(new MemorySource(readFileSync(at(`guest.${name}`))))),
    );
    let compared = 0;
    for (const { start, end } of other!.memory.ranges) {
      for (let address = start; address < end; address += PAGE) {
        const [left, right] = [Buffer.alloc(PAGE), Buffer.alloc(PAGE, 1)];
        const states = [elf!.memory.readPage(address, left), other!.memory.readPage(address, right)];
        expect(states.every((state) => state === "present" || state === "zero")).toBe(true);
        if (!left.equals(right)) throw new Error(`page ${address / PAGE} differs`);
        compared++;
      }
    }
    expect(compared).toBeGreaterThan(1000);
    // LiME has no place for notes.
    const names = (dump: typeof elf) => dump!.notes.map(({ name }) => name);
    expect(names(other)).toEqual(format === "lime" ? [] : names(elf));
  });
});

/** Threads start from compiled files only: `npm test` builds them first. */
describe("page threads", () => {
  type Threads = typeof import("../src/io/page-threads.ts");
  const compiled = join(import.meta.dirname, "../dist/io/page-threads.js");
  const load = async (): Promise<Threads> => (await import(compiled)) as Threads;

  test.each(["zlib", "lzo", "snappy"] as const)(
    "%s: pages come out in order, as one thread makes them",
    async (codec) => {
      const { PageBatches, PageThreads } = await load();
      const pages = Array.from({ length: 700 }, (_, i) =>
        i % 3 === 0 ? patternBytes(PAGE, i) : repeating(i),
      );
      const packedBy = async (count: number) => {
        const threads = new PageThreads(count);
        expect(threads.count).toBe(count < 2 ? 0 : count);
        const out: string[] = [];
        try {
          const batches = new PageBatches<number>(
            threads,
            { kind: "pack", codec, pageSize: PAGE },
            (batch) => {
              for (let i = 0; i < batch.count; i++) {
                const bytes = batch.buffers.output.subarray(i * PAGE, i * PAGE + batch.buffers.size[i]!);
                out.push(`${batch.notes[i]} ${batch.buffers.codecOf(i)} ${bytes.toString("hex")}`);
              }
            },
          );
          for (const [i, bytes] of pages.entries()) {
            bytes.copy(batches.open.buffers.input, batches.open.count * PAGE);
            batches.open.notes.push(i);
            batches.open.count++;
            await batches.advance();
          }
          await batches.drain();
        } finally {
          await threads.close();
        }
        return out;
      };
      const [one, three] = [await packedBy(1), await packedBy(3)];
      expect(one).toHaveLength(pages.length);
      expect(three).toEqual(one);
    },
  );

  test("a failure of a thread ends the work", async () => {
    const { PageBatches, PageThreads } = await load();
    const threads = new PageThreads(2);
    try {
      const job = { kind: "pack", codec: "nonsense" as "zlib", pageSize: PAGE } as const;
      const batches = new PageBatches<number>(threads, job, () => {});
      batches.open.count = 256;
      await expect(batches.drain()).rejects.toThrow();
    } finally {
      await threads.close();
    }
  });
});
