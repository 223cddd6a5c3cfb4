import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { verify } from "../src/jobs/verify.ts";
import { findingsIn } from "./support/check.ts";
import { MemorySource, quiet } from "./support/memory-io.ts";
import { avmlBlock, buildLime } from "./synth/lime.ts";
import { buildMigration, buildSave, type MigrationSpec } from "./synth/migration.ts";
import { clock } from "./synth/migration-devices.ts";
import { PAGE, patternBytes } from "./synth/pattern.ts";
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
