import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { PhysicalMemory } from "../src/core/memory.ts";
import { commandLine } from "../src/kernel/command-line.ts";
import type { LinuxKernel } from "../src/kernel/open-kernel.ts";
import { PageCache } from "../src/kernel/page-cache.ts";
import { ProcessMemory } from "../src/kernel/process-memory.ts";
import { ProcessPages } from "../src/kernel/process-pages.ts";
import { listTasks, type TaskList, taskOfMm } from "../src/kernel/tasks.ts";
import { listVmas, type VmaList } from "../src/kernel/vmas.ts";
import { type HostDump, kernelOf, openHostDump, whyNoHostDump } from "./support/host-dumps.ts";
import { type Random, random } from "./synth/pattern.ts";

const SVM = "svm/two-guests";
const VMX = "vmx/pattern-guest";
const titled = (folder: string): string => {
  const reason = whyNoHostDump(folder);
  return reason === undefined ? folder : `${folder} (skipped: ${reason})`;
};

const processMemory = ({ reader, types, shape, symbols }: LinuxKernel, mm: bigint): ProcessMemory =>
  ProcessMemory.of(reader, types, mm, shape, symbols)!;

/** The first 8 bytes of the SHA-256 of a page, in hex. */
const digest = (page: Buffer): string => createHash("sha256").update(page).digest("hex").slice(0, 16);
const ZERO_PAGE = digest(Buffer.alloc(4096));

