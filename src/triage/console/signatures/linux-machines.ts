import { signatures } from "../signature.ts";

/** mips, loongarch, sparc, parisc, m68k; and die() of whatever machine has no signature of its own. */
export const LINUX_MACHINES = signatures([
  {
    id: "mips/kernel-bug",
    class: "kernel-bug",
    role: "end",
    starts: ["Kernel bug detected[#", "Oops - BUG[#"],
    pattern: /^(?:Kernel bug detected|Oops - BUG)\[#\d{1,5}\]:/,
    title: "kernel BUG",
    inFrame: true,
    source: "arch/mips/kernel/traps.c: do_trap_or_bp(); arch/loongarch/kernel/traps.c: bug_handler()",
    examples: ["Kernel bug detected[#1]:", "Oops - BUG[#1]:"],
    negatives: ["Kernel bug detected"],
  },
  {
    id: "mips/illegal-instruction",
    class: "invalid-opcode",
    role: "end",
    starts: ["Reserved instruction in kernel code[#", "Illegal instruction in kernel: sig: "],
    pattern:
      /^(?:(Reserved instruction in kernel code)\[#\d{1,5}\]:|(Illegal instruction in kernel): sig: \d+ \[#\d)/,
    title: "$+",
    inFrame: true,
    source: "arch/mips, arch/loongarch: do_ri(); arch/xtensa/kernel/traps.c: do_illegal_instruction()",
    examples: [
      "Reserved instruction in kernel code[#1]:",
      "Illegal instruction in kernel: sig: 9 [#1] PREEMPT",
    ],
    negatives: ["Illegal Instruction in 'init' (pid = 1, pc = 0x00401234)"],
  },
  {
    id: "mips/bus-error",
    class: "trap",
    starts: ["Data bus error, epc ==", "Instruction bus error, epc =="],
    pattern: /^(Data|Instruction) bus error, epc == [0-9a-f]{8,16}, ra == [0-9a-f]{8,16}/,
    title: "$1 bus error",
    inFrame: true,
    source: "arch/mips/kernel/traps.c: do_be(), also of a process",
    severity: "warning",
    examples: ["Data bus error, epc == 80012345, ra == 80012340"],
  },
  {
    id: "mips/nmi",
    class: "nmi",
    role: "end",
    starts: ["NMI[#", "CPU"],
    pattern: /^(?:NMI\[#\d{1,5}\]:|CPU\d{1,4} NMI taken, CP0_EPC=[0-9a-f]{8,16})/,
    title: "NMI",
    severity: "oops",
    source: "arch/mips/kernel/traps.c: nmi_exception_handler()",
    examples: ["NMI[#1]:", "CPU0 NMI taken, CP0_EPC=80123456"],
  },
  {
    id: "parisc/terminate",
    class: "trap",
    starts: [
      ...["Bad Address (", "Kernel Fault: ", "High Priority Machine Check (", "Page fault: ", "Unexpected "],
      ...["Illegal instruction: ", "Stack overflow: "],
    ],
    pattern:
      /^([A-Z][\w ():?-]{3,60}): Code=\d{1,3} (?:\([A-Za-z][\w /:()-]{3,60}\) at addr [0-9a-f]{8,16}|regs=[0-9a-fp()rvtal_]{8,18} \(Addr=[0-9a-f]{8,16}\))/,
    title: "$1",
    inFrame: true,
    source: "arch/parisc/kernel/traps.c: parisc_terminate(), behind its backtrace; panic() follows",
    examples: [
      "Bad Address (null pointer deref?): Code=15 (Data TLB miss fault) at addr 0000000000000000",
      "Kernel Fault: Code=26 regs=00000000bd0d8540 (Addr=0000000000000008)",
    ],
    negatives: ["Exited: Code=1 (failure) at addr home"],
  },
  {
    id: "m68k/access",
    class: "page-fault",
    starts: ["Unable to handle kernel access at virtual address", "BAD KERNEL BUSERR", "BAD KERNEL TRAP: "],
    pattern:
      /^(?:(Unable to handle kernel access) at virtual address|(BAD KERNEL BUSERR)|(BAD KERNEL TRAP): [0-9a-f]{8}$)/,
    title: "$+",
    inFrame: true,
    source:
      "arch/m68k/mm/fault.c: send_fault_sig(); arch/m68k/kernel/traps.c: bus_error030(), bad_super_trap()",
    examples: [
      "Unable to handle kernel access at virtual address 48a3c1d0",
      "BAD KERNEL BUSERR",
      "BAD KERNEL TRAP: 00000000",
    ],
  },
  {
    id: "m68k/oops",
    class: "oops",
    role: "end",
    starts: ["Oops: "],
    pattern: /^Oops: [0-9a-f]{8}$/,
    title: "Oops",
    inFrame: true,
    source: "arch/m68k/kernel/traps.c: die_if_kernel()",
    examples: ["Oops: 00000000"],
  },
  {
    id: "linux/die",
    class: "trap",
    role: "end",
    starts: [
      ...[
        "Oops",
        "Bad pagetable: ",
        "Kernel ",
        "Break instruction in kernel code[",
        "Trap instruction in kernel",
      ],
      ...["do_cpu invoked ", "do_fpu invoked ", "do_reserved exception[", "FP exception in kernel code["],
      ...["Unhandled kernel unaligned ", "Unhandled unaligned exception in kernel: ", "Integer overflow["],
      ...["Caught multihit exception: ", "Caught unhandled exception - ", "Breakpoint in kernel: "],
      ...["real-space exception: ", "pc-relative ", "address error", "Illegal "],
    ],
    pattern:
      /^(?:([A-Za-z][\w ,.!'()/-]{2,80})(?<! )\[#\d{1,5}\]:$|([A-Za-z][\w ,.!'()/-]{2,80}): (?:sig: \d{1,3}|[0-9a-f]{4,16}(?: ilc:\d)?) \[#\d{1,5}\](?: [A-Z][A-Z_ ]{2,60})?$|(Oops) \[#\d{1,5}\](?: [A-Z][A-Z_ ]{2,60})?$)/,
    title: "$+",
    inFrame: true,
    source:
      "die() of arch/{mips,loongarch,xtensa,s390,sh,csky}: what it was given, its number, how the kernel was built",
    examples: [
      "Kernel ale access[#1]:",
      "do_cpu invoked from kernel context![#1]:",
      "Unhandled unaligned exception in kernel: sig: 7 [#1] PREEMPT",
      "real-space exception: 0024 ilc:1 [#1] SMP",
      "Bad pagetable: 0009 [#1] PREEMPT SMP NOPTI",
      "Oops [#1]",
    ],
    negatives: ["Kernel command line: see issue [#1]", "Illegal: issue [#1]:", "Oops, see [#12] and more"],
  },
]);
