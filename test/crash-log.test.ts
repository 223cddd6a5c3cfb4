import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { InterruptedError } from "../src/core/errors.ts";
import { findCrash } from "../src/kernel/crash-log.ts";
import { CRASH_MARKS } from "../src/kernel/crash-marks.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { buildKdump } from "./synth/kdump.ts";
import { note } from "./synth/notes.ts";
import { ringLog } from "./synth/printk.ts";

/** A log of `seconds text` lines. */
const log = (...lines: string[]) =>
  lines.map((line, sequence) => {
    const space = line.indexOf(" ");
    const time = BigInt(Math.round(Number(line.slice(0, space)) * 1e6)) * 1000n;
    return { sequence, time, level: 6, text: line.slice(space + 1) };
  });
const BOOT = ["0 Linux version 6.1.0-56-amd64", "0 Command line: oops=panic panic=30 softlockup_panic=1"];
/** Index behind the boot messages, and title. */
const found = async (...lines: string[]) => {
  const crash = await findCrash(log(...BOOT, ...lines));
  return crash && [crash.index - BOOT.length, crash.title];
};

const TRACE = [
  "3.7 CPU: 0 PID: 121 Comm: init Tainted: G           OE      6.1.0-56-amd64 #1  Debian 6.1.192-2",
  "3.7 Call Trace:",
  "3.7  <TASK>",
  "3.7  do_syscall_64+0x5d/0xb0",
];
const OOPS = [
  "3.704 BUG: kernel NULL pointer dereference, address: 0000000000000000",
  "3.704 #PF: supervisor write access in kernel mode",
  "3.705 Oops: 0002 [#1] PREEMPT SMP NOPTI",
  ...TRACE,
  "3.73 ---[ end trace 0000000000000000 ]---",
  "3.731 RIP: 0010:lkdtm_EXCEPTION+0xc/0x20 [lkdtm]",
];
const WARNING = [
  "1.1 ------------[ cut here ]------------",
  "1.1 refcount_t: saturated; leaking memory.",
  "1.1 WARNING: CPU: 1 PID: 121 at lib/refcount.c:22 refcount_warn_saturate+0x51/0x110",
  "1.1 Call Trace:",
  "1.1 ---[ end trace 0000000000000000 ]---",
];

