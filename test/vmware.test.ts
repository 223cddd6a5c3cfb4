import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { CorruptError, InterruptedError, UnavailableError, UnsupportedError } from "../src/core/errors.ts";
import type { ByteSource, PhysicalMemory } from "../src/core/memory.ts";
import type { DumpFiles } from "../src/dump/format.ts";
import { openDump } from "../src/dump/open.ts";
import { MemorySource } from "./support/memory-io.ts";
import { mutantOf, outcomesOf } from "./support/mutants.ts";
import { physicalAt, readVmcore } from "./support/read-vmcore.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { patternBytes } from "./synth/pattern.ts";
import {
  block,
  buildState,
  cpuTags,
  regionTags,
  tag,
  u32,
  u64,
  VMWARE_GPREGS,
  type VmwareCpu,
  type VmwareGroup,
  type VmwareRegion,
} from "./synth/vmware.ts";

const PAGE = 4096;
const folder = mkdtempSync(join(tmpdir(), "guestcore-vmware-"));
afterAll(() => rmSync(folder, { recursive: true }));

const contents = patternBytes(12 * PAGE, 77, { zero: (page) => page === 5 });
/** Eight pages below the hole for devices, four above 4 GiB. */
const regions: readonly VmwareRegion[] = [
  { stored: 0, page: 0, count: 8 },
  { stored: 8, page: 0x100000, count: 4 },
];

const cpu = (n: number): VmwareCpu => ({
  general: Object.fromEntries(
    VMWARE_GPREGS.map((name, i) => [name, (BigInt(0xf000 + n) << 48n) + BigInt(i + 1)]),
  ) as VmwareCpu["general"],
  rip: 0xffffffff81000000n + BigInt(n),
  rflags: 0x246n,
  cr: [0x80050033n, 0n, 0x7f0012340000n, 0x1ad000n + BigInt(n), 0x7706f0n],
  gdtr: { limit: 0x7f, base: 0xfffffe0000001000n },
  idtr: { limit: 0xfff, base: 0xfffffe0000000000n },
  halted: n === 1,
});
const cpus = [cpu(0), cpu(1)];

const checkpoint: VmwareGroup = {
  name: "Checkpoint",
  tags: [tag("memSize", [], u32(1)), block("ProductName", [], Buffer.alloc(256, 65))],
};
const cpuGroup = (blocks = false): VmwareGroup => ({ name: "cpu", tags: cpuTags(cpus, blocks) });
const memoryGroup = (...tags: readonly Uint8Array[]): VmwareGroup => ({
  name: "memory",
  tags: [...regionTags(regions), ...tags],
});
const inside = () => block("Memory", [0, 0], contents, { padding: 321 });

const open = (state: Uint8Array, files: DumpFiles = {}, name = "/somewhere/web1.vmss") =>
  openDump(new MemorySource(state, name), files);
const withVmem = (bytes: Uint8Array = contents): DumpFiles => ({
  beside: (name) => (name === "web1.vmem" ? new MemorySource(bytes, name) : undefined),
});
const failure = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => new Error("it was opened"),
    (reason: unknown) => reason as Error,
  );

function pageOf(memory: PhysicalMemory, address: number): Buffer | string {
  const target = Buffer.alloc(PAGE, 0xee);
  const state = memory.readPage(address, target);
  return state === "present" || state === "zero" ? target : state;
}

function expectMemory(memory: PhysicalMemory): void {
  expect(memory.ranges).toEqual([
    { start: 0, end: 8 * PAGE },
    { start: 2 ** 32, end: 2 ** 32 + 4 * PAGE },
  ]);
  for (let i = 0; i < 12; i++) {
    const got = pageOf(memory, i < 8 ? i * PAGE : 2 ** 32 + (i - 8) * PAGE);
    expect(Buffer.isBuffer(got) && got.equals(contents.subarray(i * PAGE, (i + 1) * PAGE)), `page ${i}`).toBe(
      true,
    );
  }
  expect([8 * PAGE, 2 ** 31, 2 ** 32 + 4 * PAGE].map((page) => pageOf(memory, page))).toEqual(
    Array(3).fill("absent"),
  );
}

