import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import type { DumpFiles } from "../src/dump/format.ts";
import { openAnyDump } from "../src/dump/open.ts";
import { verify } from "../src/jobs/verify.ts";
import { findingsIn, findingsOf } from "./support/check.ts";
import { MemorySource, quiet } from "./support/memory-io.ts";
import { buildElf } from "./synth/elf.ts";
import { buildKdump, flattened } from "./synth/kdump.ts";
import { avmlBlock, buildLime } from "./synth/lime.ts";
import { buildMigration, buildSave, type MigrationSpec } from "./synth/migration.ts";
import { clock } from "./synth/migration-devices.ts";
import { PAGE, patternBytes } from "./synth/pattern.ts";
import { buildDiskSet } from "./synth/sadump.ts";
import {
  buildState,
  cpuTags,
  regionTags,
  tag,
  VMWARE_GPREGS,
  type VmwareCpu,
  type VmwareGroup,
  type VmwareRegion,
} from "./synth/vmware.ts";
import { buildXenCore } from "./synth/xen.ts";

const folder = mkdtempSync(join(tmpdir(), "guestcore-verify-formats-"));
afterAll(() => rmSync(folder, { recursive: true }));

const CPU: VmwareCpu = {
  general: Object.fromEntries(VMWARE_GPREGS.map((name) => [name, 1n])) as VmwareCpu["general"],
  ...{ rip: 0xffffffff81000000n, rflags: 2n, cr: [0x80050033n, 0n, 0n, 0x1000n, 0x6f0n] },
  ...{ gdtr: { limit: 0x7f, base: 0n }, idtr: { limit: 0xfff, base: 0n } },
};

const bytes = (pages: number, seed: number) => patternBytes(pages * PAGE, seed, { zero: () => false });

/** What is found, as `severity CODE`. */
const found = async (...of: Parameters<typeof findingsIn>) =>
  (await findingsIn(...of)).groups.map(({ severity, code }) => `${severity} ${code}`);

