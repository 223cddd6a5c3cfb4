import { GuestcoreError } from "../core/errors.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { Note } from "../elf/notes.ts";
import { decodeRegionNote, isRegionNote, type RegionNote } from "../vmx/region-note.ts";

/**
 * The notes of control blocks among a core's, ascending by vCPU; of several for one the last. Those that cannot be
 * decoded are left out and told.
 */
export function regionNotesOf(notes: readonly Note[]): {
  readonly found: readonly RegionNote[];
  readonly warnings: readonly Warning[];
} {
  const found = new Map<number, RegionNote>();
  const damaged: { readonly error: GuestcoreError; readonly offset: number }[] = [];
  let several = 0;
  for (const { name, desc, offset } of notes.filter(isRegionNote)) {
    try {
      const note = decodeRegionNote(name, desc);
      if (found.has(note.vcpu)) several++;
      found.set(note.vcpu, note);
    } catch (error) {
      if (!(error instanceof GuestcoreError)) throw error;
      damaged.push({ error, offset });
    }
  }
  const warnings: Warning[] = [];
  const [first] = damaged;
  if (first !== undefined) {
    warnings.push({
      code: "VMN001",
      message: `${plural(damaged.length, "note")} of vCPUs cannot be read, the first because ${first.error.message}`,
      where: { offset: first.offset },
    });
  }
  if (several > 0) {
    warnings.push({
      code: "VMN004",
      message: `${plural(several, "vCPU note")} of vCPUs that have a later one are not used`,
      hint: "guestcore vmcsinfo attach --vmcs with --replace leaves one for each",
    });
  }
  return { found: [...found.values()].sort((a, b) => a.vcpu - b.vcpu), warnings };
}
