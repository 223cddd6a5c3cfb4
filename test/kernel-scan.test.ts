import { describe, expect, test } from "vitest";
import { InterruptedError } from "../src/core/errors.ts";
import type { PhysicalMemory } from "../src/core/memory.ts";
import { presentChunks } from "../src/kernel/chunks.ts";
import {
  CANDIDATE_LIMIT,
  findVmcoreinfo,
  overlookedWarnings,
  VmcoreinfoScanner,
} from "../src/kernel/vmcoreinfo-scan.ts";
import type { X86State } from "../src/x86/state.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { linuxGuest, longMode, RAM, ROOT, vmcoreinfoNote, vmcoreinfoText } from "./synth/linux-guest.ts";
import { memoryFrom, type Piece, ramWith, tablePieces } from "./synth/memory.ts";
import { stateOf } from "./synth/x86-state.ts";

const NOTE = 0x40_0000;
const text = vmcoreinfoText();
/** A text of more than one page. */
const long = text + Array.from({ length: 300 }, (_, i) => `SYMBOL(filler_${i})=ffffffff9a400000\n`).join("");
const guestWith = (...extra: Piece[]) => memoryFrom(linuxGuest({ extra }));
const note = (address: number, changes?: Parameters<typeof vmcoreinfoText>[0]): Piece => ({
  address,
  bytes: vmcoreinfoNote(vmcoreinfoText(changes)),
});
/** VMCOREINFO of another kernel: where it would have its root, this memory holds zeros. */
const foreign = { OSRELEASE: "5.10.0-1", "NUMBER(phys_base)": String(0x180_0000 - 0x1a40_0000) };
const kernel = stateOf(longMode(ROOT));

/** All of memory, also behind a note whose kernel is intact. */
function scanAll(memory: PhysicalMemory, states: readonly X86State[] = []) {
  const scanner = new VmcoreinfoScanner(memory, { states });
  for (const { address, bytes } of presentChunks(memory, 0, RAM)) scanner.scan(bytes, address);
  return scanner.result;
}

