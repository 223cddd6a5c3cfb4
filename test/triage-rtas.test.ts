import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { kernelLine, LineCutter, MAX_LINE } from "../src/triage/hardware/lines.ts";
import { decodeRtas, decodeRtasLog } from "../src/triage/rtas/decode.ts";
import { RtasDetector } from "../src/triage/rtas/detector.ts";
import { judge } from "../src/triage/rtas/judge.ts";
import { MACHINE_CHECK_OUTCOMES } from "../src/triage/rtas/outcome.ts";
import { mutantOf } from "./support/mutants.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { machineCheck, printed, rtasLog, section } from "./synth/rtas.ts";

const SAMPLES = join(import.meta.dirname, "../samples/triage");
const DATA = join(
  process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../shared/data"),
  "triage/foreign",
);
const SEED = 20261126;

const sample = (name: string) => readFileSync(join(SAMPLES, name));
const detect = (...chunks: Uint8Array[]) => {
  const detector = new RtasDetector({ source: "x" });
  for (const chunk of chunks) detector.push(chunk);
  return detector.end();
};
const factsOf = (log: Buffer) => decodeRtas(log)[0]!.sections.map(({ id, facts }) => [id, facts]);

describe("machine checks", () => {
  test.each([
    [0, 0x03, { error: "UE", kind: "load/store", permanent: false }],
    [0, 0xe1, { error: "UE", kind: "instruction fetch", permanent: true, effectiveAddress: 5n, logicalAddress: 6n }], // biome-ignore format: a table
    [0, 0x44, { error: "UE", kind: "page table walk for load/store", permanent: false, effectiveAddress: 5n }], // biome-ignore format: a table
    [0, 0x00, { error: "UE", kind: "indeterminate", permanent: false }],
    [0, 0x07, { error: "UE", kind: "unknown (7)", permanent: false }],
    [1, 0x81, { error: "SLB", kind: "multihit", effectiveAddress: 5n }],
    [1, 0x00, { error: "SLB", kind: "parity" }],
    [2, 0x82, { error: "ERAT", kind: "multihit", effectiveAddress: 5n }],
    [4, 0x01, { error: "TLB", kind: "parity" }],
    [4, 0x00, { error: "TLB", kind: "unknown (0)" }],
    [5, 0x00, { error: "D-cache" }],
    [7, 0x00, { error: "I-cache" }],
    [8, 0x90, { error: "control memory access", kind: "operand access", effectiveAddress: 5n }],
    [9, 0x00, { error: "unknown (0x09)" }],
  ])("type %i, subtype %i", (type, subtype, expected) => {
    const log = rtasLog({ sections: [machineCheck(type, subtype, 5n, 6n)] });
    expect(factsOf(log)).toEqual([["MC", { ...expected, processorId: 0, fruId: 0 }]]);
  });

  test.each([
    [3, 0, "notice", true],
    [3, 1, "notice", true],
    [3, 2, "warning", undefined],
    [5, 2, "panic", undefined],
  ])("severity %i, disposition %i is %s", (severity, disposition, expected, survived) => {
    const log = decodeRtas(rtasLog({ severity, disposition, sections: [machineCheck(1, 0x81)] }))[0]!;
    const judgement = judge(log);
    expect([judgement.severity, judgement.survived, judgement.side]).toEqual([
      expected,
      survived,
      "hardware",
    ]);
    expect(judgement.rule).toBe("rtas/machine-check");
  });

  test("have one signature whatever the addresses are", () => {
    const signature = (address: bigint) =>
      judge(decodeRtas(rtasLog({ sections: [machineCheck(4, 0x82, address)] }))[0]!).signature;
    expect(signature(1n)).toBe(signature(99n));
  });
});

