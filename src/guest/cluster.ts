import type { PhysicalMemory } from "../core/memory.ts";
import { PageTables } from "../x86/paging.ts";
import type { PagingShape } from "../x86/paging-shapes.ts";

/** Root of a guest's second-level tables in the host's physical memory. */
export interface SecondLevelRoot {
  readonly address: number;
  readonly shape: PagingShape;
}

/** What clustering has to know of a VMCS or VMCB. */
export interface ControlBlock {
  /** Physical address. */
  readonly address: number;
  /** Undefined for a vCPU that never ran, and where the processor does not translate a second time. */
  readonly root: SecondLevelRoot | undefined;
  /** The host address space that runs the vCPU, which is the VMM's process; undefined where the block does not say. */
  readonly process: bigint | undefined;
  /** Something one vCPU alone has, whatever it runs: the address of its list of host MSRs. */
  readonly owner: bigint | undefined;
  /** VPID: given in the order in which vCPUs are made; undefined where blocks have none. */
  readonly order: number | undefined;
  /** What the block, by itself or beside the others, shows to be instead of a vCPU of this host's VMs. */
  readonly odd: { readonly role: Exclude<BlockRole, "vcpu">; readonly reason: string } | undefined;
}

/**
 * What a block is to its VM: `vcpu`; `nested`: the same vCPU's while it runs a guest of its guest (KVM's vmcs02);
 * `copy`: of another block of the same vCPU; `foreign`: made by another machine, such as a hypervisor in a guest.
 */
export type BlockRole = "vcpu" | "nested" | "copy" | "foreign";

export interface Clustered<B extends ControlBlock> {
  readonly block: B;
  readonly role: BlockRole;
  /** Why it is taken for that, where it is no plain vCPU. */
  readonly reason: string | undefined;
}

/** A virtual machine: the blocks of one VMM process that translate by the same tables. */
export interface Cluster<B extends ControlBlock> {
  readonly root: SecondLevelRoot | undefined;
  /** In the order of VPIDs, then of addresses. */
  readonly members: readonly Clustered<B>[];
}

/** How many runs of one set of tables, and how much memory, are looked up in the other. */
const SAMPLES = 256;
const ENOUGH = 256 * 2 ** 20;
/** How many VMs of one process are compared with a further set of tables. */
const MAX_COMPARED = 8;
const ADDRESS_END = 1n << 52n;

/**
 * Groups control blocks into virtual machines. One VMM process runs one, unless its vCPUs translate by tables that
 * have nothing in common; blocks of one owner beyond its first are of nested guests.
 * @returns VMs in the order of their first VPID, then of addresses; blocks of none of them
 */
export function clusterBlocks<B extends ControlBlock>(
  host: PhysicalMemory,
  blocks: readonly B[],
): { readonly clusters: readonly Cluster<B>[]; readonly others: readonly Clustered<B>[] } {
  const others = blocks.flatMap((block): Clustered<B>[] =>
    block.odd === undefined ? [] : [{ block, ...block.odd }],
  );
  const ours = blocks.filter(({ odd }) => odd === undefined).sort(inOrder);
  const clusters = [...processesOf(ours).values()].flatMap((members) => clustersOf(host, members));
  return { clusters: clusters.sort((a, b) => inOrder(a.members[0]!.block, b.members[0]!.block)), others };
}

const inOrder = (a: ControlBlock, b: ControlBlock): number =>
  (a.order ?? 0) - (b.order ?? 0) || a.address - b.address;

const keyOf = ({ address, shape }: SecondLevelRoot): string => `${shape.name} ${address}`;

/** Blocks by the process that runs them; where a block does not say, by its tables. */
function processesOf<B extends ControlBlock>(blocks: readonly B[]): ReadonlyMap<string, B[]> {
  const processes = new Map<string, B[]>();
  for (const block of blocks) {
    const { process, root } = block;
    const key = process !== undefined ? `process ${process}` : root === undefined ? "none" : keyOf(root);
    processes.set(key, [...(processes.get(key) ?? []), block]);
  }
  return processes;
}

