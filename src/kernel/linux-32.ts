import type { PhysicalMemory } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";
import { PageTables } from "../x86/paging.ts";
import { PAE, THIRTY_TWO_BIT_PSE } from "../x86/paging-shapes.ts";
import type { X86State } from "../x86/state.ts";
import type { Checkpoint } from "./chunks.ts";
import { findBanner } from "./kernel-image.ts";
import { isLongMode, tablesOfStates } from "./kernel-tables.ts";
import { type FactSource, fact, type LinuxImage, vmcoreinfoFacts } from "./linux-image.ts";
import type { Vmcoreinfo } from "./vmcoreinfo.ts";

/** CONFIG_PAGE_OFFSET of each CONFIG_VMSPLIT choice (arch/x86/Kconfig): 32-bit Linux does not move its direct map. */
const PAGE_OFFSETS = [0xc000_0000n, 0xb000_0000n, 0x8000_0000n, 0x7800_0000n, 0x4000_0000n];
const MIB = 2 ** 20;
/** CONFIG_PHYSICAL_START: RAM that every 32-bit kernel maps. */
const PROBE = 16 * MIB;
/** The image lies in low memory, KASLR at most 512 MiB up; the banner is in its first part. */
const BANNER_FROM = MIB;
const BANNER_TO = 576 * MIB;

interface View {
  readonly tables: PageTables;
  readonly pageOffset: bigint;
  readonly source: FactSource;
}

/** A 32-bit kernel: release, paging, direct map (which holds the image). */
export async function describeLinux32(
  memory: PhysicalMemory,
  vmcoreinfo: Vmcoreinfo | undefined,
  states: readonly X86State[],
  checkpoint?: Checkpoint,
): Promise<LinuxImage | undefined> {
  const own = vmcoreinfo && viewOfVmcoreinfo32(memory, vmcoreinfo);
  const view = own ?? viewOfStates(memory, states);
  const facts = vmcoreinfoFacts(vmcoreinfo);
  const banner =
    vmcoreinfo || !view ? undefined : await findBanner(memory, BANNER_FROM, BANNER_TO, checkpoint);
  if (vmcoreinfo === undefined && banner === undefined) return undefined;
  return {
    architecture: "i386",
    ...facts,
    release: facts.release ?? fact(banner, "linux_banner"),
    pagingLevels: view && fact(view.tables.shape.levels.length, view.source),
    root: view && fact(view.tables.root, view === own ? "VMCOREINFO" : view.source),
    physBase: undefined,
    pageOffset: view && fact(view.pageOffset, view.source),
    text: undefined,
    warnings: view === undefined ? [NO_DIRECT_MAP] : [],
  };
}

const NO_DIRECT_MAP: Warning = {
  code: "KRN004",
  message: "no direct map of physical memory found: PAGE_OFFSET is unknown",
};

/** The direct map holds the root and the text of a 32-bit kernel: both must translate by the same offset. */
export function viewOfVmcoreinfo32(memory: PhysicalMemory, vmcoreinfo: Vmcoreinfo): View | undefined {
  const symbol = vmcoreinfo.symbol("swapper_pg_dir");
  if (symbol === undefined || symbol >= 1n << 32n) return undefined;
  const probe = vmcoreinfo.symbol("_stext") ?? symbol;
  const shape = vmcoreinfo.get("CONFIG_X86_PAE") === "y" ? PAE : THIRTY_TWO_BIT_PSE;
  for (const pageOffset of PAGE_OFFSETS.filter((offset) => offset <= symbol)) {
    const tables = new PageTables(memory, Number(symbol - pageOffset), shape);
    if (isDirect(tables, pageOffset, Number(probe - pageOffset))) {
      return { tables, pageOffset, source: "page tables" };
    }
  }
  return undefined;
}

function viewOfStates(memory: PhysicalMemory, states: readonly X86State[]): View | undefined {
  for (const { vcpu, tables } of tablesOfStates(memory, states)) {
    if (isLongMode(tables.shape)) continue;
    const pageOffset = PAGE_OFFSETS.find(
      (offset) => isDirect(tables, offset, PROBE) && isDirect(tables, offset, tables.root),
    );
    if (pageOffset !== undefined) return { tables, pageOffset, source: `CR3 of vCPU ${vcpu}` };
  }
  return undefined;
}

function isDirect(tables: PageTables, pageOffset: bigint, physical: number): boolean {
  const mapping = tables.translate(pageOffset + BigInt(physical));
  return mapping.mapped && mapping.physical === physical && !mapping.user;
}
