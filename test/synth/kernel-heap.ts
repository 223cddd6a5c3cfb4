import type { Piece } from "./memory.ts";

/** Where the direct map of the imaginary kernel begins: the virtual address of physical address 0. */
export const DIRECT_MAP = 0xffff_8880_0000_0000n;
const PAGE = 4096;

/** A member: where it is, how wide an element is, and how many there are. */
export type Row = readonly [offset: number, stride: number, count?: number];

/** Layouts of no kernel in particular, so that nobody can have them built in. */
export const LAYOUT = {
  "rb_node.rb_left": [8, 8],
  "rb_node.rb_right": [24, 8],
  "xarray.xa_head": [16, 8],
  "xa_node.shift": [3, 1],
  "xa_node.slots": [48, 8, 16],
  "maple_tree.ma_root": [24, 8],
  "maple_node.slot": [8, 8, 31],
  "maple_range_64.pivot": [8, 8, 7],
  "maple_range_64.slot": [96, 8, 8],
  "maple_arange_64.pivot": [16, 8, 4],
  "maple_arange_64.slot": [64, 8, 5],
  "task_struct.tasks": [128, 16],
  "task_struct.pid": [200, 4],
  "task_struct.tgid": [208, 4],
  "task_struct.comm": [300, 1, 16],
  "task_struct.mm": [256, 8],
  "task_struct.__state": [16, 4],
  "task_struct.exit_state": [24, 4],
  "task_struct.signal": [320, 8],
  "task_struct.thread_node": [336, 16],
  "signal_struct.thread_head": [32, 16],
  "mm_struct.pgd": [40, 8],
  "mm_struct.mm_mt": [64, 32],
  "mm_struct.arg_start": [104, 8],
  "mm_struct.arg_end": [112, 8],
  "vm_area_struct.vm_start": [16, 8],
  "vm_area_struct.vm_end": [8, 8],
  "vm_area_struct.vm_flags": [48, 8],
  "vm_area_struct.vm_pgoff": [56, 8],
  "vm_area_struct.vm_file": [24, 8],
  "file.f_mapping": [88, 8],
  "address_space.host": [8, 8],
  "address_space.i_pages": [24, 24],
  "address_space.a_ops": [80, 8],
  "inode.i_sb": [16, 8],
  "super_block.s_blocksize": [32, 8],
  "page.compound_head": [16, 8],
  "page.index": [40, 8],
} as const satisfies Record<string, Row>;

/** Numbers of enum maple_type, other than the kernel's. */
export const CONSTANTS = { maple_dense: 5n, maple_leaf_64: 6n, maple_range_64: 7n, maple_arange_64: 8n };

export const PAGE_STRUCT = 56;

/** Memory of a kernel, of which virtual addresses are DIRECT_MAP + physical. */
export class KernelHeap {
  readonly bytes: Buffer;
  #next: number;

  /** @param from physical address of the first byte to be handed out */
  constructor(size = 0x10_0000, from = PAGE) {
    this.bytes = Buffer.alloc(size);
    this.#next = from;
  }

