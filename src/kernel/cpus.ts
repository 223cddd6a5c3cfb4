import type { KernelReader } from "./reader.ts";
import type { KernelSymbols } from "./symbols.ts";
import { type KernelTypes, offsetOf } from "./types.ts";

/** What is known of a kernel: without types less of what its symbols name can be read. */
export interface NamedKernel {
  readonly reader: KernelReader;
  readonly symbols: KernelSymbols;
  readonly types: KernelTypes | undefined;
}

/** Processors by number; undefined is what the kernel does not tell. */
export interface Cpus {
  /** Those that ran when the machine stopped; panic() takes all but its own offline unless kdump follows. */
  readonly online: readonly number[] | undefined;
  readonly present: readonly number[] | undefined;
  readonly possible: readonly number[] | undefined;
}

/** NR_CPUS with MAXSMP (arch/x86/Kconfig). */
export const MAX_CPUS = 8192;
const WORD = 64;

/** The kernel's CPU masks: `__cpu_online_mask` since 4.5, the array of words `cpu_online_bits` before. */
export function readCpus(kernel: NamedKernel): Cpus {
  const [online, present, possible] = ["online", "present", "possible"].map((name) =>
    maskOf(kernel, [`__cpu_${name}_mask`, `cpu_${name}_bits`]),
  );
  return { online, present, possible };
}

function maskOf(kernel: NamedKernel, names: readonly string[]): number[] | undefined {
  const { reader, symbols } = kernel;
  const mask = names.map((name) => symbols.addressOf(name)).find((address) => address !== undefined);
  const bits = bitsOf(kernel);
  if (mask === undefined || bits === undefined) return undefined;
  const cpus: number[] = [];
  for (let first = 0; first < bits; first += WORD) {
    const word = reader.u64(mask + BigInt(first / 8));
    if (word === undefined) return undefined;
    for (let bit = 0; bit < Math.min(WORD, bits - first); bit++) {
      if (((word >> BigInt(bit)) & 1n) === 1n) cpus.push(first + bit);
    }
  }
  return cpus;
}

/** Bits that a mask may have: what the machine needs (nr_cpu_ids), else what the kernel was built for. */
function bitsOf({ reader, symbols, types }: NamedKernel): number | undefined {
  const counter = symbols.addressOf("nr_cpu_ids");
  const ids = counter === undefined ? undefined : reader.u32(counter);
  const built = types?.sizeOf("cpumask");
  const bits = Math.min(ids ?? Number.POSITIVE_INFINITY, built === undefined ? MAX_CPUS : built * 8);
  return (ids === undefined && built === undefined) || bits === 0 ? undefined : Math.min(bits, MAX_CPUS);
}

/**
 * The tasks that processors run, by processor: `rq.curr` of each one's run queue; 0, the idle task's, included.
 * @returns addresses of task_structs; nothing of a processor whose run queue is not in memory
 */
export function runningTasks(kernel: NamedKernel, cpus: readonly number[]): ReadonlyMap<number, bigint> {
  const { reader, symbols, types } = kernel;
  const running = new Map<number, bigint>();
  const queues = symbols.addressOf("runqueues");
  const offsets = symbols.addressOf("__per_cpu_offset");
  const curr = types && offsetOf(types, "rq.curr");
  if (queues === undefined || offsets === undefined || curr === undefined) return running;
  for (const cpu of cpus) {
    const offset = reader.u64(offsets + BigInt(8 * cpu));
    if (offset === undefined) continue;
    const task = reader.u64(BigInt.asUintN(64, queues + offset + BigInt(curr)));
    if (task !== undefined && task !== 0n) running.set(cpu, task);
  }
  return running;
}