describe("sections", () => {
  const text = (words: string, size: number) => Buffer.from(words.padEnd(size, "\0"), "latin1");

  test("of a platform event log, all kinds", () => {
    const priv = Buffer.alloc(40);
    priv.writeUInt32BE(0x20261121, 0);
    priv.writeUInt32BE(0x03373950, 4);
    priv.write("E", 16, "latin1");
    priv[19] = 12;
    priv.writeUInt32BE(7, 32);
    const user = Buffer.from("20004001000000000000a80000000000", "hex");
    const dump = Buffer.concat([Buffer.from("00000009a0000005000000000000100041424300", "hex"), Buffer.alloc(40)]); // biome-ignore format: as laid out
    const reference = Buffer.concat([Buffer.alloc(8), Buffer.from("00000001".repeat(8), "hex"), text("B7001111", 36)]); // biome-ignore format: as laid out
    const extended = Buffer.concat([text("8286-42A", 8), text("10ABCDE", 12), text("FW860", 16), text("sub", 16), Buffer.alloc(4), Buffer.from("2026112103373900", "hex"), Buffer.from("00000004", "hex"), text("SYMP", 4)]); // biome-ignore format: as laid out
    const log = rtasLog({
      type: 0xe0,
      sections: [
        section("PH", priv),
        section("UH", user),
        section("PS", reference),
        section("MT", Buffer.concat([text("8286-42A", 8), text("10ABCDE", 12)])),
        section("EH", extended),
        section("DH", dump, { subtype: 2 }),
        section("LP", Buffer.concat([Buffer.from("0003040100000007", "hex"), text("web", 4)])),
        section("LR", Buffer.from("400000000000000180002000", "hex")),
        section("IE", Buffer.from("0100380000000042", "hex")),
        section("HP", Buffer.concat([Buffer.from("01010100", "hex"), text("CPU 3", 8)])),
        section("SW", Buffer.concat([Buffer.from("00000005000000640000000203", "hex"), text("a.c", 3)])),
        section("CH", text("call", 8)),
        section("ZZ", Buffer.alloc(4)),
      ],
    });
    expect(Object.fromEntries(factsOf(log))).toMatchObject({
      PH: { time: "2026-11-21T03:37:39Z", creator: "service processor", sections: 12, platformLogId: 7 },
      UH: { subsystem: "memory", severity: "unrecovered", type: "information only" },
      PS: { referenceCode: "B7001111", words: Array(8).fill("00000001") },
      MT: { model: "8286-42A", serialNumber: "10ABCDE" },
      EH: { release: "FW860", subsystemRelease: "sub", referenceTime: "2026-11-21T03:37:39Z", symptom: "SYMP" }, // biome-ignore format: as laid out
      DH: { kind: "platform dump", location: "HMC", size: 4096n, osId: "ABC", dumpId: 9 },
      LP: { primary: 3, partitions: 1, logId: 7, partition: "web" },
      LR: { resource: "memory page", address: 0x1_8000_2000n },
      IE: { type: "error detected", scope: "PHB", drcIndex: 0x42 },
      HP: { resource: "CPU", action: "add", identifier: "DRC name", drcName: "CPU 3" },
      SW: { returnCode: 5, line: 100, object: 2, file: "a.c" },
      CH: { comment: "call" },
      ZZ: {},
    });
    expect(decodeRtas(log)[0]!.damage).toEqual([]);
  });

  test.each([
    [0, 0, "rtas/epow", "notice", false],
    [1, 0, "rtas/epow", "warning", true],
    [3, 1, "rtas/epow", "notice", false],
    [3, 2, "rtas/epow", "warning", true],
    [3, 3, "rtas/epow", "panic", true],
    [3, 4, "rtas/epow", "panic", true],
    [4, 0, "rtas/epow", "panic", true],
    [7, 0, "rtas/epow", "panic", true],
  ])("EPOW action %i, modifier %i", (action, modifier, rule, severity, isFinding) => {
    const body = Buffer.from([action, modifier, 0, 0, ...Buffer.alloc(8)]);
    const log = decodeRtas(rtasLog({ severity: 1, type: 64, sections: [section("EP", body)] }))[0]!;
    expect(judge(log)).toMatchObject({ rule, severity, isFinding });
  });

  test.each([
    ["less than its head", { length: 4 }, /length of 4/],
    ["beyond the end", { length: 400 }, /behind the end/],
  ])("with a length %s", (_name, options, damage) => {
    const log = rtasLog({ sections: [section("UD", Buffer.alloc(8), options)] });
    expect(decodeRtas(log)[0]!.damage.join()).toMatch(damage);
  });

  test("whose body is cut tell nothing", () => {
    const log = rtasLog({ sections: [section("MC", Buffer.alloc(10))] });
    const [decoded] = decodeRtas(log);
    expect(decoded!.sections[0]).toMatchObject({ facts: {}, damage: "MC needs 32 bytes and has 10" });
    expect(judge(decoded!).rule).toBe("rtas/event");
  });

  test("are bounded in number", () => {
    const many = Array.from({ length: 200 }, () => section("UD", Buffer.alloc(0)));
    const [log] = decodeRtas(rtasLog({ sections: many }));
    expect(log!.sections).toHaveLength(64);
    expect(log!.damage.join()).toMatch(/more sections/);
  });
});

