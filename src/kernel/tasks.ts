import { latin1 } from "../core/bytes.ts";
import type { KernelReader } from "./reader.ts";
import type { KernelSymbols } from "./symbols.ts";
import { type KernelTypes, type Member, offsetOf } from "./types.ts";
import { listNodes } from "./walk/list.ts";
import { COMPLETE, incomplete, type WalkOutcome } from "./walk/outcome.ts";

/** Tasks read of one kernel: four times what pid_max is unless a machine has more than 32 processors. */
const TASK_LIMIT = 2 ** 17;
/** PID_MAX_LIMIT of 64-bit kernels. */
const MAX_PID = 2 ** 22;
/** TASK_COMM_LEN is 16. */
const MAX_COMM = 64;

/** A thread; one whose `pid` is its `tgid` leads its process. */
export interface Task {
  /** Of its task_struct. */
  readonly address: bigint;
  readonly pid: number;
  readonly tgid: number;
  /** Up to 15 bytes, as Latin-1. */
  readonly comm: string;
  /** Its mm_struct; a kernel thread, or one that has exited, has none. */
  readonly mm: bigint | undefined;
  /** As ps shows it: R S D T t X Z P I. */
  readonly state: string | undefined;
}

export interface TaskList {
  /** Processes in the order of their creation, each followed by its other threads; without the idle tasks (pid 0). */
  readonly tasks: readonly Task[];
  /** How the walks over processes and their threads ended: the first that was not complete. */
  readonly outcome: WalkOutcome;
}

interface TaskLayout {
  /** Bytes of a task_struct that every one has. */
  readonly size: bigint;
  readonly tasks: bigint;
  readonly pid: bigint;
  readonly tgid: bigint;
  readonly comm: Member;
  readonly mm: bigint;
  readonly state: Member | undefined;
  readonly exitState: bigint | undefined;
  /** Threads of a process: signal_struct.thread_head → task_struct.thread_node (3.14+). */
  readonly threads: { readonly signal: bigint; readonly head: bigint; readonly node: bigint } | undefined;
}

/** All tasks that `init_task` leads to, at most 2^17. */
export function listTasks(reader: KernelReader, types: KernelTypes, symbols: KernelSymbols): TaskList {
  const init = symbols.addressOf("init_task");
  const layout = layoutOf(types);
  if (init === undefined || layout === undefined) {
    return { tasks: [], outcome: incomplete("unknown-layout", init ?? 0n) };
  }
  const list = new TaskWalk(reader, layout);
  list.walk(init + layout.tasks, layout.tasks, (task) => list.threadsOf(task));
  return { tasks: list.tasks, outcome: list.outcome };
}

/** The process with an mm_struct: of those that share one (vfork, CLONE_VM), the oldest. */
export function taskOfMm({ tasks }: TaskList, mm: bigint): Task | undefined {
  const found = tasks.find((task) => task.mm === mm);
  return found && (tasks.find(({ pid }) => pid === found.tgid) ?? found);
}

const isPid = (pid: number): boolean => pid >= 0 && pid <= MAX_PID;

/** Where tasks lie: damaged lists lead into the middle of one, many times. */
class TaskPlaces {
  readonly #size: bigint;
  /** By their address in units of a task's size: each unit has the beginning of one at most. */
  readonly #places = new Map<bigint, bigint>();

  constructor(size: bigint) {
    this.#size = size;
  }

