import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { commandLine } from "../src/kernel/command-line.ts";
import { PageCache } from "../src/kernel/page-cache.ts";
import { ProcessMemory, type UserRun } from "../src/kernel/process-memory.ts";
import { ProcessPages } from "../src/kernel/process-pages.ts";
import { listTasks, taskOfMm } from "../src/kernel/tasks.ts";
import { listVmas, vmaAt } from "../src/kernel/vmas.ts";
import { FIVE_LEVEL, FOUR_LEVEL, withoutAddressBits } from "../src/x86/paging-shapes.ts";
import { HEAP_TYPES, readerOf, renamed } from "./support/kernel-heap.ts";
import { symbolsOf } from "./support/kernel-tables.ts";
import { DIRECT_MAP, KernelHeap, LAYOUT, PAGE_STRUCT, storeMaple, storeXArray } from "./synth/kernel-heap.ts";
import { memoryFrom, type TableEntry, tablePieces } from "./synth/memory.ts";
import { random } from "./synth/pattern.ts";

interface TaskSpec {
  readonly pid: number;
  readonly comm: string;
  readonly state?: number;
  readonly exit?: number;
  readonly mm?: bigint;
}

/** Processes, each with its threads, the leader first. */
function tasksIn(heap: KernelHeap, processes: readonly (readonly TaskSpec[])[]) {
  const init = heap.take(400);
  const leaders = processes.map((threads) => {
    const signal = heap.take(64);
    const nodes = threads.map(({ pid, comm, state = 1, exit = 0, mm = 0n }) => {
      const task = heap.take(400);
      heap.set(task, "task_struct.pid", BigInt(pid));
      heap.set(task, "task_struct.tgid", BigInt(threads[0]!.pid));
      heap.text(heap.at(task, "task_struct.comm"), comm);
      heap.set(task, "task_struct.__state", BigInt(state));
      heap.set(task, "task_struct.exit_state", BigInt(exit));
      heap.set(task, "task_struct.mm", mm);
      heap.set(task, "task_struct.signal", signal);
      return task;
    });
    const threadNodes = nodes.map((task) => heap.at(task, "task_struct.thread_node"));
    heap.link([heap.at(signal, "signal_struct.thread_head"), ...threadNodes]);
    return nodes[0]!;
  });
  heap.link([init, ...leaders].map((task) => heap.at(task, "task_struct.tasks")));
  return { init, leaders, symbols: symbolsOf({ init_task: init }) };
}

const PROCESSES: readonly (readonly TaskSpec[])[] = [
  [{ pid: 1, comm: "init", mm: 0x1000n }],
  [{ pid: 2, comm: "kthreadd", state: 0x402 }],
  [
    { pid: 7, comm: "qemu", mm: 0x2000n, state: 0 },
    { pid: 8, comm: "CPU 0/KVM", mm: 0x2000n, state: 2 },
    { pid: 9, comm: "CPU 1/KVM", mm: 0x2000n, state: 0x8000 },
  ],
  [{ pid: 12, comm: "gone", exit: 0x20, state: 0x80 }],
  [{ pid: 13, comm: "sixteen-bytes-xy", state: 8 }],
];

