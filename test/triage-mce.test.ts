import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { decodeMcaCode } from "../src/triage/mce/codes.ts";
import { MceDetector } from "../src/triage/mce/detector.ts";
import { decodeProcessor, smcaBank } from "../src/triage/mce/processors.ts";
import { decodeMcgStatus, decodeMcStatus, decodeMisc } from "../src/triage/mce/status.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { mutantOf } from "./support/mutants.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { random } from "./synth/pattern.ts";

const SAMPLES = join(import.meta.dirname, "../samples/triage");
const DATA = join(process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../shared/data"), "triage");
const SEED = 20261126;

const detect = (text: string | Buffer) => {
  const detector = new MceDetector({ source: "log" });
  detector.push(Buffer.from(text));
  return detector.end();
};
const lines = (...all: string[]) => detect(all.map((line, i) => `[${(5 + i / 1000).toFixed(6).padStart(12)}] ${line}\n`).join("")); // biome-ignore format: short
const only = (...all: string[]) => {
  const { findings } = lines(...all);
  expect(findings).toHaveLength(1);
  return findings[0]!;
};

describe("MCA error codes", () => {
  // SDM Vol. 3B, "Interpreting the MCA Error Codes".
  test.each([
    [0x0000, "none", "no error"],
    [0x0001, "simple", "unclassified"],
    [0x0005, "simple", "internal parity error"],
    [0x0400, "simple", "internal timer error (3-strike timeout)"],
    [0x0e0b, "simple", "I/O error"],
    [0x0405, "internal", "internal error, unclassified"],
    [0x000e, "generic cache", "generic cache error, level 2"],
    [0x0014, "TLB", "TLB error, data, level 0"],
    [0x0019, "TLB", "TLB error, generic, level 1"],
    [0x0090, "memory controller", "memory controller error, memory read, channel 0"],
    [0x009f, "memory controller", "memory controller error, memory read, channel not specified"],
    [0x00c1, "memory controller", "memory controller error, memory scrubbing, channel 1"],
    [0x0290, "extended memory", "error of a cache in front of memory, memory read, channel 0"],
    [0x0134, "cache", "cache error, data read, data, level 0"],
    [0x0135, "cache", "cache error, data read, data, level 1"],
    [0x0150, "cache", "cache error, instruction fetch, instruction, level 0"],
    [0x017a, "cache", "cache error, eviction, generic, level 2"],
    [0x110a, "cache", "cache error, generic error, generic, level 2"],
    [0x0f0f, "bus", "bus or interconnect error, generic error, other transaction, generic level, generic, timed out"], // biome-ignore format: a table
    [0x0800, "bus", "bus or interconnect error, generic error, memory, level 0, this processor asked, no timeout"], // biome-ignore format: a table
    [0x2000, "unknown", "unknown code 0x2000"],
  ])("%i", (code, kind, text) => {
    expect(decodeMcaCode(BigInt(code))).toMatchObject({ kind, text, filtered: code === 0x110a });
  });

  test("every code has words", () => {
    for (let code = 0; code < 0x1_0000; code++) {
      const { text } = decodeMcaCode(BigInt(code));
      expect(text).not.toMatch(/undefined|^$/);
    }
  });
});

describe("MCi_STATUS", () => {
  test.each([
    [0x9c00_0040_0001_0090n, "intel", "corrected", "VAL EN MISCV ADDRV"],
    [0xbe00_0000_0080_0400n, "intel", "fatal", "VAL UC EN MISCV ADDRV PCC"],
    [0xbd80_0000_0000_0134n, "intel", "SRAR", "VAL UC EN MISCV ADDRV S AR"],
    [0xbd00_0000_0000_00c0n, "intel", "SRAO", "VAL UC EN MISCV ADDRV S"],
    [0xbc00_0000_0000_00c0n, "intel", "UCNA", "VAL UC EN MISCV ADDRV"],
    [0xbc80_0000_0000_00c0n, "intel", "uncorrected", "VAL UC EN MISCV ADDRV AR"],
    [0x0000_0000_0000_0135n, "intel", "invalid", ""],
    [0xbea0_0000_0000_0108n, "amd", "fatal", "VAL UC EN MISCV ADDRV PCC TCC SyndV"],
    [0xdc20_4000_0000_011bn, "amd", "corrected", "VAL OVER EN MISCV ADDRV SyndV CECC"],
    [0x9c20_3000_0000_011bn, "amd", "deferred", "VAL EN MISCV ADDRV SyndV UECC Deferred"],
    [0xbc00_0800_0000_0000n, "amd", "uncorrected", "VAL UC EN MISCV ADDRV Poison"],
  ] as const)("%s of %s is %s", (status, vendor, mcClass, flags) => {
    const decoded = decodeMcStatus(status, vendor);
    expect([decoded.class, decoded.flags.map(({ name }) => name).join(" ")]).toEqual([mcClass, flags]);
  });

  test("counts corrected errors, and has the model's code", () => {
    expect(decodeMcStatus(0x9c00_0040_0001_0090n)).toMatchObject({ correctedCount: 1, modelCode: 1 });
    expect(decodeMcStatus(0xdc20_4000_003f_011bn, "amd")).toMatchObject({ correctedCount: undefined, modelCode: 0x3f }); // biome-ignore format: short
  });

  test("of any value has a class and no flag that is clear", () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
        fc.constantFrom("intel", "amd"),
        (value, vendor) => {
          const { flags, class: mcClass, classText } = decodeMcStatus(value, vendor as "intel" | "amd");
          for (const { bit } of flags) expect((value >> BigInt(bit)) & 1n).toBe(1n);
          expect(classText).not.toBe("");
          expect(mcClass === "invalid").toBe(value >> 63n === 0n);
          expect(mcClass === "fatal").toBe(value >> 63n === 1n && ((value >> 61n) & 1n) === 1n && ((value >> 57n) & 1n) === 1n); // biome-ignore format: short
        },
      ),
      { seed: SEED },
    );
  });

  test("and what goes with it", () => {
    expect(decodeMcgStatus(0xdn).map(({ name }) => name)).toEqual(["RIPV", "MCIP", "LMCE_S"]);
    expect(decodeMisc(0x8cn)).toEqual({ mode: "physical address", lowBits: 12 });
    expect(decodeProcessor(0, 0x50654)).toEqual({ vendor: "Intel", family: 6, model: 0x55, stepping: 4 });
    expect(decodeProcessor(2, 0x800f12)).toEqual({ vendor: "AMD", family: 23, model: 1, stepping: 2 });
    expect(decodeProcessor(99, 0).vendor).toBe("unknown (99)");
    expect(smcaBank(0x0000_0096_0005_0f00n)).toBe("memory controller (UMC)");
    expect(smcaBank(0n)).toBeUndefined();
  });
});

