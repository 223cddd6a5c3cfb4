import { deflateRawSync, deflateSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nameOf } from "../src/triage/pstore/names.ts";
import { readRamoops } from "../src/triage/pstore/ramoops.ts";
import { readStore } from "../src/triage/pstore/read-file.ts";
import { pstoreReport } from "../src/triage/pstore/report.ts";
import { wireMessage } from "../src/triage/pstore/wire.ts";
import { random } from "./synth/pattern.ts";
import {
  cperRecord,
  dumpZone,
  efiVolume,
  erstFile,
  logLine,
  lz4Block,
  MCE,
  nvram,
  OOPS_LINES,
  oopsLog,
  PANIC_LINES,
  pack842,
  type RamoopsSpec,
  ramoopsRegion,
  record,
  zoneImage,
} from "./synth/pstore.ts";

const panic = record("Panic", 2, 1, PANIC_LINES);
const oops = record("Oops", 1, 1, OOPS_LINES);
const packed = deflateRawSync(panic, { windowBits: 11 });
const read = (bytes: Buffer, path = "store") => readStore({ path, bytes });
const texts = (bytes: Buffer, path?: string) =>
  read(bytes, path)!.records.map((each) => each.bytes.toString());

describe("names", () => {
  test.each([
    ["dmesg-ramoops-0", "mount", "dmesg", "ramoops", 0n, false],
    ["dmesg-efi-179523104901001.enc.z", "mount", "dmesg", "efi", 179523104901001n, true],
    ["dmesg-efi_pstore-1", "mount", "dmesg", "efi_pstore", 1n, false],
    ["dmesg-pstore-blk-3", "mount", "dmesg", "pstore-blk", 3n, false],
    ["console-ramoops", "mount", "console", "ramoops", undefined, false],
    ["powerpc-ofw-nvram-2", "mount", "powerpc-ofw", "nvram", 2n, false],
    ["type9-erst-7", "mount", "unknown", "erst", 7n, false],
    ["unknown-0", "virtio", "unknown", "virtio", 0n, false],
    ["dmesg-12.enc.z", "virtio", "dmesg", "virtio", 12n, true],
    ["dump-type0-3-1-1795231050-C", "efi", "dmesg", "efi", 179523105003001n, true],
    [
      "dump-type0-3-1-1795231050-C-cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0",
      "efi",
      "dmesg",
      "efi",
      179523105003001n,
      true,
    ],
    ["dump-type0-3-1795231050", "efi", "dmesg", "efi", 179523105003000n, false],
  ])("%s", (name, form, type, backend, id, isPacked) =>
    expect(nameOf(name)).toMatchObject({ form, type, backend, id, packed: isPacked }),
  );

  test.each([
    "dmesg",
    "dmesg.0",
    "vmcore-dmesg.txt",
    "dump-type0-1-1-1-C-8be4df61-93ca-11d2-aa0d-00e098032b8c",
  ])("%s is none", (name) => expect(nameOf(name)).toBe(undefined));

  test("a number tells when the record was written", () => {
    expect(nameOf("dmesg-efi-179523104901001")!.time).toBe(1_795_231_049_000);
    expect(nameOf("dmesg-erst-7710458201837142017")!.time).toBe(1_795_230_946_000);
    expect(nameOf("dmesg-ramoops-5")!.time).toBe(undefined);
  });

  test("other names are pstore's only with a dump in the file", () => {
    expect(read(Buffer.from("[    0.000000] Linux version\n"), "console-serial.log")).toBe(undefined);
    expect(read(panic, "dmesg-newbackend-1")!.kind).toBe("pstore file");
  });
});