  /** Virtual address of new bytes, all 0. */
  take(size: number, align = 8): bigint {
    const at = Math.ceil(this.#next / align) * align;
    this.#next = at + size;
    if (this.#next > this.bytes.length) throw new Error("the synthetic kernel is out of memory");
    return DIRECT_MAP + BigInt(at);
  }

  put(address: bigint, value: bigint, size = 8): void {
    const at = Number(address - DIRECT_MAP);
    for (let i = 0; i < size; i++) this.bytes[at + i] = Number((value >> BigInt(8 * i)) & 0xffn);
  }

  text(address: bigint, text: string): void {
    this.bytes.write(text, Number(address - DIRECT_MAP), "latin1");
  }

  get(address: bigint): bigint {
    return this.bytes.readBigUInt64LE(Number(address - DIRECT_MAP));
  }

  /** Address of a member, or of an element of it. */
  at(structure: bigint, path: keyof typeof LAYOUT, index = 0): bigint {
    const [offset, stride] = LAYOUT[path];
    return structure + BigInt(offset + index * stride);
  }

  set(structure: bigint, path: keyof typeof LAYOUT, value: bigint, index = 0): void {
    this.put(this.at(structure, path, index), value, Math.min(LAYOUT[path][1], 8));
  }

  /** Links list_heads, the head first, in a ring. */
  link(nodes: readonly bigint[]): void {
    for (const [i, node] of nodes.entries()) {
      const next = nodes[(i + 1) % nodes.length]!;
      this.put(node, next);
      this.put(next + 8n, node);
    }
  }

  get pieces(): Piece[] {
    return [{ address: 0, bytes: this.bytes }];
  }
}

/** A balanced tree over rb_nodes in this order. @returns the root node, 0 of none */
export function linkRbTree(heap: KernelHeap, nodes: readonly bigint[]): bigint {
  if (nodes.length === 0) return 0n;
  const middle = nodes.length >>> 1;
  const node = nodes[middle]!;
  heap.set(node, "rb_node.rb_left", linkRbTree(heap, nodes.slice(0, middle)));
  heap.set(node, "rb_node.rb_right", linkRbTree(heap, nodes.slice(middle + 1)));
  return node;
}

export interface StoredEntry {
  readonly index: number;
  /** log2 of the indexes that it takes; `index` is a multiple of that. */
  readonly order: number;
  /** As it is stored: a pointer, or a value with its mark. */
  readonly entry: bigint;
}

const CHUNK = 4;
const SLOTS = 2 ** CHUNK;

/** Stores disjoint entries in the struct xarray, or radix_tree_root, at `root`. */
export function storeXArray(
  heap: KernelHeap,
  root: bigint,
  entries: readonly StoredEntry[],
  flavour: "xarray" | "radix",
): void {
  const last = entries.reduce((max, { index, order }) => Math.max(max, index + 2 ** order - 1), 0);
  if (last === 0) {
    heap.set(root, "xarray.xa_head", entries[0]?.entry ?? 0n);
    return;
  }
  let shift = 0;
  while (last >= 2 ** (shift + CHUNK)) shift += CHUNK;
  heap.set(root, "xarray.xa_head", nodeOf(shift, 0, entries));

  function nodeOf(shift: number, base: number, inside: readonly StoredEntry[]): bigint {
    const node = heap.take(48 + SLOTS * 8, 64);
    heap.set(node, "xa_node.shift", BigInt(shift));
    for (let slot = 0; slot < SLOTS; slot++) {
      const start = base + slot * 2 ** shift;
      const here = inside.filter(
        ({ index, order }) => index < start + 2 ** shift && index + 2 ** order > start,
      );
      const [first] = here;
      if (first === undefined) continue;
      const whole = first.order >= shift;
      let entry = whole ? first.entry : nodeOf(shift - CHUNK, start, here);
      if (whole && first.index < start) entry = sibling(node, (first.index - base) / 2 ** shift);
      heap.set(node, "xa_node.slots", entry, slot);
    }
    return node + (flavour === "xarray" ? 2n : 1n);
  }

  function sibling(node: bigint, slot: number): bigint {
    return flavour === "xarray" ? BigInt(slot * 4 + 2) : heap.at(node, "xa_node.slots", slot) + 1n;
  }
}

/** Indexes `[first, last]` and what is stored there; 0: nothing. */
export interface StoredRange {
  readonly first: bigint;
  readonly last: bigint;
  readonly value: bigint;
}

/**
 * Stores ranges that cover 0 to 2^64 − 1 without gaps in a maple tree; at least two.
 * @param fan entries of a node, 2 to 8
 */
export function storeMaple(
  heap: KernelHeap,
  tree: bigint,
  ranges: readonly StoredRange[],
  fan: number,
  inner: "maple_range_64" | "maple_arange_64",
): void {
  let level: StoredRange[] = nodes(ranges, "maple_leaf_64", "maple_range_64", fan);
  while (level.length > 1) {
    const width = inner === "maple_range_64" ? fan : Math.min(fan, 5);
    level = nodes(level, inner, inner, Math.max(2, width));
  }
  heap.set(tree, "maple_tree.ma_root", (level[0]!.value & ~4n) | 2n);

  function nodes(
    items: readonly StoredRange[],
    type: keyof typeof CONSTANTS,
    struct: "maple_range_64" | "maple_arange_64",
    width: number,
  ): StoredRange[] {
    const made: StoredRange[] = [];
    for (let i = 0; i < items.length; i += width) {
      const group = items.slice(i, i + width);
      const node = heap.take(256, 256);
      const pivots = LAYOUT[`${struct}.pivot`][2];
      const end = group.at(-1)!.last;
      for (const [slot, { last, value }] of group.entries()) {
        heap.set(node, `${struct}.slot`, value, slot);
        // The last pivot of a node that ends the tree may be left out, as may one behind the last slot.
        if (slot < pivots) heap.set(node, `${struct}.pivot`, last, slot);
      }
      made.push({ first: group[0]!.first, last: end, value: node | (CONSTANTS[type] << 3n) | 4n });
    }
    return made;
  }
}
