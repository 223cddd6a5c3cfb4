import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SEVERITIES } from "../src/triage/finding.ts";
import { withoutExplained } from "../src/triage/verdict/explained.ts";
import { judge } from "../src/triage/verdict/judge.ts";
import { VERDICT_RULES } from "../src/triage/verdict/rules.ts";
import type { MachineFacts, SourceDetected } from "../src/triage/verdict/types.ts";
import { VERDICTS } from "../src/triage/verdict/types.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { event, finding, lockup, oops, panicEvent, source } from "./support/triage-synth.ts";

const boot = event("console/boot", { line: 1 });
const powerOff = event("console/shutdown", { line: 99, text: "reboot: Power down" });
const restart = event("console/shutdown", { line: 99, text: "reboot: Restarting system" });
const brokenBoot = finding({
  rule: "console/linux/silent-reset",
  class: "silent-reset",
  severity: "warning",
  side: "unknown",
  trust: "possible",
});
const shutdown = (reason: string) => event("qmp/shutdown", { line: 9, text: `SHUTDOWN ${reason}` });
const machine = (facts: Partial<MachineFacts> = {}): MachineFacts => ({
  pvpanic: false,
  noReboot: false,
  ...facts,
});

type Case = readonly [
  string,
  readonly SourceDetected[],
  string,
  string,
  Partial<Record<"confidence" | "side" | "severity", string>>?,
];