describe("x86 machine checks", () => {
  const HW = "mce: [Hardware Error]: ";
  const exception = (status: string, mcg = "5", bank = 1) => `${HW}CPU 3: Machine Check Exception: ${mcg} Bank ${bank}: ${status}`; // biome-ignore format: short
  const polled = (status: string) => `${HW}CPU 3: Machine Check: 0 Bank 5: ${status}`;
  const intel = `${HW}PROCESSOR 0:50654 TIME 1795231997 SOCKET 1 APIC 2a microcode 2000065`;

  test("that the kernel panicked of", () => {
    const found = only(
      "Hypervisor detected: KVM",
      exception("be00000000800400"),
      `${HW}RIP !INEXACT! 10:<ffffffff81e8f6ff> {pv_native_safe_halt+0xf/0x20}`,
      `${HW}TSC 3d39402bdc ADDR 12345000 MISC 8c `,
      intel,
      `${HW}Run the above through 'mcelog --ascii'`,
      `${HW}Machine check: Processor context corrupt`,
      "Kernel panic - not syncing: Fatal machine check",
    );
    expect(found).toMatchObject({
      rule: "mce/x86",
      class: "machine-check",
      severity: "panic",
      side: "hardware",
      trust: "certain",
      survived: false,
      title:
        "machine check on CPU 3, bank 1: internal timer error (3-strike timeout) (fatal, the kernel panicked)",
      at: { uptime: 5.001 },
      details: {
        cpu: 3,
        bank: 1,
        exactRip: false,
        rip: 0xffff_ffff_81e8_f6ffn,
        symbol: "pv_native_safe_halt+0xf/0x20",
        addr: 0x1234_5000n,
        reason: "Processor context corrupt",
        socket: 1,
        apic: 0x2a,
        microcode: "0x2000065",
        processor: { vendor: "Intel", family: 6, model: 85, stepping: 4 },
        panic: "Fatal machine check",
        origin: "injected",
        errorClass: "fatal",
      },
    });
    expect(found.evidence.map(({ line }) => line)).toEqual([2, 3, 4, 5, 7, 8]);
  });

  test("of other forms: 2.6, 2.4, of AMD's EDAC, of mcelog", () => {
    expect(only("[Hardware Error]: CPU 1: Machine Check Exception: 5 Bank 8: be00000000800400").severity).toBe("panic"); // biome-ignore format: short
    expect(only("CPU 0: Machine Check Exception: 4 Bank 4: b200000000070f0f").details).toMatchObject({ bank: 4 }); // biome-ignore format: short
    expect(
      only("CPU 0: Machine Check Exception: 0000000000000004", "Bank 3: b40000000000083b at 00000001fc0ff3c0"), // biome-ignore format: short
    ).toMatchObject({ details: { bank: 3, addr: 0x1_fc0f_f3c0n, cpu: 0 } });
    expect(only("CPU 0 BANK 8", "MISC 21 ADDR 22", "STATUS 9c00004000010090 MCGSTATUS 0")).toMatchObject({
      severity: "notice",
      details: { bank: 8, code: "memory controller error, memory read, channel 0" },
    });
    const { findings } = lines(
      "[Hardware Error]: Corrected error, no action required.",
      "[Hardware Error]: CPU:2 (17:1:1) MC15_STATUS[Over|CE|MiscV|-|AddrV|-|-|SyndV|-|CECC]: 0xdc2040000000011b",
      "[Hardware Error]: Error Addr: 0x00000002a1b3c4d0",
      "[Hardware Error]: IPID: 0x0000009600050f00, Syndrome: 0x000001ff0a240700",
      "[Hardware Error]: Unified Memory Controller Ext. Error Code: 0, DRAM ECC error.",
      "EDAC MC0: 1 CE on mc#0csrow#1channel#0 (csrow:1 channel:0 page:0xa86cf1 offset:0x340 grain:64 syndrome:0x700)", // biome-ignore format: a line
      "[Hardware Error]: cache level: L3/GEN, tx: GEN, mem-tx: RD",
    );
    expect(findings.map(({ rule, severity }) => [rule, severity])).toEqual([
      ["mce/edac", "notice"],
      ["mce/amd", "notice"],
    ]);
    expect(findings[1]!.details).toMatchObject({
      addr: 0x2_a1b3_c4d0n,
      unit: "memory controller (UMC)",
      decoded: "Unified Memory Controller Ext. Error Code: 0, DRAM ECC error.",
      errorClass: "corrected",
    });
  });

  test.each([
    ["corrected", polled("9c00004000010090"), "notice", true],
    ["fatal and polled: of an earlier boot", polled("bea0000000000108"), "warning", true],
    ["action optional", exception("bd000000000000c0"), "warning", undefined],
    ["action required", exception("bd80000000000134"), "oops", undefined],
    ["fatal", exception("bf80000000000135", "7"), "panic", false],
    ["corrected, on the way down", exception("8c00004000010090"), "notice", undefined],
  ])("%s", (_name, line, severity, survived) => {
    const found = only(line);
    expect([found.severity, found.survived]).toEqual([severity, survived]);
  });

  test.each([
    [["Hypervisor detected: KVM", exception("bd80000000000134", "6", 9)], "host-memory", "hardware"],
    [["Hypervisor detected: KVM", exception("bd000000000000c0", "5", 9)], "host-memory", "hardware"],
    [
      ["DMI: QEMU Standard PC (Q35 + ICH9, 2009)", exception("bf80000000000135", "7")],
      "injected",
      "hardware",
    ],
    [["mce: Machine check injector initialized", exception("bf80000000000135", "7")], "injector", "policy"],
    [[exception("bf80000000000135", "7")], "unknown", "hardware"],
  ])("%j came from %s", (all, origin, side) => {
    const found = only(...all);
    expect([found.details?.origin, found.side]).toEqual([origin, side]);
  });

  test("a panic without a bank", () => {
    for (const text of [
      "Fatal Machine check",
      "Machine check from unknown source",
      "Timeout: Not all CPUs entered broadcast exception handler",
      "Fatal local machine check",
    ]) {
      expect(only(`Kernel panic - not syncing: ${text}`)).toMatchObject({ rule: "mce/panic", severity: "panic" }); // biome-ignore format: short
    }
  });

  test("the same defect counts once", () => {
    const many = Array.from({ length: 15 }, (_, i) =>
      polled("9c00004000010090").replace("CPU 3", `CPU ${i}`),
    );
    const found = only(...many);
    expect(found.title).toMatch(/15 times$/);
    expect(found.details).toMatchObject({ count: 15, lastLine: 15 });
  });
});

