import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DumpReader, type LogDump, type VmcsDump } from "../src/vmx/dmesg.ts";
import { withoutEscapes } from "../src/vmx/dmesg-lines.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { KVM_VMCB_LOG, kvmLog, oldXenLog, XEN_VMCB_LOG, xenLog } from "./synth/vmx-log.ts";
import { CONSISTENT, type Fields } from "./synth/vmx-values.ts";

/** Values that a part of a number is not taken for. */
const TELLING: Fields = {
  ...CONSISTENT,
  CPU_BASED_VM_EXEC_CONTROL: CONSISTENT.CPU_BASED_VM_EXEC_CONTROL! | (1n << 21n),
  GUEST_SYSENTER_EIP: 0xffff_ffff_8000_6000n,
  GUEST_DR7: 0x1234_5678_0000_0400n,
  HOST_IA32_SYSENTER_EIP: 0xffff_ffff_aa40_17b0n,
  GUEST_ACTIVITY_STATE: 0x1234_5678n,
  EXIT_QUALIFICATION: 0x1234_5678_9abc_def0n,
  VIRTUAL_APIC_PAGE_ADDR: 0x1234_5678_9000n,
};
const NOT_LOADED: Fields = { ...TELLING, VM_ENTRY_CONTROLS: CONSISTENT.VM_ENTRY_CONTROLS! & ~0x8000n };
const reading = (fields: Fields) => (name: string) => fields[name] ?? 0n;

const LOGS: Readonly<Record<string, readonly string[]>> = {
  "Linux 4.4": kvmLog(reading(TELLING), "4.4"),
  "Linux 5.13": kvmLog(reading(NOT_LOADED), "5.13", [[0xc000_0080, 0x500n]]),
  "Linux 6.16": [
    "kvm [1234]: vcpu0, guest rIP: 0x1000 vmx: unexpected exit reason 0x4b",
    ...kvmLog(reading(TELLING), "6.16"),
  ],
  "Xen 4.20": [
    "d2v0 vmentry failure (reason 0x80000021): Invalid guest state (0)",
    ...xenLog(reading(TELLING), 0xffff_ffff_8123_4567n),
  ],
  "Xen 4.2": oldXenLog(reading(TELLING)),
  "Linux' VMCB": KVM_VMCB_LOG,
  "Xen's VMCB": XEN_VMCB_LOG,
};

const TIME = "2026-11-25T20:30:01.000001+00:00 host kernel: ";
const PREFIXES: Readonly<Record<string, string>> = {
  none: "",
  dmesg: "[ 1234.500001] ",
  module: "[341485.265281] kvm_intel: ",
  caller: "[ 1234.500001][ T1234] ",
  journal: "Nov 25 20:30:01 host kernel: ",
  ISO: TIME,
  "ISO and caller": `${TIME}[ 1234.500001][ T1234] `,
  "ISO and module": `${TIME}[ 1234.500001] kvm_intel: `,
  Xen: "(XEN) [2026-11-25 20:30:01.123] ",
  quoted: "> ",
};

/** As a mailer does: at blanks, which are dropped, and never within a word. */
function wrapped(line: string, width: number, mark: string): string[] {
  const pieces: string[] = [];
  let piece = "";
  for (const [word, blanks] of line.matchAll(/( *)[^ ]+/g)) {
    if (piece !== "" && piece.length + word.length > width) {
      pieces.push(piece);
      piece = mark + word.slice(blanks!.length);
    } else piece += word;
  }
  return [...pieces, piece];
}

const dumpsIn = (lines: readonly string[]): readonly LogDump[] => {
  const reader = new DumpReader();
  for (const line of lines) reader.add(line);
  return reader.finish();
};

const plain = (_key: string, value: unknown): unknown =>
  value instanceof Map ? [...value] : typeof value === "bigint" ? String(value) : value;
/** All that was found but where. */
const found = (lines: readonly string[]): string =>
  JSON.stringify(
    dumpsIn(lines).map(({ firstLine, lastLine, ...facts }) => facts),
    plain,
    1,
  );

/** What stands in front of a line that goes on: nothing, an indent, a quotation mark. */
const MARKS = ["", "  ", "> "];
const WIDTHS = Array.from({ length: 41 }, (_, i) => 60 + i);

const REST = "shadow=0x0000000080050033, gh_mask=ffffffffffffffff";

