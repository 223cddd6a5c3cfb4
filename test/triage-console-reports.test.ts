import { expect, test } from "vitest";
import { detect, KernelLog, titles } from "./support/triage-console.ts";

const log = () => new KernelLog(10);
const TASK = "CPU: 0 UID: 0 PID: 150 Comm: sh Tainted: G      D    OE      6.12.117 #1";
const CUT = "------------[ cut here ]------------";
const END = "---[ end trace 0000000000000000 ]---";
/** First and last line of each finding. */
const extents = (text: string) =>
  detect(text).findings.map(({ details }) => [details!.firstLine, details!.lastLine]);
const framesOf = (text: string) => detect(text).findings[0]!.details!.frames;

const warning = (where: string, ...frames: string[]) => [
  `WARNING: CPU: 0 PID: 150 at ${where}`,
  TASK,
  `RIP: 0010:${where.split(" ")[1]}`,
  "Call Trace:",
  " <TASK>",
  ...frames.map((frame) => ` ${frame}+0x1e/0x30`),
  " </TASK>",
  END,
];

const bug = (where: string, counter: string, ...frames: string[]) => [
  CUT,
  `kernel BUG at ${where}!`,
  "Oops: invalid opcode: 0000 [#1] PREEMPT SMP NOPTI",
  TASK,
  `RIP: 0010:${counter}+0x5/0x10`,
  "Call Trace:",
  ...frames.map((frame) => ` ${frame}+0x1e/0x30`),
  END,
];

const alive = ["random: crng init done", "eth0: link is up", "eth0: link is down"];

test("a BUG names its function, and two of one file are two", () => {
  const text = log()
    .say(
      ...bug("drivers/misc/foo.c:100", "foo_open", "vfs_open"),
      ...bug("drivers/misc/foo.c:120", "foo_read"),
    )
    .say(...bug("lib/list_debug.c:56", "__list_del_entry_valid", "foo_close"), ...alive)
    .toString();
  expect(titles(detect(text))).toEqual([
    "kernel BUG at drivers/misc/foo.c:100 in foo_open",
    "kernel BUG at drivers/misc/foo.c:120 in foo_read",
    "kernel BUG at lib/list_debug.c:56 in foo_close",
  ]);
});

test("a breakpoint trap is a trap, as the kernel says it since 6.10 too", () => {
  for (const headline of ["int3: 0000 [#1] SMP", "Oops: int3: 0000 [#1] SMP"]) {
    const { findings } = detect(
      log()
        .say(headline, TASK, "RIP: 0010:foo+0xa/0x10", END, ...alive)
        .toString(),
    );
    expect(findings).toMatchObject([{ class: "trap", title: "int3 in foo" }]);
  }
});

test("what dump_stack() prints behind the end of a report is none of it", () => {
  const report = [CUT, ...warning("lib/refcount.c:28 refcount_warn_saturate+0xbf/0xf0", "foo_put")];
  const dump = ["foo: something that no signature knows", TASK, "Call Trace:", " sysfs_warn_dup+0x5/0x9"];
  const text = log()
    .say(...report, ...dump, ...alive)
    .toString();
  expect(extents(text)).toEqual([[1, report.length]]);
  expect(framesOf(text)).toEqual(["foo_put"]);
});

test("registers that are shown again behind the end of an oops are its", () => {
  const text = log()
    .say(...bug("mm/foo.c:1", "foo"), "RIP: 0010:foo+0x5/0x10", "Code: 0f 0b", "PKRU: 55555554", ...alive)
    .toString();
  expect(extents(text)).toEqual([[1, 10]]);
});

test("of a jump into nowhere the frames are those that the unwinder was not sure of", () => {
  const text = log()
    .say("BUG: unable to handle page fault for address: 0000000041414141", "Oops: Oops: 0010 [#4] SMP", TASK)
    .say(
      "RIP: 0010:0x41414141",
      "Call Trace:",
      " <TASK>",
      " ? foo_call+0x1e/0x30 [foo]",
      " ? vfs_write+0xf8/0x450",
    )
    .say(" </TASK>", END, ...alive)
    .toString();
  expect(titles(detect(text))).toEqual(["BUG: unable to handle page fault in foo_call"]);
  expect(framesOf(text)).toEqual(["foo_call", "vfs_write"]);
});

const RULE = "=".repeat(77);
const slab = (what: string) => [RULE, `BUG kmalloc-128 (Tainted: G    B D W): ${what}`, "-".repeat(77), ""];

test("what the slab allocator warns of behind its BUG is one with it", () => {
  const own = warning("mm/slub.c:1152 slab_err+0x90/0xc0", "free_to_partial_list", "kfree", "foo_free");
  const text = log()
    .say(...slab("Invalid object pointer 0xff222abdc20f7588"), CUT, ...own, ...alive)
    .toString();
  expect(detect(text).findings).toMatchObject([
    { class: "slab-corruption", title: "BUG: slab: Invalid object pointer ADDR in foo_free" },
  ]);
});

test("another warning, or one behind other lines, is another", () => {
  const other = warning("drivers/foo.c:12 foo_warn+0x9/0xc", "foo_free");
  const text = log()
    .say(...slab("Object already free"), CUT, ...other, ...alive)
    .toString();
  expect(detect(text).findings.map((one) => one.class)).toEqual(["slab-corruption", "warning"]);
  const later = log()
    .say(...slab("Object already free"))
    .print("init: next test")
    .say(...bug("lib/string_helpers.c:1040", "__fortify_panic", "foo_copy"), ...alive)
    .toString();
  expect(titles(detect(later))).toEqual([
    "BUG: slab: Object already free",
    "kernel BUG at lib/string_helpers.c:1040 in foo_copy",
  ]);
});

