import { expect, test } from "vitest";
import { detect, KernelLog, kinds, titles } from "./support/triage-console.ts";

/** Reports as the sources of each architecture print them; the last line is the end of the console. */
const REPORTS: readonly (readonly [name: string, kind: string, title: string, report: readonly string[]])[] =
  [
    [
      "mips",
      "kernel-bug/oops",
      "kernel BUG in dql_completed",
      [
        "Kernel bug detected[#1]:",
        "CPU: 2 PID: 42 Comm: kswapd1 Not tainted 3.19.0 #7",
        "task: 8f8a0008 ti: 8f524000 task.ti: 8f524000",
        "$ 0   : 00000000 94001ce0 00000000 00000000",
        "$ 4   : 82957d40 00000000 8f527b00 8f527b38",
        "Hi    : 00000000",
        "Lo    : 00000000",
        "epc   : 801d1a58 dql_completed+0x1c/0x170",
        "ra    : 801d2b34 netdev_tx_completed+0x33c/0x5f0",
        "Status: 94001ce2\tKX SX UX KERNEL EXL",
        "Cause : 00000034 (ExcCode 0d)",
        "PrId  : 00000e14 (R14000)",
        "Process kswapd1 (pid: 42, threadinfo=8f524000, task=8f8a0008, tls=00000000)",
        "Stack : 00000000 00000001",
        "Call Trace:",
        "[<801d1a58>] dql_completed+0x1c/0x170",
        "[<801d2b34>] netdev_tx_completed+0x33c/0x5f0",
        "Code: 00021024  14400003  00000000 <000c000d> 8e020000",
      ],
    ],
    [
      "mips, a fault",
      "page-fault/oops",
      "unable to handle kernel paging request in foo_probe",
      [
        "CPU 0 Unable to handle kernel paging request at virtual address 00000000, epc == 80123456, ra == 80123450",
        "Oops[#1]:",
        "CPU: 0 PID: 1 Comm: swapper Not tainted 5.10.16 #0",
        "$ 0   : 00000000 10008700 00000000 77d94060",
        "epc   : 80123456 foo_probe+0x18/0x90",
        "BadVA : 00000000",
      ],
    ],
    [
      "loongarch",
      "invalid-opcode/oops",
      "Reserved instruction in kernel code in foo_init",
      [
        "Reserved instruction in kernel code[#1]:",
        "CPU: 1 PID: 1 Comm: swapper/0 Not tainted 6.6.0 #1",
        "pc 9000000000a3c2f1 ra 9000000000a3c200 tp 9000000100150000 sp 9000000100153d70",
        "a0 0000000000000000 a1 0000000000000001 a2 0000000000000002 a3 0000000000000003",
        "   ra: 9000000000a3c200 foo_init+0x10/0x30",
        "  ERA: 9000000000a3c2f1 foo_init+0x18/0x30",
        " CRMD: 000000b0 (PLV0 -IE -DA +PG DACF=CC DACM=CC -WE)",
        " ESTAT: 000d0000 [INE] (IS= ECode=13 EsubCode=0)",
      ],
    ],
    [
      "sparc",
      "kernel-bug/oops",
      "kernel BUG at kernel/foo.c:12 in foo_init",
      [
        "kernel BUG at kernel/foo.c:12!",
        "              \\|/ ____ \\|/",
        '              "@\'/ .. \\`@"',
        "              /_| \\__/ |_\\",
        "                 \\__U_/",
        "insmod(1234): Kernel bad sw trap 5 [#1]",
        "CPU: 0 PID: 1234 Comm: insmod Not tainted 4.19.0 #1",
        "TSTATE: 0000004480001607 TPC: 00000000005d3a44 TNPC: 00000000005d3a48 Y: 00000000    Not tainted",
        "TPC: <foo_init+0x24/0x40>",
        "g0: 0000000000000000 g1: 0000000000000001 g2: 0000000000000000 g3: 0000000000000000",
        "o0: 0000000000000020 o1: 0000000000000001 o2: 0000000000000000 o3: 0000000000000000",
        "RPC: <foo_init+0x1c/0x40>",
        "l0: 0000000000000000 l1: 0000000000000001 l2: 0000000000000000 l3: 0000000000000000",
        "i0: 0000000000000000 i1: 0000000000000001 i2: 0000000000000000 i3: 0000000000000000",
        "I7: <do_one_initcall+0x30/0x160>",
        "Call Trace:",
        " [0000000000426f90] do_one_initcall+0x30/0x160",
        "Disabling lock debugging due to kernel taint",
        "Caller[0000000000426f90]: do_one_initcall+0x30/0x160",
        "Instruction DUMP: 92102010 7ffffc00 901321a8 <91d02005> 30680003",
      ],
    ],
    [
      "parisc",
      "trap/panic",
      "Bad Address (null pointer deref?) in foo_write",
      [
        "Backtrace:",
        " [<000000001034a1b0>] foo_write+0x48/0x80",
        "",
        "Bad Address (null pointer deref?): Code=15 (Data TLB miss fault) at addr 0000000000000008",
        "CPU: 0 PID: 1 Comm: swapper/0 Not tainted 6.1.0 #1",
        "     YZrvWESTHLNXBCVMcbcbcbcbOGFRQPDI",
        "PSW: 00001000000001101111111100001111 Not tainted",
        "r00-03  000000ff0806ff0f 0000000041b0a000 000000001034a1b0 0000000041b0a1c0",
        "sr00-03  0000000000000000 0000000000000000 0000000000000000 0000000000000000",
        "IASQ: 0000000000000000 0000000000000000 IAOQ: 000000001034a1b0 000000001034a1b4",
        " IIR: 0f481098    ISR: 0000000000000000  IOR: 0000000000000008",
        " IAOQ[0]: foo_write+0x48/0x80",
        " RP(r2): foo_write+0x30/0x80",
        "Kernel panic - not syncing: Bad Address (null pointer deref?)",
      ],
    ],
    [
      "m68k",
      "page-fault/oops",
      "Unable to handle kernel access in foo_read",
      [
        "Unable to handle kernel access at virtual address 48a3c1d0",
        "Oops: 00000000",
        "Modules linked in:",
        "PC: [<0012a3c4>] foo_read+0x12/0x34",
        "SR: 2000  SP: 00c31e60  a2: 00c2a000",
        "d0: 00000000    d1: 00000001    d2: 00000000    d3: 00000000",
        "Process init (pid: 1, task=00c2a000)",
        "Frame format=7 eff addr=48a3c1d0 ssw=0505 faddr=48a3c1d0",
        "wb 1 stat/addr/data: 0000 00000000 00000000",
        "push data: 00000000 00000000 00000000 00000000",
        "Stack from 00c31ec8:",
        "        00000000 00c31f40",
        "Call Trace: [<0012a3c4>] foo_read+0x12/0x34",
        " [<0012a000>] vfs_read+0x10/0x20",
        "Code: 206e 0008 <2010> 4e5e 4e75",
      ],
    ],
    [
      "xtensa",
      "trap/oops",
      "Unhandled unaligned exception in kernel in foo_irq",
      [
        "Unhandled unaligned exception in kernel: sig: 7 [#1] PREEMPT",
        "CPU: 0 PID: 1 Comm: swapper Not tainted 5.15.0 #1",
        "a00: 8001a3c4 d0c31e60 00000000 00000000 00000001 00000000 00000000 00000000",
        "pc: d001a3c4, ps: 00060130, depc: 00000000, excvaddr: 00000003",
        "lbeg: d0000000, lend: d0000010 lcount: 00000000, sar: 00000000",
        "Call Trace:",
        " [<d001a3c4>] foo_irq+0x14/0x40",
        " [<d001a000>] handle_irq_event+0x10/0x20",
      ],
    ],
    [
      "alpha",
      "page-fault/oops",
      "Unable to handle kernel paging request in foo_open",
      [
        "Unable to handle kernel paging request at virtual address 0000000000000018",
        "CPU 0 ",
        "modprobe(123): Oops 0",
        "pc = [<fffffc000031a3c4>]  ra = [<fffffc000031a3a0>]  ps = 0000    Not tainted",
        "pc is at foo_open+0x14/0x90",
        "ra is at foo_open+0x10/0x90",
        "v0 = 0000000000000000  t0 = 0000000000000001  t1 = fffffc0000800000",
        "Trace:",
        "[<fffffc000031a3c4>] foo_open+0x14/0x90",
      ],
    ],
    [
      "um",
      "page-fault/panic",
      "Kernel panic - not syncing: Kernel mode fault at addr 0x8, ip 0x600a3c1d",
      [
        "Modules linked in:",
        "Pid: 1, comm: swapper Not tainted 5.10.0",
        "RIP: 0033:[<00000000600a3c1d>]",
        "Kernel panic - not syncing: Kernel mode fault at addr 0x8, ip 0x600a3c1d",
      ],
    ],
  ];

test.each(REPORTS)("%s dies of %s: %s", (_name, kind, title, report) => {
  const { findings } = detect(`${new KernelLog().boot().say(...report)}`);
  expect(findings.map((one) => `${one.class}/${one.severity}`)).toEqual([kind]);
  expect(findings.map((one) => one.title)).toEqual([title]);
  // All of it is the report: nothing that comes behind says that the kernel went on.
  expect(findings[0]!.survived).not.toBe(true);
});

test("what a process of these machines dies of is no oops", () => {
  const text = new KernelLog()
    .boot()
    .say(
      "a.out (pid 1234): Illegal instruction (code 8) at 0000000000010a4c",
      "Illegal Instruction in 'init' (pid = 1, pc = 0x00401234)",
      "Caught unhandled exception in 'init' (pid = 1, pc = 0x00401234) - should not happen",
    );
  expect(kinds(detect(`${text}`))).toEqual([]);
});

test("a list that counts is no report", () => {
  expect(titles(detect("Changes, see [#12]:\nFix the build [#3]\nThanks: everybody [#4]\n"))).toEqual([]);
});
