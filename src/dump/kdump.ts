import type { ByteSource } from "../core/memory.ts";
import { type Range, sizeOf } from "../core/ranges.ts";
import { bytesText } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { type Note, parseNotes } from "../elf/notes.ts";
import { Bitmap, ramRuns } from "./bitmap.ts";
import { checkKdump } from "./check-kdump.ts";
import { ERASEINFO } from "./eraseinfo.ts";
import type { DumpFiles, DumpFormat, MachineDump } from "./format.ts";
import { isKdump, type KdumpHeader, NEWEST_VERSION, readKdumpHeader, type Span } from "./kdump-header.ts";
import { baseOf, machineOf } from "./kdump-machine.ts";
import { KdumpMemory } from "./kdump-memory.ts";
import { DESCRIPTOR_SIZE } from "./kdump-page.ts";
import type { KdumpMember } from "./kdump-pages.ts";
import { type DumpFile, filesOfDump } from "./kdump-split.ts";

/** Notes of 8192 CPUs with room to spare. */
const MAX_NOTES_SIZE = 16 * 2 ** 20;

/** Kdump-compressed dumps, and diskdump before them; a split set is opened by any of its files. */
export const KDUMP: DumpFormat = {
  name: "kdump",
  parts: true,
  matches: isKdump,
  open: openKdump,
  check: checkKdump,
};

async function openKdump(source: ByteSource, files: DumpFiles): Promise<MachineDump> {
  const header = readKdumpHeader(source);
  const found = await filesOfDump({ source, file: source, header, warnings: [] }, files);
  const set = found.toSorted((left, right) => windowOf(left).start - windowOf(right).start);
  const warnings = [...headerWarnings(set), ...set.flatMap((file) => file.warnings)];
  const notes = notesOf(source, header, set, warnings);
  const machine = machineOf(header.machine, header.layout, notes);
  const { ramBitmap, maxMapnr } = header;
  const ram = await ramRuns({ source, offset: ramBitmap, size: maxMapnr }, files.checkpoint);
  warnings.push(...missingWarnings(set, ram));
  const members = await membersOf(set, files);
  return {
    memory: new KdumpMemory(members, ram, header.blockSize, baseOf(header, machine)),
    notes,
    cpus: [],
    machine,
    dumpLevel: header.dumpLevel,
    ...(set.some((file) => file.header.incomplete) ? { incomplete: true } : {}),
    ...(header.layout.littleEndian ? {} : { bigEndian: true }),
    ...(found.length === 1 ? {} : { parts: found.slice(1).map((file) => file.source.name) }),
    warnings,
  };
}

const windowOf = ({ header }: Pick<DumpFile, "header">): Range =>
  header.split ?? { start: 0, end: header.maxMapnr };

/** Each file's own bitmap tells its descriptors; their table has room for those of the whole set in every file. */
async function membersOf(set: readonly DumpFile[], { checkpoint }: DumpFiles): Promise<KdumpMember[]> {
  const members: KdumpMember[] = [];
  let total: number | undefined;
  for (const { source, header } of set) {
    const { dumpedBitmap, maxMapnr, descriptors } = header;
    const window = windowOf({ header });
    const place = { source, offset: dumpedBitmap, size: maxMapnr };
    const dumped = await Bitmap.open(place, window, checkpoint);
    const whole = header.split === undefined ? dumped : undefined;
    total ??= (whole ?? (await Bitmap.open(place, { start: 0, end: maxMapnr }, checkpoint))).rank(maxMapnr);
    members.push({ source, header, window, dumped, firstData: descriptors + DESCRIPTOR_SIZE * total });
  }
  return members;
}