/** A VM while it is put together. */
interface Draft<B extends ControlBlock> {
  readonly root: SecondLevelRoot | undefined;
  readonly members: Clustered<B>[];
}

function clustersOf<B extends ControlBlock>(host: PhysicalMemory, blocks: readonly B[]): Draft<B>[] {
  const drafts: Draft<B>[] = [];
  for (const group of byRoot(blocks)) placeGroup(host, drafts, group);
  const neverRan = blocks.filter(({ root }) => root === undefined);
  const [first] = drafts;
  if (neverRan.length > 0 && first === undefined) drafts.push({ root: undefined, members: [] });
  for (const block of neverRan) addMember(drafts[0]!, block);
  for (const { members } of drafts) members.sort((a, b) => inOrder(a.block, b.block));
  return drafts;
}

/** Blocks by their tables: those of most vCPUs first, then those that were made first. */
function byRoot<B extends ControlBlock>(blocks: readonly B[]): B[][] {
  const groups = new Map<string, B[]>();
  for (const block of blocks) {
    if (block.root === undefined) continue;
    const key = keyOf(block.root);
    groups.set(key, [...(groups.get(key) ?? []), block]);
  }
  return [...groups.values()].sort((a, b) => b.length - a.length || inOrder(a[0]!, b[0]!));
}

function placeGroup<B extends ControlBlock>(
  host: PhysicalMemory,
  drafts: Draft<B>[],
  group: readonly B[],
): void {
  const root = group[0]!.root!;
  // More sets of tables than a VM with its SMM and nested guests has are no VMM's.
  const near = drafts.slice(0, MAX_COMPARED);
  const nestedIn = drafts.find(({ members }) => group.every((block) => ownedBy(members, block)));
  const target =
    nestedIn ?? near.find((draft) => draft.root !== undefined && overlaps(host, draft.root, root));
  if (target === undefined) {
    const draft: Draft<B> = { root, members: [] };
    drafts.push(draft);
    for (const block of group) addMember(draft, block);
    return;
  }
  for (const block of group) addMember(target, block, nestedIn !== undefined);
}

const ownedBy = <B extends ControlBlock>(members: readonly Clustered<B>[], { owner }: B): boolean =>
  owner !== undefined && members.some(({ block }) => block.owner === owner);

function addMember<B extends ControlBlock>(draft: Draft<B>, block: B, nested = false): void {
  const twin = draft.members.find(
    (member) => member.block.owner === block.owner && block.owner !== undefined,
  );
  const { role, reason } = roleOf(block, twin?.block, nested);
  draft.members.push({ block, role, reason });
}

function roleOf(block: ControlBlock, twin: ControlBlock | undefined, nested: boolean) {
  if (twin === undefined) return { role: "vcpu" as const, reason: undefined };
  const place = `0x${twin.address.toString(16)}`;
  if (nested || block.order !== twin.order) {
    return { role: "nested" as const, reason: `a guest of the guest: same vCPU as ${place}, other tables` };
  }
  return { role: "copy" as const, reason: `same vCPU, VPID and tables as ${place}` };
}

/** Whether two sets of tables show the same memory, as a VM's do in and outside system management mode. */
function overlaps(host: PhysicalMemory, one: SecondLevelRoot, other: SecondLevelRoot): boolean {
  const tables = new PageTables(host, one.address, one.shape);
  let equal = 0;
  let both = 0;
  for (const run of new PageTables(host, other.address, other.shape).mappings(0n, ADDRESS_END, SAMPLES)) {
    for (let at = 0; at < run.size && both < ENOUGH; ) {
      const own = tables.runAt(run.virtual + BigInt(at), run.size - at);
      if (own.physical !== undefined) both += own.size;
      if (own.physical === run.physical + at) equal += own.size;
      at += own.size;
    }
  }
  return equal > both / 2;
}
