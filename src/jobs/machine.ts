import { UnavailableError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { PhysicalMemory } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";
import { isMachineDump, openDump } from "../dump/open.ts";
import { openProcessCore } from "../dump/process-core.ts";
import { guestFromQemu } from "../guest/from-qemu.ts";
import { memoryOf } from "../guest/host-guest.ts";
import { Vmcoreinfo } from "../kernel/vmcoreinfo.ts";
import { findMachine } from "../qemu/machine.ts";
import type { X86State } from "../x86/state.ts";
import { isVmcore } from "./extract.ts";
import { readVcpus } from "./extract-host.ts";
import { type GuestName, type HostOptions, openHost, pickGuest } from "./host.ts";
import type { Input } from "./input.ts";

/** A machine whose kernel is wanted. */
export interface Machine {
  readonly memory: PhysicalMemory;
  /** A note of the dump. */
  readonly vmcoreinfo: Vmcoreinfo | undefined;
  readonly states: readonly X86State[];
}

export interface MachineChoice {
  /** A host's guest, which is wanted instead of the host. */
  readonly guest: GuestName | undefined;
  readonly host: HostOptions;
}

type Warn = (warnings: readonly Warning[]) => void;

/**
 * The machine in a file: the one that was dumped, a guest of it, or the guest in the core of a qemu process.
 * @throws UnsupportedError, CorruptError for the input; UnavailableError for a guest that is not there
 */
export async function openMachine(
  input: Input,
  { guest, host }: MachineChoice,
  warn: Warn,
  context: JobContext,
): Promise<Machine> {
  const { source } = input;
  if (!isMachineDump(source, input.files) && !isVmcore(source, input.files)) {
    const machine = await findMachine(openProcessCore(source), { checkpoint: context.checkpoint });
    const { memory, vcpus } = guestFromQemu(machine);
    return { memory, vmcoreinfo: undefined, states: vcpus.map(({ state }) => state) };
  }
  if (guest !== undefined) return await guestIn(input, guest, host, warn, context);
  const { memory, notes, warnings } = await openDump(source, input.files);
  warn(warnings);
  const desc = notes.find(({ name }) => name === "VMCOREINFO")?.desc;
  return { memory, vmcoreinfo: desc && new Vmcoreinfo(desc), states: [] };
}

/**
 * A guest of a host's dump with its memory.
 * @throws UnavailableError when there is no such guest, or its memory is not to be found
 */
export async function guestOfHost(
  input: Input,
  wanted: GuestName,
  options: HostOptions,
  warn: Warn,
  context: JobContext,
) {
  const host = await openHost(input, options, warn, context);
  const guest = pickGuest(host, wanted);
  const found = await memoryOf(host, guest, { checkpoint: context.checkpoint });
  if (found === undefined) {
    throw new UnavailableError(
      `the memory of guest ${wanted} is not to be found: it has no second-level tables`,
    );
  }
  return { host, guest, found };
}

async function guestIn(
  input: Input,
  wanted: GuestName,
  options: HostOptions,
  warn: Warn,
  context: JobContext,
): Promise<Machine> {
  const { host, guest, found } = await guestOfHost(input, wanted, options, warn, context);
  return {
    memory: found.memory,
    vmcoreinfo: undefined,
    states: readVcpus(host, guest).map(({ state }) => state),
  };
}