describe("damage that makes a format's reader leave something out", () => {
  const lime = buildLime([
    { start: 0x1000, bytes: bytes(4, 1) },
    { start: 0x10_0000, bytes: bytes(4, 2) },
    { start: 0x20_0000, bytes: bytes(4, 3) },
  ]);
  const avml = Buffer.concat([
    avmlBlock({ start: 0x1000, bytes: bytes(4, 1) }),
    avmlBlock({ start: 0x10_0000, bytes: bytes(4, 2) }),
  ]);
  const changed = (image: Buffer, at: number, xor = 1) => {
    const copy = Buffer.from(image);
    copy[at]! ^= xor;
    return copy;
  };
  const second = lime.indexOf("EMiL", 1);
  const secondBlock = avml.indexOf("AVML", 1);

  test.each([
    ["LiME: the magic of a range", changed(lime, second), 4],
    ["LiME: the end of a range", changed(lime, second + 17, 0x20), undefined],
    ["LiME: cut inside a header", lime.subarray(0, second + 20), 4],
    ["AVML: the magic of a block", changed(avml, secondBlock), 4],
    ["AVML: the length of a stream", changed(avml, secondBlock - 8), 4],
    ["AVML: the kind of a first chunk", changed(avml, secondBlock + 32, 0xf0), 4],
    ["AVML: cut inside a header", avml.subarray(0, secondBlock + 20), 4],
  ])("%s", async (_, image, pages) => {
    const { groups, checked } = await findingsIn(image);
    expect(groups).toMatchObject([{ code: "DMP020", severity: "error" }]);
    if (pages !== undefined) expect(checked?.coverage).toMatchObject({ present: pages * PAGE });
  });

  test("and images that are whole", async () => {
    expect([await found(lime), await found(avml)]).toEqual([[], []]);
  });

  test.each([
    ["libvirt: the checksum of a packed state", (packed: Buffer) => changed(packed, packed.length - 6)],
    ["libvirt: the end of a packed state", (packed: Buffer) => packed.subarray(0, -4)],
  ])("%s", async (_, damage) => {
    const { state } = stream();
    const check = async (packed: Buffer) => {
      const path = join(folder, "save");
      writeFileSync(path, buildSave({ state: packed }));
      const { findings } = await verify({ input: path, quick: false }, quiet);
      return findings.map(({ severity, code }) => `${severity} ${code}`);
    };
    expect(await check(gzipSync(state))).toEqual([]);
    expect(await check(damage(gzipSync(state)))).toEqual(["error CORE004"]);
  });

  test("migration: the description of the devices", async () => {
    const { state, json } = stream();
    expect(await found(state)).toEqual([]);
    for (const cut of [1, 5, json - 1, json, json + 4, json + 6, json + 9]) {
      expect(await found(state.subarray(0, -cut)), `${cut}`).toEqual(["error DMP040"]);
    }
    // QEMU leaves it out when it is told to, and old machine types have none; a copy may fill the last block.
    for (const footers of [true, false]) {
      const plain = stream({ footers, described: false }).state;
      expect(await found(plain)).toEqual(["warning DMP031"]);
      expect(await found(Buffer.concat([plain, Buffer.alloc(100)]))).toEqual(["warning DMP031"]);
    }
  });

  /** A stream of some pages and the clock; how long its description is. */
  function stream(spec: Partial<MigrationSpec> = {}) {
    const items = [0, 1, 2].map((page) => ({ block: "pc.ram", page, bytes: bytes(1, page + 1) }));
    const blocks = [{ name: "pc.ram", size: 3 * PAGE }];
    const state = buildMigration({ blocks, parts: [items], devices: [clock(3 * PAGE, 0)], ...spec }).bytes;
    return { state, json: state.length - state.lastIndexOf('{"page_size') };
  }

  describe("VMware", () => {
    const memory = bytes(12, 5);
    const regions = [
      { stored: 0, page: 0, count: 8 },
      { stored: 8, page: 0x10_0000, count: 4 },
    ];
    const checked = async (state: Buffer, vmem = memory) =>
      await found(state, { beside: () => new MemorySource(vmem, "w.vmem") });
    const cpuGroup = { name: "cpu", tags: cpuTags([CPU, CPU], false) };
    const stateOf = (more: readonly VmwareRegion[] = regions, ...groups: readonly VmwareGroup[]) =>
      buildState([{ name: "memory", tags: regionTags(more) }, cpuGroup, ...groups]);

    test("a machine that is whole", async () => {
      expect(await checked(stateOf())).toEqual(["warning DMP023"]);
    });

    test("a state file of which a vCPU is lost", async () => {
      const state = stateOf();
      expect(await checked(state.subarray(0, state.lastIndexOf("eflags")))).toContain("warning DMP022");
    });

    test("a state file cut inside the registers, or behind them", async () => {
      const state = stateOf();
      expect(await checked(state.subarray(0, -30))).toEqual([
        "error DMP025",
        "error DMP026",
        "warning DMP023",
      ]);
      const more = stateOf(regions, { name: "more", tags: [tag("x", [], Buffer.alloc(8))] });
      expect(await checked(more.subarray(0, -4))).toEqual(["error DMP026", "warning DMP023"]);
    });

    test("something inside the registers that is no value", async () => {
      const state = stateOf();
      state[state.lastIndexOf("rip") - 1] = 0;
      expect(await checked(state)).toContain("error DMP025");
    });

    test("regions with the same bytes", async () => {
      const [low, high] = regions as [VmwareRegion, VmwareRegion];
      expect(await checked(stateOf([low, { ...high, stored: 7 }]))).toContain("error DMP027");
    });

    test("a memory file that is longer than its regions", async () => {
      const vmem = Buffer.concat([memory, memory]);
      expect(await checked(stateOf(), vmem)).toEqual(["warning DMP023", "warning DMP028"]);
    });
  });

  describe("Xen", () => {
    const contexts = [Buffer.alloc(5168, 1), Buffer.alloc(5168, 2)];
    const pages = [0, 1, 2, 9].map((pfn) => [pfn, bytes(1, pfn + 1)] as const);
    const at = (pfn: number | bigint) => [...pages, [pfn, bytes(1, 77)] as const];

    test.each([
      ["that is whole", { pages, contexts }, ["warning DMP023"]],
      ["with a page frame twice", { pages: at(2), contexts }, ["error DMP029", "warning DMP023"]],
      ["with one beyond all memory", { pages: at(2n ** 45n), contexts }, ["error DMP029", "warning DMP023"]],
      [
        "with more page frames than pages",
        { pages, contexts, moreFrames: 9 },
        ["error DMP024", "warning DMP023"],
      ],
    ])("a core %s", async (_, spec, wanted) => {
      expect(await found(buildXenCore(spec))).toEqual(wanted);
    });

    test("a core whose registers are not in the file", async () => {
      const core = buildXenCore({ pages, contexts });
      // sh_offset of .xen_prstatus, the fourth section: of two vCPUs there is room for one.
      core.writeBigUInt64LE(BigInt(core.length - 5168), 64 + 3 * 64 + 24);
      expect(await found(core)).toEqual(["error DMP025", "warning DMP023"]);
    });
  });
});

