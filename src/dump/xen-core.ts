import { Parser } from "binary-parser";
import { PAGE_SIZE } from "../core/address.ts";
import { u64, viewOf } from "../core/bytes.ts";
import { CorruptError, UnavailableError, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { bytesText, hex, plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { EM_X86_64, ET_CORE } from "../elf/constants.ts";
import { isElf } from "../elf/header.ts";
import { parseNotes } from "../elf/notes.ts";
import { readSections, type Section, SHT_NOTE } from "../elf/sections.ts";
import type { DumpFiles, DumpFormat, MachineDump } from "./format.ts";
import { SegmentMemory, segmentsOf } from "./segment-memory.ts";
import { readXenCpus } from "./xen-cpus.ts";
import { type FrameTable, piecesOf } from "./xen-index.ts";

/** XC_CORE_MAGIC and XC_CORE_MAGIC_HVM (Xen tools/libs/ctrl/xc_core.h). */
const MAGIC_PV = 0xf00febed;
const MAGIC_HVM = 0xf00febee;

/**
 * Cores of fully virtualised Xen domains (HVM and PVH), as `xl dump-core` and `virsh dump` write them: an ELF file of
 * sections (docs/misc/dump-core-format.txt), not to be taken for an ELF vmcore.
 */
export const XEN_CORE: DumpFormat = { name: "xc-core-elf", matches: isXenCore, open: openXenCore };

/** The same before Xen 3.1: a header with three offsets. */
export const XEN_CORE_OLD: DumpFormat = {
  name: "xc-core-hvm",
  matches: (source) => [MAGIC_PV, MAGIC_HVM].includes(firstWord(source)),
  open: openOldXenCore,
};

function firstWord(source: ByteSource): number {
  const bytes = Buffer.alloc(4);
  return source.read(0, bytes) === bytes.length ? bytes.readUInt32LE(0) : 0;
}

/** Whether an ELF file is made of the sections of a Xen core; other cores have program headers. */
export function isXenCore(source: ByteSource): boolean {
  const header = Buffer.alloc(64);
  if (!isElf(source) || source.read(0, header) < header.length) return false;
  const isCore = header.readUInt16LE(16) === ET_CORE && header.readUInt16LE(56) === 0;
  return isCore && readSections(source).some((section) => isXens(source, section));
}

/** The names of sections are at the end of the file; where it is cut, the first note tells: XEN_ELFNOTE_DUMPCORE_NONE. */
function isXens(source: ByteSource, { name, type, offset }: Section): boolean {
  if (name === ".xen_pages") return true;
  if (type !== SHT_NOTE || !(offset < source.size)) return false;
  const bytes = Buffer.alloc(16);
  const wanted = Buffer.from([4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, ...Buffer.from("Xen\0")]);
  return source.read(offset, bytes) === bytes.length && bytes.equals(wanted);
}

async function openXenCore(source: ByteSource, files: DumpFiles): Promise<MachineDump> {
  const sections = new Map(readSections(source).map((section) => [section.name, section]));
  if (sections.has(".xen_p2m")) throw paravirtualised();
  const [pages, frames] = [sections.get(".xen_pages"), sections.get(".xen_pfn")];
  if (pages === undefined || frames === undefined || !isIn(source, frames) || !isIn(source, pages)) {
    throw new CorruptError(
      "the core does not tell which page is which: its section .xen_pfn is not in the file",
      {
        hint: "the section is at the end of the file: the core is truncated, copy it again",
      },
    );
  }
  const { vcpus, pageSize } = headerNote(source, sections.get(".note.Xen"));
  if (pageSize !== PAGE_SIZE) {
    throw new UnsupportedError(`a Xen core with pages of ${bytesText(pageSize)}`);
  }
  const [stored, told] = [Math.floor(pages.size / PAGE_SIZE), Math.floor(frames.size / 8)];
  const warnings = stored === told ? [] : [differing(stored, told)];
  const table: FrameTable = {
    ...{ offset: frames.offset, count: Math.min(stored, told), width: 8 },
    ...{ pages: pages.offset, tells: true },
  };
  const contexts = sections.get(".xen_prstatus") ?? { offset: 0, size: 0 };
  const dump = await openFrames(source, table, { ...contexts, count: vcpus }, files);
  const header = Buffer.alloc(20);
  source.read(0, header);
  return { ...dump, machine: header.readUInt16LE(18), warnings: [...warnings, ...dump.warnings] };
}

/** Whether a section begins in the file; its end may be missing. */
const isIn = (source: ByteSource, { offset, size }: Section): boolean =>
  offset < source.size && size < Number.POSITIVE_INFINITY;

const paravirtualised = (): UnsupportedError =>
  new UnsupportedError("the core of a paravirtualised Xen domain", {
    hint: "its page tables hold machine frames, which no tool follows in a vmcore: open it in crash as it is",
  });

const differing = (stored: number, told: number): Warning => ({
  code: "DMP024",
  message: `the core has ${plural(stored, "page")} and tells of ${told} which they are: the others are left out`,
});

/** XEN_ELFNOTE_DUMPCORE_HEADER: magic, vCPUs, pages, bytes a page, 64 bits each (xen/include/public/elfnote.h). */
const HEADER_NOTE = 0x2000001;
const MAX_NOTES = 1 << 16;

/** @throws UnsupportedError for a paravirtualised domain */
function headerNote(source: ByteSource, section: Section | undefined): { vcpus: number; pageSize: number } {
  const bytes = Buffer.alloc(section === undefined ? 0 : Math.min(section.size, MAX_NOTES));
  const got = section !== undefined && section.offset < source.size ? source.read(section.offset, bytes) : 0;
  const note = [...parseNotes(bytes.subarray(0, got), section?.offset ?? 0)].find(
    ({ name, type, desc }) => name === "Xen" && type === HEADER_NOTE && desc.length >= 32,
  );
  // Only this size was ever written for x86.
  if (note === undefined) return { vcpus: 0, pageSize: PAGE_SIZE };
  const view = viewOf(note.desc);
  if (u64(view, 0) === MAGIC_PV) throw paravirtualised();
  return { vcpus: u64(view, 8), pageSize: u64(view, 24) };
}

/** struct xc_core_header of Xen before 3.1. */
const oldHeader = new Parser()
  .endianness("little")
  .uint32("magic")
  .uint32("vcpus")
  .uint32("pages")
  .uint32("contextOffset")
  .uint32("indexOffset")
  .uint32("pagesOffset");
const OLD_HEADER_SIZE = 24;

interface OldHeader {
  readonly magic: number;
  readonly vcpus: number;
  readonly pages: number;
  readonly contextOffset: number;
  readonly indexOffset: number;
  readonly pagesOffset: number;
}

function openOldXenCore(source: ByteSource, files: DumpFiles): Promise<MachineDump> {
  const bytes = Buffer.alloc(OLD_HEADER_SIZE);
  if (source.read(0, bytes) < bytes.length) {
    throw new CorruptError("the core ends inside its header", { where: { offset: source.size } });
  }
  const { magic, vcpus, pages, contextOffset, indexOffset, pagesOffset } = oldHeader.parse(
    bytes,
  ) as OldHeader;
  if (magic === MAGIC_PV) throw paravirtualised();
  const room = pagesOffset - indexOffset;
  if (contextOffset > indexOffset || room < 4 * pages || indexOffset > source.size) {
    throw new CorruptError(
      `the header's offsets ${[contextOffset, indexOffset, pagesOffset].map((at) => hex(at)).join(", ")} do not go with ${plural(pages, "page")}`,
      { where: { offset: 12 }, hint: "the core is truncated, or damaged at its start" },
    );
  }
  // For a fully virtualised domain the position of an entry is the page frame (crash xendump.c).
  const table: FrameTable = {
    ...{
      offset: indexOffset,
      count: pages,
      width: room < 8 * pages ? 4 : widthOf(source, indexOffset, pages),
    },
    ...{ pages: pagesOffset, tells: false },
  };
  const contexts = { offset: contextOffset, size: indexOffset - contextOffset, count: vcpus };
  return openFrames(source, table, contexts, files);
}

/**
 * An entry is an unsigned long of the host. In 64 bits a frame number has nothing but zeros above, or is all ones for no
 * page; in 32 the other half is the next frame's.
 */
function widthOf(source: ByteSource, offset: number, pages: number): 4 | 8 {
  const bytes = Buffer.alloc(8 * Math.min(pages, 512));
  const got = source.read(offset, bytes);
  for (let at = 0; at + 8 <= got; at += 8) {
    if (![0, bytes.readUInt32LE(at)].includes(bytes.readUInt32LE(at + 4))) return 4;
  }
  return 8;
}

async function openFrames(
  source: ByteSource,
  table: FrameTable,
  contexts: Parameters<typeof readXenCpus>[1],
  files: DumpFiles,
): Promise<MachineDump> {
  const { pieces, lost, twice, impossible } = await piecesOf(source, table, files);
  if (pieces.length === 0) throw new UnavailableError("none of the domain's memory is in this core");
  const end = pieces.reduce((last, piece) => Math.max(last, piece.offset + (piece.end - piece.start)), 0);
  const { cpus, warnings } = readXenCpus(source, contexts);
  const cut = [
    ...(lost > 0 ? [`inside the list of page frames: ${plural(lost, "page")} of it`] : []),
    ...(end > source.size
      ? [`${plural(end - source.size, "byte")} before the last of the domain's memory: that`]
      : []),
  ];
  return {
    memory: new SegmentMemory(source, segmentsOf(pieces)),
    notes: [],
    cpus,
    machine: EM_X86_64,
    warnings: [...cut.map(cutCore), ...strangeFrames(twice, impossible, table), ...warnings],
  };
}

function strangeFrames(twice: number, impossible: number, { offset }: FrameTable): Warning[] {
  const told = [
    ...(twice > 0 ? [`${plural(twice, "page")} more than once, of which the first counts`] : []),
    ...(impossible > 0
      ? [`${plural(impossible, "page")} beyond every machine's memory, which are left out`]
      : []),
  ];
  if (told.length === 0) return [];
  const message = `the core's list of page frames has ${told.join(", and ")}`;
  return [{ code: "DMP029", message, hint: "copy the core again", where: { offset } }];
}

const cutCore = (what: string): Warning => ({
  code: "DMP024",
  message: `the core ends ${what} is missing`,
  hint: "copy the core again",
});
