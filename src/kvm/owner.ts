import { commandLine } from "../kernel/command-line.ts";
import type { LinuxKernel } from "../kernel/open-kernel.ts";
import { ProcessMemory } from "../kernel/process-memory.ts";
import type { Task } from "../kernel/tasks.ts";

/** The process that runs a VM. */
export interface Owner {
  readonly task: Task;
  /** As far as it is in the dump; empty when nothing of it is. */
  readonly argv: readonly string[];
}

/**
 * @param tasks by the address of their mm_struct, as `mm` is
 * @returns undefined where its process is not among the tasks: it is exiting, or the dump lacks it
 */
export function ownerOf(
  kernel: LinuxKernel,
  tasks: ReadonlyMap<bigint, Task>,
  mm: bigint,
): Owner | undefined {
  const task = tasks.get(mm);
  if (task === undefined) return undefined;
  const { reader, types, shape, symbols } = kernel;
  const memory = ProcessMemory.of(reader, types, mm, shape, symbols);
  const line = memory && commandLine(reader, types, mm, memory);
  return { task, argv: line?.argv ?? [] };
}

/**
 * The VM's name as its VMM was told it: QEMU's `-name [guest=]NAME[,…]`, `--id` of Firecracker, `--name` of crosvm.
 * @returns undefined when the command line has none
 */
export function nameOf({ argv }: Owner): string | undefined {
  for (const [i, option] of argv.entries()) {
    const value = argv[i + 1];
    if (value === undefined) continue;
    if (option === "-name" || option === "--name") return qemuName(textOf(value));
    if (option === "--id") return textOf(value);
  }
  return undefined;
}

/** Names are UTF-8 as a rule; what is not stays Latin-1. */
function textOf(latin1: string): string {
  const bytes = Buffer.from(latin1, "latin1");
  const text = bytes.toString("utf8");
  return Buffer.from(text).equals(bytes) ? text : latin1;
}

/** QEMU's options are separated by commas; one that is meant is written twice. No argument has a NUL. */
function qemuName(value: string): string | undefined {
  const options = value
    .replaceAll(",,", "\0")
    .split(",")
    .map((option) => option.replaceAll("\0", ","));
  const named = options.find((option) => option.startsWith("guest="));
  if (named !== undefined) return named.slice("guest=".length);
  const [first] = options;
  return first === undefined || first.includes("=") ? undefined : first;
}

/** What a VM is called: its name, or that of the process where it has none. */
export const shownName = (owner: Owner): string => nameOf(owner) ?? owner.task.comm;
