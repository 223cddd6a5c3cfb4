import { UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource, PhysicalMemory } from "../core/memory.ts";
import type { RamPiece } from "../core/ram-map.ts";
import type { Warning } from "../core/warnings.ts";
import type { Note } from "../elf/notes.ts";
import type { X86State } from "../x86/state.ts";
import type { Checked, CheckReport } from "./check-report.ts";

/** The dump of a machine, whatever its format. */
export interface MachineDump {
  readonly memory: PhysicalMemory;
  /** In the order of the file; VMCOREINFO among them where the format has it. */
  readonly notes: readonly Note[];
  /** Processors whose registers the format keeps in a form of its own, not as notes. */
  readonly cpus: readonly DumpedCpu[];
  /** makedumpfile's -d that it was filtered with, where the format tells. */
  readonly dumpLevel?: number;
  /** Whether it is marked as one that broke off. */
  readonly incomplete?: boolean;
  /** ELF's e_machine of the machine dumped. */
  readonly machine: number;
  /** The byte order of its notes and memory, where it is not little-endian. */
  readonly bigEndian?: boolean;
  /** Names of the further files that it was read from. */
  readonly parts?: readonly string[];
  readonly warnings: readonly Warning[];
}

/** One processor of a dumped machine. */
export interface DumpedCpu {
  /** Its number in the dump, from 0. */
  readonly index: number;
  readonly state: X86State;
  /** Where it was read, e.g. "SMRAM state at offset 0x3400". */
  readonly source: string;
  /** Waiting in HLT; undefined where the format does not tell. */
  readonly halted: boolean | undefined;
  /** Of a processor that was in a guest (VMX non-root): its registers are the guest's then. */
  readonly inGuest?: { readonly eptp: bigint } | undefined;
}

/** What a format may need beside the file it is opened by. */
export interface DumpFiles {
  readonly checkpoint?: JobContext["checkpoint"];
  /** Further files of the same dump, as the user named them. */
  readonly parts?: readonly ByteSource[];
  /** Opens a file in the folder of the dump by its plain name; undefined when there is no such regular file. */
  readonly beside?: (name: string) => ByteSource | undefined;
  /** Unpacks what is gzip or zstd inside a dump into a temporary file; undefined when it is neither. */
  readonly unpack?: (packed: ByteSource) => Promise<UnpackedPart | undefined>;
  /** Where a raw image keeps what, as the user says. */
  readonly map?: readonly RamPiece[];
}

/** What was compressed inside a dump. */
export interface UnpackedPart {
  readonly source: ByteSource;
  /** Where it is not whole. */
  readonly warnings: readonly Warning[];
}

/** One format that a machine is dumped in. */
export interface DumpFormat {
  /** As in the table of magic numbers (`identify.ts`). */
  readonly name: string;
  /** Whether a dump may be in several files, so that the user can name the others. */
  readonly parts?: true;
  readonly matches: (source: ByteSource) => boolean;
  /** @throws CorruptError when its headers are damaged, UnsupportedError for a kind that is not read */
  readonly open: (source: ByteSource, files: DumpFiles) => MachineDump | Promise<MachineDump>;
  /**
   * Looks for damage, deeper than opening the dump and reading its memory would; without it `verify` does these two. It
   * may end with `checkMemory`. What `open` throws, it throws.
   */
  readonly check?: (source: ByteSource, files: DumpFiles, report: CheckReport) => Promise<Checked>;
}

/**
 * Refuses further files of a dump that is in one.
 * @throws UnsupportedError
 */
export function refuseParts({ parts: [part] = [] }: DumpFiles, { parts }: Pick<DumpFormat, "parts">): void {
  if (part === undefined || parts === true) return;
  throw new UnsupportedError(`the dump is whole in one file: ${part.name} is no part of it`, {
    hint: "--part is for the further files of split kdumps, of sadump, and of VMware's state and memory",
  });
}

/** Whether a file has these bytes at `offset`; a string stands for its Latin-1 bytes. */
export function hasMagic(source: ByteSource, magic: string, offset = 0): boolean {
  const bytes = Buffer.alloc(magic.length);
  return source.read(offset, bytes) === bytes.length && bytes.toString("latin1") === magic;
}
