import { viewOf } from "../../core/bytes.ts";
import type { KernelReader } from "../reader.ts";
import { type KernelTypes, type Member, offsetOf } from "../types.ts";
import { incomplete, WalkLog, type WalkOutcome } from "./outcome.ts";

/** Nodes of one tree, of up to 16 entries each. */
const NODE_LIMIT = 2 ** 20;
/** A node takes 256 bytes at most and lies aligned to them; bits 6:3 of a pointer to one are its type (lib/maple_tree.c). */
const NODE_SIZE = 256;
const NODE_MASK = 0xffn;
const TYPE_SHIFT = 3n;
const TYPE_MASK = 0xfn;
/** As in an XArray: an internal entry above this is a node. */
const MAX_SPECIAL = 4096n;
const ULONG_MAX = 2n ** 64n - 1n;

/** An entry and the indexes, both included, that it stands for. */
export interface MapleEntry {
  readonly first: bigint;
  readonly last: bigint;
  readonly value: bigint;
}

/** Where a kind of node has its pivots, none for dense nodes, and slots. */
interface NodeLayout {
  readonly leaf: boolean;
  readonly pivots: Member | undefined;
  readonly slots: Member;
}

interface Place {
  readonly address: bigint;
  readonly node: DataView;
  readonly layout: NodeLayout;
  /** Last index of the node. */
  readonly max: bigint;
  /** First index of the slot to look at next. */
  first: bigint;
  slot: number;
}

/**
 * The entries of a struct maple_tree (6.1+), ascending, with their ranges; indexes without an entry are left out. What
 * hangs below a node that cannot be read is left out too.
 * @param tree address of the struct maple_tree
 */
export function* mapleEntries(
  reader: KernelReader,
  types: KernelTypes,
  tree: bigint,
  limit = NODE_LIMIT,
): Generator<MapleEntry, WalkOutcome> {
  const layouts = nodeLayouts(types);
  const rootAt = offsetOf(types, "maple_tree.ma_root");
  if (layouts === undefined || rootAt === undefined) return incomplete("unknown-layout", tree);
  const root = reader.u64(tree + BigInt(rootAt));
  if (root === undefined) return incomplete("unreadable", tree);
  const log = new WalkLog(limit);
  const way: Place[] = [];
  const enter = (entry: bigint, first: bigint, max: bigint) => {
    const address = entry & ~NODE_MASK;
    const layout = layouts.get((entry >> TYPE_SHIFT) & TYPE_MASK);
    const bytes = reader.bytes(address, NODE_SIZE);
    if (layout === undefined) log.fail("senseless", address);
    else if (bytes === undefined) log.fail("unreadable", address);
    else if (log.enter(address)) way.push({ address, node: viewOf(bytes), layout, max, first, slot: 0 });
  };
  if (isNode(root)) enter(root, 0n, ULONG_MAX);
  else if (isEntry(root)) yield { first: 0n, last: 0n, value: root };
  for (let place = way.at(-1); place !== undefined; place = way.at(-1)) {
    const range = nextRange(place, log);
    if (range === undefined) way.pop();
    else if (!place.layout.leaf) {
      if (range.value !== 0n) enter(range.value, range.first, range.last);
    } else if (isEntry(range.value)) yield range;
  }
  return log.outcome;
}

/** A root that is no node is the tree's only entry, at index 0. */
const isNode = (entry: bigint): boolean => (entry & 3n) === 2n && entry > MAX_SPECIAL;

/** Internal entries mark what is reserved. */
const isEntry = (entry: bigint): boolean => entry !== 0n && (entry & 3n) !== 2n;

/** The next slot in use; a node ends at its last index, or at a pivot of 0 behind the first (`mt_dump_range64`). */
function nextRange(place: Place, log: WalkLog): MapleEntry | undefined {
  const { node, layout, max, first, slot } = place;
  if (slot >= layout.slots.count || first > max) return undefined;
  const last = lastOf(place);
  if (last === 0n && slot > 0) return undefined;
  if (last > max || last < first) {
    log.fail("senseless", place.address);
    return undefined;
  }
  place.slot++;
  place.first = last + 1n;
  return { first, last, value: node.getBigUint64(layout.slots.offset + slot * 8, true) };
}

function lastOf({ node, layout: { pivots }, max, first, slot }: Place): bigint {
  if (pivots === undefined) return first;
  return slot < pivots.count ? node.getBigUint64(pivots.offset + slot * 8, true) : max;
}

/** By the numbers of enum maple_type, which the types tell. */
function nodeLayouts(types: KernelTypes): ReadonlyMap<bigint, NodeLayout> | undefined {
  const kinds = [
    ["maple_dense", "maple_node", true],
    ["maple_leaf_64", "maple_range_64", true],
    ["maple_range_64", "maple_range_64", false],
    ["maple_arange_64", "maple_arange_64", false],
  ] as const;
  const layouts = new Map<bigint, NodeLayout>();
  for (const [constant, struct, leaf] of kinds) {
    const number = types.constant(constant);
    const slots = types.member(`${struct}.slot`);
    const pivots = types.member(`${struct}.pivot`);
    if (number === undefined || !isArrayWithin(slots)) continue;
    if (constant === "maple_dense") layouts.set(number, { leaf, pivots: undefined, slots });
    else if (isArrayWithin(pivots)) layouts.set(number, { leaf, pivots, slots });
  }
  return layouts.size === 0 ? undefined : layouts;
}

const isArrayWithin = (member: Member | undefined): member is Member =>
  member !== undefined && member.stride === 8 && member.offset + member.count * 8 <= NODE_SIZE;
