import type { PhysicalMemory } from "../core/memory.ts";
import type { BlockRole, Cluster, Clustered, ControlBlock, SecondLevelRoot } from "./cluster.ts";
import type { Guest, GuestRange, Vcpu } from "./guest.ts";
import { SecondLevelMemory, type WalkBudget } from "./second-level.ts";

/** A virtual machine found in a host's memory. */
export interface HostGuest<B extends ControlBlock = ControlBlock> {
  /** What `--guest` takes: 1, 2, … in the order in which the VMs were made, where that can be told. */
  readonly id: number;
  /** Undefined when no vCPU translates a second time: none ran yet, or the host uses shadow paging. */
  readonly root: SecondLevelRoot | undefined;
  /** In the order of their VPIDs; the index is the place in this list. */
  readonly vcpus: readonly HostVcpu<B>[];
  /** Blocks of the same vCPUs for their own guests, and copies. */
  readonly others: readonly Clustered<B>[];
}

export interface HostVcpu<B extends ControlBlock = ControlBlock> {
  readonly index: number;
  readonly block: B;
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

/** Numbers the VMs and, in each, the vCPUs. */
export function hostGuests<B extends ControlBlock>(clusters: readonly Cluster<B>[]): HostGuest<B>[] {
  return clusters.map(({ root, members }, i) => ({
    id: i + 1,
    root,
    vcpus: members
      .filter(({ role }) => role === "vcpu")
      .map(({ block, reason }, index) => ({ index, block, reason })),
    others: members.filter(({ role }) => role !== "vcpu"),
  }));
}

/** Every block with its place, ascending by address. */
export function classify<B extends ControlBlock>(
  guests: readonly HostGuest<B>[],
  outside: readonly Clustered<B>[],
): ClassifiedBlock<B>[] {
  const nowhere = { guest: undefined, vcpu: undefined };
  const placed = guests.flatMap(({ id, vcpus, others }) => [
    ...vcpus.map(
      ({ index, block, reason }): ClassifiedBlock<B> => ({
        block,
        role: "vcpu",
        reason,
        guest: id,
        vcpu: index,
      }),
    ),
    ...others.map((other): ClassifiedBlock<B> => ({ ...other, guest: id, vcpu: undefined })),
  ]);
  const all = [...placed, ...outside.map((other): ClassifiedBlock<B> => ({ ...other, ...nowhere }))];
  return all.sort((a, b) => a.block.address - b.block.address);
}

/** A guest's memory as its second-level tables show it; undefined when it has none. */
export const memoryOf = async (
  host: PhysicalMemory,
  { root }: Pick<HostGuest, "root">,
  options: { readonly budget?: WalkBudget; readonly checkpoint?: () => Promise<void> } = {},
): Promise<SecondLevelMemory | undefined> =>
  root === undefined ? undefined : await SecondLevelMemory.open(host, root.address, root.shape, options);

/** The guest to write: what the tables map is RAM as far as they can tell. */
export function guestFromHost(
  memory: SecondLevelMemory,
  root: SecondLevelRoot,
  vcpus: readonly Vcpu[],
): Guest {
  const source = root.shape.name;
  const ranges = memory.ranges.map(
    ({ start, end }): GuestRange => ({ start, end, kind: "ram", source, sourceOffset: start }),
  );
  return { memory, ranges, vcpus };
}
