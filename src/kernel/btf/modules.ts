import type { KernelReader } from "../reader.ts";
import { offsetOf } from "../types.ts";
import { Btf } from "./btf.ts";
import { BTF_HEADER_BYTES } from "./format.ts";
import { BtfTypes } from "./types.ts";

/** amdgpu's, the largest, has 2.6 MiB in 6.12. */
export const MAX_MODULE_BTF = 16 * 2 ** 20;
/** Of all modules together: hosts load some hundred, and all 4230 of Debian's 6.12 have 69 MiB. */
const MAX_TOTAL = 64 * 2 ** 20;
const MAX_MODULES = 4096;
/** MODULE_NAME_LEN is 56. */
const NAME_LIMIT = 64;

/** A module whose types are not known, and why. */
export interface ModuleBtfProblem {
  /** undefined where not even its name is known. */
  readonly module: string | undefined;
  /** A sentence without a full stop. */
  readonly reason: string;
}

export interface ModuleBtfs {
  /** In the order of the kernel's list: the one loaded last comes first. */
  readonly modules: readonly Btf[];
  readonly problems: readonly ModuleBtfProblem[];
}

/** Offsets of `struct btf_module` and `struct btf` (kernel/bpf/btf.c), which differ from kernel to kernel. */
interface Offsets {
  readonly list: number;
  readonly btf: number;
  readonly data: number;
  readonly dataSize: number;
  readonly name: number;
  readonly startId: number;
}

/**
 * The BTF of loaded modules (5.11+, CONFIG_DEBUG_INFO_BTF_MODULES), split from the kernel's: what `btf_modules` lists,
 * since `module.btf_data` is cleared once a module is loaded. Bounded: 4096 modules, 16 MiB each, 64 MiB together.
 * @param list address of `btf_modules`
 */
export function btfOfModules(reader: KernelReader, vmlinux: Btf, list: bigint): ModuleBtfs {
  const offsets = offsetsIn(vmlinux);
  if (offsets === undefined)
    return { modules: [], problems: [unnamed("the kernel's BTF has no btf_module")] };
  const modules: Btf[] = [];
  const problems: ModuleBtfProblem[] = [];
  const seen = new Set<bigint>([list]);
  let total = 0;
  let link = reader.u64(list);
  while (link !== list) {
    if (link === undefined || seen.has(link) || seen.size > MAX_MODULES) {
      const how = link === undefined ? "is not all in this dump" : "does not end";
      problems.push(unnamed(`the list btf_modules ${how}`));
      break;
    }
    seen.add(link);
    const read = readModule(reader, vmlinux, link - BigInt(offsets.list), offsets, MAX_TOTAL - total);
    if (read.btf !== undefined) modules.push(read.btf);
    if (read.reason !== undefined) problems.push({ module: read.module, reason: read.reason });
    total += read.size;
    link = reader.u64(link);
  }
  return { modules, problems };
}

const unnamed = (reason: string): ModuleBtfProblem => ({ module: undefined, reason });

function offsetsIn(vmlinux: Btf): Offsets | undefined {
  const types = new BtfTypes(vmlinux);
  const at = (path: string) => offsetOf(types, path);
  const [list, btf, data, dataSize] = ["btf_module.list", "btf_module.btf", "btf.data", "btf.data_size"].map(
    at,
  );
  const [name, startId] = ["btf.name", "btf.start_id"].map(at);
  const required = [list, btf, data, dataSize, name, startId];
  if (required.includes(undefined)) return undefined;
  return { list: list!, btf: btf!, data: data!, dataSize: dataSize!, name: name!, startId: startId! };
}

interface ModuleRead {
  readonly module: string | undefined;
  readonly btf?: Btf;
  readonly reason?: string | undefined;
  /** Bytes asked of memory, whether they were there or not. */
  readonly size: number;
}

/** @param entry address of a `struct btf_module` @param limit bytes its BTF may still have */
function readModule(
  reader: KernelReader,
  vmlinux: Btf,
  entry: bigint,
  offsets: Offsets,
  limit: number,
): ModuleRead {
  const btfAt = reader.u64(entry + BigInt(offsets.btf));
  const missing = { reason: "its struct btf is not in this dump", size: 0 };
  if (btfAt === undefined) return { module: undefined, ...missing };
  const module = reader.text(btfAt + BigInt(offsets.name), NAME_LIMIT);
  const data = reader.u64(btfAt + BigInt(offsets.data));
  const size = reader.u32(btfAt + BigInt(offsets.dataSize));
  if (module === undefined || data === undefined || size === undefined) return { module, ...missing };
  if (size < BTF_HEADER_BYTES || size > Math.min(MAX_MODULE_BTF, limit)) {
    return { module, reason: `its BTF claims ${size} bytes`, size: 0 };
  }
  const bytes = reader.bytes(data, size);
  if (bytes === undefined) return { module, reason: "its BTF is not all in this dump", size };
  const startId = reader.u32(btfAt + BigInt(offsets.startId));
  const btf = new Btf(module, bytes, { base: vmlinux, startId });
  const reason = btf.problem?.message;
  return btf.end > btf.start
    ? { module, btf, reason, size }
    : { module, reason: reason ?? "BTF without types", size };
}