describe("ramoops", () => {
  const spec: RamoopsSpec = { size: 0x2_0000, record: 0x4000, console: 0x4000, ftrace: 0x1000, pmsg: 0x1000 };
  const log = Buffer.from(OOPS_LINES.join("").repeat(200));
  const contents = {
    dumps: [dumpZone(oops, false), undefined, dumpZone(packed, true)],
    console: log,
    ftrace: Buffer.alloc(24 * 10, 1),
    pmsg: Buffer.from("from user space\n"),
  };

  test.each([
    ["without ECC", {}],
    ["with ECC of 16 bytes", { ecc: 16 }],
    ["with ECC of 8 bytes", { ecc: 8 }],
    ["of a big-endian guest", { bigEndian: true }],
    ["of a big-endian guest with ECC", { bigEndian: true, ecc: 16 }],
    ["with zones of an odd size", { size: 0x1_f234 }],
    ["without ftrace", { ftrace: 0 }],
    ["with the console alone", { ftrace: 0, pmsg: 0 }],
  ])("zones are found %s, and where they are told", (_, change) => {
    const full = { ...spec, ...change };
    const region = ramoopsRegion(full, contents);
    const told = {
      record: full.record,
      console: full.console!,
      ftrace: full.ftrace!,
      pmsg: full.pmsg!,
      ecc: full.ecc ?? 0,
    };
    for (const parameters of [undefined, told]) {
      const { records, problems } = readRamoops(region, "region", parameters);
      expect(problems).toEqual([]);
      const found = (type: string) => records.filter((each) => each.type === type);
      expect(found("dmesg").map(({ bytes, id, time }) => [bytes.toString(), id, time])).toEqual([
        [oops.toString(), 0n, 1_795_230_805_862],
        [panic.toString(), 2n, 1_795_230_805_862],
      ]);
      const [kept] = found("console");
      expect(kept!.bytes.length).toBeGreaterThan(0x3000);
      expect(log.subarray(log.length - kept!.bytes.length).equals(kept!.bytes)).toBe(true);
      expect(found("pmsg").map(({ bytes }) => bytes.toString())).toEqual(
        full.pmsg === 0 ? [] : ["from user space\n"],
      );
      expect(found("ftrace").length).toBe(full.ftrace === 0 ? 0 : 1);
    }
  });

  test("within ECC's reach damage leaves no trace, beyond it is told", () => {
    const region = ramoopsRegion({ ...spec, ecc: 16 }, { dumps: contents.dumps });
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 8 }), (seed, errors) => {
        const chance = random(seed);
        const bytes = Buffer.from(region);
        const places = new Set<number>();
        // The first block of the first dump: bytes 12 to 139 of its zone.
        while (places.size < errors) places.add(12 + chance.below(128));
        for (const at of places) bytes[at]! ^= 1 + chance.below(255);
        const [first] = readRamoops(bytes, "region").records;
        expect([first!.bytes.equals(oops), first!.ecc]).toEqual([
          true,
          { corrected: errors, unrecoverable: 0 },
        ]);
      }),
      { seed: 4, numRuns: 100 },
    );
    const bytes = Buffer.from(region);
    for (let at = 60; at < 77; at++) bytes[at]! ^= 0x55;
    const { records, problems } = readRamoops(bytes, "region");
    expect(records[0]!.ecc!.unrecoverable).toBe(1);
    expect(problems.map(({ code }) => code)).toEqual(["TRI305"]);
  });

  test("ECC repairs a zone's header, signature and all", () => {
    const region = ramoopsRegion({ ...spec, ecc: 16 }, { dumps: contents.dumps });
    const zone = region.indexOf("====1795", 1000) - 12;
    for (const at of [zone, zone + 5, zone + 9]) region[at]! ^= 0xff;
    const { records } = readRamoops(region, "region");
    expect(records[1]!.bytes.equals(panic)).toBe(true);
    expect(records[1]!.ecc).toEqual({ corrected: 3, unrecoverable: 0 });
  });

  test("without ECC a dump behind a damaged header is read all the same, and that is told", () => {
    const region = ramoopsRegion(spec, contents);
    region[region.indexOf("====1795", 1000) - 12]! ^= 0xff;
    const { records, problems } = readRamoops(region, "region");
    expect(records.find(({ header }) => header?.reason === "Panic")!.bytes.equals(panic)).toBe(true);
    expect(problems.map(({ code }) => code)).toContain("TRI307");
  });

  test("a dump that the guest deleted is there, and no crash unless it is asked for", () => {
    const region = ramoopsRegion(spec, { dumps: [dumpZone(packed, true), dumpZone(oops, false)] });
    const span = region.indexOf("DBGC", 4);
    for (const zone of [0, span]) region.fill(0, zone + 4, zone + 12);
    const files = [{ path: "region", bytes: region }];
    const { records, crashes } = pstoreReport(files);
    expect(records.map(({ bytes, erased }) => [bytes.toString(), erased])).toEqual([
      [panic.toString(), true],
      [oops.toString(), true],
    ]);
    expect(crashes).toEqual([]);
    expect(pstoreReport(files, { erased: true }).crashes.length).toBe(1);
  });

  test("headers of older kernels", () => {
    for (const head of ["====1795230805.862003\n", "====1795230805.862003-D\n"]) {
      const region = ramoopsRegion(spec, { dumps: [Buffer.concat([Buffer.from(head), oops])] });
      expect(readRamoops(region, "region").records[0]!.bytes.equals(oops)).toBe(true);
    }
  });

  test("a packed dump that its zone was too small for gives its beginning", () => {
    const long = record(
      "Panic",
      1,
      1,
      Array.from({ length: 400 }, (_, i) => logLine(i, `line ${i * 7919}`)),
    );
    const cut = deflateRawSync(long).subarray(0, 900);
    const region = ramoopsRegion(spec, { dumps: [dumpZone(cut, true)] });
    const { records, problems } = readRamoops(region, "region");
    expect([records[0]!.fault, problems[0]!.code]).toEqual(["cut", "TRI303"]);
    expect(long.subarray(0, records[0]!.bytes.length).equals(records[0]!.bytes)).toBe(true);
    expect(records[0]!.bytes.length).toBeGreaterThan(1000);
  });
});