describe("findVmcoreinfo", () => {
  test("finds the kernel's note, with the page tables it names and the vCPU that runs it", async () => {
    const search = await findVmcoreinfo(guestWith(note(NOTE)), { states: [kernel] });
    expect(search.hits).toHaveLength(1);
    expect(search.best).toMatchObject({
      address: NOTE,
      form: "note",
      whole: true,
      tables: "work",
      running: true,
      vmcoreinfo: { text },
    });
  });

  test("finds none in memory that holds none, and no note that is not at a word", async () => {
    const shifted = Buffer.concat([Buffer.alloc(18), vmcoreinfoNote(text)]);
    const memory = guestWith({ address: NOTE, bytes: shifted });
    expect(await findVmcoreinfo(memory)).toEqual({ best: undefined, hits: [], overlooked: 0 });
  });

  test.each([true, false])("reads a note that goes on in the next page (raw extents: %s)", async (raw) => {
    const memory = memoryFrom(linuxGuest({ extra: [{ address: NOTE, bytes: vmcoreinfoNote(long) }] }), {
      raw,
    });
    expect(long.length).toBeGreaterThan(8192);
    expect((await findVmcoreinfo(memory)).best?.vmcoreinfo.text).toBe(long);
  });

  test("a note whose second page is missing keeps the lines of its first", async () => {
    const bytes = vmcoreinfoNote(long).subarray(0, 4096);
    const memory = guestWith({ address: NOTE, bytes }, { address: NOTE + 4096, size: 8192, state: "absent" });
    const best = (await findVmcoreinfo(memory)).best;
    expect(best).toMatchObject({ whole: false, tables: "work" });
    expect(best?.vmcoreinfo.text).toBe(long.slice(0, long.lastIndexOf("\n", 4096 - 24 - 1) + 1));
  });

  // In a page, at its end, and where the pages part header, name and text.
  test.each([0x5a4, 0xffc, 0xff4, 0xff0, 0xfec, 0xfe4, 0xfd0])(
    "before 4.13 the note is wherever .bss puts it: byte %i of a page",
    async (offset) => {
      const bytes = Buffer.concat([Buffer.alloc(offset), vmcoreinfoNote(text)]);
      const memory = guestWith({ address: NOTE, bytes });
      const found = { address: NOTE + offset, form: "note", whole: true, tables: "work", running: true };
      const search = await findVmcoreinfo(memory, { states: [kernel] });
      expect(search.best).toMatchObject({ ...found, vmcoreinfo: { text } });
      expect(search.hits).toHaveLength(1);
      // The same where the pages pass by one by one, last first.
      const scanner = new VmcoreinfoScanner(memory, { states: [kernel] });
      for (let page = NOTE + 0x1000; page >= NOTE; page -= 0x1000) {
        const alone = Buffer.alloc(4096);
        memory.readPage(page, alone);
        scanner.scan(alone, page);
      }
      expect(scanner.result.hits).toMatchObject([found]);
    },
  );

  test("an aligned note comes before a copy a program made", async () => {
    const bytes = Buffer.concat([Buffer.alloc(0x40), vmcoreinfoNote(text)]);
    const memory = guestWith({ address: 0x20_0000, bytes }, note(NOTE));
    expect(scanAll(memory).hits.map(({ address }) => address)).toEqual([NOTE, 0x20_0040]);
  });

  test("lets signals in as it goes, and ends when one came", async () => {
    let turns = 0;
    const checkpoint = async () => {
      if (++turns === 3) throw new InterruptedError("SIGINT");
    };
    await expect(findVmcoreinfo(guestWith(), { checkpoint })).rejects.toThrow(InterruptedError);
    expect(turns).toBe(3);
  });

  test("the kernel's data page stands in for a note", async () => {
    const memory = guestWith({ address: NOTE, bytes: Buffer.from(text) });
    expect((await findVmcoreinfo(memory)).best).toMatchObject({
      form: "data",
      address: NOTE,
      vmcoreinfo: { text },
    });
  });

  test.each([
    ["its size is beyond bounds", vmcoreinfoNote(text, 0x1_0001)],
    ["its text does not begin with OSRELEASE", vmcoreinfoNote(`X${text}`)],
    ["its name differs", Buffer.from(vmcoreinfoNote(text)).fill("X", 12, 13)],
    ["its type is not 0", Buffer.from(vmcoreinfoNote(text)).fill(1, 8, 9)],
    ["it names no page-table root", vmcoreinfoNote(vmcoreinfoText({ "SYMBOL(swapper_pg_dir)": undefined }))],
    ["its release is no release", vmcoreinfoNote(vmcoreinfoText({ OSRELEASE: "\x07" }))],
  ])("a note is none when %s", async (_, bytes) => {
    expect((await findVmcoreinfo(guestWith({ address: NOTE, bytes }))).hits).toEqual([]);
  });

  test("stops at the first note whose kernel is intact", async () => {
    const memory = memoryFrom(linuxGuest({ extra: [note(NOTE), note(0x180_0000)] }), { raw: false });
    expect((await findVmcoreinfo(memory)).hits).toHaveLength(1);
    expect(memory.pageReads).not.toContain(0x180_0000);
    expect(scanAll(memory).hits).toHaveLength(2);
  });

  test("goes on when a vCPU runs another kernel", async () => {
    const elsewhere = stateOf(longMode(0x180_0000));
    const memory = guestWith(note(NOTE), note(0x190_0000));
    expect((await findVmcoreinfo(memory, { states: [elsewhere] })).hits).toHaveLength(2);
  });
});