describe("memory in another file than the one named", () => {
  test("is read, all of it", async () => {
    const regions = [{ stored: 0, page: 0, count: 4096 }];
    const state = buildState([
      { name: "memory", tags: regionTags(regions) },
      { name: "cpu", tags: cpuTags([CPU], false) },
    ]);
    const vmem = new MemorySource(Buffer.alloc(4096 * PAGE), "w.vmem");
    const { checked, codes } = await findingsIn(state, { beside: () => vmem });
    expect(codes).toEqual(["DMP023×1"]);
    expect(checked?.pages).toEqual({ total: 4096, read: 4096 });
    expect(checked?.coverage).toMatchObject({ zero: 4096 * PAGE, present: 0 });
  });

  test("is read of every disk of a set", async () => {
    const pages = new Map(Array.from({ length: 400 }, (_, pfn) => [pfn, bytes(1, pfn + 1)] as const));
    const [first, ...others] = buildDiskSet({ pages }, [4]);
    const parts = others.map((disk, i) => new MemorySource(disk, `disk${i + 2}`));
    const { checked } = await findingsIn(first!, { parts });
    expect(checked?.pages).toEqual({ total: 400, read: 400 });
  });
});

describe("further files", () => {
  const pages = new Map([1, 2, 3, 4, 5].map((pfn) => [pfn, bytes(1, pfn)] as const));
  const split = ([[0, 2], [2, 4], [4, 6]] as const).map((part) => buildKdump({ pages, split: part })); // biome-ignore format: short
  const beside = (have: readonly number[], build = (i: number) => split[i - 1]!) => ({
    beside: (name: string) => {
      const i = have.find((number) => name === `p${number}`);
      return i === undefined ? undefined : new MemorySource(build(i), name);
    },
  });
  const check = (files: DumpFiles) => findingsOf(new MemorySource(split[1]!, "p2"), files);

  test("of a split dump are looked for beside the one that is named", async () => {
    const { codes, checked } = await check(beside([1, 3]));
    expect([codes, checked?.coverage.present]).toEqual([[], 5 * PAGE]);
    expect((await check(beside([1]))).codes).toEqual(["VRF032×1"]);
    expect((await check(beside([]))).codes).toEqual(["VRF033×1"]);
  });

  test("that are flattened streams are checked as such", async () => {
    const records = (bytes: Buffer) => [{ offset: 0, bytes }];
    const streams = (cut: number) =>
      beside([1, 3], (i) => flattened(records(split[i - 1]!)).subarray(0, i === 3 ? -cut : undefined));
    expect((await check(streams(16))).codes).toEqual(["VRF002×1"]);
  });

  test.each([
    ["an ELF vmcore", buildElf({ segments: [{ paddr: 0, bytes: bytes(1, 1) }] }), {}],
    ["a LiME image", buildLime([{ start: 0, bytes: bytes(1, 1) }]), {}],
    ["a raw image", bytes(1, 1), { map: [{ start: 0, end: PAGE, offset: 0 }] }],
  ])("of %s there are none", async (_, image, files) => {
    const parts = [new MemorySource(image, "other")];
    const source = () => new MemorySource(image, "image");
    const refused = /whole in one file: other is no part of it/;
    await expect(findingsOf(source(), { ...files, parts })).rejects.toThrow(refused);
    await expect(openAnyDump(source(), { ...files, parts })).rejects.toThrow(refused);
  });
});
