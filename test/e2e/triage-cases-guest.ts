import {
  type Case,
  CLEAN,
  CRASH,
  ISA_PVPANIC,
  PANICKED,
  PCI_PVPANIC,
  POWEROFF,
  PVPANIC,
  quit,
  SYSRQ,
  WATCHDOG,
} from "./triage-case.ts";
import type { Running } from "./triage-guest.ts";

const nmi = async (machine: Running): Promise<void> => {
  await machine.says(/^waiting/m);
  await machine.qmp.command("inject-nmi");
};

/** The guest's kernel dies. */
export const panics: readonly Case[] = [
  {
    ...PANICKED,
    name: "panic-default",
    deed: `${ISA_PVPANIC}; ${CRASH}`,
    qemu: PVPANIC,
    events: ["GUEST_PANICKED poweroff", "SHUTDOWN guest-panic"],
    says: SYSRQ,
    findings: ["panic", "guest-panicked"],
    agreements: ["console-and-event"],
  },
  {
    ...PANICKED,
    // As libvirt runs its machines.
    name: "panic-no-shutdown",
    deed: `${PCI_PVPANIC}; ${CRASH}`,
    qemu: ["-machine", "q35", "-device", "pvpanic-pci", "-no-shutdown"],
    host: async (machine) => {
      await machine.hears("GUEST_PANICKED pause");
      await machine.qmp.command("query-status");
      await quit(machine);
    },
    log: "transcript",
    events: ["GUEST_PANICKED pause", "STOP"],
    says: SYSRQ,
    findings: ["panic", "guest-panicked"],
    agreements: ["console-and-event"],
  },
  {
    ...PANICKED,
    name: "panic-resets",
    deed: CRASH,
    append: "panic=1",
    qemu: ["-no-reboot"],
    events: ["SHUTDOWN guest-reset"],
    says: SYSRQ,
    agreements: ["reset-after-panic"],
  },
  {
    ...PANICKED,
    name: "panic-stays",
    deed: CRASH,
    host: async (machine) => {
      await machine.says(/---\[ end Kernel panic/);
      machine.qemu.kill("SIGTERM");
    },
    events: ["SHUTDOWN host-signal"],
    says: SYSRQ,
  },
  {
    ...PANICKED,
    name: "init-dies",
    deed: `${ISA_PVPANIC}; exit 7`,
    qemu: [...PVPANIC, "-action", "panic=exit-failure"],
    events: ["GUEST_PANICKED poweroff", "SHUTDOWN guest-panic"],
    says: /Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000700/,
    ends: 1,
    findings: ["panic", "guest-panicked"],
  },
  {
    ...PANICKED,
    name: "no-root",
    append: "root=/dev/vda panic=-1",
    qemu: ["-no-reboot"],
    events: ["SHUTDOWN guest-reset"],
    says: /Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block\(0,0\)/,
  },
  {
    ...PANICKED,
    name: "oom-panic",
    deed: "echo 2 >/proc/sys/vm/panic_on_oom; tail /dev/zero",
    append: "panic=-1",
    qemu: ["-no-reboot"],
    memory: 112,
    events: ["SHUTDOWN guest-reset"],
    says: /Kernel panic - not syncing: Out of memory: compulsory panic_on_oom/,
    findings: ["oom"],
  },
  {
    ...PANICKED,
    name: "oops-panics",
    deed: `${ISA_PVPANIC}; echo 1 >/proc/sys/kernel/panic_on_oops; insmod /crash-null-pointer.ko`,
    qemu: PVPANIC,
    events: ["GUEST_PANICKED poweroff", "SHUTDOWN guest-panic"],
    says: /Kernel panic - not syncing: Fatal exception/,
    findings: ["null-deref", "guest-panicked"],
  },
  {
    ...PANICKED,
    name: "module-panics",
    deed: "insmod /crash-panic.ko",
    append: "panic=-1",
    qemu: ["-no-reboot"],
    events: ["SHUTDOWN guest-reset"],
    says: /Kernel panic - not syncing: a module was told to/,
  },
  {
    ...PANICKED,
    name: "nmi-panic",
    deed: "echo 1 >/proc/sys/kernel/unknown_nmi_panic; echo waiting",
    append: "panic=-1",
    qemu: ["-no-reboot"],
    host: nmi,
    log: "transcript",
    events: ["SHUTDOWN guest-reset"],
    says: /Kernel panic - not syncing: NMI: Not continuing/,
    findings: ["nmi"],
  },
  {
    ...PANICKED,
    name: "soft-lockup-panic",
    deed: "cd /proc/sys/kernel; echo 1 >softlockup_panic; echo 1 >watchdog_thresh; insmod /crash-spin.ko",
    append: "panic=-1",
    qemu: ["-no-reboot"],
    events: ["SHUTDOWN guest-reset"],
    says: /Kernel panic - not syncing: softlockup: hung tasks/,
    findings: ["soft-lockup"],
  },
  {
    ...PANICKED,
    // In an NMI printk only keeps its text, and the panic notifier ends the machine before it is printed.
    name: "watchdog-nmi-panics",
    deed: `${ISA_PVPANIC}; echo 1 >/proc/sys/kernel/unknown_nmi_panic; ${WATCHDOG}; insmod /crash-spin-deaf.ko`,
    qemu: [...PVPANIC, "-device", "i6300esb", "-action", "watchdog=inject-nmi"],
    events: ["WATCHDOG inject-nmi", "GUEST_PANICKED poweroff", "SHUTDOWN guest-panic"],
    rule: "panic-event",
    findings: ["guest-panicked", "watchdog"],
    contradictions: ["event-without-console"],
  },
];

/** The guest's kernel fails and goes on, or does not fail. */
export const outlived: readonly Case[] = [
  {
    ...CLEAN,
    name: "poweroff",
    deed: POWEROFF,
    append: "panic=30 oops=panic softlockup_panic=1",
    qemu: PVPANIC,
    events: ["SHUTDOWN guest-shutdown"],
    says: /reboot: Power down/,
    agreements: ["orderly-end"],
  },
  ...["reboot", "reboot-by-triple-fault"].map(
    (name): Case => ({
      name,
      deed: "reboot -f",
      append: name === "reboot" ? "" : "reboot=t",
      qemu: ["-no-reboot"],
      events: ["SHUTDOWN guest-reset"],
      says: /reboot: Restarting system/,
      verdict: "clean",
      rule: "orderly-reboot",
      findings: [],
      agreements: ["orderly-reboot"],
    }),
  ),
  {
    ...CLEAN,
    name: "bug-outlived",
    deed: `${ISA_PVPANIC}; insmod /crash-bug.ko; sleep 1; ${POWEROFF}`,
    qemu: PVPANIC,
    events: ["SHUTDOWN guest-shutdown"],
    says: /kernel BUG at crash\.S:42!/,
    findings: ["kernel-bug"],
    failsOn: "oops",
  },
  {
    ...CLEAN,
    name: "many-outlived",
    deed: `for f in warn null-pointer divide wild-pointer; do insmod /crash-$f.ko; sleep 1; done; ${POWEROFF}`,
    events: ["SHUTDOWN guest-shutdown"],
    says: /divide error: 0000 \[#2\][\s\S]*general protection fault[\s\S]*\[#3\]/,
    findings: ["null-deref", "divide-error", "gpf", "warning"],
    failsOn: "oops",
  },
  {
    ...CLEAN,
    name: "nmi-outlived",
    deed: `echo waiting; until dmesg | grep -q 'Dazed and confused'; do sleep 1; done; ${POWEROFF}`,
    host: nmi,
    events: ["SHUTDOWN guest-shutdown"],
    says: /Dazed and confused, but trying to continue/,
    findings: ["nmi"],
    failsOn: "warning",
  },
  {
    ...CLEAN,
    name: "hung-task-outlived",
    deed: `echo 2 >/proc/sys/kernel/hung_task_timeout_secs; insmod /crash-sleep.ko; ${POWEROFF}`,
    events: ["SHUTDOWN guest-shutdown"],
    says: /INFO: task insmod:\d+ blocked for more than 2 seconds/,
    findings: ["hung-task"],
    failsOn: "hang",
  },
  {
    ...CLEAN,
    name: "oom-outlived",
    deed: `(tail /dev/zero); ${POWEROFF}`,
    memory: 112,
    events: ["SHUTDOWN guest-shutdown"],
    says: /Out of memory: Killed process/,
    findings: ["oom"],
    failsOn: "warning",
  },
];
