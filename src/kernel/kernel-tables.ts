import { PAGE_SIZE } from "../core/address.ts";
import type { AddressSpace, PhysicalMemory } from "../core/memory.ts";
import { PageTables, pageTablesOf } from "../x86/paging.ts";
import { FIVE_LEVEL, FOUR_LEVEL, type PagingShape, withoutAddressBits } from "../x86/paging-shapes.ts";
import type { X86State } from "../x86/state.ts";
import type { Vmcoreinfo } from "./vmcoreinfo.ts";

/** Where x86-64 Linux maps its image, before KASLR moves it within (`__START_KERNEL_map`). */
export const START_KERNEL_MAP = 0xffff_ffff_8000_0000n;
/** PTI gives a process two roots in one 8 KiB block, the user's second (`PTI_USER_PGTABLE_BIT`). */
const PTI_USER_ROOT = 0x1000n;
/** An image takes at most 516 tables, a direct map a handful; what needs more is no kernel's. */
const LIMITS = { tableLimit: 2048 };
/** Address spaces of vCPUs looked into: each costs up to 0.1 s where its tables are made to waste time. */
const SPACES_LIMIT = 64;

/**
 * What became of the page tables that a VMCOREINFO names. `work`: they translate the kernel's text to where it says
 * it lies. `wrong`: they do not, so it is of another machine (a guest within) or of a kernel that ran before.
 * `missing`: memory does not hold them all. `unknown`: it does not say where they are.
 */
export type TablesState = "work" | "wrong" | "missing" | "unknown";

export interface NamedTables {
  readonly state: TablesState;
  /** Those that work. */
  readonly tables: PageTables | undefined;
}

/** Looks for the x86-64 page tables that VMCOREINFO names and tries them on the kernel's text. */
export function tablesOfVmcoreinfo(memory: PhysicalMemory, vmcoreinfo: Vmcoreinfo): NamedTables {
  const { physBase } = vmcoreinfo;
  const symbol = rootSymbol(vmcoreinfo);
  if (physBase === undefined || symbol === undefined) return { state: "unknown", tables: undefined };
  const root = imagePhysical(symbol, physBase);
  if (root < 0) return { state: "wrong", tables: undefined };
  const probe = vmcoreinfo.symbol("_stext") ?? symbol;
  let state: TablesState = "wrong";
  for (const shape of shapesOf(vmcoreinfo)) {
    const tables = new PageTables(memory, root, shape, LIMITS);
    const mapping = tables.translate(probe);
    if (mapping.mapped && mapping.physical === imagePhysical(probe, physBase))
      return { state: "work", tables };
    if (!mapping.mapped && mapping.reason === "table-missing") state = "missing";
  }
  return { state, tables: undefined };
}

/**
 * The kernel's address space: its page tables, and where they are not to be had the image alone, which lies in one piece.
 * @returns undefined when VMCOREINFO says neither
 */
export function spaceOfVmcoreinfo(memory: PhysicalMemory, vmcoreinfo: Vmcoreinfo): AddressSpace | undefined {
  const { tables } = tablesOfVmcoreinfo(memory, vmcoreinfo);
  if (tables !== undefined) return tables;
  const { physBase } = vmcoreinfo;
  if (physBase === undefined) return undefined;
  return {
    translate: (virtual) => {
      const physical = imagePhysical(virtual, physBase);
      const isImage =
        virtual >= START_KERNEL_MAP && virtual < START_KERNEL_MAP + IMAGE_SPACE && physical >= 0;
      if (!isImage) return { mapped: false, level: 1, reason: "table-missing" };
      return { mapped: true, physical, size: PAGE_SIZE, writable: true, user: false, executable: true };
    },
  };
}

/** KERNEL_IMAGE_SIZE at most. */
const IMAGE_SPACE = 1n << 30n;

/** Virtual address of the kernel's own root table: init_top_pgt since 4.13, init_level4_pgt before. */
const rootSymbol = (vmcoreinfo: Vmcoreinfo): bigint | undefined =>
  ["swapper_pg_dir", "init_top_pgt", "init_level4_pgt"]
    .map((name) => vmcoreinfo.symbol(name))
    .find((symbol) => symbol !== undefined && symbol >= START_KERNEL_MAP);

/** Physical address of a byte of the kernel's image. */
const imagePhysical = (virtual: bigint, physBase: number): number =>
  Number(virtual - START_KERNEL_MAP) + physBase;

/** 4 levels unless NUMBER(pgtable_l5_enabled) says 5; before 4.17 it says nothing. */
function shapesOf(vmcoreinfo: Vmcoreinfo): PagingShape[] {
  const five = vmcoreinfo.number("pgtable_l5_enabled");
  const shapes = five === undefined ? [FOUR_LEVEL, FIVE_LEVEL] : [five === 1n ? FIVE_LEVEL : FOUR_LEVEL];
  const encryption = vmcoreinfo.number("sme_mask") ?? 0n;
  return shapes.map((shape) => withoutAddressBits(shape, encryption));
}

/** Whether a shape is one of long mode's. */
export const isLongMode = (shape: PagingShape): boolean => shape.addressBits > 32;

/**
 * The address spaces a vCPU's CR3 leads to: CR3's own and, where CR3 may be the user half of a PTI pair, the kernel
 * half. The half that is none shows by what it maps.
 */
function tablesOfState(memory: PhysicalMemory, state: X86State): PageTables[] {
  const own = pageTablesOf(memory, state, LIMITS);
  if (own === undefined) return [];
  if ((state.cr3 & PTI_USER_ROOT) === 0n) return [own];
  return [own, new PageTables(memory, own.root - Number(PTI_USER_ROOT), own.shape, LIMITS)];
}

/** An address space and the first vCPU that is in it. */
export interface VcpuTables {
  readonly vcpu: number;
  readonly tables: PageTables;
}

/** The distinct address spaces of `tablesOfState` over all vCPUs, in their order, the first 64. */
export function tablesOfStates(memory: PhysicalMemory, states: readonly X86State[]): VcpuTables[] {
  const distinct = new Map<string, VcpuTables>();
  for (const [vcpu, state] of states.entries()) {
    for (const tables of tablesOfState(memory, state)) {
      const key = `${tables.shape.name} ${tables.root}`;
      if (distinct.size < SPACES_LIMIT && !distinct.has(key)) distinct.set(key, { vcpu, tables });
    }
  }
  return [...distinct.values()];
}
