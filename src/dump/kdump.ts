import { UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";
import { EM_X86_64 } from "../elf/constants.ts";
import { type Note, parseNotes } from "../elf/notes.ts";
import { checkKdump } from "./check-kdump.ts";
import type { DumpFormat, MachineDump } from "./format.ts";
import { isKdump, type KdumpHeader, readKdumpHeader, type Span } from "./kdump-header.ts";
import { KdumpMemory } from "./kdump-memory.ts";

/** Notes of 8192 CPUs with room to spare. */
const MAX_NOTES_SIZE = 16 * 2 ** 20;

/** Kdump-compressed dumps, and diskdump before them. */
export const KDUMP: DumpFormat = { name: "kdump", matches: isKdump, open: openKdump, check: checkKdump };

function openKdump(source: ByteSource): MachineDump {
  const header = readKdumpHeader(source);
  if (!["", "x86_64"].includes(header.machine)) {
    throw new UnsupportedError(`a dump of ${header.machine}: only those of x86-64 machines are read`);
  }
  const memory = new KdumpMemory(source, header);
  return { memory, cpus: [], machine: EM_X86_64, dumpLevel: header.dumpLevel, ...kdumpNotes(source, header) };
}

/** The notes of a kdump-compressed dump; before version 4 VMCOREINFO stands alone. */
function kdumpNotes(
  source: ByteSource,
  { notes, vmcoreinfo, incomplete, split }: KdumpHeader,
): { readonly notes: readonly Note[]; readonly warnings: readonly Warning[] } {
  const warnings: Warning[] = [];
  if (incomplete) {
    warnings.push({
      code: "DMP002",
      message: "the dump is marked incomplete: there was no room for the rest of it",
    });
  }
  if (split !== undefined) {
    warnings.push({
      code: "DMP004",
      message: `this is one part of a split dump, with page frames ${split.start} to ${split.end} only`,
      hint: "makedumpfile --reassemble PARTS OUT makes one of them all",
    });
  }
  const read = ({ offset, size }: Span): Buffer => {
    const bytes = Buffer.alloc(Math.max(0, Math.min(size, MAX_NOTES_SIZE, source.size - offset)));
    if (bytes.length < size) {
      warnings.push({
        code: "CORE003",
        message: `notes: ${bytes.length} of ${size} bytes at offset ${offset} are in the file`,
        where: { offset },
      });
    }
    return bytes.subarray(0, bytes.length === 0 ? 0 : source.read(offset, bytes));
  };
  const found = notes === undefined ? [] : [...parseNotes(read(notes), notes.offset)];
  if (vmcoreinfo !== undefined && !found.some(({ name }) => name === "VMCOREINFO")) {
    found.push({ name: "VMCOREINFO", type: 0, desc: read(vmcoreinfo), offset: vmcoreinfo.offset });
  }
  return { notes: found, warnings };
}