describe("tasks", () => {
  const build = (processes = PROCESSES) => {
    const heap = new KernelHeap();
    return { heap, ...tasksIn(heap, processes) };
  };

  test("processes in order, each followed by its threads", () => {
    const { heap, symbols } = build();
    const list = listTasks(readerOf(heap.pieces), HEAP_TYPES, symbols);
    expect(list.outcome).toEqual({ complete: true });
    expect(list.tasks.map(({ pid, tgid, comm, mm, state }) => [pid, tgid, comm, mm, state])).toEqual([
      [1, 1, "init", 0x1000n, "S"],
      [2, 2, "kthreadd", undefined, "I"],
      [7, 7, "qemu", 0x2000n, "R"],
      [8, 7, "CPU 0/KVM", 0x2000n, "D"],
      [9, 7, "CPU 1/KVM", 0x2000n, "D"],
      [12, 12, "gone", undefined, "Z"],
      [13, 13, "sixteen-bytes-xy", undefined, "t"],
    ]);
    expect(taskOfMm(list, 0x2000n)?.pid).toBe(7);
    expect(taskOfMm(list, 0x3000n)).toBeUndefined();
  });

  test("a process is found by the mm of a thread when its leader has exited", () => {
    const { heap, symbols } = build([
      [
        { pid: 3, comm: "lead", exit: 0x20 },
        { pid: 4, comm: "work", mm: 0x5000n },
      ],
    ]);
    expect(taskOfMm(listTasks(readerOf(heap.pieces), HEAP_TYPES, symbols), 0x5000n)?.comm).toBe("lead");
  });

  test("a broken list still gives the tasks on both sides", () => {
    const { heap, leaders, symbols } = build();
    heap.set(leaders[1]!, "task_struct.tasks", 0x10n);
    const { tasks, outcome } = listTasks(readerOf(heap.pieces), HEAP_TYPES, symbols);
    expect(new Set(tasks.map(({ pid }) => pid))).toEqual(new Set([1, 2, 13, 12, 7, 8, 9]));
    expect(outcome).toMatchObject({ complete: false, reason: "unreadable" });
  });

  test("without types or symbols there are none; before 5.14 the state is called otherwise", () => {
    const { heap, symbols } = build();
    const reader = readerOf(heap.pieces);
    const none = { tasks: [], outcome: { reason: "unknown-layout" } };
    expect(listTasks(reader, renamed({ "task_struct.comm": undefined }), symbols)).toMatchObject(none);
    expect(listTasks(reader, HEAP_TYPES, symbolsOf({}))).toMatchObject(none);
    const old = listTasks(reader, renamed({ "task_struct.__state": "task_struct.state" }), symbols);
    expect(old.tasks[1]!.state).toBe("I");
    const leadersOnly = listTasks(reader, renamed({ "task_struct.thread_node": undefined }), symbols);
    expect(leadersOnly.tasks.map(({ pid }) => pid)).toEqual([1, 2, 7, 12, 13]);
    expect(leadersOnly.outcome).toMatchObject({ reason: "unknown-layout" });
  });

  test("what overlaps a task, or has no number of one, is none", () => {
    const { heap, leaders, symbols } = build();
    heap.set(leaders[2]!, "task_struct.pid", 2n ** 22n + 1n);
    const read = () => listTasks(readerOf(heap.pieces), HEAP_TYPES, symbols);
    expect(read().tasks.map(({ pid }) => pid)).toEqual([1, 2, 12, 13]);
    expect(read().outcome).toMatchObject({ reason: "senseless", address: leaders[2]! });
    heap.set(leaders[2]!, "task_struct.pid", 7n);
    heap.set(leaders[2]!, "task_struct.tgid", 0xffff_ffffn);
    expect(read().outcome).toMatchObject({ reason: "senseless", address: leaders[2]! });
    heap.set(leaders[2]!, "task_struct.tgid", 7n);
    // The next of the last is a node 8 bytes into the first, and so on.
    const nodes = [0n, 8n, 16n].map((at) => heap.at(leaders[4]!, "task_struct.tasks") + at);
    heap.put(nodes[0]!, nodes[1]!);
    heap.put(nodes[1]!, nodes[2]!);
    const { tasks, outcome } = read();
    expect(tasks.map(({ pid }) => pid)).toEqual([1, 2, 7, 8, 9, 12, 13]);
    expect(outcome).toMatchObject({ reason: "senseless", address: leaders[4]! + 8n });
  });

  test("mutants neither throw nor last", () => {
    const { heap, symbols } = build();
    const end = Number(heap.take(0) - DIRECT_MAP);
    const whole = Buffer.from(heap.bytes);
    const { below, bytes } = random(11);
    for (let i = 0; i < 500; i++) {
      whole.copy(heap.bytes);
      heap.bytes.set(bytes(1), 4096 + below(end - 4096));
      const at = 4096 + below((end - 4096) / 8) * 8;
      heap.bytes.writeBigUInt64LE(DIRECT_MAP + BigInt(4096 + below((end - 4096) / 8) * 8), at);
      const { tasks } = listTasks(readerOf(heap.pieces), HEAP_TYPES, symbols);
      expect(tasks.length).toBeLessThan(2000);
    }
  });
});

const P = 1n;
const PS = 1n << 7n;
const G = 1n << 8n;
const NX = 1n << 63n;
const FRAME = (1n << 52n) - (1n << 12n);
const RAM = 0x4000_0000;
const SIZE_2M = 0x20_0000;
/** As the kernel writes them: `type` at 63:59, the inverse of the offset at 58:9. */
const swap = (type: bigint, offset: bigint): bigint =>
  (type << 59n) | (((~(offset << 9n) & ((1n << 59n) - 1n)) >> 9n) << 9n);
const inverted = (physical: bigint): bigint => ~physical & FRAME;

/** One table of each level down to 0 and 2 MiB and so on; PTEs are of the table at 0x4000, PDEs of that at 0x3000. */
const TABLES: readonly TableEntry[] = [
  [0x1000, 0, 0x2000n | P],
  [0x2000, 0, 0x3000n | P],
  [0x3000, 0, 0x4000n | P],
];

const processOf = (entries: readonly TableEntry[], options = {}, shape = FOUR_LEVEL, root = 0x1000) =>
  new ProcessMemory(
    memoryFrom([
      ...tablePieces([...TABLES, ...entries]),
      { address: 0x10_0000, size: RAM - 0x10_0000, state: "zero" },
    ]),
    root,
    shape,
    options,
  );

