import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { GuestcoreError, InterruptedError, UnavailableError } from "../src/core/errors.ts";
import { spaceOfVmcoreinfo } from "../src/kernel/kernel-tables.ts";
import { readKernelLog } from "../src/kernel/printk.ts";
import { Vmcoreinfo } from "../src/kernel/vmcoreinfo.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { buildKdump } from "./synth/kdump.ts";
import { memoryFrom } from "./synth/memory.ts";
import { note } from "./synth/notes.ts";
import { random } from "./synth/pattern.ts";
import { recordLog, ringLog, type SynthLog, type SynthRecord } from "./synth/printk.ts";

const folder = mkdtempSync(join(tmpdir(), "guestcore-printk-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** The image lies at 16 MiB; the log 8 KiB into it. */
const BASE = 0xffff_ffff_8100_2000n;
const PHYSICAL = 0x100_2000;
const infoOf = ({ keys }: SynthLog): string =>
  ["OSRELEASE=6.1.0-synth", "NUMBER(phys_base)=0", ...keys, ""].join("\n");

function read(log: SynthLog) {
  const vmcoreinfo = new Vmcoreinfo(infoOf(log));
  const memory = memoryFrom([{ address: PHYSICAL, bytes: log.bytes }]);
  return readKernelLog(memory, spaceOfVmcoreinfo(memory, vmcoreinfo)!, vmcoreinfo);
}

const texts = [
  "Linux version 6.1",
  "",
  "a longer line that takes some room in the ring",
  "panic\nin two lines",
  "x",
];
const recordsOf = (count: number): SynthRecord[] =>
  Array.from({ length: count }, (_, n) => ({
    time: BigInt(n) * 1_000_001_000n,
    level: n % 8,
    text: texts[n % texts.length]!,
  }));

const long = (ring: boolean): SynthLog =>
  ring
    ? ringLog(BASE, recordsOf(5000), { descBits: 13, textBits: 19 })
    : recordLog(BASE, recordsOf(5000), { size: 2 ** 19 });

describe.each([
  ["the ring buffer", ringLog],
  ["records in a buffer", recordLog],
] as const)("%s", (_, build) => {
  test("is read whole while nothing was overwritten", async () => {
    const written = recordsOf(8);
    const { records, lost } = await read(build(BASE, written));
    expect(lost).toBe(0);
    expect(records.map(({ time, level, text }) => ({ time, level, text }))).toEqual(written);
  });

  test("holds the newest records once it is full, in order", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 200 }), async (count) => {
        const written = recordsOf(count);
        const { records, lost } = await read(build(BASE, written));
        expect(lost).toBe(0);
        expect(records.length).toBeGreaterThan(Math.min(count, 6) - 1);
        expect(records.map(({ time }) => time)).toEqual(
          written.slice(-records.length).map(({ time }) => time),
        );
        expect(records.map(({ text }) => text)).toEqual(
          written.slice(-records.length).map(({ text }) => text),
        );
      }),
      { numRuns: 60 },
    );
  });

  test("damaged ends in what is there, or an error of ours", async () => {
    const log = build(BASE, recordsOf(40));
    const outcomes = { read: 0, refused: 0 };
    for (let seed = 0; seed < 1500; seed++) {
      const chance = random(seed);
      const bytes = Buffer.from(log.bytes);
      for (let n = chance.below(4); n >= 0; n--) {
        const at = chance.below(chance.below(2) === 0 ? 96 : bytes.length - 8);
        bytes.writeBigUInt64LE(
          BigInt.asUintN(64, chance.pick([0n, 1n, -1n, 1n << 40n, BASE, 0x7fn << 56n])),
          at,
        );
      }
      try {
        const { records } = await read({ ...log, bytes });
        expect(records.length).toBeLessThan(2000);
        outcomes.read++;
      } catch (error) {
        if (!(error instanceof GuestcoreError)) throw error;
        outcomes.refused++;
      }
    }
    expect(Math.min(outcomes.read, outcomes.refused)).toBeGreaterThan(20);
  });

  test("by a VMCOREINFO that makes no sense ends in an error of ours, soon", async () => {
    const log = build(BASE, recordsOf(40));
    const outcomes = { read: 0, refused: 0 };
    for (let seed = 0; seed < 400; seed++) {
      const chance = random(seed);
      const keys = log.keys.map((key) =>
        chance.below(6) === 0 && /^(OFFSET|SIZE)/.test(key)
          ? key.replace(/=.*/, `=${chance.pick([0, 3, 7, 80, 4000, 999_999])}`)
          : key,
      );
      try {
        await read({ ...log, keys });
        outcomes.read++;
      } catch (error) {
        if (!(error instanceof GuestcoreError)) throw error;
        outcomes.refused++;
      }
    }
    expect(Math.min(outcomes.read, outcomes.refused)).toBeGreaterThan(20);
  });

  test("without a key that it needs is not guessed at", async () => {
    const log = build(BASE, recordsOf(3));
    const keys = log.keys.filter((key) => !/text_len/.test(key));
    await expect(read({ ...log, keys })).rejects.toThrow(UnavailableError);
    await expect(read({ ...log, keys: [] })).rejects.toThrow(/does not say where the kernel log is/);
  });

  test("is left when a signal comes, however long it is", async () => {
    const log = long(build === ringLog);
    const memory = memoryFrom([{ address: PHYSICAL, bytes: log.bytes }]);
    const info = new Vmcoreinfo(infoOf(log));
    const space = spaceOfVmcoreinfo(memory, info)!;
    let looks = 0;
    const look = async () => {
      looks++;
    };
    const { records } = await readKernelLog(memory, space, info, look);
    expect(records).toHaveLength(5000);
    expect(looks).toBeGreaterThan(3);
    const stop = () => Promise.reject(new InterruptedError("SIGINT"));
    await expect(readKernelLog(memory, space, info, stop)).rejects.toThrow(InterruptedError);
  });

  test("whose head is not in the dump is not to be had", async () => {
    const log = build(BASE, recordsOf(3));
    const vmcoreinfo = new Vmcoreinfo(infoOf(log));
    const memory = memoryFrom([{ address: 0x1000, bytes: Buffer.alloc(4096) }]);
    await expect(readKernelLog(memory, spaceOfVmcoreinfo(memory, vmcoreinfo)!, vmcoreinfo)).rejects.toThrow(
      /head is not in this dump/,
    );
  });
});

