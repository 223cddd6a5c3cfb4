import { MAX_CPUS } from "./cpus.ts";
import type { KernelReader } from "./reader.ts";
import type { Task } from "./tasks.ts";
import { type KernelTypes, offsetOf } from "./types.ts";

/** What a task is: a process, a further thread of one, or a thread of the kernel's own. */
export type TaskKind = "process" | "thread" | "kernel";

/** More of a task than finding it takes; undefined is what the kernel does not tell. */
export interface TaskFacts {
  readonly kind: TaskKind;
  /** tgid of its parent; 0 of what the kernel itself started. */
  readonly parent: number | undefined;
  /** The processor it runs on, or ran on last. */
  readonly cpu: number | undefined;
  /** Whether that processor runs it. */
  readonly running: boolean | undefined;
}

/** PF_KTHREAD (include/linux/sched.h), since 2.6.27 the same bit. */
const PF_KTHREAD = 0x20_0000;

/** Reads more of tasks of one kernel. */
export class TaskReader {
  readonly #reader: KernelReader;
  readonly #offsets: Readonly<Record<"flags" | "parent" | "tgid" | "cpu" | "onCpu", number | undefined>>;

  constructor(reader: KernelReader, types: KernelTypes) {
    this.#reader = reader;
    this.#offsets = {
      flags: offsetOf(types, "task_struct.flags"),
      parent: offsetOf(types, "task_struct.real_parent"),
      tgid: offsetOf(types, "task_struct.tgid"),
      // In thread_info since 5.16, and before 4.9; task_struct.cpu between (CONFIG_THREAD_INFO_IN_TASK).
      cpu: offsetOf(types, "task_struct.thread_info.cpu", "task_struct.cpu"),
      onCpu: offsetOf(types, "task_struct.on_cpu"),
    };
  }

  of(task: Task): TaskFacts {
    const { flags, parent, tgid, cpu, onCpu } = this.#offsets;
    const u32 = (offset: number | undefined) =>
      offset === undefined ? undefined : this.#reader.u32(task.address + BigInt(offset));
    const marks = u32(flags);
    const number = u32(cpu);
    const runs = u32(onCpu);
    const link = parent === undefined ? undefined : this.#reader.u64(task.address + BigInt(parent));
    return {
      kind: kindOf(task, marks),
      parent: link === undefined || tgid === undefined ? undefined : this.#reader.i32(link + BigInt(tgid)),
      cpu: number !== undefined && number < MAX_CPUS ? number : undefined,
      running: runs === undefined ? undefined : runs !== 0,
    };
  }
}

/** A thread of the kernel's may borrow a process's memory, one that has exited has none any more: its flags tell. */
function kindOf({ pid, tgid, mm }: Task, flags: number | undefined): TaskKind {
  const isKernels = flags === undefined ? mm === undefined : (flags & PF_KTHREAD) !== 0;
  if (isKernels) return "kernel";
  return pid === tgid ? "process" : "thread";
}