function collectRuns(walk: Generator<UserRun, unknown>) {
  const runs: UserRun[] = [];
  for (let step = walk.next(); ; step = walk.next()) {
    if (step.done) return { runs, end: step.value };
    runs.push(step.value);
  }
}

const inMemory = (kind: string, physical: number, size = 4096) => ({
  state: "in-memory",
  kind,
  physical,
  size,
});

describe("entries of page tables", () => {
  const cases: readonly [string, bigint, object][] = [
    ["present", 0x20_3000n | P | NX, inMemory("present", 0x20_3000)],
    ["PROT_NONE, inverted", inverted(0x20_3000n) | G | NX, inMemory("prot-none", 0x20_3000)],
    ["PROT_NONE before the L1TF fix", 0x20_3000n | G, inMemory("prot-none", 0x20_3000)],
    ["PROT_NONE outside RAM", (1n << 45n) | G, { state: "unknown", reason: "senseless", size: 4096 }],
    ["swap", swap(0n, 0x1234n), { state: "swapped", type: 0, offset: 0x1234, size: 4096 }],
    [
      "swap, soft dirty and exclusive",
      swap(3n, 5n) | 0xen,
      { state: "swapped", type: 3, offset: 5, size: 4096 },
    ],
    [
      "swap, the greatest offset",
      swap(22n, 2n ** 50n - 1n),
      { state: "swapped", type: 22, offset: 2 ** 50 - 1, size: 4096 },
    ],
    ["migration", swap(29n, 0x203n), inMemory("migration", 0x20_3000)],
    ["migration, young and dirty", swap(29n, 0x203n | (3n << 34n)), inMemory("migration", 0x20_3000)],
    ["device memory", swap(28n, 1n << 30n), { state: "swapped", type: 28, offset: 2 ** 30, size: 4096 }],
    ["a marker of write protection", swap(31n, 1n), { state: "untouched", size: 4096 }],
    ["a marker of a lost page", swap(31n, 2n), { state: "unknown", reason: "senseless", size: 4096 }],
    ["of one under write protection", swap(31n, 3n), { state: "unknown", reason: "senseless", size: 4096 }],
    ["a marker of a guard", swap(31n, 4n), { state: "unknown", reason: "senseless", size: 4096 }],
    ["a marker of nothing", swap(31n, 0n), { state: "unknown", reason: "senseless", size: 4096 }],
    ["nothing", 0n, { state: "untouched", size: 4096 }],
    ["Knights Landing's stray bits", 0x60n, { state: "untouched", size: 4096 }],
  ];

  test.each(cases)("%s", (_, entry, expected) => {
    expect(processOf([[0x4000, 5, entry]]).translate(0x5000n)).toEqual(expected);
  });

  const huge: readonly [string, bigint, object][] = [
    ["present", 0x60_0000n | P | PS, inMemory("present", 0x60_0000, SIZE_2M)],
    [
      "under NUMA balancing",
      (inverted(0x60_0000n) & ~0x1f_ffffn) | PS | G,
      inMemory("prot-none", 0x60_0000, SIZE_2M),
    ],
    ["being split", (inverted(0x60_0000n) & ~0x1f_ffffn) | PS, inMemory("prot-none", 0x60_0000, SIZE_2M)],
    ["migration", swap(30n, 0x600n), inMemory("migration", 0x60_0000, SIZE_2M)],
    ["a missing table", 0x5000_0000n | P, { state: "unknown", reason: "table-missing", size: SIZE_2M }],
    ["a reserved bit", 0x60_2000n | P | PS, { state: "unknown", reason: "senseless", size: SIZE_2M }],
  ];

  test.each(huge)("of 2 MiB: %s", (_, entry, expected) => {
    const found = processOf([[0x3000, 1, entry]]).translate(0x20_0000n);
    expect(found).toEqual(expected);
    const within = processOf([[0x3000, 1, entry]]).translate(0x20_5678n);
    if (found.state === "in-memory") expect(within).toEqual({ ...found, physical: found.physical + 0x5678 });
  });

  test("types that swap files have are swap, whatever their offset", () => {
    const entry: TableEntry = [0x4000, 5, swap(29n, 0x203n)];
    expect(processOf([entry], { swapFiles: 30 }).translate(0x5000n)).toMatchObject({ state: "swapped" });
    expect(processOf([entry], { swapFiles: 2 }).translate(0x5000n)).toMatchObject({ state: "in-memory" });
  });

  test("1 GiB pages, five levels, the encryption bit, addresses of the kernel", () => {
    const bit = 1n << 47n;
    const shape = withoutAddressBits(FIVE_LEVEL, bit);
    const entries: TableEntry[] = [
      [0x5000, 3, 0x1000n | P | bit],
      [0x2000, 2, BigInt(2 ** 30) | P | PS | bit],
      [0x2000, 4, (2n ** 46n) | PS],
    ];
    const process = processOf(entries, {}, shape, 0x5000);
    const base = 3n << 48n;
    expect(process.translate(base + 0x8000_1234n)).toEqual(inMemory("present", 2 ** 30 + 0x1234, 2 ** 30));
    expect(process.translate(base + 2n ** 32n)).toMatchObject({ state: "unknown", reason: "senseless" });
    expect(process.translate(1n << 56n)).toMatchObject({ reason: "not-user" });
    expect(process.translate(-1n)).toMatchObject({ reason: "not-user" });
    expect(processOf([]).translate(1n << 47n)).toMatchObject({ reason: "not-user" });
  });
});

