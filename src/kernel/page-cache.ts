import { PAGE_SIZE } from "../core/address.ts";
import type { KernelReader } from "./reader.ts";
import type { KernelSymbols } from "./symbols.ts";
import { type KernelTypes, offsetOf } from "./types.ts";
import { XArray, type XArrayFound } from "./walk/xarray.ts";

/** VMEMMAP_START where it is not randomised (Documentation/arch/x86/x86_64/mm.rst). */
const VMEMMAP_4_LEVEL = 0xffff_ea00_0000_0000n;
const VMEMMAP_5_LEVEL = 0xffd4_0000_0000_0000n;
/** MAX_PHYSMEM_BITS of 5-level paging: no page frame is higher. */
const PHYSICAL_LIMIT = 2 ** 52;
/** Pages of a folio: 1 GiB of hugetlbfs. */
const FOLIO_PAGES = 2n ** 18n;
/** Pages of any file that anything holds for. */
const WHOLE_FILE = 2 ** 51;
/** Of x86-64: 2 MiB and 1 GiB. */
const HUGE_SIZES: readonly (bigint | undefined)[] = [2n ** 21n, 2n ** 30n];

/**
 * A page of a file, and for how many from it on the same holds; those in memory are contiguous there. `swapped`: of
 * shared memory it is in swap, of a file on disk it was dropped (a shadow entry). `none`: never there, or dropped.
 * `unknown`: the dump does not hold the way to it.
 */
export type CachedPage =
  | { readonly state: "in-memory"; readonly physical: number; readonly pages: number }
  | { readonly state: "swapped" | "none" | "unknown"; readonly pages: number };

/** What a file's contents lie in: `none` may be shared memory without a page, which reads as zero, or a file on disk. */
export type Backing = "shared-memory" | "hugetlbfs" | "file";

interface Operations {
  readonly backings: ReadonlyMap<bigint, Backing>;
  /** Whether what is neither shared memory nor of hugetlbfs is known to be a file. */
  readonly tellFiles: boolean;
}

function operationsOf(symbols: KernelSymbols): Operations {
  const backings = new Map<bigint, Backing>();
  for (const { address } of symbols.named("hugetlbfs_aops")) backings.set(address, "hugetlbfs");
  for (const { address } of symbols.named("shmem_aops")) backings.set(address, "shared-memory");
  return { backings, tellFiles: symbols.addressOf("shmem_aops") !== undefined };
}

/** The page cache: pages of files and of shared memory, by struct page (x86-64, SPARSEMEM_VMEMMAP). */
export class PageCache {
  readonly #reader: KernelReader;
  readonly #types: KernelTypes;
  readonly #symbols: KernelSymbols;
  readonly #vmemmap: bigint;
  readonly #pageSize: bigint | undefined;
  /** Of the mapping in hand. */
  #mapping: bigint | undefined;
  #pages: XArray | undefined;
  /** Pages of one of its huge pages; 1 of other files, undefined where that is not known. */
  #unit: number | undefined;
  /** What operations of an address_space are of; symbols are looked up once. */
  #operations: Operations | undefined;
  #backing: { readonly mapping: bigint; readonly is: Backing | undefined } | undefined;

  /** @param levels of the kernel's page tables */
  constructor(reader: KernelReader, types: KernelTypes, symbols: KernelSymbols, levels: number) {
    this.#reader = reader;
    this.#types = types;
    this.#symbols = symbols;
    const variable = symbols.addressOf("vmemmap_base");
    const base = variable === undefined ? undefined : reader.u64(variable);
    this.#vmemmap = base ?? (levels === 5 ? VMEMMAP_5_LEVEL : VMEMMAP_4_LEVEL);
    const size = types.sizeOf("page");
    this.#pageSize = size === undefined || size === 0 ? undefined : BigInt(size);
  }

  /** The address_space of a struct file. */
  mappingOf(file: bigint): bigint | undefined {
    return this.#pointer(file, "file.f_mapping") || undefined;
  }

  /** @returns undefined where the dump or the kernel's symbols do not tell */
  backingOf(mapping: bigint): Backing | undefined {
    if (this.#backing?.mapping === mapping) return this.#backing.is;
    const operations = this.#pointer(mapping, "address_space.a_ops");
    const is = operations === undefined ? undefined : this.#backingBy(operations);
    this.#backing = { mapping, is };
    return is;
  }

  #backingBy(operations: bigint): Backing | undefined {
    this.#operations ??= operationsOf(this.#symbols);
    const { backings, tellFiles } = this.#operations;
    return backings.get(operations) ?? (tellFiles ? "file" : undefined);
  }