const CASES: readonly Case[] = [
  ["nothing at all", [], "unknown", "undecided"],
  [
    "a console that boots and stops",
    [source("console", { events: [boot] })],
    "clean",
    "nothing-failed",
    { confidence: "possible" },
  ],
  [
    "a boot that broke off",
    [source("console", { findings: [brokenBoot], events: [boot, powerOff] })],
    "guest-reset",
    "boot-broke-off",
    { confidence: "possible", severity: "warning", side: "unknown" },
  ],
  [
    "a boot that broke off, and QEMU that knows of no reset",
    [
      source("console", { findings: [brokenBoot], events: [boot, powerOff] }),
      source("qmp", { events: [shutdown("guest-shutdown")] }),
    ],
    "clean",
    "orderly-shutdown",
  ],
  [
    "a boot that broke off, and QEMU that somebody ended",
    [
      source("console", { findings: [brokenBoot], events: [boot] }),
      source("qemu-log", { events: [shutdown("host-signal")] }),
    ],
    "stopped-by-policy",
    "asked-to-stop",
  ],
  [
    "a boot that broke off, and a panic that QEMU heard of",
    [
      source("console", { findings: [brokenBoot], events: [boot] }),
      source("qmp", { findings: [panicEvent()] }),
    ],
    "guest-panic",
    "panic-event",
  ],
  ["an orderly power-off", [source("console", { events: [boot, powerOff] })], "clean", "orderly-shutdown"],
  [
    "an orderly reboot",
    [source("console", { events: [boot, restart] }), source("qmp", { events: [shutdown("guest-reset")] })],
    "clean",
    "orderly-reboot",
  ],
  [
    "a panic on the console",
    [source("console", { findings: [finding()] })],
    "guest-panic",
    "death",
    { confidence: "certain", side: "guest" },
  ],
  [
    "a panic, possibly",
    [source("console", { findings: [finding({ trust: "possible" })] })],
    "guest-panic",
    "death",
    { confidence: "possible" },
  ],
  [
    "a panic in pstore alone",
    [source("pstore", { findings: [finding({ rule: "pstore/record" })] })],
    "guest-panic",
    "death",
  ],
  ["an event alone", [source("qmp", { findings: [panicEvent()] })], "guest-panic", "panic-event"],
  [
    "an event after an oops",
    [source("console", { findings: [oops()] }), source("qmp", { findings: [panicEvent()] })],
    "guest-panic",
    "panic-event-after-oops",
    { confidence: "certain" },
  ],
  [
    "an oops that was outlived",
    [source("console", { findings: [oops({ survived: true })], events: [boot, powerOff] })],
    "clean",
    "orderly-shutdown",
    { severity: "oops" },
  ],
  [
    "a warning",
    [source("console", { findings: [oops({ severity: "warning" })], events: [boot, powerOff] })],
    "clean",
    "orderly-shutdown",
    { severity: "warning" },
  ],
  [
    "an oops at the end of a log",
    [source("console", { findings: [oops()], events: [boot] })],
    "unknown",
    "oops-at-the-end",
    { severity: "oops" },
  ],
  [
    "an oops that was the end",
    [source("console", { findings: [oops({ survived: false })], events: [boot] })],
    "guest-panic",
    "died-in-oops",
    { confidence: "possible", severity: "oops" },
  ],
  [
    "a hardware error that was the end",
    [
      source("console", {
        findings: [oops({ class: "mce", side: "hardware", survived: false })],
        events: [boot],
      }),
    ],
    "hardware-fault",
    "broke-off-in-hardware-error",
    { confidence: "possible", severity: "oops" },
  ],
  [
    "a report broken off by a reset",
    [source("console", { findings: [oops()] }), source("qmp", { events: [shutdown("guest-reset")] })],
    "guest-panic",
    "reset-in-report",
    { confidence: "likely" },
  ],
  [
    "a reset without a word",
    [source("console", { events: [boot] }), source("qmp", { events: [shutdown("guest-reset")] })],
    "guest-reset",
    "reset",
    { severity: "hang" },
  ],
  [
    "a lockup",
    [source("console", { findings: [lockup()], events: [boot] })],
    "guest-hang",
    "hang",
    { severity: "hang" },
  ],
  [
    "a lockup that passed",
    [source("console", { findings: [lockup({ survived: true })], events: [boot, powerOff] })],
    "clean",
    "orderly-shutdown",
  ],
  [
    "a lockup and the watchdog",
    [source("console", { findings: [lockup()] }), source("qmp", { events: [event("qmp/watchdog")] })],
    "guest-hang",
    "watchdog",
    { confidence: "certain" },
  ],
  [
    "a lockup whose VM was then killed",
    [source("console", { findings: [lockup()] }), source("qmp", { events: [shutdown("host-signal")] })],
    "guest-hang",
    "hang",
  ],
  [
    "a stop from outside",
    [source("console", { events: [boot] }), source("qmp", { events: [shutdown("host-qmp-quit")] })],
    "stopped-by-policy",
    "asked-to-stop",
    { side: "policy" },
  ],
  [
    "a panic, then a stop from outside",
    [source("qmp", { findings: [panicEvent()], events: [shutdown("host-qmp-quit")] })],
    "guest-panic",
    "panic-event",
  ],
  [
    "an internal error of KVM",
    [
      source("qmp", {
        findings: [finding({ class: "internal-error", side: "host", rule: "qmp/internal-error" })],
      }),
    ],
    "host-fault",
    "host-fault",
    { side: "host" },
  ],
  [
    "a QEMU that aborted",
    [
      source("console", { events: [boot] }),
      source("qemu-log", { findings: [finding({ class: "qemu-abort", side: "qemu" })] }),
    ],
    "qemu-crash",
    "qemu-died",
    { side: "qemu" },
  ],
  [
    "a QEMU that aborted after a panic",
    [
      source("console", { findings: [finding()] }),
      source("qemu-log", { findings: [finding({ class: "qemu-abort", side: "qemu" })] }),
    ],
    "guest-panic",
    "death",
  ],
  [
    "a machine check that killed",
    [source("console", { findings: [finding({ class: "mce", side: "hardware" })] })],
    "hardware-fault",
    "hardware-death",
    { side: "hardware" },
  ],
  [
    "a machine check, then an event",
    [
      source("rtas", {
        findings: [finding({ class: "machine-check", side: "hardware", severity: "oops", survived: false })],
      }),
      source("qmp", { findings: [panicEvent()] }),
    ],
    "hardware-fault",
    "panic-after-hardware-error",
  ],
  [
    "a memory error that QEMU reset the guest for",
    [
      source("qmp", {
        findings: [finding({ class: "memory-failure", side: "hardware", survived: false })],
        events: [shutdown("guest-reset")],
      }),
    ],
    "hardware-fault",
    "hardware-death",
  ],
  [
    "a reset from outside, and nothing more",
    [
      source("console", { events: [boot] }),
      source("qmp", { events: [event("qmp/reset", { text: "RESET reason=host-qmp-system-reset" })] }),
    ],
    "clean",
    "nothing-failed",
  ],
  [
    "a core that somebody had QEMU leave",
    [source("qemu-core", { events: [event("dump/qemu-ended", { text: "QEMU was ended from outside" })] })],
    "stopped-by-policy",
    "asked-to-stop",
  ],
  [
    "a memory error that was outlived",
    [
      source("qmp", {
        findings: [finding({ class: "memory-failure", side: "hardware", severity: "warning" })],
        events: [shutdown("guest-shutdown")],
      }),
    ],
    "clean",
    "orderly-shutdown",
    { severity: "warning" },
  ],
  [
    "a crash kernel",
    [source("console", { events: [boot, event("console/kdump", { line: 50 })] })],
    "guest-panic",
    "kdump",
  ],
  [
    "a panic with a crash kernel loaded",
    [source("qmp", { findings: [panicEvent({ class: "crash-loaded", rule: "qmp/crash-loaded" })] })],
    "guest-panic",
    "crash-loaded",
  ],
  [
    "an event after a fault that seemed outlived",
    [
      source("console", { findings: [oops({ survived: true })] }),
      source("qmp", { findings: [panicEvent()] }),
    ],
    "guest-panic",
    "panic-event-after-fault",
    { confidence: "certain" },
  ],
  [
    "one reset, then an orderly shutdown, and no console",
    [
      source("qmp", {
        events: [event("qmp/reset", { line: 2, text: "RESET guest-reset" }), shutdown("guest-shutdown")],
      }),
    ],
    "guest-reset",
    "reset-then-shutdown",
    { confidence: "possible", severity: "warning" },
  ],
  [
    "a watchdog that did nothing, then an orderly shutdown",
    [
      source("qmp", {
        events: [
          event("qmp/watchdog", { line: 2, text: "WATCHDOG action=none" }),
          shutdown("guest-shutdown"),
        ],
      }),
    ],
    "clean",
    "watchdog-outlived",
    { confidence: "possible" },
  ],
  [
    "one who waited in vain",
    [source("console", { events: [boot] }), source("qmp", { events: [event("qmp/timeout")] })],
    "unknown",
    "waited-in-vain",
  ],
];

