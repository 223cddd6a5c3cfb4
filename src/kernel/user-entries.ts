import { PAGE_SIZE } from "../core/address.ts";
import type { PhysicalMemory } from "../core/memory.ts";
import { rangeAt } from "../core/ranges.ts";
import { type EntryLevel, LEAF, NOT_PRESENT, TABLE } from "../x86/paging-entries.ts";

/**
 * What an entry of a process's page tables says: the hardware sees but the present ones, Linux tells the rest in the
 * software bits of the others (arch/x86/include/asm/pgtable_64.h, pgtable-invert.h).
 */
export type EntryKind =
  | "table"
  /** A page that the process can use. */
  | "present"
  /** In memory; all access is taken away: PROT_NONE, NUMA balancing, a huge page that is being split. */
  | "prot-none"
  /** In memory, or was: being moved, lent to a device, or with an uncorrectable error. */
  | "migration"
  | "swapped"
  /** Nothing was ever there, or what was is in its file only. */
  | "untouched"
  /** No entry that Linux makes, or a marker of a page that cannot be read: its content is lost, or it is a guard. */
  | "senseless";

/** Bit 8 (global) of an entry that is not present: _PAGE_PROTNONE. */
const PROTNONE = 0x100;
/** Bit 7 of a huge page's entry, kept while the page is split and not present (`pmd_present`). */
const PSE = 0x80;
/** Accessed and dirty: an erratum of Knights Landing sets them in empty entries (`pte_none`). */
const STRAY = 0x60;
/** Swap entries are in tables of levels 1 and 2, and of 3 for 1 GiB pages of hugetlbfs. */
const SWAP_LEVELS = 3;
const TWO_32 = 0x1_0000_0000;
/** Bits 58:9, inverted, are the offset and bits 63:59 the type (4.18+, and the stable kernels with the L1TF fix). */
const OFFSET_HIGH = 0x07ff_ffff;
const OFFSET_UNIT = 0x200;
const TYPE_SHIFT = 27;
/**
 * MAX_SWAPFILES is 32 less the special types, of which 9 are the most so far: one marker, four for devices, three
 * for migration, one for hardware poison (include/linux/swap.h, 6.1).
 */
const FIRST_SPECIAL_TYPE = 32 - 9;
/** SWP_PTE_MARKER (5.19+) is the last type; its offset is a set of few flags, and no page. */
const MARKER_TYPE = 31;
const MARKER_FLAGS = 16;
/**
 * PTE_MARKER_UFFD_WP, alone: write-protected before anything was there. The others (include/linux/swapops.h) are
 * SWAPIN_ERROR or POISONED (6.1+): what was there is lost, and GUARD (6.13+): nothing may be read there.
 */
const MARKER_UFFD_WP = 1;

/** What decides between the meanings of an entry that is not present. */
export interface EntryContext {
  /** The memory that a page must lie in. */
  readonly memory: PhysicalMemory;
  /** Swap files in use (`nr_swapfiles`): lower types are swap. */
  readonly swapFiles?: number | undefined;
  /** MAX_PHYSMEM_BITS: 46, or 52 with 5-level tables. What lies above in a migration entry's offset are flags (6.1+). */
  readonly physicalBits: number;
}

/** Decodes one entry after the other; the details of the last one stay in it. */
export class UserEntries {
  /** Of a page in memory: where the page, which may be huge, begins. */
  physical = 0;
  /** Of a swap entry. */
  type = 0;
  offset = 0;
  readonly #context: EntryContext;
  readonly #frames: number;

  constructor(context: EntryContext) {
    this.#context = context;
    this.#frames = 2 ** (context.physicalBits - 12);
  }

  /** @param low, high the entry's words, signed */
  decode(level: EntryLevel, low: number, high: number): EntryKind {
    const kind = level.kindOf(low, high);
    if (kind === NOT_PRESENT) return this.#notPresent(level, low, high);
    if (kind === TABLE) return "table";
    if (kind !== LEAF) return "senseless";
    this.physical = level.leafAddress(low, high);
    return "present";
  }

  #notPresent(level: EntryLevel, low: number, high: number): EntryKind {
    if (high === 0 && (low & ~STRAY) === 0) return "untouched";
    if (level.number > SWAP_LEVELS) return "senseless";
    if ((low & PROTNONE) !== 0 || (level.number > 1 && (low & PSE) !== 0)) {
      // Inverted since the L1TF fix (4.18 and stable kernels); plain before.
      const inverted = level.leafAddress(~low, ~high);
      const plain = level.leafAddress(low, high);
      this.physical = this.#isMemory(inverted) ? inverted : plain;
      return this.#isMemory(this.physical) ? "prot-none" : "senseless";
    }
    this.type = high >>> TYPE_SHIFT;
    this.offset = ((~high & OFFSET_HIGH) * TWO_32 + (~low >>> 0) - (~low & (OFFSET_UNIT - 1))) / OFFSET_UNIT;
    return this.#special(level);
  }

  /** Whether a swap entry is a special one that holds a page. */
  #special(level: EntryLevel): EntryKind {
    const { type, offset } = this;
    if (type < FIRST_SPECIAL_TYPE || type < (this.#context.swapFiles ?? 0)) return "swapped";
    if (type === MARKER_TYPE && offset < MARKER_FLAGS)
      return offset === MARKER_UFFD_WP ? "untouched" : "senseless";
    const physical = (offset % this.#frames) * PAGE_SIZE;
    if (physical % (level.span * PAGE_SIZE) !== 0 || !this.#isMemory(physical)) return "swapped";
    this.physical = physical;
    return "migration";
  }

  #isMemory(physical: number): boolean {
    return rangeAt(this.#context.memory.ranges, physical) !== undefined;
  }
}
