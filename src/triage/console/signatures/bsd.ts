import { signatures } from "../signature.ts";

const FREEBSD_CONFIRM =
  /^(?:cpuid = \d|KDB: |time = \d{6,}|db>|Uptime: |--- trap|panic\(\) at |Stopped at|Dumping \d|vpanic\(\) at)/;
const OPENBSD_CONFIRM =
  /^(?:Stopped at|Starting stack trace|panic\(|ddb(?:\{\d+\})?>|TID +PID|RUN AT LEAST|\*? *\d+ +\d+ +\d+ +0x|end trace frame|syncing disks|End of stack trace)/;
const NETBSD_CONFIRM =
  /^(?:cpu\d+: Begin traceback|vpanic\(\) at|Stopped in pid|db(?:\{\d+\})?>|fatal breakpoint trap|dumping to dev|\?\(\) at|trap type \d)/;

/** FreeBSD, NetBSD and OpenBSD. Their panics begin with a word that programs use too: something has to confirm them. */
export const BSD = signatures([
  {
    id: "freebsd/trap",
    class: "page-fault",
    starts: ["Fatal trap "],
    pattern: /^Fatal trap (?:12|30|9|18|\d{1,3}): (.{3,80}?) while in kernel mode/,
    title: "Fatal trap: $1",
    inFrame: true,
    systems: ["freebsd"],
    confirm: /^(?:cpuid = \d|fault (?:virtual )?address|instruction pointer|stack pointer|KDB: )/,
    source: "FreeBSD sys/amd64/amd64/trap.c: trap_fatal()",
    examples: [
      "Fatal trap 12: page fault while in kernel mode",
      "Fatal trap 9: general protection fault while in kernel mode",
    ],
    negatives: ["Fatal trap for young players"],
  },
  {
    id: "freebsd/double-fault",
    class: "double-fault",
    starts: ["Fatal double fault"],
    pattern: /^Fatal double fault/,
    title: "Fatal double fault",
    systems: ["freebsd"],
    confirm: /^(?:rip|eip) ?=? ?|^cpuid = /,
    source: "FreeBSD sys/amd64/amd64/trap.c: dblfault_handler()",
    examples: ["Fatal double fault"],
  },
  {
    id: "bsd/panic",
    class: "panic",
    role: "panic",
    starts: ["panic: "],
    pattern: /^panic: (?!runtime error|interface conversion|\S+ \[recovered\])(.+)/,
    title: "panic: $1",
    systems: ["freebsd", "openbsd", "netbsd"],
    confirm: new RegExp(
      [FREEBSD_CONFIRM, OPENBSD_CONFIRM, NETBSD_CONFIRM].map(({ source }) => source).join("|"),
    ),
    source: "FreeBSD sys/kern/kern_shutdown.c: vpanic(); OpenBSD, NetBSD sys/kern/subr_prf.c: panic()",
    examples: ["panic: ffs_blkfree: freeing free block", "panic: page fault"],
    negatives: [
      "go: panic: runtime error: invalid memory address",
      "panic: runtime error: index out of range",
    ],
  },
  {
    id: "freebsd/lor",
    class: "lockdep",
    starts: ["lock order reversal:", "acquiring duplicate lock"],
    pattern: /^(lock order reversal|acquiring duplicate lock of same type)\b/,
    title: "$1",
    inFrame: true,
    systems: ["freebsd", "openbsd"],
    confirm: /^ ?(?:1st|2nd|stack backtrace|lock order)/,
    source: "FreeBSD sys/kern/subr_witness.c: witness_checkorder(); OpenBSD sys/kern/subr_witness.c",
    examples: ["lock order reversal:", "lock order reversal: (sleepable after non-sleepable)"],
  },
  {
    id: "netbsd/fault",
    class: "page-fault",
    starts: [
      "fatal page fault in supervisor",
      "fatal protection fault in supervisor",
      "fatal ",
      "uvm_fault(",
    ],
    pattern: /^(fatal [a-z ]{3,40} in supervisor mode)/,
    title: "$1",
    inFrame: true,
    systems: ["netbsd"],
    confirm: /^trap type \d|^curlwp |^panic: trap|^rip /,
    source: "NetBSD sys/arch/amd64/amd64/trap.c: trap_print()",
    examples: ["fatal page fault in supervisor mode", "fatal integer divide fault in supervisor mode"],
  },
  {
    id: "netbsd/ubsan",
    class: "ubsan",
    starts: ["UBSan: Undefined Behavior in "],
    pattern: /^UBSan: Undefined Behavior in (\S{1,200}?):\d+/,
    title: "UBSan: Undefined Behavior in $1",
    source: "NetBSD common/lib/libc/misc/ubsan.c",
    examples: ["UBSan: Undefined Behavior in ../../../sys/kern/kern_foo.c:12:3, member access"],
  },
  {
    id: "netbsd/asan",
    class: "kasan",
    starts: ["ASan: Unauthorized Access In ", "MSan: Uninitialized "],
    pattern: /^(ASan: Unauthorized Access|MSan: Uninitialized \w{1,20} Memory) [IA]n? ?/,
    title: "$1",
    inFrame: true,
    source: "NetBSD sys/kern/subr_asan.c: kasan_report()",
    examples: ["ASan: Unauthorized Access In 0xffffffff80e5b1f9: Addr 0xffff [8 bytes, read, UseAfterFree]"],
  },
  {
    id: "openbsd/trap",
    class: "page-fault",
    starts: ["kernel: ", "page fault trap, code", "protection fault trap, code", "double fault trap, code"],
    pattern: /^(?:kernel: )?([a-z][a-z ]{3,40}?) trap, code=/,
    title: "kernel: $1 trap",
    inFrame: true,
    systems: ["openbsd"],
    confirm: OPENBSD_CONFIRM,
    source: "OpenBSD sys/arch/amd64/amd64/trap.c: fault()",
    examples: ["kernel: page fault trap, code=0", "kernel: protection fault trap, code=0"],
    negatives: ["kernel: NET: Registered PF_INET"],
  },
  {
    id: "openbsd/diagnostic",
    class: "lockdep",
    starts: ["witness: ", "splassert: "],
    pattern: /^(witness: (?:lock order reversal|.{1,60}not locked)|splassert: \w{1,40})/,
    title: "$1",
    severity: "warning",
    source: "OpenBSD sys/kern/subr_witness.c; sys/arch/*/intr.c: splassert_fail()",
    examples: ["witness: lock order reversal:", "splassert: yield: want 0 have 1"],
  },
  {
    id: "darwin/panic",
    class: "panic",
    role: "panic",
    starts: ["panic(cpu ", "Debugger: Unexpected kernel trap"],
    pattern:
      /^(?:panic\(cpu \d+ caller 0x[0-9a-f]+\): "?(.*?)"?$|Debugger: Unexpected kernel trap number: (.*))/,
    title: "panic: $1",
    source: "XNU osfmk/kern/debug.c: panic_with_options()",
    examples: ["panic(cpu 1 caller 0xffffff8005a7c2a1): Kernel trap at 0xffffff80, type 14=page fault"],
  },
]);