describe("the verdict", () => {
  test.each(CASES.map(([name, ...rest]) => ({ name, rest })))("of $name", ({ rest }) => {
    const [sources, verdict, rule, more] = rest;
    expect(judge(sources)).toMatchObject({ verdict, rule, ...more });
  });

  test("every rule has a case", () => {
    expect(
      VERDICT_RULES.map(({ id }) => id).filter((id) => !CASES.some(([, , , rule]) => rule === id)),
    ).toEqual([]);
  });

  test("rules are told apart and say why in whole sentences", () => {
    expect(new Set(VERDICT_RULES.map(({ id }) => id)).size).toBe(VERDICT_RULES.length);
    for (const { why } of VERDICT_RULES) expect(why).toMatch(/^[A-Z].*\.$/);
  });

  test("a panic before a clean boot is still a panic, and the later boot is told", () => {
    const later = event("console/boot", { line: 50 });
    const { verdict, why } = judge([
      source("console", { findings: [finding()], events: [boot, later, powerOff] }),
    ]);
    expect(verdict).toBe("guest-panic");
    expect(why.join(" ")).toContain("booted once more afterwards");
  });

  test("words in a guest's own lines are no signs", () => {
    const events = [event("console/end", { text: "SHUTDOWN host-signal guest-reset GUEST_PANICKED" })];
    expect(judge([source("console", { events })]).rule).toBe("undecided");
  });

  test("a source that could not be read is none that agrees or lacks anything", () => {
    const qmp = { ...source("qmp"), problem: "damaged" };
    const { agreements } = judge([source("console", { findings: [finding()] }), qmp], { machine: machine() });
    expect(agreements).toEqual([]);
  });
});

