import type { KvmVcpu } from "../kvm/vcpus.ts";
import type { KvmVm, KvmVms } from "../kvm/vms.ts";
import type { Cluster, Clustered, ControlBlock } from "./cluster.ts";
import type { HostGuest, HostVcpu } from "./host-guest.ts";

const NOT_LISTED = "no VM that the host's KVM lists has it";
const NOT_READ = "not all of the VM's vCPUs could be read: taken for one by its control block";

/** The guests of a host, and the control blocks that are of none. */
export interface FoundGuests<B extends ControlBlock> {
  readonly guests: readonly HostGuest<B>[];
  readonly others: readonly Clustered<B>[];
}

/**
 * The guests as KVM lists them, in the order they were made, with the control blocks that were found of their vCPUs.
 * What blocks alone show to be a VM is a guest too where KVM's list is not whole, else left over from one that is gone.
 */
export function guestsOfKvm<B extends ControlBlock>(
  { vms, problem }: KvmVms,
  clusters: readonly Cluster<B>[],
  others: readonly Clustered<B>[],
): FoundGuests<B> {
  const taken = new Set<Cluster<B>>();
  const blocks = new Map(
    clusters.flatMap(({ members }) => members.map(({ block }) => [block.address, block])),
  );
  const listed = new Map<number | undefined, KvmVm>();
  for (const vm of vms.toReversed()) for (const { controlBlock } of vm.vcpus) listed.set(controlBlock, vm);
  const clustersOf = clustersByVm(vms, listed, clusters);
  const known = vms.map((vm) => {
    const own = clustersOf.get(vm) ?? [];
    for (const cluster of own) taken.add(cluster);
    const members = own.flatMap((cluster) => cluster.members);
    return guestOf(
      vm,
      blocks,
      members.filter(({ block }) => !listed.has(block.address)),
    );
  });
  const rest = clusters.filter((cluster) => !taken.has(cluster));
  const isWhole = problem === undefined && vms.every(({ problems }) => problems.length === 0);
  if (!isWhole) return { guests: numbered([...known, ...rest.map(unlisted)]), others };
  const left = rest.flatMap(({ members }) =>
    members.map(({ block }): Clustered<B> => ({ block, role: "foreign", reason: NOT_LISTED })),
  );
  return { guests: numbered(known), others: [...others, ...left] };
}

/** Each cluster is of the first VM that has a block of it. */
function clustersByVm<B extends ControlBlock>(
  vms: readonly KvmVm[],
  listed: ReadonlyMap<number | undefined, KvmVm>,
  clusters: readonly Cluster<B>[],
): ReadonlyMap<KvmVm, readonly Cluster<B>[]> {
  const order = new Map(vms.map((vm, i) => [vm, i]));
  const found = new Map<KvmVm, Cluster<B>[]>();
  for (const cluster of clusters) {
    let first: KvmVm | undefined;
    for (const { block } of cluster.members) {
      const vm = listed.get(block.address);
      if (vm !== undefined && (first === undefined || order.get(vm)! < order.get(first)!)) first = vm;
    }
    if (first === undefined) continue;
    const own = found.get(first);
    if (own === undefined) found.set(first, [cluster]);
    else own.push(cluster);
  }
  return found;
}

type Unnumbered<B extends ControlBlock> = Omit<HostGuest<B>, "id">;

const numbered = <B extends ControlBlock>(guests: readonly Unnumbered<B>[]): HostGuest<B>[] =>
  guests.map((guest, i) => ({ ...guest, id: i + 1 }));

/** @param rest blocks that its VM's blocks were found with, and that are of no vCPU listed */
function guestOf<B extends ControlBlock>(
  vm: KvmVm,
  blocks: ReadonlyMap<number, B>,
  rest: readonly Clustered<B>[],
): Unnumbered<B> {
  const known = vm.vcpus.map((kvm): HostVcpu<B> => ({ index: kvm.index, block: blockOf(kvm, blocks), kvm }));
  // Where not all of the VM could be read, its list may lack them.
  const isWhole = vm.problems.length === 0;
  const unread = rest.filter(({ role }) => role === "vcpu" && !isWhole);
  const next = known.reduce((above, { index }) => Math.max(above, index + 1), 0);
  const vcpus = [
    ...known,
    ...unread.map(
      ({ block }, i): HostVcpu<B> => ({ index: next + i, block, kvm: undefined, reason: NOT_READ }),
    ),
  ];
  const others = rest
    .filter((other) => !unread.includes(other))
    .map((other) =>
      other.role === "vcpu" ? { ...other, role: "copy" as const, reason: NOT_LISTED } : other,
    );
  const root = vcpus.find(({ block }) => block?.root !== undefined)?.block?.root;
  return { root, vcpus, others, vm };
}

const blockOf = <B>({ controlBlock }: KvmVcpu, blocks: ReadonlyMap<number, B>): B | undefined =>
  controlBlock === undefined ? undefined : blocks.get(controlBlock);

/** A VM that only its control blocks show. */
export const unlisted = <B extends ControlBlock>({ root, members }: Cluster<B>): Unnumbered<B> => ({
  root,
  vcpus: members
    .filter(({ role }) => role === "vcpu")
    .map(({ block, reason }, index) => ({ index, block, reason, kvm: undefined })),
  others: members.filter(({ role }) => role !== "vcpu"),
  vm: undefined,
});

/** The guests that control blocks alone show, in the order of their making where that can be told. */
export const guestsOfBlocks = <B extends ControlBlock>(clusters: readonly Cluster<B>[]): HostGuest<B>[] =>
  numbered(clusters.map(unlisted));