describe("wrapped lines", () => {
  test.each(Object.keys(LOGS))("%s", (name) => {
    for (const [style, prefix] of Object.entries(PREFIXES)) {
      const lines = LOGS[name]!.map((line) => prefix + line);
      const expected = found(lines);
      expect(expected).toContain('"missingFields": []');
      for (const width of WIDTHS) {
        const mark = MARKS[width % MARKS.length]!;
        const log = lines.flatMap((line) => wrapped(line, width, mark));
        expect(found(log), `${style}, ${width}, "${mark}"`).toBe(expected);
      }
    }
  });

  test("words that were broken behind a hyphen", () => {
    const lines = LOGS["Linux 6.16"]!;
    const log = lines.flatMap((line) => line.replace(/(VM|APIC)-(?=access|entry)/g, "$1-\n").split("\n"));
    expect(log.length).toBe(lines.length + 2);
    expect(found(log)).toBe(found(lines));
  });

  test("a dump is where its lines are", () => {
    const log = ["noise", "[ 1.0] *** Guest", "State ***", "[ 1.1] CR0: actual=0x0000000080050033,"];
    const dumps = dumpsIn([...log, "shadow=0x0000000080050033,", "gh_mask=ffffffffffffffff", "noise"]);
    expect(dumps).toMatchObject([{ firstLine: 2, lastLine: 6 }]);
    expect((dumps[0] as VmcsDump).values.size).toBe(3);
  });

  test.each([
    ["behind a prefix", ["[ 1.0] CR0: actual=0x0000000080050033,", `[ 1.0] ${REST}`]],
    ["after another line", ["CR0: actual=0x0000000080050033,", "audit: type=1400", REST]],
    ["of another line", ["CR4 = 0x0000000080050033,", REST]],
    ["an empty line of a caller", ["[ 1.5][ T77]", `CR0: actual=0x0000000080050033, ${REST}`]],
    ["too long", [`${"x".repeat(400)} CR0: actual=0x0000000080050033,`, REST]],
  ])("what does not go on is left alone: %s", (_, log) => {
    const [dump] = dumpsIn(["*** Guest State ***", ...log]) as VmcsDump[];
    expect(dump!.values.size).toBe(log[0] === "[ 1.5][ T77]" ? 3 : 0);
  });

  test("a log that was not wrapped is left alone", () => {
    const noise = [
      "CS: 0010 DS: 0000 ES: 0000 CR0: 0000000080050033",
      "RSP: 0018:ffffb1c4c0f5bd60 EFLAGS: 00010246 VMCS VMCB *** EFER",
      "RIP: 0010:",
      "0000000000000000",
      "f0 48 0f",
      "PAT",
      "set",
    ];
    fc.assert(
      fc.property(
        fc.constantFrom(...Object.keys(LOGS)),
        fc.constantFrom(...Object.values(PREFIXES)),
        fc.array(fc.tuple(fc.nat(120), fc.constantFrom(...noise, undefined)), { maxLength: 8 }),
        (name, prefix, edits) => {
          const lines = LOGS[name]!.map((line) => [prefix + line]);
          for (const [index, line] of edits) {
            // A line is lost, or another comes behind it.
            if (lines[index] !== undefined) lines[index] = line === undefined ? [] : [...lines[index], line];
          }
          const log = lines.flat();
          // Nothing goes on over an empty line.
          const apart = log.flatMap((line) => [line, ""]);
          const places = dumpsIn(apart).map(({ firstLine, lastLine }) => [
            (firstLine + 1) / 2,
            (lastLine + 1) / 2,
          ]);
          expect(dumpsIn(log).map(({ firstLine, lastLine }) => [firstLine, lastLine])).toEqual(places);
          expect(found(log)).toBe(found(apart));
        },
      ),
      { numRuns: 200 },
    );
  });

  test("lines that could go on without end take no time", () => {
    const start = cpuTime();
    const reader = new DumpReader();
    for (let i = 0; i < 200; i++) {
      reader.add("*** Guest State ***");
      for (let k = 0; k < 60; k++) reader.add(`CR0: actual=0x0000000080050033, ${" CS: 0".repeat(16)}`);
    }
    expect(cpuTime() - start).toBeLessThan(20_000);
  });
});

describe("escape sequences", () => {
  const ESC = "\x1b";
  test.each([
    [`${ESC}[32m[ 1.0] ${ESC}[0m${ESC}[1;31mCR3 = 0x1${ESC}[0m`, "[ 1.0] CR3 = 0x1"],
    [`${ESC}[38;5;208mCR3${ESC}[m = ${ESC}[?25l0x1${ESC}[K`, "CR3 = 0x1"],
    [`${ESC}]8;;https://example.org${ESC}\\CR3${ESC}]8;;\x07 = 0x1`, "CR3 = 0x1"],
    [`${ESC}(BCR3 = 0x1${ESC}7${ESC}=`, "CR3 = 0x1"],
    [`${ESC}P1$r0m${ESC}\\CR3 = 0x1`, "CR3 = 0x1"],
    // What does not end takes nothing along.
    [`${ESC}]0;CR3 = 0x1`, "0;CR3 = 0x1"],
    [`CR3 = 0x1${ESC}`, "CR3 = 0x1"],
    [`CR3 = 0x1${ESC}[3`, "CR3 = 0x1"],
  ])("%j", (line, text) => {
    expect(withoutEscapes(line)).toBe(text);
  });

  const colours: Readonly<Record<string, (line: string) => string>> = {
    "dmesg --color": (line) => `${ESC}[32m[ 1234.500001] ${ESC}[0m${ESC}[31m${line}${ESC}[0m`,
    "every number": (line) =>
      line.replace(/[=:] ?[0-9a-fx]+/g, (part) => `${part[0]}${ESC}[36m${part.slice(1)}${ESC}[m`),
    "every character": (line) => line.replace(/./g, `${ESC}[1m$&${ESC}(B`),
  };
  test.each(Object.keys(LOGS))("of %s", (name) => {
    const lines = LOGS[name]!;
    for (const [style, colour] of Object.entries(colours)) {
      expect(found(lines.map(colour)), style).toBe(found(lines));
    }
  });
});
