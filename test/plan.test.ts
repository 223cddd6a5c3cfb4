import { describe, expect, test } from "vitest";
import type { PhysicalMemory } from "../src/core/memory.ts";
import { rawExtent } from "../src/core/memory.ts";
import type { ProcessImage } from "../src/core/process.ts";
import { ElfVmcore } from "../src/dump/elf-vmcore.ts";
import type { ElfFile } from "../src/elf/header.ts";
import type { Guest, GuestRange } from "../src/guest/guest.ts";
import { QemuGuestMemory } from "../src/qemu/guest-memory.ts";
import { planVmcore } from "../src/vmcore/plan.ts";

const PAGE = 4096;

/** A file in which every second page is a hole, and how often it was asked for holes. */
function finelySparse(size: number) {
  const asked = { times: 0 };
  const source = {
    name: "sparse",
    size,
    read: () => 0,
    extent: (offset: number) => {
      asked.times++;
      return { hole: (offset / PAGE) % 2 === 1, end: offset + PAGE };
    },
  };
  const memory: PhysicalMemory = {
    ranges: [{ start: 0, end: size }],
    extentAt: (address, limit, holes) => rawExtent(address, limit, source, address, holes),
    readPage: () => "present",
  };
  return { memory, asked };
}

const guestOf = (memory: PhysicalMemory, ranges: readonly Pick<GuestRange, "start" | "end">[]): Guest => ({
  memory,
  ranges: ranges.map((range) => ({ ...range, kind: "ram", source: "ram", sourceOffset: range.start })),
  vcpus: [],
});

describe("memories that lie raw in a sparse file", () => {
  const size = 64 * PAGE;
  const source = (asked: number[]) => ({
    name: "sparse",
    size: 2 * size,
    read: () => 0,
    extent: (offset: number, limit: number) => {
      asked.push(offset);
      return { hole: true, end: limit };
    },
  });

  test.each<[string, (asked: number[]) => PhysicalMemory]>([
    [
      "an ELF vmcore",
      (asked) => {
        const load = { type: 1, paddr: 0, memsz: size, filesz: size, offset: PAGE };
        return new ElfVmcore(source(asked), { programs: [load] } as unknown as ElfFile);
      },
    ],
    [
      "a qemu process",
      (asked) => {
        const at = { source: source(asked), offset: PAGE };
        const image = {
          extentAt: (start: number, end: number) => ({ start, end, state: "present", at }),
        };
        return new QemuGuestMemory(image as unknown as ProcessImage, [{ start: 0, end: size, host: 0 }]);
      },
    ],
    [
      "a file given with --ram",
      (asked) => {
        const image = { extentAt: (start: number, end: number) => ({ start, end, state: "absent" }) };
        const fallback = { source: source(asked), offset: 0 };
        return new QemuGuestMemory(image as unknown as ProcessImage, [
          { start: 0, end: size, host: 0, fallback },
        ]);
      },
    ],
  ])("%s is asked for holes when it is read, and not when it is laid out", (_, build) => {
    const asked: number[] = [];
    const memory = build(asked);
    expect(memory.extentAt(0, size, false)).toMatchObject({ state: "present", end: size });
    expect(asked).toEqual([]);
    expect(memory.extentAt(0, size)).toMatchObject({ state: "zero", end: size });
    expect(asked).toHaveLength(1);
  });
});

describe("planVmcore", () => {
  test("a sparse file is one piece, and is not asked for its holes", async () => {
    const size = 1024 * PAGE;
    const { memory, asked } = finelySparse(size);
    expect(memory.extentAt(PAGE, size)).toMatchObject({ state: "zero", end: 2 * PAGE });
    expect(asked.times).toBe(1);
    const plan = await planVmcore(guestOf(memory, [{ start: 0, end: size }]), "elf");
    expect(plan.loads).toMatchObject([{ start: 0, end: size }]);
    expect(plan.missing).toEqual([]);
    expect(asked.times).toBe(1);
  });

  test("guest memory that lies page by page in its input is one piece up to 1 TiB", async () => {
    const size = 2 ** 24 * PAGE + 8 * PAGE;
    const memory: PhysicalMemory = {
      ranges: [{ start: 0, end: size }],
      extentAt: (address) => ({ start: address, end: address + PAGE, state: "present" }),
      readPage: () => "present",
    };
    expect((await planVmcore(guestOf(memory, [{ start: 0, end: size }]), "elf")).loads).toHaveLength(1);
  });

  test("missing runs keep why they are missing; headers count what room is set aside for", async () => {
    const states = ["present", "absent", "absent", "excluded", "zero"] as const;
    const memory: PhysicalMemory = {
      ranges: [{ start: 0, end: 5 * PAGE }],
      extentAt: (address) => ({ start: address, end: address + PAGE, state: states[address / PAGE]! }),
      readPage: () => "present",
    };
    const plan = await planVmcore(guestOf(memory, [{ start: 0, end: 5 * PAGE }]), "elf");
    expect(plan.missing).toEqual([
      { start: PAGE, end: 3 * PAGE, state: "absent" },
      { start: 3 * PAGE, end: 4 * PAGE, state: "excluded" },
    ]);
    expect(plan.loads.map(({ start }) => start)).toEqual([0, 4 * PAGE]);
    expect(plan.headers).toBe(1 + 2 + 2);
    expect((await planVmcore(guestOf(memory, []), "raw")).headers).toBe(0);
  });
});