describe("logs as bytes", () => {
  const log = rtasLog({ sections: [machineCheck(4, 0x82, 0xc000_0000_0bee_f000n)] });
  const filled = (bytes: Buffer, size: number) => Buffer.concat([bytes, Buffer.alloc(size - bytes.length)]);

  test.each([
    ["alone", [log], [0]],
    ["behind little-endian sequence numbers", [0, 1].map((n) => filled(Buffer.concat([Buffer.from([n + 1, 0, 0, 0]), log]), 2052)), [4, 2056]], // biome-ignore format: a table
    ["behind err_log_info", [Buffer.from("0000000100000007", "hex"), log], [8]],
    ["in QEMU's RTAS blob", [Buffer.alloc(0x38, 1), log, Buffer.alloc(500)], [0x38]],
    ["one behind the other", [log, log, log], [0, log.length, 2 * log.length]],
    ["somewhere in memory", [Buffer.alloc(5000, 0xff), log, Buffer.alloc(9000, 0xff), log], [5000, 14_000 + log.length]], // biome-ignore format: a table
  ])("%s", (_name, parts, offsets) => {
    const bytes = Buffer.concat(parts);
    expect(decodeRtas(bytes).map(({ offset }) => offset)).toEqual(offsets);
    expect(detect(bytes).findings).toHaveLength(offsets.length);
  });

  test("without an extended part", () => {
    const plain = rtasLog({ severity: 2, type: 9 });
    for (const bytes of [plain, Buffer.concat([Buffer.from([1, 0, 0, 0]), plain]), filled(plain, 1000)]) {
      expect(decodeRtas(bytes)).toMatchObject([{ severity: "warning", type: "ECC uncorrected", length: 8 }]);
    }
    expect(decodeRtas(Buffer.alloc(64))).toEqual([]);
    expect(decodeRtas(Buffer.from("no log at all, but text of some length"))).toEqual([]);
  });

  test("of a version before 6 keep their head", () => {
    const old = Buffer.concat([Buffer.from("04440002000003f8", "hex"), Buffer.alloc(1016, 3)]);
    expect(decodeRtas(old)).toMatchObject([
      { version: 4, severity: "warning", damage: [expect.stringMatching(/version 4/)] },
    ]);
  });

  test("that are cut say so", () => {
    expect(decodeRtas(log.subarray(0, 40))).toMatchObject([
      { size: 40, length: 64, damage: [expect.stringMatching(/^40 of its 64/), "MC needs 32 bytes and has 8"] }, // biome-ignore format: a table
    ]);
  });

  test("are no others: reserved values", () => {
    for (const bytes of ["00", "07e0", "06f8"]) {
      expect(decodeRtasLog(Buffer.from(bytes.padEnd(32, "0"), "hex"))).toBeUndefined();
    }
  });

  test("are found however the bytes come", () => {
    const bytes = Buffer.concat([Buffer.alloc(3000, 7), log, Buffer.alloc(4000, 7), log, log]);
    const whole = detect(bytes);
    expect(whole.logs).toHaveLength(3);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 20 }), (sizes) => {
        const chunks: Buffer[] = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const size = sizes[i % sizes.length]!;
          chunks.push(bytes.subarray(at, at + size));
          at += size;
        }
        expect(detect(...chunks)).toEqual(whole);
      }),
      { seed: SEED, numRuns: 60 },
    );
  });
});

