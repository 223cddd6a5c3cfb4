import { type Piece, ramWith, type TableEntry, tablePieces } from "./memory.ts";

/**
 * A small x86-64 Linux guest as its memory looks: KASLR, kernel image in 2 MiB pages with a hole, direct map in
 * 4 KiB and 2 MiB pages, a PTI pair of roots, vmalloc, and mappings below the direct map that are not it.
 */
export const RAM = 0x200_0000; // 32 MiB
export const IMAGE = 0x100_0000; // physical, 16 MiB
export const TEXT = 0xffff_ffff_9a00_0000n;
export const KERNEL_OFFSET = 0x1900_0000n;
export const PHYS_BASE = IMAGE - 0x1a00_0000;
export const IMAGE_SIZE = 0xa0_0000;
/** The kernel's root; PTI's user root is the next page. */
export const ROOT = 0x140_0000;
export const USER_ROOT = ROOT + 0x1000;
export const RELEASE = "6.1.0-56-amd64";
export const BANNER_AT = 0x120_0040;

const P = 1n;
const W = 2n;
const U = 4n;
const PS = 1n << 7n;
const NX = 1n << 63n;
const at = (address: number): bigint => BigInt(address);

const PUD_TEXT = ROOT + 0x2000;
const PMD_TEXT = ROOT + 0x3000;
const PUD_DIRECT = ROOT + 0x4000;
const PMD_DIRECT = ROOT + 0x5000;
const PT_DIRECT = ROOT + 0x6000;
const PUD_LOW = ROOT + 0x7000;
const PMD_LOW = ROOT + 0x8000;
const PT_LOW = ROOT + 0x9000;
const PMD_ENTRY = ROOT + 0xa000;
const PUD_ENTRY = ROOT + 0xb000;
const PML4 = ROOT + 0xc000;

export interface GuestOptions {
  readonly levels?: 4 | 5;
  /** Pieces laid over the guest's own pages, or more of them. */
  readonly extra?: readonly Piece[];
  /** Entries that replace or add to the guest's. */
  readonly entries?: readonly TableEntry[];
  /** Text of linux_banner; undefined for an image without one. */
  readonly banner?: string | undefined;
}

/** Virtual address of physical 0 in the direct map: PML4 index 312 (and PML5 index 273), PUD index 5. */
export const pageOffsetOf = (levels: 4 | 5): bigint =>
  levels === 4 ? 0xffff_9c01_4000_0000n : 0xff11_9c01_4000_0000n;

/** The guest's physical memory. */
export function linuxGuest(options: GuestOptions = {}): Piece[] {
  const levels = options.levels ?? 4;
  const entries = new Map<string, TableEntry>();
  const tables = [...upperTables(levels), ...lowerTables(), ...(options.entries ?? [])];
  for (const entry of tables) entries.set(`${entry[0]}:${entry[1]}`, entry);
  const pieces = new Map<number, Piece>();
  for (const piece of tablePieces([...entries.values()])) pieces.set(piece.address, piece);
  const banner = "banner" in options ? options.banner : `Linux version ${RELEASE} (build@host) #1 SMP`;
  if (banner !== undefined) {
    const page = new Uint8Array(4096);
    page.set(Buffer.from(banner), BANNER_AT % 4096);
    pieces.set(BANNER_AT - (BANNER_AT % 4096), { address: BANNER_AT - (BANNER_AT % 4096), bytes: page });
  }
  for (const piece of options.extra ?? []) pieces.set(piece.address, piece);
  return ramWith(RAM, [...pieces.values()]);
}

function upperTables(levels: 4 | 5): TableEntry[] {
  const pml4 = levels === 4 ? ROOT : PML4;
  const above: TableEntry[] =
    levels === 4
      ? []
      : [
          [ROOT, 273, at(PML4) | P | W], // 0xff11…
          [ROOT, 511, at(PML4) | P | W], // 0xffff…
          [USER_ROOT, 511, at(PML4) | P | W],
        ];
  return [
    ...above,
    [pml4, 272, at(PUD_LOW) | P | W | U], // 0xffff8800…: the LDT of a process and the like
    [pml4, 312, at(PUD_DIRECT) | P | W], // 0xffff9c00…: direct map
    [pml4, 511, at(PUD_TEXT) | P | W], // the top 512 GiB
    ...(levels === 4 ? ([[USER_ROOT, 511, at(PUD_ENTRY) | P | W]] as TableEntry[]) : []),
  ];
}