  /** @returns `senseless` of one that is not aligned, or that overlaps another */
  take(task: bigint): "new" | "known" | "senseless" {
    const unit = task / this.#size;
    const own = this.#places.get(unit);
    if (own === task) return "known";
    if (own !== undefined || task % 8n !== 0n) return "senseless";
    const [below, above] = [this.#places.get(unit - 1n), this.#places.get(unit + 1n)];
    if (below !== undefined && task - below < this.#size) return "senseless";
    if (above !== undefined && above - task < this.#size) return "senseless";
    this.#places.set(unit, task);
    return "new";
  }
}

/** The same of all mm_structs, by their addresses. */
export function tasksByMm({ tasks }: TaskList): ReadonlyMap<bigint, Task> {
  const leaders = new Map<number, Task>();
  for (const task of tasks) if (!leaders.has(task.pid)) leaders.set(task.pid, task);
  const found = new Map<bigint, Task>();
  for (const task of tasks) {
    if (task.mm !== undefined && !found.has(task.mm)) found.set(task.mm, leaders.get(task.tgid) ?? task);
  }
  return found;
}

class TaskWalk {
  readonly tasks: Task[] = [];
  outcome: WalkOutcome = COMPLETE;
  readonly #reader: KernelReader;
  readonly #layout: TaskLayout;
  readonly #seen: TaskPlaces;
  /** List nodes left to be visited, all lists together: damaged lists may share their nodes. */
  #budget = 2 * TASK_LIMIT;

  constructor(reader: KernelReader, layout: TaskLayout) {
    this.#reader = reader;
    this.#layout = layout;
    this.#seen = new TaskPlaces(layout.size);
  }

  /** Takes the tasks of a list, in which each is linked by the node at `offset`. */
  walk(head: bigint, offset: bigint, found?: (task: bigint) => void): void {
    const nodes = listNodes(this.#reader, head, this.#budget);
    for (let step = nodes.next(); ; step = nodes.next()) {
      if (step.done) {
        this.#note(step.value);
        return;
      }
      this.#budget--;
      const task = step.value - offset;
      const place = this.#seen.take(task);
      if (place === "senseless") this.#note(incomplete("senseless", task));
      if (place === "new" && this.#take(task)) found?.(task);
      if (this.#budget > 0 && this.tasks.length < TASK_LIMIT) continue;
      this.#note(incomplete("limit", head));
      return;
    }
  }

  /** @returns false of what is no task */
  #take(task: bigint): boolean {
    const read = readTask(this.#reader, this.#layout, task);
    if (read === undefined) this.#note(incomplete("unreadable", task));
    else if (isPid(read.pid) && isPid(read.tgid)) this.tasks.push(read);
    else {
      this.#note(incomplete("senseless", task));
      return false;
    }
    return true;
  }

  /** Takes the other threads of the process that a task leads. */
  threadsOf(leader: bigint): void {
    const { threads } = this.#layout;
    const signal = threads && this.#reader.u64(leader + threads.signal);
    if (threads === undefined) this.#note(incomplete("unknown-layout", leader));
    else if (signal === undefined) this.#note(incomplete("unreadable", leader));
    else this.walk(signal + threads.head, threads.node);
  }

  #note(outcome: WalkOutcome): void {
    if (this.outcome.complete) this.outcome = outcome;
  }
}

function layoutOf(types: KernelTypes): TaskLayout | undefined {
  const at = (...paths: string[]): bigint | undefined => {
    const offset = offsetOf(types, ...paths);
    return offset === undefined ? undefined : BigInt(offset);
  };
  const [tasks, pid, tgid] = [at("task_struct.tasks"), at("task_struct.pid"), at("task_struct.tgid")];
  const [comm, mm] = [types.member("task_struct.comm"), at("task_struct.mm")];
  if (tasks === undefined || pid === undefined || tgid === undefined) return undefined;
  if (comm === undefined || mm === undefined) return undefined;
  const signal = at("task_struct.signal");
  const head = at("signal_struct.thread_head");
  const node = at("task_struct.thread_node");
  const known = signal !== undefined && head !== undefined && node !== undefined;
  const last = Math.max(...[tasks, pid, tgid, mm, node ?? 0n, signal ?? 0n].map(Number));
  return {
    // Not sizeof: of the FPU state at its end a kernel allocates what the processor needs.
    size: BigInt(Math.max(last + 8, comm.offset + comm.size)),
    tasks,
    pid,
    tgid,
    comm,
    mm,
    // Renamed with its type, long to unsigned int, in 5.14.
    state: types.member("task_struct.__state") ?? types.member("task_struct.state"),
    exitState: at("task_struct.exit_state"),
    threads: known ? { signal, head, node } : undefined,
  };
}

function readTask(reader: KernelReader, layout: TaskLayout, address: bigint): Task | undefined {
  const pid = reader.i32(address + layout.pid);
  const tgid = reader.i32(address + layout.tgid);
  const comm = reader.bytes(address + BigInt(layout.comm.offset), Math.min(layout.comm.size, MAX_COMM));
  if (pid === undefined || tgid === undefined || comm === undefined) return undefined;
  const end = comm.indexOf(0);
  return {
    address,
    pid,
    tgid,
    comm: latin1(end < 0 ? comm : comm.subarray(0, end)),
    mm: reader.u64(address + layout.mm) || undefined,
    state: stateOf(reader, layout, address),
  };
}

/** TASK_RUNNING, then a letter for each bit from 0 on: `task_state_array` (fs/proc/array.c, bits 0 to 5 since 2.6). */
const STATES = "RSDTtXZP";
const REPORTED = 0x7f;
const TASK_UNINTERRUPTIBLE = 0x2;
/** TASK_UNINTERRUPTIBLE | TASK_NOLOAD (4.2+). */
const TASK_IDLE = 0x402;
/** TASK_RTLOCK_WAIT (5.15+) and TASK_FROZEN (6.1+), which are shown as D. */
const SHOWN_UNINTERRUPTIBLE = 0x9000;

function stateOf(reader: KernelReader, layout: TaskLayout, address: bigint): string | undefined {
  if (layout.state === undefined) return undefined;
  // Of the long of before 5.14 the low half has all states.
  const state = reader.u32(address + BigInt(layout.state.offset));
  const exit = layout.exitState === undefined ? 0 : reader.u32(address + layout.exitState);
  if (state === undefined || exit === undefined) return undefined;
  if ((state & TASK_IDLE) === TASK_IDLE) return "I";
  const waits = (state & SHOWN_UNINTERRUPTIBLE) === 0 ? 0 : TASK_UNINTERRUPTIBLE;
  const reported = ((state | exit) & REPORTED) | waits;
  return STATES[32 - Math.clz32(reported)];
}
