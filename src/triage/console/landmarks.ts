/** Lines that tell where one boot ends and the next begins. */
export type LandmarkKind =
  | "linux"
  | "system"
  | "command-line"
  | "firmware"
  | "power-down"
  | "restart"
  | "kexec"
  | "going-down"
  | "boot-console"
  | "dump-saved"
  | "saved-log";

export interface Landmark {
  readonly kind: LandmarkKind;
  readonly starts: readonly string[];
  /** Anchored; its first group is what the landmark is about. */
  readonly pattern: RegExp;
  readonly system?: "linux" | "freebsd" | "netbsd" | "openbsd" | "darwin" | "other";
}

export const LANDMARKS: readonly Landmark[] = [
  // init/version.c: linux_banner
  { kind: "linux", starts: ["Linux version "], pattern: /^Linux version (\S{1,128}) \(/, system: "linux" },
  // FreeBSD sys/kern/kern_mib.c, NetBSD and OpenBSD conf/newvers.sh, Xen xen/drivers/char/console.c
  { kind: "system", starts: ["FreeBSD "], pattern: /^(FreeBSD \d\S{0,60})/, system: "freebsd" },
  { kind: "system", starts: ["DragonFly v"], pattern: /^(DragonFly v\d\S{0,60}) /, system: "freebsd" },
  { kind: "system", starts: ["NetBSD "], pattern: /^(NetBSD \d\S{0,60}) \(/, system: "netbsd" },
  { kind: "system", starts: ["OpenBSD "], pattern: /^(OpenBSD \d\S{0,60}) \(/, system: "openbsd" },
  {
    kind: "system",
    starts: ["Darwin Kernel "],
    pattern: /^(Darwin Kernel Version \S{1,60})/,
    system: "darwin",
  },
  {
    kind: "system",
    starts: ["(XEN) Xen version "],
    pattern: /^\(XEN\) (Xen version \S{1,60})/,
    system: "other",
  },
  {
    kind: "command-line",
    starts: ["Command line: ", "Kernel command line: "],
    pattern: /^(?:Kernel command line|Command line): (.*)/,
  },
  {
    kind: "firmware",
    starts: [
      ...[
        "SeaBIOS (version ",
        "UEFI firmware (version ",
        "U-Boot 20",
        "U-Boot SPL 20",
        "BdsDxe: loading Boot",
      ],
      ...["iPXE ", "SLOF *", "Booting from Hard Disk", "qboot", "OpenSBI v"],
    ],
    pattern:
      /^(SeaBIOS \(version [^)]{1,60}|UEFI firmware \(version [^)]{1,80}|U-Boot (?:SPL )?20\d\d|BdsDxe: loading Boot|iPXE \d|SLOF \*|Booting from Hard Disk|OpenSBI v)/,
  },
  // kernel/reboot.c: kernel_power_off(), kernel_halt(), kernel_restart()
  {
    kind: "power-down",
    starts: ["reboot: Power down", "reboot: System halted", "Power down.", "System halted."],
    pattern: /^(?:reboot: )?(Power down|System halted)/,
  },
  {
    kind: "restart",
    starts: ["reboot: Restarting system", "Restarting system"],
    pattern: /^(?:reboot: )?(Restarting system)/,
  },
  // kernel/kexec_core.c: kernel_kexec(); arch/{powerpc,s390,arm64}: machine_kexec()
  {
    kind: "kexec",
    starts: [
      "kexec_core: Starting new kernel",
      "kexec: Starting new kernel",
      "Starting new kernel",
      "Starting crashdump kernel",
      "Loading crashdump kernel",
      "Bye!",
    ],
    pattern:
      /^(?:kexec(?:_core)?: )?(Starting new kernel|Starting crashdump kernel|Loading crashdump kernel|Bye!)/,
  },
  // systemd src/shutdown/shutdown.c, its targets by their unit names and, until 250, descriptions; sysvinit; busybox init;
  // drivers/tty/sysrq.c: sysrq_handle_reboot(). Some consoles lose what the kernel says after it.
  {
    kind: "going-down",
    starts: [
      ...[
        "systemd-shutdown[",
        "systemd[1]: Reached target ",
        "[  OK  ] Reached target ",
        "systemd[1]: Shutting down",
      ],
      ...[
        "INIT: Switching to runlevel: ",
        "INIT: Sending processes",
        "The system is going down",
        "The system will",
      ],
      ...[
        "Requesting system ",
        "Sent SIGTERM to all processes",
        "sysrq: Resetting",
        "sysrq: SysRq : Resetting",
      ],
      ...["SysRq : Resetting", "PM: hibernation: ", "PM: suspend entry", "Rebooting.", "Powering off."],
      // QEMU's own, of C-a x (system/runstate.c, chardev/char-mux.c).
      "QEMU: Terminated",
    ],
    pattern:
      /^(?:systemd-shutdown\[\d+\]: |systemd\[1\]: Shutting down|(?:systemd\[1\]: |\[ {2}OK {2}\] )Reached target (?:\S{0,12}(?:shutdown|reboot|poweroff|halt|kexec|final)\.target|.{0,8}(?:Shutdown|System Reboot|Reboot|Power-Off|Late Shutdown|Final Step|Unmount All))|INIT: Switching to runlevel: [06]|INIT: Sending processes|The system (?:is going down|will (?:reboot|power off|halt)) |Requesting system (?:reboot|poweroff|halt)|Sent SIGTERM to all processes|(?:sysrq: )?(?:SysRq : )?Resetting|PM: hibernation: (?:hibernation entry|Creating image)|PM: suspend entry|Rebooting\.|Powering off\.|QEMU: Terminated)/,
  },
  // kernel/printk/printk.c: register_console(), unregister_console(); a console that takes over from an early one may be given
  // the whole log again.
  {
    kind: "boot-console",
    starts: [
      "bootconsole [",
      "printk: bootconsole [",
      "printk: legacy bootconsole [",
      "legacy bootconsole [",
    ],
    pattern: /^(?:printk: )?(?:legacy )?bootconsole \[\w{1,16}\] (enabled|disabled)/,
  },
  // fs/pstore/platform.c: pstore_dump(); see saved-log.ts
  {
    kind: "saved-log",
    starts: ["Panic#", "Oops#", "Emergency#", "Shutdown#", "Restart#", "Halt#", "Poweroff#", "Unknown#"],
    pattern: /^([A-Z][a-z]{3,9}#\d{1,6} Part\d{1,4})$/,
  },
  // kdump-utils dracut/99kdumpbase/kdump.sh
  {
    kind: "dump-saved",
    starts: ["kdump: saving vmcore complete", "kdump["],
    pattern: /^kdump(?:\[\d+\])?: (saving vmcore complete)/,
  },
];
