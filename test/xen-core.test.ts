import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { CorruptError, UnavailableError, UnsupportedError } from "../src/core/errors.ts";
import type { ByteSource, PhysicalMemory } from "../src/core/memory.ts";
import { identify } from "../src/dump/identify.ts";
import { openDump } from "../src/dump/open.ts";
import { MemorySource } from "./support/memory-io.ts";
import { mutantOf, outcomesOf } from "./support/mutants.ts";
import { physicalAt, readVmcore } from "./support/read-vmcore.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { patternPage } from "./synth/pattern.ts";
import {
  buildOldXenCore,
  buildXenCore,
  context,
  XEN_GENERAL,
  type XenCpu,
  type XenSpec,
} from "./synth/xen.ts";

const PAGE = 4096;
const folder = mkdtempSync(join(tmpdir(), "guestcore-xen-"));
afterAll(() => rmSync(folder, { recursive: true }));

const open = (bytes: Uint8Array) => openDump(new MemorySource(bytes, "core"));
const failure = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => new Error("it was opened"),
    (reason: unknown) => reason as Error,
  );

const cpu = (n: number, cs = 0x10): XenCpu => ({
  general: Object.fromEntries(
    XEN_GENERAL.map((name, i) => [name, (BigInt(0xa000 + n) << 48n) + BigInt(i)]),
  ) as XenCpu["general"],
  rsp: 0xffffc90000000000n + BigInt(n),
  rip: 0xffffffff81000000n + BigInt(n),
  rflags: 0x246n,
  selectors: { cs, ss: 0x18, es: 1, ds: 2, fs: 3, gs: 4 },
  cr: [0x80050033n, 0xbadn, 0x1234n, 0x2000n + BigInt(n), 0x6f0n],
  fsBase: 0x7f00_0000_1000n,
  gsBaseKernel: 0xffff_8880_0000_0000n,
  gsBaseUser: 0x7f00_0000_2000n,
});
const contexts = [context(cpu(0)), context(cpu(1, 0x33))];

/** As xl writes them: ascending, with a hole for devices and pages that were given back. */
const pfns = [0, 1, 2, 3, 8, 9, 0xfffff, 0x100000, 0x100001];
const pages = pfns.map((pfn) => [pfn, patternPage(5, pfn)] as const);
const spec: XenSpec = { pages, contexts };

function pageOf(memory: PhysicalMemory, pfn: number): Buffer | string {
  const target = Buffer.alloc(PAGE, 0xee);
  const state = memory.readPage(pfn * PAGE, target);
  return state === "present" || state === "zero" ? target : state;
}

const expectPages = (memory: PhysicalMemory, wanted: XenSpec["pages"]): void => {
  for (const [pfn, bytes] of wanted) {
    const got = pageOf(memory, Number(pfn));
    expect(Buffer.isBuffer(got) && got.equals(bytes), `page ${pfn}`).toBe(true);
  }
};