describe("logs in a kernel's log", () => {
  const log = rtasLog({ sections: [machineCheck(2, 0x82, 7n)] });
  const lines = printed(log, 5, 9.25);
  const of = (...all: string[]) => detect(Buffer.from(`${all.join("\n")}\n`));

  test("with their event, line and time", () => {
    expect(of("x", ...lines).logs).toMatchObject([{ event: 5, line: 2, uptime: 9.25, log: { damage: [] } }]);
    expect(of("x", ...lines).isText).toBe(true);
  });

  test("among other lines, behind syslog's stamps, with carriage returns, without begin and end", () => {
    const mixed = lines.flatMap((line) => ["[    9.1] usb 1-1: new device", `${line}\r`]);
    const syslog = lines.map((line) => `Nov 26 07:35:34 host-1 kernel: ${line}`);
    const levelled = lines.map((line) => `<7>${line}`);
    for (const all of [mixed, syslog, levelled, lines.slice(1, -1)]) {
      expect(of(...all).findings).toMatchObject([{ title: /ERAT multihit/ }].map(() => expect.anything()));
      expect(of(...all).logs[0]!.log.damage).toEqual([]);
    }
  });

  test("with a line missing or twice are damaged", () => {
    const missing = of(...lines.filter((_, i) => i !== 2)).logs[0]!;
    expect(missing.log.damage[0]).toMatch(/missing or twice/);
    expect(of(...lines.slice(0, 3), ...lines.slice(2)).logs[0]!.log.damage[0]).toMatch(/missing or twice/);
  });

  test("that are quoted in passing are none", () => {
    for (const line of [
      "bash: RTAS 0: 06741000 00000038 86008e00 00000000",
      'echo "RTAS: 1 -------- RTAS event begin --------"',
      "RTAS daemon started",
      "Kernel command line: rtasmsgs=on",
      "RTAS: event: 1",
    ]) {
      expect(of(line)).toMatchObject({ findings: [], logs: [] });
    }
  });

  test("as summaries", () => {
    const line = "[    3.5] RTAS: event: 3, Type: Platform Error (224), Severity: 2";
    expect(of(line).findings).toMatchObject([
      { severity: "warning", title: "RTAS event: platform error, warning", at: { uptime: 3.5 } },
    ]);
    expect(of(line.replace("Severity: 2", "Severity: 1")).findings).toEqual([]);
    expect(of(line.replace("Severity: 2", "Severity: 5")).findings[0]!.severity).toBe("panic");
  });

  test("without an end of the input are bounded", () => {
    const many = Array.from({ length: 3000 }, () => lines.join("\n")).join("\n");
    const { logs, more } = detect(Buffer.from(many));
    expect([logs.length, more]).toEqual([1000, true]);
  });
});

describe("lines", () => {
  test.each([
    ["[    1.500000] text", "text", 1.5],
    ["<4>[    1.5] text", "text", 1.5],
    ["[    1.5][    C0] text", "text", 1.5],
    ["[    1.5] [  T123] text", "text", 1.5],
    ["Nov 26 07:35:34 host kernel: [    1.5] text", "text", 1.5],
    ["2026-11-26T07:35:34.123456+00:00 host kernel: text", "text", undefined],
    ["[Thu Nov 26 07:35:34 2026] text", "text", undefined],
    ["\x1b[0;32m[    1.5] text\r", "text", 1.5],
    ["vm1 login: [    1.5] text", "text", 1.5],
    ['he said "kernel: text"', 'he said "kernel: text"', undefined],
  ])("%s", (raw, text, uptime) => {
    expect(kernelLine(raw)).toEqual({ text, uptime });
  });

  test("are cut alike however bytes come, long ones to their beginning", () => {
    const bytes = Buffer.from(`a\n\n${"b".repeat(MAX_LINE * 3)}\nlast`);
    for (const size of [1, 7, 4096, bytes.length]) {
      const found: [number, number][] = [];
      const cutter = new LineCutter((text, number) => found.push([number, text.length]));
      for (let at = 0; at < bytes.length; at += size) cutter.push(bytes.subarray(at, at + size));
      cutter.end();
      expect(found).toEqual([[1, 1], [3, MAX_LINE], [4, 4]]); // biome-ignore format: short
      expect(cutter.count).toBe(4);
    }
  });
});

