import { describe, expect, test } from "vitest";
import { QmpDetector } from "../src/triage/qmp/detector.ts";
import type { QmpReport } from "../src/triage/qmp/report.ts";

/** The report of a text, and optionally of a command line. */
function read(text: string | readonly string[], cmdline?: string): QmpReport {
  const detector = new QmpDetector({ source: "log", cmdline });
  detector.push(Buffer.from(typeof text === "string" ? text : `${text.join("\n")}\n`));
  return detector.end();
}
const classes = ({ findings }: QmpReport) => findings.map((finding) => finding.class);
const stamp = (seconds: number, micros = 0) => ({ seconds: 1_700_000_000 + seconds, microseconds: micros });
const event = (name: string, at: number, data?: object) =>
  JSON.stringify({ timestamp: stamp(Math.floor(at), Math.round((at % 1) * 1e6)), event: name, data });
const greeting = (major: number, minor: number, micro = 0) =>
  JSON.stringify({ QMP: { version: { qemu: { major, minor, micro }, package: "" }, capabilities: [] } });

describe("panics", () => {
  test("two devices tell of one panic, the second when the vCPU goes on", () => {
    const report = read([
      event("GUEST_PANICKED", 10, { action: "pause" }),
      event("STOP", 10.01),
      event("RESUME", 500),
      event("GUEST_PANICKED", 500.001, { action: "pause" }),
      event("STOP", 500.002),
    ]);
    expect(classes(report)).toEqual(["guest-panicked"]);
    expect(report.findings[0]!.details).toMatchObject({ count: 2, actions: ["pause", "pause"] });
    expect(report.runState).toBe("guest-panicked");
  });

  test("a panic after a reset is another", () => {
    const report = read([
      event("GUEST_PANICKED", 10, { action: "pause" }),
      event("RESET", 11, { guest: false, reason: "host-qmp-system-reset" }),
      event("GUEST_PANICKED", 12, { action: "pause" }),
    ]);
    expect(classes(report)).toEqual(["guest-panicked", "guest-panicked"]);
  });

  test("a crash kernel that panics itself is told with both", () => {
    const report = read([
      event("GUEST_CRASHLOADED", 10, { action: "run" }),
      event("GUEST_PANICKED", 60, { action: "pause" }),
    ]);
    expect(classes(report)).toEqual(["crash-loaded", "guest-panicked"]);
    expect(report.findings[1]!.title).toContain("its crash kernel was loaded before");
  });

  test("64-bit arguments are exact, and Windows and Linux are told apart", () => {
    const windows = read(
      '{"event":"GUEST_PANICKED","data":{"action":"pause","info":{"type":"hyper-v","arg1":126,"arg2":18446744072635809797,"arg3":18446735282342313361,"arg4":0,"arg5":0}}}',
    );
    expect(windows.findings[0]).toMatchObject({
      title: "Windows STOP 0x0000007E SYSTEM_THREAD_EXCEPTION_NOT_HANDLED; QEMU paused it",
      signature: "qmp:stop:0x7e",
      details: { info: { args: expect.arrayContaining(["0xffffffffc0000005", "0xfffff80119adbd91"]) } },
    });
    // LINUX_VERSION_CODE of 6.1.0 in bits 16 to 47.
    const id = (0x8100n << 48n) | (0x060100n << 16n);
    const linux = read(
      `{"event":"GUEST_PANICKED","data":{"action":"run","info":{"type":"hyper-v","arg1":0,"arg2":${id},"arg3":18446744071579222221,"arg4":1,"arg5":2}}}`,
    );
    expect(linux.findings[0]!.title).toBe("Linux 6.1.0 panicked (hyper-v); QEMU let it run on");
  });

  test("TDX and SEV say why", () => {
    const tdx = read(
      '{"timestamp": {"seconds": 1752156518, "microseconds": 809325}, "event": "GUEST_PANICKED", "data": {"action": "pause", "info": {"error-code": 0, "message": "TD misconfiguration: SEPT #VE has to be disabled", "type": "tdx"}}}',
    );
    expect(tdx.findings[0]!.title).toContain("SEPT #VE has to be disabled");
    expect(tdx.findings[0]!.details).toMatchObject({ info: { gpa: null, errorCode: 0 } });
    const sev = read(
      '{"event":"GUEST_PANICKED","data":{"action":"poweroff","info":{"type":"sev","set":1,"code":2}}}',
    );
    expect(sev.findings[0]!.title).toContain("set 1, code 2");
  });

  test("a SHUTDOWN for a panic is enough", () => {
    expect(classes(read(event("SHUTDOWN", 1, { guest: true, reason: "guest-panic" })))).toEqual([
      "guest-panicked",
    ]);
  });
});

