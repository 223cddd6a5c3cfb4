import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { isZero } from "../src/core/bytes.ts";
import { GuestcoreError } from "../src/core/errors.ts";
import type { PhysicalMemory } from "../src/core/memory.ts";
import { openProcessCore, type ProcessCore } from "../src/dump/process-core.ts";
import { decodePrstatus } from "../src/elf/core-notes.ts";
import { processSpace } from "../src/guest/process-space.ts";
import { FileSource } from "../src/io/file.ts";
import { mappingsOf } from "../src/jobs/gcore.ts";
import { coreNotes } from "../src/jobs/gcore-notes.ts";
import { chooseProcess } from "../src/jobs/gcore-process.ts";
import { openHost } from "../src/jobs/host.ts";
import { openInput } from "../src/jobs/input.ts";
import { ProcessPages } from "../src/kernel/process-pages.ts";
import { KernelReader } from "../src/kernel/reader.ts";
import { listVmas } from "../src/kernel/vmas.ts";
import { planCore } from "../src/vmcore/process-core.ts";
import { decodeRegionNote, isRegionNote } from "../src/vmx/region-note.ts";
import { quiet } from "./support/memory-io.ts";
import { readVmcore } from "./support/read-vmcore.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { random } from "./synth/pattern.ts";

/** Two real hosts: AMD with the qemus `web1` (pid 132) and `db1` (140), dumped with -d 23; Intel with another VMM. */
const DATA = process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../shared/data");
const AMD = join(DATA, "svm/two-guests");
const INTEL = join(DATA, "vmx/pattern-guest");
const zstd = spawnSync("zstd", ["--version"]).status === 0;
const skip = [AMD, INTEL].find((folder) => !existsSync(folder)) ?? (zstd ? undefined : "zstd command");
const temporary = mkdtempSync(join(tmpdir(), "guestcore-gcore-"));
afterAll(() => rmSync(temporary, { recursive: true }));
const at = (name: string): string => join(temporary, name);

async function run(...argv: string[]) {
  const terminal = new FakeTerminal();
  const status = await main(argv, terminal);
  return { status, out: terminal.out, err: terminal.err };
}

function unpacked(packed: string, name: string): string {
  spawnSync("zstd", ["-dqf", packed, "-o", at(name)]);
  return at(name);
}

function opened(path: string): { core: ProcessCore; close: () => void } {
  const source = FileSource.open(path);
  return { core: openProcessCore(source), close: () => source.close() };
}