describe("hostile input", () => {
  const originals = [
    sample("ppc64le-tlb-multihit.rtas-area.bin"),
    sample("ppc64le-epow-powerdown.console.log"),
    rtasLog({ sections: ["PH", "UH", "PS", "EH", "DH", "LP", "SW"].map((id) => section(id, Buffer.alloc(90, 0x41))) }), // biome-ignore format: short
  ];

  test("2000 damaged logs are read or left, and nothing is thrown", () => {
    for (let seed = 0; seed < 2000; seed++) {
      const original = originals[seed % originals.length]!;
      const mutant = mutantOf(original, seed, 6, (chance) => chance.below(Math.max(1, original.length - 8)));
      const { findings, logs } = detect(mutant);
      for (const { log } of logs) expect(log.sections.length).toBeLessThanOrEqual(64);
      for (const { evidence } of findings) expect(evidence[0]!.text.length).toBeLessThanOrEqual(1000);
    }
  });

  test("any bytes at all", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        detect(bytes);
        detect(Buffer.concat([Buffer.from("06741000000001008600 8e0000000000000000 0049424d00".replaceAll(" ", ""), "hex"), bytes])); // biome-ignore format: short
      }),
      { seed: SEED, numRuns: 500 },
    );
  });

  test("text is escaped where it is shown", async () => {
    const folder = mkdtempSync(join(tmpdir(), "guestcore-rtas-"));
    const file = join(folder, "log");
    writeFileSync(file, rtasLog({ sections: [section("CH", Buffer.from("\x1b[2J<script>\0"))] }));
    const terminal = new FakeTerminal();
    expect(await main(["triage", "rtas", file], terminal)).toBe(0);
    expect(terminal.out).toContain("\\x1b[2J<script>");
    expect(terminal.out).not.toContain("\x1b");
    rmSync(folder, { recursive: true });
  });
});