describe.skipIf(whyNoHostDump(SVM) !== undefined)(titled(SVM), () => {
  let dump: HostDump;
  let kernel: LinuxKernel;
  let list: TaskList;
  const mmOf = (pid: number): bigint => list.tasks.find((task) => task.pid === pid)!.mm!;

  beforeAll(async () => {
    dump = openHostDump(SVM, "vmcore.d23.elf.zst");
    kernel = await kernelOf(dump);
    list = listTasks(kernel.reader, kernel.types, kernel.symbols);
  });
  afterAll(() => dump.close());

  test.each([132, 140])("the threads of process %i are those it had", (pid) => {
    const lines = dump.truth(`tasks.${pid}`).trim().split("\n");
    const found = list.tasks.filter(({ tgid }) => tgid === pid);
    expect(found.map((task) => `${task.pid} ${task.comm}`)).toEqual(lines);
  });

  test("tasks and their mm are those that drgn finds with debug information", () => {
    expect(list.outcome).toEqual({ complete: true });
    expect(list.tasks.length).toBe(70);
    const pattern = /task (\S+) (\d+) tgid \d+ mm (0x\w+) pgd 0x\w+ pgd_pa (0x\w+)/g;
    const owners = [...dump.truth("drgn-with-debuginfo.txt").matchAll(pattern)];
    expect(owners.length).toBe(2);
    for (const [, comm, pid, mm, root] of owners) {
      expect(taskOfMm(list, BigInt(mm!))).toMatchObject({ comm, pid: Number(pid) });
      expect(processMemory(kernel, BigInt(mm!)).root).toBe(Number(root));
    }
    expect(new Set(list.tasks.map(({ state }) => state))).toEqual(new Set(["S", "I", "R"]));
  });

  test.each([132, 140])("the VMAs of process %i are its maps", (pid) => {
    const { vmas, outcome } = listVmas(kernel.reader, kernel.types, mmOf(pid));
    expect(outcome).toEqual({ complete: true });
    const lines = dump.truth(`maps.${pid}`).trim().split("\n");
    // [vsyscall] is not in the tree.
    const maps = lines.filter((line) => !line.includes("[vsyscall]"));
    expect(vmas.length).toBeGreaterThan(300);
    expect(mapsOf({ vmas, outcome })).toEqual(
      maps.map((line) =>
        line
          .replace(/^(\S+ \S+ \S+) \S+ (\d+).*$/, "$1 $2")
          .replace(/ [1-9]\d*$/, " file")
          .replace(/ 0$/, ""),
      ),
    );
  });

  test.each([
    [132, "web1", "128"],
    [140, "db1", "96"],
  ])("the command line of process %i is that of %s", (pid, name, megabytes) => {
    const line = commandLine(kernel.reader, kernel.types, mmOf(pid), processMemory(kernel, mmOf(pid)))!;
    expect(line.complete).toBe(true);
    expect(line.argv.slice(0, 3)).toEqual([
      "qemu-system-x86_64",
      "-name",
      `guest=${name},process=qemu-${name},debug-threads=on`,
    ]);
    expect(line.argv[line.argv.indexOf("-m") + 1]).toBe(megabytes);
  });

  test("every page of a stopped guest's memory that the dump has is what the guest dumped", () => {
    const memory = processMemory(kernel, mmOf(140));
    const truth = dump.truthBytes("db1.pages");
    const page = Buffer.alloc(4096);
    const seen = { same: 0, excluded: 0 };
    let at = 0;
    for (const [hva, size] of [
      [0x7f28_65e0_0000n, 0x600_0000n],
      [0x7f28_7940_0000n, 0x4_0000n],
    ] as const) {
      for (const run of memory.runsOf(hva, hva + size)) {
        if (run.state !== "in-memory") throw new Error(`${run.virtual} is ${run.state}`);
        for (let i = 0; i < run.size; i += 4096) {
          const expected = truth.toString("hex", at, at + 8);
          at += 8;
          const state = dump.memory.readPage(run.physical + i, page);
          // The dump leaves out pages of zeros.
          if (state === "excluded") expect(expected).toBe(ZERO_PAGE);
          else expect(digest(page)).toBe(expected);
          seen[state === "excluded" ? "excluded" : "same"]++;
        }
      }
    }
    expect(at).toBe(truth.length);
    expect(seen).toEqual({ same: 20_174, excluded: 4466 });
  });

  test.each([
    [132, 2707],
    [140, 2700],
  ])("process %i: the page cache has its files' pages where the tables do", (pid, mapped) => {
    const memory = processMemory(kernel, mmOf(pid));
    const vmas = listVmas(kernel.reader, kernel.types, mmOf(pid));
    const cache = new PageCache(kernel.reader, kernel.types, kernel.symbols, 4);
    let same = 0;
    let untouched = 0;
    const files = vmas.vmas.filter(({ file, flags }) => file !== undefined && (flags & 6n) === 4n);
    for (const { file, start, end, pageOffset } of files) {
      const mapping = cache.mappingOf(file!)!;
      expect(cache.backingOf(mapping)).toBe("shared-memory");
      for (let at = start; at < end; at += 4096n) {
        const page = memory.translate(at);
        const cached = cache.pageOf(mapping, Number(pageOffset + (at - start) / 4096n));
        expect(cached.state).toBe("in-memory");
        if (page.state === "untouched") untouched++;
        else if (page.state === "in-memory" && cached.state === "in-memory") {
          expect(page.physical).toBe(cached.physical);
          same++;
        }
      }
    }
    expect(same).toBe(mapped);
    const runs = [...new ProcessPages(memory, vmas, cache).runsOf(0n, 1n << 47n)];
    const inCache = runs.filter((run) => run.state === "in-memory" && run.kind === "page-cache");
    const pages = inCache.reduce((sum, { size }) => sum + size / 4096, 0);
    expect(pages).toBeGreaterThan(untouched);
    expect(runs.filter(({ state }) => state === "unknown")).toEqual([]);
  });

  test("damaged copies are read to an end", () => {
    const outcomes = new Set<string>();
    for (let seed = 0; seed < 16; seed++) {
      const reader = dump.readerOf(damaged(dump.memory, seed));
      const { tasks, outcome } = listTasks(reader, kernel.types, kernel.symbols);
      outcomes.add(outcome.complete ? "complete" : outcome.reason);
      for (const { mm } of tasks.filter(({ tgid }) => tgid === 140).slice(0, 1)) {
        const memory = ProcessMemory.of(reader, kernel.types, mm ?? 0n, kernel.shape, kernel.symbols);
        if (mm === undefined || memory === undefined) continue;
        const vmas = listVmas(reader, kernel.types, mm);
        outcomes.add(vmas.outcome.complete ? "complete" : vmas.outcome.reason);
        commandLine(reader, kernel.types, mm, memory);
        const pages = new ProcessPages(memory, vmas, new PageCache(reader, kernel.types, kernel.symbols, 4));
        for (const { size } of pages.runsOf(0x7f28_0000_0000n, 0x7f29_0000_0000n))
          expect(size).toBeGreaterThan(0);
      }
    }
    expect(outcomes.size).toBeGreaterThan(1);
  });
});

