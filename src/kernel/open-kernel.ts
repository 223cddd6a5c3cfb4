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
import { placeVmlinux } from "./place-vmlinux.ts";
import { KernelReader } from "./reader.ts";
import type { SymbolTable } from "./symbol-table.ts";
import type { Vmcoreinfo } from "./vmcoreinfo.ts";
import type { Vmlinux } from "./vmlinux.ts";

/** Where a kernel's own symbols were read. */
export type SymbolSource =
  | ({ readonly kind: "kallsyms" } & Pick<Kallsyms, "form" | "source" | "total">)
  /** `shift`: by how much KASLR moved them. */
  | { readonly kind: "vmlinux"; readonly file: string; readonly shift: bigint };

/** Where a kernel's own types were read. */
export type TypeSource = "memory" | "file";

/** As much of an x86-64 Linux kernel as could be read. */
export interface KernelParts {
  readonly reader: KernelReader;
  readonly image: LinuxImage;
  /** Of the kernel's page tables, 4 or 5 levels, and of its processes'. */
  readonly shape: PagingShape;
  readonly symbols: LinuxSymbols | undefined;
  readonly symbolSource: SymbolSource | undefined;
  readonly types: BtfTypes | undefined;
  readonly typeSource: TypeSource | undefined;
  /** Why symbols or types could not be read from memory, whether files have them or not. */
  readonly missing: { readonly symbols?: string | undefined; readonly types?: string | undefined };
  /** Why a file's are not used. */
  readonly refused: { readonly vmlinux?: string | undefined; readonly types?: string | undefined };
  /** What could not be read of it, a sentence each without a full stop. */
  readonly problems: readonly string[];
}

/** An x86-64 Linux kernel whose symbols and types are known. */
export interface LinuxKernel extends Kernel, KernelParts {
  readonly symbols: LinuxSymbols;
  readonly types: BtfTypes;
}

/** A kernel, or why it cannot be read. */
export type OpenedKernel = (
  | { readonly kernel: LinuxKernel; readonly reason?: undefined; readonly lacks?: undefined }
  /** `lacks`: what files could stand in for. */
  | { readonly kernel?: undefined; readonly reason: string; readonly lacks?: "symbols" | "types" | undefined }
) & { readonly refused: KernelParts["refused"] };

/** What is known of a kernel from files, for what its memory does not hold. */
export interface KernelFiles {
  readonly types?: BtfTypes | undefined;
  readonly vmlinux?: Vmlinux | undefined;
}

/** What is known of a kernel beforehand. */
export interface KernelEvidence {
  readonly image: LinuxImage;
  readonly vmcoreinfo?: Vmcoreinfo | undefined;
  readonly files?: KernelFiles | undefined;
}

/**
 * Reads what a kernel says of itself: its symbols (CONFIG_KALLSYMS) and types (BTF, 5.2+), its modules' too. Nothing
 * but the dump is needed; files stand in for what is not in memory.
 * @returns the kernel, or why it cannot be read
 */
export function openKernel(memory: PhysicalMemory, evidence: KernelEvidence): OpenedKernel {
  const parts = readKernel(memory, evidence);
  if (parts === undefined) return { reason: "its page tables are not known", refused: {} };
  const { symbols, types, missing, refused } = parts;
  if (symbols === undefined)
    return { reason: missing.symbols ?? "it has no symbols", lacks: "symbols", refused };
  if (types === undefined) return { reason: missing.types ?? "it has no types", lacks: "types", refused };
  return { kernel: { ...parts, symbols, types }, refused };
}

/** `openKernel`, of as much as there is; undefined where the kernel's page tables are not known. */
export function readKernel(memory: PhysicalMemory, evidence: KernelEvidence): KernelParts | undefined {
  const { image, vmcoreinfo } = evidence;
  const root = image.root?.value;
  if (image.architecture !== "x86_64" || root === undefined) return undefined;
  const levels = image.pagingLevels?.value === 5 ? FIVE_LEVEL : FOUR_LEVEL;
  const shape = withoutAddressBits(levels, vmcoreinfo?.number("sme_mask") ?? 0n);
  const reader = new KernelReader(memory, new PageTables(memory, root, shape));
  const named = symbolsOf(reader, evidence);
  const typed = typesOf(reader, evidence, named.table);
  const { table, source } = named;
  return {
    reader,
    image,
    shape,
    symbols: table && new LinuxSymbols(table, reader, typed.types),
    symbolSource: source,
    types: typed.types,
    typeSource: typed.source,
    missing: { symbols: named.missing, types: typed.missing },
    refused: { vmlinux: named.refused, types: typed.refused },
    problems: typed.problems,
  };
}

