import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { judge } from "../src/triage/verdict/judge.ts";
import type { SourceDetected } from "../src/triage/verdict/types.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { event, finding, lockup, oops, panicEvent, source } from "./support/triage-synth.ts";

const boot = (line: number) => event("console/boot", { line });
const powerOff = (line: number) => event("console/shutdown", { line, text: "reboot: Power down" });
const restart = (line: number, uptime?: number) =>
  event("console/shutdown", {
    line,
    text: "reboot: Restarting system",
    ...(uptime === undefined ? {} : { at: { uptime } }),
  });
const reset = (line: number) => event("qmp/reset", { line, text: "RESET reason=guest-reset" });
const shutdown = (line: number, reason = "guest-shutdown") =>
  event("qmp/shutdown", { line, text: `SHUTDOWN reason=${reason}` });
const watchdog = (line: number, action: string) =>
  event("qmp/watchdog", { line, text: `WATCHDOG action=${action}` });
const named = (name: string, one: SourceDetected): SourceDetected => ({ ...one, source: name });
const told = (sources: readonly SourceDetected[]) => {
  const { verdict, rule } = judge(sources);
  return `${verdict} ${rule}`;
};
const lockedUp = (line: number) =>
  lockup({ survived: false, evidence: [{ source: "serial.log", line, text: "BUG: soft lockup" }] });

describe("an orderly end excuses what came before it alone", () => {
  test.each<[string, readonly SourceDetected[], string]>([
    [
      "a lockup in the boot after a reboot",
      [source("console", { findings: [lockedUp(4)], events: [boot(1), restart(2), boot(3)] })],
      "guest-hang hang",
    ],
    [
      "a lockup before the reboot of its boot",
      [source("console", { findings: [lockedUp(2)], events: [boot(1), restart(3)] })],
      "clean orderly-reboot",
    ],
    [
      "a lockup in a boot that another followed, which ended in order",
      [source("console", { findings: [lockedUp(2)], events: [boot(1), boot(3), powerOff(4)] })],
      "guest-hang hang",
    ],
    [
      "an oops in the boot after a power-off",
      [
        source("console", {
          findings: [oops({ survived: false, line: 4 })],
          events: [boot(1), powerOff(2), boot(3)],
        }),
      ],
      "guest-panic died-in-oops",
    ],
    [
      "an oops of which it is not known whether it was outlived, after a power-off",
      [source("console", { findings: [oops({ line: 4 })], events: [boot(1), powerOff(2), boot(3)] })],
      "unknown oops-at-the-end",
    ],
    [
      "an oops before the power-off",
      [source("console", { findings: [oops({ line: 2 })], events: [boot(1), powerOff(3)] })],
      "clean orderly-shutdown",
    ],
    [
      "an oops, and QEMU saw an orderly end",
      [
        source("console", { findings: [oops({ line: 2 })], events: [boot(1)] }),
        source("qmp", { events: [shutdown(3)] }),
      ],
      "clean orderly-shutdown",
    ],
    [
      "a lockup, and an orderly end of an earlier run of QEMU",
      [
        source("console", { findings: [lockedUp(2)], events: [boot(1)] }),
        source("qmp", {
          events: [event("qmp/greeting", { line: 1 }), shutdown(3), event("qmp/start", { line: 4 })],
        }),
      ],
      "guest-hang hang",
    ],
    [
      "an orderly end in the log of another console",
      [
        source("console", { findings: [lockedUp(2)], events: [boot(1)] }),
        named("serial.log.1", source("console", { events: [boot(1), restart(9)] })),
      ],
      "guest-hang hang",
    ],
    [
      "a stop from outside of a guest that had shut down in an earlier boot",
      [
        source("console", { events: [boot(1), powerOff(2), boot(3)] }),
        source("qmp", { events: [shutdown(5, "host-signal")] }),
      ],
      "stopped-by-policy asked-to-stop",
    ],
    [
      "a shutdown, a boot and no end",
      [source("console", { events: [boot(1), powerOff(2), boot(3)] })],
      "clean nothing-failed",
    ],
  ])("%s", (_, sources, expected) => {
    expect(told(sources)).toBe(expected);
  });
});

test("a console that breaks off in the report of a hardware error", () => {
  const hardware = { class: "mce", side: "hardware" } as const;
  const told = (line: number, text: string, survived?: boolean) => {
    const found = oops({ ...hardware, line: 4, details: { lastLine: 6 }, ...(survived ? { survived } : {}) });
    const events = [boot(1), event("console/end", { line, text })];
    return judge([source("console", { findings: [found], events })], {}).rule;
  };
  expect(told(6, "NIP:  c000000000123456")).toBe("broke-off-in-hardware-error");
  expect(told(60, "a line", true)).toBe("nothing-failed");
});

