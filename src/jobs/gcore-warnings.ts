import type { Coverage } from "../core/coverage.ts";
import { bytesText, plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { MemslotFacts } from "../guest/memslot-memory.ts";
import type { VmaList } from "../kernel/vmas.ts";
import type { CoreNotes } from "./gcore-notes.ts";
import type { ChosenProcess } from "./gcore-process.ts";
import type { HostDump } from "./host.ts";

/** What keeps a process's memory in the dump of its host. */
export const DUMP_HINT =
  "makedumpfile's -d drops pages of zeros (1), of files (2, 4) and of processes (8): -d 17 keeps what a core needs";

/** What has to be said of a process core that was made out of a host's dump. */
export function gcoreWarnings(
  host: HostDump,
  chosen: ChosenProcess,
  notes: CoreNotes,
  mappings: { readonly vmas: VmaList; readonly known: number },
  memory: MemslotFacts,
  coverage: Coverage,
): Warning[] {
  return [
    ...memoryWarnings(memory, coverage),
    ...mappingWarnings(mappings, notes),
    ...threadWarnings(host, notes),
    ...guestWarnings(chosen, notes),
  ];
}

function memoryWarnings(
  { swapped, inFile, unknown, complete, tablesMissing }: MemslotFacts,
  { excluded }: Coverage,
): Warning[] {
  const warnings: Warning[] = [];
  if (swapped > 0) {
    const message = `${bytesText(swapped)} of the process are in the host's swap: they are missing`;
    warnings.push({ code: "GCO001", message });
  }
  if (inFile > 0) {
    const message = `${bytesText(inFile)} of mapped files are on the host's disks alone: they are missing`;
    const hint = "debuggers read them from the files that NT_FILE names, where they have the same ones";
    warnings.push({ code: "GCO002", message, hint });
  }
  if (unknown > 0 || !complete) {
    const why = tablesMissing > 0 ? `, for ${plural(tablesMissing, "page table")} are not in this dump` : "";
    const message = `where ${bytesText(unknown)} of the process lie is not known${why}: they are missing`;
    warnings.push({ code: "GCO003", message });
  }
  if (excluded > 0) {
    const message = `${bytesText(excluded)} of the process were left out of the host's dump on purpose: they are missing`;
    warnings.push({ code: "GCO004", message, hint: DUMP_HINT });
  }
  return warnings;
}

function mappingWarnings(
  { vmas: { vmas, outcome }, known }: { readonly vmas: VmaList; readonly known: number },
  { filesUnknown }: CoreNotes,
): Warning[] {
  const warnings: Warning[] = [];
  if (!outcome.complete || known < vmas.length) {
    const message = outcome.complete
      ? `${plural(vmas.length - known, "mapping")} beyond user space are left out`
      : "not all of the process's mappings could be read: some are missing";
    warnings.push({ code: "GCO005", message });
  }
  if (filesUnknown > 0) {
    const message = `NT_FILE lacks ${plural(filesUnknown, "mapping")} of files, whose paths are not in this dump`;
    warnings.push({ code: "GCO006", message });
  }
  return warnings;
}

function threadWarnings({ kdump }: HostDump, { threads, threadsLeftOut }: CoreNotes): Warning[] {
  const warnings: Warning[] = [];
  const unknown = threads.filter(({ registers }) => !registers).length;
  if (unknown > 0 || threadsLeftOut > 0) {
    const left = threadsLeftOut > 0 ? `, and ${threadsLeftOut} more have no notes` : "";
    const message = `the registers of ${plural(unknown, "thread")} are not known, and zero in the notes${left}`;
    const hint = "threads of the kernel's own, as io_uring's are, have none";
    warnings.push({ code: "GCO007", message, hint });
  }
  const running = threads.filter(({ registers, running: isRunning }) => registers && isRunning).length;
  if (running > 0 && !kdump) {
    const message = `${plural(running, "thread")} ran on a processor when the dump was taken: registers are those of the last entry into the kernel`;
    warnings.push({ code: "GCO008", message });
  }
  return warnings;
}

function guestWarnings({ guests }: ChosenProcess, { guest }: CoreNotes): Warning[] {
  if (guests.length < 2) return [];
  const message = `the process runs ${guests.length} guests: the notes of vCPUs are those of guest ${guest}`;
  return [{ code: "GCO009", message }];
}