describe("sources that agree or differ", () => {
  const rules = (sources: readonly SourceDetected[], facts?: MachineFacts) => {
    const { agreements, contradictions } = judge(sources, { machine: facts });
    return [...agreements, ...contradictions].map(({ rule }) => rule);
  };
  const dead = source("console", { findings: [finding()] });
  const quiet = source("qmp");
  const told = source("qmp", { findings: [panicEvent()], events: [event("qmp/stop", { line: 5 })] });
  const remounted = source("console", {
    findings: [finding({ rule: "console/linux/fs-shutdown", class: "filesystem", severity: "warning" })],
  });
  const noRead = source("console", {
    findings: [
      finding({
        rule: "console/linux/disk-error",
        class: "hardware-error",
        side: "host",
        severity: "notice",
      }),
    ],
  });
  const noDisk = source("qmp", {
    findings: [finding({ rule: "qmp/io-error", class: "io-error", severity: "warning", side: "host" })],
  });

  test.each<[string, readonly SourceDetected[], readonly string[], MachineFacts?]>([
    ["console and event", [dead, told], ["console-and-event"]],
    ["no device", [dead, quiet], ["no-device"], machine()],
    ["a device and no event", [dead, quiet], ["device-without-event"], machine({ pvpanic: true })],
    ["no command line", [dead, quiet], []],
    ["a file system, and the host's disk behind it", [remounted, noDisk], ["disk-errors"]],
    ["a disk, and the host's behind it", [noRead, noDisk], ["disk-errors"]],
    ["a file system, and nothing of the host", [remounted, quiet], ["disk-errors-of-the-guest"]],
    ["a file system, and no word of QEMU", [remounted], []],
    ["the host's disk alone", [source("console", { events: [boot] }), noDisk], []],
    [
      "an event the console has not",
      [source("console", { events: [boot] }), told],
      ["event-without-console"],
    ],
    [
      "a reset after the panic",
      [dead, source("qmp", { events: [shutdown("guest-reset")] })],
      ["reset-after-panic"],
    ],
    [
      "a panic and an orderly end",
      [dead, source("qmp", { events: [shutdown("guest-shutdown")] })],
      ["panic-but-shutdown"],
    ],
    [
      "an empty pstore of a guest that stands",
      [dead, told, source("pstore")],
      ["console-and-event", "stopped-before-record"],
    ],
    [
      "an empty pstore of a guest that QEMU ended upon its panic",
      [
        dead,
        source("qmp", { findings: [panicEvent()], events: [shutdown("guest-panic")] }),
        source("pstore"),
      ],
      ["console-and-event", "stopped-before-record"],
    ],
    [
      "an empty pstore of a guest that went on after its panic event",
      [
        dead,
        source("qmp", { findings: [panicEvent()], events: [shutdown("guest-reset")] }),
        source("pstore"),
      ],
      ["console-and-event", "reset-after-panic"],
    ],
    [
      "a reset that the console has as a reboot",
      [source("console", { events: [boot, restart] }), source("qmp", { events: [shutdown("guest-reset")] })],
      ["orderly-reboot"],
    ],
    [
      "a second reset that it has not",
      [
        source("console", { events: [boot, restart] }),
        source("qmp", {
          events: [event("qmp/reset", { text: "RESET reason=guest-reset" }), shutdown("guest-reset")],
        }),
      ],
      [],
    ],
    [
      "a hardware error of QEMU's that the guest knows nothing of",
      [
        source("console", { events: [boot] }),
        source("qmp", {
          findings: [finding({ class: "memory-failure", side: "hardware", survived: false })],
          events: [shutdown("guest-reset")],
        }),
      ],
      [],
      machine({ pvpanic: true }),
    ],
    [
      "a hardware error that both tell of",
      [
        source("console", { findings: [finding({ class: "mce", side: "hardware" })] }),
        source("qmp", {
          findings: [finding({ class: "memory-failure", side: "hardware", severity: "oops" })],
        }),
      ],
      ["memory-failure"],
    ],
    ["the same in pstore", [dead, source("pstore", { findings: [finding()] })], ["console-and-pstore"]],
    [
      "another in pstore",
      [
        dead,
        source("pstore", {
          findings: [finding({ title: "Kernel panic - not syncing: VFS: Unable to mount root fs" })],
        }),
      ],
      ["pstore-without-console"],
    ],
    [
      "in pstore alone",
      [source("console", { events: [boot] }), source("pstore", { findings: [finding()] })],
      ["pstore-without-console"],
    ],
    [
      "lockup and watchdog",
      [source("console", { findings: [lockup()] }), source("qmp", { events: [event("qmp/watchdog")] })],
      ["lockup-and-watchdog"],
    ],
    [
      "both ends in order",
      [source("console", { events: [powerOff] }), source("qmp", { events: [shutdown("guest-shutdown")] })],
      ["orderly-end"],
    ],
    [
      "kdump without an event",
      [source("console", { findings: [finding()], events: [event("console/kdump", { line: 20 })] }), quiet],
      ["kdump-took-it"],
    ],
    [
      "QEMU too",
      [dead, source("qemu-log", { findings: [finding({ class: "qemu-abort", side: "qemu" })] })],
      ["qemu-crash-after-panic"],
    ],
  ])("%s", (_, sources, expected, facts) => {
    expect(rules(sources, facts)).toEqual(expected);
  });

  test("a panic of another run makes the verdict less sure", () => {
    const { confidence } = judge([dead, source("qmp", { events: [shutdown("guest-shutdown")] })]);
    expect(confidence).toBe("likely");
  });
});

