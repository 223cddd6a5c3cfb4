import { totalSize } from "../core/ranges.ts";
import { bytesText, printable } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { Arrangement } from "./migration-layout.ts";
import { COMMON_SPLITS, cmosSplit, defaultSplit, type MachineKind } from "./migration-machine.ts";
import type { RamBlock } from "./migration-ram.ts";

/** What is known of a machine whose memory is to be laid out. */
export interface MachineFacts {
  readonly kind: MachineKind | undefined;
  /** The machine type, or "". */
  readonly name: string;
  /** RAMBlocks that may be its memory, in the order of the stream. */
  readonly blocks: readonly RamBlock[];
  /** Memory of its clock. */
  readonly cmos: Buffer | undefined;
  /**
   * How many of the addresses that the vCPUs need (descriptor tables, code) their page tables map in an arrangement; 0
   * too where nothing can be said.
   */
  readonly agreement: (arrangement: Arrangement) => number;
}

const FOUR_GIB = 2 ** 32;
/** Where memory begins on AMD machines that would reach into HyperTransport's addresses (QEMU `hw/i386/pc.c`, 7.1). */
const ONE_TIB = 2 ** 40;
const HYPERTRANSPORT = 0xfd_0000_0000;

/** Blocks of which every choice is tried, and of which every order is. */
const MAX_CHOICES = 12;
const MAX_ORDERED = 5;

/**
 * Picks the arrangement that the clock's memory and the vCPUs' page tables speak for, else the one by the rules of the
 * machine type.
 * @returns undefined where there is no block to arrange
 */
export function arrange(
  facts: MachineFacts,
): { readonly arrangement: Arrangement; readonly warnings: readonly Warning[] } | undefined {
  const blocks = machineBlocks(facts);
  if (blocks.length === 0) return undefined;
  const size = sizeOf(blocks);
  const told = facts.cmos && cmosSplit(facts.cmos, size);
  let best: { readonly arrangement: Arrangement; readonly score: number } | undefined;
  let rivals = 0;
  let count = 0;
  for (const arrangement of candidates(facts, blocks, size, told)) {
    const score = facts.agreement(arrangement);
    count++;
    if (best === undefined || score > best.score) {
      best = { arrangement, score };
      rivals = 0;
    } else if (score === best.score) rivals++;
  }
  const { arrangement, score } = best!;
  const isAlone = count === 1 && (told !== undefined || arrangement.below === size);
  const isSure = isAlone || (score > 0 && rivals === 0);
  return { arrangement, warnings: isSure ? [] : [assumed(facts, arrangement, size)] };
}

/** The likeliest first; never none. */
function* candidates(
  { kind, name }: MachineFacts,
  blocks: readonly RamBlock[],
  size: number,
  told: number | undefined,
): Generator<Arrangement> {
  const rule = defaultSplit(kind, name, size);
  const others = COMMON_SPLITS.filter((split) => split < size && split !== rule);
  const splits = told === undefined ? [rule, ...others] : [told];
  for (const order of ordersOf(blocks)) {
    for (const below of splits) {
      for (const above of startsAbove(size, below)) yield { order, below, above };
    }
  }
}

function assumed({ kind, name }: MachineFacts, { order, below }: Arrangement, size: number): Warning {
  const rules = kind === undefined ? "a PC" : printable(name === "" ? kind : name);
  const split = below < size ? `${bytesText(below)} of it below 4 GiB` : "all of it below 4 GiB";
  const blocks =
    order.length === 1 ? "" : `, in the order ${order.map((block) => printable(block.name)).join(", ")}`;
  return {
    code: "DMP034",
    message: `where the machine's memory lies is not in the stream: taken as ${rules} has it, ${split}${blocks}`,
    hint: "where it is wrong, crash and drgn find no page tables: then restore the guest paused, and dump-guest-memory",
  };
}

/** The machine's own, or of those that users made the ones whose sizes add up to what the clock's memory says. */
function machineBlocks({ blocks, cmos }: MachineFacts): readonly RamBlock[] {
  if (cmos === undefined || blocks.length < 2 || blocks.length > MAX_CHOICES) return blocks;
  let found: readonly RamBlock[] = [];
  for (let choice = 1; choice < 2 ** blocks.length; choice++) {
    const chosen = blocks.filter((_, i) => (choice >> i) % 2 === 1);
    if (chosen.length > found.length && cmosSplit(cmos, sizeOf(chosen)) !== undefined) found = chosen;
  }
  return found.length > 0 ? found : blocks;
}

/** Streams list blocks by size. By name first, as libvirt numbers the memory of NUMA nodes; then every other way. */
function* ordersOf(blocks: readonly RamBlock[]): Generator<readonly RamBlock[]> {
  const byName = [...blocks].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  yield byName;
  if (blocks.length > MAX_ORDERED) return;
  for (const order of permutations(byName)) {
    if (order.some((block, i) => block !== byName[i])) yield order;
  }
}

function* permutations(blocks: readonly RamBlock[]): Generator<readonly RamBlock[]> {
  if (blocks.length <= 1) yield blocks;
  else {
    for (const [i, first] of blocks.entries()) {
      for (const rest of permutations(blocks.toSpliced(i, 1))) yield [first, ...rest];
    }
  }
}

const startsAbove = (size: number, below: number): readonly number[] =>
  FOUR_GIB + (size - below) > HYPERTRANSPORT ? [FOUR_GIB, ONE_TIB] : [FOUR_GIB];

const sizeOf = (blocks: readonly RamBlock[]): number =>
  totalSize(blocks.map(({ size }) => ({ start: 0, end: size })));
