import { UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource, PhysicalMemory } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";
import { EM_X86_64, machineName } from "../elf/constants.ts";
import { isElf, readElf } from "../elf/header.ts";
import { type Note, parseNotes, readNotes } from "../elf/notes.ts";
import { FlattenedSource } from "../io/flattened.ts";
import { elfKind } from "./elf-kind.ts";
import { ElfVmcore } from "./elf-vmcore.ts";
import { identify } from "./identify.ts";
import { isKdump, type KdumpHeader, readKdumpHeader, type Span } from "./kdump-header.ts";
import { KdumpMemory } from "./kdump-memory.ts";

/** The dump of a machine, whatever its format. */
export interface MachineDump {
  readonly memory: PhysicalMemory;
  readonly notes: readonly Note[];
  readonly warnings: readonly Warning[];
}

/** Whether a file is in a format that only machines are dumped in; an ELF file may be the core of a process. */
export const isCompressedDump = (source: ByteSource): boolean =>
  FlattenedSource.matches(source) || isKdump(source);

/** Notes of 8192 CPUs with room to spare. */
const MAX_NOTES_SIZE = 16 * 2 ** 20;

/**
 * Opens the dump of an x86-64 machine: an ELF vmcore or a kdump-compressed dump, plain or flattened.
 * @throws UnsupportedError when it is none of them; CorruptError when its headers are damaged
 */
export async function openDump(
  source: ByteSource,
  checkpoint?: JobContext["checkpoint"],
): Promise<MachineDump> {
  if (!FlattenedSource.matches(source)) return openPlain(source);
  const file = await FlattenedSource.open(source, checkpoint);
  const dump = openPlain(file);
  return file.whole ? dump : { ...dump, warnings: [...dump.warnings, cutStream] };
}

const cutStream: Warning = {
  code: "DMP001",
  message: "the flattened stream has no end mark: it is cut, and what was to come is missing",
  hint: "headers and bitmaps are written last; copy the stream again",
};

function openPlain(source: ByteSource): MachineDump {
  if (isElf(source)) return openElf(source);
  if (isKdump(source)) return openKdump(source);
  const { phrase, advice } = identify(source);
  throw new UnsupportedError(`not a vmcore: ${phrase}`, { hint: advice });
}

function openElf(source: ByteSource): MachineDump {
  const elf = readElf(source);
  const { machine } = elf.header;
  if (machine !== EM_X86_64) throw otherMachine(machineName(machine));
  const { notes, warnings } = readNotes(source, elf);
  if (notes.some(({ name }) => name === "CORE") && elfKind(elf, notes) === "process-core") {
    throw new UnsupportedError("the core of a process, not the dump of a machine", {
      hint: "guestcore extract finds the guest in the core of a qemu process",
    });
  }
  return { memory: new ElfVmcore(source, elf), notes, warnings: [...elf.warnings, ...warnings] };
}

const otherMachine = (name: string): UnsupportedError =>
  new UnsupportedError(`a dump of ${name}: only those of x86-64 machines are read`);

function openKdump(source: ByteSource): MachineDump {
  const header = readKdumpHeader(source);
  if (!["", "x86_64"].includes(header.machine)) throw otherMachine(header.machine);
  return { memory: new KdumpMemory(source, header), ...kdumpNotes(source, header) };
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
