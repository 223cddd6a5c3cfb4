import { describe, expect, test } from "vitest";
import { judge } from "../src/triage/verdict/judge.ts";
import type { SourceDetected } from "../src/triage/verdict/types.ts";
import { event, finding, lockup, oops, source } from "./support/triage-synth.ts";

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