describe("runs", () => {
  test("are joined, whole, and without gaps; each table is read once", () => {
    const process = processOf([
      [0x4000, 0, 0x20_0000n | P],
      [0x4000, 1, 0x20_1000n | P],
      [0x4000, 2, inverted(0x20_2000n) | G],
      [0x4000, 3, swap(0n, 9n)],
      [0x4000, 4, swap(1n, 77n)],
      [0x3000, 1, 0x80_0000n | P | PS],
      [0x3000, 2, 0xa0_0000n | P | PS],
      [0x3000, 4, 0x5000_0000n | P],
    ]);
    const { runs, end } = collectRuns(process.runsOf(0n, 0x100_0000_0000n));
    expect(runs).toEqual([
      { virtual: 0n, size: 0x2000, state: "in-memory", kind: "present", physical: 0x20_0000 },
      { virtual: 0x2000n, size: 0x1000, state: "in-memory", kind: "prot-none", physical: 0x20_2000 },
      { virtual: 0x3000n, size: 0x2000, state: "swapped" },
      { virtual: 0x5000n, size: SIZE_2M - 0x5000, state: "untouched" },
      { virtual: 0x20_0000n, size: 2 * SIZE_2M, state: "in-memory", kind: "present", physical: 0x80_0000 },
      { virtual: 0x60_0000n, size: SIZE_2M, state: "untouched" },
      { virtual: 0x80_0000n, size: SIZE_2M, state: "unknown" },
      { virtual: 0xa0_0000n, size: 2 ** 40 - 5 * SIZE_2M, state: "untouched" },
    ]);
    expect(end).toEqual({ complete: true, tablesRead: 5, tablesMissing: 1 });
    expect((process.memory as ReturnType<typeof memoryFrom>).pageReads.length).toBe(5);
    expect(
      collectRuns(process.runsOf(0x1800n, 0x2001n)).runs.map(({ virtual, size }) => [virtual, size]),
    ).toEqual([
      [0x1000n, 4096],
      [0x2000n, 4096],
    ]);
  });

  test("a missing root is one unknown run; a limit says where to go on", () => {
    const lost = processOf([], {}, FOUR_LEVEL, 0x5000_0000);
    expect(collectRuns(lost.runsOf(0n, 1n << 47n)).runs).toEqual([
      { virtual: 0n, size: 2 ** 47, state: "unknown" },
    ]);
    // A table of tables that are all itself.
    const loop = processOf(
      Array.from({ length: 511 }, (_, i): TableEntry => [0x1000, i + 1, 0x1000n | P]),
      { tableLimit: 50 },
    );
    const { end } = collectRuns(loop.runsOf(0n, 1n << 47n));
    expect(end).toMatchObject({ complete: false, resumeAt: expect.any(BigInt), tablesRead: 51 });
  });

  test("a run ends where it is made of many tables", () => {
    // All of 1 GiB by one table of empty entries, and the next one by the same.
    const directory = Array.from({ length: 512 }, (_, i): TableEntry => [0x3000, i, 0x4000n | P]);
    const process = processOf([
      [0x1000, 0, 0x2000n | P],
      [0x2000, 0, 0x3000n | P],
      [0x2000, 1, 0x3000n | P],
      ...directory,
      [0x4000, 0, 0n],
    ]);
    const { runs } = collectRuns(process.runsOf(0n, 2n ** 31n));
    expect(runs.length).toBe(8);
    expect(runs.every(({ state, size }) => state === "untouched" && size <= 2 ** 28)).toBe(true);
    expect(runs.reduce((sum, { size }) => sum + size, 0)).toBe(2 ** 31);
    const none = { vmas: [], outcome: { complete: true } } as const;
    const pages = new ProcessPages(process, none, new PageCache(readerOf([]), HEAP_TYPES, symbolsOf({}), 4));
    const joined = [...pages.runsOf(0n, 2n ** 31n)];
    expect(joined.length).toBe(2);
    expect(joined.every(({ state, size }) => state === "unmapped" && size >= 2 ** 30 - 2 ** 28)).toBe(true);
  });

  const entry = fc.oneof(
    fc.constant(0n),
    fc.constant(0x5000n | P),
    fc.constant(0x6000n | P),
    fc.nat(40).map((frame) => (BigInt(frame) * 0x1000n + 0x20_0000n) | P),
    fc.nat(40).map((frame) => inverted(BigInt(frame) * 0x1000n + 0x20_0000n) | G),
    fc.nat(300).map((frame) => (BigInt(frame) * 0x20_0000n) | P | PS),
    fc.nat(40).map((offset) => swap(0n, BigInt(offset))),
    fc.bigInt(0n, 2n ** 64n - 1n),
  );

  test("say the same as one translation after the other", () => {
    const placed = fc.tuple(
      fc.constantFrom(0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000),
      fc.nat(7),
      entry,
    );
    fc.assert(
      fc.property(fc.array(placed, { maxLength: 40 }), fc.nat(2000), (entries, first) => {
        const process = processOf(entries as TableEntry[]);
        const from = BigInt(first) * 4096n;
        const { runs } = collectRuns(process.runsOf(from, from + 0x80_0000n));
        let at = from;
        for (const run of runs) {
          expect(run.virtual).toBe(at);
          const differ = Array.from({ length: run.size / 4096 }, (_, i) => {
            const page = process.translate(at + BigInt(i * 4096));
            if (page.state !== "in-memory" || run.state !== "in-memory") return page.state !== run.state;
            return page.kind !== run.kind || page.physical !== run.physical + i * 4096;
          });
          expect(differ.filter(Boolean)).toEqual([]);
          at += BigInt(run.size);
        }
        expect(at).toBe(from + 0x80_0000n);
      }),
      { seed: 3, numRuns: 150 },
    );
  });
});