describe.skipIf(whyNoHostDump(VMX) !== undefined)(titled(VMX), () => {
  let dump: HostDump;
  let kernel: LinuxKernel;
  let list: TaskList;

  beforeAll(async () => {
    dump = openHostDump(VMX, "vmcore.elf.zst");
    kernel = await kernelOf(dump);
    list = listTasks(kernel.reader, kernel.types, kernel.symbols);
  });
  afterAll(() => dump.close());

  test("processes are those that ps showed, but for those that have come and gone", () => {
    const shown = dump.truth("ps").trim().split("\n").slice(1);
    const processes = shown.map((line) =>
      /^ *(\d+) (.{16}) /
        .exec(line)!
        .slice(1)
        .map((text) => text.trim()),
    );
    const gone = new Set(["ps"]);
    const found = list.tasks.filter(({ pid, tgid }) => pid === tgid);
    expect(list.outcome).toEqual({ complete: true });
    for (const [pid, comm] of processes) {
      if (gone.has(comm!)) continue;
      const task = found.find((one) => one.pid === Number(pid));
      // kworkers have other names in ps, of what they do (wq_worker_comm).
      if (!comm!.startsWith("kworker/")) expect(task?.comm, pid).toBe(comm);
    }
    expect(found.length).toBeGreaterThan(60);
    const threads = dump
      .truth("taskstat")
      .trim()
      .split("\n")
      .map((line) => Number(line.split(" ")[0]));
    const own = list.tasks.filter(({ tgid }) => tgid === 154).map(({ pid }) => pid);
    expect(own).toEqual(expect.arrayContaining(threads));
  });

  test("every guest page is where the process itself saw it", () => {
    const truth = dump.truth("gt");
    const vmm = list.tasks.find(({ pid }) => pid === Number(/^vmm\.pid (\d+)/m.exec(truth)![1]))!;
    const memory = processMemory(kernel, vmm.mm!);
    const slots = [...truth.matchAll(/^slot\d+ gpa=(\w+) size=(\w+) hva=(\w+) .*present_pages=(\d+)/gm)].map(
      ([, gpa, size, hva, pages]) => ({
        gpa: BigInt(gpa!),
        end: BigInt(gpa!) + BigInt(size!),
        hva: BigInt(hva!),
        pages: Number(pages),
      }),
    );
    let checked = 0;
    for (const [, gpa, hpa, pages] of truth.matchAll(/^map gpa=(\w+) hpa=(\w+) pages=(\d+)/gm)) {
      const slot = slots.find((one) => BigInt(gpa!) >= one.gpa && BigInt(gpa!) < one.end)!;
      for (let i = 0; i < Number(pages); i++) {
        const page = memory.translate(slot.hva + BigInt(gpa!) - slot.gpa + BigInt(i * 4096));
        expect(page).toMatchObject({ state: "in-memory", kind: "present", physical: Number(hpa) + i * 4096 });
        checked++;
      }
    }
    expect(checked).toBe(3261);
    for (const { hva, gpa, end, pages } of slots) {
      let present = 0;
      for (const run of memory.runsOf(hva, hva + end - gpa)) {
        if (run.state === "in-memory") present += run.size / 4096;
        else expect(run.state).toBe("untouched");
      }
      expect(present).toBe(pages);
    }
  });

  test("its command line", () => {
    const { mm } = list.tasks.find(({ pid }) => pid === 154)!;
    const line = commandLine(kernel.reader, kernel.types, mm!, processMemory(kernel, mm!));
    expect(line).toEqual({ argv: ["/vmm", "pattern", "/tmp/gt"], complete: true });
  });
});

/** As /proc/PID/maps has them, without what is not in the VMA itself. */
const mapsOf = ({ vmas }: VmaList): string[] =>
  vmas.map(({ start, end, flags, pageOffset, file }) => {
    const hex = (value: bigint) => value.toString(16).padStart(8, "0");
    const right = (bit: bigint, letter: string) => ((flags & bit) === 0n ? "-" : letter);
    const rights = `${right(1n, "r")}${right(2n, "w")}${right(4n, "x")}${(flags & 8n) === 0n ? "p" : "s"}`;
    const offset = file === undefined ? 0n : pageOffset * 4096n;
    return `${hex(start)}-${hex(end)} ${rights} ${hex(offset)}${file === undefined ? "" : " file"}`;
  });

/** Memory of which some pages are missing, and some have words that other places of them have, or none. */
function damaged(memory: PhysicalMemory, seed: number): PhysicalMemory {
  const harm = (chance: Random, target: Uint8Array): void => {
    const page = Buffer.from(target.buffer, target.byteOffset, 4096);
    for (let n = chance.below(6); n >= 0; n--) {
      const word = page.readBigUInt64LE(chance.below(512) * 8);
      page.writeBigUInt64LE(
        chance.pick([0n, word, word ^ (1n << BigInt(chance.below(64)))]),
        chance.below(512) * 8,
      );
    }
  };
  return {
    ranges: memory.ranges,
    extentAt: (address, limit) => memory.extentAt(address, limit),
    readPage(address, target) {
      const state = memory.readPage(address, target);
      // The kernel's own tables, in its image below 512 MiB, stay as they are: without them there is nothing to read.
      if (state !== "present" || (address >= 0xb00_0000 && address < 0xe40_0000)) return state;
      const chance = random(seed * 1_000_003 + Math.floor(address / 4096));
      const fate = chance.below(40);
      if (fate === 0) return "excluded";
      if (fate === 1) harm(chance, target);
      return state;
    },
  };
}
