import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { extracted, type Subject, subjects } from "./extracted.ts";
import { knownRegisters } from "./guests.ts";
import {
  parseGdbRegisters,
  parseInfoRegisters,
  parsePrStatus,
  parseQemuNote,
  type Registers,
  userRegisters,
} from "./registers.ts";
import { runWell, testWith } from "./tools.ts";
import { VmcoreFile } from "./vmcore-file.ts";

/** Those registers of `all` that `names` has, as text that reads well in a failure. */
function pick(all: Registers, names: Iterable<string>): Record<string, string> {
  return Object.fromEntries([...names].map((name) => [name, `0x${all.get(name)?.toString(16)}`]));
}

const notesOf = (path: string, owner: string): Buffer[] => {
  const file = new VmcoreFile(path);
  file.close();
  return file.named(owner).map(({ desc }) => desc);
};

describe.each(subjects())("the registers of $title", (subject: Subject) => {
  const truth = parseInfoRegisters(readFileSync(subject.guest.registers, "utf8"));

  test("can be judged: QEMU told every vCPU, and the guest what it had put there", () => {
    expect(truth).toHaveLength(subject.guest.recipe.vcpus);
    const known = knownRegisters(subject.guest.recipe);
    if (known === undefined) return;
    expect(pick(truth[known.vcpu]!, known.values.keys())).toEqual(pick(known.values, known.values.keys()));
  });

  test("are in NT_PRSTATUS, as QEMU told and as QEMU dumps them", () => {
    const notes = notesOf(extracted(subject), "CORE");
    const cpus = notes.map(parsePrStatus);
    expect(cpus.map(({ pid }) => pid)).toEqual(truth.map((_, index) => index + 1));
    for (const [index, { registers }] of cpus.entries()) {
      const told = userRegisters.filter((name) => truth[index]!.has(name));
      expect(told.length).toBeGreaterThanOrEqual(truth[index]!.has("r15") ? 26 : 18);
      expect(pick(registers, told)).toEqual(pick(truth[index]!, told));
    }
    // QEMU writes the 32-bit structure for a 32-bit processor.
    if (subject.guest.recipe.emulator === undefined) {
      expect(notes).toEqual(notesOf(subject.guest.dump, "CORE"));
    }
  });

  test("are in QEMU's notes with descriptor tables and control registers", () => {
    const notes = notesOf(extracted(subject), "QEMU");
    expect(notes).toHaveLength(truth.length);
    for (const [index, desc] of notes.entries()) {
      const { version, size, registers } = parseQemuNote(desc);
      expect({ version, size }).toEqual({ version: 1, size: desc.length });
      // The monitor shows bits 8 to 23 of a segment's flags.
      const shown = new Map(
        [...registers].map(([name, value]) => [name, name.endsWith("_flags") ? value & 0xffff00n : value]),
      );
      const names = [...truth[index]!.keys()].filter((name) => shown.has(name));
      expect(names.length).toBeGreaterThanOrEqual(truth[index]!.has("r15") ? 56 : 48);
      expect(pick(shown, names)).toEqual(pick(truth[index]!, names));
    }
    expect(notes).toEqual(notesOf(subject.guest.dump, "QEMU"));
  });

  testWith(["gdb"], "are what gdb shows of each thread", () => {
    const quiet = ["-nx", "-batch", "-iex", "set debuginfod enabled off"];
    const commands = ["-ex", "info threads", "-ex", "thread apply all -ascending info registers"];
    const { stdout, stderr } = runWell("gdb", [...quiet, "-core", extracted(subject), ...commands]);
    const threads = parseGdbRegisters(stdout);
    expect(threads).toHaveLength(truth.length);
    for (const [index, registers] of threads.entries()) {
      const shown = userRegisters.filter((name) => registers.has(name) && truth[index]!.has(name));
      expect(shown.length).toBeGreaterThanOrEqual(truth[index]!.has("r15") ? 24 : 16);
      expect(pick(registers, shown)).toEqual(pick(truth[index]!, shown));
    }
    expect(stderr).not.toMatch(/warning|error|truncated/i);
  });
});