/** A process with its tables, VMAs and one file, in a heap; user page n of the file's VMA has index n + 2. */
function processWith(
  options: {
    readonly hugetlb?: 512;
    readonly file?: "shmem_aops" | "hugetlbfs_aops" | "ext4_aops";
    readonly vmFlags?: bigint;
  } = {},
) {
  const heap = new KernelHeap();
  const [mm, file, mapping, inode, sb] = [160, 128, 128, 64, 64].map((size) => heap.take(size));
  const [root, pdpt, pd, pt] = Array.from({ length: 4 }, () => heap.take(4096, 4096));
  const physical = (address: bigint) => address - DIRECT_MAP;
  heap.put(root!, physical(pdpt!) | P);
  heap.put(pdpt!, physical(pd!) | P);
  heap.put(pd!, physical(pt!) | P);
  heap.set(mm!, "mm_struct.pgd", root!);
  const vma = (start: bigint, end: bigint, of = 0n, pageOffset = 0n) => {
    const address = heap.take(64, 256);
    heap.set(address, "vm_area_struct.vm_start", start);
    heap.set(address, "vm_area_struct.vm_end", end);
    heap.set(address, "vm_area_struct.vm_flags", options.vmFlags ?? 3n);
    heap.set(address, "vm_area_struct.vm_file", of);
    heap.set(address, "vm_area_struct.vm_pgoff", pageOffset);
    return { first: start, last: end - 1n, value: address };
  };
  const gap = (first: bigint, last: bigint) => ({ first, last, value: 0n });
  const fileEnd = 0x10_0000n + BigInt(options.hugetlb === undefined ? 0x8000 : 0x40_0000);
  storeMaple(
    heap,
    heap.at(mm!, "mm_struct.mm_mt"),
    [
      gap(0n, 0xfffn),
      vma(0x1000n, 0x4000n),
      gap(0x4000n, 0xf_ffffn),
      vma(0x10_0000n, fileEnd, file, 2n),
      gap(fileEnd, 2n ** 64n - 1n),
    ],
    4,
    "maple_arange_64",
  );
  heap.set(file!, "file.f_mapping", mapping!);
  heap.set(mapping!, "address_space.host", inode!);
  heap.set(inode!, "inode.i_sb", sb!);
  heap.set(sb!, "super_block.s_blocksize", BigInt(options.hugetlb === undefined ? 4096 : SIZE_2M));
  const operations = { shmem_aops: 0x70n, hugetlbfs_aops: 0x71n, ext4_aops: 0x72n };
  heap.set(mapping!, "address_space.a_ops", operations[options.file ?? "shmem_aops"]);
  const vmemmap = heap.take(8);
  heap.put(vmemmap, DIRECT_MAP + 0x2000_0000n);
  const symbols = symbolsOf({ ...operations, vmemmap_base: vmemmap });
  /** Tells of a page, and gives the address of its struct page. */
  const pages: { address: bigint; index: bigint; compound: bigint }[] = [];
  const pageStruct = (frame: number, index: number, compound = 0n) => {
    const address = DIRECT_MAP + 0x2000_0000n + BigInt(frame * PAGE_STRUCT);
    pages.push({ address, index: BigInt(index), compound });
    return address;
  };
  const open = (types = HEAP_TYPES) => {
    const structs = Buffer.alloc(0x10_0000);
    for (const { address, index, compound } of pages) {
      const at = Number(address - DIRECT_MAP) - 0x2000_0000;
      structs.writeBigUInt64LE(index, at + LAYOUT["page.index"][0]);
      structs.writeBigUInt64LE(compound, at + LAYOUT["page.compound_head"][0]);
    }
    const reader = readerOf([...heap.pieces, { address: 0x2000_0000, bytes: structs }]);
    const memory = ProcessMemory.of(reader, HEAP_TYPES, mm!, FOUR_LEVEL, symbols)!;
    const vmas = listVmas(reader, HEAP_TYPES, mm!);
    const cache = new PageCache(reader, types, symbols, 4);
    const runs = (from: bigint, to: bigint) => [...new ProcessPages(memory, vmas, cache).runsOf(from, to)];
    return { reader, memory, vmas, cache, runs };
  };
  return { heap, mm: mm!, mapping: mapping!, pt: pt!, pd: pd!, pageStruct, open };
}

