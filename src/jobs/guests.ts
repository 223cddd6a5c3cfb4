import type { JobContext } from "../core/job.ts";
import type { Warning } from "../core/warnings.ts";
import type { Vcpu } from "../guest/guest.ts";
import { type HostGuest, memoryOf } from "../guest/host-guest.ts";
import { withKvmRegisters } from "../guest/kvm-registers.ts";
import { type SecondLevelFacts, WalkBudget } from "../guest/second-level.ts";
import { describeLinux, type LinuxImage } from "../kernel/linux.ts";
import { readVcpus } from "./extract-host.ts";
import type { Block, HostDump, HostOptions } from "./host.ts";
import type { Input } from "./input.ts";
import { withHost } from "./vmcs.ts";

/** A guest of a host, as far as its tables and registers tell. */
export interface GuestSummary {
  readonly guest: HostGuest<Block>;
  readonly vcpus: readonly Vcpu[];
  /** Undefined when no vCPU has second-level tables. */
  readonly tables: SecondLevelFacts | undefined;
  /** The kernel inside, found through the vCPUs' page tables. */
  readonly linux: LinuxImage | undefined;
}

export interface GuestsResult {
  readonly input: Input["facts"];
  readonly host: HostDump;
  readonly guests: readonly GuestSummary[];
  readonly warnings: readonly Warning[];
}

/**
 * Lists the guests in a host's vmcore.
 * @throws UnsupportedError, CorruptError for the input; UsageError for a layout that is none
 */
export const listGuests = (path: string, options: HostOptions, context: JobContext): Promise<GuestsResult> =>
  withHost(path, options, context, async (host, facts) => {
    const budget = new WalkBudget(host.memory);
    const guests: GuestSummary[] = [];
    for (const guest of host.guests) {
      guests.push(await summarise(host, guest, budget, context));
      await context.checkpoint();
    }
    return { ...facts, host, guests };
  });

async function summarise(
  host: HostDump,
  guest: HostGuest<Block>,
  budget: WalkBudget,
  { checkpoint }: JobContext,
): Promise<GuestSummary> {
  const memory = await memoryOf(host.memory, guest, { budget, checkpoint });
  const held = readVcpus(host, guest);
  // On AMD KVM's registers take a search of all memory: `extract` does that.
  const isVmx = guest.vcpus[0]?.block.arch === "vmx";
  const vcpus = isVmx ? await withKvmRegisters(host.memory, guest.vcpus, held, checkpoint) : held;
  const states = vcpus.map(({ state }) => state);
  const linux = memory === undefined ? undefined : await describeLinux(memory, { states }, checkpoint);
  return { guest, vcpus, tables: memory?.facts, linux };
}
