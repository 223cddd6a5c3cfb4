import type { KernelReader } from "./reader.ts";
import { type KernelTypes, offsetOf } from "./types.ts";
import { mapleEntries } from "./walk/maple-tree.ts";
import { collect, incomplete, WalkLog, type WalkOutcome } from "./walk/outcome.ts";
import { rbNodes } from "./walk/rb-tree.ts";

/** vm.max_map_count is 65 530 unless raised. */
const VMA_LIMIT = 2 ** 20;

/** A range of a process's addresses (struct vm_area_struct). */
export interface Vma {
  readonly address: bigint;
  /** User addresses `[start, end)`, page-aligned. */
  readonly start: bigint;
  readonly end: bigint;
  /** VM_READ 1, VM_WRITE 2, VM_EXEC 4, VM_SHARED 8, VM_HUGETLB 0x400000 … (include/linux/mm.h). */
  readonly flags: bigint;
  /** Page of the file at `start`. */
  readonly pageOffset: bigint;
  /** Address of the struct file; undefined for anonymous memory. */
  readonly file: bigint | undefined;
}

export interface VmaList {
  /** Ascending and disjoint. */
  readonly vmas: readonly Vma[];
  readonly outcome: WalkOutcome;
}

/**
 * The VMAs of a process: from the maple tree `mm_mt` (6.1+); before, from the red-black tree `mm_rb` and, where that is
 * damaged, the list `mmap`, whichever has more. What makes no sense is left out.
 * @param mm address of its mm_struct
 */
export function listVmas(reader: KernelReader, types: KernelTypes, mm: bigint): VmaList {
  const layout = layoutOf(types);
  if (layout === undefined) return { vmas: [], outcome: incomplete("unknown-layout", mm) };
  const at = (path: string): bigint | undefined => {
    const offset = offsetOf(types, path);
    return offset === undefined ? undefined : BigInt(offset);
  };
  const [tree, root, first] = [at("mm_struct.mm_mt"), at("mm_struct.mm_rb"), at("mm_struct.mmap")];
  const [node, next] = [at("vm_area_struct.vm_rb"), at("vm_area_struct.vm_next")];
  const read = (addresses: Iterable<bigint>, outcome: WalkOutcome) =>
    vmasAt(reader, layout, addresses, outcome);
  if (tree !== undefined) {
    const { items, outcome } = collect(mapleEntries(reader, types, mm + tree));
    const values = items.map(({ value }) => value);
    return read(new Set(values), outcome);
  }
  let found: VmaList = { vmas: [], outcome: incomplete("unknown-layout", mm) };
  if (root !== undefined && node !== undefined) {
    const { items, outcome } = collect(rbNodes(reader, types, mm + root));
    const addresses = items.map((item) => item - node);
    found = read(addresses, outcome);
  }
  if (found.outcome.complete || first === undefined || next === undefined) return found;
  const { items, outcome } = collect(chain(reader, mm + first, next));
  const listed = read(items, outcome);
  return listed.outcome.complete || listed.vmas.length > found.vmas.length ? listed : found;
}

/** The VMA of a list that contains an address. */
export function vmaAt({ vmas }: VmaList, address: bigint): Vma | undefined {
  let low = 0;
  let high = vmas.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (vmas[middle]!.end <= address) low = middle + 1;
    else high = middle;
  }
  const vma = vmas[low];
  return vma !== undefined && vma.start <= address ? vma : undefined;
}

/** A chain of pointers that ends with NULL; `next` is where an element has the one to the next. */
function* chain(reader: KernelReader, pointer: bigint, next: bigint): Generator<bigint, WalkOutcome> {
  const log = new WalkLog(VMA_LIMIT);
  for (let at = pointer; ; ) {
    const element = reader.u64(at);
    if (element === undefined) log.fail("unreadable", at);
    if (!element || !log.enter(element)) return log.outcome;
    yield element;
    at = element + next;
  }
}

interface VmaLayout {
  readonly start: bigint;
  readonly end: bigint;
  readonly flags: bigint;
  readonly pageOffset: bigint;
  readonly file: bigint;
}

function layoutOf(types: KernelTypes): VmaLayout | undefined {
  const names = ["vm_start", "vm_end", "vm_flags", "vm_pgoff", "vm_file"];
  const offsets = names.map((name) => offsetOf(types, `vm_area_struct.${name}`));
  const [start, end, flags, pageOffset, file] = offsets.map((offset) => BigInt(offset ?? 0));
  if (offsets.includes(undefined)) return undefined;
  return { start: start!, end: end!, flags: flags!, pageOffset: pageOffset!, file: file! };
}

function vmasAt(
  reader: KernelReader,
  layout: VmaLayout,
  addresses: Iterable<bigint>,
  outcome: WalkOutcome,
): VmaList {
  const found: Vma[] = [];
  let problem = outcome;
  for (const address of addresses) {
    const vma = vmaOf(reader, layout, address);
    const sense = vma !== undefined && vma.start < vma.end && ((vma.start | vma.end) & 0xfffn) === 0n;
    if (sense) found.push(vma);
    else if (problem.complete) problem = incomplete(vma === undefined ? "unreadable" : "senseless", address);
  }
  found.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
  const vmas: Vma[] = [];
  for (const vma of found) {
    const overlaps = vma.start < (vmas.at(-1)?.end ?? 0n);
    if (!overlaps) vmas.push(vma);
    else if (problem.complete) problem = incomplete("senseless", vma.address);
  }
  return { vmas, outcome: problem };
}

function vmaOf(reader: KernelReader, layout: VmaLayout, address: bigint): Vma | undefined {
  const start = reader.u64(address + layout.start);
  const end = reader.u64(address + layout.end);
  const flags = reader.u64(address + layout.flags);
  const pageOffset = reader.u64(address + layout.pageOffset);
  const file = reader.u64(address + layout.file);
  if (start === undefined || end === undefined || flags === undefined) return undefined;
  if (pageOffset === undefined || file === undefined) return undefined;
  return { address, start, end, flags, pageOffset, file: file === 0n ? undefined : file };
}