describe("VMAs and the page cache", () => {
  test("VMAs come ascending, and are found by address", () => {
    const { vmas } = processWith().open();
    expect(vmas.outcome).toEqual({ complete: true });
    expect(vmas.vmas.map(({ start, end, pageOffset }) => [start, end, pageOffset])).toEqual([
      [0x1000n, 0x4000n, 0n],
      [0x10_0000n, 0x10_8000n, 2n],
    ]);
    expect(vmaAt(vmas, 0x3fffn)).toBe(vmas.vmas[0]);
    expect(vmaAt(vmas, 0x4000n)).toBeUndefined();
    expect(vmaAt(vmas, 0xfffn)).toBeUndefined();
    expect(vmaAt(vmas, 0x10_8000n)).toBeUndefined();
  });

  test("shared memory: what is not in the tables is in the page cache, in swap, or zero", () => {
    const { heap, mapping, pt, pageStruct, open } = processWith();
    heap.put(pt + 8n * 0x100n, 0x3000n | P);
    storeXArray(
      heap,
      heap.at(mapping, "address_space.i_pages"),
      [
        { index: 2, order: 0, entry: pageStruct(3, 2) },
        { index: 3, order: 0, entry: pageStruct(0x50, 3) },
        { index: 4, order: 0, entry: pageStruct(0x51, 4) },
        { index: 5, order: 0, entry: 0x123n },
        // A folio of 4 pages that the VMA shows the first two of.
        { index: 8, order: 2, entry: pageStruct(0x60, 8) },
      ],
      "xarray",
    );
    expect(open().runs(0n, 0x10_9000n)).toEqual([
      { virtual: 0n, size: 0x1000, state: "unmapped" },
      { virtual: 0x1000n, size: 0x3000, state: "zero" },
      { virtual: 0x4000n, size: 0xfc000, state: "unmapped" },
      { virtual: 0x10_0000n, size: 0x1000, state: "in-memory", kind: "present", physical: 0x3000 },
      { virtual: 0x10_1000n, size: 0x2000, state: "in-memory", kind: "page-cache", physical: 0x5_0000 },
      { virtual: 0x10_3000n, size: 0x1000, state: "swapped" },
      { virtual: 0x10_4000n, size: 0x2000, state: "zero" },
      { virtual: 0x10_6000n, size: 0x2000, state: "in-memory", kind: "page-cache", physical: 0x6_0000 },
      { virtual: 0x10_8000n, size: 0x1000, state: "unmapped" },
    ]);
  });

  test("what is not there is with a userfaultfd handler, where there is one for missing pages", () => {
    const runs = (vmFlags: bigint) => {
      const { heap, mapping, pt, pageStruct, open } = processWith({ vmFlags });
      heap.put(pt + 8n * 1n, 0x3000n | P);
      const entries = [
        { index: 3, order: 0, entry: pageStruct(0x50, 3) },
        { index: 4, order: 0, entry: 0x123n },
      ];
      storeXArray(heap, heap.at(mapping, "address_space.i_pages"), entries, "xarray");
      return open().runs(0n, 0x10_9000n);
    };
    const expected = (state: "zero" | "unknown") => [
      { virtual: 0n, size: 0x1000, state: "unmapped" },
      { virtual: 0x1000n, size: 0x1000, state: "in-memory", kind: "present", physical: 0x3000 },
      { virtual: 0x2000n, size: 0x2000, state },
      { virtual: 0x4000n, size: 0xfc000, state: "unmapped" },
      { virtual: 0x10_0000n, size: 0x1000, state },
      { virtual: 0x10_1000n, size: 0x1000, state: "in-memory", kind: "page-cache", physical: 0x5_0000 },
      { virtual: 0x10_2000n, size: 0x1000, state: "swapped" },
      { virtual: 0x10_3000n, size: 0x5000, state },
      { virtual: 0x10_8000n, size: 0x1000, state: "unmapped" },
    ];
    expect(runs(0x203n)).toEqual(expected("unknown"));
    // VM_UFFD_WP and VM_UFFD_MINOR.
    expect(runs(0x20_0000_1003n)).toEqual(expected("zero"));
  });

  test("a file on disk keeps what is not cached; without symbols that is unknown", () => {
    const { open } = processWith({ file: "ext4_aops" });
    const { runs, reader, memory, vmas } = open();
    expect(runs(0x10_0000n, 0x10_8000n)).toEqual([{ virtual: 0x10_0000n, size: 0x8000, state: "in-file" }]);
    const blind = new ProcessPages(memory, vmas, new PageCache(reader, HEAP_TYPES, symbolsOf({}), 4));
    expect([...blind.runsOf(0x10_0000n, 0x10_8000n)]).toMatchObject([{ size: 0x8000, state: "unknown" }]);
  });

  test("the symbols of what a file is in are looked up once", () => {
    const { reader, vmas } = processWith().open();
    const names: string[] = [];
    const symbols = symbolsOf({ shmem_aops: 0x70n, hugetlbfs_aops: 0x71n });
    const named = (name: string) => {
      names.push(name);
      return symbols.named(name);
    };
    const counting = { ...symbols, named };
    const cache = new PageCache(reader, HEAP_TYPES, counting, 4);
    const mapping = cache.mappingOf(vmas.vmas[1]!.file!)!;
    for (let i = 0; i < 3; i++) expect(cache.backingOf(mapping)).toBe("shared-memory");
    expect(cache.backingOf(DIRECT_MAP)).toBe("file");
    expect(cache.backingOf(mapping)).toBe("shared-memory");
    expect(names.toSorted()).toEqual(["hugetlbfs_aops", "shmem_aops"]);
  });

  test("an entry per page, of the page itself (before 4.20) or of its huge page's first", () => {
    const { heap, mapping, pageStruct, open } = processWith();
    const head = pageStruct(0x40, 2);
    storeXArray(
      heap,
      heap.at(mapping, "address_space.i_pages"),
      [
        { index: 2, order: 0, entry: head },
        { index: 3, order: 0, entry: head },
        { index: 4, order: 0, entry: pageStruct(0x42, 0, head + 1n) },
        { index: 5, order: 0, entry: pageStruct(0x49, 1000) }, // belongs elsewhere
        { index: 6, order: 0, entry: 0x1000n }, // no struct page
      ],
      "xarray",
    );
    const { cache } = open();
    expect([2, 3, 4, 5, 6, 7].map((index) => cache.pageOf(mapping, index))).toMatchObject([
      { state: "in-memory", physical: 0x4_0000 },
      { state: "in-memory", physical: 0x4_1000 },
      { state: "in-memory", physical: 0x4_2000 },
      { state: "unknown" },
      { state: "unknown" },
      { state: "none" },
    ]);
  });

  test("struct page by the names of its members since 7.1", () => {
    const { heap, mapping, pageStruct, open } = processWith();
    const head = pageStruct(0x40, 2);
    const entries = [2, 3].map((index) => ({ index, order: 0, entry: head }));
    storeXArray(heap, heap.at(mapping, "address_space.i_pages"), entries, "xarray");
    const old = { "page.compound_info": "page.compound_head", "page.__folio_index": "page.index" };
    const gone: readonly string[] = Object.values(old);
    const member = (path: string) =>
      gone.includes(path) ? undefined : HEAP_TYPES.member(old[path as keyof typeof old] ?? path);
    const { cache } = open({ ...HEAP_TYPES, member });
    const found = [2, 3].map((index) => cache.pageOf(mapping, index));
    expect(found).toMatchObject([0x4_0000, 0x4_1000].map((physical) => ({ state: "in-memory", physical })));
  });

  test.each(["huge pages (before 6.7)", "pages"])("hugetlbfs that counts in %s", (unit) => {
    const { heap, mapping, pageStruct, open } = processWith({ hugetlb: 512, file: "hugetlbfs_aops" });
    const old = unit !== "pages";
    const entry = { index: old ? 1 : 512, order: old ? 0 : 9, entry: pageStruct(0x400, old ? 1 : 512) };
    storeXArray(heap, heap.at(mapping, "address_space.i_pages"), [entry], "xarray");
    const { cache } = open();
    expect(cache.pageOf(mapping, 515)).toEqual({ state: "in-memory", physical: 0x40_3000, pages: 509 });
    expect(cache.pageOf(mapping, 3)).toEqual({ state: "none", pages: 509 });
    expect(cache.pageOf(mapping, 1025).state).toBe("none");
  });

  test("VMAs that are lost leave unknown what they had", () => {
    const { heap, mm, open } = processWith();
    heap.put(heap.at(mm, "mm_struct.mm_mt") + 24n, (1n << 60n) | (6n << 3n) | 2n);
    const { vmas, runs } = open();
    expect(vmas.outcome).toMatchObject({ complete: false, reason: "unreadable" });
    expect(runs(0n, 0x10_0000n)).toEqual([{ virtual: 0n, size: 0x10_0000, state: "unknown" }]);
  });
});

