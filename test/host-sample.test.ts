import {
  copyFileSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { UnavailableError, UsageError } from "../src/core/errors.ts";
import type { JobContext } from "../src/core/job.ts";
import { extract } from "../src/jobs/extract.ts";
import { listGuests } from "../src/jobs/guests.ts";
import { openInput } from "../src/jobs/input.ts";
import { listVmcs } from "../src/jobs/vmcs.ts";
import { guestsJson, guestsText } from "../src/report/guests.ts";
import { KVM_VMCS12 } from "../src/vmx/layouts/kvm-vmcs12.ts";
import type { GeneralRegister } from "../src/x86/state.ts";
import { physicalAt, prstatusRegisters, readVmcore } from "./support/read-vmcore.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { array, v2Binary } from "./synth/vmcsinfo.ts";

/**
 * The shipped dump of a KVM host (samples/README.md), judged by what was measured on the running host: KVM_GET_REGS and
 * KVM_GET_SREGS of every vCPU, the VMM's own /proc/self/pagemap, and the pattern that the guest wrote.
 */
const sample = (name: string): string => join(import.meta.dirname, "../samples", name);
const truth = readFileSync(sample("kvm-host.truth.txt"), "latin1");
const folder = mkdtempSync(join(tmpdir(), "guestcore-host-"));
afterAll(() => rmSync(folder, { recursive: true }));

const context: JobContext = {
  progress: { start: () => {}, update: () => {}, finish: () => {} },
  warn: () => {},
  checkpoint: async () => {},
  temporaryDirectories: [folder],
};

const VMCSS = [0x254_9000, 0x25f_f000, 0xf13_9000, 0x12f4_2000];
/** Where KVM keeps the vCPUs' registers. */
const VCPU_PAGES = [0x128f_8000, 0x128f_a000, 0x128f_c000, 0x272_0000];
const GENERAL = (
  "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15".split(" ") as GeneralRegister[]
).toSorted();
const EPT_ROOT = 0x12e2_2000;
/** A page of the host's RAM that the dump was stripped of. */
const STRIPPED = 0x120_0000;
const VMXON = [0x12e2_c000, 0x12e2_d000];

/** `vcpu1.rip 0x…` lines by name. */
const registersOf = (vcpu: number): ReadonlyMap<string, string> =>
  new Map(
    [...truth.matchAll(new RegExp(`^vcpu${vcpu}\\.(\\S+) (.*)$`, "gm"))].map(([, name, value]) => [
      name!,
      value!,
    ]),
  );
const value = (vcpu: number, name: string): bigint => BigInt(registersOf(vcpu).get(name)!);

/** The dump unpacked, for tests that change it. */
const plain = join(folder, "host.vmcore");
beforeAll(async () => {
  const input = await openInput(sample("kvm-host.vmcore.zst"), context);
  const bytes = Buffer.alloc(input.source.size);
  input.source.read(0, bytes);
  input.close();
  writeFileSync(plain, bytes);
});

/** A copy of the dump with pages changed; `place` is where physical addresses lie in the file. */
function changed(
  name: string,
  edit: (file: { page(at: number): Buffer; put(at: number, bytes: Buffer): void }) => void,
) {
  const path = join(folder, name);
  copyFileSync(plain, path);
  const file = readFileSync(path);
  const core = readVmcore(file);
  const offsetOf = (at: number): number => {
    const page = physicalAt(core, at, 4096);
    if (page === undefined) throw new Error(`no ${at.toString(16)} in the dump`);
    return page.byteOffset - file.byteOffset;
  };
  const fd = openSync(path, "r+");
  edit({
    page(at) {
      const bytes = Buffer.alloc(4096);
      readSync(fd, bytes, 0, 4096, offsetOf(at));
      return bytes;
    },
    put(at, bytes) {
      writeSync(fd, bytes, 0, bytes.length, offsetOf(at));
    },
  });
  return path;
}

const extractTo = (input: string, output: string, others = {}) =>
  extract(
    {
      input,
      output: join(folder, output),
      format: "elf",
      vaddr: "direct-map",
      ram: new Map(),
      layout: undefined,
      dryRun: false,
      force: true,
      keepPartial: false,
      ...others,
    },
    context,
  );

describe("every VMCS of the host and nothing else", () => {
  test.each([
    ["by the dump's own VMCSINFO note", {}, "VMCSINFO v2 note"],
    ["by a layout of the data base", { layout: "bochs" }, "bochs"],
    ["by a table beside the dump", { vmcsinfo: sample("kvm-host.vmcsinfo.txt") }, "VMCSINFO table"],
  ])("%s", async (_, options, layout) => {
    const { host } = await listVmcs(plain, options, context);
    expect(host.blocks.map(({ block, role, guest, vcpu }) => [block?.address, role, guest, vcpu])).toEqual([
      [VMCSS[0], "vcpu", 1, 0],
      [VMCSS[1], "vcpu", 1, 1],
      [VMCSS[2], "vcpu", 1, 3],
      [VMCSS[3], "vcpu", 1, 2],
    ]);
    expect(host.vmx.vmxonRegions).toEqual(VMXON);
    expect(host.vmx.candidates.map(({ region }) => region.layout.name)).toEqual(VMCSS.map(() => layout));
    expect(host.vmx.candidates.every(({ score }) => score.value === 1)).toBe(true);
    expect(host.vmx.rejected.best).toBeLessThan(0.5);
  });

  test("and guests by them alone: the dump lacks the host kernel's own words", async () => {
    const result = await listGuests(plain, { check: true }, context);
    expect(result.host.kvmUnknown).toBe("its page tables are not known");
    expect(result.guests).toMatchObject([
      { guest: { id: 1, vm: undefined }, slots: undefined, agreement: undefined },
    ]);
    expect(result.guests[0]!.tables!.mapped).toBe(3222 * 4096);
    expect(guestsText(result, ["--layout", "penryn"])).toMatch(/ --layout penryn -o guest\.vmcore\n$/);
    const text = guestsText(result);
    expect(text).toMatch(
      /^note: told by control blocks alone; of the host's kernel, its page tables are not known$/m,
    );
    expect(text).toMatch(/^guest 1: 4 vCPUs, 12\.6 MiB mapped, EPT 4-level at 0x12e22000$/m);
    const { host, guests } = guestsJson(result);
    expect(host.kvmUnknown).toBe("its page tables are not known");
    expect(guests[0]).toMatchObject({ id: 1, memory: null, agreement: undefined });
    for (const key of ["name", "pid", "memslots", "kvm"]) expect(guests[0]).not.toHaveProperty(key);
  });

  test("with tables that map nothing: registers are there, memory is elsewhere", async () => {
    const path = changed("empty-ept", ({ put }) => put(EPT_ROOT, Buffer.alloc(4096)));
    const result = await listGuests(path, {}, context);
    expect(result.guests.map(({ guest, vcpus, tables }) => [guest.id, vcpus.length, tables?.mapped])).toEqual(
      [[1, 4, 0]],
    );
    expect(guestsText(result)).toMatch(/no guest's memory is found .* a core of its VMM has it\n$/);
    await expect(extractTo(path, "empty")).rejects.toThrow(
      expect.objectContaining({ hint: expect.stringContaining("tables are empty; a core of its VMM") }),
    );
  });

  test("but those whose EPT pointer leads to text, and where to see why", async () => {
    const path = changed("text-ept", ({ put }) => put(EPT_ROOT, Buffer.alloc(4096, "of text")));
    const result = await listGuests(path, {}, context);
    expect(result.guests.map(({ vcpus, tables }) => [vcpus.length, tables])).toEqual([[1, undefined]]);
    expect(guestsText(result)).toMatch(/next: guestcore vmcs list /);
  });

  test("none by the layout of another processor", async () => {
    const { host } = await listVmcs(plain, { layout: "haswell" }, context);
    expect(host.blocks).toEqual([]);
    await expect(extractTo(plain, "none", { host: { layout: "haswell" } })).rejects.toThrow(UnavailableError);
    expect(guestsText(await listGuests(plain, { layout: "haswell" }, context))).toContain(
      "by --layout haswell there is no VMCS",
    );
  });

  test("the core of a process is told from a host's dump", async () => {
    await expect(listVmcs(sample("nano-pc.core.zst"), {}, context)).rejects.toThrow(
      "the core of a process, not the dump of a machine",
    );
  });

  test("a layout that does not exist is a usage error", async () => {
    await expect(listVmcs(plain, { layout: "no-such-cpu" }, context)).rejects.toThrow(UsageError);
  });
});

describe("the guest", () => {
  test("is listed with its four vCPUs", async () => {
    const { guests, host } = await listGuests(plain, {}, context);
    expect(host.linux?.release?.value).toBe("6.1.0-56-cloud-amd64");
    expect(guests).toHaveLength(1);
    expect(guests[0]).toMatchObject({
      tables: { mapped: 3222 * 4096, foreign: 0, tablesMissing: 0, complete: true },
      linux: undefined,
    });
    expect(guests[0]!.vcpus.map(({ halted }) => halted)).toEqual([false, false, true, false]);
  });

  test("has the memory that the VMM's page tables show, byte for byte", async () => {
    const { coverage, guest } = await extractTo(plain, "guest.vmcore");
    expect(coverage).toEqual({ present: 3222 * 4096, zero: 0, excluded: 0, missing: 0 });
    const vmcore = readVmcore(readFileSync(join(folder, "guest.vmcore")));
    const host = readVmcore(readFileSync(plain));
    let pages = 0;
    for (const [, gpa, hpa, count] of truth.matchAll(/^map gpa=(\S+) hpa=(\S+) pages=(\d+)$/gm)) {
      for (let i = 0; i < Number(count); i++) {
        const found = physicalAt(vmcore, Number(gpa) + 4096 * i, 4096);
        // The guest never touched the rest, so EPT does not map it.
        if (found === undefined) continue;
        expect(physicalAt(host, Number(hpa) + 4096 * i, 4096)?.equals(found), `${gpa} + ${i}`).toBe(true);
        pages++;
      }
    }
    expect(pages).toBe(3222);
    expect(guest.ranges.every(({ start, end }) => physicalAt(vmcore, start, end - start) !== undefined)).toBe(
      true,
    );
  });

  test("has the pattern that it wrote", async () => {
    const vmcore = readVmcore(readFileSync(join(folder, "guest.vmcore")));
    let pages = 0;
    for (const [, gpa, end, stride] of truth.matchAll(/^fill gpa=(\S+) end=(\S+) stride=(\S+)/gm)) {
      for (let at = Number(gpa); at < Number(end); at += Number(stride)) {
        const page = physicalAt(vmcore, at, 4096);
        expect(page, at.toString(16)).toBeDefined();
        pages++;
      }
    }
    expect(pages).toBeGreaterThan(3000);
  });

  test("has the registers that KVM told, all of them, and says where each was", async () => {
    const { guest, warnings } = await extractTo(plain, "registers.vmcore");
    expect(warnings.map(({ code }) => code)).toEqual([]);
    for (const { index, state, trust } of guest.vcpus) {
      expect(trust).toBe("current");
      for (const name of [...GENERAL, "rip", "cr0", "cr2", "cr4", "efer"] as const) {
        expect(state[name], `vCPU ${index} ${name}`).toBe(value(index, name));
      }
      // The exit of the crash NMI left RF set.
      expect(state.rflags & ~0x1_0000n).toBe(value(index, "rflags"));
      expect(state.cr3 & ~0xfffn).toBe(value(index, "cr3") & ~0xfffn);
      expect(state.kernelGsBase).toBeUndefined();
      const cs = /sel=(\S+) base=(\S+) limit=(\S+)/.exec(registersOf(index).get("cs")!)!;
      expect(state.segments.cs).toMatchObject({
        selector: Number(cs[1]),
        base: BigInt(cs[2]!),
        limit: Number(cs[3]),
      });
    }
    // vCPU 2 sits behind its HLT, vCPU 3 never ran: KVM has not written their RIP back.
    const ofKvm = /^kvm_vcpu\.arch\.regs at 0x/;
    const ripSources = guest.vcpus.map(({ sources }) => ofKvm.test(sources?.rip ?? ""));
    expect(ripSources).toEqual([false, false, true, true]);
    expect(guest.vcpus.every(({ sources }) => ofKvm.test(sources?.rax ?? ""))).toBe(true);
    const notes = readVmcore(readFileSync(join(folder, "registers.vmcore"))).notes;
    const prstatus = notes.filter(({ name, type }) => name === "CORE" && type === 1);
    expect(prstatus.map(({ desc }) => prstatusRegisters(desc).r15)).toEqual(
      guest.vcpus.map(({ state }) => state.r15),
    );
  });

  test("has registers that are not known where KVM's structure is not in the dump, and RIP at the HLT", async () => {
    const host = changed("no-kvm.vmcore", ({ put }) => {
      for (const page of VCPU_PAGES) put(page, Buffer.alloc(4096));
    });
    const { guest, warnings } = await extractTo(host, "no-kvm.guest");
    expect(warnings.map(({ code }) => code)).toEqual(["REG003"]);
    expect(guest.vcpus[2]!.state).toMatchObject({ rax: undefined, r15: undefined, cr2: undefined });
    expect(guest.vcpus[2]!.state.rip).toBe(value(2, "rip") - 1n);
    expect(guest.vcpus[2]!.caveats).toHaveLength(1);
    expect(guest.vcpus.slice(0, 3).map(({ state }) => state.rsp)).toEqual(
      [0, 1, 2].map((i) => value(i, "rsp")),
    );
  });

  test("with a table that is not in the dump is no success where --strict is given", async () => {
    const host = changed("hole.vmcore", ({ page, put }) => {
      const directory = Number(page(EPT_ROOT).readBigUInt64LE(0) & 0xff_ffff_f000n);
      const entries = page(directory);
      entries.writeBigUInt64LE(BigInt(STRIPPED) | 7n, 8 * 300);
      put(directory, entries);
    });
    const { warnings, coverage } = await extractTo(host, "hole", { dryRun: true });
    expect(warnings.map(({ code }) => code)).toEqual(["GST002"]);
    expect(coverage).toMatchObject({ excluded: 0, missing: 0 });
    const terminal = new FakeTerminal();
    expect(await main(["extract", host, "--dry-run", "--strict"], terminal)).toBe(6);
    expect(terminal.err).toMatch(/not all of the guest's second-level tables could be read/);
  });

  test("whose tables lead to the same memory again and again is told, not refused", async () => {
    const host = changed("again.vmcore", ({ page, put }) => {
      const root = page(EPT_ROOT);
      for (let entry = 1; entry < 64; entry++) root.writeBigUInt64LE(root.readBigUInt64LE(0), entry * 8);
      put(EPT_ROOT, root);
    });
    const { warnings, coverage } = await extractTo(host, "again", { dryRun: true });
    expect(warnings.map(({ code }) => code)).toContain("GST005");
    expect(coverage).toMatchObject({ present: 64 * 3222 * 4096 });
  });

  test("is asked for by a number that exists", async () => {
    await expect(extractTo(plain, "two", { guest: 2 })).rejects.toThrow("this host has no guest 2");
    await expect(extractTo(plain, "one.vmcore", { guest: 1 })).resolves.toMatchObject({
      origin: { kind: "host" },
    });
  });
});

describe("another layout: fields in reverse order, access rights packed, the revision of KVM's vmcs12", () => {
  const REVISION = 0x11e5_7ed0;
  const places = readFileSync(sample("kvm-host.vmcsinfo.txt"), "latin1")
    .split("\n")
    .filter((line) => line.startsWith("0x"))
    .map((line) => line.split(" "))
    .map(([encoding, offset, size, , form]) => ({
      encoding: Number(encoding),
      from: Number(offset),
      size: Number(size),
      form,
    }))
    // The high halves follow their low halves.
    .filter(({ encoding }) => (encoding & 0x6001) !== 0x2001);
  let next = 0x20;
  const moved = places.toReversed().map((place) => {
    const packed = place.form === "ror8";
    const to = next;
    next += packed ? 2 : Math.max(place.size, 2);
    if (next % 8 !== 0) next += 8 - (next % 8);
    return { ...place, to, packed };
  });
  const table = [
    `# revision 0x${REVISION.toString(16)}`,
    ...moved.map(({ encoding, to, size, packed }) =>
      [
        `0x${encoding.toString(16)}`,
        `0x${to.toString(16)}`,
        packed ? 2 : size,
        "-",
        packed ? "packed" : "plain",
      ].join(" "),
    ),
  ].join("\n");

  function rewritten(page: Buffer): Buffer {
    const bytes = Buffer.alloc(4096);
    bytes.writeUInt32LE(REVISION, 0);
    for (const { from, to, size, packed } of moved) {
      if (packed) {
        // Stored rotated left by 8: bits 7:0 and 15:12 stay, "unusable" (16) goes to 11.
        const stored = page.readUInt32LE(from);
        const rights = ((stored >>> 8) | (stored << 24)) >>> 0;
        bytes.writeUInt16LE((rights & 0xf0ff) | ((rights >>> 5) & 0x800), to);
      } else page.copy(bytes, to, from, from + size);
    }
    return bytes;
  }

  const fields = moved.map(({ encoding, to, packed }) => ({
    encoding,
    offset: to,
    ...(packed ? { form: "packed" as const } : {}),
  }));

  // Of a packed field's offset a note loses bits, an array says no form: the VMCSs themselves settle both.
  test.each([
    ["a table beside the dump", table],
    ["the second patch set's note", v2Binary(REVISION, fields)],
    ["a note of plain offsets", v2Binary(REVISION, fields, (offset) => offset)],
    ["an array, which does not say how access rights are stored", array(REVISION, fields)],
  ])("gives the same guest, by %s", async (_, description) => {
    const vmcsinfo = join(folder, "reversed.vmcsinfo");
    writeFileSync(vmcsinfo, description);
    const host = changed("reversed.vmcore", ({ page, put }) => {
      for (const address of VMCSS) put(address, rewritten(page(address)));
      for (const address of VMXON) put(address, Buffer.from([0xd0, 0x7e, 0xe5, 0x11]));
    });
    const own = await listVmcs(plain, {}, context);
    const other = await listVmcs(host, { vmcsinfo }, context);
    const facts = ({ host: { blocks, vmx } }: typeof own) => ({
      blocks: blocks.map(({ block, ...rest }) => [block?.address, rest]),
      values: vmx.candidates.map(({ region }) => Object.fromEntries(region.values)),
      vmxon: vmx.vmxonRegions,
    });
    expect(facts(other)).toEqual(facts(own));
    await extractTo(host, "reversed.guest", { host: { vmcsinfo } });
    await extractTo(plain, "own.guest");
    const bytes = (name: string) => readFileSync(join(folder, name));
    expect(bytes("reversed.guest").equals(bytes("own.guest"))).toBe(true);
  });

  test("marks access rights whose place the VMCSs do not tell either", async () => {
    const vmcsinfo = join(folder, "guessed.vmcsinfo");
    writeFileSync(
      vmcsinfo,
      v2Binary(REVISION, fields, (offset) => offset),
    );
    const ds = fields.find(({ encoding }) => encoding === 0x481a)!.offset;
    const other = ds | 0x700;
    const host = changed("guessed.vmcore", ({ page, put }) => {
      for (const address of VMCSS) {
        const region = rewritten(page(address));
        region.copy(region, other, ds, ds + 2);
        put(address, region);
      }
    });
    const { guest, warnings } = await extractTo(host, "guessed.guest", { host: { vmcsinfo } });
    expect(warnings.find(({ code }) => code === "VMI009")?.message).toMatch(
      /^the places of 1 field are guesses \(GUEST_DS_AR_BYTES/,
    );
    expect(guest.vcpus[0]!.sources).toMatchObject({
      cs: "VMCS GUEST_CS",
      ds: "VMCS GUEST_DS, access rights from a guessed place",
    });
  });
});

describe("what is no vCPU of this host", () => {
  test("a copy of a VMCS is told from it", async () => {
    const host = changed("copy.vmcore", ({ page, put }) => put(VMXON[0]!, page(VMCSS[0]!)));
    const { host: found } = await listVmcs(host, {}, context);
    expect(found.guests).toHaveLength(1);
    expect(found.guests[0]!.vcpus).toHaveLength(4);
    expect(found.blocks.filter(({ role }) => role === "copy")).toHaveLength(1);
  });

  test("a VMCS whose tables are gone is none of a guest", async () => {
    const host = changed("gone.vmcore", ({ page, put }) => {
      const bytes = page(VMCSS[0]!);
      bytes.writeBigUInt64LE(0x3000_0000n | 0x1en, offsetOfField(0x201a));
      // A page of text for a table.
      bytes.writeBigUInt64LE(BigInt(VMXON[1]!) | 0x1en, offsetOfField(0x201a));
      put(VMXON[1]!, Buffer.alloc(4096, "no table at all. "));
      put(VMCSS[0]!, bytes);
    });
    const { host: found } = await listVmcs(host, {}, context);
    expect(found.blocks.find(({ block }) => block?.address === VMCSS[0])).toMatchObject({
      role: "foreign",
      guest: undefined,
    });
    expect(found.guests[0]!.vcpus).toHaveLength(3);
  });

  test("a VMCS that a hypervisor in the guest keeps is told, with where the guest has it", async () => {
    const [, gpa, hpa] = /^map gpa=(0x1[0-9a-f]{5}) hpa=(\S+) pages=/m.exec(truth)!;
    const host = changed("inner.vmcore", ({ page, put }) => put(Number(hpa), vmcs12Of(page(VMCSS[0]!))));
    const { host: found, others } = await listVmcs(host, {}, context);
    expect(found.guests).toHaveLength(1);
    expect(found.guests[0]!.vcpus).toHaveLength(4);
    expect(others).toMatchObject([
      { role: "inner", guest: 1, guestAddress: Number(gpa), candidate: { address: Number(hpa) } },
    ]);
  });

  test.each([
    ["by itself", {}],
    ["by name", { layout: "kvm-vmcs12" }],
  ])(
    "but of a host that is itself a guest, VMCSs in its hypervisor's layout are its processor's: %s",
    async (_, options) => {
      const host = changed("nested.vmcore", ({ page, put }) => {
        // Tables for the host, which this dump was stripped of: a GiB at HOST_RIP.
        const [root, directory] = [Buffer.alloc(4096), Buffer.alloc(4096)];
        root.writeBigUInt64LE(BigInt(VMXON[1]!) | 3n, 8 * 511);
        const hostRip = page(VMCSS[0]!).readBigUInt64LE(offsetOfField(0x6c16));
        directory.writeBigUInt64LE(0x83n, 8 * Number((hostRip >> 30n) & 511n));
        put(VMXON[0]!, root);
        put(VMXON[1]!, directory);
        for (const address of VMCSS) {
          const region = page(address);
          region.writeBigUInt64LE(BigInt(VMXON[0]!), offsetOfField(0x6c02));
          put(address, vmcs12Of(region));
        }
      });
      const { host: found, others } = await listVmcs(host, options, context);
      expect(found.guests.map(({ vcpus }) => vcpus.map(({ block }) => block?.address))).toEqual([
        (await listVmcs(plain, {}, context)).host.guests[0]!.vcpus.map(({ block }) => block?.address),
      ]);
      expect(others).toEqual([]);
      await extractTo(host, "nested.guest", { host: options });
      await extractTo(plain, "own.guest");
      const bytes = (name: string) => readFileSync(join(folder, name));
      expect(bytes("nested.guest").equals(bytes("own.guest"))).toBe(true);
    },
  );

  test("a shadow VMCS goes with the vCPU whose link pointer names it", async () => {
    const host = changed("shadow.vmcore", ({ page, put }) => {
      // KVM keeps neither host state nor controls in one: it looks like no VMCS.
      const shadow = Buffer.alloc(4096);
      shadow.writeUInt32LE(0x8000_002b, 0);
      page(VMCSS[1]!).copy(shadow, offsetOfField(0x681e), offsetOfField(0x681e), offsetOfField(0x681e) + 8);
      put(VMXON[0]!, shadow);
      const linked = page(VMCSS[1]!);
      linked.writeBigUInt64LE(BigInt(VMXON[0]!), offsetOfField(0x2800));
      put(VMCSS[1]!, linked);
    });
    const { host: found, others } = await listVmcs(host, {}, context);
    expect(found.guests[0]!.vcpus).toHaveLength(4);
    expect(others).toMatchObject([{ role: "shadow", guest: 1, candidate: { address: VMXON[0] } }]);
  });
});

/** What the region's fields are as KVM keeps them for a hypervisor in its guest. */
function vmcs12Of(region: Buffer): Buffer {
  const bytes = Buffer.alloc(4096);
  bytes.writeUInt32LE(KVM_VMCS12.revisionId!, 0);
  for (const line of readFileSync(sample("kvm-host.vmcsinfo.txt"), "latin1").split("\n")) {
    const [encoding, from, size, , form] = line.split(" ");
    const to = KVM_VMCS12.fields.get(Number(encoding));
    if (to === undefined) continue;
    const at = Number(from);
    if (form === "ror8") {
      const stored = region.readUInt32LE(at);
      bytes.writeUInt32LE(((stored >>> 8) | (stored << 24)) >>> 0, to);
    } else region.copy(bytes, to, at, at + Number(size));
  }
  return bytes;
}

const offsetOfField = (encoding: number): number => {
  const line = readFileSync(sample("kvm-host.vmcsinfo.txt"), "latin1")
    .split("\n")
    .find((row) => row.startsWith(`0x${encoding.toString(16).padStart(4, "0")} `))!;
  return Number(line.split(" ")[1]);
};
