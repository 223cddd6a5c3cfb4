import { expect, test } from "vitest";
import { detect, KernelLog, kinds } from "./support/triage-console.ts";

const running = (): KernelLog => new KernelLog().boot().later(20).say("usb 1-1: new device", "eth0: link up");

test("a boot that breaks off, and another behind it", () => {
  const log = `${running()}${new KernelLog().boot()}${new KernelLog().at(9).say("reboot: Power down")}`;
  const { findings } = detect(log);
  expect(kinds(detect(log))).toEqual(["silent-reset/warning"]);
  expect(findings[0]).toMatchObject({
    trust: "possible",
    side: "unknown",
    survived: false,
    evidence: [{ line: 17, text: expect.stringContaining("Linux version 6.1.0-1-amd64") }],
    details: { boot: 1, firstLine: 1, lastLine: 16, count: 1, boots: [1] },
  });
});

test("several are one finding, whatever firmware says between them", () => {
  const log = `${running()}SeaBIOS (version 1.16.2-debian)\n${running()}${new KernelLog().boot()}`;
  expect(detect(log).findings).toMatchObject([
    { title: "2 boots broke off without an end, and the machine booted anew" },
  ]);
});

test.each([
  ["the kernel says that it restarts", running().say("reboot: Restarting system")],
  ["the kernel says that it is off", running().say("reboot: Power down")],
  ["kexec", running().say("kexec_core: Starting new kernel")],
  ["sysrq-b", running().say("sysrq: Resetting")],
  ["systemd goes down", running().say("systemd-shutdown[1]: Rebooting.")],
  ["a target", running().print("[  OK  ] Reached target reboot.target - System Reboot.")],
  ["an older target", running().print("[  OK  ] Reached target Reboot.")],
  ["sysvinit", running().print("INIT: Switching to runlevel: 6")],
  ["busybox", running().print("Requesting system reboot")],
  ["kexec of old", running().say("Starting new kernel")],
  ["QEMU is told to end", running().print("QEMU: Terminated")],
  ["shutdown(8)", running().print("The system is going down for reboot NOW!")],
])("no boot broke off: %s", (_, log) => {
  expect(detect(`${log}${new KernelLog().boot()}`).findings).toEqual([]);
});

test("nor one that failed: that is told already", () => {
  for (const log of [running().oops("foo"), running().oops("foo").panic()]) {
    expect(detect(`${log}${new KernelLog().boot()}`).findings).toHaveLength(1);
  }
});

test("the first one's banner may be lost", () => {
  const log = `${new KernelLog().at(80).say("eth0: link up", "eth1: link up")}${new KernelLog().boot()}`;
  expect(kinds(detect(log))).toEqual(["silent-reset/warning"]);
  expect(detect(`${new KernelLog().at(80).say("cut")}${new KernelLog().boot()}`).findings).toEqual([]);
});

test("a journal has no last words, a log without times no boots that are sure", () => {
  const journal = `${running()}${new KernelLog().boot()}`.replaceAll(/^/gm, "Nov 26 10:00:00 vm1 kernel: ");
  expect(detect(journal.trimEnd()).findings).toEqual([]);
  const monotonic = `${running()}${new KernelLog().boot()}`.replaceAll(/^(\[.*?\]) /gm, "$1 vm1 kernel: ");
  expect(detect(monotonic).findings).toEqual([]);
  const bare = `${running()}${new KernelLog().boot()}`.replaceAll(/^\[.*?\] /gm, "");
  expect(detect(bare).findings).toEqual([]);
});

test("a crash kernel is no other boot", () => {
  const kdump = new KernelLog().boot("6.1.0-1-amd64", "elfcorehdr=0x30000000");
  expect(detect(`${running()}${kdump}`).findings).toEqual([]);
});

test("the log so far, printed again on the console that takes over from an early one", () => {
  const early = new KernelLog().boot().say("printk: bootconsole [earlyser0] enabled", "ACPI: x");
  const again = new KernelLog()
    .boot()
    .say("printk: bootconsole [earlyser0] enabled", "ACPI: x", "printk: legacy console [ttyS0] enabled")
    .say("printk: legacy bootconsole [earlyser0] disabled", "reboot: Power down");
  expect(detect(`${early}${again}`).findings).toEqual([]);
  // Two boots that both came so far are two.
  expect(kinds(detect(`${new KernelLog().boot().say("bootconsole [uart0] disabled", "x")}${again}`))).toEqual(
    ["silent-reset/warning"],
  );
});