describe("the core of a Xen domain", () => {
  test("gives the page frames their pages", async () => {
    const { memory, warnings, machine, notes } = await open(buildXenCore(spec));
    expect(memory.ranges).toEqual([
      { start: 0, end: 4 * PAGE },
      { start: 8 * PAGE, end: 10 * PAGE },
      { start: 0xfffff * PAGE, end: 0x100002 * PAGE },
    ]);
    expectPages(memory, pages);
    expect([4, 7, 10, 0xffffe, 0x100002].map((pfn) => pageOf(memory, pfn))).toEqual(Array(5).fill("absent"));
    expect([machine, notes, warnings.map(({ code }) => code)]).toEqual([62, [], ["DMP023"]]);
    // Raw bytes, copied in large pieces.
    expect(memory.extentAt(0, 2 ** 40)).toMatchObject({ end: 4 * PAGE, state: "present", at: {} });
  });

  test("whose pages are in no order; of one that is there twice the first counts", async () => {
    const twice = [...pages.toReversed(), [9, patternPage(6, 9)] as const, [11, patternPage(6, 11)] as const];
    const { memory } = await open(buildXenCore({ ...spec, pages: twice }));
    expectPages(memory, [...pages, [11, patternPage(6, 11)]]);
  });

  test("any page frames: each has its first page", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.option(fc.nat(40), { nil: undefined }), { minLength: 1, maxLength: 60 }),
        async (list) => {
          const stored = list.map((pfn, i) => [pfn, Buffer.alloc(PAGE, i + 1)] as const);
          const core = buildXenCore({ pages: stored, contexts });
          if (list.every((pfn) => pfn === undefined)) {
            expect(await failure(open(core))).toBeInstanceOf(UnavailableError);
            return;
          }
          const { memory } = await open(core);
          for (let pfn = 0; pfn <= 41; pfn++) {
            const first = stored.find(([frame]) => frame === pfn);
            const got = pageOf(memory, pfn);
            expect(typeof got === "string" ? got : got[77]).toBe(
              first === undefined ? "absent" : first[1][77],
            );
          }
        },
      ),
      { numRuns: 200, seed: 20261125 },
    );
  });

  test("of which a live dump had fewer pages in the end", async () => {
    const more = [
      ...pages,
      [undefined, Buffer.alloc(PAGE)] as const,
      [undefined, Buffer.alloc(PAGE)] as const,
    ];
    const { memory, warnings } = await open(buildXenCore({ ...spec, pages: more }));
    expect(memory.ranges.at(-1)!.end).toBe(0x100002 * PAGE);
    expect(warnings.map(({ code }) => code)).toEqual(["DMP023"]);
  });

  test("whose list and pages are not as many: told", async () => {
    const { memory, warnings } = await open(buildXenCore({ ...spec, moreFrames: 3 }));
    expectPages(memory, pages);
    expect(warnings.map(({ code }) => code)).toEqual(["DMP024", "DMP023"]);
    expect(warnings[0]!.message).toMatch(/9 pages and tells of 12/);
  });

  test("its vCPUs: what Xen fills in for a fully virtualised domain", async () => {
    const { cpus } = await open(buildXenCore(spec));
    expect(cpus.map(({ index, halted }) => [index, halted])).toEqual([
      [0, undefined],
      [1, undefined],
    ]);
    expect(cpus[0]!.source).toMatch(/^vcpu_guest_context at offset 0x[0-9a-f]+$/);
    for (const [i, cs] of [0x10, 0x33].entries()) {
      const wanted = cpu(i, cs);
      const { segments, ...registers } = cpus[i]!.state;
      const none = { base: 0n, limit: 0 };
      expect(registers).toEqual({
        ...wanted.general,
        ...{ rsp: wanted.rsp, rip: wanted.rip, rflags: wanted.rflags },
        ...{ cr0: wanted.cr[0], cr2: wanted.cr[2], cr3: wanted.cr[3], cr4: wanted.cr[4] },
        ...{ gdt: none, idt: none, efer: undefined },
        kernelGsBase: i === 0 ? wanted.gsBaseUser : wanted.gsBaseKernel,
      });
      expect(
        Object.fromEntries(Object.entries(segments).map(([name, { selector }]) => [name, selector])),
      ).toEqual({
        ...wanted.selectors,
        ldt: 0,
        tr: 0,
      });
      // In user mode GS is the user's, and the kernel's waits for SWAPGS.
      expect(segments.gs.base).toBe(i === 0 ? wanted.gsBaseKernel : wanted.gsBaseUser);
      expect(segments.fs.base).toBe(wanted.fsBase);
    }
  });

  test.each([
    ["fewer contexts than vCPUs", { vcpus: 3n }, /10336 bytes are not the contexts of 3 vCPUs/],
    ["contexts of another machine", { contexts: [Buffer.alloc(2800)] }, /2800 bytes/],
    ["four billion vCPUs", { vcpus: 2n ** 32n }, /4294967296 vCPUs/],
    ["no contexts", { without: [".xen_prstatus"] }, /0 bytes/],
  ])("%s: told, and the memory is read", async (_, change, message) => {
    const { memory, cpus, warnings } = await open(buildXenCore({ ...spec, ...change }));
    expectPages(memory, pages);
    expect(cpus).toEqual([]);
    expect(warnings).toMatchObject([{ code: "DMP022", message: expect.stringMatching(message) }]);
  });

  test("without its notes it has memory alone", async () => {
    const { memory, cpus, warnings } = await open(buildXenCore({ ...spec, without: [".note.Xen"] }));
    expectPages(memory, pages);
    expect([cpus, warnings]).toEqual([[], []]);
  });

  test.each([
    [
      "of a paravirtualised domain",
      buildXenCore({ ...spec, p2m: true, magic: 0xf00febedn }),
      UnsupportedError,
      /paravirtualised/,
    ],
    [
      "that calls itself paravirtualised",
      buildXenCore({ ...spec, magic: 0xf00febedn }),
      UnsupportedError,
      /paravirtualised/,
    ],
    ["with large pages", buildXenCore({ ...spec, pageSize: 16384n }), UnsupportedError, /pages of 16\.0 KiB/],
    ["of another machine", buildXenCore({ ...spec, machine: 183 }), UnsupportedError, /aarch64/],
    [
      "without its list of page frames",
      buildXenCore({ ...spec, without: [".xen_pfn"] }),
      CorruptError,
      /which page is which/,
    ],
    ["with no page", buildXenCore({ ...spec, pages: [] }), UnavailableError, /none of the domain's memory/],
  ])("%s is refused", async (_, bytes, kind, message) => {
    const error = await failure(open(bytes));
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toMatch(message);
  });

  test("a list of 2^28 page frames takes a few seconds and no memory", async () => {
    // Xen core headers in front, pages and list made up when they are read.
    const count = 2 ** 28;
    const head = buildXenCore({ pages: [], contexts: [] });
    const table = 64;
    const [pagesAt, listAt] = [2 ** 20, 2 ** 20 + count * PAGE];
    const names = head.subarray(-80);
    head.writeBigUInt64LE(BigInt(pagesAt), table + 64 * 5 + 24);
    head.writeBigUInt64LE(BigInt(count * PAGE), table + 64 * 5 + 32);
    head.writeBigUInt64LE(BigInt(listAt), table + 64 * 6 + 24);
    head.writeBigUInt64LE(BigInt(count * 8), table + 64 * 6 + 32);
    expect(names.includes(".xen_pfn")).toBe(true);
    let [read, checkpoints] = [0, 0];
    const source: ByteSource = {
      name: "huge",
      size: listAt + count * 8,
      read(offset, target) {
        read += target.length;
        target.fill(0);
        if (offset < head.length) target.set(head.subarray(offset, offset + target.length));
        if (offset >= listAt) {
          const words = new DataView(target.buffer, target.byteOffset, target.length);
          for (let i = 0; i < target.length; i += 8) words.setUint32(i, (offset - listAt + i) / 8, true);
        }
        return target.length;
      },
    };
    const before = process.memoryUsage().rss;
    const checkpoint = () => {
      checkpoints++;
      return Promise.resolve();
    };
    const { memory } = await openDump(source, { checkpoint });
    expect(memory.ranges).toEqual([{ start: 0, end: count * PAGE }]);
    expect(memory.extentAt(2 ** 39, 2 ** 41)).toMatchObject({
      end: 2 ** 40,
      at: { offset: pagesAt + 2 ** 39 },
    });
    expect(read).toBeLessThan(count * 8 + 2 ** 20);
    expect(checkpoints).toBeGreaterThan(1000);
    expect(process.memoryUsage().rss - before).toBeLessThan(128 * 2 ** 20);
  }, 60_000);

  test("a list of single page frames is bounded", async () => {
    const scattered = Buffer.alloc(200_000 * 8);
    for (let i = 0; i < 200_000; i++) scattered.writeUInt32LE(2 * i, 8 * i);
    const core = buildXenCore({ pages: [], contexts: [] });
    const source = new MemorySource(Buffer.concat([core, scattered]), "scattered");
    const bytes = Buffer.alloc(source.size);
    source.read(0, bytes);
    bytes.writeBigUInt64LE(2n ** 40n, 64 + 64 * 5 + 32);
    bytes.writeBigUInt64LE(BigInt(core.length), 64 + 64 * 6 + 24);
    bytes.writeBigUInt64LE(BigInt(scattered.length), 64 + 64 * 6 + 32);
    const error = await failure(open(bytes));
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error.message).toMatch(/more than 131072 pieces/);
  });

  test("cut: its list of page frames, and what its sections are called, are at its end", async () => {
    const core = buildXenCore(spec);
    for (const length of [1000, 9000, core.length - 9 * 8 - 100, core.length - 30]) {
      const cut = core.subarray(0, length);
      const error = await failure(open(cut));
      expect(error, `${length}`).toBeInstanceOf(CorruptError);
      expect(error.message).toMatch(/its section \.xen_pfn is not in the file/);
      expect(identify(new MemorySource(cut)).format).toBe("xc-core-elf");
    }
    // Without its table of sections it is any ELF file.
    expect(identify(new MemorySource(core.subarray(0, 400))).format).toBe("elf");
  });

  test("whose list of page frames is cut: told", async () => {
    const core = buildXenCore(spec);
    // The names of the sections in front, so that the list is last.
    const names = core.subarray(core.lastIndexOf(".shstrtab") - 1);
    const listEnd = core.length - names.length;
    const moved = Buffer.concat([core.subarray(0, listEnd)]);
    names.copy(moved, 0x200 + 800);
    moved.writeBigUInt64LE(BigInt(0x200 + 800), 64 + 64 + 24);
    const { memory, warnings } = await open(moved.subarray(0, listEnd - 3 * 8 - 2));
    expect(memory.ranges).toEqual([
      { start: 0, end: 4 * PAGE },
      { start: 8 * PAGE, end: 9 * PAGE },
    ]);
    expect(warnings.map(({ code }) => code)).toEqual(["DMP024", "DMP023"]);
    expect(warnings[0]!.message).toMatch(/inside the list of page frames: 4 pages of it is missing/);
  });
});

