import { describe, expect, test } from "vitest";
import { CorruptError, GuestcoreError, UnsupportedError } from "../src/core/errors.ts";
import { readElf } from "../src/elf/header.ts";
import type { Note } from "../src/elf/notes.ts";
import { addNotes, type NewNote } from "../src/vmcore/add-notes.ts";
import { MemoryOutput, MemorySource, quiet } from "./support/memory-io.ts";
import { readVmcore } from "./support/read-vmcore.ts";
import { buildElf, type ElfSpec, PT_NOTE } from "./synth/elf.ts";
import { note } from "./synth/notes.ts";
import { mutants, patternBytes } from "./synth/pattern.ts";

async function add(core: Buffer, notes: readonly NewNote[], keep?: (found: Note) => boolean) {
  const source = new MemorySource(core);
  const output = new MemoryOutput();
  const elf = readElf(source);
  const options = { source, elf, notes, output, context: quiet, ...(keep === undefined ? {} : { keep }) };
  const added = await addNotes(options);
  expect(output.finished).toBe(true);
  expect(output.bytes.length).toBe(added.fileSize);
  return { added, bytes: output.bytes };
}

const OLD = Buffer.concat([
  note("CORE", 1, Buffer.alloc(336, 7)),
  note("VMCOREINFO", 0, Buffer.from("OSRELEASE=66\n")),
]);
const NEW: NewNote = { name: "VMCSINFO", type: 0, desc: Buffer.from("REVISION_ID=d\n") };
const LARGE: NewNote = { name: "VMCSINFO", type: 0, desc: patternBytes(8192, 5).subarray(0, 6001) };

const loads = [
  { paddr: 0x1000, vaddr: 0xffff_8880_0000_1000n, bytes: patternBytes(0x8000, 1), align: 0 },
  { paddr: 0x10_0000, vaddr: 0xffff_8880_0010_0000n, bytes: patternBytes(0x20_0000, 2), align: 0 },
];

const alignUp = (size: number): number => Math.ceil(size / 4096) * 4096;

const CASES: Readonly<Record<string, ElfSpec>> = {
  "a vmcore, notes in front of the memory": { notes: OLD, segments: loads },
  "no room at all": { notes: OLD, segments: loads, dataAlign: 1 },
  "a gcore: notes behind the memory, then sections": {
    notes: OLD,
    notesAt: "end",
    segments: loads,
    dataAlign: 1,
    sections: "gdb",
  },
  "notes behind the memory, nothing behind them": { notes: OLD, notesAt: "end", segments: loads },
  "p_memsz like a vmcore's": { notes: OLD, segments: loads, noteHeader: { memsz: OLD.length } },
  "notes that end without padding": { notes: OLD.subarray(0, OLD.length - 3), segments: loads },
};

describe.each(Object.entries(CASES))("%s", (_, spec) => {
  const core = buildElf(spec);
  const before = readVmcore(Buffer.concat([core, Buffer.alloc(0)]));

  test.each([
    ["a small note", NEW],
    ["a large note", LARGE],
  ])("%s", async (_name, wanted) => {
    const { bytes, added } = await add(core, [wanted]);
    const after = readVmcore(bytes);
    expect(after.types).toEqual(before.types);
    expect(after.types.filter((type) => type === PT_NOTE)).toHaveLength(1);
    expect(after.loads.map(({ paddr, vaddr, align }) => ({ paddr, vaddr, align }))).toEqual(
      before.loads.map(({ paddr, vaddr, align }) => ({ paddr, vaddr, align })),
    );
    for (const [i, { bytes: memory }] of before.loads.entries()) {
      expect(after.loads[i]!.bytes.equals(memory)).toBe(true);
    }
    expect(after.notes.map(({ name }) => name)).toEqual(["CORE", "VMCOREINFO", "VMCSINFO"]);
    expect(after.notes[0]!.desc.equals(Buffer.alloc(336, 7))).toBe(true);
    expect(after.notes[2]!.desc.equals(Buffer.from(wanted.desc))).toBe(true);
    // p_memsz of the notes stays 0 where it was 0.
    const memsz = (file: Buffer) => Number(file.readBigUInt64LE(64 + 40));
    expect(memsz(bytes)).toBe(memsz(core) === 0 ? 0 : added.size);
    // crash reads notes only in front of the first PT_LOAD's bytes.
    const offset = (file: Buffer, i: number) => Number(file.readBigUInt64LE(64 + 56 * i + 8));
    if (offset(core, 0) < offset(core, 1)) {
      expect(offset(bytes, 0) + added.size).toBeLessThanOrEqual(offset(bytes, 1));
    }
    expect(added.shift % 4096).toBe(0);
  });

  test("dropped and added again it is the same", async () => {
    const once = await add(core, [LARGE]);
    const again = await add(once.bytes, [LARGE], ({ name }) => name !== "VMCSINFO");
    expect(again.added.shift).toBe(0);
    expect(again.bytes.equals(once.bytes)).toBe(true);
    const none = await add(once.bytes, [], ({ name }) => name !== "VMCSINFO");
    expect(readVmcore(none.bytes).notes).toHaveLength(2);
    expect(none.bytes.includes("VMCSINFO")).toBe(false);
  });
});

