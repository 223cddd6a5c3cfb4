import { describe, expect, test } from "vitest";
import { detect, KernelLog, kinds } from "./support/triage-console.ts";

const log = (): KernelLog => new KernelLog().boot();

/** What pstore kept of a boot that began at `time`, as it is printed. */
const saved = (time: number, level = "<0>"): string[] => [
  "Panic#1 Part1",
  `${level}${KernelLog.stamp(time)}sysrq: Trigger a crash`,
  `${level}${KernelLog.stamp(time + 0.1)}Kernel panic - not syncing: sysrq triggered crash`,
  `${level}${KernelLog.stamp(time + 0.2)}CPU: 0 PID: 1 Comm: sh`,
];

describe("the log of the last boot, printed", () => {
  test.each([
    ["later by its clock", 100, "<0>"],
    ["earlier by its clock", 1, "<0>"],
    ["later, without levels", 100, ""],
    ["earlier, without levels", 1, ""],
  ])("%s", (_, time, level) => {
    const text = log()
      .later(20)
      .say("pstore: a dump")
      .print("# cat /sys/fs/pstore/dmesg-ramoops-0", ...saved(time, level), "# echo done")
      .say("EXT4-fs (vda1): unmounting", "reboot: Power down");
    const report = detect(`${text}`);
    expect(report.findings).toEqual([]);
    expect(report.quoted).toBe(1);
    expect(report.boots).toMatchObject([{ number: 1, end: "power-down" }]);
  });

  test("and what dies behind it", () => {
    const text = log()
      .later(20)
      .print(...saved(100))
      .say("usb 1-1: a")
      .oops("foo")
      .panic();
    expect(kinds(detect(`${text}`))).toEqual(["null-deref/panic"]);
    const reset = log()
      .later(20)
      .print(...saved(100, ""))
      .boot("6.2.0")
      .panic("real");
    expect(kinds(detect(`${reset}`))).toEqual(["silent-reset/warning", "panic/panic"]);
  });

  test("levels that other lines lack are enough", () => {
    const text = log()
      .later(20)
      .print(...saved(100).slice(1))
      .say("usb 1-1: a");
    expect(kinds(detect(`${text}`))).toEqual([]);
  });

  test("a log that is itself a record, or shows all levels, is none", () => {
    expect(kinds(detect(`${saved(100).join("\n")}\n`))).toEqual(["panic/panic"]);
    expect(kinds(detect(`${[...saved(100, ""), ...saved(90, "")].join("\n")}\n`))).toEqual(["panic/panic"]);
    const levels = `${log().panic()}`.replace(/^/gm, "<4>");
    expect(kinds(detect(levels))).toEqual(["panic/panic"]);
  });
});

describe("words in passing of a short log", () => {
  const short = (): KernelLog => new KernelLog().say("Linux version 6.1.0 (a@b) (gcc 12) #1 SMP", "a");

  test("a mark has to begin the message", () => {
    for (const words of [
      "Checking for Kernel panic - not syncing: none found",
      "no Kernel panic - not syncing: ok",
    ]) {
      expect(kinds(detect(`${words}\n`))).toEqual([]);
      expect(kinds(detect(`${short().print(words)}`))).toEqual([]);
    }
    expect(kinds(detect("Kernel pannic - not syncing: x\n"))).toEqual(["panic/panic"]);
  });

  test("an old oops at a prompt, from two lines with the kernel's time on", () => {
    const old = ["# cat old", "Oops: 0002 [#1] SMP", "Kernel panic - not syncing: Fatal exception"];
    expect(kinds(detect(`${short().print(...old)}`))).toEqual([]);
    const headless = new KernelLog(5).say("usb 1-1: a", "usb 1-1: b").print(...old);
    expect(kinds(detect(`${headless}`))).toEqual([]);
    // Without any time all lines may be the kernel's.
    expect(kinds(detect(`${old.join("\n")}\n`))).toEqual(["oops/panic"]);
  });

  test("a kernel that ends in order did not die, whatever said so", () => {
    const { findings } = detect(`${short().panic().say("reboot: Power down")}`);
    expect(findings).toMatchObject([{ severity: "panic", survived: true, trust: "possible" }]);
  });

  test("what is told of the machine that began anew is not the dead kernel's", () => {
    const anew = short().later(5).panic().say("Rebooting in 1 seconds..").later(60).say("reboot: Power down");
    expect(detect(`${anew}`).findings).toMatchObject([{ survived: false, trust: "certain" }]);
    const kdump = short().later(50).panic().at(4).say("reboot: Restarting system");
    expect(detect(`${kdump}`).findings).toMatchObject([{ survived: false, trust: "certain" }]);
  });
});

describe("a log that somebody prints with the banner of its boot", () => {
  const boot = `${new KernelLog().boot().later(9).say("a", "b")}`;
  const panicked = `${new KernelLog().boot().oops("foo_write").panic()}`;
  const oopsed = `${new KernelLog().boot().oops("foo_write")}`;
  const later = `${new KernelLog(50).say("e1000: up", "EXT4-fs: mounted")}`;

  test.each([
    ["a panic, and the shell asks again", `root@vm1:~# cat old.log\n${panicked}root@vm1:~# \n`],
    ["a panic, and nothing else", `root@vm1:~# zcat old.log.gz\n${panicked}`],
    ["a panic, and an orderly end", `${panicked}${new KernelLog(50).say("reboot: Power down")}`],
    ["an oops, and the kernel goes on", `/ # cat old.log\n${oopsed}/ # \n${later}`],
    ["an oops, and the clock goes on", `[root@vm1 tmp]# dmesg\n${oopsed}${later}`],
  ])("%s: none of this boot's", (_, log) => {
    const report = detect(boot + log);
    expect(report.findings).toEqual([]);
    expect(report.quoted).toBe(1);
    expect(report.boots).toHaveLength(1);
  });

  test.each([
    ["a command that prints no log", `root@vm1:~# ./crash.sh\n${panicked}`, "null-deref/panic"],
    [
      "lines of the kernel between",
      `root@vm1:~# cat x\n${new KernelLog(20).say("c")}${panicked}`,
      "null-deref/panic",
    ],
    ["words, no prompt", `it says cat old.log\n${panicked}`, "null-deref/panic"],
    ["an oops of the next boot", `${oopsed}${later}`, "null-deref/oops"],
    ["firmware between", `root@vm1:~# cat x\nSeaBIOS (version 1.16)\n${panicked}`, "null-deref/panic"],
  ])("%s: another boot", (_, log, expected) => {
    expect(kinds(detect(boot + log))).toEqual(["silent-reset/warning", expected]);
  });

  test("a shell's panic of its own behind such a log counts", () => {
    const log = `${boot}root@vm1:~# cat old.log\n${panicked}root@vm1:~# ./crash\n`;
    const own = `${new KernelLog(60).oops("bar_read").panic()}`;
    expect(detect(log + own).findings).toMatchObject([
      { severity: "panic", details: { guilty: "bar_read" } },
    ]);
  });
});