  /**
   * @param mapping address of the struct address_space
   * @param index page of the file, from 0, in units of 4 KiB, of hugetlbfs too
   */
  pageOf(mapping: bigint, index: number): CachedPage {
    const pages = this.#pagesOf(mapping);
    const huge = this.#unit;
    if (pages === undefined || huge === undefined) return { state: "unknown", pages: WHOLE_FILE };
    const found = pages.at(index);
    if (huge > 1 && (found.kind === "none" || found.span < huge)) {
      return this.#hugePageOf(pages.at(Math.floor(index / huge)), index % huge, huge);
    }
    return this.#pageAt(found, index);
  }

  /** Physical address of the page that a struct page describes. */
  physicalOf(page: bigint): number | undefined {
    const size = this.#pageSize;
    const offset = page - this.#vmemmap;
    if (size === undefined || offset < 0n || offset % size !== 0n) return undefined;
    const physical = Number(offset / size) * PAGE_SIZE;
    return physical < PHYSICAL_LIMIT ? physical : undefined;
  }

  /**
   * The page at an index of a folio that an entry refers to: all entries of a huge page refer to its first page (some
   * kernels have one per page, to that page), and that one knows its own index.
   */
  #pageAt({ kind, value, index: first, span }: XArrayFound, index: number): CachedPage {
    const pages = first + span - index;
    if (kind === "value") return { state: "swapped", pages };
    if (kind !== "pointer") return { state: kind, pages };
    const head = this.physicalOf(value);
    // Of a tail page its lowest bit is set; compound_info since 7.1.
    const compound = this.#pointer(value, "page.compound_head", "page.compound_info");
    if (head === undefined || compound === undefined) return { state: "unknown", pages };
    if ((compound & 1n) === 1n) return { state: "in-memory", physical: head, pages };
    // __folio_index since 6.16.
    const own = this.#pointer(value, "page.index", "page.__folio_index", "folio.index");
    const behind = own === undefined ? -1n : BigInt(index) - own;
    if (behind < 0n || behind >= FOLIO_PAGES) return { state: "unknown", pages };
    return { state: "in-memory", physical: head + Number(behind) * PAGE_SIZE, pages };
  }

  /** Before 6.7 hugetlbfs counts its files in huge pages: an entry has one index. */
  #hugePageOf({ kind, value, span }: XArrayFound, behind: number, huge: number): CachedPage {
    const pages = huge - behind;
    if (kind === "unknown") return { state: kind, pages };
    if (kind !== "pointer" || span !== 1) return { state: "none", pages };
    const head = this.physicalOf(value);
    return head === undefined
      ? { state: "unknown", pages }
      : { state: "in-memory", physical: head + behind * PAGE_SIZE, pages };
  }

  /** Pages of a huge page of the file system that a file is in. */
  #hugePages(mapping: bigint): number | undefined {
    const host = this.#pointer(mapping, "address_space.host");
    const sb = host === undefined ? undefined : this.#pointer(host, "inode.i_sb");
    const size = sb === undefined ? undefined : this.#pointer(sb, "super_block.s_blocksize");
    return HUGE_SIZES.includes(size) ? Number(size) / PAGE_SIZE : undefined;
  }

  #pagesOf(mapping: bigint): XArray | undefined {
    if (this.#mapping === mapping) return this.#pages;
    // page_tree before 4.17.
    const offset = offsetOf(this.#types, "address_space.i_pages", "address_space.page_tree");
    this.#mapping = mapping;
    this.#unit = this.backingOf(mapping) === "hugetlbfs" ? this.#hugePages(mapping) : 1;
    this.#pages =
      offset === undefined ? undefined : new XArray(this.#reader, this.#types, mapping + BigInt(offset));
    return this.#pages;
  }

  #pointer(structure: bigint, ...paths: string[]): bigint | undefined {
    const offset = offsetOf(this.#types, ...paths);
    return offset === undefined ? undefined : this.#reader.u64(structure + BigInt(offset));
  }
}