describe("POWER machine checks", () => {
  const check = (rest: string) => `MCE: CPU0: machine check (Severe) ${rest}`;

  test("with what became of them", () => {
    const base = [check(" UE Load/Store [Not recovered]"), "MCE: CPU0: PID: 84 Comm: init NIP: [0000000010175284]", "MCE: CPU0: Initiator CPU", "MCE: CPU0: Hardware error"]; // biome-ignore format: as logged
    expect(only(...base)).toMatchObject({
      severity: "warning",
      title: "machine check on CPU 0: UE Load/Store (Severe), not recovered, in process init[84]",
      details: { pid: 84, comm: "init", nip: 0x1017_5284n, initiator: "CPU", errorClass: "Hardware error" },
    });
    expect(only(...base, "init[84]: bus error (7) at 7fff nip 10175284 lr 1 code 4 in a[1+2]")).toMatchObject(
      {
        severity: "warning",
        survived: true,
      },
    );
    const kernel = [check(" TLB Multihit DAR: c00000000beef000 [Not recovered]"), "MCE: CPU0: NIP: [c00000000009ea88] __arch_clear_user+0x140/0x168"]; // biome-ignore format: as logged
    expect(only(...kernel)).toMatchObject({ severity: "oops", details: { effectiveAddress: 0xc000_0000_0bee_f000n, symbol: "__arch_clear_user+0x140/0x168" } }); // biome-ignore format: short
    expect(only(...kernel, "Oops: Machine check, sig: 7 [#1]").severity).toBe("oops");
    expect(
      only(...kernel, "Oops: Machine check, sig: 7 [#1]", ...Array(50).fill("REGS"), "Kernel panic - not syncing: Fatal exception"), // biome-ignore format: short
    ).toMatchObject({ severity: "panic", survived: false, details: { panic: "Fatal exception" } });
    expect(only(check(" ERAT Multihit DAR: c00000000beef000 [Recovered]"))).toMatchObject({ severity: "notice", survived: true }); // biome-ignore format: short
  });

  test("of guests, on a host; with both addresses; of old kernels", () => {
    expect(
      only(check("Guest UE Load/Store DAR: 00007fff00000000 paddr: 0000000012340000 [Not recovered]"), "MCE: CPU0: PID: 9 Comm: CPU 0/KVM Guest NIP: [0000000000001000]"), // biome-ignore format: short
    ).toMatchObject({
      title: expect.stringMatching(/^machine check of a guest on CPU 0: UE Load\/Store/),
      details: { guest: true, physicalAddress: 0x1234_0000n, comm: "CPU 0/KVM", nip: 0x1000n },
    });
    expect(
      only("Severe Machine check interrupt [Recovered]", "  Initiator: CPU", "  Error type: SLB [Multihit]", "    Effective address: d00000000ca70000"), // biome-ignore format: short
    ).toMatchObject({ severity: "notice", title: "machine check: SLB Multihit (Severe), recovered", details: { effectiveAddress: 0xd000_0000_0ca7_0000n } }); // biome-ignore format: short
  });

  test("of subtypes with parentheses", () => {
    const text = check(
      " Real address Page table walk Load/Store (foreign) DAR: 0000000000001000 [Not recovered]",
    );
    expect(only(text).details).toMatchObject({ error: "Real address", kind: "Page table walk Load/Store (foreign)" }); // biome-ignore format: short
  });
});

