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
  /** TSC_OFFSET, which KVM gives all vCPUs of a VM alike when it makes them; undefined where the block does not say. */
  readonly clock: bigint | undefined;
  /** Whether it shows its vCPU to run guests of its own: of one owner's blocks, it is the vCPU then. */
  readonly runsGuests: boolean;
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
  /** Why it is taken for that, where it is no plain vCPU or may be another VM's. */
  readonly reason: string | undefined;
}

/** A virtual machine: the blocks of one VMM process that translate by the same tables. */
export interface Cluster<B extends ControlBlock> {
  readonly root: SecondLevelRoot | undefined;
  /** In the order of VPIDs, then of addresses. */
  readonly members: readonly Clustered<B>[];
}

/** How many runs of one set of tables are looked up in the other, and how many lookups that may take. */
const SAMPLES = 256;
const LOOKUPS = 4096;
const LOOKUP_SIZE = 2 ** 16;
/** Lookups in which SMRAM lies over other memory: SMBASE's default and the VGA window (Intel SDM Vol. 3C §32.4, §32.11). */
const SMRAM: ReadonlySet<number> = new Set([0x3, 0xa, 0xb]);
/** Tables read to see how much a set maps: 32 GiB by 4 KiB pages. */
const MEASURED_TABLES = 16_384;
/** Tables and lookups for all VMs of a host together, seconds of work; sets beyond are of VMs of their own. */
const COMPARISON_WORK = 1 << 19;
/** How many VMs of one process are compared with a further set of tables. */
const MAX_COMPARED = 8;
const ADDRESS_END = 1n << 52n;

type Checkpoint = () => Promise<void>;

/**
 * Groups control blocks into virtual machines. One VMM process runs one, unless its vCPUs' tables show different memory
 * at the same addresses; blocks of one owner beyond its vCPU are of nested guests.
 * @returns VMs in the order of their first VPID, then of addresses; blocks of none of them
 */
export async function clusterBlocks<B extends ControlBlock>(
  host: PhysicalMemory,
  blocks: readonly B[],
  checkpoint?: Checkpoint,
): Promise<{ readonly clusters: readonly Cluster<B>[]; readonly others: readonly Clustered<B>[] }> {
  const others = blocks.flatMap((block): Clustered<B>[] =>
    block.odd === undefined ? [] : [{ block, ...block.odd }],
  );
  const ours = blocks.filter(({ odd }) => odd === undefined).sort(inOrder);
  const comparison = new Comparison(host, checkpoint);
  const clusters: Cluster<B>[] = [];
  for (const members of processesOf(ours).values()) clusters.push(...(await clustersOf(comparison, members)));
  return { clusters: clusters.sort((a, b) => inOrder(a.members[0]!.block, b.members[0]!.block)), others };
}

const inOrder = (a: ControlBlock, b: ControlBlock): number =>
  (a.order ?? 0) - (b.order ?? 0) || a.address - b.address;

/** A vCPU before the guests it runs. */
const outerFirst = (a: ControlBlock, b: ControlBlock): number =>
  Number(b.runsGuests) - Number(a.runsGuests) || inOrder(a, b);

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

async function clustersOf<B extends ControlBlock>(
  comparison: Comparison,
  blocks: readonly B[],
): Promise<Draft<B>[]> {
  const drafts: Draft<B>[] = [];
  for (const group of await byRoot(comparison, blocks)) await placeGroup(comparison, drafts, group);
  for (const group of byClock(blocks.filter(({ root }) => root === undefined).sort(inOrder))) {
    placeNeverRan(drafts, group);
  }
  for (const { members } of drafts) members.sort((a, b) => inOrder(a.block, b.block));
  return drafts;
}

/** vCPUs that ran, of a process, that one which never ran is compared with. */
const MAX_NEIGHBOURS = 1024;
const BY_NEIGHBOUR = "never ran: taken for this one of its process's VMs by its clock and VPID";

/** vCPUs that never ran by their clock, which those of a VM have in common; in order. */
function byClock<B extends ControlBlock>(neverRan: readonly B[]): B[][] {
  const groups = new Map<bigint | undefined, B[]>();
  for (const block of neverRan) groups.set(block.clock, [...(groups.get(block.clock) ?? []), block]);
  return [...groups.values()];
}