describe("the core of a domain of old Xen", () => {
  const old = [0, 1, undefined, 3, 4, undefined].map((pfn) =>
    pfn === undefined ? undefined : patternPage(8, pfn),
  );

  test.each([8, 4] as const)("of a host of %d-byte words", async (width) => {
    const { memory, cpus, warnings } = await open(buildOldXenCore({ pages: old, contexts, width }));
    expect(memory.ranges).toEqual([
      { start: 0, end: 2 * PAGE },
      { start: 3 * PAGE, end: 5 * PAGE },
    ]);
    for (const [pfn, bytes] of old.entries()) expect(pageOf(memory, pfn)).toEqual(bytes ?? "absent");
    expect(cpus.map(({ state }) => state.rip)).toEqual([cpu(0).rip, cpu(1).rip]);
    expect(warnings.map(({ code }) => code)).toEqual(["DMP023"]);
  });

  test("cut: told", async () => {
    const core = buildOldXenCore({ pages: old, contexts });
    const { memory, warnings } = await open(core.subarray(0, -PAGE - 5));
    expect(warnings.map(({ code }) => code)).toEqual(["DMP024", "DMP023"]);
    expect(warnings[0]!.message).toMatch(/5 bytes before the last/);
    expect([pageOf(memory, 3), pageOf(memory, 4)]).toEqual([old[3], "absent"]);
    const headless = await open(core.subarray(0, 24 + 2 * 5168 + 20));
    expect(headless.warnings.map(({ code }) => code)).toEqual(["DMP024", "DMP024", "DMP023"]);
    expect(headless.warnings[0]!.message).toMatch(/inside the list of page frames: 4 pages/);
    expect(headless.memory.ranges).toEqual([{ start: 0, end: 2 * PAGE }]);
  });

  test.each([
    [
      "of a paravirtualised domain",
      buildOldXenCore({ pages: old, contexts, magic: 0xf00febed }),
      UnsupportedError,
      /paravirtualised/,
    ],
    [
      "cut inside its header",
      buildOldXenCore({ pages: old, contexts }).subarray(0, 23),
      CorruptError,
      /inside its header/,
    ],
    [
      "cut before its list",
      buildOldXenCore({ pages: old, contexts }).subarray(0, 3000),
      CorruptError,
      /do not go with 6 pages/,
    ],
    ["without a page", buildOldXenCore({ pages: [undefined], contexts }), UnavailableError, /none of/],
  ])("%s is refused", async (_, bytes, kind, message) => {
    const error = await failure(open(bytes));
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toMatch(message);
  });
});

