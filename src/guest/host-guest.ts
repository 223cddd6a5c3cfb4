import type { PhysicalMemory } from "../core/memory.ts";
import type { LinuxKernel } from "../kernel/open-kernel.ts";
import { ProcessPages } from "../kernel/process-pages.ts";
import { MEM_READONLY, type Memslot } from "../kvm/memslots.ts";
import type { KvmVcpu } from "../kvm/vcpus.ts";
import type { KvmVm } from "../kvm/vms.ts";
import type { BlockRole, Clustered, ControlBlock, SecondLevelRoot } from "./cluster.ts";
import type { Guest, GuestRange, Vcpu } from "./guest.ts";
import { MemslotMemory } from "./memslot-memory.ts";
import { SecondLevelMemory, WalkBudget } from "./second-level.ts";

/** A virtual machine found in a host's memory. */
export interface HostGuest<B extends ControlBlock = ControlBlock> {
  /** What `--guest` takes: 1, 2, … in the order in which the VMs were made, where that can be told. */
  readonly id: number;
  /** Undefined when no vCPU translates a second time: none ran yet, or the host uses shadow paging. */
  readonly root: SecondLevelRoot | undefined;
  /** In KVM's order, and by its indexes; else in that of their VPIDs, counted from 0. */
  readonly vcpus: readonly HostVcpu<B>[];
  /** Blocks of the same vCPUs for their own guests, and copies. */
  readonly others: readonly Clustered<B>[];
  /** As the host's kernel describes it; undefined where only control blocks show it. */
  readonly vm: KvmVm | undefined;
}

export interface HostVcpu<B extends ControlBlock = ControlBlock> {
  readonly index: number;
  /** Undefined where only KVM tells of the vCPU: its control block is of no known layout, or not in the dump. */
  readonly block: B | undefined;
  readonly kvm: KvmVcpu | undefined;
  /** Why it is taken for this VM's, where that is in doubt. */
  readonly reason?: string | undefined;
}

/** A control block of the dump, whatever became of it. */
export interface ClassifiedBlock<B extends ControlBlock = ControlBlock> {
  readonly block: B;
  readonly role: BlockRole;
  readonly reason: string | undefined;
  /** The guest it belongs to, and of a vCPU its index there. */
  readonly guest: number | undefined;
  readonly vcpu: number | undefined;
}

/** Every block with its place, ascending by address. */
export function classify<B extends ControlBlock>(
  guests: readonly HostGuest<B>[],
  outside: readonly Clustered<B>[],
): ClassifiedBlock<B>[] {
  const nowhere = { guest: undefined, vcpu: undefined };
  const placed = guests.flatMap(({ id, vcpus, others }) => [
    ...vcpus.flatMap(({ index, block, reason }): ClassifiedBlock<B>[] =>
      block === undefined ? [] : [{ block, role: "vcpu", reason, guest: id, vcpu: index }],
    ),
    ...others.map((other): ClassifiedBlock<B> => ({ ...other, guest: id, vcpu: undefined })),
  ]);
  const all = [...placed, ...outside.map((other): ClassifiedBlock<B> => ({ ...other, ...nowhere }))];
  return all.sort((a, b) => a.block.address - b.block.address);
}

/** A guest's memory, and by what it was found. */
export interface HostGuestMemory {
  readonly memory: PhysicalMemory;
  /** By memslots and the VMM's page tables: all there is. */
  readonly slots: MemslotMemory | undefined;
  /** By second-level tables: what the guest has touched. */
  readonly tables: SecondLevelMemory | undefined;
}

/** A guest's memory as the host's kernel and its second-level tables show it; undefined where neither does. */
export async function memoryOf(
  { memory: host, kernel }: { readonly memory: PhysicalMemory; readonly kernel: LinuxKernel | undefined },
  { root, vm }: Pick<HostGuest, "root" | "vm">,
  options: { readonly budget?: WalkBudget; readonly checkpoint?: () => Promise<void> } = {},
): Promise<HostGuestMemory | undefined> {
  const { budget = new WalkBudget(host), checkpoint } = options;
  const bounds = checkpoint === undefined ? { budget } : { budget, checkpoint };
  const tables =
    root === undefined ? undefined : await SecondLevelMemory.open(host, root.address, root.shape, bounds);
  const pages = vm?.mm === undefined || kernel === undefined ? undefined : ProcessPages.of(kernel, vm.mm);
  const slots =
    vm === undefined || vm.slots.length === 0 || pages === undefined
      ? undefined
      : await MemslotMemory.open(host, pages, vm.slots, tables, bounds);
  const memory = slots ?? tables;
  return memory && { memory, slots, tables };
}

/** The guest to write; without memslots, what the tables map is RAM as far as they can tell. */
export function guestFromHost(
  { memory, slots }: HostGuestMemory,
  root: SecondLevelRoot | undefined,
  vcpus: readonly Vcpu[],
): Guest {
  const ranges =
    slots === undefined ? rangesOfTables(memory, root?.shape.name ?? "") : slots.slots.map(rangeOfSlot);
  return { memory, ranges, vcpus };
}

const rangesOfTables = ({ ranges }: PhysicalMemory, source: string): GuestRange[] =>
  ranges.map(({ start, end }): GuestRange => ({ start, end, kind: "ram", source, sourceOffset: start }));

const rangeOfSlot = ({ start, end, id, flags }: Memslot): GuestRange => ({
  start,
  end,
  kind: (flags & MEM_READONLY) === 0 ? "ram" : "rom",
  source: `memslot ${id}`,
  sourceOffset: 0,
});

/** Whose virtualization runs a guest; undefined where no control block was found. */
export const archOf = <B extends { readonly arch: "vmx" | "svm" }>({
  vcpus,
}: {
  readonly vcpus: readonly { readonly block: B | undefined }[];
}): B["arch"] | undefined => vcpus.find(({ block }) => block !== undefined)?.block?.arch;
