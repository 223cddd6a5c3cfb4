import { signatures } from "../signature.ts";

/** Failures of user space that keep a machine from doing its work, and processes that died. */
export const USERLAND = signatures([
  {
    id: "systemd/freeze",
    class: "init-failure",
    starts: ["systemd[1]: "],
    pattern:
      /^systemd\[1\]: (?:Freezing execution\.|Caught <(\w{3,8})>|Freezing\.?$|Failed to (?:allocate manager object|mount API filesystems|load)\b.{0,80}[Ff]reezing)/,
    title: "systemd froze",
    speaker: "any",
    source: "systemd src/core/crash-handler.c: freeze_or_exit_or_reboot()",
    examples: [
      "systemd[1]: Freezing execution.",
      "systemd[1]: Caught <SEGV>, core dump failed (child 123, code=killed, status=11/SEGV).",
    ],
    negatives: ["systemd[1]: Started panic-handler test unit (kernel.panic=30)."],
  },
  {
    id: "init/panic",
    class: "init-failure",
    starts: ["INIT: PANIC: ", "init: PANIC: "],
    pattern: /^INIT: PANIC: (.{1,100})/,
    title: "INIT: PANIC: $1",
    speaker: "any",
    source: "sysvinit src/init.c: coredump()",
    examples: ["INIT: PANIC: segmentation violation! sleeping for 30 seconds."],
  },
  {
    id: "systemd/emergency",
    class: "emergency-mode",
    starts: [
      "You are in emergency mode",
      "Entering emergency mode",
      'Generating "/run/initramfs/rdsosreport',
      "You are in rescue mode",
      "Welcome to emergency mode",
      "Cannot open access to console, the root account is locked",
    ],
    pattern:
      /^(?:You are in (emergency|rescue) mode|Entering (emergency) mode|Welcome to (emergency) mode|Cannot open access to console, the root account is locked)/,
    title: "start-up stopped in emergency mode",
    speaker: "any",
    source:
      "systemd src/sulogin-shell, units/emergency.service.in; dracut modules.d/98dracut-systemd/dracut-emergency.sh",
    examples: [
      'You are in emergency mode. After logging in, type "journalctl -xb" to view',
      "Entering emergency mode. Exit the shell to continue.",
    ],
  },
  {
    id: "dracut/timeout",
    class: "boot-failure",
    contains: "dracut-initqueue",
    pattern:
      /^dracut-initqueue(?:\[\d+\])?: (?:Warning: )?(?:dracut-initqueue(?:: | )timeout|dracut-initqueue: starting timeout scripts|Could not boot)/,
    title: "dracut waited in vain for the root file system",
    severity: "warning",
    speaker: "any",
    source: "dracut modules.d/99base/dracut-lib.sh, modules.d/98dracut-systemd/dracut-initqueue.sh",
    examples: [
      "dracut-initqueue[321]: Warning: dracut-initqueue timeout - starting timeout scripts",
      "dracut-initqueue[321]: Warning: dracut-initqueue: starting timeout scripts",
    ],
  },
  {
    id: "dracut/fatal",
    class: "boot-failure",
    starts: ["dracut: FATAL: ", "dracut: Refusing to continue"],
    pattern: /^dracut: (?:FATAL: (.{1,100})|Refusing to continue)/,
    title: "dracut: FATAL: $1",
    speaker: "any",
    source: "dracut modules.d/99base/dracut-lib.sh: die()",
    examples: ["dracut: FATAL: No or empty root= argument", "dracut: Refusing to continue"],
  },
  {
    id: "initramfs/no-root",
    class: "boot-failure",
    starts: ["ALERT!  ", "Gave up waiting for root", "ERROR: device 'UUID"],
    pattern:
      /^(?:ALERT! +\S{1,200} does not exist\. {2}Dropping to a shell|Gave up waiting for root (?:file system )?device)/,
    title: "initramfs: no root file system",
    speaker: "any",
    source: "initramfs-tools scripts/local: local_device_setup()",
    examples: [
      "ALERT!  UUID=1234-5678 does not exist.  Dropping to a shell!",
      "Gave up waiting for root file system device.  Common problems:",
    ],
  },
  {
    id: "kdump/failed",
    class: "unit-failure",
    starts: ["kdump: saving vmcore failed", "kdump.sh[", "kdump["],
    pattern: /^(?:kdump(?:\.sh)?(?:\[\d+\])?: )(?:kdump: )?saving vmcore failed/,
    title: "kdump: saving vmcore failed",
    severity: "warning",
    speaker: "any",
    source: "kdump-utils dracut/99kdumpbase/kdump.sh",
    examples: ["kdump: saving vmcore failed", "kdump[123]: saving vmcore failed, exitcode:1"],
  },
  {
    id: "linux/user-fault",
    class: "user-fault",
    contains: "]: segfault at ",
    pattern: /^(?:traps: )?[^"'[]{1,20}\[\d+\]: segfault at [0-9a-f]+ ip [0-9a-f]+ sp /,
    title: "a process died of a segmentation fault",
    source: "arch/x86/mm/fault.c: show_signal_msg()",
    examples: ["a.out[123]: segfault at 0 ip 0000000000401136 sp 00007ffd error 4 in a.out[401000+1000]"],
  },
]);