describe("other errors of hardware", () => {
  const ghes = (level: string, n = 1) => [
    `{${n}}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 4`,
    ...(level === "corrected" ? [`{${n}}[Hardware Error]: It has been corrected by h/w and requires no further action`] : []), // biome-ignore format: short
    `{${n}}[Hardware Error]: event severity: ${level}`,
    `{${n}}[Hardware Error]:  Error 0, type: ${level}`,
    `{${n}}[Hardware Error]:  fru_text: A1`,
    `{${n}}[Hardware Error]:   section_type: memory error`,
    `{${n}}[Hardware Error]:   error_status: Storage error in DRAM memory (0x0000000000000400)`,
    `{${n}}[Hardware Error]:   physical_address: 0x0000000123456780`,
    `{${n}}[Hardware Error]:   node:0 card:1 module:0 rank:0 bank:3 row:100 column:8 `,
    `{${n}}[Hardware Error]:   error_type: 3, multi-bit ECC`,
  ];

  test.each([
    ["corrected", "notice", true],
    ["recoverable", "warning", true],
    ["fatal", "panic", false],
  ])("APEI, %s", (level, severity, survived) => {
    expect(only(...ghes(level))).toMatchObject({
      rule: "mce/apei",
      severity,
      survived,
      title: `firmware reports a hardware error: memory error, 3, multi-bit ECC (${level})`,
      details: {
        fru_text: "A1",
        physical_address: "0x0000000123456780",
        place: expect.stringMatching(/^node:0/),
      },
    });
  });

  test("APEI: two interleaved by number, and a panic", () => {
    expect(lines(...ghes("corrected", 1), ...ghes("recoverable", 2)).findings).toHaveLength(2);
    expect(only(...ghes("recoverable"), "Kernel panic - not syncing: Fatal hardware error!").severity).toBe("panic"); // biome-ignore format: short
  });

  test("BERT tells of the boot before", () => {
    const bert = ghes("fatal").slice(1).map((line) => line.replace("{1}", "")); // biome-ignore format: short
    expect(only("BERT: Error records from previous boot:", ...bert)).toMatchObject({
      rule: "mce/bert",
      severity: "warning",
      title: expect.stringMatching(/left by the boot before$/),
    });
  });

  test.each([
    ["EDAC MC0: 1 CE memory read error on CPU_SrcID#0_Ha#0_Chan#1_DIMM#0 (channel:1 slot:0)", "mce/edac", "notice"], // biome-ignore format: a table
    ["EDAC MC1: 1 UE memory scrubbing error on DIMM (page:0x1)", "mce/edac", "warning"],
    ["Memory failure: 0x12345: Sending SIGBUS to qemu-system-x86:4242 due to hardware memory corruption", "mce/memory-failure", "warning"], // biome-ignore format: a table
    [
      "Memory failure: 0x12345: recovery action for dirty LRU page: Recovered",
      "mce/memory-failure",
      "notice",
    ],
    ["Memory failure: 0x12345: recovery action for huge page: Failed", "mce/memory-failure", "warning"],
    ["MCE: Killing CPU 0/KVM:4242 due to hardware memory corruption fault at 7f0012345000", "mce/memory-failure", "warning"], // biome-ignore format: a table
    ["mce: [Hardware Error]: Machine check events logged", "mce/logged", "notice"],
    ["mce: Uncorrected hardware memory error in user-access at 12345000", "mce/memory-failure", "warning"],
    ["qemu-system-x86_64: Guest MCE Memory Error at QEMU addr 0x7f89573ce000 and GUEST addr 0x10b5ce000 of type BUS_MCEERR_AR injected", "mce/qemu", "warning"], // biome-ignore format: a table
    ["Guest [web-1] 2019-08-02T05:00:11.940270Z qemu-system-x86_64: warning: Guest MCE Memory Error at QEMU addr 0x7f3c7622f000 and GUEST addr 0x78e42f000 of type BUS_MCEERR_AO injected", "mce/qemu", "warning"], // biome-ignore format: a table
    ["qemu-system-ppc64: FWNMI: Unable to deliver machine check to guest: nested machine check.", "mce/qemu", "panic"], // biome-ignore format: a table
    ["KVM: unknown exit reason 16", "mce/qemu", "panic"],
  ])("%s", (line, rule, severity) => {
    expect(detect(`${line}\n`).findings).toMatchObject([{ rule, severity }]);
  });

  test.each([
    "mce: CPU0 supports 10 MCE banks",
    "mce: Using 10 MCE banks",
    "MCE: In-kernel MCE decoding enabled.",
    "EDAC MC: Ver: 3.0.0",
    "EDAC MC0: Giving out device to module skx_edac controller Skylake Socket#0 IMC#0",
    "ERST: Error Record Serialization Table (ERST) support is initialized.",
    "GHES: APEI firmware first mode is enabled by APEI bit and WHEA _OSC.",
    "Memory failure: hwpoison is configured",
    'user said: "mce: [Hardware Error]: CPU 0: Machine Check Exception: 7 Bank 1: bf80000000000135"',
    "Command line: mce=off panic=30 Machine Check Exception",
    "bash: EDAC MC0: 1 CE memory read error",
    "x [Hardware Error]: Machine check events logged",
    "CPU 0: Machine Check Exception enabled",
    "init[84]: bus error (7) at 7fff nip 1 lr 2 code 4",
    "Kernel panic - not syncing: Fatal exception",
    "systemd: KVM: unknown exit reason 16",
  ])("none is told by %j", (line) => {
    expect(detect(`[    1.000000] ${line}\n`).findings).toEqual([]);
  });
});

