import { expect, test } from "vitest";
import { detect, KernelLog, kinds, titles } from "./support/triage-console.ts";

const FREEBSD = "FreeBSD 14.0-RELEASE #0 releng/14.0-n265380: Fri Nov 10 05:57:23 UTC 2023\n";
const XEN = "(XEN) Xen version 4.17.0 (Debian) (gcc) debug=n Mon Jan  1 00:00:00 UTC 2024\n";

test.each([
  ["Fatal trap 12: page fault while in kernel mode", "page-fault/oops"],
  ["Fatal trap 9: general protection fault while in kernel mode", "gpf/oops"],
  ["Fatal trap 18: integer divide fault while in kernel mode", "divide-error/oops"],
  ["Fatal trap 28: machine check trap while in kernel mode", "trap/oops"],
  ["pid 123 (java), jid 0, uid 0, was killed: failed to reclaim memory", "oom/warning"],
  ["mountroot> ", "boot-failure/hang"],
])("FreeBSD: %s is %s", (line, kind) => {
  expect(kinds(detect(`${FREEBSD}${line}\n`))).toEqual([kind]);
});

test("a fault that FreeBSD panics of is one incident; one that KASAN found is KASAN's", () => {
  const fault = "Fatal trap 9: general protection fault while in kernel mode\ncpuid = 0; apic id = 00\n";
  const panic = "panic: general protection fault\ncpuid = 0\ntime = 1700000000\nKDB: stack backtrace:\n";
  expect(kinds(detect(`${FREEBSD}${fault}${panic}`))).toEqual(["gpf/panic"]);
  const asan = "panic: ASan: Invalid access, 8-byte read at 0xfffffe00, UMAUseAfterFree(fd)\ncpuid = 1\n";
  expect(kinds(detect(asan))).toEqual(["kasan/panic"]);
});

test("DragonFly says who it is", () => {
  const banner = "DragonFly v6.4.0-RELEASE #34: Sat Dec 31 00:00:00 UTC 2022\n";
  expect(kinds(detect(`${banner}panic: assertion "x" failed in foo at /usr/src/sys/x.c:12\n`))).toEqual([
    "panic/panic",
  ]);
});

test.each([
  ["(XEN) FATAL TRAP: vec 14, #PF[0003] IN INTERRUPT CONTEXT", "hypervisor-crash/panic"],
  ["(XEN) CPU0: Unexpected Trap: Data Abort", "hypervisor-crash/panic"],
  ["(XEN) Watchdog timer detects that CPU0 is stuck!", "hard-lockup/hang"],
  ["(XEN) Watchdog timer fired for domain 0", "hung-task/hang"],
  ["(XEN) d1v0 Triple fault - invoking HVM shutdown action 1", "domain-crash/panic"],
  ["(XEN) Failed vm entry (exit reason 0x80000021) caused by invalid guest state (0).", "domain-crash/panic"],
  ["(XEN) Xen WARN at domain.c:123", "warning/warning"],
])("Xen: %s is %s", (line, kind) => {
  expect(kinds(detect(`${XEN}${line}\n`))).toEqual([kind]);
});

test("Xen's panic and the trap that it names are one", () => {
  const stars = "(XEN) ****************************************\n";
  const text = `${XEN}${stars}(XEN) Panic on CPU 0:\n(XEN) FATAL TRAP: vec 6, #UD[0000]\n${stars}(XEN) Reboot in five seconds...\n`;
  expect(kinds(detect(text))).toEqual(["hypervisor-crash/panic"]);
  expect(titles(detect(text))).toEqual(["Xen: panic: FATAL TRAP: vec 6, #UD[0000]"]);
  const bare = `${XEN}${stars}(XEN) Panic on CPU 0:\n${stars}(XEN) Could not construct domain 0\n`;
  expect(titles(detect(bare))).toEqual(["Xen: panic"]);
});

test("a panic whose reason is in the line behind has it in its title", () => {
  const illumos = "panic[cpu1]/thread=ffffff0146cd1060: \nmutex_enter: bad mutex, lp=0\n";
  expect(titles(detect(illumos))).toEqual(["panic: mutex_enter: bad mutex, lp=0"]);
  const zircon =
    "*** KERNEL PANIC (caller pc: 0xffffffff00123456, stack frame: 0xffffffff00200000):\n*** out of pages\n";
  expect(titles(detect(zircon))).toEqual(["ZIRCON KERNEL PANIC: out of pages"]);
});

test("a domain that is shut down in order is none that crashed", () => {
  const text = "(XEN) Hardware Dom0 shutdown: rebooting machine\n(XEN) Domain heap initialised\n";
  expect(kinds(detect(XEN + text))).toEqual([]);
});