describe("other stores", () => {
  const id = (1_795_230_946n << 32n) | 1n;

  test("ERST: whole, cleared, and of machine checks", () => {
    const mce = Buffer.alloc(88);
    mce.writeBigUInt64LE(0xbe00_0000_0080_0400n, 0);
    const file = erstFile([
      { bytes: cperRecord(packed, true, id), id },
      { bytes: cperRecord(oops, false, id + 1n), id: 0n },
      { bytes: cperRecord(mce, false, id + 2n, MCE), id: id + 2n },
    ]);
    const { records, findings } = pstoreReport([{ path: "erst", bytes: file }]);
    expect(records.map(({ type, erased, time, id: number }) => [type, erased, time, number])).toEqual([
      ["dmesg", false, 1_795_230_946_000, id],
      ["dmesg", true, 1_795_230_946_000, id + 1n],
      ["mce", false, 1_795_230_946_000, id + 2n],
    ]);
    expect(findings.map(({ class: kind, side }) => [kind, side])).toEqual([
      ["panic", "guest"],
      ["machine-check", "hardware"],
    ]);
    expect(findings[1]!.title).toBe(
      "machine check saved by the guest's kernel, MCi_STATUS 0xbe00000000800400",
    );
  });

  test("a CPER record alone", () => {
    expect(texts(cperRecord(packed, true, id))).toEqual([panic.toString()]);
  });

  test.each([true, false])("EFI variables in flash (authenticated: %s)", (authenticated) => {
    const image = efiVolume(
      [
        { name: "BootOrder", data: Buffer.from([0, 0]), guid: "61dfe48bca93d211aa0d00e098032b8c" },
        { name: "dump-type0-1-2-1795231050-C", data: packed },
        { name: "dump-type0-1-1-1795231049-D", data: oops },
        { name: "dump-type0-1-1-1795231000-D", data: oops, state: 0x3d },
      ],
      authenticated,
    );
    const { records, kind } = read(image)!;
    expect(kind).toBe("EFI variable store");
    expect(records.map(({ bytes, erased }) => [bytes.toString(), erased])).toEqual([
      [panic.toString(), false],
      [oops.toString(), false],
      [oops.toString(), true],
    ]);
  });

  test("EFI variables as files, with and without their attributes", () => {
    const name = "dump-type0-1-2-1795231050-C-cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0";
    const attributes = Buffer.from([7, 0, 0, 0]);
    expect(texts(Buffer.concat([attributes, packed]), name)).toEqual([panic.toString()]);
    expect(texts(packed, "vars/dump-type0-1-2-1795231050-C/data")).toEqual([panic.toString()]);
  });

  test("pstore/zone: packed or not, and its console", () => {
    const image = zoneImage(
      [
        { payload: packed, packed: true },
        { payload: oops, packed: false },
      ],
      Buffer.from(OOPS_LINES.join("")),
    );
    const { records } = read(image)!;
    expect(records.map(({ type, bytes }) => [type, bytes.toString()])).toEqual([
      ["console", OOPS_LINES.join("")],
      ["dmesg", panic.toString()],
      ["dmesg", `Panic: Total 3 times\n${oops}`],
    ]);
    expect(records[2]!.header).toEqual({ reason: "Oops", count: 1, part: 1 });
  });

  test("powerpc NVRAM: the kernel's dump and the firmware's log", () => {
    const rtas = Buffer.concat([
      Buffer.from([0, 0, 0, 3, 0, 0, 0, 9]),
      Buffer.from("0644000000000010", "hex"),
    ]);
    const image = nvram([
      { name: "common", data: Buffer.from("boot=1"), length: 64 },
      { name: "ibm,rtas-log", data: rtas, length: 2064 },
      { name: "lnx,oops-log", data: oopsLog(9, 2, deflateSync(panic, { windowBits: 12 })), length: 4016 },
    ]);
    const { records, rtas: logs, findings } = pstoreReport([{ path: "nvram", bytes: image }]);
    expect(records.map(({ type, id: number }) => [type, number])).toEqual([
      ["rtas", 9n],
      ["dmesg", 2n],
    ]);
    expect(records[1]!.bytes.equals(panic)).toBe(true);
    expect([logs[0]!.id, logs[0]!.bytes.subarray(0, 8).toString("hex")]).toEqual([9n, "0644000000000010"]);
    expect(findings[0]!.class).toBe("panic");
  });

  test("powerpc NVRAM: a dump without a first line is judged by its text", () => {
    const text = Buffer.from(PANIC_LINES.join(""));
    const { findings } = pstoreReport([{ path: "lnx,oops-log", bytes: oopsLog(4, 1, text) }]);
    expect(findings.map(({ class: kind, trust }) => [kind, trust])).toEqual([["panic", "likely"]]);
  });

  test("kcrash files of ChromeOS are records by their text", () => {
    expect(read(panic, "kernel.20240101.120000.0.kcrash")!.kind).toBe("record");
  });

  test.each([
    ["842", pack842(panic)],
    ["lz4", lz4Block(panic)],
  ])("a record packed with %s under a name of its own", (algorithm, bytes) => {
    expect(read(bytes, "crash.bin")!.records[0]!.compression).toBe(algorithm);
  });

  test("virtio-pstore: streams that kvmtool appended are records of their own", () => {
    const both = Buffer.concat([deflateSync(oops), deflateSync(panic)]);
    expect(texts(both, "dmesg-1.enc.z")).toEqual([oops.toString(), panic.toString()]);
    expect(texts(Buffer.concat([oops, panic]), "dmesg-1")).toEqual([oops.toString(), panic.toString()]);
  });

  test("virtio-pstore: appended blocks of LZ4, which have no end, are told apart by their first lines", () => {
    const both = Buffer.concat([lz4Block(oops), lz4Block(panic), lz4Block(oops)]);
    const wanted = [oops.toString(), panic.toString(), oops.toString()];
    expect(texts(both, "dmesg-1.enc.z")).toEqual(wanted);
    // A first line that the log quotes begins no block.
    const quoting = Buffer.concat([
      panic,
      Buffer.from("<4>[    9.000000] it says\nPanic#1 Part1\nand more\n"),
    ]);
    expect(texts(lz4Block(quoting), "dmesg-1.enc.z")).toEqual([quoting.toString()]);
  });

  test("in the guest's own pstore a name in .enc.z is told", () => {
    const { problems } = pstoreReport([{ path: "dmesg-ramoops-0.enc.z", bytes: packed }]);
    expect(problems.map(({ code }) => code)).toEqual(["TRI304"]);
  });

  test("what nothing unpacks is told, kept as it is, and no crash", () => {
    const { records, findings, problems } = pstoreReport([
      { path: "dmesg-efi-179523104901001.enc.z", bytes: random(5).bytes(300) },
    ]);
    expect(records[0]!.compression).toBe("unknown");
    expect(problems.map(({ code }) => code)).toEqual(["TRI302", "TRI304"]);
    expect(findings.map(({ severity }) => severity)).toEqual(["warning"]);
  });
});

