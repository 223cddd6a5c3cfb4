import { SynthBtf } from "./btf.ts";
import { buildKallsyms, type SynthSymbol } from "./kallsyms.ts";
import { BANNER_AT, IMAGE, linuxGuest, TEXT, vmcoreinfoText } from "./linux-guest.ts";
import type { Piece } from "./memory.ts";
import { buildModules } from "./modules.ts";
import { ringLog } from "./printk.ts";

/**
 * The imaginary guest of `linux-guest.ts` with a kernel that explains itself: symbols, types, tasks, modules, a log and
 * the variables that `guestcore kernel` reads. Layouts are of no kernel in particular.
 */
export interface KernelSpec {
  /** Whether memory has kallsyms, BTF; default true. */
  readonly kallsyms?: boolean;
  readonly btf?: boolean;
  /** Of the kernel's symbols those that are no functions are left out. */
  readonly functionsOnly?: boolean;
  /** Values of variables instead of those of a kernel that panicked on CPU 1. */
  readonly panicCpu?: number;
}

export interface SynthKernel {
  readonly pieces: readonly Piece[];
  readonly vmcoreinfo: string;
  /** Sorted by address. */
  readonly symbols: readonly SynthSymbol[];
  readonly btf: Buffer;
}

export const MODULE_BASE = 0xffff_ffff_c060_0000n;
/** Physical address of what is laid into the image's data, and its virtual one. */
const DATA = IMAGE + 0x50_0000;
const BASE = TEXT + 0x50_0000n;
const DATA_SIZE = 0x8_0000;
const PER_CPU_QUEUES = 0x1000n;

/** Places in the data. */
const AT = {
  variables: 0x0,
  tasks: 0x1000,
  signals: 0x3000,
  queues: 0x4000,
  modules: 0x6000,
  log: 0x1_0000,
  kallsyms: 0x2_0000,
  btf: 0x4_0000,
} as const;

const VARIABLES = {
  __per_cpu_offset: 0x000,
  __cpu_online_mask: 0x100,
  __cpu_present_mask: 0x108,
  __cpu_possible_mask: 0x110,
  nr_cpu_ids: 0x118,
  panic_cpu: 0x120,
  tainted_mask: 0x128,
  saved_command_line: 0x130,
  init_uts_ns: 0x200,
  tk_core: 0x400,
} as const;
const COMMAND_LINE = 0x800;

const TASK = {
  size: 512,
  cpu: 8,
  state: 16,
  onCpu: 20,
  flags: 24,
  tasks: 32,
  pid: 48,
  tgid: 52,
  mm: 56,
  signal: 64,
  threadNode: 72,
  parent: 88,
  comm: 96,
} as const;

interface SynthTask {
  readonly pid: number;
  readonly tgid: number;
  readonly comm: string;
  readonly parent: number;
  readonly state: number;
  readonly cpu: number;
  readonly running?: boolean;
  readonly kernel?: boolean;
}

/** The idle task first, which no list has; processes before their threads. */
export const TASKS: readonly SynthTask[] = [
  { pid: 0, tgid: 0, comm: "swapper/0", parent: 0, state: 0, cpu: 0, running: true, kernel: true },
  { pid: 1, tgid: 1, comm: "init", parent: 0, state: 1, cpu: 0 },
  { pid: 2, tgid: 2, comm: "kthreadd", parent: 0, state: 1, cpu: 1, kernel: true },
  { pid: 3, tgid: 3, comm: "rcu_gp", parent: 2, state: 0x402, cpu: 0, kernel: true },
  { pid: 70, tgid: 70, comm: "vm\x1b[31m", parent: 1, state: 0, cpu: 1, running: true },
  { pid: 71, tgid: 70, comm: "worker", parent: 1, state: 2, cpu: 0 },
];

/**
 * Types of the imaginary kernel.
 * @param comm offset of task_struct.comm, where it is to be another's
 */
