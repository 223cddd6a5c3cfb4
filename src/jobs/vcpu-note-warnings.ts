import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { fitsGuest, foreignTask, registersBySource } from "../guest/from-notes.ts";
import type { Guest, Vcpu } from "../guest/guest.ts";
import { type QemuMachine, staleness } from "../qemu/machine.ts";
import type { RegionNote } from "../vmx/region-note.ts";

/** What has to be said of a core whose vCPUs have notes of their VMCS or VMCB. */

/** @param refused notes that no registers could be read from, and why, as the end of a sentence */
export function refusal(
  refused: readonly { readonly note: RegionNote; readonly reason: string }[],
): Warning[] {
  const [first] = refused;
  if (first === undefined) return [];
  const { owner, vcpu } = first.note;
  const message = `the notes of ${plural(refused.length, "vCPU")} are not used, the first of vCPU ${vcpu} because ${first.reason}`;
  const hint = "--vmcsinfo names another description of the host's processor";
  return [{ code: "VMN001", message, ...(owner === "VMCS" ? { hint } : {}) }];
}

/**
 * REG001 as the notes leave it: which registers are stale, and of which vCPUs all of them.
 * @param used the vCPUs that have registers from notes
 */
export function stillStale({ vcpus, accelerator }: QemuMachine, used: readonly Vcpu[]): Warning[] {
  const helped = new Set(used.map(({ index }) => index));
  const rest = staleness(
    vcpus.filter(({ index }) => !helped.has(index)),
    accelerator,
  );
  const partly = used.filter((vcpu) => registersBySource(vcpu).stale !== "");
  const [first] = partly;
  if (first === undefined) return rest;
  const message = `${registersBySource(first).stale} of ${plural(partly.length, "vCPU")} (${indexes(partly)}) are what QEMU last saw of them and stale; the others are from notes of the core`;
  const hint = "a VMCS or VMCB does not hold them: the host's KVM has them in its own memory";
  return [{ code: "REG001", message, hint }, ...rest];
}

const indexes = (vcpus: readonly Vcpu[]): string => vcpus.map(({ index }) => index).join(", ");

const PAIR = "core and host's dump must be of one guest and one moment: see --guest, and guestcore guests";
const misfit = (message: string): Warning => ({ code: "VMN003", message, hint: PAIR });

/**
 * The notes that can be of this guest's vCPUs. Notes are attached together: where one is another guest's, all are.
 * @param guest with QEMU's own vCPUs
 * @param unnamed whether it is unknown which of QEMU's vCPUs is which
 */
export function acceptedNotes(
  machine: Pick<QemuMachine, "accelerator" | "expectedVcpus">,
  guest: Guest,
  noted: readonly Vcpu[],
  unnamed: boolean,
): { readonly vcpus: readonly Vcpu[]; readonly warnings: readonly Warning[] } {
  if (noted.length === 0) return { vcpus: [], warnings: [] };
  const own = noted.filter(({ index }) => guest.vcpus.some((vcpu) => vcpu.index === index));
  if (machine.accelerator === "tcg") {
    // What QEMU itself computes is always current: whoever runs in KVM is another guest.
    const message =
      "the guest ran under TCG, which has no VMCS: the notes of vCPUs in this core are another's";
    return { vcpus: own, warnings: [misfit(message)] };
  }
  const strange = noted.filter((vcpu) => fitsGuest(guest, vcpu) === false);
  if (strange.length > 0) {
    const message = `the notes of ${plural(strange.length, "vCPU")} (${indexes(strange)}) do not fit this guest, no page tables in its memory go with them: no note of a vCPU is used`;
    return { vcpus: [], warnings: [misfit(message)] };
  }
  const allFound = !unnamed && machine.expectedVcpus === guest.vcpus.length;
  const surplus = allFound ? noted.filter((vcpu) => !own.includes(vcpu)) : [];
  const warnings =
    surplus.length === 0
      ? []
      : [misfit(`this machine has no vCPU ${indexes(surplus)}: such notes are not used`)];
  const accepted = noted.filter((vcpu) => !surplus.includes(vcpu));
  const swapped = unnamed ? undefined : foreignTask(guest.vcpus, accepted);
  if (swapped !== undefined) {
    warnings.push(
      misfit(`the note of vCPU ${swapped} has the task register of another: vCPUs may be mixed up`),
    );
  }
  return { vcpus: accepted, warnings };
}

/** @param notes all that could be decoded */
export function incomplete(used: readonly Vcpu[], notes: readonly RegionNote[]): Warning[] {
  const old = notes.filter(({ vcpu, complete }) => !complete && used.some(({ index }) => index === vcpu));
  const [first] = old;
  if (first === undefined) return [];
  const message = `the ${first.owner} notes of ${plural(old.length, "vCPU")} may lack what the processors held: the host's dump was not made by its crashed kernel`;
  return [{ code: "REG004", message }];
}

/** vCPUs of which there is a note alone. */
export function partial(used: readonly Vcpu[]): Warning[] {
  const alone = used.filter(({ state }) => state.rbx === undefined);
  if (alone.length === 0) return [];
  const message = `of ${plural(alone.length, "vCPU")} (${indexes(alone)}) the core has the note alone: what a VMCS or VMCB does not hold is unavailable, and 0 in the notes written`;
  return [{ code: "REG003", message }];
}