describe("the time line", () => {
  const at = (uptime: number) => ({ uptime });
  test("uptime is put on the host's clock by the panic in both", () => {
    const { timeline } = judge([
      source("console", {
        findings: [finding({ at: at(30), line: 20 })],
        events: [
          event("console/boot", { at: at(0), line: 1 }),
          event("console/end", { at: at(31), line: 30, text: "end" }),
        ],
      }),
      source("qmp", {
        findings: [panicEvent({ at: { wall: 1_000_000 } })],
        events: [event("qmp/stop", { at: { wall: 1_000_500 }, line: 5 })],
      }),
    ]);
    expect(timeline.entries.map(({ kind, clock, wall }) => [kind, clock, wall])).toEqual([
      ["console/boot", "joined", 970_000],
      ["console/linux/panic", "joined", 1_000_000],
      ["qmp/guest-panicked", "host", 1_000_000],
      ["qmp/stop", "host", 1_000_500],
      ["console/end", "joined", 1_001_000],
    ]);
    expect(timeline.notes).toEqual([
      "Uptime is put on the host's clock by the panic, which console and host both tell of.",
    ]);
  });

  test("without an anchor each source keeps its order and says its clock", () => {
    const { timeline } = judge([
      source("console", {
        events: [event("console/boot", { at: at(0), line: 1 }), event("console/x", { line: 2 })],
      }),
      source("qmp", { events: [event("qmp/stop", { at: { wall: 5 }, line: 1 })] }),
    ]);
    expect(timeline.entries.map(({ kind, clock }) => `${kind} ${clock}`)).toEqual([
      "console/boot uptime",
      "console/x order",
      "qmp/stop host",
    ]);
    expect(timeline.notes).toEqual([]);
  });

  test("a guest's clock that is wrong is told", () => {
    const { timeline } = judge([
      source("qmp", { findings: [panicEvent({ at: { wall: 10_000 } })] }),
      source("pstore", { findings: [finding({ rule: "pstore/record", at: { wall: 7_210_000 } })] }),
    ]);
    expect(timeline.notes).toEqual(["The guest's clock is 7200.0 s ahead of the host's."]);
    expect(timeline.entries.map(({ clock }) => clock).toSorted()).toEqual(["guest", "host"]);
  });

  test("an anchor of one boot says nothing of another", () => {
    const { timeline } = judge([
      source("console", {
        findings: [finding({ at: at(30), line: 20 })],
        events: [
          event("console/boot", { at: at(0), line: 1 }),
          event("console/boot", { at: at(0), line: 30 }),
          event("console/end", { at: at(9), line: 40 }),
        ],
      }),
      source("qmp", { findings: [panicEvent({ at: { wall: 100_000 } })] }),
    ]);
    expect(timeline.entries.map(({ clock }) => clock)).toEqual([
      "joined",
      "joined",
      "host",
      "uptime",
      "uptime",
    ]);
  });

  test("the first and the last of a long one are kept", () => {
    const events = Array.from({ length: 5000 }, (_, line) =>
      event("console/x", { line: line + 1, text: `${line}` }),
    );
    const { entries, omitted } = judge([source("console", { events })]).timeline;
    expect([entries.length, omitted, entries[0]?.text, entries.at(-1)?.text]).toEqual([
      1000,
      4000,
      "0",
      "4999",
    ]);
  });
});