test("room behind the notes is used, and nothing moves", async () => {
  const core = buildElf({ notes: OLD, segments: loads });
  const { added } = await add(core, [NEW]);
  expect(added.shift).toBe(0);
  expect(added.fileSize).toBe(core.length);
});

describe("what nothing points at behind the notes", () => {
  const ends = buildElf(CASES["notes behind the memory, nothing behind them"]!);
  const trailer = Buffer.from("TRAILER ".repeat(10));
  const memoryOf = (core: Buffer) => Buffer.concat(readVmcore(core).loads.map(({ bytes }) => bytes));

  test.each([
    ["the end of the file", 0],
    ["zeros up to it", 5000],
  ])("%s is room", async (_, zeros) => {
    const core = Buffer.concat([ends, Buffer.alloc(zeros)]);
    const { bytes, added } = await add(core, [LARGE]);
    expect(added.shift).toBe(0);
    expect(bytes.length).toBe(Math.max(core.length, added.offset + added.size));
    expect(readVmcore(bytes).notes.at(-1)?.name).toBe("VMCSINFO");
  });

  test.each([
    ["a trailer", trailer],
    ["a trailer behind zeros", Buffer.concat([Buffer.alloc(0x3000), trailer])],
  ])("%s is kept", async (_, rest) => {
    const core = Buffer.concat([ends, rest]);
    const { bytes, added } = await add(core, [LARGE]);
    expect(added.shift).toBe(alignUp(added.offset + added.size - ends.length));
    expect(bytes.subarray(ends.length + added.shift).equals(rest)).toBe(true);
    expect(bytes.subarray(0, 64).equals(core.subarray(0, 64))).toBe(true);
    expect(readVmcore(bytes).notes.map(({ name }) => name)).toEqual(["CORE", "VMCOREINFO", "VMCSINFO"]);
    expect(memoryOf(bytes).equals(memoryOf(core))).toBe(true);
  });

  test("bytes between the notes and the memory are kept", async () => {
    const core = buildElf({ notes: OLD, segments: loads });
    const at = Number(core.readBigUInt64LE(64 + 8)) + OLD.length;
    trailer.copy(core, at);
    const { bytes, added } = await add(core, [NEW]);
    expect(added.shift).toBe(4096);
    expect(bytes.subarray(at + added.shift).equals(core.subarray(at))).toBe(true);
    expect(memoryOf(bytes).equals(memoryOf(core))).toBe(true);
  });
});

