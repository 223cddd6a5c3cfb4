import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { openInput } from "../src/jobs/input.ts";
import { quiet } from "./support/memory-io.ts";
import { physicalAt, readVmcore } from "./support/read-vmcore.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { buildElf } from "./synth/elf.ts";
import { tablePieces } from "./synth/memory.ts";
import { buildQemuCore } from "./synth/qemu.ts";
import { longMode } from "./synth/qemu-presets.ts";
import { haltedVcpu, vmcbPage } from "./synth/vmcb.ts";
import { E7500, table } from "./synth/vmcsinfo.ts";

/**
 * VMCSs of a real KVM host (samples/README.md) attached to cores of qemu processes. There is no pair of a qemu core and
 * its own host's dump here: one core is made up around the real guest's memory, the other is of another guest.
 */
const sample = (name: string): string => join(import.meta.dirname, "../samples", name);
const truth = readFileSync(sample("kvm-host.truth.txt"), "latin1");
const HOST = sample("kvm-host.vmcore.zst");
const ADDRESSES = [0x254_9000, 0x25f_f000, 0x12f4_2000, 0xf13_9000];
const value = (vcpu: number, name: string): bigint =>
  BigInt(new RegExp(`^vcpu${vcpu}\\.${name} (\\S+)$`, "m").exec(truth)![1]!);