describe("several kernels", () => {
  const addresses = (...pieces: Piece[]) =>
    scanAll(guestWith(...pieces), [kernel]).hits.map((hit) => hit.address);

  test("the one whose page tables work comes first, wherever it lies", () => {
    expect(addresses(note(0x10_0000, foreign), note(NOTE))).toEqual([NOTE, 0x10_0000]);
    expect(addresses(note(NOTE), note(0x180_0000, foreign))).toEqual([NOTE, 0x180_0000]);
  });

  test("of two that work, the one that crashed", () => {
    expect(addresses(note(0x10_0000), note(NOTE, { CRASHTIME: "1795233118" }))).toEqual([NOTE, 0x10_0000]);
  });

  test("of two that work and did not crash, the one a vCPU runs", async () => {
    const OTHER = 0x1a0_0000;
    const tables = tablePieces([
      [OTHER, 511, BigInt(OTHER + 0x1003)],
      [OTHER + 0x1000, 510, BigInt(OTHER + 0x2003)],
      [OTHER + 0x2000, 8, 0x180_0081n], // 0xffffffff81000000, 2 MiB at 24 MiB
      [OTHER + 0x2000, 9, 0x1a0_0081n],
    ]);
    const other = note(0x10_0000, {
      "SYMBOL(_stext)": "ffffffff81000000",
      "SYMBOL(swapper_pg_dir)": "ffffffff81200000",
      "NUMBER(phys_base)": String(0x80_0000),
    });
    const memory = guestWith(...tables, note(NOTE), other);
    const first = (cr3: number) =>
      scanAll(memory, [stateOf(longMode(cr3))]).hits.map((hit) => [hit.address, hit.tables, hit.running]);
    expect(first(ROOT)).toEqual([
      [NOTE, "work", true],
      [0x10_0000, "work", false],
    ]);
    expect(first(OTHER)).toEqual([
      [0x10_0000, "work", true],
      [NOTE, "work", false],
    ]);
  });

  test("a note before the text it was made of", () => {
    const data = { address: 0x10_0000, bytes: Buffer.from(text) };
    expect(addresses(data, note(NOTE))).toEqual([NOTE, 0x10_0000]);
  });

  test("one that memory contradicts is reported but is not the best: it may be a guest's", async () => {
    const search = await findVmcoreinfo(guestWith(note(NOTE, foreign)));
    expect(search.hits).toMatchObject([{ address: NOTE, tables: "wrong" }]);
    expect(search.best).toBeUndefined();
  });

  test("a phys_base that puts the root below 0 is a contradiction", async () => {
    const search = await findVmcoreinfo(guestWith(note(NOTE, { "NUMBER(phys_base)": String(-(2 ** 40)) })));
    expect(search.hits).toMatchObject([{ tables: "wrong" }]);
  });

  test("one whose tables are missing, or that does not say where they are, is the best there is", async () => {
    const missing = memoryFrom(
      linuxGuest({ extra: [note(NOTE), { address: ROOT, size: 4096, state: "excluded" }] }),
    );
    expect((await findVmcoreinfo(missing)).best).toMatchObject({ tables: "missing" });
    const old = await findVmcoreinfo(guestWith(note(NOTE, { "NUMBER(phys_base)": undefined })), {
      states: [kernel],
    });
    expect(old.best).toMatchObject({ tables: "unknown", running: true });
  });
});

describe("VmcoreinfoScanner", () => {
  test("takes runs in any order and any number of times", () => {
    const memory = guestWith(note(NOTE), { address: 0x180_0000, bytes: Buffer.from(text) });
    const scanner = new VmcoreinfoScanner(memory);
    const run = Buffer.alloc(0x8000);
    for (let address = RAM - run.length; address >= 0; address -= run.length) {
      for (let page = 0; page < run.length; page += 4096) {
        memory.readPage(address + page, run.subarray(page, page + 4096));
      }
      scanner.scan(run, address);
      scanner.scan(run, address);
    }
    expect(scanner.result.hits.map(({ address }) => address)).toEqual([NOTE, 0x180_0000]);
    expect(scanner.result.best?.address).toBe(NOTE);
  });

  test("the result follows what was scanned", () => {
    const memory = guestWith(note(NOTE));
    const scanner = new VmcoreinfoScanner(memory);
    const page = Buffer.alloc(4096);
    expect(scanner.result.best).toBeUndefined();
    memory.readPage(NOTE, page);
    expect(scanner.scan(page, NOTE)).toBe(true);
    expect(scanner.scan(page, NOTE)).toBe(false);
    expect(scanner.result.best?.address).toBe(NOTE);
  });

  test("memory full of notes is bounded, and says so", async () => {
    const bytes = Buffer.alloc(600 * 4096);
    for (let page = 0; page < 600; page++) bytes.set(vmcoreinfoNote(text, 65_536), page * 4096);
    const memory = memoryFrom(ramWith(RAM, [{ address: 0x10_0000, bytes }]));
    const start = cpuTime();
    const search = await findVmcoreinfo(memory);
    expect(overlookedWarnings(search)).toMatchObject([
      { code: "KRN007", message: expect.stringMatching(/^344 more/) },
    ]);
    // The texts take 64 KiB each: only the one in use is kept.
    expect(search.hits.filter((hit) => "vmcoreinfo" in hit)).toEqual([]);
    expect(cpuTime() - start).toBeLessThan(5000);
    expect(search.hits).toHaveLength(CANDIDATE_LIMIT);
    expect(search.overlooked).toBe(600 - CANDIDATE_LIMIT);
  });
});