test("section headers follow what they describe", async () => {
  const core = buildElf(CASES["a gcore: notes behind the memory, then sections"]!);
  const { bytes, added } = await add(core, [LARGE]);
  const shoff = Number(bytes.readBigUInt64LE(40));
  expect(shoff).toBe(Number(core.readBigUInt64LE(40)) + added.shift);
  const sections = Array.from({ length: bytes.readUInt16LE(60) }, (_, i) => shoff + 64 * i);
  const [noteSection] = sections.filter((at) => bytes.readUInt32LE(at + 4) === 7);
  expect(Number(bytes.readBigUInt64LE(noteSection! + 24))).toBe(added.offset);
  expect(Number(bytes.readBigUInt64LE(noteSection! + 32))).toBe(added.size);
  const names = sections[bytes.readUInt16LE(62)]!;
  const strings = Number(bytes.readBigUInt64LE(names + 24));
  expect(bytes.toString("latin1", strings, strings + 40)).toContain("note0");
});

test("more program headers than e_phnum can say", async () => {
  const segments = Array.from({ length: 65_600 }, (_, i) => ({ paddr: 4096 * i, memsz: 4096, filesz: 0 }));
  const core = buildElf({ notes: OLD, segments: [...segments, ...loads], dataAlign: 1 });
  const { bytes } = await add(core, [LARGE]);
  const after = readVmcore(bytes);
  expect(after.notes.at(-1)?.name).toBe("VMCSINFO");
  expect(after.loads.at(-1)!.bytes.equals(loads[1]!.bytes)).toBe(true);
});

test("a truncated vmcore stays truncated: nothing missing becomes zeros", async () => {
  const core = buildElf({ notes: OLD, segments: loads, dataAlign: 1 });
  const cut = core.subarray(0, core.length - 0x10_0000);
  const { bytes, added } = await add(cut, [LARGE]);
  expect(bytes.length).toBe(cut.length + added.shift);
  const offset = Number(bytes.readBigUInt64LE(64 + 56 * 2 + 8));
  expect(offset + 0x20_0000 - bytes.length).toBe(0x10_0000);
});

test("a note in a second PT_NOTE is dropped too", async () => {
  const second = { type: PT_NOTE, bytes: note("VMCSINFO", 0, Buffer.from("REVISION_ID=e\n")) };
  const core = buildElf({ notes: OLD, segments: [...loads, second] });
  const { bytes } = await add(core, [NEW], ({ name }) => name !== "VMCSINFO");
  const found = readVmcore(bytes).notes.filter(({ name }) => name === "VMCSINFO");
  expect(found.map(({ desc }) => desc.toString())).toEqual(["REVISION_ID=d\n"]);
});

describe("refused", () => {
  test.each([
    ["32 bits", { notes: OLD, class64: false, segments: [] }, UnsupportedError],
    ["big-endian", { notes: OLD, bigEndian: true, segments: [] }, UnsupportedError],
    ["no core", { notes: OLD, type: 2, segments: loads }, UnsupportedError],
    ["no PT_NOTE", { segments: loads }, UnsupportedError],
    [
      "damaged notes",
      { notes: note("CORE", 1, Buffer.alloc(64), { descsz: 9999 }), segments: loads },
      CorruptError,
    ],
    ["notes beyond the end", { notes: OLD, segments: loads, size: 300 }, CorruptError],
    ["notes over the header", { notes: OLD, notesAt: 0, segments: loads }, CorruptError],
  ])("%s", async (_, spec, expected) => {
    const core = buildElf(spec as ElfSpec);
    await expect(add(core, [NEW])).rejects.toThrow(expected);
  });
});

const COUNT = Number(process.env.GUESTCORE_MUTANTS ?? 400);
const SEED = Number(process.env.GUESTCORE_SEED ?? 20261125);

test.each(Object.keys(CASES))(`${COUNT} mutants of seed ${SEED}: %s`, { timeout: 120_000 }, async (name) => {
  const core = buildElf({ ...CASES[name]!, segments: [loads[0]!] });
  const outcomes = { answer: 0, error: 0 };
  for (const mutant of mutants(core, SEED, COUNT)) {
    try {
      await add(mutant.core, [NEW]);
      outcomes.answer++;
    } catch (error) {
      if (!(error instanceof GuestcoreError)) throw new Error(mutant.name, { cause: error });
      outcomes.error++;
    }
  }
  expect(outcomes.answer).toBeGreaterThan(0);
  expect(outcomes.error).toBeGreaterThan(0);
});
