import { readdirSync } from "node:fs";
import { expect, test } from "vitest";
import { detect, sampleConsole, samplePath } from "./support/triage-console.ts";

/** What is known of each log of samples/triage/kernels: see samples/README.md. */
interface ExpectedKernelLog {
  readonly file: string;
  readonly kernel: string;
  readonly ends: string | null;
  readonly findings: readonly {
    readonly class: string;
    readonly severity: string;
    readonly title: string;
    readonly guilty: string | null;
    readonly survived: boolean | null;
    readonly firstLine: number;
    readonly lastLine: number;
    readonly count: number;
    readonly panic: string | null;
    /** What the machine had been asked for when it came to this. */
    readonly asked: string | null;
  }[];
}

const logs = JSON.parse(
  sampleConsole("kernels/expected.json").toString("utf8"),
) as readonly ExpectedKernelLog[];

test("every log has its expected findings beside it", () => {
  const files = readdirSync(samplePath("kernels")).filter((name) => name.endsWith(".log.gz"));
  expect(logs.map(({ file }) => file).sort()).toEqual(files.sort());
  expect(logs.flatMap(({ findings }) => findings).length).toBeGreaterThan(250);
});

test.each(logs)("$file: every report is found, named, and told where it is", (expected) => {
  const report = detect(sampleConsole(`kernels/${expected.file}`));
  const found = report.findings.map(({ class: kind, severity, title, survived, details }) => ({
    class: kind,
    severity,
    title,
    guilty: details!.guilty,
    survived: survived ?? null,
    firstLine: details!.firstLine,
    lastLine: details!.lastLine,
    count: details!.count,
    panic: details!.panic,
  }));
  expect(found).toEqual(expected.findings.map(({ asked: _, ...finding }) => finding));
  expect(report.boots.map(({ release, end }) => [release, end ?? null])).toEqual([
    [expected.kernel, expected.ends],
  ]);
});

/** What each case of the module does, by the function that does it and the class it is of. */
const ASKED: Readonly<Record<string, readonly string[]>> = {
  null_write: ["null-deref ct_write"],
  null_member: ["null-deref ct_read"],
  null_call: ["null-deref ct_null_call"],
  wild_call: ["page-fault ct_wild_call"],
  wild_read: ["page-fault ct_read"],
  divide: ["divide-error ct_divide", "ubsan ct_divide"],
  bug: ["kernel-bug ct_bug"],
  bug_on: ["kernel-bug ct_bug_on"],
  opcode: ["invalid-opcode ct_opcode"],
  int3: ["trap ct_int3"],
  warn: ["warning ct_warn"],
  warn_message: ["warning ct_warn_message"],
  warn_two: ["warning ct_warn", "warning ct_warn_message"],
  warn_hardirq: ["warning ct_hr_warn"],
  in_work: ["null-deref ct_write"],
  list_del: ["kernel-bug ct_list_del"],
  list_add: ["kernel-bug ct_list_add"],
  refcount: ["warning ct_refcount"],
  kobject_twice: ["warning ct_kobject_twice"],
  proc_twice: ["warning ct_proc_twice"],
  cache_busy: ["slab-corruption ct_cache_busy"],
  double_free: ["slab-corruption ct_double_free", "kasan ct_double_free"],
  skb_over: ["kernel-bug ct_skb_over"],
  stack: ["stack-overflow ct_recurse"],
  soft_lockup: ["soft-lockup ct_soft_lockup"],
  hung: ["hung-task ct_hung"],
  kobject_again: ["warning ct_kobject_again"],
  page_free_twice: ["kernel-bug ct_page_free_twice"],
  page_underflow: ["kernel-bug ct_page_underflow"],
  circular: ["lockdep ct_circular_two"],
  inconsistent: ["lockdep ct_inconsistent"],
  softirq_inversion: ["lockdep ct_softirq_inversion"],
  bad_unlock: ["lockdep ct_bad_unlock"],
  return_locked: ["lockdep ct_return_locked"],
  recursive_read: ["lockdep ct_recursive_read"],
  wait_context: ["lockdep ct_wait_context"],
  suspicious_rcu: ["lockdep ct_suspicious_rcu"],
  hung_mutex: ["lockdep ct_thread_dead"],
  workqueue_atomic: ["lockdep ct_work_atomic"],
  sleep_atomic: ["atomic-sleep ct_sleep_atomic"],
  alloc_atomic: ["atomic-sleep ct_alloc_atomic"],
  sched_atomic: ["atomic-sleep ct_sched_atomic"],
  sleep_rcu: ["warning ct_sleep_rcu"],
  preemptible: ["warning ct_preemptible"],
  this_cpu: ["warning ct_this_cpu"],
  odebug_timer: ["warning ct_odebug_timer"],
  odebug_init: ["warning ct_odebug_init"],
  odebug_work: ["warning ct_odebug_work"],
  odebug_assert: ["lockdep ct_odebug_assert", "warning ct_odebug_assert"],
  out_of_bounds: ["kasan ct_out_of_bounds", "kasan ct_write"],
  use_after_free: ["kasan ct_use_after_free", "kasan ct_read"],
  uaf_rcu: ["kasan ct_read"],
  invalid_free: ["slab-corruption ct_invalid_free", "kasan ct_invalid_free"],
  vmalloc_oob: ["kasan ct_vmalloc_oob"],
  stack_oob: ["ubsan ct_stack_oob", "kasan ct_stack_oob"],
  global_oob: ["kasan ct_global_oob"],
  leak: ["memory-leak ct_leak"],
  // drivers/misc/lkdtm
  BUG: ["kernel-bug lkdtm_BUG"],
  WARNING: ["warning lkdtm_WARNING"],
  EXCEPTION: ["null-deref lkdtm_EXCEPTION"],
  ARRAY_BOUNDS: ["ubsan lkdtm_ARRAY_BOUNDS"],
  CORRUPT_LIST_ADD: ["warning lkdtm_CORRUPT_LIST_ADD"],
  STACK_GUARD_PAGE_LEADING: ["stack-overflow lkdtm_STACK_GUARD_PAGE_LEADING"],
  UNSET_SMEP: ["warning lkdtm_UNSET_SMEP"],
  FORTIFY_MEM_MEMBER: ["warning lkdtm_FORTIFY_MEM_MEMBER"],
  SLAB_LINEAR_OVERFLOW: ["kasan lkdtm_SLAB_LINEAR_OVERFLOW"],
  WRITE_RO: ["page-fault lkdtm_WRITE_RO"],
  EXEC_NULL: ["null-deref execute_location"],
  ACCESS_NULL: ["null-deref lkdtm_ACCESS_NULL"],
  REFCOUNT_DEC_ZERO: ["warning lkdtm_REFCOUNT_DEC_ZERO"],
  USERCOPY_SLAB_SIZE_TO: ["kernel-bug do_usercopy_slab_size"],
  USERCOPY_KERNEL: ["kernel-bug lkdtm_USERCOPY_KERNEL"],
};

test.each(Object.entries(ASKED))("what was asked for is what is expected: %s", (name, wanted) => {
  const told = logs.flatMap(({ findings }) => findings).filter(({ asked }) => asked === name);
  const kinds = new Set(told.map(({ class: kind, guilty }) => `${kind} ${guilty}`));
  for (const kind of wanted) expect([...kinds]).toContain(kind);
});