describe("a VMware state file", () => {
  test.each([0xbed2bed2, 0xbed3bed3, 0xbad1bad1, 0xbed1bed1, 0xbad2bad2])(
    "%x, with the memory in it, behind padding",
    async (id) => {
      const dump = await open(buildState([checkpoint, cpuGroup(), memoryGroup(inside())], id));
      expectMemory(dump.memory);
      expect(dump.memory.extentAt(0, 2 ** 40)).toMatchObject({ end: 8 * PAGE, state: "present" });
      expect(dump).toMatchObject({ machine: 62, notes: [], warnings: [{ code: "DMP023" }] });
    },
  );

  test("with the memory in a .vmem beside it", async () => {
    for (const [name, vmem] of [
      ["web1.vmss", "web1.vmem"],
      ["/a/web 1-Snapshot3.vmsn", "web 1-Snapshot3.vmem"],
      ["./WEB1.VMSS", "WEB1.vmem"],
      ["web1", "web1.vmem"],
    ] as const) {
      const asked: string[] = [];
      const beside = (wanted: string): ByteSource | undefined => {
        asked.push(wanted);
        return wanted === vmem ? new MemorySource(contents, wanted) : undefined;
      };
      expectMemory((await open(buildState([cpuGroup(), memoryGroup()]), { beside }, name)).memory);
      expect(asked).toEqual([vmem]);
    }
  });

  test("with the memory in a file that the user names", async () => {
    const parts = [new MemorySource(contents, "/elsewhere/memory")];
    expectMemory((await open(buildState([memoryGroup(), cpuGroup()]), { parts })).memory);
  });

  test("opened by its .vmem", async () => {
    const state = buildState([memoryGroup(), cpuGroup()]);
    for (const suffix of ["vmss", "vmsn"]) {
      const beside = (name: string) =>
        name === `web1.${suffix}` ? new MemorySource(state, name) : undefined;
      const dump = await open(contents, { beside }, "/a/web1.vmem");
      expectMemory(dump.memory);
      expect(dump.cpus).toHaveLength(2);
    }
    const parts = [new MemorySource(Buffer.alloc(9), "x"), new MemorySource(state, "saved")];
    expectMemory((await open(contents, { parts }, "web1.vmem")).memory);
  });

  test("without regions: the memory is in one piece from address 0 on", async () => {
    for (const count of [[], [tag("regionsCount", [], u32(0))]]) {
      const dump = await open(
        buildState([{ name: "memory", tags: count }, cpuGroup()]),
        withVmem(contents.subarray(0, -7)),
      );
      expect(dump.memory.ranges).toEqual([{ start: 0, end: 11 * PAGE }]);
      expect(pageOf(dump.memory, 10 * PAGE)).toEqual(Buffer.from(contents.subarray(10 * PAGE, 11 * PAGE)));
    }
    const { memory } = await open(
      buildState([{ name: "memory", tags: [block("Memory", [], contents)] }, cpuGroup()]),
    );
    expect(memory.ranges).toEqual([{ start: 0, end: 12 * PAGE }]);
  });

  test("regions in any order, one of nothing", async () => {
    const tags = regionTags([regions[1]!, { stored: 3, page: 3, count: 0 }, regions[0]!]);
    expectMemory((await open(buildState([{ name: "memory", tags }, cpuGroup()]), withVmem())).memory);
  });

  test("a .vmem that is cut: the rest is missing, and told", async () => {
    const { memory, warnings } = await open(
      buildState([memoryGroup(), cpuGroup()]),
      withVmem(contents.subarray(0, 10 * PAGE + 5)),
    );
    expect(warnings).toMatchObject([{ code: "DMP024" }, { code: "DMP023" }]);
    expect(warnings[0]!.message).toMatch(/web1\.vmem ends 8187 bytes before .* at offset 0xc000/);
    expect(memory.ranges.at(-1)).toEqual({ start: 2 ** 32, end: 2 ** 32 + 4 * PAGE });
    expect(pageOf(memory, 2 ** 32 + PAGE)).toEqual(Buffer.from(contents.subarray(9 * PAGE, 10 * PAGE)));
    expect(pageOf(memory, 2 ** 32 + 2 * PAGE)).toBe("absent");
    expect(memory.extentAt(2 ** 32 + 2 * PAGE, 2 ** 40)).toMatchObject({
      end: 2 ** 32 + 4 * PAGE,
      state: "absent",
    });
  });

  test("cut inside its memory: what is there is read, if the regions are", async () => {
    const state = buildState([cpuGroup(), memoryGroup(inside())]);
    const { memory, warnings, cpus: found } = await open(state.subarray(0, -2 - 3 * PAGE));
    expect(warnings.map(({ code }) => code)).toEqual(["DMP024", "DMP023"]);
    expect(found).toHaveLength(2);
    expect(pageOf(memory, 2 ** 32)).toEqual(Buffer.from(contents.subarray(8 * PAGE, 9 * PAGE)));
    expect(pageOf(memory, 2 ** 32 + PAGE)).toBe("absent");
    const late = buildState([cpuGroup(), { name: "memory", tags: [inside(), ...regionTags(regions)] }]);
    expectMemory((await open(late)).memory);
    const error = await failure(open(late.subarray(0, -20 * 30)));
    expect(error).toBeInstanceOf(CorruptError);
    expect(error.message).toMatch(/before it says where which memory is/);
  });

  test.each([
    [
      "whose memory is nowhere",
      () => open(buildState([memoryGroup(), cpuGroup()])),
      UnavailableError,
      /does not hold the machine's memory, and web1\.vmem is not beside it/,
    ],
    [
      "of a snapshot without memory",
      () => open(buildState([checkpoint]), { beside: () => undefined }, "web1-Snapshot1.vmsn"),
      UnavailableError,
      /web1-Snapshot1\.vmem is not beside it/,
    ],
    [
      "whose .vmem is empty",
      () => open(buildState([{ name: "memory", tags: [] }]), withVmem(Buffer.alloc(0))),
      UnavailableError,
      /no memory/,
    ],
    [
      "whose memory is compressed",
      () => open(buildState([memoryGroup(block("Memory", [0, 0], contents, { compressed: true }))])),
      UnsupportedError,
      /memory is compressed/,
    ],
    [
      "whose memory is in two blocks",
      () => open(buildState([memoryGroup(inside(), block("Memory", [0, 1], contents))])),
      UnsupportedError,
      /more than one block/,
    ],
    [
      "whose memory is larger than any machine's",
      () => open(buildState([memoryGroup(block("Memory", [0, 0], contents, { size: 2n ** 63n }))])),
      CorruptError,
      /larger than any machine's/,
    ],
    [
      "with a region outside the memory",
      () =>
        open(
          buildState([
            { name: "memory", tags: [...regionTags([{ stored: 9, page: 0, count: 4 }]), inside()] },
          ]),
        ),
      CorruptError,
      /outside the block/,
    ],
    [
      "whose regions overlap",
      () =>
        open(
          buildState([{ name: "memory", tags: regionTags([regions[0]!, { stored: 8, page: 7, count: 4 }]) }]),
          withVmem(),
        ),
      CorruptError,
      /two regions hold the memory at 0x7000/,
    ],
    [
      "that does not describe a region",
      () =>
        open(
          buildState([
            {
              name: "memory",
              tags: [tag("regionsCount", [], u32(2)), ...regionTags([regions[0]!]).slice(1)],
            },
          ]),
          withVmem(),
        ),
      CorruptError,
      /region 1 .* not described/,
    ],
    [
      "that counts a million regions",
      () =>
        open(buildState([{ name: "memory", tags: [tag("regionsCount", [], u32(1_000_000))] }]), withVmem()),
      CorruptError,
      /1000000 regions/,
    ],
    [
      "with 32-bit sizes",
      () => open(buildState([memoryGroup()], 0xbed0bed0)),
      UnsupportedError,
      /32-bit sizes/,
    ],
    ["cut inside its header", () => open(buildState([]).subarray(0, 9)), CorruptError, /0 groups/],
    ["without groups", () => open(buildState([])), CorruptError, /0 groups/],
    [
      "cut inside its table",
      () => open(buildState([cpuGroup(), memoryGroup()]).subarray(0, 171)),
      CorruptError,
      /2 groups, which are not in the file/,
    ],
    [
      "that counts four billion groups",
      () => open(Buffer.concat([u32(0xbed2bed2), u32(8), u32(0xffffffff), Buffer.alloc(9000)])),
      CorruptError,
      /4294967295 groups/,
    ],
    [
      "that is only memory",
      () => open(contents, { beside: () => undefined }, "/a/web1.vmem"),
      UnavailableError,
      /looked for web1\.vmss and web1\.vmsn/,
    ],
  ])("%s is refused", async (_, opening, kind, message) => {
    const error = await failure(opening());
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toMatch(message);
  });

  test("a .vmem alone is memory from address 0 on when the user says so", async () => {
    const { memory } = await open(contents, { map: [{ start: 0, end: 12 * PAGE, offset: 0 }] }, "web1.vmem");
    expect(memory.ranges).toEqual([{ start: 0, end: 12 * PAGE }]);
  });
});

