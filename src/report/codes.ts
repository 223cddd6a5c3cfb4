import { DUMP_EXPLANATIONS } from "./codes-dump.ts";
import { KERNEL_EXPLANATIONS } from "./codes-kernel.ts";
import { TRIAGE_EXPLANATIONS } from "./codes-triage.ts";
import { VERIFY_EXPLANATIONS } from "./codes-verify.ts";
import type { Explanation } from "./explanation.ts";

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
    meaning:
      "Decompression stopped before the end of the stream, or a checksum does not match. What came out until then is used; after a wrong checksum, bytes of it are wrong.",
    cure: "Fetch the compressed file again and compare its size and checksum with the original.",
  },
  CORE005: {
    title: "a program header claims what no file holds",
    meaning: "An offset or size is 2^53 or more. The segment is treated as lying outside the file.",
    cure: "The core's headers are damaged; fetch or take it again.",
  },
  CORE006: {
    title: "more CPUs than a machine has",
    meaning:
      "The vmcore has more NT_PRSTATUS notes than Linux supports CPUs on x86-64 (8192). The first of them are shown.",
    cure: "The notes are damaged or were made up. Memory and VMCOREINFO are not affected.",
  },
  ...DUMP_EXPLANATIONS,
  GCO001: {
    title: "memory of a process is in the host's swap",
    meaning:
      "The page tables of the process say that pages of it were swapped out. A dump of the host's memory does not hold them; in the core they are left out of their segments.",
    cure: "Nothing for this dump. Hosts of guests are best run without swap, or with memory locked.",
  },
  GCO002: {
    title: "pages of mapped files were not in memory",
    meaning:
      "The process mapped files of which it never read those pages, or the host dropped them. They are on its disks alone, and left out of their segments.",
    cure: "gdb reads them from the files that NT_FILE names, or from a copy of the host's with `set sysroot`.",
  },
  GCO003: {
    title: "where memory of a process lies is not known",
    meaning:
      "Page tables of the process are not in the host's dump, or make no sense, or go on and on. What they would lead to is left out of its segments.",
    cure: "makedumpfile keeps page tables; a dump that lacks some is truncated, or was filtered by something else.",
  },
  GCO004: {
    title: "memory of a process was left out of the host's dump",
    meaning:
      "Pages that the process has were left out by makedumpfile: pages of zeros in an ELF dump (-d 1), of files (2, 4), or of processes at all (8). A core cannot have them; they are left out of their segments, not zero.",
    cure: "Dump hosts with core_collector makedumpfile -l -d 17, which leaves out zeros and free pages only.",
  },
  GCO005: {
    title: "mappings of a process are missing",
    meaning:
      "The list of a process's mappings is damaged or not all in the dump, or has addresses beyond those that this tool takes. The core has the others.",
    cure: "Compare with the mappings of the report (--json), and treat the core as incomplete.",
  },
  GCO006: {
    title: "files of mappings are not named",
    meaning:
      "The directory entries or mounts that make up a path are not in the dump, or the paths take more than 4 MiB. NT_FILE lacks those mappings; their memory is in the core all the same.",
    cure: "gdb's add-symbol-file loads symbols of a file at an address that is known otherwise.",
  },
  GCO007: {
    title: "registers of threads are not known",
    meaning:
      "A thread's kernel stack is not in the dump, or has no registers of user mode at its top: the kernel's own threads in a process (io_uring, vhost) have none. Of more than 16384 threads only the first have notes.",
    cure: "Nothing where it is the kernel's; otherwise the dump is incomplete.",
  },
  GCO008: {
    title: "threads ran when the dump was taken",
    meaning:
      "What a processor held of a running thread is not in memory when something else than the crashed kernel makes the dump. The registers are those with which the thread entered the kernel the last time.",
    cure: "The notes of the host's processors, where its dump has some, hold the newer ones: guestcore info HOST.",
  },
  GCO009: {
    title: "a process runs several guests",
    meaning:
      "A core has one note for each index of a vCPU, so it carries those of one guest only: the first.",
    cure: "extract --guest takes each of them out of the host's dump itself.",
  },
  GST001: {
    title: "the guest's second-level tables did not end",
    meaning:
      "EPT or nested tables that refer to themselves or to each other map more than any guest has. The walk was ended; what was found until then is used, the rest counts as missing.",
    cure: "The tables are damaged, or were made to waste time. Compare with the VMM's own core, if there is one.",
  },
  GST002: {
    title: "second-level tables are missing",
    meaning:
      "A table of the guest's EPT or nested page tables is not in the host's dump, so what it maps is unknown and missing from the output.",
    cure: "The dump is truncated, or was filtered by something other than makedumpfile, which keeps page tables.",
  },
  GST003: {
    title: "a part of the guest's address space is no memory of the host",
    meaning:
      "Second-level entries lead to addresses outside the host's RAM, as they do for the BARs of passed-through devices, or to RAM that the dump has no segment for. They are left out.",
    cure: "Nothing where it is a device: reading one would have effects, and no dump holds its registers. Otherwise dump with makedumpfile, which says what it leaves out.",
  },
  GST004: {
    title: "the kernels of some guests were not looked for",
    meaning:
      "Finding the kernel in each of hundreds of guests may take minutes, and without end where VMs are made up to waste time. The first 16 are always looked into, the others until a bound for all of them is reached.",
    cure: "guestcore extract with --guest looks into that guest, whatever the others are.",
  },
  GST005: {
    title: "the guest's tables map more than the host has",
    meaning:
      "Second-level entries of several guest pages lead to the same page of the host, which then is in the output once for each. Pages that the host merged (KSM) and its shared page of zeros do that, and so do tables made to fill a disk.",
    cure: "See with --dry-run how long the output would be before it is written.",
  },
  GST006: {
    title: "a part of the guest's memory is in the host's swap",
    meaning:
      "The page tables of the VMM say that these pages were swapped out. A dump of memory does not hold them; they count as missing.",
    cure: "The swap device of the host still has them, if it was not used since.",
  },
  GST007: {
    title: "a part of the guest's memory is in a file of the host",
    meaning:
      "The VMM has a file or a device mapped there, and the host's memory has no copy of these pages. They count as missing.",
    cure: "The file has them: NVDIMMs and memory-backend-file keep a guest's memory there.",
  },
  GST008: {
    title: "where a part of the guest's memory lies is not known",
    meaning:
      "Memslots lead to addresses of the VMM that its page tables and VMAs, as far as they are in the dump, do not explain. What second-level tables map of it is taken from there, the rest counts as missing.",
    cure: "The dump is truncated or damaged, or was filtered by something that drops page tables.",
  },
  GST009: {
    title: "memslots and second-level tables disagree",
    meaning:
      "By the VMM's page tables and by the guest's EPT or nested tables a page of the guest is in two places of the host's memory. extract takes what the VMM's page tables say.",
    cure: "Changes that were under way when the host was dumped look so for a few pages: a page being migrated or merged. More than that is damage.",
  },
  GST010: {
    title: "not all that the host's KVM keeps of the guest could be read",
    meaning:
      "A memslot, a vCPU or the structure that leads to them is not in the dump, or makes no sense. What could be read is used; memory of a memslot that is not known is not in the output and not counted as missing.",
    cure: "The dump is truncated or damaged. guestcore guests with --check compares what is known with second-level tables.",
  },
  GST011: {
    title: "the guest's memory looks encrypted",
    meaning:
      "No kernel was found, and of pages taken at equal distances nearly all are as random as ciphertext is: AMD SEV and Intel TDX keep a guest's memory so that neither its VMM nor its host can read it. What is written out is the ciphertext.",
    cure: "Nothing reads it from outside. Let the guest make its own dump, with kdump; its console, QMP and pstore can still be triaged.",
  },
  ...KERNEL_EXPLANATIONS,
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
  LOG001: {
    title: "records of the kernel log cannot be read",
    meaning:
      "Their bytes are not in the dump, or make no sense: the machine stopped while it wrote them, or memory is missing. The others are printed.",
    cure: "Take a dump that has all of the kernel's memory; makedumpfile keeps the log at every level.",
  },
  LOG002: {
    title: "the log tells of no crash",
    meaning:
      "None of its lines is one that the kernel prints when it crashes or is about to: no oops, BUG, panic, lockup or stall. The machine may have been dumped from outside, or the lines have been overwritten. The last records are shown.",
    cure: "Read the whole log without --follow-crash.",
  },
  OUT001: {
    title: "the disk may be too small",
    meaning:
      "The output could need more space than is free. Zero pages take none, so it may fit all the same.",
    cure: "extract --dry-run reads everything and says exactly how many bytes will be written. What a dump is converted to has no such option: verify counts how much of the dump is zeros.",
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
  OUT004: {
    title: "firmware is left out of a kdump-compressed dump",
    meaning:
      "QEMU's dumps hold the firmware's ROM right below 4 GiB. The kernel has no struct page for it, and where the machine has no RAM above, makedumpfile ends in silence on a kdump-compressed dump that holds it, QEMU's own too.",
    cure: "`-d 0` keeps it for crash and drgn, which do not mind; ELF keeps it in any case.",
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
      "QEMU marked it MADV_DONTDUMP: -machine dump-guest-core=off, or dump=off on a memory backend. Private memory that was never written to looks the same, because the kernel dumps neither; where QEMU's own setting tells the two apart, the one counts as missing and the other as zero.",
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
  RAM008: {
    title: "guest memory was left out of the host's dump",
    meaning:
      "A host dump is filtered by kinds of pages: to makedumpfile guest memory is user data (dump level bit 8), or page cache where a memfd or shared file backs it (bits 2 and 4). Bit 1 drops pages of zeros, which an ELF dump cannot tell from others that were dropped.",
    cure: "Configure kdump with core_collector makedumpfile -l -d 17 on hosts of guests that matter: it drops free pages and pages of zeros only.",
  },
  RAM009: {
    title: "the guest may keep memory private",
    meaning:
      "The RAMBlock has a guest_memfd: a confidential guest (AMD SEV-SNP, Intel TDX) decides page by page what to share with QEMU. Private pages are in no process and encrypted; in the output they read as zeros or as what was in the shared page before.",
    cure: "Nothing on the host can read them. Shared pages, such as those for DMA, are right. Take a dump from within the guest (kdump).",
  },
  RAM010: {
    title: "a file stands in for private memory",
    meaning:
      "QEMU maps this memory privately (share=off): what the guest writes stays in the process, and the file behind the mapping keeps what it had before, perhaps another guest's memory.",
    cure: "Leave --ram out unless the file was copied from this guest's memory (QMP pmemsave, /proc/PID/mem). Take the core with dump=on and coredump_filter bit 0, which keeps private memory that was written to.",
  },
  REG001: {
    title: "vCPU registers are stale",
    meaning:
      "Under KVM the registers live in the kernel; QEMU's copy is filled when something asks for it and vcpu_dirty says that it has not been since the vCPU last ran. They are written as they are and marked as stale.",
    cure: "Memory and VMCOREINFO are current, so crash and drgn open the vmcore. The true registers are in the host's memory: use a host vmcore, or attach its VMCSs to the core with guestcore vmcsinfo attach --vmcs. Before a planned core, QMP `human-monitor-command` with `info registers -a` makes QEMU fetch them.",
  },
  REG002: {
    title: "vCPU registers were not found, or by their shape alone",
    meaning:
      "QEMU's list of vCPUs is not in the core, or the vCPUs of this build have a layout guestcore does not know.",
    cure: "The vmcore opens from VMCOREINFO alone; register commands show nothing for these vCPUs.",
  },
  REG003: {
    title: "registers are not in a VMCS or VMCB",
    meaning:
      "A VMCS holds RIP, RSP, RFLAGS, control and segment registers; a VMCB RAX too. The other general registers are in KVM's memory, where they could not be found: that memory is not in the dump, or is another hypervisor's. They are null in JSON, and 0 in the notes, which cannot say that a register is unknown.",
    cure: "Backtraces start from RIP and RSP and are right; do not trust the other registers of a debugger.",
  },
  REG004: {
    title: "what a processor held of a running vCPU may be missing",
    meaning:
      "Before kdump starts, every VMCS is cleared, which writes all of it to memory. A dump made by firmware, a hypervisor or a memory-acquisition tool finds the VMCS of a running vCPU as old as its last write-back.",
    cure: "vCPUs that were not running at that moment are exact. Where it matters, compare with the registers in the host's own notes.",
  },
  ...TRIAGE_EXPLANATIONS,
  VMI001: {
    title: "records of VMCSINFO cannot be used",
    meaning:
      "A value is of no place in a VMCS region, or of places only that other fields have, or an offset lies outside of one. Those fields are treated as unknown; the others are used.",
    cure: "Read the fields again on that processor. Access rights of Haswell and later lose bits of their offset; without the segment's selector they cannot be decoded.",
  },
  VMI002: {
    title: "VMCSINFO contradicts itself",
    meaning:
      "A field is there twice, two fields claim the same bytes, or two columns of one line disagree. Of several records the last counts, of two columns the offset.",
    cure: "VMREAD of a field that a processor does not have can return another field's value. Compare with a known layout, see guestcore vmcs layout check, and take out what is wrong.",
  },
  VMI003: {
    title: "VMCSINFO has unknown fields",
    meaning:
      "An encoding has reserved bits set or is assigned to no field, or a name is none that KVM uses. Possible encodings are kept, the rest is ignored.",
    cure: "Nothing, when the processor is newer than this version of guestcore. Otherwise the note may be damaged.",
  },
  VMI004: {
    title: "how access rights are stored is not known",
    meaning:
      "Processors keep the eight access-rights fields as they are read, rotated by 8 bits, or packed into 16 bits. Sysfs trees and arrays do not say which, or the records disagree. A dump's VMCSs show it, as a rule; access rights that do not fit are left out.",
    cure: "Name the form with --access-rights: rotated up to Ivy Bridge, packed from Haswell on, plain for hypervisors' own regions.",
  },
  VMI005: {
    title: "the form of access rights was taken from a known layout",
    meaning:
      "VMCSINFO does not say how access rights are stored, but nine in ten fields are where a known layout has them.",
    cure: "Nothing when the processor is of that family. Otherwise say it with --access-rights.",
  },
  VMI006: {
    title: "the dump has several VMCSINFO notes",
    meaning: "The last one that is not empty is used.",
    cure: "Write the dump anew with guestcore vmcsinfo attach --replace and the description that is right.",
  },
  VMI007: {
    title: "fields could not be written in that form",
    meaning:
      "The text note holds only fields that KVM has names for; both notes hold only even offsets, and access rights only when their form is known; no form holds a field without a place.",
    cure: "Use --to table or --to json to keep everything, or say the form with --access-rights.",
  },
  VMI008: {
    title: "the dump's own VMCSINFO note cannot be read",
    meaning:
      "It is damaged, too large, or in no form that guestcore knows. The dump is treated as one without the note: VMCSs are looked for by every layout known.",
    cure: "Pass --vmcsinfo or --layout, or write the dump anew with guestcore vmcsinfo attach --replace. guestcore vmcsinfo show DUMP says what is wrong with the note.",
  },
  VMI009: {
    title: "places of access rights are guesses",
    meaning:
      "Of the offset of a packed access-rights field a note loses bits, and neither the segment's selector nor the values in the VMCSs found tell which of several places is right. The lowest is taken; nothing is concluded from it. Some forms do not say that a place is a guess, and a note makes one of a place that was known.",
    cure: "Pass VMCSINFO that gives offsets, as a table does, with --vmcsinfo.",
  },
  VMI010: {
    title: "VMCSs are not as KVM wrote them",
    meaning:
      "Of some vCPUs the region lacks what KVM wrote to it, or has another revision than the others: the processor had not written it back, or the structures are damaged. The layout is inferred from the others.",
    cure: "Nothing, where enough are left. A dump that the crashed kernel left has all of them whole.",
  },
  VMI011: {
    title: "nothing of an inferred layout is certain",
    meaning:
      "A processor may keep any part of a VMCS to itself until the hypervisor clears it, which a crashing kernel does and a dump from outside does not. What is in memory may be older than what KVM knows, so that a field's value may be elsewhere by chance.",
    cure: "Infer the layout from a dump that kdump made; or compare what is inferred from several dumps of the same processor.",
  },
  VMI012: {
    title: "VMCSs are in no layout known",
    meaning:
      "KVM says where the VMCSs of its vCPUs are, and none of the layouts by which they were looked for fits what is there. Memory comes from memslots all the same, general registers and control registers from KVM's own structures; segments, descriptor tables and RFLAGS are unavailable.",
    cure: "guestcore vmcs layout infer finds the layout out from what KVM knows to be in these VMCSs; pass its output with --vmcsinfo.",
  },
  VMN001: {
    title: "notes of vCPUs cannot be used",
    meaning:
      "A VMCS or VMCB note of the core is cut, damaged or of a later version, or what it holds is no control block by the layout that goes with it. The registers of that vCPU are what they would be without the note.",
    cure: "Name the layout of the host's processor with --vmcsinfo; otherwise attach the notes anew with guestcore vmcsinfo attach --vmcs --replace.",
  },
  VMN002: {
    title: "VMCS notes without a description of their layout",
    meaning:
      "The core has no VMCSINFO that can be read, so guestcore tries the layouts it knows with the revision of the region.",
    cure: "Pass --vmcsinfo, or attach VMCSINFO of that processor with guestcore vmcsinfo attach --from.",
  },
  VMN003: {
    title: "notes of vCPUs do not fit the guest",
    meaning:
      "The guest's memory has no page tables that go with the registers, a vCPU has the task register of another, or the guest did not run on the host's processor at all. The notes may be of another guest or of another moment.",
    cure: "Take the core and the host's dump of one moment, as a core made out of the host's dump is, and choose the guest with --guest. guestcore guests lists the guests of a host.",
  },
  VMN004: {
    title: "a vCPU has several notes",
    meaning: "The last one is used.",
    cure: "Attach the notes anew with guestcore vmcsinfo attach --vmcs --replace.",
  },
  VMX001: {
    title: "a dump in the log is cut",
    meaning:
      "A part of a VMCS or VMCB dump is not there: the log's buffer was overwritten, lines were dropped, or wrapped so that they could not be put together again. Rules that need its fields are not checked.",
    cure: "Take the log from the journal or a serial console, or enlarge the buffer with log_buf_len=.",
  },
  VMX002: {
    title: "a dump in the log says something twice",
    meaning:
      "One field has two values: two CPUs dumped at the same time and their lines are mixed. The first value is used.",
    cure: "Boot with printk.caller_id (CONFIG_PRINTK_CALLER), by which guestcore tells the lines apart.",
  },
  VMX003: {
    title: "the log was not read to its end",
    meaning: "It is larger, or has more dumps, than guestcore reads.",
    cure: "Cut out the part that matters and pass that.",
  },
  ...VERIFY_EXPLANATIONS,
};
