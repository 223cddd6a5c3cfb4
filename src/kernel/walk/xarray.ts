import type { KernelReader } from "../reader.ts";
import type { KernelTypes } from "../types.ts";
import { incomplete, WalkLog, type WalkOutcome } from "./outcome.ts";
import { type Slot, XArrayLayout, type XArrayNode } from "./xarray-nodes.ts";

/** Nodes of one array: 256 GiB of a file's pages. */
const NODE_LIMIT = 2 ** 20;

/** An entry: what is stored at the indexes `[index, index + span)`. */
export interface XArrayEntry {
  readonly index: number;
  readonly span: number;
  readonly kind: "pointer" | "value";
  /** The pointer, or the value without its mark: of the page cache a swap or a shadow entry. */
  readonly value: bigint;
}

/**
 * What is at an index, and from `index` on for `span` indexes alike. `none`: nothing. `unknown`: memory does not hold
 * the way to it, the way makes no sense, or the entry is one that is being changed (retry).
 */
export interface XArrayFound {
  readonly index: number;
  readonly span: number;
  readonly kind: "pointer" | "value" | "none" | "unknown";
  /** As of an entry; 0 of the others. */
  readonly value: bigint;
}

/** Indexes that are kept exactly. */
const INDEXES = 2 ** 53;

const found = (kind: "none" | "unknown", index: number, span: number): XArrayFound => ({
  index,
  span,
  kind,
  value: 0n,
});

const isStored = (slot: Slot): slot is Slot & { kind: "pointer" | "value" } =>
  slot.kind === "pointer" || slot.kind === "value";

/** What a slot that leads to no further node tells; a sibling of a sibling leads nowhere. */
function ending(slot: Slot, index: number, span: number): XArrayFound {
  if (isStored(slot)) return { index, span, kind: slot.kind, value: slot.value };
  return found(slot.kind === "empty" ? "none" : "unknown", index, span);
}

/** What is at an index of an array without nodes: its head is the entry of index 0. */
function inHead(head: Slot, index: number): XArrayFound {
  if (isStored(head) && index === 0) return ending(head, 0, 1);
  return isStored(head) ? found("none", index, INDEXES - index) : ending(head, 0, INDEXES);
}

/**
 * The entries of a struct xarray, or radix_tree_root before 4.20, ascending. What hangs below a node that cannot be
 * read is left out; indexes are below 2^54.
 * @param root address of the structure
 */
export function* xarrayEntries(
  reader: KernelReader,
  types: KernelTypes,
  root: bigint,
  limit = NODE_LIMIT,
): Generator<XArrayEntry, WalkOutcome> {
  const layout = XArrayLayout.of(types);
  if (layout === undefined) return incomplete("unknown-layout", root);
  const head = layout.head(reader, root);
  if (head === undefined) return incomplete("unreadable", root);
  if (isStored(head)) yield { index: 0, span: 1, kind: head.kind, value: head.value };
  const log = new WalkLog(limit);
  const way: { readonly node: XArrayNode; readonly base: number; next: number }[] = [];
  const enter = (address: bigint, base: number, above: number | undefined) => {
    const node = layout.node(reader, address);
    if (node === undefined) log.fail("unreadable", address);
    else if (!layout.fits(node, above)) log.fail("senseless", address);
    else if (log.enter(address)) way.push({ node, base, next: 0 });
  };
  if (head.kind === "node") enter(head.value, 0, undefined);
  for (let place = way.at(-1); place !== undefined; place = way.at(-1)) {
    if (place.next === 2 ** layout.chunkShift) {
      way.pop();
      continue;
    }
    const { node, base } = place;
    const at = place.next++;
    const slot = layout.slot(node, at);
    const index = base + at * 2 ** node.shift;
    if (slot.kind === "node") enter(slot.value, index, node.shift);
    else if (isStored(slot)) {
      const span = layout.slotsOf(node, at) * 2 ** node.shift;
      yield { index, span, kind: slot.kind, value: slot.value };
    }
  }
  return log.outcome;
}

/** Looks indexes up in one xarray; neighbours are found without reading their node again. */
export class XArray {
  readonly #reader: KernelReader;
  readonly #layout: XArrayLayout | undefined;
  readonly #root: bigint;
  /** Nodes in hand, the root's first. */
  readonly #nodes: XArrayNode[] = [];

  /** @param root address of the struct xarray, or radix_tree_root before 4.20 */
  constructor(reader: KernelReader, types: KernelTypes, root: bigint) {
    this.#reader = reader;
    this.#layout = XArrayLayout.of(types);
    this.#root = root;
  }

  /** @param index a whole number from 0 to 2^53 */
  at(index: number): XArrayFound {
    const layout = this.#layout;
    const head = layout?.head(this.#reader, this.#root);
    if (layout === undefined || head === undefined) return found("unknown", 0, INDEXES);
    if (head.kind !== "node") return inHead(head, index);
    let slot: Slot = head;
    let above: number | undefined;
    let base = 0;
    let span = INDEXES;
    for (let depth = 0; ; depth++) {
      const node = this.#node(layout, slot.value, depth, above);
      if (node === undefined) return found("unknown", base, span);
      let at = Math.floor((index - base) / 2 ** node.shift);
      if (at >= 2 ** layout.chunkShift) return found("none", index, INDEXES - index);
      slot = layout.slot(node, at);
      if (slot.kind === "sibling") {
        at = Number(slot.value);
        slot = layout.slot(node, at);
      }
      base += at * 2 ** node.shift;
      span = layout.slotsOf(node, at) * 2 ** node.shift;
      // A damaged sibling leads to an entry that ends before the index.
      if (base > index || base + span <= index) return found("unknown", index, 1);
      if (slot.kind !== "node") return ending(slot, base, span);
      above = node.shift;
    }
  }

  #node(layout: XArrayLayout, address: bigint, depth: number, above: number | undefined) {
    const inHand = this.#nodes[depth];
    if (inHand?.address === address) return inHand;
    const node = layout.node(this.#reader, address);
    if (node === undefined || !layout.fits(node, above)) return undefined;
    this.#nodes[depth] = node;
    return node;
  }
}