function lowerTables(): TableEntry[] {
  const entries: TableEntry[] = [
    [PUD_TEXT, 510, at(PMD_TEXT) | P | W], // 0xffffffff80000000
    [PMD_TEXT, 0xd0, at(IMAGE) | P | PS], // text, 4 MiB, read and execute
    [PMD_TEXT, 0xd1, at(IMAGE + 0x20_0000) | P | PS],
    [PMD_TEXT, 0xd2, at(IMAGE + 0x40_0000) | P | W | PS | NX], // data
    // 0xd3: freed and unmapped
    [PMD_TEXT, 0xd4, at(IMAGE + 0x80_0000) | P | W | PS | NX], // bss
    [PMD_TEXT, 0xd6, at(0x60_0000) | P | PS], // not of the image: another distance
    [PMD_TEXT, 0x110, at(IMAGE + 0x800_0000) | P | PS], // at the image's distance, but 128 MiB on: a module
    [PUD_DIRECT, 5, at(PMD_DIRECT) | P | W],
    [PMD_DIRECT, 0, at(PT_DIRECT) | P | W],
    // Below the direct map: a run whose base is not aligned, one that is but maps no root, one of user space.
    [PUD_LOW, 0, at(PMD_LOW) | P | W | U],
    [PUD_LOW, 2, at(PMD_LOW) | P | W | U],
    [PMD_LOW, 0, at(PT_LOW) | P | W | U],
    [PT_LOW, 0, 0x3000n | P | W | NX],
    [PT_LOW, 5, 0x5000n | P | W | NX],
    [PT_LOW, 7, 0x7000n | P | W | U | NX],
    // What PTI leaves of the kernel in the user's tables: the first 2 MiB of text.
    [PUD_ENTRY, 510, at(PMD_ENTRY) | P | W],
    [PMD_ENTRY, 0xd0, at(IMAGE) | P | PS],
  ];
  // Page 0 is not mapped; the first 2 MiB are in 4 KiB pages.
  for (let page = 1; page < 512; page++) entries.push([PT_DIRECT, page, at(page * 4096) | P | W | NX]);
  for (let block = 1; block < 16; block++) {
    entries.push([PMD_DIRECT, block, at(block * 0x20_0000) | P | W | PS | NX]);
  }
  return entries;
}

/** VMCOREINFO of the guest; `changes` replaces values, undefined leaves a line out. */
export function vmcoreinfoText(changes: Readonly<Record<string, string | undefined>> = {}): string {
  const lines: Record<string, string | undefined> = {
    OSRELEASE: RELEASE,
    "BUILD-ID": "eb4fbcd037e7253717950bf2b93bd5566f47c56f",
    PAGESIZE: "4096",
    "SYMBOL(swapper_pg_dir)": "ffffffff9a400000",
    "SYMBOL(_stext)": "ffffffff9a000000",
    "NUMBER(phys_base)": String(PHYS_BASE),
    "NUMBER(pgtable_l5_enabled)": "0",
    KERNELOFFSET: "19000000",
    "NUMBER(KERNEL_IMAGE_SIZE)": "1073741824",
    "NUMBER(sme_mask)": "0",
    ...changes,
  };
  return Object.entries(lines)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}=${value}\n`)
    .join("");
}

/** The ELF note the kernel keeps: 12-byte header, name padded to 4, text. */
export function vmcoreinfoNote(text: string, size = text.length): Uint8Array {
  const note = Buffer.alloc(24 + text.length);
  note.writeUInt32LE(11, 0);
  note.writeUInt32LE(size, 4);
  note.write("VMCOREINFO", 12);
  note.write(text, 24);
  return note;
}

/** Registers of a vCPU in long mode with this CR3. */
export const longMode = (cr3: number, levels: 4 | 5 = 4) => ({
  cr0: 0x8005_0033n,
  cr3: BigInt(cr3),
  cr4: levels === 5 ? 0x16f0n : 0x6f0n,
  efer: 0xd01n,
});
