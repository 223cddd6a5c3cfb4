import { PAGE_SIZE } from "../core/address.ts";
import type { Range } from "../core/ranges.ts";
import { hex } from "../core/text.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { Member } from "../kernel/types.ts";
import { collect } from "../kernel/walk/outcome.ts";
import { rbNodes } from "../kernel/walk/rb-tree.ts";
import { problemsOf, problemText } from "./problem.ts";

/** KVM_MEM_READONLY (Linux include/uapi/linux/kvm.h): a ROM. */
export const MEM_READONLY = 1 << 1;
/** KVM_MEM_GUEST_MEMFD (6.8+): private pages are in a file of KVM's own, not at the HVA. */
export const MEM_GUEST_MEMFD = 1 << 2;

/** A page-aligned range of guest-physical memory and where the VMM has it (struct kvm_memory_slot). */
export interface Memslot extends Range {
  /** 0; 1 of x86 system management mode. */
  readonly addressSpace: number;
  readonly id: number;
  /** Of `start`. */
  readonly hva: bigint;
  /** KVM_MEM_*. */
  readonly flags: number;
}

export interface Memslots {
  readonly slots: readonly Memslot[];
  /** What could not be read. */
  readonly problems: readonly string[];
}

/** KVM_MAX_NR_ADDRESS_SPACES of x86, and of anything else. */
const MAX_ADDRESS_SPACES = 2;
/** KVM_MEM_SLOTS_NUM is SHRT_MAX. */
const MAX_SLOTS = 32_767;
/** Slots of all VMs of a host. */
const MAX_ALL_SLOTS = 2 ** 17;
/** Slots of KVM's own (TSS, identity map, APIC access page) have the ids from KVM_USER_MEM_SLOTS on. */
const PRIVATE_SLOTS = 3;
/** Of guest-physical memory: addresses have 52 bits. */
const MAX_PAGES = 2n ** 40n;
const PAGE = BigInt(PAGE_SIZE);
/** The lower half of addresses with 5-level paging. */
const USER_END = 2n ** 56n;

/** What may be read of all VMs of a host together: damaged ones may lead to the same slots, many times. */
export class MemslotBudget {
  left = MAX_ALL_SLOTS;
  readonly #seen = new Set<bigint>();

  /** Whether a struct kvm_memslots is met for the first time. */
  isNew(memslots: bigint): boolean {
    const size = this.#seen.size;
    return this.#seen.add(memslots).size > size;
  }
}

/** The slots of a VM that its VMM made, of all address spaces, ascending by address in each. */
export function memslotsOf(kernel: Kernel, kvm: bigint, budget = new MemslotBudget()): Memslots {
  const member = kernel.types.member("kvm.memslots");
  if (member === undefined) return { slots: [], problems: ["the kernel does not tell struct kvm.memslots"] };
  const spaces = Math.min(member.count, MAX_ADDRESS_SPACES);
  const slots: Memslot[] = [];
  const problems: string[] = [];
  for (let space = 0; space < spaces; space++) {
    const memslots = kernel.reader.u64(kvm + BigInt(member.offset + 8 * space));
    if (memslots !== undefined && memslots !== 0n && !budget.isNew(memslots)) {
      problems.push(`memslots of address space ${space} are another's (at ${hex(memslots)})`);
      continue;
    }
    const found = memslots === undefined ? undefined : slotsAt(kernel, memslots, budget);
    if (found === undefined) problems.push(`memslots of address space ${space} cannot be read`);
    else {
      const own = found.slots.map((slot) => ({ ...slot, addressSpace: space }));
      slots.push(...own.sort((a, b) => a.start - b.start));
      problems.push(...found.problems);
    }
  }
  return { slots, problems };
}

function slotsAt(kernel: Kernel, memslots: bigint, budget: MemslotBudget): Memslots | undefined {
  const limit = Math.min(MAX_SLOTS, budget.left);
  const addresses =
    kernel.types.member("kvm_memslots.gfn_tree") !== undefined
      ? slotsOfTree(kernel, memslots, limit)
      : slotsOfArray(kernel, memslots, limit);
  if (addresses === undefined) return undefined;
  budget.left -= addresses.addresses.length;
  return decode(kernel, addresses.addresses, addresses.problem);
}

interface SlotAddresses {
  readonly addresses: readonly bigint[];
  readonly problem: string | undefined;
}

