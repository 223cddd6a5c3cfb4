import type { LinuxKernel } from "../kernel/open-kernel.ts";
import type { TaskList } from "../kernel/tasks.ts";
import { offsetOf } from "../kernel/types.ts";

/** Descriptors looked at of a process, and of all. */
const MAX_FILES = 65_536;
const MAX_ALL_FILES = 2 ** 20;

/**
 * Addresses of the struct kvm that processes have open: files whose operations release a VM. It needs neither `vm_list`
 * nor a symbol of data.
 */
export function vmsOfFiles(kernel: LinuxKernel, { tasks }: TaskList): ReadonlySet<bigint> {
  const found = new Set<bigint>();
  const release = new Set(kernel.symbols.named("kvm_vm_release").map(({ address }) => address));
  const layout = layoutOf(kernel);
  if (layout === undefined || release.size === 0) return found;
  const { reader } = kernel;
  const operations = new Map<bigint, boolean>();
  const budget = { files: MAX_ALL_FILES };
  const leaders = tasks.filter(({ pid, tgid, mm }) => pid === tgid && mm !== undefined);
  for (const file of leaders.flatMap(({ address }) => openFiles(kernel, layout, address, budget))) {
    const of = reader.u64(file + layout.operations);
    if (of === undefined) continue;
    if (!operations.has(of)) operations.set(of, release.has(reader.u64(of + layout.release) ?? 0n));
    const kvm = operations.get(of) ? reader.u64(file + layout.data) : undefined;
    if (kvm !== undefined && kvm !== 0n) found.add(kvm);
  }
  return found;
}

/** Addresses of the struct file that a task has open. */
function openFiles(
  kernel: LinuxKernel,
  layout: FilesLayout,
  task: bigint,
  budget: { files: number },
): readonly bigint[] {
  const { reader } = kernel;
  const table = follow(kernel, task + layout.files, layout.table);
  const array = table === undefined ? undefined : reader.u64(table + layout.descriptors);
  if (table === undefined || array === undefined) return [];
  const count = Math.min(reader.u32(table + layout.count) ?? 0, MAX_FILES, budget.files);
  budget.files -= count;
  const bytes = Buffer.alloc(8 * count);
  const known = Math.floor(reader.read(array, bytes) / 8);
  return Array.from({ length: known }, (_, i) => bytes.readBigUInt64LE(8 * i)).filter((file) => file !== 0n);
}

/** The pointer at `offset` of what the pointer at `pointer` leads to. */
function follow({ reader }: LinuxKernel, pointer: bigint, offset: bigint): bigint | undefined {
  const target = reader.u64(pointer);
  return target === undefined || target === 0n ? undefined : reader.u64(target + offset) || undefined;
}

interface FilesLayout {
  readonly files: bigint;
  readonly table: bigint;
  readonly count: bigint;
  readonly descriptors: bigint;
  readonly operations: bigint;
  readonly data: bigint;
  readonly release: bigint;
}

function layoutOf({ types }: LinuxKernel): FilesLayout | undefined {
  const at = (path: string) => offsetOf(types, path);
  const places = {
    files: at("task_struct.files"),
    table: at("files_struct.fdt"),
    count: at("fdtable.max_fds"),
    descriptors: at("fdtable.fd"),
    operations: at("file.f_op"),
    data: at("file.private_data"),
    release: at("file_operations.release"),
  };
  const entries = Object.entries(places);
  if (entries.some(([, offset]) => offset === undefined)) return undefined;
  return Object.fromEntries(
    entries.map(([name, offset]) => [name, BigInt(offset!)]),
  ) as unknown as FilesLayout;
}
