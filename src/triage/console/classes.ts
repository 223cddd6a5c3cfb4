import type { Severity, Side } from "../finding.ts";

interface ClassFacts {
  /** Of an incident of this class that does not end in a panic. */
  readonly severity: Severity;
  readonly side: Side;
  readonly meaning: string;
}

const facts = (severity: Severity, side: Side, meaning: string): ClassFacts => ({ severity, side, meaning });

/**
 * Every class a console's incident may have. It is the cause of an incident, not its end: a NULL dereference that ends in
 * "Kernel panic - not syncing: Fatal exception" is a `null-deref` of severity panic.
 */
export const CLASSES = {
  panic: facts("panic", "guest", "The kernel stopped itself, for a reason that has no class of its own."),
  "null-deref": facts("oops", "guest", "The kernel went through a pointer that is NULL, or near it."),
  "page-fault": facts("oops", "guest", "The kernel used an address that is not mapped, or not for that use."),
  gpf: facts("oops", "guest", "A general protection fault in the kernel: mostly a pointer that is garbage."),
  "kernel-bug": facts("oops", "guest", "A check of the kernel's own failed: BUG() or BUG_ON()."),
  "divide-error": facts("oops", "guest", "The kernel divided by zero, or a quotient was too large."),
  "invalid-opcode": facts("oops", "guest", "The kernel ran into something that is no instruction."),
  trap: facts("oops", "guest", "An exception in the kernel that it has no handler for."),
  oops: facts("oops", "guest", "The kernel died under a task, and the log does not say of what."),
  "double-fault": facts("oops", "guest", "A fault while the kernel handled a fault: mostly a broken stack."),
  "stack-overflow": facts("oops", "guest", "The kernel used more stack than a task has."),
  kasan: facts("oops", "guest", "KASAN caught a bad use of memory."),
  kfence: facts("oops", "guest", "KFENCE caught a bad use of memory."),
  kmsan: facts("oops", "guest", "KMSAN caught a use of memory that nobody initialised."),
  kcsan: facts("warning", "guest", "KCSAN caught a data race."),
  ubsan: facts("warning", "guest", "UBSAN caught an operation that C does not define."),
  "memory-leak": facts("warning", "guest", "kmemleak found memory that nobody points to."),
  "bad-page": facts("oops", "guest", "The kernel's account of a page of memory is wrong."),
  "slab-corruption": facts("oops", "guest", "Bytes of the slab allocator were overwritten."),
  warning: facts("warning", "guest", "WARN(): something the kernel's authors did not expect; it goes on."),
  lockdep: facts("warning", "guest", "Locks are taken in an order or a context that can deadlock."),
  "atomic-sleep": facts("warning", "guest", "The kernel slept, or could have, where it must not."),
  "soft-lockup": facts("hang", "guest", "A CPU stayed in the kernel without letting any other task run."),
  "hard-lockup": facts("hang", "guest", "A CPU took no interrupts any more."),
  "hung-task": facts("hang", "guest", "A task waited for minutes without being interruptible."),
  "rcu-stall": facts("hang", "guest", "A CPU or a task held up RCU: it is stuck, or was not given time."),
  "workqueue-stall": facts("hang", "guest", "Work that was queued for a CPU does not run."),
  debugger: facts("hang", "guest", "The kernel stopped in its debugger, and waits for somebody to type."),
  "netdev-wait": facts("warning", "guest", "A network device cannot go away: somebody still holds it."),
  oom: facts("warning", "guest", "The machine ran out of memory."),
  mce: facts("oops", "hardware", "A machine check: the processor says that hardware failed."),
  "hardware-error": facts("warning", "hardware", "Hardware or firmware reported an error."),
  filesystem: facts("warning", "guest", "A file system failed, and takes no more writes."),
  nmi: facts("warning", "unknown", "A non-maskable interrupt that nobody in the guest asked for."),
  "system-reset": facts(
    "oops",
    "unknown",
    "A system reset interrupt: somebody outside asked for a crash dump.",
  ),
  "silent-reset": facts(
    "warning",
    "unknown",
    "A boot broke off without an end, and another began: a reset, a triple fault, or somebody outside.",
  ),
  "init-failure": facts("hang", "guest", "The first process failed: the kernel runs, but nothing else does."),
  "emergency-mode": facts("hang", "guest", "Start-up stopped at a shell that nobody sits at."),
  "boot-failure": facts("hang", "guest", "The machine found nothing to start, or could not start it."),
  "unit-failure": facts("notice", "guest", "A service that start-up wanted failed."),
  "firmware-crash": facts("panic", "guest", "The firmware took an exception and stopped."),
  "firmware-assert": facts("oops", "guest", "A check in the firmware failed."),
  bugcheck: facts("panic", "guest", "Windows stopped itself: a bug check, the blue screen."),
  "hypervisor-crash": facts("panic", "host", "The hypervisor that the guest ran on, or is, crashed."),
  "domain-crash": facts("panic", "guest", "Xen stopped a domain that did what none may."),
  "user-fault": facts("notice", "guest", "A process died of a fault; the kernel is not at fault for it."),
} as const satisfies Readonly<Record<string, ClassFacts>>;

export type IncidentClass = keyof typeof CLASSES;

/** Classes in which something does not go on: their guilty function is where it was stopped, not where it was told. */
export const HANGS: ReadonlySet<IncidentClass> = new Set([
  "soft-lockup",
  "hard-lockup",
  "hung-task",
  "rcu-stall",
  "workqueue-stall",
]);
