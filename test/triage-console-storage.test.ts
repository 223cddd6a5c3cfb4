import { expect, test } from "vitest";
import { detect, KernelLog, kinds, titles } from "./support/triage-console.ts";

const log = (): KernelLog => new KernelLog().boot();

test.each([
  ["Aborting journal on device vda1-8.", "filesystem/warning"],
  ["ERROR: (device loop0): remounting filesystem as read-only", "filesystem/warning"],
  ["F2FS-fs (vda): Stopped filesystem due to reason: 0", "filesystem/warning"],
  ["GFS2: fsid=a:b.0: about to withdraw this file system", "filesystem/warning"],
  ["EXT4-fs error (device vda1): ext4_journal_check_start:61: Detected aborted journal", "warning/notice"],
  ["BTRFS error (device vda): parent transid verify failed on 1 wanted 2 found 3", "warning/notice"],
  ["end_request: I/O error, dev vda, sector 1234", "hardware-error/notice"],
  ["nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0xffff", "hardware-error/notice"],
  ["ata1.00: exception Emask 0x0 SAct 0x0 SErr 0x0 action 0x6 frozen", "hardware-error/notice"],
  ["virtio_net virtio0: output.0:id 12 is not a head!", "hardware-error/warning"],
])("%s is %s, and outlived", (line, kind) => {
  const report = detect(`${log().say(line).say("usb 1-1: a", "usb 1-1: b", "usb 1-1: c")}`);
  expect(kinds(report)).toEqual([kind]);
  expect(report.findings[0]!.survived).toBe(true);
});

test("with errors=panic it is the end", () => {
  const text = log().say("EXT4-fs error (device vda1): ext4_lookup:1234: inode #12: comm ls: corrupted");
  text.panic("EXT4-fs (device vda1): panic forced after error");
  expect(kinds(detect(`${text}`))).toContain("panic/panic");
});

test("what a file system says when it is well", () => {
  const text = log().say(
    "EXT4-fs (vda1): mounted filesystem with ordered data mode. Opts: errors=remount-ro",
    "EXT4-fs (vda1): re-mounted. Opts: errors=remount-ro. Quota mode: none.",
    "XFS (vda1): Mounting V5 Filesystem",
    "XFS (vda1): Ending clean mount",
    "BTRFS info (device vda1): turning on async discard",
    "BTRFS info (device vda): using crc32c checksum algorithm",
    "FAT-fs (vda1): Volume was not properly unmounted. Some data may be corrupt. Please run fsck.",
    "virtio_blk virtio1: [vda] 4194304 512-byte logical blocks (2.15 GB/2.00 GiB)",
    "nvme nvme0: 4/0/0 default/read/poll queues",
    "ata1.00: ATA-7: QEMU HARDDISK, 2.5+, max UDMA/100",
    "sd 2:0:0:0: [sda] Attached SCSI disk",
  );
  expect(kinds(detect(`${text}`))).toEqual([]);
});

test("errors of one device are one finding that counts", () => {
  const text = log();
  for (let sector = 0; sector < 9; sector++) text.say(`I/O error, dev vda, sector ${sector} op 0x1:(WRITE)`);
  expect(detect(`${text}`).findings).toMatchObject([{ class: "hardware-error", details: { count: 9 } }]);
});

test("ZFS stops a thread at its PANIC", () => {
  const text = log().say(
    "VERIFY3(0 == foo) failed (0 == 5)",
    "PANIC at dmu.c:1117:dmu_write()",
    "Showing stack for process 1234",
  );
  expect(detect(`${text}`).findings).toMatchObject([{ class: "kernel-bug", severity: "oops" }]);
  expect(titles(detect(`${text}`))).toEqual(["ZFS: PANIC dmu.c:1117"]);
});

test.each([
  ["Out of Memory: Killed process 1234 (java).", "oom/warning"],
  ["Out of memory: kill process 1234 (java) score 900 or a child", "oom/warning"],
  ["oom-killer: gfp_mask=0xd0, order=0", "oom/warning"],
  ["INFO: RCU detected CPU 0 stall (t=4295 jiffies)", "rcu-stall/hang"],
  ["BUG: NMI Watchdog detected LOCKUP on CPU1, ip ffffffff81, registers:", "hard-lockup/hang"],
  [
    "smp: csd: Detected non-responsive CSD lock (#1) on CPU#3, waiting 5000000000 ns for CPU#00 f",
    "hard-lockup/hang",
  ],
  ["softdog: Initiating system reboot", "hung-task/hang"],
  [
    "slab error in verify_redzone_free(): cache `size-64': memory outside object was overwritten",
    "slab-corruption/oops",
  ],
  ["Debug: sleeping function called from invalid context at mm/slab.c:2035", "atomic-sleep/warning"],
  ["WARNING: ./include/linux/foo.h:12 at foo+0x1/0x2 [mod], CPU#12: kworker/u8:3/123", "warning/warning"],
  ["virtio_net virtio0 eth0: NETDEV WATCHDOG: CPU: 1: transmit queue 0 timed out 5001 ms", "warning/warning"],
])("%s is %s", (line, kind) => {
  expect(kinds(detect(`${log().say(line)}`))).toEqual([kind]);
});

test("a transmit queue that timed out is one warning, whichever line comes first", () => {
  const told = "NETDEV WATCHDOG: eth0 (virtio_net): transmit queue 0 timed out";
  const warning = "WARNING: CPU: 1 PID: 0 at net/sched/sch_generic.c:480 dev_watchdog+0xcf/0x128";
  const cut = "------------[ cut here ]------------";
  for (const lines of [
    [cut, told, warning],
    [cut, warning, told],
  ]) {
    expect(kinds(detect(`${log().say(...lines, "Modules linked in: a")}`))).toEqual(["warning/warning"]);
  }
});
