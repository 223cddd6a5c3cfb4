import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { PhysicalMemory } from "../src/core/memory.ts";
import { ProcessCore } from "../src/dump/process-core.ts";
import { decodeFileNote, decodePrpsinfo, decodePrstatus, USER_REGS } from "../src/elf/core-notes.ts";
import { encodeFileNote, encodeProcessInfo, encodeThreadStatus } from "../src/elf/core-notes-encode.ts";
import { encodeNote } from "../src/elf/encode.ts";
import { readElf } from "../src/elf/header.ts";
import { parseNotes } from "../src/elf/notes.ts";
import { LostPages } from "../src/vmcore/lost-pages.ts";
import { type CoreMapping, planCore, writeCore } from "../src/vmcore/process-core.ts";
import { MemoryOutput, MemorySource, quiet } from "./support/memory-io.ts";
import { patternBytes } from "./synth/pattern.ts";

const PAGE = 4096;
const descOf = (note: Buffer): Buffer => [...parseNotes(note, 0)][0]!.desc;

describe("notes of a process", () => {
  test("NT_PRSTATUS has the registers in the order of user_regs_struct", () => {
    const registers = Object.fromEntries(
      USER_REGS.map((name, i) => [name, BigInt(i) + (1n << 63n)]),
    ) as never;
    const ids = { pid: 145, ppid: 1, pgrp: 140, sid: 139 };
    const desc = descOf(encodeThreadStatus({ ...ids, registers, fpValid: true }));
    expect(decodePrstatus(desc)).toEqual({ pid: 145, registers });
    expect([32, 36, 40, 44, 328].map((at) => desc.readInt32LE(at))).toEqual([145, 1, 140, 139, 1]);
    const unknown = descOf(encodeThreadStatus({ ...ids, registers: undefined, fpValid: false }));
    expect(unknown.subarray(112).every((byte) => byte === 0)).toBe(true);
  });

  test("NT_PRPSINFO cuts what is too long", () => {
    const info = { state: "D", nice: -5, flags: 0x40_0040, uid: 107, gid: 108 };
    const ids = { pid: 140, ppid: 1, pgrp: 140, sid: 139 };
    const names = { fname: "a-name-of-sixteen", psargs: "x".repeat(100) };
    const desc = descOf(encodeProcessInfo({ ...info, ...ids, ...names }));
    expect(decodePrpsinfo(desc)).toEqual({ pid: 140, fname: "a-name-of-sixte", psargs: "x".repeat(79) });
    expect([desc[0], String.fromCharCode(desc[1]!), desc[2], desc.readInt8(3)]).toEqual([2, "D", 0, -5]);
    expect([desc.readUInt32LE(16), desc.readUInt32LE(20)]).toEqual([107, 108]);
    const odd = descOf(encodeProcessInfo({ ...info, ...ids, ...names, state: "I" }));
    expect([odd[0], String.fromCharCode(odd[1]!)]).toEqual([6, "."]);
  });

  test("NT_FILE is read as it was written", () => {
    const path = fc.string({ minLength: 1, maxLength: 40, unit: fc.constantFrom("a", "/", " ", "-") });
    const entry = fc.record({ pages: fc.integer({ min: 1, max: 9 }), page: fc.nat(1000), path });
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 20 }), (entries) => {
        let at = 0x40_0000;
        const files = entries.map(({ pages, page, path: name }) => {
          const start = at;
          at += (pages + 1) * PAGE;
          return { start, end: start + pages * PAGE, page, path: name };
        });
        const note = encodeFileNote(
          files.map(({ start, end, page, path: name }) => ({
            ...{ start: BigInt(start), end: BigInt(end), page: BigInt(page), path: name },
          })),
          PAGE,
        );
        expect(decodeFileNote(descOf(note))).toEqual(
          files.map(({ start, end, page, path: name }) => ({ start, end, offset: page * PAGE, path: name })),
        );
      }),
      { numRuns: 100, seed: 6 },
    );
  });
});

/** What is at each page of some addresses: d data, z zero, x left out, a absent, b data that turns out to be unreadable. */
function memoryOf(start: number, pages: string): PhysicalMemory {
  const end = start + pages.length * PAGE;
  const kind = (address: number) => pages[(address - start) / PAGE]!;
  const state = { d: "present", b: "present", z: "zero", x: "excluded", a: "absent" } as const;
  const stateAt = (address: number) => state[kind(address) as keyof typeof state];
  return {
    ranges: [{ start, end }],
    extentAt(address, limit) {
      let to = address + PAGE;
      while (to < limit && stateAt(to) === stateAt(address)) to += PAGE;
      return { start: address, end: to, state: stateAt(address) };
    },
    readPage(address, target) {
      if (kind(address) !== "d") return kind(address) === "z" ? "zero" : "absent";
      target.set(patternBytes(PAGE, address / PAGE, { zero: () => false }));
      return "present";
    },
  };
}