/** vCPUs of one clock that never ran go to a VM of their process that can have it, or are a VM of their own. */
function placeNeverRan<B extends ControlBlock>(drafts: Draft<B>[], group: readonly B[]): void {
  const { clock } = group[0]!;
  const possible = drafts.filter((draft) => canHave(draft, clock));
  const ran = possible.flatMap((draft) =>
    draft.members.filter(({ block }) => block.root !== undefined).map(({ block }) => ({ draft, block })),
  );
  if (possible.length === 0) drafts.push({ root: undefined, members: [] });
  for (const block of group) {
    if (ran.length === 0) addMember(possible[0] ?? drafts.at(-1)!, block);
    else if (drafts.length === 1 && drafts[0]!.members[0]!.block.clock === clock)
      addMember(drafts[0]!, block);
    else addMember(nearest(ran.slice(0, MAX_NEIGHBOURS), block).draft, block, { doubt: BY_NEIGHBOUR });
  }
}

/**
 * Whether a VM can have vCPUs of a clock that never ran. Where several of its own share one no guest has set any, and
 * all it has have that one.
 */
function canHave<B extends ControlBlock>({ members }: Draft<B>, clock: bigint | undefined): boolean {
  const own = members.filter(({ role }) => role === "vcpu").map(({ block }) => block.clock);
  const isShared = own.length > 1 && own.every((other) => other === own[0]);
  return !isShared || clock === undefined || own[0] === undefined || own[0] === clock;
}

/**
 * The vCPU whose VM another one without tables is most likely of: of nearest clock, for those of a VM are equal until its
 * guest sets them; where no clock tells, made last before it.
 */
function nearest<B extends ControlBlock, N extends { readonly block: B }>(ran: readonly N[], block: B): N {
  let best = ran[0]!;
  for (const other of ran) if (isNearer(block, other.block, best.block)) best = other;
  return best;
}

function isNearer(block: ControlBlock, one: ControlBlock, other: ControlBlock): boolean {
  const [a, b] = [ticksBetween(block, one), ticksBetween(block, other)];
  return a === b ? madeBefore(block, one) < madeBefore(block, other) : a < b;
}

const FAR = 1n << 64n;

function ticksBetween({ clock }: ControlBlock, other: ControlBlock): bigint {
  if (clock === undefined || other.clock === undefined) return FAR;
  const ticks = BigInt.asIntN(64, clock - other.clock);
  return ticks < 0n ? -ticks : ticks;
}

function madeBefore({ order = 0 }: ControlBlock, other: ControlBlock): number {
  const after = order - (other.order ?? 0);
  return after < 0 ? Number.MAX_SAFE_INTEGER : after;
}

/**
 * Blocks by their tables, those of nested guests and of system management mode last: they show no more than a part of
 * what the VM's do. VPIDs do not tell: one that became free is given again.
 */
async function byRoot<B extends ControlBlock>(comparison: Comparison, blocks: readonly B[]): Promise<B[][]> {
  const groups = new Map<string, B[]>();
  for (const block of blocks) {
    if (block.root === undefined) continue;
    const key = keyOf(block.root);
    groups.set(key, [...(groups.get(key) ?? []), block]);
  }
  const ranked: { readonly group: B[]; readonly runsGuests: number; readonly mapped: number }[] = [];
  for (const group of groups.values()) {
    ranked.push({
      group: group.sort(outerFirst),
      runsGuests: Number(group.some((block) => block.runsGuests)),
      mapped: groups.size === 1 ? 0 : await comparison.mappedBy(group[0]!.root!),
    });
  }
  ranked.sort(
    (a, b) =>
      b.runsGuests - a.runsGuests ||
      b.mapped - a.mapped ||
      b.group.length - a.group.length ||
      inOrder(a.group[0]!, b.group[0]!),
  );
  return ranked.map(({ group }) => group);
}

async function placeGroup<B extends ControlBlock>(
  comparison: Comparison,
  drafts: Draft<B>[],
  group: readonly B[],
): Promise<void> {
  const root = group[0]!.root!;
  const nestedIn = drafts.find(({ members }) => group.every((block) => ownedBy(members, block)));
  const target = nestedIn ?? (await drawnFrom(comparison, drafts, root));
  if (target === undefined) {
    const draft: Draft<B> = { root, members: [] };
    drafts.push(draft);
    for (const block of group) addMember(draft, block);
    return;
  }
  for (const block of group) addMember(target, block, { nested: nestedIn !== undefined });
}