describe("a console that breaks off in a report", () => {
  const ending = (text: string, line = 6, events = [boot(1)]) => [
    source("console", {
      findings: [oops({ line: 4, details: { lastLine: 6 } })],
      events: [...events, event("console/end", { line, text })],
    }),
  ];
  test.each<[string, readonly SourceDetected[], string]>([
    ["in its midst", ending("RIP: 0010:spin+0x1/0x10"), "guest-panic died-in-oops"],
    [
      "of a boot after an orderly end",
      ending("RIP: 0010:spin+0x1/0x10", 6, [boot(1), powerOff(2), boot(3)]),
      "guest-panic died-in-oops",
    ],
    ["at its end", ending("---[ end trace 0000000000000000 ]---"), "unknown oops-at-the-end"],
    ["at the registers after its end", ending("CR2: 0000000000000008 CR3: 1"), "unknown oops-at-the-end"],
    ["lines later", ending("a line", 8), "unknown oops-at-the-end"],
    ["and another boot follows", ending("a line", 30, [boot(1), boot(9)]), "guest-panic died-in-oops"],
    [
      "but the guest shut down in order",
      [...ending("RIP: 0010:spin+0x1/0x10"), source("qmp", { events: [shutdown(3)] })],
      "clean orderly-shutdown",
    ],
  ])("%s", (_, sources, expected) => {
    expect(told(sources)).toBe(expected);
  });
});

test("a console that breaks off in the report of a checker, which kernels go on after, is no death", () => {
  const of = (kind: string) =>
    told([
      source("console", {
        findings: [oops({ class: kind, line: 4, details: { lastLine: 6 } })],
        events: [boot(1), event("console/end", { line: 6, text: "a frame" })],
      }),
    ]);
  expect(of("kfence")).toBe("unknown oops-at-the-end");
  expect(of("gpf")).toBe("guest-panic died-in-oops");
});

test("a power-off is no reboot, whatever the kernel puts in front of it", () => {
  const sources = [
    source("console", { events: [boot(1), powerOff(2)] }),
    source("qmp", { events: [reset(2), shutdown(3)] }),
  ];
  expect(told(sources)).toBe("guest-reset reset");
});

describe("resets that QEMU saw are counted against orderly reboots", () => {
  const counted = (count: number) =>
    source("qmp", {
      findings: [
        finding({
          rule: "qmp/guest-reset",
          class: "guest-reset",
          severity: "notice",
          details: { count },
          evidence: [{ source: "qmp.jsonl", line: 2, text: "{}" }],
        }),
      ],
      events: [reset(2)],
    });
  const one = source("console", { events: [boot(1), restart(2, 9), boot(3)] });
  test.each<[string, readonly SourceDetected[], string]>([
    ["one and one", [one, counted(1)], "clean orderly-reboot"],
    ["one and two", [one, counted(2)], "guest-reset reset"],
    ["one and two events", [one, source("qmp", { events: [reset(2), reset(3)] })], "guest-reset reset"],
    [
      "the same reboot on two consoles, and two resets",
      [one, named("hvc0.log", one), counted(2)],
      "guest-reset reset",
    ],
    [
      "a reboot on each of two logs, and two resets",
      [one, named("serial.log.1", source("console", { events: [restart(2, 7)] })), counted(2)],
      "clean orderly-reboot",
    ],
    [
      "a reset in the report of a fault, after an orderly reboot",
      [
        source("console", { findings: [oops({ line: 4 })], events: [boot(1), restart(2), boot(3)] }),
        counted(2),
      ],
      "guest-panic reset-in-report",
    ],
    [
      "one reset and an orderly shutdown, with a console that has no reboot",
      [source("console", { events: [boot(1)] }), source("qmp", { events: [reset(2), shutdown(3)] })],
      "guest-reset reset",
    ],
    [
      "two resets and an orderly shutdown, without a console",
      [source("qmp", { events: [reset(2), reset(3), shutdown(4)] })],
      "guest-reset reset",
    ],
    [
      "one reset after an orderly shutdown",
      [source("qmp", { events: [shutdown(2), reset(3)] })],
      "guest-reset reset",
    ],
  ])("%s", (_, sources, expected) => {
    expect(told(sources)).toBe(expected);
  });
});