test("the line that begins a report is not the last one of the report before", () => {
  const text = log()
    .say(
      ...slab("Poison overwritten"),
      "FIX kmalloc-128: Restoring",
      ...slab("Object already free"),
      ...alive,
    )
    .toString();
  expect(extents(text)).toEqual([
    [1, 5],
    [6, 8],
  ]);
});

test("allocators are not to blame, by the names they have had since 6.10 either", () => {
  const frames = ["alloc_pages_mpol_noprof", "get_free_pages_noprof", "foo_alloc", "vfs_write"];
  const text = log()
    .say(CUT, ...warning("mm/page_alloc.c:4729 __alloc_pages_noprof+0x2/0x9", ...frames), ...alive)
    .toString();
  expect(titles(detect(text))).toEqual(["WARNING in foo_alloc"]);
});

const stall = (...rest: string[]) => ["rcu: INFO: rcu_preempt self-detected stall on CPU", ...rest];
const STARVED = [
  "rcu: rcu_preempt kthread starved for 1746 jiffies! g-995 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x0 ->cpu=1",
  "rcu: RCU grace-period kthread stack dump:",
  "task:rcu_preempt     state:R  running task     stack:0     pid:18    tgid:18    ppid:2      flags:0x00004000",
  "Call Trace:",
  ...[" __schedule+0x4e0/0xbf0", " rcu_gp_fqs_loop+0x140/0x540", " rcu_gp_kthread+0xdb/0x1b0"],
];
const stuckIn = (name: string) => [
  TASK,
  `RIP: 0010:${name}+0x26/0x40`,
  "Call Trace:",
  " vfs_write+0xf8/0x450",
];

test("the kthread that waits for a grace period does not hold it up", () => {
  const text = log()
    .say(...stall(...STARVED, "NMI backtrace for cpu 1", ...stuckIn("foo_poll")))
    .toString();
  expect(titles(detect(text))).toEqual(["INFO: rcu detected stall in foo_poll"]);
  expect(framesOf(text)).toEqual(["vfs_write"]);
});

test("a stall after one that ended is another, one that goes on is not", () => {
  const first = stall(...stuckIn("foo_poll"));
  const second = stall(...stuckIn("bar_scan"));
  const lines = Array.from({ length: 14 }, (_, at) => `usb 1-${at}: new device`);
  const apart = log()
    .say(...first, ...lines)
    .later(20)
    .say(...second)
    .toString();
  expect(titles(detect(apart))).toEqual([
    "INFO: rcu detected stall in foo_poll",
    "INFO: rcu detected stall in bar_scan",
  ]);
  expect(
    titles(
      detect(
        log()
          .say(...first)
          .later(20)
          .say(...second)
          .toString(),
      ),
    ),
  ).toHaveLength(1);
});

test("of a loop that waits, whoever loops is guilty", () => {
  const text = log()
    .say("watchdog: BUG: soft lockup - CPU#0 stuck for 11s! [sh:150]", TASK, "RIP: 0010:ktime_get+0x26/0xb0")
    .say("Call Trace:", " <TASK>", " foo_wait+0x1e/0x30", " vfs_write+0xf8/0x450", " </TASK>")
    .toString();
  expect(titles(detect(text))).toEqual(["BUG: soft lockup in foo_wait"]);
});

test("a warning of a module, as Linux tells it since 6.18", () => {
  const text = log()
    .say(CUT, "WARNING: drivers/foo.c:102 at foo_open+0x9/0x10 [foo], CPU#1: sh/110", TASK, END, ...alive)
    .toString();
  expect(detect(text).findings).toMatchObject([{ class: "warning", title: "WARNING in foo_open" }]);
});

test("work that leaves a lock behind is named", () => {
  for (const detail of [
    "     preempt=0x00000001 lock=0->0 RCU=0->0 workfn=foo_work [foo]",
    "     last function: foo_work [foo]",
  ]) {
    const text = log()
      .say("BUG: workqueue leaked atomic, lock or RCU: kworker/0:1[11]", detail, TASK, "Call Trace:")
      .say(" dump_stack_lvl+0x64/0x80", " process_one_work+0x3a9/0x3c0", ...alive)
      .toString();
    expect(detect(text).findings).toMatchObject([
      {
        class: "lockdep",
        severity: "warning",
        title: expect.stringMatching(/ in foo_work$/),
        survived: true,
      },
    ]);
  }
});

test("where the counter is in no function, who jumped there is guilty", () => {
  const fault = (counter: string) =>
    log()
      .say("Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000")
      .say("Internal error: Oops: 0000000086000004 [#3] SMP", TASK, `pc : ${counter}`)
      .say("lr : foo_call+0x1c/0x38 [foo]", "Call trace:", " 0x0 (P)", " foo_write+0x10/0x20 [foo]")
      .toString();
  expect(titles(detect(fault("0x0")))[0]).toMatch(/ in foo_call$/);
  expect(titles(detect(fault("foo_read+0x8/0x10")))[0]).toMatch(/ in foo_read$/);
});