test("what EMS prints of a blue screen has a name", () => {
  const text = [
    "<BP>",
    '<INSTANCE CLASSNAME="BLUESCREEN">',
    '<PROPERTY NAME="STOPCODE" TYPE="string"><VALUE>"0xD1"</VALUE></PROPERTY><machine-info>',
    "<name>web-1</name>",
    "</machine-info>",
    "</INSTANCE>",
    "!SAC>",
  ];
  expect(kinds(detect(text.join("\r\n")))).toEqual(["bugcheck/panic"]);
  expect(titles(detect(text.join("\r\n")))).toEqual(["bug check 0xD1 DRIVER_IRQL_NOT_LESS_OR_EQUAL"]);
  const stop = "*** STOP: 0x0000007B (0xF78D2524,0xC0000034,0x00000000,0x00000000)\n";
  expect(titles(detect(stop))).toEqual(["bug check 0x0000007B INACCESSIBLE_BOOT_DEVICE"]);
  expect(titles(detect("*** STOP: 0x0BADC0DE (0,0,0,0)\n"))).toEqual(["bug check 0x0BADC0DE"]);
  expect(kinds(detect("<machine-info>\n<name>web-1</name>\n</machine-info>\nSAC>\n"))).toEqual([]);
});

test.each([
  ["[anonymous-instance:main] Firecracker panicked at src/vmm/src/lib.rs:12:5", "hypervisor-crash/panic"],
  ["thread 'vcpu0' panicked at vmm/src/cpu.rs:12:5:", "hypervisor-crash/panic"],
  [
    "[anonymous-instance:fc_vcpu0] Failure during vcpu run: Bad address (os error 14)",
    "hypervisor-crash/panic",
  ],
  ["*** KERNEL PANIC (caller pc: 0xffffffff00123456, stack frame: 0xffffffff00200000):", "panic/panic"],
  ["PANIC at PC : 0x00000000e0a4c0de", "firmware-crash/panic"],
  ["E/TC:0 0 Panic 'x' at core/arch/arm/kernel/abort.c:584 <abort_handler>", "firmware-crash/panic"],
  ["Unexpected Exception: 13 @ 10:7f7c2a1d - Halting", "firmware-crash/panic"],
  ["ASSERTION ERROR: file 'src/lib/cbmem.c', line 12", "firmware-assert/oops"],
  ["ASSERT /build/edk2/OvmfPkg/PlatformPei/Platform.c(123): Found", "firmware-assert/oops"],
  ["Unhandled exception: Load access fault", "firmware-crash/panic"],
  ["SPL: failed to boot from all boot devices", "boot-failure/hang"],
  ["FATAL: No bootable medium found! System halted.", "boot-failure/hang"],
  ["   Minimal BASH-like line editing is supported. For the first word, TAB", "boot-failure/hang"],
  [
    "error: ../../grub-core/loader/i386/efi/linux.c:258:you need to load the kernel first.",
    "boot-failure/warning",
  ],
  [" -- System halted", "boot-failure/hang"],
  ["(initramfs) ", "emergency-mode/hang"],
  ["ERROR: Failed to mount 'UUID=1234-5678' on real root", "boot-failure/hang"],
  ["/dev/vda1: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.", "boot-failure/warning"],
  ["[!!!!!!] Failed to mount API filesystems.", "init-failure/hang"],
])("%s is %s", (line, kind) => {
  expect(kinds(detect(`${line}\n`))).toEqual([kind]);
});

test("what programs say is none of it", () => {
  const text = new KernelLog()
    .boot()
    .print(
      "thread 'main' panicked at src/main.rs:1:1:",
      "Unhandled exception: System.NullReferenceException",
      "error: file not found",
      "[ OK ] Started Panic button.",
      "E/TC:? 0 TA panicked with code 0xffff0000",
      "fatal error: all goroutines are asleep - deadlock!",
    );
  expect(kinds(detect(`${text}`))).toEqual([]);
});

test("NetBSD on riscv has the frame in front of vpanic()", () => {
  const panic = '[  13.8099930] panic: kernel diagnostic assertion "x" failed: file "a.c", line 948\n';
  const frame = "[  13.8399887] fp ffffffc2c10cfbd0 vpanic() at ffffffc000357940 netbsd:vpanic+0x140\n";
  expect(kinds(detect(panic + frame))).toEqual(["panic/panic"]);
  expect(kinds(detect(panic))).toEqual([]);
});

test("a logger's time of day may end in a colon", () => {
  const line = '"Synchronous Abort" handler, esr 0x96000010, far 0x51000d8';
  expect(kinds(detect(`02:58:27.819: Starting kernel ...\n02:58:27.819: ${line}\n`))).toEqual([
    "firmware-crash/panic",
  ]);
  expect(kinds(detect(`at 02:58:27.819: ${line}\n`))).toEqual([]);
});