describe("what a crash kernel says is not what the guest died of", () => {
  const kdump = event("console/kdump", { line: 8 });
  const lost = finding({
    line: 9,
    title: "Kernel panic - not syncing: VFS: Unable to mount root fs",
    signature: "vfs",
  });
  const fault = oops({ line: 2, signature: "null", survived: false });
  const crash = (findings = [fault, lost], events = [boot(1), boot(7), kdump]) =>
    judge([source("console", { findings, events })]);

  test("the crash before it is principal, and its panic is told", () => {
    const { verdict, title, signature, why } = crash();
    expect([verdict, title, signature]).toEqual(["guest-panic", fault.title, "null"]);
    expect(why).toContain("Its crash kernel panicked as well, so it saved no dump.");
    expect(why).toContain("What booted afterwards is its crash kernel.");
  });
  test("a panic before it is principal too", () => {
    const { signature, rule } = crash([finding({ line: 2, signature: "first" }), lost]);
    expect([rule, signature]).toEqual(["death", "first"]);
  });
  test("a dump that it saved before is not lost", () => {
    const { why } = crash([fault, lost], [boot(1), boot(6), kdump, event("console/dump-saved", { line: 8 })]);
    expect(why).toContain("Its crash kernel panicked as well, after it had saved a dump.");
  });
  test("without the crash before it, what the guest died of is not known", () => {
    expect(crash([lost])).toMatchObject({ verdict: "guest-panic", rule: "kdump", signature: undefined });
  });
  test("a panic of the guest that booted after it is the guest's", () => {
    const { rule, signature, why } = crash(
      [{ ...lost, evidence: [{ source: "s", line: 12, text: "" }] }],
      [boot(1), boot(7), kdump, boot(11)],
    );
    expect([rule, signature]).toEqual(["death", "vfs"]);
    expect(why.join(" ")).not.toContain("crash kernel");
  });
});

describe("records of pstore", () => {
  const bare = finding({
    rule: "pstore/record",
    title: "Panic#1: the guest's kernel saved its log",
    evidence: [{ source: "dmesg-efi-1", text: "Panic#1 Part1" }],
  });
  const other = finding({
    rule: "pstore/record",
    title: "Kernel panic - not syncing: Attempted to kill init!",
  });
  const rules = (console: readonly ReturnType<typeof finding>[], record: ReturnType<typeof finding>) => {
    const { agreements, contradictions } = judge([
      source("console", { findings: console }),
      source("pstore", { findings: [record] }),
    ]);
    return [...agreements, ...contradictions].map(({ rule }) => rule);
  };
  test("one without the text of the panic is not compared with the console's", () => {
    expect(rules([finding()], bare)).toEqual([]);
    expect(rules([finding()], other)).toEqual(["pstore-without-console"]);
    expect(rules([], bare)).toEqual(["pstore-without-console"]);
  });
  test("one of any boot of the console agrees", () => {
    expect(rules([finding(), finding({ line: 20, title: other.title })], other)).toEqual([
      "console-and-pstore",
    ]);
  });
});

describe("a watchdog", () => {
  const qmp = (...events: readonly ReturnType<typeof event>[]) => [source("qmp", { events })];
  test.each<[string, readonly SourceDetected[], string]>([
    ["let run, then a shutdown", qmp(watchdog(2, "none"), shutdown(3)), "clean watchdog-outlived"],
    ["let run, and nothing more", qmp(watchdog(2, "none")), "guest-hang watchdog"],
    ["let run, before it a shutdown", qmp(shutdown(1), watchdog(2, "none")), "guest-hang watchdog"],
    [
      "let run twice, the second time at the end",
      qmp(watchdog(1, "none"), shutdown(2), watchdog(3, "none")),
      "guest-hang watchdog",
    ],
    ["let run, then a reset", qmp(watchdog(2, "none"), reset(3), shutdown(4)), "guest-hang watchdog"],
    ["that reset", qmp(watchdog(2, "reset"), shutdown(3)), "guest-hang watchdog"],
    ["that asked for the shutdown", qmp(watchdog(2, "shutdown"), shutdown(3)), "guest-hang watchdog"],
    ["that paused", qmp(watchdog(2, "pause"), shutdown(4)), "guest-hang watchdog"],
    [
      "that paused what went on",
      qmp(watchdog(2, "pause"), event("qmp/resume", { line: 3 }), shutdown(4)),
      "clean watchdog-outlived",
    ],
  ])("%s", (_, sources, expected) => {
    expect(told(sources)).toBe(expected);
  });
});

