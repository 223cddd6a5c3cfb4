import { hex64, plural } from "../core/text.ts";
import type { KernelReader } from "./reader.ts";
import type { KernelSymbols } from "./symbols.ts";
import { taintLetters } from "./taints.ts";
import { type KernelTypes, offsetOf } from "./types.ts";
import { listNodes } from "./walk/list.ts";
import { collect, type WalkProblem } from "./walk/outcome.ts";

/** Addresses `[base, base + size)` of a module; size in bytes. */
export interface ModuleRegion {
  readonly base: bigint;
  readonly size: number;
}

/** `enum module_state` (include/linux/module.h), whose values never changed; unformed since 3.8. */
const STATES = ["live", "coming", "going", "unformed"] as const;
export type ModuleState = (typeof STATES)[number];

/** A loaded module. */
export interface KernelModule {
  readonly name: string;
  /** Of its struct module. */
  readonly address: bigint;
  readonly state: ModuleState | undefined;
  /** Text first, as /proc/modules has it; what was freed after initialisation is not there. Empty where not known. */
  readonly regions: readonly ModuleRegion[];
  /** How it taints the kernel, as /proc/modules has it: "OE"; "" of one that does not. */
  readonly taints?: string | undefined;
}

/** Modules in the order of the kernel's list, the newest first. */
export interface ModuleList {
  readonly modules: readonly KernelModule[];
  /** Whether the list was followed back to its head. */
  readonly complete: boolean;
  /** Why it was not. */
  readonly reason?: string | undefined;
}

/** Machines load a few hundred. */
const MAX_MODULES = 4096;
/** `MODULE_NAME_LEN`: 64 − sizeof(long), the NUL included. */
const MODULE_NAME_LEN = 56;
const NAME = /^[\x21-\x7e]+$/;
/**
 * struct module begins `enum module_state state; struct list_head list; char name[MODULE_NAME_LEN];` in all 64-bit
 * kernels since 2.6: enough for names where types are not known.
 */
const LIST_OFFSET = 8;
const NAME_OFFSET = 24;
/** MODULES_LEN is 1.5 GiB at most; one module is smaller by far. */
const MAX_REGION = 2 ** 31;
/** `MOD_MEM_NUM_TYPES` is 7. */
const MAX_REGIONS = 16;

/**
 * Follows the list `modules`. Without types only names are known.
 * @param symbols the kernel's own
 */
export function readModules(
  reader: KernelReader,
  symbols: KernelSymbols,
  types: KernelTypes | undefined,
): ModuleList {
  const head = symbols.addressOf("modules");
  if (head === undefined) return { modules: [], complete: false, reason: "the kernel has no symbol modules" };
  const listOffset = (types && offsetOf(types, "module.list")) ?? LIST_OFFSET;
  const { items, outcome } = collect(listNodes(reader, head, MAX_MODULES));
  const modules = items
    .map((node) => readModule(reader, BigInt.asUintN(64, node - BigInt(listOffset)), types))
    .filter((module) => module !== undefined);
  if (!outcome.complete) {
    return {
      modules,
      complete: false,
      reason: `the list ${BROKEN[outcome.reason]} at ${hex64(outcome.address)}`,
    };
  }
  const lost = items.length - modules.length;
  if (lost === 0) return { modules, complete: true };
  return { modules, complete: false, reason: `${lost} of ${plural(items.length, "link")} lead to no module` };
}

const BROKEN: Readonly<Record<WalkProblem, string>> = {
  unreadable: "is not all in memory: it ends",
  cycle: "runs in a circle",
  limit: `has more than ${MAX_MODULES} modules`,
  senseless: "makes no sense",
  "unknown-layout": "is not described",
};

function readModule(
  reader: KernelReader,
  address: bigint,
  types: KernelTypes | undefined,
): KernelModule | undefined {
  const nameOffset = (types && offsetOf(types, "module.name")) ?? NAME_OFFSET;
  const name = reader.text(address + BigInt(nameOffset), MODULE_NAME_LEN);
  if (name === undefined || !NAME.test(name)) return undefined;
  const stateOffset = types && offsetOf(types, "module.state");
  const state = stateOffset === undefined ? undefined : reader.u32(address + BigInt(stateOffset));
  // unsigned int until 4.10, unsigned long since: its low half has all there are.
  const taintsOffset = types && offsetOf(types, "module.taints");
  const taints = taintsOffset === undefined ? undefined : reader.u32(address + BigInt(taintsOffset));
  return {
    name,
    address,
    state: state === undefined ? undefined : STATES[state],
    regions: types === undefined ? [] : readRegions(reader, address, types),
    taints: taints === undefined ? undefined : taintLetters(BigInt(taints)),
  };
}

/** module.mem[] since 6.4, module.core_layout and init_layout before (4.5+). */
function readRegions(reader: KernelReader, address: bigint, types: KernelTypes): ModuleRegion[] {
  const regions: ModuleRegion[] = [];
  const add = (base: number | undefined, size: number | undefined, start: number): void => {
    if (base === undefined || size === undefined) return;
    const region = {
      base: reader.u64(address + BigInt(start + base)) ?? 0n,
      size: reader.u32(address + BigInt(start + size)) ?? 0,
    };
    if (region.base !== 0n && region.size > 0 && region.size <= MAX_REGION) regions.push(region);
  };
  const memory = types.member("module.mem");
  if (memory !== undefined) {
    const base = offsetOf(types, "module_memory.base");
    const size = offsetOf(types, "module_memory.size");
    for (let i = 0; i < Math.min(memory.count, MAX_REGIONS); i++) {
      add(base, size, memory.offset + i * memory.stride);
    }
    return regions;
  }
  for (const layout of ["module.core_layout", "module.init_layout"]) {
    add(offsetOf(types, `${layout}.base`), offsetOf(types, `${layout}.size`), 0);
  }
  return regions;
}
