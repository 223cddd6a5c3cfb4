import type { PhysicalMemory } from "../core/memory.ts";
import { PageTables } from "../x86/paging.ts";
import { FIVE_LEVEL, FOUR_LEVEL, type PagingShape, withoutAddressBits } from "../x86/paging-shapes.ts";
import type { Btf } from "./btf/btf.ts";
import { btfOfKernel } from "./btf/find.ts";
import { btfOfModules } from "./btf/modules.ts";
import { BtfTypes } from "./btf/types.ts";
import { type Kallsyms, readKallsyms } from "./kallsyms.ts";
import type { Kernel } from "./kernel.ts";
import type { LinuxImage } from "./linux-image.ts";
import { LinuxSymbols } from "./linux-symbols.ts";
import { KernelReader } from "./reader.ts";
import type { Vmcoreinfo } from "./vmcoreinfo.ts";

/** An x86-64 Linux kernel whose symbols and types were read from its own memory. */
export interface LinuxKernel extends Kernel {
  readonly image: LinuxImage;
  /** Of the kernel's page tables, 4 or 5 levels, and of its processes'. */
  readonly shape: PagingShape;
  readonly kallsyms: Kallsyms;
  readonly symbols: LinuxSymbols;
  readonly types: BtfTypes;
  /** What could not be read of it, a sentence each without a full stop. */
  readonly problems: readonly string[];
}

export type OpenedKernel =
  | { readonly kernel: LinuxKernel; readonly reason?: undefined }
  | { readonly kernel?: undefined; readonly reason: string };

/** What is known of a kernel beforehand. */
export interface KernelEvidence {
  readonly image: LinuxImage;
  readonly vmcoreinfo?: Vmcoreinfo | undefined;
}

/**
 * Reads what a kernel says of itself: its symbols (CONFIG_KALLSYMS) and types (BTF, 5.2+), its modules' too. Nothing
 * but the dump is needed.
 * @returns the kernel, or why it cannot be read
 */
export function openKernel(memory: PhysicalMemory, { image, vmcoreinfo }: KernelEvidence): OpenedKernel {
  const root = image.root?.value;
  if (image.architecture !== "x86_64" || root === undefined) {
    return { reason: "its page tables are not known" };
  }
  const levels = image.pagingLevels?.value === 5 ? FIVE_LEVEL : FOUR_LEVEL;
  const shape = withoutAddressBits(levels, vmcoreinfo?.number("sme_mask") ?? 0n);
  const reader = new KernelReader(memory, new PageTables(memory, root, shape));
  const text = image.text?.value;
  const { kallsyms, reason } = readKallsyms(reader, { vmcoreinfo, image: text });
  if (kallsyms === undefined) return { reason };
  const found = btfOfKernel(reader, { symbols: kallsyms.symbols, image: text });
  if (found.btf === undefined) return { reason: found.reason };
  const modules = modulesOf(reader, kallsyms, found.btf);
  const types = new BtfTypes(found.btf, modules.btfs);
  const symbols = new LinuxSymbols(kallsyms.symbols, reader, types);
  return { kernel: { reader, image, shape, kallsyms, symbols, types, problems: modules.problems } };
}

function modulesOf(
  reader: KernelReader,
  { symbols }: Kallsyms,
  vmlinux: Btf,
): { readonly btfs: readonly Btf[]; readonly problems: readonly string[] } {
  const list = symbols.addressOf("btf_modules");
  if (list === undefined) return { btfs: [], problems: [] };
  const { modules, problems } = btfOfModules(reader, vmlinux, list);
  const told = problems.map(({ module, reason }) => `${module ?? "a module"}: ${reason}`);
  return { btfs: modules, problems: told };
}