describe("next commands", () => {
  test("a guest that stands in its panic can be dumped; names are words of a shell", () => {
    const sources = [source("qmp", { findings: [panicEvent()], events: [event("qmp/stop")] })];
    const { next } = judge(sources, { machine: machine({ name: "a b; rm -rf /", pvpanic: true }) });
    expect(next[0]).toBe(
      "virsh dump --memory-only 'a b; rm -rf /' guest.vmcore    # the guest still stands in its panic",
    );
  });
  test("a dump is looked at", () => {
    const { next } = judge([{ ...source("dump"), source: "-vmcore" }]);
    expect(next[0]).toContain("guestcore dmesg ./-vmcore --follow-crash");
  });
});

describe("whatever detectors give", () => {
  const word = fc.constantFrom(
    ...[
      "panic",
      "guest-panicked",
      "crash-loaded",
      "reset-loop",
      "guest-reset",
      "watchdog",
      "memory-failure",
      "timeout",
      "x",
    ],
  );
  const moment = fc.option(
    fc.record(
      { uptime: fc.double({ noNaN: false }), wall: fc.double({ noNaN: false }) },
      { requiredKeys: [] },
    ),
    { nil: undefined },
  );
  const anyFinding = fc.record({
    rule: fc.string(),
    class: word,
    severity: fc.constantFrom(...SEVERITIES),
    side: fc.constantFrom("guest", "host", "hardware", "qemu", "policy", "unknown"),
    trust: fc.constantFrom("certain", "likely", "possible"),
    title: fc.string(),
    survived: fc.option(fc.boolean(), { nil: undefined }),
    signature: fc.option(fc.string(), { nil: undefined }),
    at: moment,
    evidence: fc.array(fc.record({ source: fc.string(), line: fc.nat(), text: fc.string() }), {
      maxLength: 3,
    }),
  });
  const kinds = ["boot", "kdump", "shutdown", "end"].map((name) => `console/${name}`);
  const qmps = ["shutdown", "reset", "stop", "resume", "watchdog", "guest-panicked", "powerdown"].map(
    (name) => `qmp/${name}`,
  );
  const anyEvent = fc.record({
    kind: fc.constantFrom(...kinds, ...qmps),
    at: moment,
    source: fc.string(),
    line: fc.option(fc.nat(), { nil: undefined }),
    text: fc.constantFrom(
      "guest-reset",
      "guest-shutdown",
      "host-signal",
      "reboot: Power down",
      "reboot: Restarting system",
      "",
    ),
  });
  const anySource = fc.record({
    source: fc.string(),
    kind: fc.constantFrom("console", "qmp", "pstore", "rtas", "dump", "qemu-log", "unknown"),
    findings: fc.array(anyFinding, { maxLength: 6 }),
    events: fc.array(anyEvent, { maxLength: 8 }),
  });

  test("there is a verdict, it loses no finding and no event, and is the same each time", () => {
    fc.assert(
      fc.property(fc.array(anySource, { maxLength: 5 }), (raw) => {
        const sources = raw as unknown as readonly SourceDetected[];
        const verdict = judge(sources);
        expect(VERDICTS).toContain(verdict.verdict);
        expect(verdict.why.length).toBeGreaterThan(0);
        expect(verdict.findings.length).toBe(sources.reduce((sum, { findings }) => sum + findings.length, 0));
        expect(judge(sources)).toEqual(verdict);
        // Within a source the order stays.
        for (const { source: name } of sources) {
          if (sources.filter((other) => other.source === name).length > 1) continue;
          const lines = verdict.timeline.entries
            .filter((entry) => entry.source === name)
            .map(({ line }) => line);
          const known = lines.filter((line) => line !== undefined);
          if (known.length === lines.length) expect(known).toEqual(known.toSorted((a, b) => a - b));
        }
      }),
      { seed: 20261126, numRuns: 1000 },
    );
  });

  test("a panic that is not certain to be outlived never passes for clean", () => {
    fc.assert(
      fc.property(fc.array(anySource, { maxLength: 4 }), (raw) => {
        const sources = raw as unknown as readonly SourceDetected[];
        const { verdict, severity } = judge([source("console", { findings: [finding()] }), ...sources]);
        expect(["guest-panic", "hardware-fault"]).toContain(verdict);
        expect(severity).toBe("panic");
      }),
      { seed: 20261126, numRuns: 500 },
    );
  });

  test("a hundred thousand events take no longer than a second or two", () => {
    const events = Array.from({ length: 100_000 }, (_, line) =>
      event("console/boot", { line, at: { uptime: line % 100 } }),
    );
    const findings = Array.from({ length: 20_000 }, (_, line) => finding({ line, at: { uptime: line } }));
    const start = cpuTime();
    judge([source("console", { events, findings }), source("qmp", { findings })]);
    expect(cpuTime() - start).toBeLessThan(5000);
  });
});