describe("buffers of virtio-pstore", () => {
  const head = Buffer.alloc(48);
  head.writeUInt16LE(2, 0);
  head.writeUInt16LE(1, 2);
  head.writeBigUInt64LE(77n, 8);
  head.writeUInt16LE(1, 20);
  head.writeUInt32LE(1, 24);
  head.writeUInt32LE(packed.length, 28);
  head.writeBigUInt64LE(1_795_230_805n, 32);
  const response = Buffer.concat([head, packed, Buffer.alloc(50)]);
  const request = Buffer.alloc(24);
  request.writeUInt16LE(3, 0);
  request.writeUInt16LE(1, 2);
  request.writeUInt32LE(1, 4);
  request.writeBigUInt64LE(5n, 8);
  const old = Buffer.alloc(32);
  old.writeBigUInt64LE(9n, 0);
  old.writeUInt32LE(1, 8);
  old.writeUInt16LE(3, 12);
  old.writeUInt16LE(1, 14);
  old.writeBigUInt64LE(1_795_230_805n, 16);

  test.each([
    ["response", "v2", response, 77n, 1_795_230_805_000],
    ["request", "v2", Buffer.concat([request, packed]), 5n, undefined],
    ["header", "v1", Buffer.concat([old, packed]), 9n, 1_795_230_805_000],
  ] as const)("%s of %s", (_, version, bytes, id, time) => {
    expect(wireMessage(bytes, version)).toMatchObject({ version, id, packed: true, time, type: "dmesg" });
    for (const wire of [undefined, version]) {
      const store = readStore({ path: "buffer", bytes }, { wire });
      expect(store!.records[0]!.bytes.equals(panic)).toBe(true);
    }
  });
});