export function kernelBtf(comm: number = TASK.comm): Buffer {
  const btf = new SynthBtf();
  const u32 = btf.int("unsigned int", 4);
  const u64 = btf.int("long unsigned int", 8);
  const text = btf.int("char", 1);
  const pointer = btf.pointer(0);
  const array = (of: number, count: number) => btf.array(of, count);
  const struct = (name: string, size: number, members: Record<string, readonly [type: number, at: number]>) =>
    btf.struct(
      name,
      size,
      Object.entries(members).map(([member, [type, at]]) => [member, type, 8 * at] as const),
    );
  const list = struct("list_head", 16, { next: [pointer, 0], prev: [pointer, 8] });
  const thread = struct("thread_info", 16, { flags: [u64, 0], cpu: [u32, TASK.cpu] });
  struct("task_struct", TASK.size, {
    thread_info: [thread, 0],
    __state: [u32, TASK.state],
    on_cpu: [u32, TASK.onCpu],
    flags: [u32, TASK.flags],
    exit_state: [u32, 28],
    tasks: [list, TASK.tasks],
    pid: [u32, TASK.pid],
    tgid: [u32, TASK.tgid],
    mm: [pointer, TASK.mm],
    signal: [pointer, TASK.signal],
    thread_node: [list, TASK.threadNode],
    real_parent: [pointer, TASK.parent],
    comm: [array(text, 16), comm],
  });
  struct("signal_struct", 64, { thread_head: [list, 16] });
  const memory = struct("module_memory", 32, { base: [pointer, 8], size: [u32, 20] });
  struct("module", 512, {
    state: [u32, 0],
    list: [list, 8],
    name: [array(text, 56), 24],
    taints: [u64, 88],
    kallsyms: [pointer, 104],
    mem: [array(memory, 7), 128],
  });
  struct("mod_kallsyms", 32, {
    symtab: [pointer, 0],
    num_symtab: [u32, 8],
    strtab: [pointer, 16],
    typetab: [pointer, 24],
  });
  struct("cpumask", 8, { bits: [array(u64, 1), 0] });
  struct("rq", 64, { curr: [pointer, 40] });
  struct("seqcount_t", 4, { sequence: [u32, 0] });
  struct("timekeeper", 64, { xtime_sec: [u64, 24], ktime_sec: [u64, 32], offs_boot: [u64, 40] });
  const uts = struct("new_utsname", 390, { nodename: [array(text, 65), 65] });
  struct("uts_namespace", 400, { name: [uts, 8] });
  return btf.build();
}

export function buildLinuxKernel(spec: KernelSpec = {}): SynthKernel {
  const data = Buffer.alloc(DATA_SIZE);
  const put = (at: number, value: bigint) => data.writeBigUInt64LE(BigInt.asUintN(64, value), at);
  const taskAt = (index: number) => AT.tasks + index * TASK.size;
  const virtual = (at: number) => BASE + BigInt(at);
  const { log, keys } = logOf(virtual(AT.log));
  log.copy(data, AT.log);
  writeVariables(data, put, spec);
  writeTasks(data, put);
  // CPU 0 is idle, CPU 1 runs the fifth task; a queue for each lies at the symbol's offset + __per_cpu_offset.
  for (const [cpu, task] of [0, 4].entries()) {
    const queue = AT.queues + cpu * 256;
    put(VARIABLES.__per_cpu_offset + 8 * cpu, virtual(queue) - PER_CPU_QUEUES);
    put(queue + 40, virtual(taskAt(task)));
  }
  const modules = buildModules(virtual(AT.modules), [
    {
      name: "kvm",
      regions: [{ base: MODULE_BASE, size: 0x3000 }],
      symbols: [{ name: "kvm_vcpu_kick", letter: "t", address: MODULE_BASE + 0x100n, global: true }],
    },
  ]);
  // TAINT_PROPRIETARY_MODULE and TAINT_OOT_MODULE of its taints.
  modules.bytes.writeBigUInt64LE(0x1001n, Number(modules.places[0]! - modules.head) + 88);
  modules.bytes.copy(data, AT.modules);
  const btf = kernelBtf();
  if (spec.btf !== false) btf.copy(data, AT.btf);
  const symbols = symbolsOf(btf.length, spec);
  const tables = buildKallsyms(virtual(AT.kallsyms), symbols, {
    form: "absolute-percpu",
    order: "addresses-first",
  });
  const labels = spec.kallsyms === false ? {} : tables.labels;
  if (spec.kallsyms !== false) tables.bytes.copy(data, AT.kallsyms);
  const lines = Object.entries(labels).map(([name, at]) => [`SYMBOL(${name})`, at.toString(16)]);
  const vmcoreinfo = vmcoreinfoText({ ...Object.fromEntries(lines), CRASHTIME: "1795233118" });
  return {
    pieces: linuxGuest({ extra: [{ address: DATA, bytes: data }] }),
    vmcoreinfo: `${vmcoreinfo}${keys.join("\n")}\n`,
    symbols,
    btf,
  };
}

function logOf(base: bigint): { log: Buffer; keys: readonly string[] } {
  const texts = ["Linux version 6.1", "sysrq: Trigger a crash", "Kernel panic - not syncing: sysrq"];
  const times = [0n, 59_900_000_000n, 60_000_000_000n];
  const records = texts.map((text, i) => ({ time: times[i]!, level: 5, text }));
  const { bytes, keys } = ringLog(base, records);
  return { log: bytes, keys };
}

