import { GuestcoreError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { Warning } from "../core/warnings.ts";
import type { Note } from "../elf/notes.ts";
import { type NoteUse, vcpuOfNote, withNotes } from "../guest/from-notes.ts";
import type { Guest } from "../guest/guest.ts";
import type { QemuMachine } from "../qemu/machine.ts";
import type { VmcsLayout } from "../vmx/layout.ts";
import { VMCS_LAYOUTS } from "../vmx/layouts.ts";
import { isRegionNote, type RegionNote } from "../vmx/region-note.ts";
import { settleLayout } from "../vmx/settle.ts";
import { layoutOf } from "../vmx/vmcsinfo.ts";
import { guessWarnings, type HostOptions } from "./host.ts";
import { regionNotesOf } from "./region-notes.ts";
import { acceptedNotes, incomplete, partial, refusal, stillStale } from "./vcpu-note-warnings.ts";
import { openVmcsInfo, vmcsInfoOfNotes } from "./vmcsinfo.ts";

/** The note of a vCPU's control block, and what became of it. */
export interface UsedNote extends Pick<RegionNote, "owner" | "vcpu" | "address" | "complete"> {
  /** `refused`: it cannot be read, or is of another guest. */
  readonly use: NoteUse | "refused";
}

export interface NotedGuest {
  readonly guest: Guest;
  /** Ascending by vCPU; empty for a core without such notes. */
  readonly notes: readonly UsedNote[];
  /** The machine's own, with what the notes change of them, and those of the notes. */
  readonly warnings: readonly Warning[];
}

/**
 * The guest of a qemu process with registers from the VMCS or VMCB notes of its core, where QEMU's own are not current.
 * @throws as openVmcsInfo, for VMCSINFO that the user names
 */
export async function withVcpuNotes(
  notes: readonly Note[],
  machine: QemuMachine,
  guest: Guest,
  options: HostOptions,
  context: JobContext,
): Promise<NotedGuest> {
  if (!notes.some(isRegionNote)) return { guest, notes: [], warnings: machine.warnings };
  const { found, warnings } = regionNotesOf(notes);
  const chosen = found.some(({ owner }) => owner === "VMCS")
    ? await chooseLayouts(notes, options, context)
    : { layouts: [], warnings: [] };
  const pages = found.filter(({ owner }) => owner === "VMCS").map(({ bytes }) => bytes);
  const layouts = chosen.layouts.map((layout) => settleLayout(layout, pages));
  const read = found.map((note) => ({ note, vcpu: vcpuOfNote(note, layouts) }));
  const noted = read.map(({ vcpu }) => vcpu).filter((vcpu) => typeof vcpu !== "string");
  const refused = read.flatMap(({ note, vcpu }) =>
    typeof vcpu === "string" ? [{ note, reason: vcpu }] : [],
  );
  const unnamed = machine.vcpus.some(({ type }) => type === undefined);
  const accepted = acceptedNotes(machine, guest, noted, unnamed);
  const { vcpus, uses } = withNotes(guest.vcpus, accepted.vcpus, unnamed);
  const used = vcpus.filter(({ index }) => isUsed(uses.get(index)));
  return {
    guest: { ...guest, vcpus },
    notes: found.map(({ owner, vcpu, address, complete }) => ({
      owner,
      vcpu,
      address,
      complete,
      use: uses.get(vcpu) ?? "refused",
    })),
    warnings: [
      ...machine.warnings.flatMap((warning) =>
        warning.code === "REG001" ? stillStale(machine, used) : [warning],
      ),
      ...warnings,
      ...chosen.warnings,
      ...guessWarnings({ layouts }),
      ...refusal(refused),
      ...accepted.warnings,
      ...incomplete(used, found),
      ...partial(used),
    ],
  };
}

const isUsed = (use: NoteUse | undefined): boolean => use === "over-stale" || use === "alone";

/** What the user names, else the core's own VMCSINFO, else every layout a processor has that is known. */
async function chooseLayouts(
  notes: readonly Note[],
  options: HostOptions,
  context: JobContext,
): Promise<{ readonly layouts: readonly VmcsLayout[]; readonly warnings: readonly Warning[] }> {
  const { vmcsinfo } = options;
  if (vmcsinfo !== undefined) {
    const { info, warnings } = await openVmcsInfo(vmcsinfo, options, context);
    return { layouts: [layoutOf(info)], warnings };
  }
  const known = VMCS_LAYOUTS.filter(({ kind }) => kind !== "nested");
  const guessed = (why: string): Warning => ({
    code: "VMN002",
    message: `${why}: the VMCS notes are read by the layouts known`,
    hint: "name what describes the host's processor with --vmcsinfo",
  });
  try {
    const noted = vmcsInfoOfNotes(notes, options);
    if (noted !== undefined) return { layouts: [layoutOf(noted.info)], warnings: noted.warnings };
    return { layouts: known, warnings: [guessed("the core has VMCS notes and no VMCSINFO")] };
  } catch (error) {
    if (!(error instanceof GuestcoreError)) throw error;
    return { layouts: known, warnings: [guessed(`the core's VMCSINFO cannot be read (${error.message})`)] };
  }
}