describe("hostile input", () => {
  const original = readdirSync(SAMPLES)
    .filter((name) => name.endsWith(".log"))
    .map((name) => readFileSync(join(SAMPLES, name)));

  test("1500 damaged logs are read, and nothing is thrown", () => {
    const all = Buffer.concat(original);
    for (let seed = 0; seed < 1500; seed++) {
      const { findings } = detect(mutantOf(all, seed, 12, (chance) => chance.below(all.length - 8)));
      for (const { evidence, title } of findings) {
        expect(evidence.length).toBeLessThanOrEqual(12);
        expect(title.length).toBeLessThan(1000);
        for (const { text } of evidence) expect(text.length).toBeLessThanOrEqual(1000);
      }
    }
  });

  test("lines in any order, cut anywhere", () => {
    const parts = original.flatMap((bytes) => bytes.toString("latin1").split("\n"));
    const chance = random(SEED);
    for (let n = 0; n < 300; n++) {
      const mixed = Array.from({ length: 60 }, () => {
        const line = chance.pick(parts);
        return chance.below(4) === 0 ? line.slice(0, chance.below(line.length + 1)) : line;
      });
      detect(mixed.join("\n"));
    }
  });

  test("no line takes long, whatever is in it", () => {
    const heads = ["", "EDAC MC0: 1 CE ", "[Hardware Error]: ", "MCE: CPU0: machine check (Severe)  UE ", "{1}[Hardware Error]:  ", "Guest [a] qemu: ", "Kernel panic - not syncing: ", "RIP 10:<", "PROCESSOR 0:1 TIME "]; // biome-ignore format: short
    const began = cpuTime();
    for (const head of heads) {
      for (const part of ["a", "a ", "A", "DAR: ", "0", "(", "kernel: ", "\x1b[", "Machine check "]) {
        detect(`${`${head}${part.repeat(Math.ceil(8000 / part.length))}\n`.repeat(20)}`);
      }
    }
    expect(cpuTime() - began).toBeLessThan(10_000);
  });

  test("kinds of errors are bounded, and counted", () => {
    const many = Array.from({ length: 700 }, (_, i) => `EDAC MC${i}: 1 CE somewhere`);
    const { findings, dropped } = lines(...many);
    expect([findings.length, dropped]).toEqual([500, 200]);
  });
});

