import { describe, expect, test } from "vitest";
import { detect, KernelLog, kinds, titles } from "./support/triage-console.ts";

const log = (): KernelLog => new KernelLog().boot();

describe("incidents", () => {
  test("an oops and the panic that comes of it are one", () => {
    const { findings } = detect(`${log().oops("foo_write").panic()}`);
    expect(findings).toMatchObject([
      {
        rule: "console/linux/null-deref",
        class: "null-deref",
        severity: "panic",
        survived: false,
        title: "BUG: kernel NULL pointer dereference in foo_write",
        details: {
          cpu: 1,
          pid: 121,
          comm: "init",
          kernel: "6.1.0-1-amd64",
          panic: "Fatal exception",
          guilty: "foo_write",
          frames: ["vfs_write", "ksys_write"],
        },
      },
    ]);
  });

  test("an oops that the kernel goes on after", () => {
    const report = detect(
      `${log().oops("foo").later(1).say("usb 1-1: new device").say("reboot: Power down")}`,
    );
    expect(report.findings).toMatchObject([{ severity: "oops", survived: true }]);
    expect(report.boots).toMatchObject([{ end: "power-down" }]);
  });

  test("an oops at the very end of a log: nobody knows", () => {
    expect(detect(`${log().oops("foo")}`).findings[0]!.survived).toBeUndefined();
  });

  test("a panic minutes later is another", () => {
    const text = log().oops("foo").later(400).say("usb 1-1: new device").panic("sysrq triggered crash");
    expect(kinds(detect(`${text}`))).toEqual(["null-deref/oops", "panic/panic"]);
  });

  test("a warning, and an oops later, which panics", () => {
    const text = log()
      .say("------------[ cut here ]------------", "WARNING: CPU: 0 PID: 1 at mm/page.c:12 bar+0x1/0x2")
      .say("---[ end trace 0000000000000000 ]---")
      .later(1)
      .oops("foo")
      .panic();
    expect(titles(detect(`${text}`))).toEqual([
      "WARNING in bar",
      "BUG: kernel NULL pointer dereference in foo",
    ]);
    expect(kinds(detect(`${text}`))).toEqual(["warning/warning", "null-deref/panic"]);
  });

  test("panic_on_warn is the end of the warning", () => {
    const text = log()
      .say("WARNING: CPU: 0 PID: 1 at mm/page.c:12 bar+0x1/0x2", "Call Trace:", " baz+0x1/0x2")
      .panic("kernel: panic_on_warn set ...");
    expect(kinds(detect(`${text}`))).toEqual(["warning/panic"]);
  });

  test("the same warning again is counted", () => {
    const warn = (text: KernelLog) =>
      text
        .say("WARNING: CPU: 0 PID: 1 at mm/page.c:12 bar+0x1/0x2", "Call Trace:", " baz+0x1/0x2")
        .say("---[ end trace 0000000000000000 ]---")
        .later(10);
    const { findings } = detect(`${warn(warn(warn(log())))}`);
    expect(findings).toMatchObject([{ details: { count: 3 } }]);
  });

  test("two CPUs that print at once are told apart by their callers", () => {
    const a = new KernelLog(5, "T10").oops("foo_a", "a").toString().split("\n");
    const b = new KernelLog(5, "T20").oops("foo_b", "b").toString().split("\n");
    const mixed = a.flatMap((line, i) => [line, b[i]!]).join("\n");
    const { findings } = detect(`${log()}${mixed}`);
    expect(findings.map(({ details }) => [details!.guilty, details!.comm])).toEqual([
      ["foo_a", "a"],
      ["foo_b", "b"],
    ]);
  });

  test("the signature does not know addresses, CPUs, PIDs and times", () => {
    const [a] = detect(`${log().oops("foo.isra.0", "a")}`).findings;
    const [b] = detect(`${log().later(77).oops("foo", "b").panic()}`).findings;
    expect(a!.signature).toMatch(/^[0-9a-f]{16}$/);
    expect(a!.signature).toBe(b!.signature);
    expect(detect(`${log().oops("other")}`).findings[0]!.signature).not.toBe(a!.signature);
  });

  test("an OOM kill and the panic after it", () => {
    const text = log()
      .say("dd invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0")
      .say("Out of memory: Killed process 119 (dd) total-vm:3284kB")
      .panic("System is deadlocked on memory");
    expect(kinds(detect(`${text}`))).toEqual(["oom/panic"]);
  });

  test("two CPUs in one line", () => {
    const text = "[    9.000000] usb 1-1: new[    9.000100] Kernel panic - not syncing: Fatal exception\n";
    expect(kinds(detect(`${log()}${text}`))).toEqual(["panic/panic"]);
    const quoted =
      "[    9.000000] init: it said: [    9.000000] Kernel panic - not syncing: Fatal exception\n";
    expect(kinds(detect(`${log()}${quoted}`))).toEqual([]);
  });

  test("NMI backtraces are older than the lines above them", () => {
    const text = log()
      .later(20)
      .say("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "Sending NMI from CPU 1 to CPUs 0:")
      .at(4)
      .say("NMI backtrace for cpu 0", "RIP: 0010:stuck_here+0xd/0x10 [lkdtm]", "Call Trace:", " a+0x1/0x2")
      .at(30)
      .say("usb 1-1: alive", "usb 1-1: alive", "usb 1-1: alive");
    const report = detect(`${text}`);
    expect(titles(report)).toEqual(["INFO: rcu detected stall in stuck_here"]);
    expect(report.boots.length).toBe(1);
    expect(report.findings[0]!.survived).toBe(true);
  });
});

describe("boots", () => {
  test("each is judged by itself", () => {
    const text = `${log().say("reboot: Restarting system").boot("6.2.0").oops("foo").panic()}`;
    const report = detect(text);
    expect(report.boots).toMatchObject([
      { number: 1, release: "6.1.0-1-amd64", end: "restart" },
      { number: 2, release: "6.2.0", end: "panic" },
    ]);
    expect(report.findings).toMatchObject([{ severity: "panic", details: { boot: 2 } }]);
    expect(report.events.map(({ kind }) => kind)).toEqual([
      "console/boot",
      "console/shutdown",
      "console/boot",
      "console/end",
    ]);
  });

  test("a reset that nobody announced, and a panic behind it", () => {
    const text = `${log().later(20).say("usb 1-1: x").boot().oops("foo").panic()}`;
    expect(kinds(detect(text))).toEqual(["silent-reset/warning", "null-deref/panic"]);
    expect(detect(text).quoted).toBe(0);
  });

  test("the kernel that saves the memory of the one that crashed is no reboot", () => {
    const text = log().oops("foo").panic().boot("6.1.0-1-amd64", "elfcorehdr=0x7f000000 irqpoll nr_cpus=1");
    const report = detect(
      `${text.print("kdump: saving vmcore complete").later(3).say("reboot: Restarting system")}`,
    );
    expect(report.boots).toMatchObject([
      { kdump: false, end: "panic" },
      { kdump: true, end: "restart" },
    ]);
    expect(report.events.map(({ kind }) => kind)).toContain("console/kdump");
  });
});

test("boots without end have numbers of their own", () => {
  const text = new KernelLog();
  for (let i = 0; i < 300; i++) text.boot().say("reboot: Restarting system");
  const { boots } = detect(`${text.boot().panic()}`);
  expect(boots.length).toBeLessThan(150);
  expect(new Set(boots.map(({ number }) => number)).size).toBe(boots.length);
  expect(boots.at(-1)).toMatchObject({ number: 301, end: "panic" });
});

describe("words in passing", () => {
  test.each([
    ["a panic of a program", "panic: runtime error: invalid memory address or nil pointer dereference"],
    ["a database", "postgres: PANIC:  could not locate a valid checkpoint record"],
    ["another program", "Kernel panic - not syncing: is what people fear"],
    ["an oops of a web page", "ERROR: Oops, something went wrong"],
    ["Java", "java.lang.OutOfMemoryError: Out of memory: x"],
    ["a quotation", 'echo "Kernel panic - not syncing: Fatal exception"'],
    ["a listing", "Jan  2 03:04:05 host kernel: Kernel panic - not syncing: Fatal exception"],
    [
      "a program's log",
      "Jan  2 03:04:05 host systemd-pstore[12]: Kernel panic - not syncing: Fatal exception",
    ],
  ])("%s", (_, line) => {
    expect(kinds(detect(`${log().print(line).say("usb 1-1: x")}`))).toEqual([]);
  });

  test("an old log without its beginning, printed into this one", () => {
    const old = new KernelLog(3).oops("foo").panic();
    const report = detect(
      `${log().later(20).say("usb 1-1: x")}${old}${new KernelLog(25).say("usb 1-1: y", "usb 1-1: z")}`,
    );
    expect(kinds(report)).toEqual([]);
    expect(report.quoted).toBe(1);
  });

  test("an old log behind a prefix", () => {
    const old = new KernelLog(3).oops("foo").panic().toString().replace(/^/gm, "old: ");
    expect(kinds(detect(`${log().later(20).say("usb 1-1: x")}${old}`))).toEqual([]);
  });

  test("BSD's panic needs BSD, or what comes behind it", () => {
    expect(kinds(detect("booting\npanic: ffs_blkfree\ncpuid = 1\nKDB: stack backtrace:\n"))).toEqual([
      "panic/panic",
    ]);
    expect(kinds(detect("FreeBSD 13.1-RELEASE GENERIC amd64\npanic: ffs_blkfree\n"))).toEqual([
      "panic/panic",
    ]);
    expect(kinds(detect("booting\npanic: ffs_blkfree\ngoroutine 1 [running]:\n"))).toEqual([]);
  });
});

describe("what stands in front of a message", () => {
  const line = "Kernel panic - not syncing: Fatal exception";
  test.each([
    `[   12.345678] ${line}`,
    `[   12.345678][  T123] ${line}`,
    `[   12.345678] [    C1] ${line}`,
    `<0>[   12.345678] ${line}`,
    `<0>${line}`,
    `Jan  2 03:04:05 host kernel: [   12.345678] ${line}`,
    `Jan 12 03:04:05 host kernel: ${line}`,
    `2024-01-02T03:04:05.678901+00:00 host kernel: ${line}`,
    `2024-01-02T03:04:05.678Z [   12.345678] ${line}`,
    `2024-01-02 03:04:05.678+0000: ${line}`,
    `[Tue Jan  2 03:04:05 2024] ${line}`,
    `kern  :emerg : [   12.345678] ${line}`,
    `kernel: ${line}`,
    `debian login: [   12.345678] ${line}`,
    `debian login: ${line}`,
    `[  OK  ] Started foo.service.[   12.345678] ${line}`,
    `[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mfoo\x1b[0m.\r[   12.345678] ${line}`,
    `\x1b[2J\x1b[01;01H[   12.345678] ${line}`,
    `\x1bc\x1b[?7l\x1b[2J${line}`,
    `\0\0\0[   12.345678] ${line}\r`,
    `** 12 printk messages dropped ** [   12.345678] ${line}`,
    `Kernel \0panic - not syncing: Fatal exception`,
  ])("%j", (text) => {
    expect(titles(detect(`${text}\n`))).toEqual([line]);
  });

  test("the time of a logger that has a zone", () => {
    const [finding] = detect(`2024-01-02T03:04:05.678Z [   12.345678] ${line}\n`).findings;
    expect(finding!.at).toEqual({ uptime: 12.345678, wall: Date.UTC(2024, 0, 2, 3, 4, 5, 678) });
  });

  test("text of guests is UTF-8", () => {
    const [finding] = detect("Kernel panic - not syncing: größer\n").findings;
    expect(finding!.details!.panic).toBe("größer");
  });
});

describe("garbled", () => {
  test.each([
    ["kernel panic - not syncing: Attempted to kill init!", "panic/panic"],
    ["Kernel pannic - not syncing: VFS: Unable to mount root fs", "panic/panic"],
    ["[    1.2345] Kernel paniic - ot syncing: VFS", "panic/panic"],
    ["BU: unable to handle kernel NULL pointer dereference at 00000018", "null-deref/oops"],
  ])("%s", (text, kind) => {
    const report = detect(`${text}\n`);
    expect(kinds(report)).toEqual([kind]);
    expect(report.findings[0]!.trust).not.toBe("certain");
  });
});

describe("userland that does not come up", () => {
  test.each([
    ["[   12.345678] systemd[1]: Freezing execution.", "init-failure/hang"],
    ["You are in emergency mode. After logging in, type", "emergency-mode/hang"],
    [
      "[  OK  ] \rdracut-initqueue[321]: Warning: dracut-initqueue timeout - starting timeout scripts",
      "boot-failure/warning",
    ],
    ["No bootable device.", "boot-failure/hang"],
    [
      "!!!! X64 Exception Type - 0D(#GP - General Protection)  CPU Apic ID - 00000000 !!!!",
      "firmware-crash/panic",
    ],
    ["(XEN) Panic on CPU 0:", "hypervisor-crash/panic"],
    ["*** STOP: 0x0000007B (0xF78D2524,0xC0000034,0x00000000,0x00000000)", "bugcheck/panic"],
  ])("%s", (text, kind) => {
    expect(kinds(detect(`${text}\n`))).toEqual([kind]);
  });
});