/** The notes of the file named, and what of the whole set was erased; before version 4 VMCOREINFO stands alone. */
function notesOf(
  source: ByteSource,
  { notes, vmcoreinfo, layout }: KdumpHeader,
  set: readonly DumpFile[],
  warnings: Warning[],
): Note[] {
  const { littleEndian } = layout;
  const found =
    notes === undefined ? [] : [...parseNotes(read(source, notes, warnings), notes.offset, littleEndian)];
  if (vmcoreinfo !== undefined && !found.some(({ name }) => name === "VMCOREINFO")) {
    const desc = read(source, vmcoreinfo, warnings);
    found.push({ name: "VMCOREINFO", type: 0, desc, offset: vmcoreinfo.offset });
  }
  // Each part tells what was erased in it; a note of an ELF dump that it was made of is repeated there.
  const erased: Buffer[] = [];
  let first: Span | undefined;
  let room = MAX_NOTES_SIZE;
  for (const { header, source: part } of set) {
    if (header.eraseinfo === undefined) continue;
    first ??= header.eraseinfo;
    const desc = read(part, header.eraseinfo, warnings, room);
    room -= desc.length;
    erased.push(desc);
  }
  if (first === undefined) return found;
  const others = found.filter(({ name }) => name !== ERASEINFO);
  return [...others, { name: ERASEINFO, type: 0, desc: Buffer.concat(erased), offset: first.offset }];
}

function read(
  source: ByteSource,
  { offset, size }: Span,
  warnings: Warning[],
  most = MAX_NOTES_SIZE,
): Buffer {
  const there = Math.max(0, Math.min(size, source.size - offset));
  const bytes = Buffer.alloc(Math.min(there, most));
  if (bytes.length < size) {
    warnings.push({
      code: "CORE003",
      message: `notes: ${bytes.length} of ${size} bytes at offset ${offset} are ${bytes.length < there ? "read" : "in the file"}`,
      where: { offset },
    });
  }
  return bytes.subarray(0, bytes.length === 0 ? 0 : source.read(offset, bytes));
}

function headerWarnings(set: readonly DumpFile[]): Warning[] {
  const warnings: Warning[] = [];
  if (set.some(({ header }) => header.incomplete)) {
    warnings.push({
      code: "DMP002",
      message: "the dump is marked incomplete: there was no room for the rest of it",
    });
  }
  const { version } = set[0]!.header;
  if (version > NEWEST_VERSION) {
    warnings.push({
      code: "DMP006",
      message: `the header is of version ${version}, newer than the versions known, up to ${NEWEST_VERSION}: what is new in it is not seen`,
    });
  }
  return warnings;
}

/** Windows listed in a message. */
const MAX_LISTED = 4;

/** The RAM that is in parts of a split dump which are not here. */
function missingWarnings(set: readonly DumpFile[], ram: readonly Range[]): Warning[] {
  const { split, maxMapnr, blockSize } = set[0]!.header;
  if (split === undefined) return [];
  const gaps: { start: number; end: number; frames: number }[] = [];
  let covered = 0;
  for (const { start, end } of [...set.map(windowOf), { start: maxMapnr, end: maxMapnr }]) {
    if (start > covered) gaps.push({ start: covered, end: start, frames: framesIn(ram, covered, start) });
    covered = Math.max(covered, end);
  }
  const missing = gaps.filter(({ frames }) => frames > 0);
  if (missing.length === 0) return [];
  const lost = missing.reduce((sum, { frames }) => sum + frames * blockSize, 0);
  const listed = missing.slice(0, MAX_LISTED).map(({ start, end }) => `${start} to ${end - 1}`);
  if (missing.length > MAX_LISTED) listed.push(`${missing.length - MAX_LISTED} more such ranges`);
  return [
    {
      code: "DMP004",
      message: `${bytesText(lost)} of memory are in parts of this split dump that are not here: page frames ${listed.join(", ")}`,
      hint: "name each of the other parts with --part FILE",
    },
  ];
}

function framesIn(ram: readonly Range[], from: number, to: number): number {
  let frames = 0;
  for (const { start, end } of ram) {
    frames += Math.max(0, sizeOf({ start: Math.max(start, from), end: Math.min(end, to) }));
  }
  return frames;
}