describe("the command", () => {
  const folder = mkdtempSync(join(tmpdir(), "guestcore-mce-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const run = async (...words: string[]) => {
    const terminal = new FakeTerminal();
    const code = await main(["triage", "mce", ...words], terminal);
    return { code, out: terminal.out.replaceAll(SAMPLES, ""), err: terminal.err };
  };
  const FATAL = join(SAMPLES, "x86-mce-fatal.console.log");

  test("tells of a sample, in words", async () => {
    const { code, out, err } = await run(FATAL);
    expect([code, err]).toEqual([1, ""]);
    expect(out).toMatchInlineSnapshot(`
      "/x86-mce-fatal.console.log: panic, 1 hardware error
        panic    hardware  machine check on CPU 0, bank 1: cache error, data read, data, level 1 (fatal, the kernel panicked); it did not go on
                           /x86-mce-fatal.console.log:30: mce: [Hardware Error]: CPU 0: Machine Check Exception: 7 Bank 1: bf80000000000135

        line 30
          status               0xbf80000000000135
            63 VAL       the register holds an error
            61 UC        the hardware did not correct it
            60 EN        reporting of it was enabled
            59 MISCV     MISC holds more of it
            58 ADDRV     ADDR holds its address
            57 PCC       the processor's context may be corrupt
            56 CoreIdV   bits 37:32 hold the core
            55 TCC       the context of the task that ran may be corrupt
          class                fatal: the processor's context is corrupt: only a reset helps
          MCA error code       cache error, data read, data, level 1
          model-specific code  0x0000
          cpu                  0
          bank                 1
          exception            true
          mcg status           0x0000000000000007
          mcg flags            RIPV EIPV MCIP
          exact rip            true
          cs                   0x10
          rip                  0xffffffff95c592eb
          symbol               native_safe_halt+0xb/0x10
          tsc                  0x0000000e98249419
          addr                 0x0000000012345000
          misc                 0x000000000000008c
          vendor code          2
          cpuid                0x60fb1
          time                 1795231997
          socket               0
          apic                 0
          microcode            0x1000065
          reason               Processor Context Corrupt
          processor            vendor AMD, family 15, model 107, stepping 1
          address              mode physical address, lowBits 12
          panic                Fatal local machine check
          origin               injected
          origin text          the kernel runs under QEMU, which passes no machine checks of its own processors on: injected, as by QEMU's monitor command mce
      "
    `);
  });

  test("decodes a value", async () => {
    const { code, out } = await run("--status", "0xbd80000000000134", "--mcg-status", "6");
    expect(code).toBe(0);
    expect(out).toMatchInlineSnapshot(`
      "oops: cache error, data read, data, level 0 (SRAR)
        status               0xbd80000000000134
          63 VAL       the register holds an error
          61 UC        the hardware did not correct it
          60 EN        reporting of it was enabled
          59 MISCV     MISC holds more of it
          58 ADDRV     ADDR holds its address
          56 S         a machine check was signalled for it
          55 AR        software must act before it goes on
        class                SRAR: uncorrected, software recoverable, action required: what used the data must not go on
        MCA error code       cache error, data read, data, level 0
        model-specific code  0x0000
        MCG_STATUS           0x0000000000000006
           1 EIPV      the saved instruction pointer is of the instruction that met the error
           2 MCIP      a machine check is being handled
        bits are read as Intel's; --vendor amd reads 56, 55, 53 and 46 to 40 as AMD's
      "
    `);
    expect((await run("--status", "BE00000000800400")).code).toBe(1);
    expect((await run("--status", "0xbd80000000000134", "--fail-on", "oops")).code).toBe(1);
    expect((await run("--status", "9c00004000010090", "--fail-on", "warning")).code).toBe(0);
  });

  test("gives all of it as JSON", async () => {
    const { out } = await run(
      FATAL,
      "--status",
      "0xdc2040000000011b",
      "--vendor",
      "amd",
      "--explain",
      "--json",
    );
    const document = JSON.parse(out);
    const ajv = schemas();
    expect(ajv.validate("triage-mce.json", document), JSON.stringify(ajv.errors)).toBe(true);
    expect(document.result.value).toMatchObject({ class: "corrected", vendor: "amd" });
    expect(document.result.files[0]).toMatchObject({ worst: "panic", hypervisor: "QEMU" });
    expect(document.result.origins.length).toBeGreaterThan(4);
  });

  test("refuses what is no value, and nothing at all", async () => {
    for (const words of [["--status", "xyz"], ["--status", "0x12345678901234567"], [], ["-", "-"]]) {
      expect((await run(...words)).code).toBe(2);
    }
    writeFileSync(join(folder, "empty"), "");
    expect((await run(join(folder, "empty"))).code).toBe(5);
    writeFileSync(join(folder, "bytes"), Buffer.alloc(5000, 1));
    expect((await run(join(folder, "bytes"))).code).toBe(3);
  });
});

const skip = existsSync(DATA) ? undefined : `no ${DATA}`;
describe.skipIf(skip !== undefined)(skip === undefined ? "real logs" : `skipped: ${skip}`, () => {
  const worst: Readonly<Record<string, string>> = {
    "console/mce-fatal.console.log": "panic",
    "foreign/ppc64le-mce-kernel-recovered-erat.console.log": "notice",
    "foreign/ppc64le-mce-kernel-tlb-multihit-panic.console.log": "panic",
    "foreign/ppc64le-mce-nested.console.log": "warning",
    "foreign/ppc64le-mce-user-ue.console.log": "warning",
  };
  const logs = ["console", "foreign", "qmp"].flatMap((folder) =>
    existsSync(join(DATA, folder))
      ? readdirSync(join(DATA, folder))
          .filter((name) => name.endsWith(".console.log"))
          .map((name) => `${folder}/${name}`)
      : [],
  );

  test("tell of machine checks where there were some, and nowhere else", () => {
    const found = logs.flatMap((name) => {
      const { findings } = detect(readFileSync(join(DATA, name)));
      return findings.map(({ severity }) => [name, severity]);
    });
    expect(Object.fromEntries(found)).toEqual(worst);
  });

  test("panics as the ground truth has them", () => {
    const expected = JSON.parse(readFileSync(join(DATA, "expected.json"), "utf8"));
    for (const { file, class: name, panic } of expected) {
      if (name !== "mce") continue;
      const { findings } = detect(readFileSync(join(DATA, file)));
      expect([file, findings.some(({ severity }) => severity === "panic")]).toEqual([file, panic]);
    }
  });
});