function writeVariables(
  data: Buffer,
  put: (at: number, value: bigint) => void,
  { panicCpu = 1 }: KernelSpec,
): void {
  put(VARIABLES.__cpu_online_mask, 0b11n);
  put(VARIABLES.__cpu_present_mask, 0b11n);
  put(VARIABLES.__cpu_possible_mask, 0b1111n);
  data.writeUInt32LE(4, VARIABLES.nr_cpu_ids);
  data.writeInt32LE(panicCpu, VARIABLES.panic_cpu);
  put(VARIABLES.tainted_mask, 0x1201n);
  put(VARIABLES.saved_command_line, BASE + BigInt(COMMAND_LINE));
  data.write("console=ttyS0 \x1b]0;x\x07quiet ", COMMAND_LINE, "latin1");
  for (const [field, text] of ["Linux", "synth", "6.1.0", "#1 SMP synthetic"].entries()) {
    data.write(text, VARIABLES.init_uts_ns + 8 + 65 * field, "latin1");
  }
  // A sequence counter of 4 bytes, then the timekeeper at the next multiple of 8.
  const keeper = VARIABLES.tk_core + 8;
  put(keeper + 24, 1_795_233_118n);
  put(keeper + 32, 90_061n);
  put(keeper + 40, 60_000_000_000n);
}

function writeTasks(data: Buffer, put: (at: number, value: bigint) => void): void {
  const at = (index: number) => AT.tasks + index * TASK.size;
  const signal = (index: number) => AT.signals + index * 64;
  const indexOf = (pid: number) => TASKS.findIndex((task) => task.pid === pid);
  const link = (nodes: readonly number[]) => {
    for (const [i, node] of nodes.entries()) {
      const next = nodes[(i + 1) % nodes.length]!;
      put(node, BASE + BigInt(next));
      put(next + 8, BASE + BigInt(node));
    }
  };
  for (const [index, task] of TASKS.entries()) {
    const start = at(index);
    const leader = indexOf(task.tgid);
    data.writeUInt32LE(task.cpu, start + TASK.cpu);
    data.writeUInt32LE(task.state, start + TASK.state);
    data.writeUInt32LE(task.running ? 1 : 0, start + TASK.onCpu);
    data.writeUInt32LE(task.kernel ? 0x20_8040 : 0x40_0000, start + TASK.flags);
    data.writeUInt32LE(task.pid, start + TASK.pid);
    data.writeUInt32LE(task.tgid, start + TASK.tgid);
    put(start + TASK.mm, task.kernel ? 0n : 0xffff_9c01_4100_0000n + BigInt(leader * 0x1000));
    put(start + TASK.signal, BASE + BigInt(signal(leader)));
    put(start + TASK.parent, BASE + BigInt(at(indexOf(task.parent))));
    data.write(task.comm, start + TASK.comm, "latin1");
    if (leader !== index) continue;
    const threads = TASKS.flatMap(({ tgid }, i) => (tgid === task.pid ? [at(i) + TASK.threadNode] : []));
    link([signal(index) + 16, ...threads]);
  }
  link(TASKS.flatMap(({ pid, tgid }, i) => (pid === tgid ? [at(i) + TASK.tasks] : [])));
}

function symbolsOf(btfSize: number, { functionsOnly = false }: KernelSpec): SynthSymbol[] {
  const symbol = (name: string, type: string, address: bigint): SynthSymbol => ({ name, type, address });
  const variables = Object.entries(VARIABLES).map(([name, at]) => symbol(name, "D", BASE + BigInt(at)));
  const all = [
    symbol("runqueues", "A", PER_CPU_QUEUES),
    symbol("_text", "T", TEXT),
    symbol("_stext", "T", TEXT),
    symbol("vprintk", "T", TEXT + 0x1000n),
    symbol("show_regs", "t", TEXT + 0x1100n),
    symbol("linux_banner", "D", TEXT + BigInt(BANNER_AT - IMAGE)),
    ...variables,
    symbol("init_task", "D", BASE + BigInt(AT.tasks)),
    symbol("modules", "d", BASE + BigInt(AT.modules)),
    symbol("__start_BTF", "R", BASE + BigInt(AT.btf)),
    symbol("__stop_BTF", "R", BASE + BigInt(AT.btf + btfSize)),
    symbol("show_regs", "t", TEXT + 0x60_0000n),
    symbol("_end", "B", TEXT + 0xa0_0000n),
  ];
  return functionsOnly ? all.filter(({ type }) => type.toUpperCase() === "T") : all;
}