describe("the vCPUs of a VMware state file", () => {
  const state = (tags: readonly Uint8Array[], more: Partial<VmwareGroup> = {}) =>
    open(buildState([memoryGroup(inside()), { name: "cpu", tags, ...more }]));

  test.each([
    ["as values", false],
    ["as blocks", true],
  ])("%s", async (_, blocks) => {
    const dump = await state(cpuTags(cpus, blocks));
    expect(dump.warnings).toMatchObject([{ code: "DMP023" }]);
    expect(dump.cpus).toHaveLength(2);
    for (const [i, { general, rip, rflags, cr, gdtr, idtr }] of cpus.entries()) {
      expect(dump.cpus[i]).toMatchObject({
        index: i,
        halted: i === 1,
        source: `VMware state file, vCPU ${i}`,
      });
      const { segments, ...registers } = dump.cpus[i]!.state;
      expect(registers).toEqual({
        ...general,
        rip,
        rflags,
        gdt: gdtr,
        idt: idtr,
        cr0: cr[0],
        cr2: cr[2],
        cr3: cr[3],
        cr4: cr[4],
        efer: undefined,
        kernelGsBase: undefined,
      });
      expect(segments.cs).toEqual({ selector: 0, base: 0n, limit: 0, flags: 0 });
    }
  });

  test("what a vCPU need not have is unknown", async () => {
    const tags = cpuTags([cpus[0]!], false).filter(
      (bytes) => !/halted|CR64|r8|GDTR/.test(bytes.toString("latin1")),
    );
    const crs = [0, 3, 4].map((n) => tag("CR64", [0, n], u64(BigInt(n))));
    const dump = await state([...tags, ...crs, tag("EFLAGS", [0], u32(2))]);
    expect(dump.cpus).toMatchObject([{ halted: undefined, state: { cr0: 0n, cr3: 3n, rflags: 2n } }]);
    const { r8, cr2, gdt } = dump.cpus[0]!.state;
    expect([r8, cr2, gdt]).toEqual([undefined, undefined, { limit: 0, base: 0n }]);
  });

  test("signals are heard among very many values, which are not kept", async () => {
    const many = Array.from({ length: 20_000 }, (_, i) => tag("rip", [0, i + 1], u64(1n)));
    const values = { name: "cpu", tags: [...cpuTags(cpus, false), ...many] };
    const count = async (groups: readonly VmwareGroup[]) => {
      let times = 0;
      const checkpoint = async () => {
        times++;
      };
      const dump = await open(buildState(groups), { checkpoint });
      expect(dump.cpus.map(({ state: { rip } }) => rip)).toEqual(cpus.map(({ rip }) => rip));
      return times;
    };
    expect(await count([memoryGroup(inside()), values])).toBe(4);
    expect(await count([memoryGroup(inside(), ...many), cpuGroup()])).toBe(4);
    const interrupted = open(buildState([memoryGroup(inside()), values]), {
      checkpoint: () => Promise.reject(new InterruptedError("SIGINT")),
    });
    await expect(interrupted).rejects.toThrow(InterruptedError);
  });

  test.each([
    ["no group of them", () => open(buildState([memoryGroup(inside())])), /the state file has none$/, 0],
    ["no count", () => state(cpuTags(cpus, true).slice(1)), /does not count the vCPUs/, 0],
    [
      "one without RIP",
      () => state(cpuTags(cpus, true).filter((bytes, i) => i < 8 || !bytes.includes("rip"))),
      /lacks rip of 1 vCPU$/,
      1,
    ],
    [
      "one that is not there",
      () => state([tag("cpu:numVCPUs", [], u32(3)), ...cpuTags(cpus, false).slice(1)]),
      /lacks rip of 1 vCPU$/,
      2,
    ],
    [
      "four billion",
      () => state([tag("cpu:numVCPUs", [], u32(0xffffffff)), ...cpuTags(cpus, false).slice(1)]),
      /of 4094 vCPUs$/,
      2,
    ],
    [
      "compressed registers",
      () =>
        state([
          tag("cpu:numVCPUs", [], u32(1)),
          block("gpregs", [0], Buffer.alloc(128), { compressed: true }),
        ]),
      /lacks rip/,
      0,
    ],
    [
      "a group that lies behind the file",
      async () => {
        const bytes = buildState([memoryGroup(inside()), cpuGroup()]);
        bytes.writeBigUInt64LE(2n ** 63n, 12 + 80 + 64);
        return await open(bytes);
      },
      /does not count/,
      0,
    ],
  ])("%s: told, and the memory is read", async (_, opening, message, count) => {
    const dump = await opening();
    expectMemory(dump.memory);
    expect(dump.cpus).toHaveLength(count);
    // A group that lies behind the file is cut as well.
    const told = dump.warnings.map(({ code }) => code).filter((code) => !["DMP025", "DMP026"].includes(code));
    expect(told).toEqual(count > 0 ? ["DMP023", "DMP022"] : ["DMP022"]);
    expect(dump.warnings.at(-1)!.message).toMatch(message);
  });

  test("a group without its end is read up to the file's", async () => {
    const dump = await state(cpuTags(cpus, true), { open: true });
    expect(dump.cpus).toHaveLength(2);
  });

  test("values of other sizes and other names do not disturb", async () => {
    const odd = [
      tag("rip", [0], Buffer.alloc(5)),
      tag("rax", [], u64(1n)),
      tag("rip", [9999], u64(1n)),
      tag("name", [1, 2, 3], Buffer.alloc(61)),
      tag("nothing", [0], Buffer.alloc(0)),
      block("gpregs", [0], Buffer.alloc(127)),
      block("rip", [0], Buffer.alloc(10)),
    ];
    const dump = await state([...cpuTags(cpus, true), ...odd]);
    expect(dump.cpus.map((found) => found.state.rip)).toEqual(cpus.map(({ rip }) => rip));
    expect(dump.cpus[0]!.state.rax).toBe(cpus[0]!.general.rax);
  });
});

