import { UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { parseNotes } from "../elf/notes.ts";
import type { PageCounts } from "./check-kdump-bitmaps.ts";
import { checkNotes } from "./check-notes.ts";
import { type CheckReport, FOUND } from "./check-report.ts";
import type { KdumpHeader, Span } from "./kdump-header.ts";
import { subHeaderOf } from "./kdump-layouts.ts";
import { machineOf } from "./kdump-machine.ts";
import { DESCRIPTOR_SIZE } from "./kdump-page.ts";

/** Notes of 8192 CPUs with room to spare. */
const MAX_NOTES_SIZE = 16 * 2 ** 20;
/** EM_NONE: nothing of the notes is known then. */
const UNKNOWN = 0;

/** ELF's e_machine of the machine dumped; 0 for one that is not known, whose tables and pages are as those of others. */
export function kdumpMachine(source: ByteSource, { machine, layout, notes }: KdumpHeader): number {
  const found =
    notes === undefined ? [] : [...parseNotes(bytesOf(source, notes), notes.offset, layout.littleEndian)];
  try {
    return machineOf(machine, layout, found);
  } catch (error) {
    if (error instanceof UnsupportedError) return UNKNOWN;
    throw error;
  }
}

/** Notes, VMCOREINFO and the log of what was erased: in the file, and not where something else is. */
export function checkSpans(
  source: ByteSource,
  header: KdumpHeader,
  machine: number,
  { dumped }: PageCounts,
  report: CheckReport,
): void {
  const { layout, blockSize, ramBitmap, descriptors, notes, vmcoreinfo, eraseinfo } = header;
  const tables = [
    { start: 0, end: blockSize + subHeaderOf(layout).size },
    { start: ramBitmap, end: descriptors + DESCRIPTOR_SIZE * dumped },
  ];
  for (const [name, span] of Object.entries({ notes, VMCOREINFO: vmcoreinfo, eraseinfo })) {
    if (span === undefined) continue;
    const { offset, size } = span;
    if (!(offset + size <= source.size)) {
      const message = `${name}: ${size} bytes at offset ${offset} are not all in a file of ${source.size} bytes`;
      report.find(FOUND.notes, message, { offset });
    } else if (tables.some(({ start, end }) => offset < end && offset + size > start)) {
      const message = `${name}: ${size} bytes at offset ${offset} are those of headers, bitmaps or descriptors`;
      report.find(FOUND.contradiction, message, { offset });
    }
  }
  if (notes !== undefined) checkNoteBytes(source, header, machine, notes, report);
  else if (vmcoreinfo !== undefined) {
    const note = {
      name: "VMCOREINFO",
      type: 0,
      desc: bytesOf(source, vmcoreinfo),
      offset: vmcoreinfo.offset,
    };
    checkNotes([note], { machine }, report);
  }
}

function checkNoteBytes(
  source: ByteSource,
  { cpus, layout }: KdumpHeader,
  machine: number,
  span: Span,
  report: CheckReport,
): void {
  const damaged = (offset: number) => {
    const message = "a note does not fit into the notes; it and those behind it cannot be read";
    report.find(FOUND.notes, message, { offset });
  };
  const bytes = bytesOf(source, span);
  // Where they are cut, that has been told.
  const notes = [
    ...parseNotes(bytes, span.offset, layout.littleEndian, bytes.length < span.size ? undefined : damaged),
  ];
  checkNotes(notes, { machine, cpus }, report);
}

function bytesOf(source: ByteSource, { offset, size }: Span): Buffer {
  const bytes = Buffer.alloc(Math.max(0, Math.min(size, MAX_NOTES_SIZE, source.size - offset)));
  return bytes.subarray(0, bytes.length === 0 ? 0 : source.read(offset, bytes));
}