interface Named {
  readonly table: SymbolTable | undefined;
  readonly source: SymbolSource | undefined;
  readonly missing: string | undefined;
  readonly refused: string | undefined;
}

/** The kernel's own table; a vmlinux's where there is none, or where it names no variables. */
function symbolsOf(reader: KernelReader, { image, vmcoreinfo, files = {} }: KernelEvidence): Named {
  const { kallsyms, reason } = readKallsyms(reader, { vmcoreinfo, image: image.text?.value });
  const own =
    kallsyms &&
    ({
      table: kallsyms.symbols,
      source: { kind: "kallsyms", form: kallsyms.form, source: kallsyms.source, total: kallsyms.total },
    } as const);
  const missing = own === undefined || namesVariables(own.table) ? reason : NO_VARIABLES;
  const nothing = { table: undefined, source: undefined };
  if (files.vmlinux === undefined) return { ...(own ?? nothing), missing, refused: undefined };
  const placed = placeVmlinux(files.vmlinux, reader, { image, vmcoreinfo });
  // Another kernel's is told even where nothing is wanted of it.
  if (placed.symbols === undefined) return { ...(own ?? nothing), missing, refused: placed.reason };
  if (own !== undefined && missing === undefined) return { ...own, missing, refused: undefined };
  const { file } = files.vmlinux;
  const source = { kind: "vmlinux", file, shift: placed.shift } as const;
  return { table: placed.symbols, source, missing, refused: undefined };
}

const NO_VARIABLES = "it names functions only (a kernel without CONFIG_KALLSYMS_ALL)";

const namesVariables = (table: SymbolTable): boolean => table.addressOf("init_task") !== undefined;

interface Typed {
  readonly types: BtfTypes | undefined;
  readonly source: TypeSource | undefined;
  readonly missing: string | undefined;
  readonly refused: string | undefined;
  readonly problems: readonly string[];
}

/** The kernel's own types and, behind them, those of modules that only files have. */
function typesOf(
  reader: KernelReader,
  { image, files = {} }: KernelEvidence,
  symbols: SymbolTable | undefined,
): Typed {
  const found = btfOfKernel(reader, { symbols, image: image.text?.value });
  const refused = files.types && misfitOf(files.types, reader, symbols);
  const [fileOwn, ...fileModules] = refused === undefined ? (files.types?.all ?? []) : [];
  const own = found.btf ?? fileOwn;
  const missing = found.btf === undefined ? found.reason : undefined;
  if (own === undefined) return { types: undefined, source: undefined, missing, refused, problems: [] };
  const { btfs, problems } = modulesOf(reader, symbols, own);
  const known = new Set(btfs.map(({ name }) => name));
  const types = new BtfTypes(own, [...btfs, ...fileModules.filter(({ name }) => !known.has(name))]);
  return { types, source: found.btf === undefined ? "file" : "memory", missing, refused, problems };
}

/** Whether a file's types are another kernel's: the idle task's name is not where they say. */
function misfitOf(
  types: BtfTypes,
  reader: KernelReader,
  symbols: SymbolTable | undefined,
): string | undefined {
  const init = symbols?.addressOf("init_task");
  const comm = types.member("task_struct.comm");
  if (comm === undefined) return "they do not describe task_struct";
  const text = init === undefined ? undefined : reader.bytes(init + BigInt(comm.offset), IDLE.length);
  return text === undefined || text.equals(IDLE) ? undefined : "they do not fit this kernel's init_task";
}

/** The idle task of the first processor: "swapper", or "swapper/0" once others run. */
const IDLE = Buffer.from("swapper");

function modulesOf(
  reader: KernelReader,
  symbols: SymbolTable | undefined,
  vmlinux: Btf,
): { readonly btfs: readonly Btf[]; readonly problems: readonly string[] } {
  const list = symbols?.addressOf("btf_modules");
  if (list === undefined) return { btfs: [], problems: [] };
  const { modules, problems } = btfOfModules(reader, vmlinux, list);
  const told = problems.map(({ module, reason }) => `${module ?? "a module"}: ${reason}`);
  return { btfs: modules, problems: told };
}
