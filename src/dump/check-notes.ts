import { latin1 } from "../core/bytes.ts";
import { plural } from "../core/text.ts";
import { EM_X86_64, NT_PRSTATUS } from "../elf/constants.ts";
import { PRSTATUS_PID, PRSTATUS_SIZE } from "../elf/core-notes.ts";
import type { Note } from "../elf/notes.ts";
import { type CheckReport, FOUND } from "./check-report.ts";

/** NT_PRSTATUS of i386, which QEMU writes for an x86-64 machine of which no CPU is in long mode. */
const PRSTATUS_I386_SIZE = 144;
/** CPUs that Linux supports on x86-64 (`MAXSMP`, arch/x86/Kconfig); notes of more are not compared. */
const MAX_CPUS = 8192;

export interface NotesCheck {
  /** ELF's e_machine. */
  readonly machine: number;
  /** Processors that a header counts; 0 or undefined where none does. */
  readonly cpus?: number | undefined;
  /** Of the core of a process: its threads are told by their number. */
  readonly process?: boolean;
}

/** Looks at notes that could be taken apart: whose they are, and whether they can be what they say. */
export function checkNotes(notes: readonly Note[], of: NotesCheck, report: CheckReport): void {
  checkCpus(notes, of, report);
  for (const note of notes) {
    if (note.name === "VMCOREINFO" && !isVmcoreinfo(note.desc)) {
      const message = "the VMCOREINFO note is no text of KEY=VALUE lines";
      report.find(FOUND.noteOddity, message, { offset: note.offset });
    }
  }
}

function checkCpus(
  notes: readonly Note[],
  { machine, cpus = 0, process = false }: NotesCheck,
  report: CheckReport,
) {
  const states = notes.filter(({ name, type }) => name === "CORE" && type === NT_PRSTATUS);
  const known = new Map<string, number>();
  for (const { desc, offset } of states.slice(0, MAX_CPUS)) {
    if (machine === EM_X86_64 && ![PRSTATUS_SIZE, PRSTATUS_I386_SIZE].includes(desc.length)) {
      const message = `an NT_PRSTATUS note has ${desc.length} bytes, those of x86-64 have ${PRSTATUS_SIZE}`;
      report.find(FOUND.noteOddity, message, { offset });
      continue;
    }
    const key = latin1(process ? desc.subarray(PRSTATUS_PID, PRSTATUS_PID + 4) : desc);
    const first = known.get(key);
    if (first === undefined) known.set(key, offset);
    else {
      const whose = process ? "thread" : "CPU";
      const message = `a ${whose}'s NT_PRSTATUS note is there twice, first at offset ${first}`;
      report.find(FOUND.cpuTwice, message, { offset });
    }
  }
  if (cpus > 0 && states.length > cpus) {
    const message = `the notes have the registers of ${plural(states.length, "CPU")}, and the header counts ${cpus}`;
    report.find(FOUND.noteOddity, message, { offset: states[cpus]!.offset });
  }
}

/** Lines of printable characters, at least one of them KEY=VALUE; NULs may follow. */
function isVmcoreinfo(desc: Buffer): boolean {
  const end = desc.indexOf(0);
  const text = latin1(end < 0 ? desc : desc.subarray(0, end));
  return /^[\n\r\t\x20-\x7e]+$/.test(text) && /^[^=\n]+=/m.test(text);
}