describe("the command", () => {
  const folder = mkdtempSync(join(tmpdir(), "guestcore-rtas-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const run = async (...words: string[]) => {
    const terminal = new FakeTerminal();
    const code = await main(["triage", "rtas", ...words], terminal);
    return { code, out: terminal.out, err: terminal.err };
  };
  const file = (name: string, bytes: Buffer) => {
    writeFileSync(join(folder, name), bytes);
    return join(folder, name);
  };

  test("tells of a sample, in words", async () => {
    const { code, out, err } = await run(join(SAMPLES, "ppc64le-tlb-multihit.rtas-area.bin"));
    expect([code, err]).toEqual([0, ""]);
    expect(out.replaceAll(SAMPLES, "")).toMatchInlineSnapshot(`
      "/ppc64le-tlb-multihit.rtas-area.bin: warning, 1 RTAS error log
        warning  hardware  machine check: TLB multihit, not recovered
                           /ppc64le-tlb-multihit.rtas-area.bin at offset 56: RTAS log version 6, synchronous error, not recovered, initiator CPU, type other; sections MC

        at offset 56: version 6, 64 bytes
          synchronous error, not recovered, initiator CPU, target unknown, type other
          extended log: valid, new, big-endian
          MC  machine check, 40 bytes
              error                TLB
              kind                 multihit
              effective address    0xc00000000beef000
              processor id         0
              fru id               0
      "
    `);
  });

  test("tells of a sample as JSON", async () => {
    const { out } = await run(join(SAMPLES, "ppc64le-epow-powerdown.console.log"), "--json", "--explain");
    const document = JSON.parse(out);
    const ajv = schemas();
    expect(ajv.validate("triage-rtas.json", document), JSON.stringify(ajv.errors)).toBe(true);
    expect(document.result.files[0]).toMatchObject({
      worst: null,
      logs: [{ event: 1, type: "EPOW", sections: [{ id: "PH" }, { id: "UH" }, { id: "EP" }] }],
      findings: [],
      events: [{ kind: "rtas/event", at: { uptime: 14.012884, wall: Date.UTC(2026, 10, 21, 3, 37, 39) } }],
    });
    expect(document.result.outcomes).toEqual(MACHINE_CHECK_OUTCOMES);
  });

  test("exits by --fail-on", async () => {
    const log = join(SAMPLES, "ppc64le-tlb-multihit.rtas-area.bin");
    expect((await run(log, "--fail-on", "warning")).code).toBe(1);
    expect((await run(log, "--fail-on", "oops")).code).toBe(0);
    const fatal = file("fatal", rtasLog({ severity: 5, sections: [machineCheck(0, 3)] }));
    expect((await run(fatal)).code).toBe(1);
    expect((await run(join(SAMPLES, "ppc64le-erat-recovered.console.log"), "--fail-on", "warning")).code).toBe(0); // biome-ignore format: short
    expect((await run(log, "--fail-on", "notice")).code).toBe(2);
  });

  test("exits by what is wrong with the input", async () => {
    expect((await run(file("binary", Buffer.alloc(5000, 1)))).code).toBe(3);
    expect((await run(file("empty", Buffer.alloc(0)))).code).toBe(5);
    expect((await run(join(folder, "missing"))).code).toBe(7);
    expect((await run("-", "-")).code).toBe(2);
    expect(await run(file("text", Buffer.from("nothing of the kind\n")))).toMatchObject({ code: 0, err: "" });
    const cut = await run(file("cut", rtasLog({ sections: [machineCheck(0, 3)] }).subarray(0, 50)));
    expect(cut.err).toMatch(/warning TRI401: .*50 of its 64 bytes/);
  });
});

const skip = existsSync(DATA) ? undefined : `no ${DATA}`;
describe.skipIf(skip !== undefined)(skip === undefined ? "real logs" : `skipped: ${skip}`, () => {
  /** What was injected: error type, kind, address, disposition. */
  const TRUTH: Readonly<Record<string, readonly [string, string, bigint | undefined, string]>> = {
    "ppc64le-mce-kernel-recovered-erat": ["ERAT", "multihit", 0xc000_0000_0bee_f000n, "fully recovered"],
    "ppc64le-mce-kernel-tlb-multihit-panic": ["TLB", "multihit", 0xc000_0000_0bee_f000n, "not recovered"],
    "ppc64le-mce-kernel-ue-ptw": ["UE", "page table walk for load/store", 0xc000_0000_1234_5678n, "not recovered"], // biome-ignore format: a table
    "ppc64le-mce-nested": ["UE", "load/store", undefined, "not recovered"],
    "ppc64le-mce-user-ue": ["UE", "load/store", undefined, "not recovered"],
  };

  test.each(Object.entries(TRUTH))("%s in the RTAS area", (name, [error, kind, address, disposition]) => {
    const { logs } = detect(readFileSync(join(DATA, `${name}.rtas-area.bin`)));
    expect(logs).toMatchObject([{ log: { offset: 0x38, length: 64, damage: [], disposition } }]);
    const { facts } = logs[0]!.log.sections[0]!;
    expect([facts.error, facts.kind, facts.effectiveAddress]).toEqual([error, kind, address]);
  });

  test("consoles: those with events, and no others", () => {
    const found = readdirSync(DATA)
      .filter((name) => name.endsWith(".console.log"))
      .filter((name) => detect(readFileSync(join(DATA, name))).logs.length > 0);
    expect(found).toEqual([
      "ppc64le-epow-powerdown.console.log",
      "ppc64le-mce-kernel-recovered-erat.console.log",
      "ppc64le-mce-kernel-ue-ptw.console.log",
    ]);
  });
});
