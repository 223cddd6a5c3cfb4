import type { JobContext } from "../core/job.ts";
import type { PhysicalMemory } from "../core/memory.ts";
import { bytesText, hex, plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { type Agreement, agreementOf } from "../guest/agreement.ts";
import type { Vcpu } from "../guest/guest.ts";
import { archOf, type HostGuest, memoryOf } from "../guest/host-guest.ts";
import { withKvmRegisters } from "../guest/kvm-registers.ts";
import type { MemslotFacts } from "../guest/memslot-memory.ts";
import { MeteredMemory } from "../guest/metered.ts";
import { type SecondLevelFacts, WalkBudget } from "../guest/second-level.ts";
import { describeLinux, type LinuxImage } from "../kernel/linux.ts";
import type { X86State } from "../x86/state.ts";
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
  /** Undefined where the host's kernel does not tell its memslots. */
  readonly slots: MemslotFacts | undefined;
  /** How both ways to its memory agree, where that was asked for and both are there. */
  readonly agreement: Agreement | undefined;
  /** The kernel inside, found through the vCPUs' page tables; `passed-over`: not looked for (GST004). */
  readonly linux: LinuxImage | "passed-over" | undefined;
}

export interface GuestsOptions extends HostOptions {
  /** Compare memslots with second-level tables, page by page. */
  readonly check?: boolean;
}

export interface GuestsResult {
  readonly input: Input["facts"];
  readonly host: HostDump;
  readonly guests: readonly GuestSummary[];
  readonly warnings: readonly Warning[];
}

/** Guests whose kernel is looked for whatever the others cost. */
const ALWAYS_LOOKED_INTO = 16;
/** Pages searched (`MeteredMemory`) for the kernels of all others, some 15 s; one with Linux takes some 8000. */
const KERNEL_WORK = 2 ** 22;

/** What may still be spent on the search for kernels. */
export interface KernelBudget {
  work: number;
  /** Guests whose kernel was not looked for. */
  passedOver: number;
}

/** What may still be spent on the guests of a host. */
interface Budgets {
  readonly tables: WalkBudget;
  readonly kernels: KernelBudget;
}

/**
 * Lists the guests in a host's vmcore.
 * @throws UnsupportedError, CorruptError for the input; UsageError for a layout that is none
 */
export const listGuests = (
  path: string,
  options: GuestsOptions,
  context: JobContext,
): Promise<GuestsResult> =>
  withHost(path, options, context, async (host, facts) => {
    const kernels: KernelBudget = { work: KERNEL_WORK, passedOver: 0 };
    const budgets = { tables: new WalkBudget(host.memory), kernels };
    const guests: GuestSummary[] = [];
    for (const guest of host.guests) {
      guests.push(await summarise(host, guest, budgets, options.check ?? false, context));
      await context.checkpoint();
    }
    const warnings = [...passedOverWarnings(kernels), ...guests.flatMap(disagreementWarnings)];
    for (const warning of warnings) context.warn(warning);
    return { ...facts, host, guests, warnings: [...facts.warnings, ...warnings] };
  });

function disagreementWarnings({ guest, agreement }: GuestSummary): Warning[] {
  if (agreement === undefined || agreement.different === 0) return [];
  const { different, examples } = agreement;
  const message = `guest ${guest.id}: ${bytesText(different)} are elsewhere by second-level tables than by memslots, from ${hex(examples[0]!)} on`;
  return [{ code: "GST009", message }];
}

function passedOverWarnings({ passedOver }: KernelBudget): Warning[] {
  if (passedOver === 0) return [];
  const message = `the kernels of ${plural(passedOver, "guest")} were not looked for: too much was read for the others`;
  return [{ code: "GST004", message }];
}

async function summarise(
  host: HostDump,
  guest: HostGuest<Block>,
  budgets: Budgets,
  check: boolean,
  { checkpoint }: JobContext,
): Promise<GuestSummary> {
  const memory = await memoryOf(host, guest, { budget: budgets.tables, checkpoint });
  const held = readVcpus(host, guest);
  // On AMD KVM's registers take a search of all memory: `extract` does that.
  const isVmx = archOf(guest) === "vmx";
  const vcpus =
    isVmx && guest.vm === undefined
      ? await withKvmRegisters(host.memory, guest.vcpus, held, checkpoint)
      : held;
  const states = vcpus.map(({ state }) => state);
  const linux = memory && (await kernelOf(memory.memory, states, guest.id, budgets.kernels, checkpoint));
  const { slots, tables } = memory ?? {};
  const agreement =
    check && slots !== undefined && tables !== undefined
      ? await agreementOf(slots, tables, checkpoint)
      : undefined;
  return { guest, vcpus, tables: tables?.facts, slots: slots?.facts, agreement, linux };
}

/** The kernel of guest `id`; undefined when there is none, `passed-over` when nothing is left to look for it with. */
export async function kernelOf(
  memory: PhysicalMemory,
  states: readonly X86State[],
  id: number,
  budget: KernelBudget,
  checkpoint: JobContext["checkpoint"],
): Promise<LinuxImage | "passed-over" | undefined> {
  if (id > ALWAYS_LOOKED_INTO && budget.work <= 0) {
    budget.passedOver++;
    return "passed-over";
  }
  const metered = new MeteredMemory(memory);
  const linux = await describeLinux(metered, { states }, checkpoint);
  if (id > ALWAYS_LOOKED_INTO) budget.work -= metered.work;
  return linux;
}
