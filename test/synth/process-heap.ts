import type { KernelHeap } from "./kernel-heap.ts";

/** Layouts of what the core of a process is made from: of no kernel in particular. */
export const PROCESS_LAYOUT = {
  "file.f_path.dentry": 24,
  "file.f_path.mnt": 40,
  "dentry.d_parent": 8,
  "dentry.d_name.name": 32,
  "dentry.d_name.len": [44, 4],
  "dentry.d_op": 48,
  "dentry.d_hash.pprev": 56,
  "dentry_operations.d_dname": 16,
  "mount.mnt": 16,
  "mount.mnt_parent": 56,
  "mount.mnt_mountpoint": 72,
  "vfsmount.mnt_root": 8,
  "task_struct.stack": 64,
  "task_struct.stack_vm_area": 80,
  "vm_struct.nr_pages": [24, 4],
  "task_struct.on_cpu": [92, 4],
  "task_struct.flags": [96, 4],
  "task_struct.static_prio": [100, 4],
  "task_struct.real_parent": 104,
  "task_struct.cred": 112,
  "task_struct.signal": 120,
  "task_struct.tgid": [128, 4],
  "task_struct.thread.fsbase": 136,
  "task_struct.thread.gsbase": 144,
  "task_struct.thread.ds": [152, 2],
  "task_struct.thread.es": [154, 2],
  "task_struct.thread.fsindex": [156, 2],
  "task_struct.thread.gsindex": [158, 2],
  "task_struct.thread.fpu": [192, 64],
  "fpu.fpstate": 16,
  "fpu.__task_fpstate": 24,
  "fpstate.regs": [64, 4096],
  "cred.uid": [16, 4],
  "cred.gid": [20, 4],
  "signal_struct.pids": [40, 8, 4],
  "pid.numbers.nr": [80, 4],
  "mm_struct.saved_auxv": [32, 8, 12],
} as const;

type Path = keyof typeof PROCESS_LAYOUT;

export const offsetIn = (path: Path): bigint => {
  const row = PROCESS_LAYOUT[path];
  return BigInt(typeof row === "number" ? row : row[0]);
};

export function setIn(heap: KernelHeap, structure: bigint, path: Path, value: bigint): void {
  const row = PROCESS_LAYOUT[path];
  heap.put(structure + offsetIn(path), value, typeof row === "number" ? 8 : Math.min(8, row[1]));
}

/** A directory entry; the root of a tree is its own parent. */
export function dentry(heap: KernelHeap, name: string, parent?: bigint): bigint {
  const made = heap.take(64);
  const text = heap.take(name.length + 1);
  heap.text(text, name);
  setIn(heap, made, "dentry.d_parent", parent ?? made);
  setIn(heap, made, "dentry.d_name.name", text);
  setIn(heap, made, "dentry.d_name.len", BigInt(name.length));
  setIn(heap, made, "dentry.d_hash.pprev", 1n);
  return made;
}

/** A mount of the tree under `root`; without a place, its own parent. */
export function mount(heap: KernelHeap, root: bigint, on?: { parent: bigint; at: bigint }): bigint {
  const made = heap.take(80);
  heap.put(made + offsetIn("mount.mnt") + offsetIn("vfsmount.mnt_root"), root);
  setIn(heap, made, "mount.mnt_parent", on?.parent ?? made);
  setIn(heap, made, "mount.mnt_mountpoint", on?.at ?? root);
  return made;
}

/** @param mounted address of a struct mount */
export function file(heap: KernelHeap, entry: bigint, mounted: bigint): bigint {
  const made = heap.take(64);
  setIn(heap, made, "file.f_path.dentry", entry);
  setIn(heap, made, "file.f_path.mnt", mounted + offsetIn("mount.mnt"));
  return made;
}
