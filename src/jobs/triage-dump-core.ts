import { GuestcoreError, InterruptedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";
import type { ProcessCore } from "../dump/process-core.ts";
import { SegmentMemory } from "../dump/segment-memory.ts";
import { NT_PRPSINFO, NT_PRSTATUS, NT_SIGINFO } from "../elf/constants.ts";
import { decodePrpsinfo, decodeSiginfo, PRSTATUS_CURSIG, PRSTATUS_PID } from "../elf/core-notes.ts";
import { guestFromQemu } from "../guest/from-qemu.ts";
import type { Guest } from "../guest/guest.ts";
import { findMachine } from "../qemu/machine.ts";
import type { ProcessEnd } from "../triage/dump/facts.ts";
import { makesCore } from "../triage/dump/process-end.ts";
import { withVcpuNotes } from "./vcpu-notes.ts";

/** Names of QEMU's programs, of which the kernel keeps 15 bytes. */
const QEMU = /^(?:qemu-system-|qemu-kvm$|kvm$)/;

/** What ended QEMU, by the notes of the thread that the signal hit: the first one (Linux fs/binfmt_elf.c). */
export function endOf({ notes }: Pick<ProcessCore, "notes">): ProcessEnd | undefined {
  const noteOf = (type: number) => notes.find((note) => note.name === "CORE" && note.type === type)?.desc;
  const [status, info] = [noteOf(NT_PRSTATUS), noteOf(NT_SIGINFO)];
  const { fname: name, pid } = decodePrpsinfo(noteOf(NT_PRPSINFO) ?? Buffer.alloc(0)) ?? {};
  if (status === undefined || status.length < PRSTATUS_PID + 4) return undefined;
  if (name === undefined || !QEMU.test(name)) return undefined;
  const signal = status.readInt16LE(PRSTATUS_CURSIG);
  if (!makesCore(signal)) return undefined;
  const sent = info && decodeSiginfo(info);
  if (sent?.signal !== signal) return { name, signal, by: undefined, sender: undefined, address: undefined };
  if (sent.code > 0) return { name, signal, by: "fault", sender: undefined, address: sent.address };
  const by = sent.pid === (pid ?? status.readInt32LE(PRSTATUS_PID)) ? "itself" : "another";
  return { name, signal, by, sender: sent.pid, address: undefined };
}

/** The guest in a core of QEMU; one that is cut off or lacks it tells at least what QEMU died of. */
export async function guestOfCore(
  source: ByteSource,
  core: ProcessCore,
  end: ProcessEnd | undefined,
  warn: (warnings: readonly Warning[]) => void,
  context: JobContext,
): Promise<Pick<Guest, "memory" | "vcpus">> {
  try {
    const machine = await findMachine(core, { checkpoint: context.checkpoint });
    const { guest, warnings } = await withVcpuNotes(core.notes, machine, guestFromQemu(machine), {}, context);
    warn(warnings);
    return guest;
  } catch (error) {
    const isTold = error instanceof GuestcoreError && !(error instanceof InterruptedError);
    if (end === undefined || !isTold) throw error;
    warn([{ code: "TRI502", message: `the guest in QEMU's core cannot be read: ${error.message}` }]);
    return { memory: new SegmentMemory(source, []), vcpus: [] };
  }
}
