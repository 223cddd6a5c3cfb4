import { describe, expect, test } from "vitest";
import { QmpDetector } from "../src/triage/qmp/detector.ts";
import type { QmpReport } from "../src/triage/qmp/report.ts";

function read(text: string | readonly string[], cmdline?: string): QmpReport {
  const detector = new QmpDetector({ source: "log", cmdline });
  detector.push(Buffer.from(typeof text === "string" ? text : `${text.join("\n")}\n`));
  return detector.end();
}
const classes = ({ findings }: QmpReport) => findings.map((finding) => finding.class);

const PANICKED =
  '{"timestamp": {"seconds": 1700000010, "microseconds": 5}, "event": "GUEST_PANICKED", "data": {"action": "pause"}}';
const STOP = '{"timestamp": {"seconds": 1700000010, "microseconds": 9}, "event": "STOP"}';

describe("forms of a QMP log", () => {
  test.each([
    ["one a line", `${PANICKED}\r\n${STOP}\r\n`],
    ["concatenated", PANICKED + STOP],
    ["pretty-printed", [PANICKED, STOP].map((text) => JSON.stringify(JSON.parse(text), null, 4)).join("\n")],
    ["with a byte order mark", `\ufeff${PANICKED}\n${STOP}`],
    ["with time stamps before", `12:01:02.000001 ${PANICKED}\n[   4.5] ${STOP}\n`],
    ["in quoted mail", `> ${PANICKED}\n> ${STOP}\n`],
    [
      "of strace",
      `1700000010.1 read(12, "${`${PANICKED}\r\n${STOP}\r\n`.replaceAll('"', '\\"').replaceAll("\r\n", "\\r\\n")}", 4096) = 190\n`,
    ],
    ["in a transcript", [PANICKED, STOP].map((text) => `{"t": 1.5, "dir": "<", "msg": ${text}}`).join("\n")],
    [
      "in a logger's JSON",
      [PANICKED, STOP]
        .map((text) =>
          JSON.stringify({
            component: "virt-launcher",
            msg: `QEMU_MONITOR_RECV_EVENT: mon=0x7faa8801f5d0 event=${text}`,
          }),
        )
        .join("\n"),
    ],
    [
      "in libvirt's debug log, twice",
      [PANICKED, STOP]
        .flatMap((text) => [
          `2023-11-14 22:13:30.000+0000: 71: info : qemuMonitorIOProcess:350 : QEMU_MONITOR_IO_PROCESS: mon=0x7f1 buf=${text}\r`,
          " len=113",
          `2023-11-14 22:13:30.000+0000: 71: info : qemuMonitorJSONIOProcessLine:234 : QEMU_MONITOR_RECV_EVENT: mon=0x7f1 event=${text}`,
        ])
        .join("\n"),
    ],
  ])("%s", (_name, text) => {
    const report = read(text);
    expect(report.findings).toMatchObject([
      { class: "guest-panicked", at: { wall: 1_700_000_010_000.005 }, details: { count: 1 } },
    ]);
    expect(report.runState).toBe("guest-panicked");
    expect(report.damage).toEqual([]);
  });

  test("a message cut off does not swallow the next", () => {
    for (const cut of [
      '{"event": "STO',
      '{"timestamp": {"seconds": 17',
      '{"a": [1, 2',
      '{"timestamp": {"seconds": 1},',
    ]) {
      const report = read([cut, PANICKED]);
      expect(classes(report), cut).toEqual(["guest-panicked"]);
      expect(report.damage, cut).toMatchObject([{ count: 1, line: 1 }]);
    }
  });

  test("machines of one log are kept apart by their monitors", () => {
    const line = (mon: string, text: string) => `QEMU_MONITOR_RECV_EVENT: mon=${mon} event=${text}`;
    const report = read([line("0x1", STOP), line("0x2", PANICKED)]);
    expect(report.guests.map(({ name, outcome }) => [name, outcome.kind])).toEqual([
      ["0x1", "host-stop"],
      ["0x2", "guest-panicked"],
    ]);
    expect(report.outcome.kind).toBe("guest-panicked");
  });
});