describe("why says nothing that the findings contradict", () => {
  const survived = oops({ survived: true, signature: "null" });
  test("a fault that seemed outlived is the likely cause of a panic that only QEMU heard of", () => {
    const verdict = judge([
      source("console", { findings: [survived], events: [boot(1)] }),
      source("qmp", { findings: [panicEvent()] }),
    ]);
    expect(verdict).toMatchObject({ verdict: "guest-panic", title: survived.title, signature: "null" });
    expect(verdict.why[0]).toContain("likely cause");
  });
  test("a fault of a boot that ended in order is none", () => {
    const events = [boot(1), restart(20), boot(30)];
    const { rule } = judge([
      source("console", { findings: [survived], events }),
      source("qmp", { findings: [panicEvent()] }),
    ]);
    expect(rule).toBe("panic-event");
  });
  test("a lockup in whose report the console ends is what it panicked of", () => {
    const { title, rule } = judge([
      source("console", { findings: [lockedUp(9)] }),
      source("qmp", { findings: [panicEvent()] }),
    ]);
    expect([rule, title]).toEqual(["panic-event-after-oops", lockedUp(9).title]);
  });
  test("a guest that lives with a failure did not have none", () => {
    const { why, title } = judge([source("console", { findings: [survived], events: [boot(1)] })]);
    expect(why[0]).toContain("no source has a failure that ended it");
    expect(title).not.toContain("nothing failed");
    const stop = judge([
      source("console", { findings: [survived], events: [boot(1)] }),
      source("qmp", { events: [shutdown(5, "host-signal")] }),
    ]);
    expect(stop.why[0]).toContain("that had ended the guest");
    expect(judge([source("console", { events: [boot(1)] })]).title).toContain("nothing failed");
  });
});

const line = fc.integer({ min: 1, max: 40 });
const survival = fc.constantFrom({}, { survived: true }, { survived: false });
const consoleFinding = fc
  .tuple(survival, line)
  .chain(([survived, at]) =>
    fc.constantFrom(
      finding({ ...survived, line: at }),
      oops({ ...survived, line: at }),
      lockup({ ...survived, signature: `s${at}` }),
    ),
  );
const consoles = fc.record({
  findings: fc.array(consoleFinding, { maxLength: 3 }),
  events: fc.array(
    line.chain((at) =>
      fc.constantFrom(boot(at), restart(at), powerOff(at), event("console/kdump", { line: at })),
    ),
    { maxLength: 5 },
  ),
});
const qmps = fc.record({
  findings: fc.array(fc.constant(panicEvent()), { maxLength: 1 }),
  events: fc.array(
    line.chain((at) =>
      fc.constantFrom(
        reset(at),
        shutdown(at),
        shutdown(at, "host-signal"),
        watchdog(at, "none"),
        watchdog(at, "reset"),
      ),
    ),
    { maxLength: 4 },
  ),
});
const anySources = fc
  .tuple(
    fc.array(consoles, { maxLength: 3 }),
    fc.array(qmps, { maxLength: 2 }),
    fc.array(consoles, { maxLength: 1 }),
  )
  .map(([console, qmp, pstore]) => [
    ...console.map((one, index) => named(`serial${index}.log`, source("console", one))),
    ...qmp.map((one, index) => named(`qmp${index}.jsonl`, source("qmp", one))),
    // That a guest went on is told by later dumps, that it did not by none.
    ...pstore.map(({ findings }) =>
      source("pstore", { findings: findings.filter(({ survived }) => survived !== false) }),
    ),
  ]);

describe("whatever sources there are", () => {
  const options = { seed: 20261126, numRuns: 1500 };
  test("their order makes no difference to the verdict", () => {
    const shuffled = anySources.chain((sources) =>
      fc.tuple(fc.constant(sources), fc.shuffledSubarray(sources, { minLength: sources.length })),
    );
    fc.assert(
      fc.property(shuffled, ([sources, others]) => {
        const [a, b] = [judge(sources), judge(others)];
        const of = ({ findings: _, timeline: __, next: ___, ...rest }: typeof a) => rest;
        expect(of(b)).toEqual(of(a));
      }),
      options,
    );
  });

  test("a clean source more never makes a death clean", () => {
    fc.assert(
      fc.property(anySources, fc.boolean(), (sources, isConsole) => {
        const before = judge(sources);
        const clean = isConsole
          ? source("console", { events: [boot(1), powerOff(2)] })
          : named("other.jsonl", source("qmp", { events: [shutdown(2)] }));
        // That QEMU saw an orderly end is news of a guest whose end was only inferred.
        if (!isConsole && before.confidence === "possible") return;
        if (!["guest-panic", "hardware-fault"].includes(before.verdict)) return;
        expect(judge([...sources, clean]).verdict).not.toBe("clean");
      }),
      options,
    );
  });

  test("of as many boots, ends and failures as a console has, in no time to speak of", () => {
    const events = Array.from({ length: 50_000 }, (_, at) =>
      at % 3 === 0 ? boot(at) : at % 3 === 1 ? restart(at) : event("console/kdump", { line: at }),
    );
    const findings = Array.from({ length: 20_000 }, (_, at) => oops({ line: at, survived: false }));
    const bites = Array.from({ length: 20_000 }, (_, at) => watchdog(at, "pause"));
    const start = cpuTime();
    judge([source("console", { events, findings }), source("qmp", { events: bites })]);
    expect(cpuTime() - start).toBeLessThan(5000);
  });
});