describe("resets", () => {
  const reset = (at: number) => event("RESET", at, { guest: true, reason: "guest-reset" });

  test("three events of one reset are one", () => {
    const report = read([reset(10), reset(10.06), reset(10.07)]);
    expect(report.findings).toMatchObject([
      { class: "guest-reset", severity: "notice", details: { count: 1 } },
    ]);
  });

  test("many resets are a loop", () => {
    const report = read([reset(10), reset(40), reset(70), reset(100)]);
    expect(report.findings).toMatchObject([{ class: "reset-loop", severity: "hang", details: { count: 4 } }]);
  });

  test("resets days apart are reboots", () => {
    expect(classes(read([reset(0), reset(90_000), reset(190_000)]))).toEqual(["guest-reset"]);
  });

  test("a reset after a panic is no silent one, and neither is the host's", () => {
    const report = read([
      event("GUEST_PANICKED", 10, { action: "run" }),
      reset(15),
      event("RESET", 100, { guest: false, reason: "host-qmp-system-reset" }),
    ]);
    expect(classes(report)).toEqual(["guest-panicked"]);
    expect(report.findings[0]!.details).toMatchObject({ after: ["reset by the guest"] });
  });

  test("SeaBIOS resets once more after a reset from outside; a later one is the guest's", () => {
    const host = event("RESET", 100, { guest: false, reason: "host-qmp-system-reset" });
    const again = read([host, reset(100.03), reset(100.04)]);
    expect(classes(again)).toEqual([]);
    expect(again.events.map(({ kind }) => kind)).toEqual([
      "qmp/reset",
      "qmp/firmware-reset",
      "qmp/firmware-reset",
    ]);
    expect(classes(read([host, reset(100.03), reset(110)]))).toEqual(["guest-reset"]);
    expect(classes(read([host, reset(110)]))).toEqual(["guest-reset"]);
    expect(classes(read([reset(99), host, reset(100.03)]))).toEqual(["guest-reset"]);
  });

  test("the end of a machine that was stopped tells that somebody ended it", () => {
    const ended = (reason: string) =>
      read([event("STOP", 1), event("SHUTDOWN", 2, { guest: false, reason })]);
    expect(ended("host-qmp-quit").findings).toMatchObject([
      {
        class: "host-stop",
        side: "policy",
        trust: "certain",
        title: "the machine was stopped, and then ended from outside: somebody sent quit",
      },
    ]);
    expect(read(event("STOP", 1)).findings).toMatchObject([{ class: "host-stop", trust: "possible" }]);
  });

  test("a memory error that QEMU reset the guest for killed it, one that was passed on did not", () => {
    const flags = { "action-required": false, recursive: false };
    const failure = (action: string) => event("MEMORY_FAILURE", 5, { recipient: "guest", action, flags });
    const died = read([failure("reset"), event("SHUTDOWN", 5.1, { guest: true, reason: "guest-reset" })]);
    expect(died.findings).toMatchObject([
      {
        class: "memory-failure",
        severity: "panic",
        side: "hardware",
        survived: false,
        details: { after: ["reset by the guest"] },
      },
    ]);
    const lived = read([failure("inject"), reset(60)]);
    expect(lived.findings).toMatchObject([
      { class: "memory-failure", severity: "warning" },
      { class: "guest-reset" },
    ]);
  });
});

