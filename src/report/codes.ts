/** What a warning code means and what cures it: the text behind `guestcore explain CODE`. */
export interface Explanation {
  readonly title: string;
  readonly meaning: string;
  readonly cure: string;
}

export const EXPLANATIONS: Readonly<Record<string, Explanation>> = {
  CORE001: {
    title: "the core is truncated",
    meaning:
      "The file ends before the segments its program headers describe. What lies behind the end is missing from the output and counted as such; what is there is used.",
    cure: "Raise ulimit -c (LimitCORE= of the service), ProcessSizeMax= and ExternalSizeMax= of systemd-coredump, or free disk space, and take the core again.",
  },
  CORE002: {
    title: "segments overlap",
    meaning: "Two program headers claim the same addresses, which no core of a real process does.",
    cure: "The segment that starts lower is used, of two that start together the first. Treat the result with care.",
  },
  CORE003: {
    title: "notes are damaged or cut",
    meaning: "A note does not fit into its segment, or the segment does not fit into the file.",
    cure: "The notes in front of the damage are used. Without them, names of mapped files and of the process may be unknown.",
  },
  CORE004: {
    title: "the compressed core is damaged or cut",
    meaning: "Decompression stopped before the end of the stream. What came out until then is used.",
    cure: "Fetch the compressed file again and compare its size and checksum with the original.",
  },
  CORE005: {
    title: "a program header claims what no file holds",
    meaning: "An offset or size is 2^53 or more. The segment is treated as lying outside the file.",
    cure: "The core's headers are damaged; fetch or take it again.",
  },
  KRN001: {
    title: "VMCOREINFO and page tables disagree on phys_base",
    meaning:
      "Where the kernel's image lies in physical memory is said twice, differently. The page tables are believed.",
    cure: "Nothing, when the debugger opens the dump. Otherwise two kernels' data may be mixed: see KRN006.",
  },
  KRN002: {
    title: "VMCOREINFO and CR4 disagree on 4- or 5-level paging",
    meaning: "A vCPU runs with another number of page-table levels than the kernel says it uses.",
    cure: "Usual for a vCPU that has not been started, or whose registers are stale (REG001).",
  },
  KRN003: {
    title: "the page tables VMCOREINFO names do not work",
    meaning: "They are not all in memory, or do not map the kernel it describes.",
    cure: "Memory is missing (RAM001…RAM004), or the note belongs to a guest within this guest or an earlier kernel.",
  },
  KRN004: {
    title: "no direct map found",
    meaning:
      "PAGE_OFFSET is unknown, so PT_LOADs carry no kernel virtual addresses: crash still opens the vmcore, vmcore-dmesg and old drgn may not.",
    cure: "Usual for guests that do not run Linux, or whose page tables are missing.",
  },
  KRN005: {
    title: "the kernel's image is not mapped whole by any page tables found",
    meaning: "VMCOREINFO alone says where it lies; nothing confirms it.",
    cure: "Usual when all vCPUs run in user mode with page-table isolation and VMCOREINFO's tables are missing.",
  },
  KRN006: {
    title: "vCPUs run another kernel than VMCOREINFO describes",
    meaning: "A capture kernel after a crash has its own, or a note survived from before a reboot or kexec.",
    cure: "Choose the debug symbols by the release printed; look at the other kernel with its own vmlinux.",
  },
  LAY001: {
    title: "the memory layout was rendered anew",
    meaning:
      "QEMU's FlatView is not in the core (usually because it is truncated), so guestcore rendered the tree of memory regions the way QEMU does.",
    cure: "Nothing to do when the guest opens; the two agree on every whole core.",
  },
  LAY002: {
    title: "what virtio-mem has plugged is not known",
    meaning:
      "The device's bitmap was not found in the core, so all of its region is taken for RAM. Parts that are not plugged read as zeros.",
    cure: "Compare with the guest's own view (/proc/iomem in its log).",
  },
  OUT001: {
    title: "the disk may be too small",
    meaning:
      "The output could need more space than is free. Zero pages take none, so it may fit all the same.",
    cure: "--dry-run reads everything and says exactly how many bytes will be written.",
  },
  OUT002: {
    title: "a part was kept",
    meaning: "--keep-partial left what had been written before the failure under OUT.incomplete.",
    cure: "It has no valid header; delete it when you have looked at it.",
  },
  OUT003: {
    title: "missing memory reads as zeros in a raw image",
    meaning:
      "A raw image has no way to say that a page is missing: its place is a hole, which reads as zeros.",
    cure: "Use --format elf, or take the missing ranges from --json (.result.missing).",
  },
  RAM001: {
    title: "guest memory is shared and was filtered out of the core",
    meaning:
      "The kernel dumps mappings by /proc/PID/coredump_filter. Memory of a memfd or MAP_SHARED needs bit 1, a shared file bit 3; the default 0x33 has bit 1 but not bit 3.",
    cure: "echo 0x3b > /proc/PID/coredump_filter before the crash (CoredumpFilter= in a systemd unit), or pass --ram BLOCK=PATH with the backing file.",
  },
  RAM002: {
    title: "guest memory was excluded from the core by QEMU",
    meaning:
      "QEMU marked it MADV_DONTDUMP: -machine dump-guest-core=off, or dump=off on a memory backend. Private memory that was never written to looks the same, because the kernel dumps neither.",
    cure: "Start QEMU with -machine dump-guest-core=on. On a process that still lives, gdb's `set dump-excluded-mappings on` before gcore brings it back.",
  },
  RAM003: {
    title: "guest memory is in huge pages that were not dumped",
    meaning:
      "Private hugetlbfs memory needs coredump_filter bit 5, shared bit 6; the default 0x33 has bit 5 only.",
    cure: "echo 0x73 > /proc/PID/coredump_filter before the crash, or pass --ram BLOCK=PATH with the hugetlbfs file.",
  },
  RAM004: {
    title: "guest memory lies beyond the end of the core",
    meaning: "The core is truncated inside guest RAM. The rest counts as missing, not as zero.",
    cure: "As for CORE001.",
  },
  RAM005: {
    title: "the file given with --ram is shorter than its RAMBlock",
    meaning: "What lies behind its end is missing from the output.",
    cure: "Check that it is the file of this backend, whole, and of this guest.",
  },
  RAM006: {
    title: "a RAMBlock cannot be read",
    meaning:
      "A range of the guest's RAM is known, but the structure that says where it lies in the process is not in the core or is damaged. The range counts as missing.",
    cure: "Take the core again in full; a truncated core is the usual cause.",
  },
  RAM007: {
    title: "a file given with --ram was not needed",
    meaning: "The core holds all of that RAMBlock, and what the core holds is used.",
    cure: "Leave the option out.",
  },
  REG001: {
    title: "vCPU registers are stale",
    meaning:
      "Under KVM the registers live in the kernel; QEMU's copy is filled when something asks for it and vcpu_dirty says that it has not been since the vCPU last ran. They are written as they are and marked as stale.",
    cure: "Memory and VMCOREINFO are current, so crash and drgn open the vmcore. The true registers are in the host's memory: use a host vmcore. Before a planned core, QMP `human-monitor-command` with `info registers -a` makes QEMU fetch them.",
  },
  REG002: {
    title: "vCPU registers were not found, or by their shape alone",
    meaning:
      "QEMU's list of vCPUs is not in the core, or the vCPUs of this build have a layout guestcore does not know.",
    cure: "The vmcore opens from VMCOREINFO alone; register commands show nothing for these vCPUs.",
  },
};
