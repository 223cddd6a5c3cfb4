import type { Explanation } from "./explanation.ts";

/** Of the formats that machines are dumped in. */
export const DUMP_EXPLANATIONS: Readonly<Record<string, Explanation>> = {
  DMP001: {
    title: "a flattened stream is cut",
    meaning:
      "The stream that makedumpfile -F or QEMU writes ends with a mark, which is not there. What was still to come is missing; headers and bitmaps are written last, so that much may be.",
    cure: "Copy the stream again, or take the dump again.",
  },
  DMP002: {
    title: "the dump is marked incomplete",
    meaning:
      "The program that wrote it ran out of room and said so in the header, or it was converted from a dump that lacks memory. Pages that were not written are missing.",
    cure: "Dump with a higher level (-d 31 where guests do not matter, -d 17 where they do) or to more room.",
  },
  DMP003: {
    title: "a dump's contents cannot be read",
    meaning:
      "The file is what its first bytes say, but its headers are damaged, of a machine that is not known, or a part named does not belong to it.",
    cure: "Copy the dump again; tools of the machine it was made on may read more of it.",
  },
  DMP004: {
    title: "parts of a split dump are not here",
    meaning:
      "The machine's memory was written into several files (makedumpfile --split), each with the page frames of a range. Those named with --part are read as one dump, or those that lie beside the file under the next numbers; what lies in no file found counts as missing.",
    cure: "Name each of the other files with --part, in any order; files of one set cannot be mixed with those of another.",
  },
  DMP005: {
    title: "data were erased from the dump on purpose",
    meaning:
      "Data that --config or --eppic of makedumpfile named, as keys and passwords, were overwritten, and each is noted in ERASEINFO. Their pages are there, but what was erased in them is not what the machine had.",
    cure: "Read the ERASEINFO note, which names each symbol and size. What was erased is only in a dump made without such a filter.",
  },
  DMP006: {
    title: "the header is newer than the versions known",
    meaning:
      "The dump's header has a version that did not exist when this program was written. It is read by what the newest known version has.",
    cure: "Compare with crash or makedumpfile of the version that wrote it, and look for a newer guestcore.",
  },
  DMP007: {
    title: "pages turned out to be unreadable",
    meaning:
      "The dump says that it has these pages, but their bytes cannot be unpacked. They count as missing: an ELF vmcore has no segment for them, a raw image zeros.",
    cure: "Copy the dump again and compare checksums: single damaged pages mean that its bytes changed after it was written.",
  },
  DMP010: {
    title: "a sadump is cut",
    meaning:
      "The dump's bitmap tells of more pages than the files have room for. Those that are behind the end are missing from the output and counted as such.",
    cure: "Copy the dump again and compare its size with the original; name further media of a backup with `--part`.",
  },
  DMP011: {
    title: "files of a sadump have different time stamps",
    meaning:
      "The UUIDs of machine, disk set and volume say that the files belong together, but their headers were written at different times. One may be left from an older dump on the same disks; crash and makedumpfile go on, too.",
    cure: "Compare when the files were copied, and take those of one dump.",
  },
  DMP012: {
    title: "registers may not be those of the host's processor of that number",
    meaning:
      "A processor that was in a guest when the dump was made has the guest's registers, in the notes as well: the host's are not in the dump. And where the descriptor tables do not tell how Linux numbers the processors, their notes are in the order of APIC IDs, which may be another.",
    cure: "Use `guestcore guests` and `extract --guest` on the dump itself for the guests. Do not trust backtraces of such a processor's active task.",
  },
  DMP013: {
    title: "kdump had begun when the firmware dumped",
    meaning:
      "The crashed kernel had already started its kdump kernel, which uses the lowest 640 KiB of memory. They are read from where they were saved, and registers and VMCOREINFO are those that the crashed kernel left for its own dump.",
    cure: "Nothing is to be done. If kdump finished as well, its own vmcore has the same.",
  },
  DMP014: {
    title: "further media of a sadump are read by analogy",
    meaning:
      "How media behind the first of a backup are laid out is documented nowhere, and no other program reads them. They are taken to begin with a media header and to go on with the next page.",
    cure: "If page tables or the kernel's log look damaged, copy the dump from its disk or put it onto one medium.",
  },
  DMP020: {
    title: "an image of ranges ends early, or is damaged",
    meaning:
      "A LiME or AVML image is a chain of ranges, each behind a header. The file ends before the last range does, or what should be the next header is none. What the image has up to there is read; the rest is missing.",
    cure: "Copy the image again, or take it again with room for all of it.",
  },
  DMP021: {
    title: "ranges of an image overlap",
    meaning:
      "The same memory is in the image more than once. LiME and AVML do not write such images; where the copies differ, the machine ran while they were made. The first in the file counts.",
    cure: "Take the image again, with one tool.",
  },
  DMP022: {
    title: "a VMware state file's registers cannot be read",
    meaning:
      "The group of values that holds the registers of the vCPUs is missing, or lacks one that a debugger cannot do without. The memory is exact; the vCPUs named have no notes.",
    cure: "Suspend the machine again. With VMCOREINFO in memory crash and drgn open the dump without registers.",
  },
  DMP023: {
    title: "registers that a dump does not tell are zero in the notes",
    meaning:
      "The format keeps some registers in no way that is known, or not at all, and an ELF note has no way to say so. VMware state files: segment registers and EFER. Xen cores: descriptor tables, and bases and limits of most segments.",
    cure: "None is needed for crash, drgn and gdb: instruction and stack pointers, the other general registers and the page tables' root are right.",
  },
  DMP024: {
    title: "a file with memory ends early",
    meaning:
      "What describes the machine's memory says that there is more of it than the file has. What lies behind the file's end counts as missing.",
    cure: "Copy the file again; a memory file is as long as the machine's memory, holes of a sparse file included.",
  },
  DMP025: {
    title: "registers are cut off or damaged",
    meaning:
      "The file ends inside what it has of the vCPUs' registers, or something in there is no value. Registers behind that place are not known; memory is not concerned.",
    cure: "Copy the file again, or suspend or dump the machine again.",
  },
  DMP026: {
    title: "a VMware state file is cut",
    meaning:
      "Its table has groups of values that are not all in the file. What was found of the vCPUs and of memory is used.",
    cure: "Copy the file again, or suspend the machine again.",
  },
  DMP027: {
    title: "regions of memory share bytes of a file",
    meaning:
      "A VMware state file says of the same bytes that they are two pieces of the machine's memory. One of them shows the contents of the other.",
    cure: "The state file is damaged: copy it again. Do not trust the memory of these regions.",
  },
  DMP028: {
    title: "a memory file is longer than the machine's memory",
    meaning:
      "The regions that a VMware state file describes end before its .vmem does. What lies behind them has no address and is left out.",
    cure: "See that both files are of the same machine and of the same suspension or snapshot.",
  },
  DMP029: {
    title: "a Xen core's list of page frames is damaged",
    meaning:
      "The list says which page of the file is which of the domain's memory. It has a page frame more than once, or one that no machine has: the pages it is wrong about are missing.",
    cure: "Copy the core again, or take it again while the domain is paused.",
  },
  DMP030: {
    title: "a migration stream cannot be followed to its end",
    meaning:
      "The stream ends early, or something in it is not what QEMU writes. What came before is used; pages that came later, or never, are missing, and of a page that was to come again an earlier copy is used.",
    cure: "Copy the file again, or save the guest again.",
  },
  DMP031: {
    title: "a migration stream does not describe its devices",
    meaning:
      "The states of processors and devices have no lengths of their own: QEMU describes them in JSON at the end of the stream. Without it the registers cannot be read. Machine types before 2.3 do not have it, nor streams written with suppress-vmdesc=on. Of a stream that is cut, DMP030 or DMP040 tell.",
    cure: "Nothing is to be done. Memory is not affected; crash finds the kernel without registers.",
  },
  DMP032: {
    title: "registers of a vCPU in an unknown form",
    meaning:
      "The stream describes the vCPU's state, but registers that every version of QEMU has are not in it.",
    cure: "Nothing is to be done; memory and the other vCPUs are not affected.",
  },
  DMP033: {
    title: "a vCPU was running a guest of its own",
    meaning:
      "The guest is a hypervisor itself, and was inside its guest when it was saved: the registers that the stream has for this vCPU are those of that inner guest.",
    cure: "The inner guest's registers say nothing of the saved machine's kernel; use the other vCPUs.",
  },
  DMP034: {
    title: "where a machine's memory lies was taken for granted",
    meaning:
      "A migration stream has memory by name, not by address. How much of it lies below 4 GiB is told by what QEMU wrote into the clock's memory for the firmware, and checked against the page tables of the vCPUs. Here neither was there, so the rules of the machine type were used.",
    cure: "When tools find no kernel in the result, the machine had another split (`-machine max-ram-below-4g`): restore it paused and use dump-guest-memory.",
  },
  DMP035: {
    title: "memory of a migration stream has no place",
    meaning:
      "The stream has RAMBlocks beyond the machine's own memory: memory that was plugged in (pc-dimm, nvdimm, virtio-mem). The stream does not say at which address it lies, so it is left out.",
    cure: "Restore the guest paused and take the dump with dump-guest-memory or virsh dump --memory-only.",
  },
  DMP036: {
    title: "a migration stream of postcopy",
    meaning:
      "The guest went on running at its destination before all of its memory had been sent. What it fetched afterwards did not go through this stream.",
    cure: "Dump the guest where it runs now.",
  },
  DMP037: {
    title: "differences without the pages they are from",
    meaning:
      "With the capability xbzrle QEMU sends a page that changed as its difference from the copy before. That copy is not in the stream, or there are too many of them.",
    cure: "Save the guest again without xbzrle, or while it is paused.",
  },
  DMP038: {
    title: "shared memory was left out of a migration stream",
    meaning:
      "With the capability x-ignore-shared QEMU does not send memory whose backend is shared with other processes: the file or memfd keeps it.",
    cure: "Take the memory from the backend's file, or save the guest without that capability.",
  },
  DMP039: {
    title: "an unfinished save image of libvirt",
    meaning:
      "The image begins with LibvirtQemudPart: saving broke off, or is still going on. What it has so far is used.",
    cure: "Save the guest again while it is there.",
  },
  DMP040: {
    title: "a migration stream is cut in the description of its devices",
    meaning:
      "The last of a stream is JSON that describes the states of processors and devices. It is not whole, so registers cannot be read. All of the memory came before it.",
    cure: "Copy the file again, or save the guest again. Memory is not affected; crash finds the kernel without registers.",
  },
  DMP041: {
    title: "pages of a migration stream went through other channels",
    meaning:
      "With the capability multifd QEMU sends pages through channels of their own, and in the first one nothing of them but, in some versions, pages of zeros. What the other channels carried is not in this file.",
    cure: "Save the guest again without multifd, or with mapped-ram, which keeps all of it in one file.",
  },
};