describe("other ends", () => {
  test("watchdog, disk, memory, internal error", () => {
    expect(read(event("WATCHDOG", 1, { action: "pause" }) + event("STOP", 1.1))).toMatchObject({
      runState: "watchdog",
      findings: [{ class: "watchdog", severity: "hang", side: "guest" }],
    });
    const full = {
      device: "drive0",
      operation: "write",
      action: "stop",
      nospace: true,
      reason: "No space left",
    };
    expect(read([event("BLOCK_IO_ERROR", 1, full), event("STOP", 1.1)])).toMatchObject({
      runState: "io-error",
      findings: [{ class: "io-error", severity: "hang", side: "host", survived: false }],
    });
    expect(
      read([event("BLOCK_IO_ERROR", 1, full), event("STOP", 1.1), event("RESUME", 9)]).findings[0],
    ).toMatchObject({ severity: "warning", survived: true });
    const fatal = {
      recipient: "hypervisor",
      action: "fatal",
      flags: { "action-required": true, recursive: false },
    };
    expect(read(event("MEMORY_FAILURE", 1, fatal)).findings[0]).toMatchObject({
      side: "hardware",
      severity: "panic",
    });
    expect(
      read([event("STOP", 1), '{"return":{"status":"internal-error","singlestep":false,"running":false}}']),
    ).toMatchObject({
      outcome: { kind: "internal-error" },
      runState: "internal-error",
      stateSource: "query-status",
      findings: [{ class: "internal-error", side: "host" }],
    });
  });

  test("a stop by nobody, by somebody, and one that was over", () => {
    expect(read(event("STOP", 1)).findings[0]).toMatchObject({ class: "host-stop", side: "unknown" });
    expect(read(['{"execute":"stop"}', event("STOP", 1)]).findings[0]).toMatchObject({ side: "policy" });
    expect(read([event("STOP", 1), event("RESUME", 2)]).findings).toEqual([]);
    expect(read(['{"execute":"dump-guest-memory"}', event("STOP", 1)]).findings).toEqual([]);
  });

  test.each([
    ["host-qmp-quit", "stopped-by-policy"],
    ["host-signal", "stopped-by-policy"],
    ["host-ui", "stopped-by-policy"],
    ["host-error", "host-error"],
    ["guest-shutdown", undefined],
    ["guest-reset", "guest-reset"],
    ["guest-panic", "guest-panicked"],
  ])("SHUTDOWN with reason %s", (reason, expected) => {
    const report = read(event("SHUTDOWN", 1, { guest: reason.startsWith("guest"), reason }));
    expect(classes(report)).toEqual(expected === undefined ? [] : [expected]);
  });

  test.each([
    [-6, "qemu-abort"],
    [134, "qemu-abort"],
    [139, "qemu-abort"],
    [-9, "qemu-killed"],
    [-15, "stopped-by-policy"],
    [1, "start-failed"],
    [0, undefined],
  ])("an exit with %d", (exit, expected) => {
    const report = read([greeting(7, 2), JSON.stringify({ t: 3, dir: "#", msg: { exit } })]);
    expect(classes(report)).toEqual(expected === undefined ? [] : [expected]);
    expect(report.exit).toBe(exit);
  });
});

describe("run states", () => {
  const refused = '{"error":{"class":"GenericError","desc":"Resetting the Virtual Machine is required"}}';

  test("cont after a panic of QEMU 1.5 is refused, and that is why", () => {
    const report = read([
      greeting(1, 5, 1),
      event("GUEST_PANICKED", 1, { action: "pause" }),
      event("STOP", 1.1),
      '{"execute":"cont"}',
      refused,
    ]);
    expect(classes(report)).toEqual(["guest-panicked", "cont-refused"]);
    expect(report.findings[1]).toMatchObject({ side: "qemu", title: expect.stringContaining("update QEMU") });
  });

  test("an answer that cannot be is told", () => {
    const answer = (status: string) =>
      JSON.stringify({ return: { status, running: status === "running", singlestep: false } });
    expect(read([answer("paused"), answer("guest-panicked")]).contradictions).toHaveLength(0);
    expect(read([answer("shutdown"), answer("running")]).contradictions).toMatchObject([{ line: 2 }]);
    // One that was under way when the event came is no contradiction.
    expect(
      read([event("SHUTDOWN", 1, { guest: true, reason: "guest-panic" }), answer("guest-panicked")])
        .contradictions,
    ).toEqual([]);
  });

  test("a panic while the machine was stopped leaves it so", () => {
    const report = read([
      '{"execute":"stop"}',
      event("STOP", 1),
      '{"return":{}}',
      event("GUEST_PANICKED", 2, { action: "pause" }),
    ]);
    expect(report.runState).toBe("paused");
  });

  test("before 4.0 a reset or shutdown has no reason", () => {
    const report = read([greeting(2, 11), event("RESET", 1), event("SHUTDOWN", 9, { guest: true })]);
    expect(report.findings).toMatchObject([{ class: "guest-reset", trust: "possible" }]);
  });
});