test("struct log, as it was called before 3.11", async () => {
  const written = recordsOf(5);
  const { records } = await read(recordLog(BASE, written, { type: "log" }));
  expect(records.map(({ text }) => text)).toEqual(written.map(({ text }) => text));
});

describe("guestcore dmesg", () => {
  const log = ringLog(BASE, recordsOf(9));
  const file = join(folder, "kdump");
  const image = Buffer.concat([log.bytes, Buffer.alloc(8192)]);
  writeFileSync(
    file,
    buildKdump({
      pages: new Map(
        [0, 1].map(
          (page) => [PHYSICAL / 4096 + page, image.subarray(4096 * page, 4096 * (page + 1))] as const,
        ),
      ),
      notes: note("VMCOREINFO", 0, Buffer.from(infoOf(log))),
    }),
  );
  const run = async (...words: string[]) => {
    const terminal = new FakeTerminal();
    return { status: await main(["dmesg", file, ...words], terminal), out: terminal.out, err: terminal.err };
  };

  test("prints times as the kernel does, and each line of a record with its own", async () => {
    const { status, out, err } = await run();
    expect([status, err]).toEqual([0, ""]);
    expect(out.split("\n").slice(0, 6)).toEqual([
      "[    0.000000] Linux version 6.1",
      "[    1.000001] ",
      "[    2.000002] a longer line that takes some room in the ring",
      "[    3.000003] panic",
      "[    3.000003] in two lines",
      "[    4.000004] x",
    ]);
  });

  test("the last records, with their levels", async () => {
    expect((await run("--last", "2", "--decode")).out).toBe(
      "debug : [    7.000007] a longer line that takes some room in the ring\nemerg : [    8.000008] panic\nemerg : [    8.000008] in two lines\n",
    );
    expect((await run("--last", "none")).status).toBe(2);
  });

  test("JSON is what the schema says", async () => {
    const document = JSON.parse((await run("--json")).out);
    const validate = schemas().getSchema("dmesg.json")!;
    expect(validate(document), JSON.stringify(validate.errors)).toBe(true);
    expect(document.result).toMatchObject({ release: "6.1.0-synth", lost: 0 });
    expect(document.result.records).toHaveLength(9);
  });
});
