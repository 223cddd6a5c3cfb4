import { existsSync } from "node:fs";
import { join } from "node:path";
import { deflateRawSync, deflateSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { readStore } from "../src/triage/pstore/read-file.ts";
import { pstoreReport } from "../src/triage/pstore/report.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { mutantOf } from "./support/mutants.ts";
import { filesIn, triageData } from "./support/triage-data.ts";
import { random } from "./synth/pattern.ts";
import {
  cperRecord,
  dumpZone,
  efiVolume,
  erstFile,
  logLine,
  nvram,
  OOPS_LINES,
  oopsLog,
  PANIC_LINES,
  ramoopsRegion,
  record,
  zoneImage,
} from "./synth/pstore.ts";

const panic = record("Panic", 2, 1, PANIC_LINES);
const oops = record("Oops", 1, 1, OOPS_LINES);
const packed = deflateRawSync(panic, { windowBits: 11 });
const spec = { size: 0x1_0000, record: 0x2000, console: 0x2000, ftrace: 0x1000, pmsg: 0x1000 };
const kept = {
  console: Buffer.from(OOPS_LINES.join("")),
  ftrace: Buffer.alloc(96, 3),
  pmsg: Buffer.from("x\n"),
};
const id = (1_795_230_946n << 32n) | 1n;

const STORES: Readonly<Record<string, Buffer>> = {
  "ramoops region": ramoopsRegion(spec, { dumps: [dumpZone(packed, true), dumpZone(oops, false)], ...kept }),
  "ramoops region with ECC": ramoopsRegion(
    { ...spec, ecc: 16 },
    { dumps: [dumpZone(packed, true), dumpZone(oops, false)], ...kept },
  ),
  "ERST file": erstFile([
    { bytes: cperRecord(packed, true, id), id },
    { bytes: cperRecord(oops, false, id + 1n), id: id + 1n },
  ]),
  "EFI variables": efiVolume([
    { name: "dump-type0-1-2-1795231050-C", data: packed },
    { name: "dump-type0-1-1-1795231049-D", data: oops },
  ]),
  "pstore zones": zoneImage(
    [
      { payload: packed, packed: true },
      { payload: oops, packed: false },
    ],
    kept.console,
  ),
  "powerpc NVRAM": nvram([
    { name: "ibm,rtas-log", data: Buffer.from([0, 0, 0, 3, 0, 0, 0, 9, 6, 0x44]), length: 2064 },
    { name: "lnx,oops-log", data: oopsLog(9, 2, deflateSync(panic)), length: 4016 },
  ]),
  archive: Buffer.from(`dmesg-erst-1:\n${panic}dmesg-erst-2:\n${oops}`),
  "appended streams": Buffer.concat([deflateSync(oops), deflateSync(panic)]),
};

describe("mutants", () => {
  test.each(Object.entries(STORES))(
    "%s: of 250, each is read or refused, and says only what is in it",
    (name, store) => {
      expect(readStore({ path: "store", bytes: store })!.records.length).toBeGreaterThan(1);
      // Where a store is mostly empty, damage is done to what is not.
      const places = [...store.keys()].filter((at) => store[at] !== 0 && store[at] !== 0xff);
      let crashes = 0;
      for (let seed = 0; seed < 250; seed++) {
        const bytes = mutantOf(store, seed, 8, (chance) => Math.min(store.length - 8, chance.pick(places)));
        const report = pstoreReport([{ path: "store", bytes }]);
        crashes += report.crashes.length;
        for (const { bytes: text } of report.records) expect(text.length).toBeLessThanOrEqual(2 ** 20 + 40);
        for (const { title, evidence } of report.findings) {
          expect(title.length).toBeLessThanOrEqual(200);
          for (const { text } of evidence) expect(text.length).toBeLessThanOrEqual(1000);
        }
      }
      expect(crashes, name).toBeGreaterThan(50);
    },
  );

  test("of real stores", () => {
    const folders = {
      "efi-6.1": "OVMF_VARS.fd.after-crash",
      "erst-6.1": "acpi-erst.backing.after-crash",
      "ramoops-lab-zstd": "ramoops-raw-1M.bin",
    };
    for (const [folder, name] of Object.entries(folders)) {
      if (!existsSync(triageData("pstore", folder))) continue;
      const file = filesIn(triageData("pstore", folder)).find((each) => each.name === name)!;
      const places = [...file.bytes.keys()].filter((at) => file.bytes[at] !== 0 && file.bytes[at] !== 0xff);
      for (let seed = 0; seed < 25; seed++) {
        const bytes = mutantOf(file.bytes, seed, 20, (chance) =>
          Math.min(file.bytes.length - 8, chance.pick(places)),
        );
        pstoreReport([{ path: name, bytes }]);
      }
    }
  });

  test("of names and contents that have nothing to do with each other", () => {
    const names = [
      "dmesg-ramoops-0",
      "dmesg-efi-1.enc.z",
      "dmesg-1",
      "console-2",
      "rtas-nvram-1",
      "mce-erst-1",
      "ftrace-ramoops-0",
      "dump-type0-1-1-1-C",
      "x",
    ];
    const all = [...Object.values(STORES), Buffer.alloc(0), Buffer.alloc(10), Buffer.from("Panic#1 Part1\n")];
    for (const name of names) for (const bytes of all) pstoreReport([{ path: name, bytes }]);
    for (let seed = 0; seed < 300; seed++) {
      const chance = random(seed);
      pstoreReport([{ path: chance.pick(names), bytes: chance.bytes(chance.below(3000)) }]);
    }
  });
});

describe("bombs", () => {
  const bomb = deflateRawSync(Buffer.concat([Buffer.from("Panic#1 Part1\n"), Buffer.alloc(2 ** 24, "a")]));

  test("a record that unpacks to 16 MiB is cut at 1 MiB, and that is told", () => {
    const { records, problems } = pstoreReport([{ path: "dmesg-1.enc.z", bytes: bomb }]);
    expect(records[0]!.bytes.length).toBeLessThanOrEqual(2 ** 20);
    expect(records[0]!.bytes.length).toBeGreaterThan(2 ** 19);
    expect(problems.map(({ code }) => code)).toEqual(["TRI303"]);
  });

  test("a region of many is cut at what a store can have", () => {
    const small = deflateRawSync(Buffer.concat([Buffer.from("Panic#1 Part1\n"), Buffer.alloc(900_000, "a")]));
    const region = ramoopsRegion(
      { size: 0x8_0000, record: 0x1000, console: 0, ftrace: 0, pmsg: 0 },
      { dumps: new Array<Buffer>(128).fill(dumpZone(small, true)) },
    );
    const begin = cpuTime();
    const { records, problems } = readStore({ path: "region", bytes: region })!;
    expect(records.length).toBeLessThan(40);
    expect(problems.map(({ code }) => code)).toContain("TRI308");
    expect(cpuTime() - begin).toBeLessThan(5000);
  });

  test("time grows with the size of the input, whatever is in it", () => {
    const size = 4 * 2 ** 20;
    const repeated = (text: string) => Buffer.alloc(size, text);
    const inputs: Readonly<Record<string, Buffer>> = {
      "zone signatures": repeated("DBGC\0\0\0\0\0\0\0\0"),
      "big-endian signatures": repeated("CGBD\0\0\0\0\0\0\0\0"),
      "signatures with lengths": repeated("DBGC\0\0\x01\0\0\0\x01\0"),
      "ftrace signatures": Buffer.concat([
        Buffer.from("DBGC\0\0\0\0\0\0\0\0"),
        repeated("\x84CAC\0\0\0\0\0\0\0\0"),
      ]),
      "one line": Buffer.concat([Buffer.from("Panic#1 Part1\n"), repeated("[    1.0")]),
      "member lines": repeated("dmesg-a-1:\n"),
      "first lines": repeated("Panic#1 Part1\n"),
      "dashes and digits": repeated("dmesg-a-a-a-a-a-a-1"),
      variables: repeated("\xaa\x55\x3f\0"),
      zeros: Buffer.alloc(size),
      marks: Buffer.concat([Buffer.from("Panic#1 Part1\n"), repeated(`${logLine(1, "BUG: x")}`)]),
    };
    for (const [name, bytes] of Object.entries(inputs)) {
      const begin = cpuTime();
      for (const path of ["store", "dmesg-1", "dmesg-ramoops-0"]) pstoreReport([{ path, bytes }]);
      expect(cpuTime() - begin, name).toBeLessThan(15_000);
    }
  });

  test("many dumps of as many boots", () => {
    const files = Array.from({ length: 3000 }, (_, i) => ({
      path: join("a", `dmesg-erst-${i}`),
      bytes: record(i % 2 === 0 ? "Oops" : "Panic", 1 + (i >> 4), 1, [
        ...PANIC_LINES,
        logLine(2, `boot ${i}`),
      ]),
    }));
    const begin = cpuTime();
    const { crashes } = pstoreReport(files);
    expect(crashes.length).toBeGreaterThan(1000);
    expect(cpuTime() - begin).toBeLessThan(15_000);
  });
});