describe("what is no trouble", () => {
  test("words in passing", () => {
    const report = read([
      greeting(7, 2),
      '{"execute":"human-monitor-command","arguments":{"command-line":"echo panic GUEST_PANICKED"}}',
      '{"return":"Kernel panic - not syncing: panic=30, KVM internal error. Suberror: 1\\r\\n"}',
      "the docs say: terminating on signals is fine; Guest crashed games; pvpanic",
      event("SHUTDOWN", 5, { guest: true, reason: "guest-shutdown" }),
    ]);
    expect(report.findings).toEqual([]);
    expect(report.outcome.kind).toBe("shut-down");
  });

  test("a schema that names every event", () => {
    const report = read('{"return":[{"name":"GUEST_PANICKED","meta-type":"event","arg-type":"1"}]}');
    expect(report.findings).toEqual([]);
  });
});

describe("a QEMU that could not start", () => {
  test.each([
    "qemu-system-x86_64: failed to initialize kvm: Permission denied",
    "Could not access KVM kernel module: Permission denied",
    "qemu-system-x86_64: -drive file=x.img: Could not open 'x.img': No such file or directory",
    "2024-11-26T01:02:03.000000Z qemu-kvm: -netdev user,id=a,b=c: Invalid parameter 'b'",
    "/usr/bin/qemu-system-ppc64: -serial tcp::4444,server: Failed to find an available port: Address already in use",
    "qemu-system-aarch64: could not load kernel 'Image'",
    "qemu-system-x86_64: unsupported machine type",
    "web qemu-system-x86_64: -nosuch: invalid option",
  ])("%s", (line) => {
    const report = read([line]);
    expect(classes(report)).toEqual(["start-failed"]);
    expect(report.findings[0]).toMatchObject({ side: "host", details: { early: true } });
  });

  test("several lines of one start, and its exit status, are one finding", () => {
    const report = read([
      "Could not access KVM kernel module: Permission denied",
      "qemu-system-x86_64: failed to initialize kvm: Permission denied",
      '{"t": 0.2, "exit": 1}',
    ]);
    expect(classes(report)).toEqual(["start-failed"]);
    expect(report.findings[0]!.title).toContain("Could not access KVM kernel module");
  });

  test.each<[string, string[]]>([
    ["a warning", ["qemu-system-x86_64: warning: host doesn't support requested feature"]],
    [
      "a warning of an option",
      ["qemu-system-x86_64: -device pvpanic: warning: old", "qemu-kvm: -chardev x: info: y"],
    ],
    ["what it said otherwise", ["qemu-system-x86_64: virtio: bogus descriptor or out of resources"]],
    [
      "another accelerator",
      ["qemu-kvm: failed to initialize kvm: Permission denied", "qemu-kvm: falling back to tcg"],
    ],
    ["a start that went on", ["qemu-kvm: -drive file=x: Could not open 'x': no", greeting(8, 2)]],
    ["a machine that runs", [event("RESUME", 1), "qemu-kvm: Could not open 'x': No such file"]],
    ["another program", ["curl: failed to initialize kvm: Permission denied", "x -drive: Could not open"]],
  ])("not %s", (_, lines) => expect(classes(read(lines))).toEqual([]));

  test("stopped by a signal, it ran", () => {
    expect(
      classes(
        read([
          "qemu-kvm: -drive file=x: Could not open 'x': no",
          "qemu-kvm: terminating on signal 15 from pid 1 (timeout)",
        ]),
      ),
    ).toEqual(["stopped-by-policy"]);
  });
});