describe("a crash begins", () => {
  test("at the oops that the panic comes of", async () => {
    const title = "BUG: kernel NULL pointer dereference, address: 0000000000000000";
    expect(
      await found("3.6 lkdtm: direct entry", ...OOPS, "3.732 Kernel panic - not syncing: Fatal exception"),
    ).toEqual([1, title]);
  });

  test("at the oops, not at a warning before it", async () => {
    expect(await found(...WARNING, ...OOPS)).toEqual([5, expect.stringMatching(/^BUG: kernel NULL/)]);
    expect(await found(...OOPS, ...WARNING.map((line) => line.replace("1.1", "90")))).toEqual([
      OOPS.length,
      "WARNING: CPU: 1 PID: 121 at lib/refcount.c:22 refcount_warn_saturate+0x51/0x110",
    ]);
  });

  test("at the oops, not at what comes of it", async () => {
    const later = [
      "3.8 BUG: scheduling while atomic: init/121/0x00000002",
      ...TRACE,
      "4.9 note: init[121] exited",
    ];
    expect(await found(...OOPS, ...later)).toEqual([0, expect.stringMatching(/^BUG: kernel NULL/)]);
    expect(await found(...OOPS, ...later.map((line) => line.replace(/^\S+/, "60")))).toEqual([
      OOPS.length,
      "BUG: scheduling while atomic: init/121/0x00000002",
    ]);
  });

  test("at the warning, where the kernel panics on it", async () => {
    const panic = "1.2 Kernel panic - not syncing: kernel: panic_on_warn set ...";
    const title = expect.stringMatching(/^WARNING: CPU: 1/);
    expect(await found(...WARNING.slice(0, -1), panic, WARNING.at(-1)!)).toEqual([0, title]);
    expect(await found(...WARNING, panic)).toEqual([0, title]);
  });

  test("at sysrq's message, whatever else was before", async () => {
    const lines = ["66.0 sh (1): drop_caches: 3", "67.4 sysrq: Trigger a crash", "67.4 Kernel panic - not syncing: sysrq triggered crash", "67.4 Call Trace:"]; // biome-ignore format: as logged
    expect(await found(...OOPS, ...lines)).toEqual([OOPS.length + 1, "sysrq: Trigger a crash"]);
    expect(await found("5 SysRq : Trigger a crash")).toEqual([0, "SysRq : Trigger a crash"]);
    expect(await found("5 sysrq: SysRq : Trigger a crash")).toEqual([0, "sysrq: SysRq : Trigger a crash"]);
  });

  test("at the panic, where nothing led to it; what comes later belongs to it", async () => {
    const title = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000700";
    const panic = [`9.3 ${title}`, "9.3 CPU: 0 PID: 1 Comm: init", "9.4 Rebooting in 30 seconds.."];
    expect(await found(...WARNING, ...panic)).toEqual([5, title]);
    expect(await found(...panic, ...WARNING.map((line) => line.replace("1.1", "30")))).toEqual([0, title]);
  });

  test("at the last of several hung tasks, told at once or later", async () => {
    const hung = (time: number, name: string) => [
      `${time} INFO: task ${name}:125 blocked for more than ${time} seconds.`,
      `${time} Call Trace:`,
    ];
    const panic = "243 Kernel panic - not syncing: hung_task: blocked tasks";
    const lines = [...hung(122, "a"), ...hung(242, "b"), ...hung(242.1, "c"), panic];
    expect(await found(...lines)).toEqual([2, "INFO: task b:125 blocked for more than 242 seconds."]);
  });

  test("at a stall, whose backtraces are older than it", async () => {
    const lines = ["13.905 rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "13.907 Sending NMI from CPU 1 to CPUs 0:", "5.901 NMI backtrace for cpu 0", "5.901 CPU: 0 PID: 125 Comm: init", "5.901 Call Trace:"]; // biome-ignore format: as logged
    expect(await found(...lines)).toEqual([0, "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"]);
  });

  test("at a bare backtrace, named after its first line", async () => {
    expect(await found("2 stress: page allocation failure: order:9", ...TRACE)).toEqual([
      1,
      expect.stringMatching(/^CPU: 0 PID: 121/),
    ]);
  });

  test("in a record of several lines", async () => {
    expect(await found("5 something\nKernel panic - not syncing: in the middle\nof a record")).toEqual([
      0,
      "Kernel panic - not syncing: in the middle",
    ]);
  });

  test.each([
    "general protection fault, maybe for address 0x0: 0000 [#1] PREEMPT SMP NOPTI",
    "general protection fault: 0000 [#1] SMP",
    "divide error: 0000 [#1] SMP",
    "invalid opcode: 0000 [#1] PREEMPT SMP NOPTI",
    "Oops: Oops: 0011 [#2] SMP NOPTI",
    "Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP",
    "traps: PANIC: double fault, error_code: 0x0",
    "PANIC: double fault, error_code: 0x0",
    "kernel tried to execute NX-protected page - exploit attempt? (uid: 0)",
    "unable to execute userspace code (SMEP?) (uid: 0)",
    "BUG: unable to handle kernel paging request at ffff9f434ab4fdb0",
    "BUG: unable to handle page fault for address: ffffffffc020d140",
    "BUG: KASAN: use-after-free in lkdtm_READ_AFTER_FREE.cold+0x5e/0x129",
    "BUG: TASK stack guard page was hit at 00000000b4e5c6d9 (stack is 0000..0000)",
    "BUG: Bad page state in process swapper  pfn:00000",
    "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 30s!",
    "kernel BUG at /build/mod/lkdtm/bugs.c:79!",
    "watchdog: BUG: soft lockup - CPU#1 stuck for 8s! [init:124]",
    "NMI watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [a:1]",
    "NMI watchdog: Watchdog detected hard LOCKUP on cpu 27",
    "watchdog: CPU28: Watchdog detected hard LOCKUP on cpu 28",
    "Watchdog detected hard LOCKUP on cpu 2",
    "INFO: rcu_sched self-detected stall on CPU { 1}  (t=60000 jiffies g=1 c=0 q=1)",
    "rcu: INFO: rcu_preempt self-detected stall on CPU",
    "rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: { 1-... }",
    "mce: [Hardware Error]: CPU 0: Machine Check Exception: 7 Bank 1: bf80000000000135",
    "list_del corruption. prev->next should be ffff888, but was ffff999",
    "usercopy: Kernel memory exposure attempt detected from SLUB object 'a' (offset 0, size 9)!",
    "detected buffer overflow in strnlen",
    "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008",
    "Internal error: Oops: 0000000096000046 [#1] SMP",
    "WARNING: at kernel/sched/core.c:1 x()",
    "WARNING: kernel/sched/core.c:123 at foo+0x1/0x2, CPU#1: a/2",
    "WARNING: possible circular locking dependency detected",
    "INFO: task kworker/0:1:7 blocked in I/O wait for more than 120 seconds.",
    "dd invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0",
    "Uhhuh. NMI received for unknown reason 21 on CPU 0.",
  ])("at %j", async (line) => {
    expect(await found("1 before", `2 ${line}`, "2 after")).toEqual([1, line]);
  });
});

test.each([
  "Command line: console=ttyS0 panic=30 softlockup_panic=0 oops=panic panic_on_warn",
  "NMI watchdog: Perf NMI watchdog permanently disabled",
  "rcu: RCU CPU stall warnings timeout set to 21 (rcu_cpu_stall_timeout).",
  "lkdtm: Performing direct entry PANIC",
  "systemd[1]: Started panic-handler test unit (kernel.panic=30).",
  "traps: foo[123] general protection fault ip:401000 sp:7ffc error:0 in foo[400000+1000]",
  "mce: [Hardware Error]: Machine check events logged",
  "mce: CPU0 supports 10 MCE banks",
  "INFO: NMI handler (perf_event_nmi_handler) took too long to run: 2.1 msecs",
  "ALSA: seq fatal error: cannot create timer (-22)",
  "ERROR: Oops, something went wrong",
  "WARNING: your password will expire",
  "audit: DEBUG: BUG: in the middle",
])("no crash begins at %j", async (line) => {
  expect(await found(`5 ${line}`)).toBeUndefined();
});

test("no line takes long, whatever is in it", async () => {
  const long = ["a", "a ", "0", " invoked ", "BUG", "WARNING: ", "Oops: [#", "INFO: task :1 "].map(
    (part) => `1 ${part.repeat(Math.ceil(60_000 / part.length))}`,
  );
  for (const { pattern } of CRASH_MARKS) expect(pattern.source).toMatch(/^\^/);
  const began = cpuTime();
  for (const line of long) await findCrash(log(line, `1 ${"\n".repeat(60_000)}`));
  expect(cpuTime() - began).toBeLessThan(5000);
});

test("hears signals", async () => {
  const stop = () => Promise.reject(new InterruptedError("SIGINT"));
  await expect(findCrash(log(...BOOT), stop)).rejects.toThrow(InterruptedError);
});

describe("guestcore dmesg --follow-crash", () => {
  const folder = mkdtempSync(join(tmpdir(), "guestcore-crash-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const BASE = 0xffff_ffff_8100_2000n;
  const dump = (name: string, lines: string[]): string => {
    const { bytes, keys } = ringLog(BASE, log(...lines), { descBits: 7, textBits: 13 });
    const pages = new Map<number, Buffer>();
    const image = Buffer.concat([bytes, Buffer.alloc(8192)]);
    for (let at = 0; at + 4096 <= image.length; at += 4096)
      pages.set(0x1002 + at / 4096, image.subarray(at, at + 4096));
    const info = ["OSRELEASE=6.1.0-synth", "NUMBER(phys_base)=0", ...keys, ""].join("\n");
    const path = join(folder, name);
    writeFileSync(path, buildKdump({ pages, notes: note("VMCOREINFO", 0, Buffer.from(info)) }));
    return path;
  };
  const run = async (...words: string[]) => {
    const terminal = new FakeTerminal();
    return { status: await main(["dmesg", ...words], terminal), out: terminal.out, err: terminal.err };
  };
  const crashed = dump("crashed", [
    ...BOOT,
    "3 before",
    ...OOPS,
    "3.732 Kernel panic - not syncing: Fatal exception",
  ]);
  const calm = dump(
    "calm",
    Array.from({ length: 70 }, (_, i) => `${i} line ${i}`),
  );

  test("prints from the crash's first line to the end", async () => {
    const { status, out, err } = await run(crashed, "--follow-crash");
    const lines = out.trimEnd().split("\n");
    expect([status, err, lines.length]).toEqual([0, "", OOPS.length + 1]);
    expect(lines[0]).toBe("[    3.704000] BUG: kernel NULL pointer dereference, address: 0000000000000000");
    expect(lines.at(-1)).toMatch(/Kernel panic/);
    expect((await run(crashed, "--follow-crash", "--last", "1")).out).toMatch(
      /^\[ {4}3\.732000\] Kernel panic/,
    );
  });

  test("of a log without one prints the last records, and says so", async () => {
    const { status, out, err } = await run(calm, "--follow-crash");
    expect(status).toBe(0);
    expect(err).toMatch(/^warning LOG002: /);
    expect(out.split("\n")[0]).toBe("[   20.000000] line 20");
    expect((await run(calm)).err).toBe("");
    expect((await run(calm, "--follow-crash", "--last", "2")).out.split("\n")).toHaveLength(3);
  });

  test("JSON says which record begins the crash", async () => {
    const validate = schemas().getSchema("dmesg.json")!;
    const json = async (...words: string[]) => {
      const document = JSON.parse((await run(...words, "--json")).out);
      expect(validate(document), JSON.stringify(validate.errors)).toBe(true);
      return document;
    };
    const title = "BUG: kernel NULL pointer dereference, address: 0000000000000000";
    for (const [words, index] of [
      [[], 3],
      [["--follow-crash"], 0],
      [["--last", "2"], null],
    ] as const) {
      // biome-ignore format: short
      const { result } = await json(crashed, ...words);
      expect(result.crash).toEqual({ index, sequence: 3, title });
      if (index !== null) expect(result.records[index].text).toBe(title);
    }
    const { result, warnings } = await json(calm, "--follow-crash");
    expect([result.crash, warnings[0].code]).toEqual([null, "LOG002"]);
  });
});
