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

const trace = (...frames: string[]): string[] => [
  "Call Trace:",
  " <TASK>",
  ...frames.map((name) => ` ${name}+0x5b/0x90`),
];
const ENTRY = ["do_syscall_64", "entry_SYSCALL_64_after_hwframe"];

test("what counts references says what is wrong", () => {
  const text = log().say(
    "------------[ cut here ]------------",
    "refcount_t: underflow; use-after-free.",
    "WARNING: CPU: 1 PID: 345 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110",
    "RIP: 0010:refcount_warn_saturate+0xba/0x110",
    ...trace("foo_read", ...ENTRY),
  );
  expect(titles(detect(`${text}`))).toEqual(["refcount_t: underflow; use-after-free in foo_read"]);
  const others = log().say("refcount_t: underflow; use-after-free.").say("a", "b", "c", "d", "e", "f");
  const warn = others.say("WARNING: CPU: 1 PID: 345 at mm/foo.c:28 bar+0xba/0x110");
  expect(titles(detect(`${warn}`))).toEqual(["WARNING in bar"]);
});

test("the way into the kernel is not to blame", () => {
  const warning = "WARNING: CPU: 1 PID: 345 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110";
  expect(titles(detect(`${log().say(warning, ...trace(...ENTRY))}`))).toEqual([
    "WARNING in refcount_warn_saturate",
  ]);
  const stall = log().say("BUG: scheduling while atomic: init/1/0x2", ...trace("invoke_syscall", "el0_svc"));
  expect(detect(`${stall}`).findings[0]!.details!.guilty).toBeNull();
  const own = log().say("BUG: scheduling while atomic: init/1/0x2", ...trace("foo_wait", ...ENTRY));
  expect(detect(`${own}`).findings[0]!.details!.guilty).toBe("foo_wait");
});

test("a panic for want of memory keeps its reason", () => {
  const reason = "Out of memory: system-wide panic_on_oom is enabled";
  const invoked = "dd invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0";
  for (const text of [log().panic(reason), log().say(invoked).panic(reason)]) {
    expect(detect(`${text}`).findings).toMatchObject([{ class: "oom", details: { panic: reason } }]);
  }
  expect(titles(detect(`${log().panic(reason)}`))).toEqual([`Kernel panic - not syncing: ${reason}`]);
});