/** The VM whose memory a further set of tables shows. */
async function drawnFrom<B extends ControlBlock>(
  comparison: Comparison,
  drafts: readonly Draft<B>[],
  root: SecondLevelRoot,
): Promise<Draft<B> | undefined> {
  // More sets of tables than a VM with its SMM and nested guests has are no VMM's.
  for (const draft of drafts.slice(0, MAX_COMPARED)) {
    if (draft.root !== undefined && (await comparison.agree(draft.root, root))) return draft;
  }
  return undefined;
}

const ownedBy = <B extends ControlBlock>(members: readonly Clustered<B>[], { owner }: B): boolean =>
  owner !== undefined && members.some(({ block }) => block.owner === owner);

function addMember<B extends ControlBlock>(
  draft: Draft<B>,
  block: B,
  { nested = false, doubt }: { readonly nested?: boolean; readonly doubt?: string | undefined } = {},
): void {
  const twin = draft.members.find(
    (member) => member.block.owner === block.owner && block.owner !== undefined,
  );
  const { role, reason } = roleOf(block, twin?.block, nested);
  draft.members.push({ block, role, reason: reason ?? doubt });
}

function roleOf(block: ControlBlock, twin: ControlBlock | undefined, nested: boolean) {
  if (twin === undefined) return { role: "vcpu" as const, reason: undefined };
  const place = `0x${twin.address.toString(16)}`;
  if (nested) {
    return { role: "nested" as const, reason: `a guest of the guest: same vCPU as ${place}, other tables` };
  }
  if (block.order !== twin.order) {
    const doubt = block.runsGuests === twin.runsGuests ? "; or the other way round, nothing tells" : "";
    return {
      role: "nested" as const,
      reason: `a guest of the guest: same vCPU and tables as ${place}, other VPID${doubt}`,
    };
  }
  return { role: "copy" as const, reason: `same vCPU, VPID and tables as ${place}` };
}

/** Compares sets of second-level tables, within a bound for all of a host's. */
class Comparison {
  readonly #host: PhysicalMemory;
  readonly #checkpoint: Checkpoint | undefined;
  #work = COMPARISON_WORK;

  constructor(host: PhysicalMemory, checkpoint: Checkpoint | undefined) {
    this.#host = host;
    this.#checkpoint = checkpoint;
  }

  /** Bytes that tables map, as far as they are looked at. */
  async mappedBy(root: SecondLevelRoot): Promise<number> {
    await this.#checkpoint?.();
    const tables = this.#tables(root, MEASURED_TABLES);
    const runs = tables.mappings(0n, ADDRESS_END, Number.POSITIVE_INFINITY);
    let mapped = 0;
    let step = runs.next();
    for (; step.done !== true; step = runs.next()) mapped += step.value.size;
    this.#work -= step.value.tablesRead;
    return mapped;
  }

  /**
   * Whether two sets of tables can be of one VM: they mostly lead to the same memory where both lead to some, as they
   * do in and outside system management mode.
   */
  async agree(one: SecondLevelRoot, other: SecondLevelRoot): Promise<boolean> {
    await this.#checkpoint?.();
    if (this.#work <= 0) return false;
    const tables = this.#tables(one, LOOKUPS);
    const runs = this.#tables(other, LOOKUPS).mappings(0n, ADDRESS_END, SAMPLES);
    let equal = 0;
    let both = 0;
    let lookups = 0;
    let step = runs.next();
    for (; step.done !== true; step = runs.next()) {
      const run = step.value;
      for (let at = 0; at < run.size && lookups < LOOKUPS; lookups++) {
        const address = Number(run.virtual) + at;
        const rest = LOOKUP_SIZE - (address % LOOKUP_SIZE);
        const own = tables.runAt(BigInt(address), Math.min(run.size - at, rest));
        if (own.physical !== undefined && !SMRAM.has(Math.floor(address / LOOKUP_SIZE))) {
          both += own.size;
          if (own.physical === run.physical + at) equal += own.size;
        }
        at += own.size;
      }
    }
    this.#work -= step.value.tablesRead + lookups;
    return both === 0 || equal > both / 2;
  }

  #tables({ address, shape }: SecondLevelRoot, limit: number): PageTables {
    const tableLimit = Math.max(0, Math.min(limit, this.#work));
    return new PageTables(this.#host, address, shape, { tableLimit });
  }
}
