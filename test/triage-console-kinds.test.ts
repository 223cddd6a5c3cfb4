import { expect, test } from "vitest";
import { detect, KernelLog, kinds, titles } from "./support/triage-console.ts";

const log = (): KernelLog => new KernelLog().boot();

test("an exception before there is a console driver is the end of the kernel", () => {
  const early = "PANIC: early exception 0x0e IP 10:ffffffff81a3c2f1 error 0 cr2 0xffff888000000000";
  expect(kinds(detect(`${log().say(early)}`))).toEqual(["trap/panic"]);
  expect(kinds(detect(`${log().say("PANIC: early exceptions are rare")}`))).toEqual([]);
});

test("a kernel in its debugger hangs, unless it goes on", () => {
  const text = () =>
    log()
      .say("sysrq: DEBUG")
      .print(
        "Entering kdb (current=0xffff888003640000, pid 1) on processor 0 due to Keyboard Entry",
        "kdb> ",
      );
  expect(detect(`${text()}`).findings).toMatchObject([{ class: "debugger", severity: "hang" }]);
  expect(detect(`${text()}`).findings[0]!.survived).toBeUndefined();
  const lives = text().say("usb 1-1: a", "usb 1-1: b", "usb 1-1: c");
  expect(detect(`${lives}`).findings).toMatchObject([{ class: "debugger", survived: true }]);
});

test("locks still held, OpenSBI's traps, illumos", () => {
  expect(kinds(detect(`${log().say("WARNING: cat/345 still has locks held!")}`))).toEqual([
    "lockdep/warning",
  ]);
  expect(kinds(detect("sbi_trap_error: hart0: trap0: load fault handler failed (error -2)\n"))).toEqual([
    "firmware-crash/panic",
  ]);
  const panic = "panic[cpu0]/thread=fffffe00077b5c40: BAD TRAP: type=e (#pf Page fault)";
  expect(titles(detect(`${panic}\n`))).toEqual(["panic: BAD TRAP: type=e (#pf Page fault)"]);
});

test.each([
  ["XFS (vda1): Corruption of in-memory data detected.  Shutting down filesystem", "guest"],
  ["EXT4-fs (vda1): Remounting filesystem read-only", "guest"],
  ["BTRFS info (device vda1 state E): forced readonly", "guest"],
  ["XFS (vda1): Log I/O Error Detected.  Shutting down filesystem", "hardware"],
])("%s: a file system that failed", (line, side) => {
  const { findings } = detect(`${log().say(line)}`);
  expect(findings).toMatchObject([{ class: "filesystem", severity: "warning", side }]);
});

test("a file system that is mounted again is none", () => {
  expect(kinds(detect(`${log().say("EXT4-fs (vda1): re-mounted 1234 ro.")}`))).toEqual([]);
});