describe("virsh", () => {
  test("qemu-monitor-event, plain and pretty, new and old", () => {
    for (const text of [
      `event GUEST_PANICKED at 1700000010.000005 for domain 'web1': {"action":"pause"}`,
      `2023-11-14 22:13:30.000+0000: event GUEST_PANICKED for domain 'web1': {\n  "action": "pause"\n}`,
      `event GUEST_PANICKED at 1700000010.000005 for domain web1: {"action":"pause"}`,
    ]) {
      const report = read(`${text}\nevent STOP at 1700000010.1 for domain 'web1'\nevents received: 2\n`);
      expect(report.guests[0]).toMatchObject({ name: "web1", outcome: { kind: "guest-panicked" } });
      expect(report.findings[0]!.at!.wall).toBeCloseTo(1_700_000_010_000, -1);
    }
  });

  test("event", () => {
    expect(classes(read("event 'lifecycle' for domain 'web1': Crashed Panicked"))).toEqual([
      "guest-panicked",
    ]);
    expect(classes(read("event 'lifecycle' for domain web1: Crashed Crashloaded"))).toEqual(["crash-loaded"]);
    expect(read("event 'lifecycle' for domain 'it's': Crashed Panicked").guests).toMatchObject([
      { name: "it's" },
    ]);
    expect(classes(read("event 'lifecycle' for domain 'web1': Stopped Shutdown"))).toEqual([]);
    expect(classes(read("event 'lifecycle' for domain 'web1': Stopped Destroyed"))).toEqual([
      "stopped-by-policy",
    ]);
    expect(classes(read("event 'lifecycle' for domain 'web1': Stopped Crashed"))).toEqual(["qemu-abort"]);
    expect(classes(read("event 'watchdog' for domain 'web1': poweroff"))).toEqual(["watchdog"]);
  });

  test("an I/O error is one, however many events tell of it", () => {
    const of = (kind: string, rest: string) => `event '${kind}' for domain 'web1': ${rest}\n`;
    const pair = [
      of("io-error", "/img/a b (virtio-disk0) pause"),
      of("io-error-reason", "/img/a b (virtio-disk0) pause due to enospc"),
    ];
    const [found, ...others] = read(`${pair.join("")}${of("lifecycle", "Suspended I/O error")}`).findings;
    expect(others).toEqual([]);
    expect(found).toMatchObject({
      class: "io-error",
      severity: "hang",
      details: { disk: "virtio-disk0", action: "stop" },
    });
    expect(read(pair[1]!).findings[0]!.title).toContain("no space is left");
    // Two errors of one kind are two.
    expect(read(`${pair[0]}${pair[0]}`).findings[0]!.title).toContain("2 times");
    expect(read(of("io-error", "/img/a () report")).findings).toMatchObject([
      { severity: "warning", details: { disk: "/img/a" } },
    ]);
    expect(read("event 'io-error' for domain 'web1': what ever\n").guests).toEqual([]);
  });
});

describe("libvirt's domain log and QEMU's standard error", () => {
  const START = [
    "2024-09-30 16:30:01.000+0000: starting up libvirt version: 9.0.0, package: 4 (Debian), qemu version: 7.2.11Debian 1:7.2, kernel: 6.1.0, hostname: h",
    "LC_ALL=C \\",
    "PATH=/usr/bin \\",
    "/usr/bin/qemu-system-x86_64 \\",
    "-name guest=win11,debug-threads=on \\",
    "-machine pc-q35-7.2,usb=off \\",
    `-device '{"driver":"pvpanic","ioport":1285}' \\`,
    "-no-shutdown \\",
    "-msg timestamp=on",
  ];

  test("a Windows STOP, then destroyed by on_crash", () => {
    const report = read([
      ...START,
      "2024-09-30 16:30:49.506+0000: panic hyper-v: arg1='0x5a', arg2='0x1', arg3='0x2', arg4='0x3', arg5='0x4'",
      "2024-09-30 16:30:50.000+0000: shutting down, reason=crashed",
    ]);
    expect(report).toMatchObject({
      version: { major: 7, minor: 2, micro: 11 },
      libvirt: "9.0.0",
      machine: "pc-q35-7.2",
      commandLine: { guest: "win11", panicDevices: ["pvpanic"], noShutdown: true },
      policy: { onCrash: "destroy", noShutdown: true },
      runState: "exited",
    });
    expect(report.findings).toMatchObject([
      { class: "guest-panicked", title: "Windows STOP 0x0000005A CRITICAL_SERVICE_FAILED" },
    ]);
    expect(report.findings[0]!.at).toEqual({ wall: Date.UTC(2024, 8, 30, 16, 30, 49, 506) });
  });

  test("s390, with the PSW", () => {
    const report = read(
      "2024-08-28 06:56:35.430+0000: panic s390: core='0' psw-mask='0x0002000180000000' psw-addr='0x00000387b028c67e' reason='disabled-wait'",
    );
    expect(report.findings[0]!.details).toMatchObject({
      info: {
        core: 0,
        pswMask: "0x0002000180000000",
        pswAddress: "0x00000387b028c67e",
        reason: "disabled-wait",
      },
    });
  });

  test.each([
    [
      "2018-11-23T23:37:57.946548Z qemu-system-x86_64: terminating on signal 15 from pid 2093 (/usr/sbin/libvirtd)",
      "stopped-by-policy",
    ],
    ["2018-11-23 23:37:59.352+0000: shutting down, reason=destroyed", "stopped-by-policy"],
    ["2020-04-27 11:57:11.805+0000: shutting down, reason=failed", "start-failed"],
    ["2019-06-17 09:25:09.160+0000: shutting down, reason=crashed", "qemu-abort"],
    [
      "qemu-system-x86_64: /var/tmp/qemu-4.0.0/hw/usb/core.c:720: usb_ep_get: Assertion `dev != NULL' failed.",
      "qemu-abort",
    ],
    [
      "Code=kvm: /build/pve-qemu/cpu.h:660: cpu_asidx_from_attrs: Assertion `ret < cpu->num_ases && ret >= 0' failed.",
      "qemu-abort",
    ],
    ["qemu-system-x86_64: invalid runstate transition: 'guest-panicked' -> 'paused'", "qemu-abort"],
    ["ERROR: invalid runstate transition: 'paused' -> 'guest-panicked'", "qemu-abort"],
    ["Nov 26 07:00:00 host QEMU[1071]: KVM internal error. Suberror: 1", "internal-error"],
    ["KVM: entry failed, hardware error 0x80000021", "internal-error"],
    ["error: kvm run failed Bad address", "internal-error"],
    ["[12.5] Out of memory: Killed process 4711 (qemu-system-x86) total-vm:1kB", "qemu-killed"],
    ["[12.5] qemu-system-x86[4711]: segfault at 8 ip 000055 sp 00007f error 4 in qemu", "qemu-abort"],
    ["qemu-system-ppc64: OS terminated: OS panic: sysrq triggered crash", "guest-panicked"],
    ["Guest crashed on cpu 0: disabled-wait\nPSW: 0x0002000180000000 0x000000000010fdee", "guest-panicked"],
    ["Guest crashed\nHV crash parameters: (0x7e 0xffffffffc0000005 0x1 0 0x4)", "guest-panicked"],
    ["Guest crash loaded", "crash-loaded"],
    ["qemu-system-x86_64: load of migration failed: Operation not permitted", "start-failed"],
    ["(qemu) VM status: paused (guest-panicked)", "guest-panicked"],
    ["(qemu) VM status: running", undefined],
    ["crashed (panicked)", "guest-panicked"],
  ])("%s", (text, expected) => {
    const report = read(text);
    expect(classes(report)).toEqual(expected === undefined ? [] : [expected]);
    expect(report.guests).toHaveLength(1);
  });

  test("libvirt's word that it crashed is no second finding", () => {
    const report = read([
      ...START,
      "KVM internal error. Suberror: 1",
      "2024-09-30 17:00:00.000+0000: shutting down, reason=crashed",
    ]);
    expect(classes(report)).toEqual(["internal-error"]);
  });

  test("a second start is a second run", () => {
    const report = read([
      ...START,
      "2024-09-30 17:00:00.000+0000: shutting down, reason=crashed",
      ...START.map((line) => line.replace("16:30", "18:30")),
      "2024-09-30 19:00:00.000+0000: shutting down, reason=shutdown",
    ]);
    expect(report.runs).toBe(2);
    expect(report.findings).toMatchObject([{ class: "qemu-abort", details: { run: 1 } }]);
  });
});

