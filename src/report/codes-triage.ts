import type { Explanation } from "./explanation.ts";

/** What triage warns of: TRI0 the verdict, TRI1 consoles, TRI2 QMP, TRI3 pstore, TRI4 RTAS and machine checks, TRI5 dumps. */
export const TRIAGE_EXPLANATIONS: Readonly<Record<string, Explanation>> = {
  TRI001: {
    title: "something in a directory was passed over",
    meaning:
      "Below a directory, links to directories and links that lead nowhere, devices, sockets and FIFOs are not looked into, so that nothing goes round in circles or waits.",
    cure: "Name what the link leads to. A FIFO is read by `guestcore triage console FIFO`.",
  },
  TRI002: {
    title: "the directory is too large to look at all of it",
    meaning:
      "At most 16384 entries are looked at, and no directory more than 16 below the one that was named. The rest was not looked at.",
    cure: "Name the directories of the VMs instead of one far above them.",
  },
  TRI003: {
    title: "an artefact could not be read",
    meaning:
      "The file was recognised, but reading it failed: it is damaged, or the system refused. The verdict rests on the other sources.",
    cure: "Copy the file again, or look at it with the command of its detector, which says more.",
  },
  TRI004: {
    title: "a file is no artefact that triage knows",
    meaning:
      "Neither its contents nor its name say that it is a console, a QMP log, a pstore record, an RTAS log or a dump. It is listed, and nothing is guessed of it.",
    cure: "Give it to the detector that you mean, as in `guestcore triage console FILE`, if it is one of these all the same.",
  },
  TRI005: {
    title: "consoles of one VM contradict each other",
    meaning:
      "Several consoles were put together as one VM's by their names or because they were named together, but their kernels differ, or one says that the guest died and another that it ended in order. The verdict is of all of them.",
    cure: "If they are of several VMs, triage each by itself, or put the files of each into a directory of its own.",
  },
  TRI006: {
    title: "a directory or file could not be looked at",
    meaning:
      "A directory vanished, or the system refused to list it; or a name is not UTF-8, which Node cannot open. It was not looked at; all else was.",
    cure: "Run it as somebody who may read the directory; rename what has such a name.",
  },
  TRI101: {
    title: "lines of a console are too long",
    meaning:
      "A line has more than 4096 bytes. The kernel's own are shorter than 1024; what is beyond was passed over, and a line that began there was not seen.",
    cure: "Look whether the file is a console's log at all, or whether its line breaks were lost on the way.",
  },
  TRI102: {
    title: "a console tells of more than is kept",
    meaning:
      "The log has more than 256 different incidents. The first ones are shown, and in place of the mildest of them those that are worse.",
    cure: "Look at one boot at a time, or take the log of one run.",
  },
  TRI201: {
    title: "Messages of a QMP log are cut off",
    meaning:
      "A JSON object ends in the middle: at a line end, at the next message or at the end of the file. What it said is not known.",
    cure: "strace needs -s 65535; a log that was copied while it was written can be copied again.",
  },
  TRI202: {
    title: "Messages of a QMP log are not valid JSON",
    meaning:
      "A JSON object has a byte in it that cannot stand there. It is passed over, and the next is read.",
    cure: "Take the log from the monitor itself: another program may have changed or mixed lines.",
  },
  TRI203: {
    title: "Messages of a QMP log are too deep or too long",
    meaning: "A JSON object is nested deeper than 64 levels or longer than 2 MiB. No message of QEMU is.",
    cure: "nothing, unless it is a message of QEMU's: then report it.",
  },
  TRI204: {
    title: "A QMP log contradicts itself",
    meaning:
      "QEMU answers with a run state that it cannot have come to from what the log tells before: a part is missing, or two logs are mixed.",
    cure: "Trust what query-status answered; log from the start of QEMU on, one machine in each file.",
  },
  TRI205: {
    title: "A log tells of more machines than are kept",
    meaning:
      "The first 64 machines of a log, by monitor or domain, are told of. The messages of others are left out.",
    cure: "split the log by the mon= address or the domain's name.",
  },
  TRI206: {
    title: "The middle of a long time line is left out",
    meaning:
      "A machine has more events than are kept: the first 1000 and the last 1000, and the first 200 findings.",
    cure: "split the log, if what is left out matters.",
  },
  TRI207: {
    title: "A file is not a command line of QEMU",
    meaning: "No option of QEMU that decides what a panic leads to is in the file that --cmdline names.",
    cure: "name a file that has the command as a shell takes it, or /proc/PID/cmdline of the running QEMU.",
  },
  TRI208: {
    title: "A log is larger than is read",
    meaning: "Only the first 4 GiB of a log are read.",
    cure: "split the log, and name the part that has the end.",
  },
  TRI301: {
    title: "parts of a dump are missing",
    meaning:
      "A kernel saves its log in numbered parts where a store takes no more at once; part 1 has the newest text. Some numbers between 1 and the highest are not there. The log put together has a gap at each.",
    cure: "Look for the files where records are moved to (/var/lib/systemd/pstore), or give the store more room: firmware that is full, or file-max= of virtio-pstore, lose parts.",
  },
  TRI302: {
    title: "a packed record cannot be unpacked",
    meaning:
      "No record says how it was packed. Neither zlib, deflate, LZO, LZ4, zstd nor 842 gives a text that begins as a dump does, so that it is damaged, cut at its start, or packed by something else.",
    cure: "Copy the store again. --record N prints the bytes as they are.",
  },
  TRI303: {
    title: "a packed record is cut or damaged",
    meaning:
      "Unpacking stopped before the end of the stream, or a checksum is wrong, or there is more than 1 MiB. What came out until then is shown; after a wrong checksum, bytes of it may be wrong.",
    cure: "A dump that is larger than its zone when packed is cut by the kernel: give ramoops a larger record_size=.",
  },
  TRI304: {
    title: "the guest's own kernel could not unpack a record",
    meaning:
      "In the guest's pstore a name ends in .enc.z only where its kernel failed to unpack the record: another kernel with another pstore.compress= wrote it, or it is damaged. It was unpacked here where that was possible.",
    cure: "Nothing for these records. Boot both kernels with the same pstore.compress=.",
  },
  TRI305: {
    title: "damage that the ECC of ramoops cannot repair",
    meaning:
      "More bytes of a block of 128 are wrong than its parity repairs. They were left as they were found; a packed record then ends, as a rule, at the damage.",
    cure: "Memory that loses bits over a reboot needs a larger ecc=; memory that the firmware clears cannot be used.",
  },
  TRI306: {
    title: "records were rotated away",
    meaning:
      "The host directory of virtio-pstore numbers its files from 1, and the oldest beyond file-max= are deleted. The first numbers are not there, so that older dumps, or the newest part of this one, are lost.",
    cure: "Start QEMU with a larger file-max=, and collect the directory after each crash.",
  },
  TRI307: {
    title: "a store of records is damaged",
    meaning:
      "A header, a length or a signature in the store makes no sense. What can be found without it was read.",
    cure: "Copy the store again, while the guest does not run. Of ramoops, say how it is divided: --ramoops record=…,console=….",
  },
  TRI308: {
    title: "there are more records than are looked at",
    meaning:
      "A store has more zones, or the files together more records or text, than a guest's ever have. Those beyond were left out.",
    cure: "Name fewer files at once.",
  },
  TRI309: {
    title: "a file is larger than what is looked at",
    meaning: "Of each file 32 MiB are read, more than any store has. What lies behind was not looked at.",
    cure: "For a region of ramoops in a guest's memory, say where it is: --ramoops address=0x10000000,size=0x100000.",
  },
  TRI401: {
    title: "an RTAS error log could not be read in full",
    meaning:
      "Bytes of it are missing, lines of it are missing in the kernel's log, a length in it makes no sense, or its extended part is older than version 6. What could be read is told.",
    cure: "Take the log as bytes: /proc/powerpc/rtas/error_log, nvram, or the RTAS area of the guest's memory.",
  },
  TRI402: {
    title: "more RTAS events than are told of",
    meaning: "A log has more events than guestcore keeps. Those that come first are told of.",
    cure: "Cut out the part that matters and pass that.",
  },
  TRI403: {
    title: "more kinds of hardware errors than are told of",
    meaning: "Errors of one kind count as one; the log has more kinds than guestcore keeps.",
    cure: "Cut out the part that matters and pass that.",
  },
  TRI501: {
    title: "the kernel's log could not be read",
    meaning:
      "The dump has a Linux kernel, and its log is not where VMCOREINFO says, or nothing says where it is. What happened is told by the processors' registers and the kernel's variables, which tell less.",
    cure: "Take a dump that has all of the kernel's memory; a serial console or pstore has the log as well.",
  },
  TRI502: {
    title: "the guest in a core of QEMU cannot be read",
    meaning:
      "The core says which signal QEMU died of, and that is told. The guest that it ran is not to be found in it: the core was cut off, or left out what its coredump_filter does not name.",
    cure: "Let cores be as large as they are (ulimit -c unlimited; ExternalSizeMax= and ProcessSizeMax= of coredump.conf), with the memory of the guest: echo 0x3b > /proc/PID/coredump_filter.",
  },
};