describe("VMAs before 6.1", () => {
  const build = () => {
    const heap = new KernelHeap();
    const mm = heap.take(160);
    const types = {
      ...HEAP_TYPES,
      member: (path: string) => {
        const names: Record<string, string | undefined> = {
          "mm_struct.mm_mt": undefined,
          "mm_struct.mm_rb": "mm_struct.pgd",
          "mm_struct.mmap": "mm_struct.arg_start",
          "vm_area_struct.vm_rb": "page.index", // 40
          "vm_area_struct.vm_next": "vm_area_struct.vm_file",
        };
        return path in names ? names[path] && HEAP_TYPES.member(names[path]) : HEAP_TYPES.member(path);
      },
    } as typeof HEAP_TYPES;
    return { heap, mm, types };
  };

  test("the tree, and where it is damaged the list", () => {
    const { heap, mm, types } = build();
    const vmas = [1n, 3n, 5n].map((page) => {
      const vma = heap.take(96);
      heap.set(vma, "vm_area_struct.vm_start", page << 12n);
      heap.set(vma, "vm_area_struct.vm_end", (page + 1n) << 12n);
      return vma;
    });
    // The middle one is the root; rb_left and rb_right are at 8 and 24 of the node at 40.
    heap.set(mm, "mm_struct.pgd", vmas[1]! + 40n);
    heap.put(vmas[1]! + 48n, vmas[0]! + 40n);
    heap.put(vmas[1]! + 64n, vmas[2]! + 40n);
    heap.set(mm, "mm_struct.arg_start", vmas[0]!);
    heap.set(vmas[0]!, "vm_area_struct.vm_file", vmas[1]!);
    heap.set(vmas[1]!, "vm_area_struct.vm_file", vmas[2]!);
    // vm_pgoff lies in the node here; nothing of it is looked at.
    const starts = () => {
      const { vmas: found, outcome } = listVmas(readerOf(heap.pieces), types, mm);
      return { starts: found.map(({ start }) => start), outcome };
    };
    expect(starts()).toEqual({ starts: [0x1000n, 0x3000n, 0x5000n], outcome: { complete: true } });
    heap.put(vmas[1]! + 64n, 0x10n);
    expect(starts()).toEqual({ starts: [0x1000n, 0x3000n, 0x5000n], outcome: { complete: true } });
    heap.set(vmas[0]!, "vm_area_struct.vm_file", vmas[0]!);
    expect(starts()).toMatchObject({ starts: [0x1000n, 0x3000n], outcome: { reason: "unreadable" } });
  });

  test("types that tell neither", () => {
    const { heap, mm } = build();
    const types = renamed({ "mm_struct.mm_mt": undefined });
    expect(listVmas(readerOf(heap.pieces), types, mm).outcome).toMatchObject({ reason: "unknown-layout" });
  });
});

describe("command line", () => {
  const build = (text: string, length = text.length, mapped = true) => {
    const { heap, mm, pt, open } = processWith();
    const page = heap.take(4096, 4096);
    heap.text(page + 0x800n, text);
    if (mapped) heap.put(pt + 8n, (page - DIRECT_MAP) | P);
    heap.set(mm, "mm_struct.arg_start", 0x1800n);
    heap.set(mm, "mm_struct.arg_end", 0x1800n + BigInt(length));
    const { reader, memory } = open();
    return commandLine(reader, HEAP_TYPES, mm, memory);
  };

  test("arguments end with NUL; empty ones count", () => {
    expect(build("qemu\0-name\0\0vm\0")).toEqual({ argv: ["qemu", "-name", "", "vm"], complete: true });
    expect(build("title without NUL")).toEqual({ argv: ["title without NUL"], complete: true });
  });

  test("a page that is missing cuts it; nothing at all is undefined", () => {
    const cut = build(`${"x".repeat(0x800)}`, 0x900);
    expect(cut).toEqual({ argv: ["x".repeat(0x800)], complete: false });
    expect(build("qemu\0", 5, false)).toBeUndefined();
    expect(build("qemu\0", -5)).toBeUndefined();
  });
});