describe("traces of I/O ports", () => {
  test.each([
    ["qemu-kvm-1234 [001] d..1 77.5: kvm_pio: pio_write at 0x505 size 1 count 1 val 0x1", "guest-panicked"],
    ["qemu-kvm-1234 [001] d..1 77.5: kvm_pio: pio_write at 0x505 size 1 count 1 val 0x3", "guest-panicked"],
    ["qemu-kvm-1234 [001] d..1 77.5: kvm_pio: pio_write at 0x505 size 1 count 1 val 0x2", "crash-loaded"],
    ["cpu_out addr 0x505(b) value 1", "guest-panicked"],
    [
      "7@1700000000.5:memory_region_ops_write cpu 0 mr 0x55d addr 0x505 value 0x1 size 1 name 'pvpanic'",
      "guest-panicked",
    ],
    [
      "memory_region_ops_write cpu 1 mr 0x55d addr 0xfebf1000 value 0x2 size 1 name 'pvpanic-pci'",
      "crash-loaded",
    ],
    ["qemu-kvm-1234 [001] d..1 77.5: kvm_pio: pio_read at 0x505 size 1 count 1 val 0x3", undefined],
    ["cpu_out addr 0x3f8(b) value 1", undefined],
    ["cpu_out addr 0x505(w) value 1", undefined],
    ["memory_region_ops_write cpu 0 mr 0x1 addr 0x505 value 0x1 size 1 name 'serial'", undefined],
  ])("%s", (line, expected) => {
    expect(classes(read(line))).toEqual(expected === undefined ? [] : [expected]);
  });

  test("qemucalls, in both readings of PORT+1", () => {
    const out = (port: number, value: number) => `cpu_out addr 0x${port.toString(16)}(l) value ${value}`;
    const call = [{ index: 9n, arguments: [7n, 8n] }];
    expect(read([out(0x506, 7), out(0x507, 8), out(0x505, 9)]).qemucalls).toEqual(call);
    expect(read([out(0x509, 7), out(0x50d, 8), out(0x505, 9)]).qemucalls).toEqual(call);
    expect(read([out(0x509, 7), out(0x505, 9), out(0x505, 3)]).qemucalls).toEqual([
      { index: 9n, arguments: [7n] },
      { index: 3n, arguments: [] },
    ]);
  });
});
