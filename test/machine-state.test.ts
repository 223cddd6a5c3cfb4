import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readClock } from "../src/kernel/clock.ts";
import { readCpus, runningTasks } from "../src/kernel/cpus.ts";
import { describeLinux } from "../src/kernel/linux.ts";
import { lookUpSymbol, lookUpType } from "../src/kernel/lookup.ts";
import { readMachineState } from "../src/kernel/machine-state.ts";
import { readKernel } from "../src/kernel/open-kernel.ts";
import { taintLetters } from "../src/kernel/taints.ts";
import { TaskReader } from "../src/kernel/task-facts.ts";
import { listTasks } from "../src/kernel/tasks.ts";
import type { KernelTypes } from "../src/kernel/types.ts";
import { Vmcoreinfo } from "../src/kernel/vmcoreinfo.ts";
import { symbolsOf, typesOf } from "./support/kernel-tables.ts";
import { mutantOf } from "./support/mutants.ts";
import { readerOf } from "./support/synth-kernel.ts";
import { buildLinuxKernel, TASKS } from "./synth/linux-kernel.ts";
import { memoryFrom, type Piece } from "./synth/memory.ts";

const AT = 0xffff_ffff_8230_0000n;

describe("CPU masks", () => {
  const masks = (
    words: readonly bigint[],
    names: Record<string, bigint>,
    types?: KernelTypes,
    ids?: number,
  ) => {
    const bytes = Buffer.alloc(4096);
    for (const [i, word] of words.entries()) bytes.writeBigUInt64LE(word, 8 * i);
    bytes.writeUInt32LE(ids ?? 0, 2048);
    const symbols = symbolsOf({ ...names, ...(ids === undefined ? {} : { nr_cpu_ids: AT + 2048n }) });
    return readCpus({ reader: readerOf({ at: AT, bytes }), symbols, types });
  };
  const types = typesOf({}, { cpumask: 16 });

  test("are as wide as the kernel was built for, or as the machine needs", () => {
    const names = { __cpu_online_mask: AT, cpu_possible_bits: AT + 8n };
    const words = [1n << 63n, 0b101n, 0b1n];
    expect(masks(words, names, types)).toEqual({
      online: [63, 64, 66],
      present: undefined,
      possible: [0, 2, 64],
    });
    expect(masks(words, names, types, 65).online).toEqual([63, 64]);
    expect(masks(words, names, undefined, 65).possible).toEqual([0, 2, 64]);
  });

  test("whose width is not known, or that are missing, are not known", () => {
    expect(masks([1n], { __cpu_online_mask: AT }).online).toBeUndefined();
    expect(masks([1n], { __cpu_online_mask: AT }, typesOf({}, { cpumask: 0 })).online).toBeUndefined();
    expect(masks([1n], { __cpu_online_mask: AT + 4096n }, types).online).toBeUndefined();
    // No more than any kernel may have.
    const huge = typesOf({}, { cpumask: 2 ** 31 });
    expect(masks([1n], { __cpu_online_mask: AT }, huge).online).toEqual([0]);
  });

  test("run queues that are not in memory are left out", () => {
    const bytes = Buffer.alloc(4096);
    bytes.writeBigUInt64LE(AT, 0);
    bytes.writeBigUInt64LE(0x1234n, 8);
    bytes.writeBigUInt64LE(0xffff_8880_0000_1000n, 256);
    const symbols = symbolsOf({ runqueues: 248n, __per_cpu_offset: AT });
    const kernel = { reader: readerOf({ at: AT, bytes }), symbols, types: typesOf({ "rq.curr": 8 }) };
    expect([...runningTasks(kernel, [0, 1, 9000])]).toEqual([[0, 0xffff_8880_0000_1000n]]);
    expect(runningTasks({ ...kernel, types: undefined }, [0]).size).toBe(0);
  });
});