/** AT_ENTRY 0x401000, AT_NULL. */
const AUXV = Buffer.from(BigUint64Array.from([9n, 0x40_1000n, 0n, 0n]).buffer);

async function coreOf(mappings: readonly CoreMapping[], memory: PhysicalMemory, seekable = true) {
  const notes = encodeNote("CORE", 6, AUXV);
  const plan = await planCore(memory, mappings, notes.length);
  const output = new MemoryOutput(seekable);
  const coverages = await writeCore({ memory, plan, notes, output, context: quiet, lost: new LostPages() });
  const source = new MemorySource(output.bytes, "core");
  const elf = readElf(source);
  return { plan, coverages, elf, core: new ProcessCore(source, elf) };
}

const START = 0x7f12_3456_0000;
const mapping = (from: number, to: number, over: Partial<CoreMapping> = {}): CoreMapping => ({
  ...{ start: START + from * PAGE, end: START + to * PAGE, flags: 4, contents: "memory" },
  ...over,
});

describe("a process core", () => {
  test("has what is there of each mapping, and says what is not", async () => {
    const memory = memoryOf(START, "ddzxxdadzz");
    const mappings = [
      mapping(0, 3, { flags: 5 }),
      mapping(3, 7),
      mapping(7, 8, { flags: 6 }),
      mapping(8, 10),
    ];
    const left = mapping(12, 14, { contents: "left-out", flags: 0 });
    const { elf, core, coverages, plan } = await coreOf([...mappings, left], memory);
    const loads = elf.programs.filter(({ type }) => type === 1);
    const page = (address: bigint) => Number(address - BigInt(START)) / PAGE;
    expect(
      loads.map(({ vaddr, filesz, memsz, flags }) => [page(vaddr), filesz / PAGE, memsz / PAGE, flags]),
    ).toEqual([
      [0, 3, 3, 5],
      [3, 0, 2, 4],
      [5, 1, 2, 4],
      [7, 1, 1, 6],
      [8, 2, 2, 4],
      [12, 0, 2, 0],
    ]);
    expect(
      coverages.map(({ present, zero, excluded, missing }) =>
        [present, zero, excluded, missing].map((n) => n / PAGE),
      ),
    ).toEqual([
      [2, 1, 0, 0],
      [1, 0, 2, 1],
      [1, 0, 0, 0],
      [0, 2, 0, 0],
      [0, 0, 0, 0],
    ]);
    expect(plan.missing.map(({ state }) => state)).toEqual(["excluded", "absent"]);
    expect(core.warnings).toEqual([]);
    expect(core.auxv.get(9)).toBe(0x40_1000n);
  });

  test("is the same as a stream", async () => {
    const memory = memoryOf(START, "dzxd");
    const [file, stream] = await Promise.all(
      [true, false].map((way) => coreOf([mapping(0, 4)], memory, way)),
    );
    expect(stream!.elf).toEqual(file!.elf);
  });

  test("never gives for memory what there was not", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.string({ minLength: 1, maxLength: 60, unit: fc.constantFrom("d", "z", "x", "a", "b") }),
        fc.array(fc.nat(59), { maxLength: 5 }),
        async (pages, cuts) => {
          const memory = memoryOf(START, pages);
          const edges = [...new Set([0, ...cuts.filter((cut) => cut < pages.length), pages.length])];
          edges.sort((a, b) => a - b);
          const mappings = edges.slice(1).map((to, i) => mapping(edges[i]!, to));
          if (!/[dz]/.test(pages)) return;
          const { core } = await coreOf(mappings, memory);
          const target = Buffer.alloc(PAGE);
          for (const [i, kind] of [...pages].entries()) {
            const got = core.read(START + i * PAGE, target);
            expect(got, `page ${i} of ${pages}`).toBe("dz".includes(kind) ? PAGE : 0);
            if (kind === "z") expect(target.every((byte) => byte === 0)).toBe(true);
            if (kind !== "d") continue;
            expect(target.equals(patternBytes(PAGE, START / PAGE + i, { zero: () => false }))).toBe(true);
          }
          expect(core.mappings.at(-1)?.end).toBe(START + pages.length * PAGE);
        },
      ),
      { numRuns: 150, seed: 7 },
    );
  });
});
