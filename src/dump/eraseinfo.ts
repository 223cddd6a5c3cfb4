import { latin1 } from "../core/bytes.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { Note } from "../elf/notes.ts";

/** The note in which makedumpfile says what it erased by --config or --eppic (makedumpfile elf_info.h). */
export const ERASEINFO = "ERASEINFO";

/** Tells that data of a dump were erased on purpose; makedumpfile has one line "erase SYMBOL size BYTES" an entry. */
export function erasedWarnings(notes: readonly Note[]): Warning[] {
  const note = notes.find(({ name }) => name === ERASEINFO);
  if (note === undefined) return [];
  const entries = latin1(note.desc)
    .split("\n")
    .filter((line) => line.startsWith("erase "));
  return [
    {
      code: "DMP005",
      message: `data were erased from this dump on purpose: ${plural(entries.length, "entry", "entries")} in its ${ERASEINFO}`,
      where: { offset: note.offset },
    },
  ];
}
