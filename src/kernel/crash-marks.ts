/** What a line of the kernel log means for finding where a crash begins. */
export type MarkKind =
  /** A failure that may bring the machine down: what comes soon after it comes of it. */
  | "failure"
  /** The end of the machine, or of a task: by itself only where nothing led to it. */
  | "outcome"
  /** Something the kernel goes on after, as a rule. */
  | "warning"
  /** A part of a report that says nothing of its cause; a report may begin with it. */
  | "frame"
  /** The end of a report. */
  | "end";

export interface CrashMark {
  readonly kind: MarkKind;
  /** Anchored at the start of a line, without repetitions inside repetitions: time is linear in the line. */
  readonly pattern: RegExp;
}

const mark = (kind: MarkKind, ...patterns: readonly RegExp[]): CrashMark[] =>
  patterns.map((pattern) => ({ kind, pattern }));

/**
 * Lines by which the kernel says that it crashes; of several that match one, the first counts. Files are Linux's; forms
 * of older kernels stand beside those of later ones.
 */
export const CRASH_MARKS: readonly CrashMark[] = [
  // kernel/panic.c: panic(), vpanic().
  ...mark("outcome", /^Kernel panic - not syncing: /m),
  // arch/x86/kernel/dumpstack.c: __die_header(); die() of traps before 6.10 names the trap instead of "Oops".
  ...mark("outcome", /^Oops: .{0,80}\[#\d+\]/m),
  ...mark("failure", /^[a-z][a-z ]{2,40}: [0-9a-f]{4} \[#\d+\]/m),
  // arch/x86/kernel/traps.c: exc_general_protection(), exc_double_fault().
  ...mark("failure", /^general protection fault\b/m, /^(?:traps: )?PANIC: double fault\b/m),
  // arch/x86/mm/fault.c: show_fault_oops(), in front of "BUG: unable to handle".
  ...mark("failure", /^kernel tried to execute NX-protected page\b/m),
  ...mark("failure", /^unable to execute userspace code \(SMEP\?\)/m),
  // drivers/tty/sysrq.c: sysrq_crash_op, by echo c > /proc/sysrq-trigger; "SysRq : " until 4.20.
  ...mark("failure", /^(?:sysrq: )?(?:SysRq : )?Trigger a crash\b/m),
  // kernel/watchdog.c: watchdog_timer_fn(); kernel/watchdog_hld.c: watchdog_hardlockup_check().
  ...mark("failure", /^(?:NMI )?watchdog: BUG: soft lockup\b/m),
  ...mark("failure", /^(?:(?:NMI )?watchdog: )?(?:CPU\d+: )?Watchdog detected hard LOCKUP\b/m),
  // arch/x86/mm/fault.c ("BUG: kernel NULL pointer dereference", "BUG: unable to handle"), mm/kasan/report.c,
  // kernel/sched/core.c ("BUG: scheduling while atomic", "BUG: sleeping function"), mm/memory.c, kernel/workqueue.c …
  ...mark("failure", /^BUG: /m),
  // lib/bug.c: report_bug(); "Kernel BUG at" without CONFIG_DEBUG_BUGVERBOSE.
  ...mark("failure", /^[kK]ernel BUG at /m),
  // arch/arm64/mm/fault.c: die_kernel_fault(); arch/arm64/kernel/traps.c: __die().
  ...mark("failure", /^Unable to handle kernel /m),
  ...mark("outcome", /^Internal error: /m),
  // kernel/rcu/tree_stall.h: print_cpu_stall(), print_other_cpu_stall(); without "rcu: " until 4.18.
  ...mark("failure", /^(?:rcu: )?INFO: rcu_\w+ (?:self-)?detected (?:expedited )?stall/m),
  // arch/x86/kernel/cpu/mce/core.c: __print_mce(), mce_panic().
  ...mark("failure", /^mce: \[Hardware Error\]: (?:CPU \d+: )?Machine [Cc]heck(?: Exception)?:/m),
  // lib/list_debug.c, mm/usercopy.c, lib/string_helpers.c: fortify_panic(); all in front of BUG().
  ...mark("failure", /^list_(?:add|del) corruption\b/m),
  ...mark("failure", /^usercopy: Kernel memory (?:exposure|overwrite) attempt detected\b/m),
  ...mark("failure", /^detected buffer overflow in /m),
  // kernel/panic.c: __warn(), since 6.18 without the process; kernel/locking/lockdep.c, kernel/rcu/update.c.
  ...mark("warning", /^WARNING: (?:CPU: \d+ PID: \d+ )?at /m),
  ...mark("warning", /^WARNING: \S{1,200}:\d+ at /m),
  ...mark("warning", /^WARNING: (?:possible |suspicious |inconsistent |Nested lock)/m),
  // kernel/hung_task.c: check_hung_task(), print_hung_task().
  ...mark("warning", /^INFO: task .{1,40}:\d+ (?:is )?blocked (?:in I\/O wait )?(?:on |for )/m),
  // mm/oom_kill.c: dump_header().
  ...mark("warning", /^.{1,20} invoked oom-killer: /m),
  // arch/x86/kernel/nmi.c: unknown_nmi_error(), pci_serr_error(), io_check_error().
  ...mark("warning", /^Uhhuh\. NMI received for unknown reason\b/m),
  ...mark("warning", /^NMI: (?:PCI system error|IOCK error)\b/m),
  // include/asm-generic/bug.h: CUT_HERE.
  ...mark("frame", /^-{12}\[ cut here \]-{12}/m),
  // lib/dump_stack.c: dump_stack_print_info(); arch/x86/kernel/dumpstack.c: show_trace_log_lvl().
  ...mark("frame", /^CPU: \d+ (?:UID: \d+ )?PID: \d+ Comm: /m, /^Call Trace:/m),
  // kernel/panic.c: print_oops_end_marker().
  ...mark("end", /^---\[ end trace /m),
];
