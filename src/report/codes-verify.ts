import type { Explanation } from "./explanation.ts";

/** What `verify` finds. */
export const VERIFY_EXPLANATIONS: Readonly<Record<string, Explanation>> = {
  VRF001: {
    title: "the compressed file is cut or damaged",
    meaning:
      "The gzip or zstd stream ends too soon, or its checksums do not match. What could be unpacked is checked as well; findings at its end follow from this one.",
    cure: "Copy the compressed file again, and compare its size and checksum with the original's.",
  },
  VRF002: {
    title: "the flattened stream is cut",
    meaning:
      "The end mark that makedumpfile -F and QEMU write last is not there. Headers and bitmaps are written late, so much may be missing.",
    cure: "Copy the stream again. If it was cut where it was written, the dump has to be taken anew.",
  },
  VRF003: {
    title: "a record of the flattened stream is impossible",
    meaning:
      "A record has a negative offset or size, none, or one that no file has. What lies behind it cannot be read, and nothing of the dump inside was checked.",
    cure: "Copy the stream again; transfers in text mode and lost blocks do this.",
  },
  VRF004: {
    title: "bytes are in no record of the flattened stream",
    meaning:
      "No record has them, and they are no padding behind a header or bitmap, nor a hole in bitmaps of more than 128 MiB, of memory that is far apart. They read as zeros, which they may not have been.",
    cure: "A record is lost or has a wrong offset: copy the stream again.",
  },
  VRF005: {
    title: "the flattened stream has something odd",
    meaning: "Its header is of an unknown type or version, or something follows its end mark.",
    cure: "Nothing, if the rest is whole. Two streams in one file are written by >> instead of >: take them apart.",
  },
  VRF006: {
    title: "the headers are damaged",
    meaning:
      "They contradict the file or themselves so much that the dump cannot be opened. Nothing else of it was checked.",
    cure: "Copy the file again. guestcore info FILE says what it still looks like.",
  },
  VRF007: {
    title: "a table reaches beyond the file's end",
    meaning: "Program headers, section headers or page descriptors are not all there: the file is cut.",
    cure: "Copy the file again, or free disk space and take the dump anew. What is there can still be read.",
  },
  VRF008: {
    title: "memory is missing",
    meaning: "The dump says that it has this memory, and the file does not hold it.",
    cure: "Copy the file again, or name its further files with --part.",
  },
  VRF009: {
    title: "pages cannot be read",
    meaning: "The dump's tables have them, and their contents are damaged or gone.",
    cure: "Copy the file again. What is damaged in the original is lost.",
  },
  VRF010: {
    title: "notes are cut or damaged",
    meaning:
      "Registers and VMCOREINFO are in the notes. Those that lie behind the end of the file, or behind a note whose size does not fit, cannot be read.",
    cure: "Copy the file again. guestcore convert finds VMCOREINFO in the memory where the note is lost.",
  },
  VRF011: {
    title: "registers of a CPU or thread are there twice",
    meaning: "Two notes are the same. Debuggers show a CPU more than there was.",
    cure: "Nothing, mostly: tools that merge or edit cores do this.",
  },
  VRF012: {
    title: "a note is not what it should be",
    meaning:
      "Its size is not that of the machine's registers, VMCOREINFO is no text, or there are more CPUs than the header counts.",
    cure: "Compare with guestcore info FILE --json; registers may be wrong, memory is not concerned.",
  },
  VRF013: {
    title: "a segment is impossible",
    meaning:
      "Its offset, size or address is one that no file and no memory has, or it has more bytes in the file than in memory.",
    cure: "The program headers are damaged: copy the file again.",
  },
  VRF014: {
    title: "a segment reaches beyond the file's end",
    meaning:
      "The file is cut: the last segments are not all there. How much is missing is told with the memory.",
    cure: "Copy the file again. For cores of processes raise ulimit -c, LimitCORE= or ProcessSizeMax= of systemd-coredump, or free disk space.",
  },
  VRF015: {
    title: "bytes of the file are used twice",
    meaning:
      "Two segments with different memory, or a segment and the headers, claim the same bytes. One of them has a wrong offset. Segments that are two views of the same memory are not meant.",
    cure: "The program headers are damaged: copy the file again.",
  },
  VRF016: {
    title: "segments overlap in memory",
    meaning: "Two segments of a process core claim the same addresses, which no core of a real process does.",
    cure: "The program headers are damaged: copy the file again.",
  },
  VRF017: {
    title: "memory is in the file twice, and not the same",
    meaning:
      "The kernel image is in /proc/vmcore twice. Of a machine that had crashed both are the same; of a running one, copied from /proc/kcore, they need not be.",
    cure: "Nothing, for a copy of a running machine. Otherwise bytes of one of them are damaged, and nothing tells which.",
  },
  VRF018: {
    title: "the dump is marked incomplete",
    meaning:
      "There was no room for all of it: makedumpfile wrote what it could. Or it was converted from such a dump, or from one that is cut.",
    cure: "Free disk space, or filter more with -d 31, and take the dump again. What is there can be read.",
  },
  VRF019: {
    title: "fields of the header contradict each other",
    meaning:
      "Sizes, counts or offsets of the header and sub header do not go together. Programs that go by different ones of them read different dumps.",
    cure: "The headers are damaged: copy the file again.",
  },
  VRF020: {
    title: "the header has something odd",
    meaning:
      "A version, status or dump level is not known, the count of pages written is not that of the bitmap, or there is more room for bitmaps than they need.",
    cure: "Nothing, if the rest is whole; a newer makedumpfile may have written it.",
  },
  VRF021: {
    title: "pages were dumped that are no RAM",
    meaning:
      "The second bitmap has page frames that the first has not, so that one of them is damaged. From there on pages may be taken for others.",
    cure: "Copy the file again. Do not trust what a debugger shows of this dump.",
  },
  VRF022: {
    title: "pages were never written",
    meaning:
      "Their descriptors are empty, as a dump has them that ran out of room, or whose descriptors a sparse copy lost.",
    cure: "Free disk space and take the dump again, or copy it again. What is there can be read.",
  },
  VRF023: {
    title: "pages lie outside of the file",
    meaning: "Their descriptors lead behind its end: the file is cut.",
    cure: "Copy the file again, or free disk space and take the dump anew. What is there can be read.",
  },
  VRF024: {
    title: "pages lie in the headers",
    meaning: "Their descriptors lead to headers, bitmaps or descriptors: they are damaged.",
    cure: "Copy the file again. Those pages are lost otherwise.",
  },
  VRF025: {
    title: "sizes of pages are impossible",
    meaning: "Descriptors have a size of nothing, or of more than a page: they are damaged.",
    cure: "Copy the file again. Those pages are lost otherwise.",
  },
  VRF026: {
    title: "uncompressed pages have the wrong size",
    meaning: "A page that is not compressed is exactly as long as a page.",
    cure: "Copy the file again. Those pages are lost otherwise.",
  },
  VRF027: {
    title: "pages are of an unknown compression",
    meaning: "The flags of their descriptors are not those of zlib, LZO, snappy, zstd or of no compression.",
    cure: "A newer makedumpfile may know it, if all pages are concerned; otherwise copy the file again.",
  },
  VRF028: {
    title: "pages cannot be unpacked",
    meaning:
      "Their bytes are damaged. LZO and snappy have no checksums and uncompressed pages neither, so not every damage shows.",
    cure: "Copy the file again. Those pages are lost otherwise, and their neighbours may be damaged unseen.",
  },
  VRF029: {
    title: "pages unpack to a wrong length",
    meaning: "Their bytes are damaged, or are not those that the descriptor means.",
    cure: "Copy the file again. Those pages are lost otherwise.",
  },
  VRF030: {
    title: "pages overlap in the file",
    meaning:
      "Two descriptors lead to the same bytes, apart from the page of zeros that many share. One of them is damaged, and shows the contents of the other.",
    cure: "Copy the file again. Do not trust these pages.",
  },
  VRF031: {
    title: "not all pages were compared for overlaps",
    meaning:
      "More than 65 536 pages are out of order in the file. Tools write them in order; overlaps among some were not looked for.",
    cure: "Nothing, if the program that wrote the dump does so. Otherwise the descriptors are damaged.",
  },
  VRF032: {
    title: "files are not the parts of one dump",
    meaning: "Parts of a split dump are missing, overlap, or are of another dump.",
    cure: "Name every part, the first as FILE and the others with --part; without that those beside it are taken.",
  },
  VRF033: {
    title: "this is one part of a split dump",
    meaning:
      "It was checked by itself; the other parts have the other pages, and do not lie beside it under the next numbers.",
    cure: "Name the others with --part, to see whether they are all of it.",
  },
  VRF034: {
    title: "not all of the memory was read",
    meaning:
      "Tables claim the same bytes of a file so many times that reading them each time would not end. They were read four times over; what claims them after that counts as present, unread.",
    cure: "The tables are damaged, or were made to waste time: see the other findings.",
  },
};
