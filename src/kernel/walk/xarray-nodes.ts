import { viewOf } from "../../core/bytes.ts";
import type { KernelReader } from "../reader.ts";
import { type KernelTypes, offsetOf } from "../types.ts";

/** Slots of a node: 64, or 16 with CONFIG_BASE_SMALL. */
const MAX_SLOTS = 64;
/** Indexes up to 2^53 are kept exactly: a file has at most 2^51 pages. */
const MAX_SHIFT = 48;
/** `xa_is_node`: an internal entry above this is a node (include/linux/xarray.h). */
const MAX_SPECIAL = 4096n;

/** What a slot holds; `pointer` and `value` are what was stored, the low bits of a value taken off. */
export type SlotKind = "empty" | "pointer" | "value" | "node" | "sibling" | "special";
export interface Slot {
  readonly kind: SlotKind;
  /** The pointer, the value, the node's address, or the slot that a sibling stands for. */
  readonly value: bigint;
}

export interface XArrayNode {
  readonly address: bigint;
  /** An entry of the node stands for 2^shift indexes. */
  readonly shift: number;
  readonly slots: DataView;
}

const EMPTY: Slot = { kind: "empty", value: 0n };
const SPECIAL: Slot = { kind: "special", value: 0n };

/**
 * Layout and entries of an XArray (4.20+), or of the radix tree that it replaced. Low bits of an entry: in an XArray
 * 1 marks a value and binary 10 what is internal (nodes, siblings, retry and zero entries); in a radix tree binary 01
 * marks a node or sibling and 10 an exceptional entry (include/linux/radix-tree.h before 4.20).
 */
export class XArrayLayout {
  /** log2 of the slots of a node. */
  readonly chunkShift: number;
  readonly #radix: boolean;
  readonly #head: bigint;
  readonly #shift: bigint;
  readonly #slots: bigint;
  readonly #slotCount: number;

  private constructor(radix: boolean, head: number, shift: number, slots: number, slotCount: number) {
    this.#radix = radix;
    this.#head = BigInt(head);
    this.#shift = BigInt(shift);
    this.#slots = BigInt(slots);
    this.#slotCount = slotCount;
    this.chunkShift = Math.log2(slotCount);
  }

  /** @returns undefined when the types describe neither, or as no kernel has it */
  static of(types: KernelTypes): XArrayLayout | undefined {
    const radix = types.member("xa_node.slots") === undefined;
    const node = radix ? "radix_tree_node" : "xa_node";
    const head = offsetOf(types, radix ? "radix_tree_root.rnode" : "xarray.xa_head");
    const shift = offsetOf(types, `${node}.shift`);
    const slots = types.member(`${node}.slots`);
    if (head === undefined || shift === undefined || slots === undefined) return undefined;
    const { count } = slots;
    if (count < 2 || count > MAX_SLOTS || !Number.isInteger(Math.log2(count))) return undefined;
    return new XArrayLayout(radix, head, shift, slots.offset, count);
  }

  /** The entry in the head of the struct xarray, or radix_tree_root, at an address. */
  head(reader: KernelReader, root: bigint): Slot | undefined {
    const entry = reader.u64(root + this.#head);
    return entry === undefined ? undefined : this.#classify(entry, undefined);
  }

  /** @returns undefined when memory does not hold it; a shift that no node has is the caller's to judge */
  node(reader: KernelReader, address: bigint): XArrayNode | undefined {
    const shift = reader.u8(address + this.#shift);
    const slots = reader.bytes(address + this.#slots, this.#slotCount * 8);
    return shift === undefined || slots === undefined ? undefined : { address, shift, slots: viewOf(slots) };
  }

  /** Whether a node can be the root (`above` undefined) or the child of one with shift `above`. */
  fits({ shift }: XArrayNode, above: number | undefined): boolean {
    if (above !== undefined) return shift === above - this.chunkShift;
    return shift <= MAX_SHIFT && shift % this.chunkShift === 0;
  }

  slot(node: XArrayNode, index: number): Slot {
    return this.#classify(node.slots.getBigUint64(index * 8, true), node);
  }

  /** How many slots an entry at `index` takes: its siblings follow it. */
  slotsOf(node: XArrayNode, index: number): number {
    let end = index + 1;
    while (end < this.#slotCount) {
      const slot = this.slot(node, end);
      if (slot.kind !== "sibling" || Number(slot.value) !== index) break;
      end++;
    }
    return end - index;
  }

  #classify(entry: bigint, node: XArrayNode | undefined): Slot {
    if (entry === 0n) return EMPTY;
    const low = entry & 3n;
    if (low === 0n) return { kind: "pointer", value: entry };
    if (this.#radix) return this.#classifyRadix(entry, low, node);
    if (low !== 2n) return { kind: "value", value: entry >> 1n };
    if (entry > MAX_SPECIAL) return { kind: "node", value: entry - 2n };
    return this.#sibling(entry >> 2n);
  }

  /** A sibling points to the slot in its own node that it stands for. */
  #classifyRadix(entry: bigint, low: bigint, node: XArrayNode | undefined): Slot {
    if (low === 2n) return { kind: "value", value: entry >> 2n };
    if (low !== 1n) return SPECIAL;
    const target = entry - 1n;
    const within = node === undefined ? -1n : target - node.address - this.#slots;
    if (within >= 0n && within < BigInt(this.#slotCount * 8)) return this.#sibling(within >> 3n);
    return { kind: "node", value: target };
  }

  #sibling(slot: bigint): Slot {
    return slot < BigInt(this.#slotCount) ? { kind: "sibling", value: slot } : SPECIAL;
  }
}