test("1500 mutants end in what is there, or an error of ours", async () => {
  const whole = buildState([checkpoint, cpuGroup(), memoryGroup(inside())]);
  const blocks = buildState([memoryGroup(), cpuGroup(true)]);
  const outcomes = await outcomesOf(1500, async (seed) => {
    const dump = await open(mutant(seed % 2 === 0 ? whole : blocks, seed), withVmem());
    expect(dump.cpus.length).toBeLessThanOrEqual(4096);
    return dump;
  });
  expect(outcomes.read).toBeGreaterThan(300);
  expect(outcomes.refused).toBeGreaterThan(50);
});

function mutant(original: Buffer, seed: number): Buffer {
  const small = Math.min(original.length - 8, 4500);
  return mutantOf(original, seed, 4, (chance) => chance.below(chance.below(4) === 0 ? 252 : small));
}

describe("convert and info", () => {
  const at = (name: string) => join(folder, name);
  const run = async (...words: string[]) => {
    const terminal = new FakeTerminal();
    return { status: await main(words, terminal), out: terminal.out, err: terminal.err };
  };
  beforeAll(() => {
    writeFileSync(at("web1.vmss"), buildState([checkpoint, memoryGroup(), cpuGroup(true)]));
    writeFileSync(at("web1.vmem"), contents);
  });

  test("the state file or its memory, to the same vmcore", async () => {
    const { status, err } = await run("convert", at("web1.vmss"), at("state.elf"));
    expect([status, err]).toEqual([0, expect.stringMatching(/^warning DMP023: /)]);
    expect((await run("convert", at("web1.vmem"), at("memory.elf"))).status).toBe(0);
    const vmcore = readVmcore(readFileSync(at("state.elf")));
    expect(readFileSync(at("memory.elf")).equals(vmcore.file)).toBe(true);
    expect(physicalAt(vmcore, 0, 8 * PAGE)?.equals(contents.subarray(0, 8 * PAGE))).toBe(true);
    expect(physicalAt(vmcore, 2 ** 32, 4 * PAGE)?.equals(contents.subarray(8 * PAGE))).toBe(true);
    expect(vmcore.notes.map(({ name }) => name)).toEqual(["CORE", "CORE", "QEMU", "QEMU"]);
    // struct elf_prstatus: RSP is the twentieth register, RBP the fifth.
    for (const [i, { general, rip }] of cpus.entries()) {
      const { desc } = vmcore.notes[i]!;
      expect(desc.readBigUInt64LE(112 + 8 * 19)).toBe(general.rsp);
      expect(desc.readBigUInt64LE(112 + 8 * 4)).toBe(general.rbp);
      expect(desc.readBigUInt64LE(112 + 8 * 16)).toBe(rip);
      // QEMUCPUState: CR3, the limit and base of the GDTR.
      const qemu = vmcore.notes[i + 2]!.desc;
      expect(qemu.readBigUInt64LE(392 + 8 * 3)).toBe(0x1ad000n + BigInt(i));
      expect(qemu.readUInt32LE(152 + 24 * 8 + 4)).toBe(0x7f);
      expect(qemu.readBigUInt64LE(152 + 24 * 8 + 16)).toBe(0xfffffe0000001000n);
    }
  });

  test("compressed, with --part", async () => {
    mkdirSync(at("apart"));
    writeFileSync(at("apart/saved.vmss.gz"), gzipSync(readFileSync(at("web1.vmss"))));
    const { status } = await run(
      "convert",
      at("apart/saved.vmss.gz"),
      at("part.elf"),
      "--part",
      at("web1.vmem"),
    );
    expect(status).toBe(0);
    expect(readFileSync(at("part.elf")).equals(readFileSync(at("state.elf")))).toBe(true);
  });

  test("info says what it is, and what is missing", async () => {
    const { out } = await run("info", at("web1.vmss"), "--json");
    expect(JSON.parse(out).result).toMatchObject({
      format: "vmware-state",
      vmcore: {
        ranges: [
          { start: 0, end: 8 * PAGE },
          { start: 2 ** 32, end: 2 ** 32 + 4 * PAGE },
        ],
      },
    });
    mkdirSync(at("alone"));
    copyFileSync(at("web1.vmss"), at("alone/web1.vmss"));
    copyFileSync(at("web1.vmem"), at("alone/other.vmem"));
    const state = await run("info", at("alone/web1.vmss"));
    expect([state.status, state.err]).toEqual([
      0,
      expect.stringMatching(/DMP003: .*web1\.vmem is not beside it/),
    ]);
    const memory = await run("convert", at("alone/other.vmem"), at("never"));
    expect([memory.status, memory.err]).toEqual([
      5,
      expect.stringMatching(/looked for other\.vmss and other\.vmsn\n.*--map/),
    ]);
    expect((await run("convert", at("alone/other.vmem"), at("mapped.elf"), "--map", "0-0x8000")).status).toBe(
      0,
    );
  });
});