describe("what a verdict says", () => {
  const death = (name: string, side: "guest" | "host" = "guest") =>
    judge([source("console", { findings: [finding({ class: name, side, title: "x" })] })]);
  test("who died is named by the class", () => {
    expect(death("panic").why[0]).toBe("The guest's own kernel says that it died.");
    expect(death("firmware-crash").why[0]).toMatch(/firmware says itself that it died/);
    expect(death("domain-crash").why[0]).toMatch(/hypervisor says that it stopped the guest/);
    expect(death("hypervisor-crash", "host")).toMatchObject({
      verdict: "host-fault",
      why: expect.arrayContaining([expect.stringMatching(/^The hypervisor says itself that it crashed/)]),
    });
  });

  const outlived = oops({ survived: true });
  test.each([
    ["power-off", [boot, powerOff]],
    ["boot alone", [boot]],
  ])("what was outlived is its title: %s", (_, events) => {
    const { verdict, title, why } = judge([source("console", { findings: [outlived], events })]);
    expect([verdict, title]).toEqual(["clean", "outlived: BUG: kernel NULL pointer dereference in foo"]);
    expect(why.join(" ")).not.toMatch(/no source has a failure[;:,.]|No source has a failure[;:,.]/);
    expect(why.join(" ")).toMatch(/It had a failure that did not end it/);
  });
  test("a warning is nothing to outlive", () => {
    const findings = [finding({ severity: "warning", class: "warning", survived: true })];
    expect(judge([source("console", { findings, events: [boot, powerOff] })]).title).toBe(
      "the guest shut down in order",
    );
  });

  const notStarted = source("qemu-log", {
    findings: [
      finding({
        ...{ rule: "qmp/start-failed", class: "start-failed", severity: "warning", side: "host" },
        details: { early: true },
      }),
    ],
  });
  test("a QEMU that could not start is the host's fault, unless a guest ran", () => {
    expect(judge([notStarted])).toMatchObject({ verdict: "host-fault", rule: "host-fault" });
    expect(judge([notStarted]).why[0]).toMatch(/could not start/);
    const ran = source("console", { events: [boot, powerOff] });
    expect(judge([ran, notStarted]).verdict).toBe("clean");
    const greeted = source("qmp", { events: [event("qmp/greeting"), shutdown("guest-shutdown")] });
    expect(judge([greeted, notStarted]).verdict).toBe("clean");
  });
});

test("a boot that breaks off is QEMU's to tell of, where its events are there", () => {
  const broken = source("console", { findings: [brokenBoot, oops()], events: [boot] });
  const classes = (...sources: SourceDetected[]) =>
    withoutExplained(sources).flatMap(({ findings }) => findings.map((one) => one.class));
  expect(classes(broken)).toContain("silent-reset");
  expect(classes(broken, source("qmp", { events: [event("qmp/greeting")] }))).toContain("silent-reset");
  const reset = event("qmp/reset", { text: "RESET host-qmp-system-reset" });
  expect(classes(broken, source("qmp", { events: [reset] }))).toEqual([oops().class]);
});