test("1500 mutants end in what is there, or an error of ours", async () => {
  const originals = [
    buildXenCore(spec),
    buildOldXenCore({ pages: pages.map(([, bytes]) => bytes), contexts }),
  ];
  const outcomes = await outcomesOf(1500, (seed) => open(mutant(originals[seed % 2]!, seed)));
  expect(outcomes.read).toBeGreaterThan(300);
  expect(outcomes.refused).toBeGreaterThan(50);
});

function mutant(original: Buffer, seed: number): Buffer {
  const places = [
    [0, 64],
    [64, 600],
    [original.length - 160, original.length - 8],
    [0, original.length - 8],
  ] as const;
  return mutantOf(original, seed, 3, (chance) => {
    const [from, to] = chance.pick(places);
    return from + chance.below(to - from);
  });
}

test("convert and info", async () => {
  const input = join(folder, "core");
  writeFileSync(input, buildXenCore(spec));
  const run = async (...words: string[]) => {
    const terminal = new FakeTerminal();
    return { status: await main(words, terminal), out: terminal.out, err: terminal.err };
  };
  const { status, err } = await run("convert", input, `${input}.elf`);
  expect([status, err]).toEqual([0, expect.stringMatching(/^warning DMP023: /)]);
  const vmcore = readVmcore(readFileSync(`${input}.elf`));
  for (const [pfn, bytes] of pages) expect(physicalAt(vmcore, pfn * PAGE, PAGE)?.equals(bytes)).toBe(true);
  expect(vmcore.notes.map(({ name }) => name)).toEqual(["CORE", "CORE", "QEMU", "QEMU"]);
  expect(vmcore.notes[1]!.desc.readBigUInt64LE(112 + 8 * 16)).toBe(cpu(1).rip);
  const info = await run("info", input, "--json");
  expect(JSON.parse(info.out).result).toMatchObject({
    format: "xc-core-elf",
    phrase: "Xen HVM or PVH domain core (xc_core ELF), 36.0 KiB of memory",
    elf: null,
    vmcore: { ranges: [{ start: 0 }, {}, { end: 0x100002 * PAGE }] },
    next: [`guestcore convert ${input} vmcore    # then crash, drgn and makedumpfile open it`],
  });
  expect((await run("dmesg", input)).status).toBe(5);
});