const folder = mkdtempSync(join(tmpdir(), "guestcore-vcpu-attach-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);

async function run(...argv: string[]) {
  const terminal = new FakeTerminal();
  const status = await main(argv, terminal);
  return { status, out: terminal.out, err: terminal.err };
}

function validated(json: string) {
  const document = JSON.parse(json);
  const validate = schemas().getSchema(`${String(document.schema).split("/")[1]}.json`)!;
  expect(validate(document), JSON.stringify(validate.errors)).toBe(true);
  return document.result;
}

/** Bytes of the host's memory, by its own reader. */
let host: ReturnType<typeof readVmcore>;

beforeAll(async () => {
  const input = await openInput(HOST, { ...quiet, temporaryDirectories: [folder] });
  const bytes = Buffer.alloc(input.source.size);
  input.source.read(0, bytes);
  input.close();
  host = readVmcore(bytes);
});

describe("a core around the memory of the host's guest", () => {
  const core = at("matching.core");
  const output = at("matching.with-vmcs");

  test("gets a note for each vCPU and VMCSINFO", async () => {
    await run("extract", HOST, "-o", at("guest.vmcore"));
    const guest = readVmcore(readFileSync(at("guest.vmcore")));
    const places = new Map(guest.loads.map(({ paddr, bytes }) => [Number(paddr), bytes]));
    const contents = Buffer.concat([...places.values()]);
    expect(contents).toHaveLength(3222 * 4096);
    let offset = 0;
    const map = [...places].map(([gpa, { length: size }]) => {
      offset += size;
      return { gpa, size, offset: offset - size };
    });
    const { core: made } = buildQemuCore({
      accel: "kvm",
      blocks: [{ idstr: "pc.ram", size: contents.length, kind: "ram", map, contents }],
      vcpus: [0, 1, 2, 3].map((index) => ({ registers: longMode(index), dirty: index === 1 })),
    });
    writeFileSync(core, made);
    const { status, out, err } = await run("vmcsinfo", "attach", core, "--vmcs", HOST, "-o", output);
    expect([status, err]).toEqual([0, ""]);
    expect(out).toContain(
      "guest 1, VMCS notes of vCPU 0 (0x2549000), 1 (0x25ff000), 2 (0x12f42000), 3 (0xf139000)",
    );
    expect(out).toMatch(/^wrote .*, 4 VMCS notes, VMCSINFO as v2 note/m);
    const notes = readVmcore(readFileSync(output)).notes.slice(-5);
    expect(notes.map(({ name, type }) => [name, type])).toEqual([
      ...ADDRESSES.map(() => ["VMCS", 0]),
      ["VMCSINFO", 0],
    ]);
    for (const [vcpu, address] of ADDRESSES.entries()) {
      const { desc } = notes[vcpu]!;
      expect(desc).toHaveLength(32 + 4096);
      expect([0, 4, 8, 12, 24, 28].map((word) => desc.readUInt32LE(word))).toEqual([1, 32, vcpu, 1, 4096, 0]);
      expect(desc.readBigUInt64LE(16)).toBe(BigInt(address));
      expect(desc.subarray(32).equals(physicalAt(host, address, 4096)!)).toBe(true);
    }
  });

  test("gives the registers that KVM told where QEMU's are stale", async () => {
    const { status, out, err } = await run("extract", output, "-o", at("matching.vmcore"), "--json");
    expect(status).toBe(0);
    const { vcpus, process } = validated(out);
    expect(err).toMatch(/warning REG001: rax, .* of 3 vCPUs \(0, 2, 3\)/);
    expect(err).not.toContain("VMN");
    expect(process.vcpuNotes.map(({ use }: { use: string }) => use)).toEqual([
      "over-stale",
      "not-needed",
      "over-stale",
      "over-stale",
    ]);
    const register = (vcpu: number, name: string) => BigInt(vcpus[vcpu].registers[name]);
    for (const vcpu of [0, 2]) {
      for (const name of ["rsp", "cr0", "cr4", "efer"]) expect(register(vcpu, name)).toBe(value(vcpu, name));
      expect(vcpus[vcpu]).toMatchObject({
        trust: "partly-stale",
        sources: { rip: "VMCS note GUEST_RIP", rax: "QEMU CPUX86State, stale" },
      });
      expect(register(vcpu, "rax")).toBe(longMode(vcpu).rax);
    }
    expect(register(0, "rip")).toBe(value(0, "rip"));
    // Behind its HLT, which KVM has not written back.
    expect(register(2, "rip")).toBe(value(2, "rip") - 1n);
    expect(vcpus[2].halted).toBe(true);
    expect(vcpus[1]).toMatchObject({ trust: "current" });
    expect(register(1, "rip")).toBe(longMode(1).rip);
  });

  test("is seen by vmcsinfo show and info", async () => {
    const { vcpuNotes, fields, accessRights } = validated(
      (await run("vmcsinfo", "show", output, "--json")).out,
    );
    expect(vcpuNotes.map(({ address }: { address: number }) => address)).toEqual(ADDRESSES);
    expect(fields).toHaveLength(158);
    expect(accessRights.form).toBe("rotated");
    expect((await run("vmcsinfo", "show", output)).out).toContain("VMCS notes of vCPU 0 (0x2549000), 1 (");
    expect((await run("info", output)).out).toMatch(/notes .*VMCS ×4, VMCSINFO/);
  });

  test("keeps its notes unless --replace, which makes the same file again", async () => {
    const again = at("again.core");
    const refused = await run("vmcsinfo", "attach", output, "--vmcs", HOST, "-o", again);
    expect([refused.status, existsSync(again)]).toEqual([2, false]);
    expect(refused.err).toContain("has notes of vCPUs already");
    const { status } = await run("vmcsinfo", "attach", output, "--vmcs", HOST, "-o", again, "--replace");
    expect(status).toBe(0);
    expect(readFileSync(again).equals(readFileSync(output))).toBe(true);
  });

  test("takes VMCSINFO from elsewhere, and the layout by name", async () => {
    const from = at("from.core");
    const table = sample("kvm-host.vmcsinfo.txt");
    await run("vmcsinfo", "attach", core, "--vmcs", HOST, "--from", table, "--to", "v1", "-o", from);
    expect(validated((await run("vmcsinfo", "show", from, "--json")).out).form).toBe("v1");
    const named = at("named.core");
    const args = ["--vmcs", HOST, "--layout", "bochs", "-o", named, "--json"];
    const { out } = await run("vmcsinfo", "attach", core, ...args);
    expect(validated(out)).toMatchObject({
      form: "layout",
      container: "layout",
      label: "layout bochs",
      output: { to: "v2", guest: 1, vcpuNotes: ADDRESSES.map((address, vcpu) => ({ vcpu, address })) },
    });
    for (const name of [from, named]) {
      const { vcpus } = validated((await run("extract", name, "--dry-run", "--json")).out);
      expect(BigInt(vcpus[0].registers.rip)).toBe(value(0, "rip"));
    }
  });

  test.each([
    [["--vmcs", HOST, "--guest", "2"], 5, "this host has no guest 2"],
    [["--vmcs", HOST, "--layout", "haswell"], 5, "no guest was found"],
    [[], 2, "nothing to attach"],
    [["--from", HOST, "--guest", "1"], 2, "go with --vmcs"],
  ])("%j", async (words, status, message) => {
    const result = await run("vmcsinfo", "attach", core, ...words, "-o", at("refused"));
    expect([result.status, existsSync(at("refused"))]).toEqual([status, false]);
    expect(result.err).toContain(message);
  });

  test("comes first, the host's dump second", async () => {
    const swapped = await run("vmcsinfo", "attach", HOST, "--vmcs", core, "-o", at("swapped"));
    expect([swapped.status, existsSync(at("swapped"))]).toEqual([3, false]);
    expect(swapped.err).toContain("the core comes first");
  });

  test("VMCSINFO of another processor is told of: by it the regions cannot be read", async () => {
    const other = at("other.txt");
    writeFileSync(other, table(0x2b, [...E7500, { encoding: 0x6c16, offset: 0x7f0 }]));
    const words = ["--vmcs", HOST, "--layout", "bochs", "--from", other, "-o", at("other.core")];
    const { status, err } = await run("vmcsinfo", "attach", core, ...words);
    expect(status).toBe(0);
    expect(err).toMatch(/^warning VMN001: 4 of 4 VMCSs cannot be read by the VMCSINFO that is attached/m);
  });
});

describe("a core of another guest, which ran under TCG", () => {
  test("keeps its own registers, and is told of", async () => {
    const output = at("nano.core");
    const core = sample("nano-pc.core.zst");
    expect((await run("vmcsinfo", "attach", core, "--vmcs", HOST, "-o", output)).status).toBe(0);
    const before = validated((await run("extract", core, "--dry-run", "--json")).out);
    const { out, err } = await run("extract", output, "--dry-run", "--json");
    expect(validated(out).vcpus).toEqual(before.vcpus);
    expect(err).toContain("warning VMN003: the guest ran under TCG");
    if (spawnSync("gdb", ["--version"]).error !== undefined) return;
    const gdb = (path: string) =>
      spawnSync("gdb", ["-batch", "-ex", "info registers rip", "-c", path], { encoding: "utf8" }).stdout;
    expect(gdb(output)).toMatch(/rip +0x/);
  });
});

describe("a host whose processor is AMD's", () => {
  const amd = at("made-amd.vmcore");
  const bare = at("bare.core");
  const table = sample("kvm-host.vmcsinfo.txt");
  const kinds = (path: string) => readVmcore(readFileSync(path)).notes.map(({ name }) => name);
  const attached = async (core: string, ...words: string[]) => {
    const output = at("attached.core");
    const { status, err } = await run("vmcsinfo", "attach", core, ...words, "-o", output, "--force");
    return { status, err, names: status === 0 ? kinds(output).filter((name) => /^VMC/.test(name)) : [] };
  };

  beforeAll(() => {
    const root = 0x10_0000;
    const link = (level: number) =>
      [root + 0x1000 * level, 0, BigInt(root + 0x1000 * (level + 1)) | 7n] as const;
    const pieces = tablePieces([link(0), link(1), link(2), link(3)]);
    const block = { address: 0x20_0000, bytes: vmcbPage(haltedVcpu({ nCr3: root })) };
    const guest = { address: root + 0x4000, bytes: Buffer.alloc(4096, 5) };
    const segments = [...pieces, guest, block].map((piece) => ({
      paddr: piece.address,
      bytes: "bytes" in piece ? piece.bytes : Buffer.alloc(0),
    }));
    writeFileSync(amd, buildElf({ notes: Buffer.alloc(0), segments }));
    writeFileSync(bare, buildQemuCore({ accel: "kvm", vcpus: [{ registers: longMode(0) }] }).core);
  });

  test("is not refused for VMCSINFO, which it does not write, and leaves it", async () => {
    const core = at("only-info.core");
    expect((await run("vmcsinfo", "attach", bare, "--from", table, "-o", core)).status).toBe(0);
    for (const words of [[], ["--replace"]]) {
      expect(await attached(core, "--vmcs", amd, ...words)).toEqual({
        status: 0,
        err: "",
        names: ["VMCSINFO", "VMCB"],
      });
    }
    const refused = await attached(core, "--vmcs", amd, "--from", table);
    expect([refused.status, refused.err]).toEqual([
      2,
      expect.stringContaining("has a VMCSINFO note already"),
    ]);
    const intel = await attached(core, "--vmcs", HOST);
    expect([intel.status, intel.err]).toEqual([2, expect.stringContaining("has a VMCSINFO note already")]);
  });

  test("takes the place of an Intel host's VMCSs and of their VMCSINFO", async () => {
    const core = at("intel.core");
    expect((await run("vmcsinfo", "attach", bare, "--vmcs", HOST, "-o", core)).status).toBe(0);
    expect(kinds(core).slice(-5)).toEqual(["VMCS", "VMCS", "VMCS", "VMCS", "VMCSINFO"]);
    const refused = await attached(core, "--vmcs", amd);
    expect([refused.status, refused.err]).toEqual([2, expect.stringContaining("has notes of vCPUs already")]);
    expect((await attached(core, "--vmcs", amd, "--replace")).names).toEqual(["VMCB"]);
  });
});

const AMD = join(
  process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../shared/data"),
  "svm/two-guests",
);
const zstd = spawnSync("zstd", ["--version"]).status === 0;
const reason = !existsSync(AMD) ? `no ${AMD}` : !zstd ? "no zstd command" : undefined;

describe.skipIf(reason !== undefined)(
  `svm/two-guests${reason === undefined ? "" : ` (skipped: ${reason})`}`,
  () => {
    const dump = at("amd.vmcore");
    const core = at("amd.core");
    beforeAll(() => {
      if (reason !== undefined) return;
      const packed = join(AMD, "vmcore.d23.elf.zst");
      expect(spawnSync("zstd", ["-qd", "--long=27", packed, "-o", dump]).status).toBe(0);
      const vcpus = [0, 1].map((index) => ({ registers: longMode(index) }));
      writeFileSync(core, buildQemuCore({ accel: "kvm", vcpus }).core);
    });

    test("one of two guests has to be named", async () => {
      const { status, err } = await run("vmcsinfo", "attach", core, "--vmcs", dump, "-o", at("which"));
      expect([status, err]).toEqual([2, expect.stringContaining("this host has 2 guests")]);
    });

    test("VMCB notes go without VMCSINFO", async () => {
      const guests = validated((await run("guests", dump, "--json")).out).guests;
      const two = guests.find(({ vcpus }: { vcpus: unknown[] }) => vcpus.length === 2);
      const output = at("amd.with-vmcbs");
      const words = ["--vmcs", dump, "--guest", `${two.id ?? two.guest.id}`, "-o", output, "--json"];
      const { status, out } = await run("vmcsinfo", "attach", core, ...words);
      expect(status).toBe(0);
      const { output: written, form } = validated(out);
      expect(form).toBeUndefined();
      expect(
        written.vcpuNotes.map(({ owner, address }: { owner: string; address: number }) => [owner, address]),
      ).toEqual([
        ["VMCB", 0x3691_9000],
        ["VMCB", 0x37d3_a000],
      ]);
      // The core is made up: nothing of that guest is in its memory.
      const json = await run("extract", output, "--dry-run", "--json");
      expect(validated(json.out).process.vcpuNotes.map(({ use }: { use: string }) => use)).toEqual([
        "refused",
        "refused",
      ]);
      expect(JSON.parse(json.out).warnings.map(({ code }: { code: string }) => code)).toContain("VMN003");
    });
  },
);