/** What /proc/PID/maps said, before the host crashed. */
function mapsOf(pid: number) {
  const lines = readFileSync(join(AMD, "truth", `maps.${pid}`), "latin1")
    .trimEnd()
    .split("\n");
  return lines.map((line) => {
    const [, start, end, mode, offset, path] =
      /^([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) \S+ \d+ *(.*)$/.exec(line)!;
    const number = (text: string) => Number.parseInt(text, 16);
    return { start: number(start!), end: number(end!), mode: mode!, offset: number(offset!), path: path! };
  });
}

const byStart = (a: { readonly start: number }, b: { readonly start: number }) => a.start - b.start;

describe.skipIf(skip !== undefined)(
  skip === undefined ? "processes of real hosts" : `skipped: no ${skip}`,
  () => {
    let amd = "";
    let intel = "";
    beforeAll(() => {
      amd = unpacked(join(AMD, "vmcore.d23.elf.zst"), "amd.vmcore");
      intel = unpacked(join(INTEL, "vmcore.elf.zst"), "intel.vmcore");
    }, 120_000);

    test.each([
      ["web1", 132],
      ["db1", 140],
    ])("%s has the threads, mappings and files that it had", { timeout: 120_000 }, async (name, pid) => {
      const { status, out, err } = await run("gcore", amd, "--guest", name, "-o", at(name), "--json");
      expect(status, err).toBe(0);
      const document = JSON.parse(out);
      const validate = schemas().getSchema("gcore.json")!;
      expect(validate(document), JSON.stringify(validate.errors)).toBe(true);
      const maps = mapsOf(pid);
      const { core, close } = opened(at(name));
      const named = maps.filter(({ path }) => path !== "" && !path.startsWith("["));
      expect(core.files).toEqual(
        named.map(({ start, end, offset, path }) => ({ start, end, offset, path })).sort(byStart),
      );
      const whole = document.result.mappings.map(
        ({ start, end, flags }: { start: string; end: string; flags: number }) => [
          Number(start),
          Number(end),
          `${flags & 4 ? "r" : "-"}${flags & 2 ? "w" : "-"}${flags & 1 ? "x" : "-"}`,
        ],
      );
      expect(whole).toEqual(maps.sort(byStart).map(({ start, end, mode }) => [start, end, mode.slice(0, 3)]));
      const tasks = readFileSync(join(AMD, "truth", `tasks.${pid}`), "latin1")
        .trimEnd()
        .split("\n");
      const threads = document.result.process.threads as { pid: number; comm: string; registers: boolean }[];
      expect(threads.map((thread) => `${thread.pid} ${thread.comm}`)).toEqual(tasks);
      expect(threads.every(({ registers }) => registers)).toBe(true);
      expect(core.warnings).toEqual([]);
      expect(core.psargs).toMatch(new RegExp(`^qemu-system-x86_64 -name guest=${name},`));
      const states = core.notes.filter((note) => note.type === 1 && note.name === "CORE");
      expect(states.map(({ desc }) => decodePrstatus(desc)!.pid)).toEqual(
        threads.map((thread) => thread.pid),
      );
      // Every thread waits in a system call of libc or is in the guest: its code is mapped and executable.
      for (const { desc } of states) {
        const rip = Number(decodePrstatus(desc)!.registers.rip);
        const code = maps.find(({ start, end }) => start <= rip && rip < end);
        expect([code?.mode, code?.path]).toEqual(["r-xp", "/lib/x86_64-linux-gnu/libc.so.6"]);
      }
      expect(statSync(at(name)).mode & 0o777).toBe(0o600);
      close();
    });

    test.each([
      ["web1", "1"],
      ["db1", "2"],
    ])(
      "extract takes the same guest out of the core of %s as out of its host",
      { timeout: 120_000 },
      async (name, id) => {
        const from = { core: at(`${name}.core.vmcore`), host: at(`${name}.host.vmcore`) };
        const core = await run("extract", at(name), "-o", from.core, "--json");
        expect(core.status, core.err).toBe(0);
        expect((await run("extract", amd, "--guest", id, "-o", from.host)).status).toBe(0);
        expect(registersOf(from.core)).toEqual(registersOf(from.host));
        expect(pagesOf(from.core)).toEqual(pagesOf(from.host));
        expect(core.err).not.toMatch(/REG00[0-9]/);
      },
    );

    test.skipIf(spawnSync("gdb", ["--version"]).status !== 0)(
      "gdb opens the core",
      { timeout: 60_000 },
      () => {
        const commands = ["info threads", "info auxv", "x/2i $pc"].flatMap((command) => ["-ex", command]);
        const { stdout } = spawnSync("gdb", ["-nx", "-batch", ...commands, "-c", at("db1")], {
          encoding: "utf8",
        });
        expect(stdout).toMatch(/Core was generated by `qemu-system-x86_64 -name guest=db1,/);
        for (const thread of [140, 142, 144, 145])
          expect(stdout).toMatch(new RegExp(`LWP ${thread} +0x0000`));
        expect(stdout).toMatch(/AT_EXECFN .*"\/usr\/bin\/qemu-system-x86_64"/);
        // Behind the system call that the thread waits in.
        expect(stdout).toMatch(/=> 0x7f287bb40366:\tcmp /);
      },
    );

    test("web1's vCPUs carry what KVM kept", () => {
      const { core, close } = opened(at("web1"));
      const notes = core.notes.filter(isRegionNote).map(({ name, desc }) => decodeRegionNote(name, desc));
      close();
      expect(notes.map(({ vcpu, address, complete }) => [vcpu, address, complete])).toEqual([
        [0, 0x3691_9000, true],
        [1, 0x37d3_a000, true],
      ]);
      // truth/drgn-with-debuginfo.txt
      expect(notes[0]!.kept).toMatchObject({
        address: 0xffff_8dca_b6f7_8000n,
        registers: { general: { rbx: 0x11c_1b3fn, rsi: 0x11c_1b40n, r15: 1n }, newer: { rip: false } },
      });
      expect(notes[1]!.kept?.registers).toMatchObject({ rip: 0xffff_ffff_8da5_92ebn, newer: { rip: true } });
    });

    test("a process that runs no guest, by its pid", { timeout: 60_000 }, async () => {
      const { status, out } = await run("gcore", amd, "--pid", "206", "--dry-run", "--json");
      expect(status).toBe(0);
      const { process: shell, vcpuNotes, output, next } = JSON.parse(out).result;
      expect(shell.commandLine).toEqual(["sh", "-c", "echo c > /proc/sysrq-trigger"]);
      expect(shell.threads).toMatchObject([{ pid: 206, registers: true, running: true }]);
      expect([vcpuNotes, output.path, next]).toEqual([[], undefined, []]);
    });

    test("says what there is to choose from", { timeout: 60_000 }, async () => {
      const list = "2 guests: 1 (web1, pid 132); 2 (db1, pid 140)";
      const none = await run("gcore", amd);
      expect([none.status, none.err]).toEqual([2, expect.stringContaining(list)]);
      const wrong = await run("gcore", amd, "--guest", "db2", "--dry-run");
      expect([wrong.status, wrong.err]).toEqual([5, expect.stringContaining(list)]);
      const thread = await run("gcore", amd, "--pid", "2", "--dry-run");
      expect([thread.status, thread.err]).toEqual([
        5,
        expect.stringMatching(/process 2 has no memory.*kernel HOST --tasks/s),
      ]);
      const both = await run("gcore", amd, "--pid", "132", "--guest", "1");
      expect(both.status).toBe(2);
      const nowhere = await run("gcore", amd, "--guest", "1");
      expect([nowhere.status, nowhere.err]).toEqual([2, expect.stringContaining("no output given")]);
    });

    test("an Intel host's VMM by one of its threads: VMCSs and their layout", {
      timeout: 60_000,
    }, async () => {
      const { status, out, err } = await run("gcore", intel, "--pid", "160", "-o", at("vmm"), "--json");
      expect(status, err).toBe(0);
      const { process: vmm, coverage } = JSON.parse(out).result;
      expect([vmm.pid, vmm.guests, vmm.threads.length]).toEqual([154, [1], 4]);
      expect(coverage).toMatchObject({ excluded: 0, missing: 36_864 });
      const { core, close } = opened(at("vmm"));
      const owners = core.notes.filter(({ name }) => name.startsWith("VMCS")).map(({ name }) => name);
      expect(owners).toEqual(["VMCS", "VMCS", "VMCS", "VMCS", "VMCSINFO"]);
      close();
      const shown = await run("vmcsinfo", "show", at("vmm"));
      expect(shown.status, shown.err).toBe(0);
    });

    test("damage in the structures of a process ends in our errors", { timeout: 240_000 }, async () => {
      const input = await openInput(intel, { ...quiet, temporaryDirectories: [temporary] });
      const host = await openHost(input, {}, () => {}, quiet);
      const outcomes = { written: 0, refused: 0 };
      for (let seed = 1; seed <= 60; seed++) {
        const memory = damaged(host.memory, seed);
        const kernel = { ...host.kernel!, reader: new KernelReader(memory, host.kernel!.reader.space) };
        const mutant = { ...host, memory, kernel };
        try {
          const chosen = chooseProcess(mutant, { pid: 154 });
          const vmas = listVmas(kernel.reader, kernel.types, chosen.mm);
          const notes = coreNotes(mutant, chosen, vmas.vmas);
          const pages = ProcessPages.of(kernel, chosen.mm);
          const mappings = mappingsOf(kernel, vmas).filter(({ contents }) => contents === "memory");
          const space = pages && (await processSpace(memory, pages, mappings));
          if (space !== undefined) await planCore(space, mappings, notes.bytes.length);
          outcomes.written++;
        } catch (error) {
          if (!(error instanceof GuestcoreError)) throw error;
          outcomes.refused++;
        }
      }
      input.close();
      expect(outcomes.written + outcomes.refused).toBe(60);
      expect(outcomes.written).toBeGreaterThan(5);
    });
  },
);

/** Memory of which some pages have a word changed, the same for the same seed. */
function damaged(memory: PhysicalMemory, seed: number): PhysicalMemory {
  return {
    ranges: memory.ranges,
    extentAt: (address, limit, holes) => memory.extentAt(address, limit, holes),
    readPage(address, target) {
      const state = memory.readPage(address, target);
      const chance = random(seed * 1_000_003 + address / 4096);
      if (state !== "present" || chance.below(4) > 0) return state;
      const bytes = Buffer.from(target.buffer, target.byteOffset, 4096);
      for (let n = chance.below(12); n >= 0; n--) {
        const word = chance.pick([0n, 1n, (1n << 64n) - 1n, bytes.readBigUInt64LE(8 * chance.below(512))]);
        bytes.writeBigUInt64LE(word, 8 * chance.below(512));
      }
      return state;
    },
  };
}

function registersOf(path: string) {
  const { notes } = readVmcore(readFileSync(path));
  return notes
    .filter(({ name }) => name === "CORE" || name === "QEMU")
    .map(({ desc }) => desc.toString("hex"));
}

/** Address and hash of every page that is not zero. */
function pagesOf(path: string): string[] {
  const { loads } = readVmcore(readFileSync(path));
  // The kernel image is there twice.
  const known = new Set<string>();
  for (const { paddr, bytes } of loads) {
    for (let at = 0; at < bytes.length; at += 4096) {
      const page = bytes.subarray(at, at + 4096);
      if (isZero(page, 0, 4096)) continue;
      known.add(`${Number(paddr) + at} ${createHash("sha1").update(page).digest("hex")}`);
    }
  }
  return [...known].sort();
}
