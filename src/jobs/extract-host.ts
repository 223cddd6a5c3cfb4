import { UnavailableError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { totalSize } from "../core/ranges.ts";
import { bytesText, plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { vcpuOf } from "../guest/from-host.ts";
import type { Guest, Vcpu } from "../guest/guest.ts";
import { archOf, guestFromHost, type HostGuest, memoryOf } from "../guest/host-guest.ts";
import { isComplete, withKvmRegisters } from "../guest/kvm-registers.ts";
import type { MemslotFacts } from "../guest/memslot-memory.ts";
import { type RunControls, withRunningState } from "../guest/running.ts";
import type { SecondLevelFacts } from "../guest/second-level.ts";
import type { KvmVm } from "../kvm/vms.ts";
import { fieldValue } from "../vmx/score.ts";
import { type Block, type GuestName, type HostDump, type HostOptions, openHost, pickGuest } from "./host.ts";
import type { Input } from "./input.ts";
import type { GuestInputs } from "./write-guest.ts";

export interface HostGuestOptions {
  /** Undefined where there is one only. */
  readonly guest?: GuestName | undefined;
  readonly host?: HostOptions;
}

/** The host whose memory held a guest. */
export interface HostOrigin {
  readonly kind: "host";
  readonly host: HostDump;
  readonly chosen: HostGuest<Block>;
  /** What second-level tables tell of its memory, and what memslots do. */
  readonly tables: SecondLevelFacts | undefined;
  readonly slots: MemslotFacts | undefined;
}

/**
 * Finds a guest in the vmcore of its host and hands it to `use`.
 * @throws UnsupportedError, UnavailableError; UsageError for a layout that is none
 */
export async function withHostGuest<T>(
  input: Input,
  options: HostGuestOptions,
  warn: (warnings: readonly Warning[]) => void,
  context: JobContext,
  use: (guest: Guest, origin: HostOrigin, inputs: GuestInputs) => Promise<T>,
): Promise<T> {
  const host = await openHost(input, options.host ?? {}, warn, context);
  const chosen = pickGuest(host, options.guest);
  const found = await memoryOf(host, chosen, { checkpoint: context.checkpoint });
  if (found === undefined) {
    throw new UnavailableError(
      `no vCPU of guest ${chosen.id} has second-level tables: its memory is not to be found`,
      {
        hint: "the guest never ran, or the host runs without EPT or nested paging; its VMM's core has the memory",
      },
    );
  }
  const held = readVcpus(host, chosen);
  const vcpus =
    chosen.vm === undefined
      ? await withKvmRegisters(host.memory, chosen.vcpus, held, context.checkpoint)
      : held;
  const tables = found.tables?.facts;
  const slots = found.slots?.facts;
  const hostSize = totalSize(host.memory.ranges);
  if (slots !== undefined) warn(slotWarnings(slots));
  else if (tables !== undefined) warn(tableWarnings(tables));
  warn(repeatedWarnings(slots?.inMemory ?? tables?.mapped ?? 0, hostSize));
  warn([...structureWarnings(chosen.vm), ...registerWarnings(chosen, vcpus)]);
  return await use(
    guestFromHost(found, chosen.root, vcpus),
    { kind: "host", host, chosen, tables, slots },
    {
      identities: input.facts.identities,
      sizeOnDisk: input.sizeOnDisk,
      hint: slots !== undefined || tables === undefined ? EXCLUDED_HINT : memoryHint(tables),
    },
  );
}

/** Registers of a guest's vCPUs, those that could be read. */
export function readVcpus(
  { memory, kdump, cpus }: Pick<HostDump, "cpus" | "kdump" | "memory">,
  { vcpus }: HostGuest<Block>,
): Vcpu[] {
  const held = vcpus
    .map((vcpu) => vcpuOf(memory, vcpu, kdump ? "current" : "may-be-stale"))
    .filter((vcpu) => vcpu !== undefined);
  if (kdump) return held;
  return withRunningState(held, cpus, runControls(vcpus));
}

/** By index, of vCPUs that run by a VMCS with EPT. */
function runControls(vcpus: HostGuest<Block>["vcpus"]): ReadonlyMap<number, RunControls> {
  const found = vcpus.map(({ index, block }): [number, RunControls] | undefined => {
    if (block?.arch !== "vmx" || block.root === undefined) return undefined;
    const { region } = block.candidate;
    const eptp = fieldValue(region, "EPT_POINTER");
    const cr0Mask = fieldValue(region, "CR0_GUEST_HOST_MASK");
    const cr4Mask = fieldValue(region, "CR4_GUEST_HOST_MASK");
    if (eptp === undefined || cr0Mask === undefined || cr4Mask === undefined) return undefined;
    return [index, { eptp, cr0Mask, cr4Mask }];
  });
  return new Map(found.filter((entry) => entry !== undefined));
}

/** What keeps a guest's memory in the dump of its host. */
export const EXCLUDED_HINT =
  "guest memory is user data, which makedumpfile -d 31 drops (bit 8; bits 2 and 4 where it is a memfd): dump hosts with core_collector makedumpfile -l -d 17";

/** What to do when the output lacks memory. */
function memoryHint({ mapped, tablesMissing }: SecondLevelFacts): string {
  if (mapped > 0) return EXCLUDED_HINT;
  const cause =
    tablesMissing > 0 ? "its second-level tables are not in this dump" : "its second-level tables are empty";
  return `${cause}; a core of its VMM has the memory`;
}

/** What of a VM could not be read: of a memslot that is not known no page counts as missing. */
export function structureWarnings(vm: Pick<KvmVm, "problems"> | undefined): Warning[] {
  if (vm === undefined || vm.problems.length === 0) return [];
  const message = `not all that KVM keeps of the guest could be read (${vm.problems.join("; ")}): memory or vCPUs may be left out`;
  return [{ code: "GST010", message }];
}

/** What of a guest's memory the host's memory does not have. */
function slotWarnings({ swapped, inFile, unknown, tablesMissing, complete }: MemslotFacts): Warning[] {
  const warnings: Warning[] = [];
  if (swapped > 0) {
    const message = `${bytesText(swapped)} of the guest's memory are in the host's swap: they are missing`;
    warnings.push({ code: "GST006", message });
  }
  if (inFile > 0) {
    const message = `${bytesText(inFile)} of the guest's memory are in files or devices of the host alone: they are missing`;
    warnings.push({ code: "GST007", message });
  }
  if (unknown > 0 || !complete) {
    const why =
      tablesMissing > 0 ? `, for ${plural(tablesMissing, "page table")} of its VMM are not in this dump` : "";
    const message = `where ${bytesText(unknown)} of the guest's memory lie is not known${why}`;
    warnings.push({
      code: "GST008",
      message,
      hint: "what second-level tables map of it is taken from there",
    });
  }
  return warnings;
}

/** More than there is: hostile tables lead to one page again and again. */
function repeatedWarnings(mapped: number, hostMemory: number): Warning[] {
  if (mapped <= hostMemory) return [];
  const message = `the guest's tables map ${bytesText(mapped)}, more than the ${bytesText(hostMemory)} of its host: pages are written several times`;
  return [
    { code: "GST005", message, hint: "tables made to fill a disk do that, and pages that the host merged" },
  ];
}

function tableWarnings({ complete, tablesMissing, foreign }: SecondLevelFacts): Warning[] {
  const warnings: Warning[] = [];
  if (!complete) {
    warnings.push({
      code: "GST001",
      message: "the guest's second-level tables go on and on: the walk was ended, memory is missing",
      hint: "they are damaged, or were made to waste time",
    });
  }
  if (tablesMissing > 0) {
    warnings.push({
      code: "GST002",
      message: `of the guest's second-level tables this dump lacks ${tablesMissing}: what they map is missing`,
    });
  }
  if (foreign > 0) {
    warnings.push({
      code: "GST003",
      message: `${bytesText(foreign)} of the guest's address space lead to no memory that the host's dump knows: passed-through devices, or memory left out without a trace`,
    });
  }
  return warnings;
}

function registerWarnings({ vcpus }: HostGuest<Block>, found: readonly Vcpu[]): Warning[] {
  const warnings: Warning[] = [];
  if (found.length < vcpus.length) {
    const lost = plural(vcpus.length - found.length, "vCPU");
    warnings.push({ code: "REG002", message: `the registers of ${lost} of ${vcpus.length} cannot be read` });
  }
  const stale = found.filter(({ trust }) => trust === "may-be-stale");
  if (stale.length > 0) {
    warnings.push({
      code: "REG004",
      message:
        "the dump was not made by the crashed kernel: what the processors held of a running vCPU may be missing",
      hint: "kdump clears every VMCS before it dumps; vCPUs that were not running are exact in any case",
    });
  }
  const partial = found.filter((vcpu) => !isComplete(vcpu));
  if (partial.length > 0) {
    const what = archOf({ vcpus }) === "svm" ? "a VMCB" : "a VMCS";
    warnings.push({
      code: "REG003",
      message: `${what} holds no general registers but ${what === "a VMCB" ? "RAX and RSP" : "RSP"}: they are unavailable, and 0 in the notes, for ${plural(partial.length, "vCPU")}`,
    });
  }
  return warnings;
}
