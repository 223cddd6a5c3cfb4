import { describe, expect, test } from "vitest";
import { CorruptError } from "../src/core/errors.ts";
import type { PhysicalMemory } from "../src/core/memory.ts";
import type { Guest } from "../src/guest/guest.ts";
import { LostPages, MAX_LOST_RUNS, withoutLost } from "../src/vmcore/lost-pages.ts";
import { planVmcore } from "../src/vmcore/plan.ts";
import { writeVmcore } from "../src/vmcore/write.ts";
import { MemoryOutput, quiet } from "./support/memory-io.ts";
import { physicalAt, readVmcore } from "./support/read-vmcore.ts";
import { patternBytes, random } from "./synth/pattern.ts";

const PAGE = 4096;

/** Memory that is to be gathered page by page, and does not have what it promises where `isLost` says so. */
function promising(
  pages: number,
  isLost: (page: number) => boolean,
  contents = (page: number) => patternBytes(PAGE, page),
): PhysicalMemory {
  const end = pages * PAGE;
  return {
    ranges: [{ start: 0, end }],
    extentAt: (address, limit) => ({ start: address, end: Math.min(end, limit), state: "present" }),
    readPage(address, target) {
      if (isLost(address / PAGE)) return "absent";
      target.set(contents(address / PAGE));
      return "present";
    },
  };
}

const guestOf = (memory: PhysicalMemory): Guest => ({
  memory,
  vcpus: [],
  ranges: memory.ranges.map((range) => ({ ...range, kind: "ram", source: "RAM", sourceOffset: range.start })),
});

const image = { virtual: 0xffff_ffff_8100_0000n, physical: 0, size: 2 ** 30 };

async function write(memory: PhysicalMemory, lost: LostPages | undefined, seekable = true) {
  const guest = guestOf(memory);
  const plan = await planVmcore(guest, "elf");
  const output = new MemoryOutput(seekable);
  const kernel = () => ({ vmcoreinfo: undefined, pageOffset: undefined, image });
  const { ranges } = await writeVmcore({
    guest,
    plan,
    output,
    context: quiet,
    kernel,
    ...(lost && { lost }),
  });
  return { plan, coverage: ranges[0]!.coverage, file: output.bytes };
}

describe("pages that turn out to be unreadable", () => {
  test("are in no segment of an ELF vmcore, neither of memory nor of the kernel image", async () => {
    for (let seed = 0; seed < 20; seed++) {
      const chance = random(seed);
      const lostPages = new Set(Array.from({ length: 1 + chance.below(40) }, () => chance.below(600)));
      const lost = new LostPages();
      const { coverage, file } = await write(
        promising(600, (page) => lostPages.has(page)),
        lost,
      );
      expect(coverage).toEqual({
        present: (600 - lostPages.size) * PAGE,
        zero: 0,
        excluded: 0,
        missing: lostPages.size * PAGE,
      });
      const vmcore = readVmcore(file);
      for (let page = 0; page < 600; page++) {
        const found = physicalAt(vmcore, page * PAGE, PAGE);
        if (lostPages.has(page)) expect(found, `page ${page}`).toBeUndefined();
        else expect(found?.equals(patternBytes(PAGE, page)), `page ${page}`).toBe(true);
      }
      const images = vmcore.loads.filter(({ vaddr }) => vaddr >= image.virtual);
      expect(images.map(({ paddr, bytes }) => [paddr, bytes.length])).toEqual(
        vmcore.loads
          .filter(({ vaddr }) => vaddr < image.virtual)
          .map(({ paddr, bytes }) => [paddr, bytes.length]),
      );
      expect(lost.warnings()).toMatchObject([
        { code: "DMP007", message: expect.stringMatching(new RegExp(`^${lostPages.size} page`)) },
      ]);
    }
  });

  test("may be every second page of very many, and not one more", async () => {
    const lost = new LostPages();
    const pages = 2 * MAX_LOST_RUNS + 1;
    const zerosBut = (count: number) =>
      promising(
        count,
        (page) => page % 2 === 1,
        () => Buffer.alloc(PAGE),
      );
    const { plan, file } = await write(zerosBut(pages), lost);
    const { loads } = readVmcore(file);
    expect(lost.runs.length).toBe(MAX_LOST_RUNS);
    // All program headers are in front of the notes: those of memory, and the most that an image gets.
    expect(64 + 56 * (1 + loads.length)).toBeLessThanOrEqual(plan.notesOffset);
    expect(loads.length).toBe(MAX_LOST_RUNS + 1 + 1024);
    await expect(write(zerosBut(pages + 2), new LostPages())).rejects.toThrow(
      /^more than 4096 pages, the last at 0x2001000, cannot be read$/,
    );
  });

  test("are the end of a stream, whose header has promised them, and of who takes no note", async () => {
    const memory = () => promising(4, (page) => page === 2);
    await expect(write(memory(), new LostPages(), false)).rejects.toThrow(/the page at 0x2000 is not what/);
    await expect(write(memory(), undefined)).rejects.toThrow(CorruptError);
  });

  test("leave memory that lies raw in a file as it was laid out", async () => {
    const raw = patternBytes(2 * PAGE, 1);
    const memory: PhysicalMemory = {
      ranges: [{ start: 0, end: raw.length }],
      extentAt: (address, limit) => ({
        start: address,
        end: Math.min(limit, raw.length),
        state: "present",
        at: {
          source: { name: "raw", size: raw.length, read: (at, to) => raw.copy(to, 0, at) },
          offset: address,
        },
      }),
      readPage: () => "absent",
    };
    const plan = await planVmcore(guestOf(memory), "elf");
    expect(plan.notesOffset).toBe(64 + 56 * plan.headers);
  });
});

test("ranges without what was lost are the ranges page by page", () => {
  for (let seed = 0; seed < 300; seed++) {
    const chance = random(seed);
    const list = (count: number) => {
      let at = 0;
      return Array.from({ length: chance.below(count) }, () => {
        const start = at + chance.below(4);
        at = start + 1 + chance.below(6);
        return { start, end: at };
      });
    };
    const [ranges, lost] = [list(8), list(8)];
    const left = withoutLost(ranges, lost, (_, start, end) => ({ start, end }));
    const inside = (all: typeof ranges, n: number) => all.some(({ start, end }) => n >= start && n < end);
    for (let n = 0; n < 90; n++) expect(inside(left, n)).toBe(inside(ranges, n) && !inside(lost, n));
    for (const { start, end } of left) expect(end).toBeGreaterThan(start);
  }
});