/** Since 5.17 slots are in red-black trees; each has two nodes, for the set in use and the one being made. */
function slotsOfTree({ reader, types }: Kernel, memslots: bigint, limit: number): SlotAddresses | undefined {
  const tree = types.member("kvm_memslots.gfn_tree");
  const active = types.member("kvm_memslots.node_idx");
  const node = types.member("kvm_memory_slot.gfn_node");
  if (tree === undefined || active === undefined || node === undefined) return undefined;
  const index = reader.u32(memslots + BigInt(active.offset));
  if (index === undefined || index >= node.count) return undefined;
  const { items, outcome } = collect(rbNodes(reader, types, memslots + BigInt(tree.offset), limit));
  const back = BigInt(node.offset + index * node.stride);
  const addresses = items.map((at) => at - back);
  const isCut = !outcome.complete && outcome.reason === "limit" && limit < MAX_SLOTS;
  return {
    addresses,
    problem: isCut ? tooMany("the tree of memslots") : problemText("the tree of memslots", outcome),
  };
}

/** Before: an array behind struct kvm_memslots, of which `used_slots` are in use (4.17–5.16), else all of its length. */
function slotsOfArray({ reader, types }: Kernel, memslots: bigint, limit: number): SlotAddresses | undefined {
  const array = types.member("kvm_memslots.memslots");
  const size = types.sizeOf("kvm_memory_slot");
  if (array === undefined || size === undefined || size === 0) return undefined;
  const used = types.member("kvm_memslots.used_slots");
  const count = used === undefined ? array.count : reader.u32(memslots + BigInt(used.offset));
  if (count === undefined) return undefined;
  const addresses = Array.from(
    { length: Math.min(count, limit) },
    (_, i) => memslots + BigInt(array.offset + i * size),
  );
  return {
    addresses,
    problem: count > limit ? `of ${count} memslots ${limit} are looked at` : undefined,
  };
}

const tooMany = (what: string): string => `${what} is not looked at whole: the host's VMs have too many`;

interface SlotMembers {
  readonly base: Member;
  readonly pages: Member;
  readonly hva: Member;
  readonly flags: Member;
  readonly id: Member;
}

function decode(
  kernel: Kernel,
  addresses: readonly bigint[],
  problem: string | undefined,
): Memslots | undefined {
  const { types } = kernel;
  const base = types.member("kvm_memory_slot.base_gfn");
  const pages = types.member("kvm_memory_slot.npages");
  const hva = types.member("kvm_memory_slot.userspace_addr");
  const flags = types.member("kvm_memory_slot.flags");
  const id = types.member("kvm_memory_slot.id");
  if (!base || !pages || !hva || !flags || !id) return undefined;
  const own = userSlots(kernel);
  const slots: Memslot[] = [];
  const unread: bigint[] = [];
  const senseless: bigint[] = [];
  for (const address of addresses) {
    const slot = slotAt(kernel, address, { base, pages, hva, flags, id });
    if (slot === undefined) unread.push(address);
    else if (slot.pages === 0n || slot.id >= own) continue;
    else if (!makesSense(slot)) senseless.push(address);
    else slots.push(memslotOf(slot));
  }
  const problems = [
    ...(problem === undefined ? [] : [problem]),
    ...problemsOf("memslot", ["cannot be read", "cannot be read"], unread),
    ...problemsOf("memslot", ["makes no sense", "make no sense"], senseless),
  ];
  return { slots, problems };
}

/** KVM_USER_MEM_SLOTS: as many as id_to_index (before 5.17) has or SHRT_MAX, but for KVM's own. */
const userSlots = ({ types }: Kernel): number =>
  (types.member("kvm_memslots.id_to_index")?.count ?? MAX_SLOTS) - PRIVATE_SLOTS;

/** What a struct kvm_memory_slot holds. */
interface RawSlot {
  readonly gfn: bigint;
  readonly pages: bigint;
  readonly hva: bigint;
  readonly flags: number;
  readonly id: number;
}

function slotAt({ reader }: Kernel, address: bigint, members: SlotMembers): RawSlot | undefined {
  const at = ({ offset }: Member) => address + BigInt(offset);
  const gfn = reader.u64(at(members.base));
  const pages = reader.u64(at(members.pages));
  const hva = reader.u64(at(members.hva));
  const flags = reader.u32(at(members.flags));
  const id = members.id.size === 2 ? reader.u16(at(members.id)) : reader.u32(at(members.id));
  const isKnown = gfn !== undefined && pages !== undefined && hva !== undefined;
  if (!isKnown || flags === undefined || id === undefined) return undefined;
  return { gfn, pages, hva, flags, id };
}

/** What `__kvm_set_memory_region` lets pass: pages of guest-physical memory at page-aligned user addresses. */
const makesSense = ({ gfn, pages, hva }: RawSlot): boolean =>
  gfn + pages <= MAX_PAGES && hva % PAGE === 0n && hva + pages * PAGE <= USER_END;

const memslotOf = ({ gfn, pages, hva, flags, id }: RawSlot): Memslot => ({
  addressSpace: 0,
  id,
  start: Number(gfn) * PAGE_SIZE,
  end: Number(gfn + pages) * PAGE_SIZE,
  hva,
  flags: flags & 0xffff,
});