describe("the timekeeper", () => {
  const MEMBERS = { "timekeeper.xtime_sec": 0, "timekeeper.ktime_sec": 8, "timekeeper.offs_boot": 16 };
  const clock = (values: readonly bigint[], types: KernelTypes, at: number) => {
    const bytes = Buffer.alloc(4096);
    for (const [i, value] of values.entries()) bytes.writeBigInt64LE(value, at + 8 * i);
    return readClock({ reader: readerOf({ at: AT, bytes }), symbols: symbolsOf({ tk_core: AT }), types });
  };
  const plain = typesOf(MEMBERS, { seqcount_t: 4 });

  test.each<[string, KernelTypes, number]>([
    ["behind a seqcount", plain, 8],
    ["behind a large one, with lock debugging", typesOf(MEMBERS, { seqcount_raw_spinlock_t: 60 }), 64],
    ["in tk_data (6.13+)", typesOf({ ...MEMBERS, "tk_data.timekeeper": 24 }, { seqcount_t: 4 }), 24],
  ])("%s", (_, types, at) => {
    expect(clock([1_795_233_118n, 100n, 5_500_000_000n], types, at)).toEqual({
      time: 1_795_233_118,
      uptime: 105,
    });
  });

  test("that shows no time is none; an uptime that makes no sense is left out", () => {
    expect(clock([0n, 1n, 0n], plain, 8)).toBeUndefined();
    expect(clock([1n << 62n, 1n, 0n], plain, 8)).toBeUndefined();
    expect(clock([1_795_233_118n, 1n << 61n, 0n], plain, 8)).toEqual({ time: 1_795_233_118 });
    expect(clock([1_795_233_118n, 10n, -20_000_000_000n], plain, 8)?.uptime).toBeUndefined();
    expect(clock([1_795_233_118n], typesOf(MEMBERS), 8)).toBeUndefined();
  });
});

test("taints have the kernel's letters", () => {
  expect(taintLetters(0n)).toBe("");
  expect(taintLetters(28_672n)).toBe("OEL");
  expect(taintLetters((1n << 64n) - 1n)).toBe("PFSRMBUDAWCIOELKXTNJ");
});

describe("a kernel that was damaged", async () => {
  const { pieces, vmcoreinfo: text } = buildLinuxKernel();
  const vmcoreinfo = new Vmcoreinfo(text);
  const image = (await describeLinux(memoryFrom(pieces), { vmcoreinfo, states: [] }))!;
  const data = pieces.find(({ address }) => address === 0x150_0000)!;
  const others = pieces.filter((piece) => piece !== data);
  const bytes = "bytes" in data ? Buffer.from(data.bytes) : Buffer.alloc(0);
  const state = (changed: Buffer) => {
    const memory = memoryFrom([...others, { address: data.address, bytes: changed }].filter(isThere));
    const parts = readKernel(memory, { image, vmcoreinfo })!;
    const { reader, symbols, types } = parts;
    const tasks = types && symbols ? listTasks(reader, types, symbols).tasks : [];
    const more = types && new TaskReader(reader, types);
    return {
      parts,
      machine: symbols && readMachineState({ reader, symbols, types }),
      modules: symbols?.modules,
      tasks: tasks.map((task) => ({ ...task, ...more!.of(task) })),
      found: ["show_regs", "0xffffffff9a001004", "x+0xffffffffffffffff"].map((query) =>
        lookUpSymbol(parts, query),
      ),
      described:
        types && ["task_struct", "task_struct.comm", "rq.curr.x"].map((path) => lookUpType(types, path)),
    };
  };
  const isThere = (piece: Piece) => !("bytes" in piece) || piece.bytes.length > 0;
  const whole = state(bytes);

  test("says what is still known, never throws", () => {
    expect(whole.tasks.map(({ pid, running, cpu }) => [pid, running, cpu])).toEqual(
      TASKS.slice(1).map(({ pid, running = false, cpu }) => [pid, running, cpu]),
    );
    const same = { machine: 0, tasks: 0 };
    for (let seed = 0; seed < 300; seed++) {
      // Of the variables, tasks, queues and modules, or anywhere.
      const room = seed % 2 === 0 ? 0x7000 : bytes.length - 8;
      const { machine, tasks } = state(mutantOf(bytes, seed, 6, (chance) => chance.below(room)));
      if (JSON.stringify(machine, plainly) === JSON.stringify(whole.machine, plainly)) same.machine++;
      if (tasks.length === whole.tasks.length) same.tasks++;
    }
    expect(same.machine).toBeGreaterThan(50);
    expect(same.tasks).toBeGreaterThan(50);
  }, 60_000);

  test("property: queries of any form are answered", () => {
    fc.assert(
      fc.property(
        fc.string({ maxLength: 60 }),
        fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
        (query, address) => {
          for (const { symbol, offset, address: at } of lookUpSymbol(
            whole.parts,
            `0x${address.toString(16)}`,
          )) {
            expect(at).toBe(address);
            if (symbol !== undefined) expect(symbol.address + offset).toBe(address);
          }
          lookUpSymbol(whole.parts, query);
          lookUpType(whole.parts.types!, query);
        },
      ),
      { seed: 11, numRuns: 500 },
    );
  });
});

const plainly = (_key: string, value: unknown): unknown =>
  typeof value === "bigint" ? value.toString() : value instanceof Map ? [...value] : value;
