import { signatures } from "../signature.ts";

/** What Linux says of its own structures: stacks it cannot unwind, names given twice, objects that nobody points to. */
export const LINUX_STRUCTURES = signatures([
  {
    id: "linux/unwind",
    class: "warning",
    starts: [
      ...["WARNING: kernel stack ", "WARNING: stack recursion", "WARNING: can't ", "WARNING: stack going"],
      ...["WARNING: missing ", "WARNING: unknown "],
    ],
    pattern:
      /^WARNING: (kernel stack (?:regs|frame pointer) at [0-9a-fx]{4,18} in .{1,40}:\d{1,10} has bad|stack recursion on stack type \d|can't (?:access|dereference) .{0,40}registers|stack going in the wrong direction\? at|missing (?:R10|R13|RDI|DX) value at \S{1,160}\+0x|unknown (?:[SB]P base reg \d|\.orc_unwind entry type))/,
    title: "WARNING: the kernel's stack cannot be unwound",
    inFrame: true,
    source:
      "arch/x86/kernel/unwind_frame.c: unwind_next_frame(); arch/x86/kernel/unwind_orc.c: orc_warn(); arch/x86/kernel/dumpstack_64.c",
    examples: [
      "WARNING: kernel stack regs at ffff8801d9af7e30 in init:123 has bad 'bp' value ffff8801d9af7f10",
      "WARNING: kernel stack frame pointer at 00000000abcd1234 in cat:1 has bad value           (null)",
      "WARNING: stack recursion on stack type 1",
      "WARNING: can't access registers at entry_SYSCALL_64+0x1/0x2",
      "WARNING: stack going in the wrong direction? at do_syscall_64+0x1/0x2",
      "WARNING: missing R10 value at foo+0x1/0x2",
      "WARNING: unknown SP base reg 3 at foo+0x1/0x2",
    ],
    negatives: [
      "WARNING: missing files",
      "WARNING: missing R10 value at your config",
      "WARNING: unknown device",
      "WARNING: can't open /etc/passwd",
      "WARNING: kernel stack size is 16 KiB",
    ],
  },
  {
    id: "linux/dentry-in-use",
    class: "kernel-bug",
    role: "lead",
    starts: ["BUG: Dentry "],
    pattern: /^BUG: Dentry [0-9a-fx]{4,18}\{i=[0-9a-f]{1,16},n=.{0,255}\} {1,2}still in use \(-?\d+\)/,
    title: "a dentry is still in use at unmount",
    source: "fs/dcache.c: umount_check(); WARN() or BUG() comes next",
    examples: ["BUG: Dentry 00000000abcdef01{i=c,n=foo}  still in use (1) [unmount of tmpfs tmpfs]"],
  },
  {
    id: "linux/duplicate-name",
    class: "warning",
    starts: ["sysfs: cannot create duplicate filename "],
    pattern: /^sysfs: cannot create duplicate filename '/,
    title: "a name was registered twice in sysfs",
    inFrame: true,
    source: "fs/sysfs/dir.c: sysfs_warn_dup()",
    examples: ["sysfs: cannot create duplicate filename '/devices/virtual/net/foo'"],
  },
  {
    id: "linux/duplicate-kobject",
    class: "warning",
    role: "part",
    starts: ["kobject_add_internal failed for ", "kobject: kobject_add_internal failed for "],
    pattern:
      /^(?:kobject: )?kobject_add_internal failed for .{1,128} with -EEXIST, don't try to register things/,
    title: "a kobject was not added",
    source: "lib/kobject.c: kobject_add_internal(), behind what sysfs says",
    examples: [
      "kobject_add_internal failed for foo with -EEXIST, don't try to register things with the same name in the same directory.",
      "kobject: kobject_add_internal failed for foo with -EEXIST, don't try to register things with the same name in the same directory.",
    ],
    negatives: ["kobject_add_internal failed for foo (error: -2 parent: bar)"],
  },
  {
    id: "linux/kobject-again",
    class: "warning",
    starts: ["kobject (", "kobject: kobject ("],
    pattern:
      /^(?:kobject: )?kobject \((?:0x)?[0-9a-f]{8,16}\): (tried to init an initialized object|must have a ktype)/,
    title: "kobject: $1",
    inFrame: true,
    source: "lib/kobject.c: kobject_init()",
    examples: [
      "kobject (00000000abcdef01): tried to init an initialized object, something is seriously wrong.",
      "kobject: kobject (ffff88800a1b2c3d): tried to init an initialized object, something is seriously wrong.",
    ],
    negatives: ["kobject (00000000abcdef01): calling ktype release"],
  },
  {
    id: "linux/warn-message",
    class: "warning",
    role: "lead",
    tells: true,
    starts: [
      ...["proc_dir_entry ", "DEBUG_LOCKS_WARN_ON(", "remove_proc_entry: "],
      "Voluntary context switch within RCU ",
    ],
    pattern:
      /^(proc_dir_entry '[^']{1,200}' already registered|DEBUG_LOCKS_WARN_ON\((?:[^()]|\([^()]{0,40}\)){1,120}\)|Voluntary context switch within RCU read-side critical section|remove_proc_entry: removing non-empty directory)/,
    title: "$1",
    source: "fs/proc/generic.c; include/linux/debug_locks.h: DEBUG_LOCKS_WARN_ON(); WARN() comes next",
    examples: [
      "proc_dir_entry 'net/foo' already registered",
      "DEBUG_LOCKS_WARN_ON(lock->magic != lock)",
      "DEBUG_LOCKS_WARN_ON(val > preempt_count())",
      "Voluntary context switch within RCU read-side critical section!",
      "remove_proc_entry: removing non-empty directory 'net/rpc', leaking at least 'use-gss-proxy'",
    ],
  },
  {
    id: "linux/unreferenced",
    class: "memory-leak",
    starts: ["unreferenced object 0x"],
    pattern: /^unreferenced object 0x[0-9a-f]{8,16} \(size \d{1,12}\):/,
    title: "memory leak",
    inFrame: true,
    // As a program reads it out of debugfs; kmemleak.verbose=1 has the kernel print it.
    speaker: "any",
    source: "mm/kmemleak.c: print_unreferenced()",
    examples: ["unreferenced object 0xffff88810a2b3c40 (size 64):"],
  },
  {
    id: "linux/softirq-count",
    class: "warning",
    starts: ["softirq: huh, entered softirq ", "huh, entered softirq "],
    pattern:
      /^(?:softirq: )?huh, entered softirq \d{1,2} (\w{2,12}) \S{1,24} with preempt_count [0-9a-f]{8}, exited with/,
    title: "softirq $1 left another preempt_count than it found",
    source: "kernel/softirq.c: handle_softirqs()",
    examples: [
      "softirq: huh, entered softirq 3 NET_RX ffffffff81a3c2f1 with preempt_count 00000101, exited with 00000100?",
      "huh, entered softirq 1 TIMER 00000000abcdef01 with preempt_count 00000100, exited with fffeffff?",
    ],
  },
  {
    id: "linux/slab-destroyed",
    class: "slab-corruption",
    starts: ["kmem_cache_destroy "],
    pattern: /^kmem_cache_destroy (\S{1,64}): Slab cache still has objects$/,
    title: "slab cache $1 was destroyed and still has objects",
    inFrame: true,
    severity: "warning",
    source: "mm/slab_common.c: kmem_cache_destroy(); until 5.17 without WARN()",
    examples: ["kmem_cache_destroy dccp_feat: Slab cache still has objects"],
    negatives: ["kmem_cache_destroy foo: Slab cache still has objects when called from foo_exit+0x1/0x2"],
  },
]);
