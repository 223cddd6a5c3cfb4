import { describe, expect, test } from "vitest";
import { UnavailableError, UnsupportedError } from "../src/core/errors.ts";
import type { ProcessImage } from "../src/core/process.ts";
import { offsetInFile } from "../src/qemu/machine.ts";
import type { RamBlock } from "../src/qemu/memory.ts";
import { extractInMemory } from "./support/extract-synth.ts";
import { MemorySource } from "./support/memory-io.ts";
import { physicalAt, prstatusRegisters, readVmcore } from "./support/read-vmcore.ts";
import { buildQemuCore } from "./synth/qemu.ts";
import { LAYOUTS, type LayoutName } from "./synth/qemu-layouts.ts";
import {
  dimm,
  firmware,
  longMode,
  mainRam,
  numaNodes,
  resetState,
  seabiosParked,
  undumped,
  userMode,
  vga,
} from "./synth/qemu-presets.ts";
import type { NamedSegment } from "./synth/qemu-segments.ts";
import type { QemuCore, QemuSpec } from "./synth/qemu-spec.ts";

const layouts = Object.keys(LAYOUTS) as LayoutName[];

/** Every byte the core holds of every range is in the vmcore, and every vCPU's registers are in its note. */
function judge({ truth }: QemuCore, vmcore: Buffer): void {
  const read = readVmcore(vmcore);
  for (const range of truth.ranges.filter(({ kind }) => kind !== "ram-device")) {
    for (const { start, end } of range.present) {
      const want = range.bytes.subarray(start - range.start, end - range.start);
      expect(
        physicalAt(read, start, end - start)?.equals(want),
        `${range.idstr} at ${start.toString(16)}`,
      ).toBe(true);
    }
  }
  const prstatus = read.notes.filter(({ name, type }) => name === "CORE" && type === 1);
  expect(prstatus).toHaveLength(truth.vcpus.length);
  for (const [i, { registers }] of truth.vcpus.entries()) {
    expect(prstatusRegisters(prstatus[i]!.desc)).toMatchObject({
      rax: registers.rax,
      rbx: registers.rbx,
      rsp: registers.rsp,
      r15: registers.r15,
      rip: registers.rip,
      cs: BigInt(registers.segments.cs.selector),
      fs_base: registers.segments.fs.base,
      gs_base: registers.segments.gs.base,
    });
  }
}

describe.each(layouts)("QEMU %s", (layout) => {
  test.each(["pc", "q35", "microvm"] as const)("%s with every kind of memory and vCPU", async (machine) => {
    const blocks =
      machine === "microvm"
        ? [mainRam({ idstr: "microvm.ram" }), ...firmware()]
        : [mainRam(), vga(), dimm(), ...firmware(), ...undumped()];
    const vcpus = [longMode(0), userMode(1), seabiosParked(2), resetState(3)].map((registers) => ({
      registers,
    }));
    const built = buildQemuCore({ layout, machine, blocks, vcpus });
    const { bytes, machine: found, ranges } = await extractInMemory(built.core);
    judge(built, bytes);
    expect(found.machineType).toBe(built.truth.machineType);
    expect(found.blocks.map(({ idstr }) => idstr).sort()).toEqual(
      built.truth.blocks.map(({ idstr }) => idstr).sort(),
    );
    expect(ranges.map(({ coverage }) => coverage.missing).reduce((a, b) => a + b, 0)).toBe(0);
  });

  test("gcore flavour: notes at the end, unaligned segments, .dynsym inside", async () => {
    const built = buildQemuCore({
      layout,
      machine: "q35",
      flavour: "gcore",
      blocks: [...numaNodes(), ...firmware()],
    });
    const { bytes } = await extractInMemory(built.core);
    judge(built, bytes);
  });

  test("only vCPUs that are not in long mode", async () => {
    const vcpus = [seabiosParked(0), seabiosParked(1), resetState(2)].map((registers) => ({ registers }));
    const built = buildQemuCore({ layout, vcpus });
    const { bytes } = await extractInMemory(built.core);
    judge(built, bytes);
  });

  test("a build for 32-bit processors", async () => {
    const vcpus = [seabiosParked(0), resetState(1)].map((registers) => ({
      registers,
      type: "qemu32-i386-cpu",
    }));
    const built = buildQemuCore({ layout, vcpus, exe: "/usr/bin/qemu-system-i386" });
    const { bytes, guest } = await extractInMemory(built.core);
    judge(built, bytes);
    for (const [i, { registers }] of built.truth.vcpus.entries()) {
      const { cr0, cr2, cr3, cr4, gdt, idt, segments, rflags } = registers;
      expect(guest.vcpus[i]!.state).toMatchObject({ cr0, cr2, cr3, cr4, gdt, idt, segments, rflags });
      expect(guest.vcpus[i]!.state).toMatchObject({ efer: undefined, kernelGsBase: undefined });
    }
  });

  test("kernel_gs_base, EFER and every system register", async () => {
    const built = buildQemuCore({ layout, vcpus: [{ registers: longMode(0) }, { registers: userMode(1) }] });
    const { guest } = await extractInMemory(built.core);
    for (const [i, { registers }] of built.truth.vcpus.entries()) {
      const { state } = guest.vcpus[i]!;
      const { cr0, cr2, cr3, cr4, efer, kernelGsBase, gdt, idt, segments, rflags } = registers;
      expect(state).toMatchObject({ cr0, cr2, cr3, cr4, efer, kernelGsBase, gdt, idt, segments, rflags });
    }
  });
});

describe("what a core lacks", () => {
  const lacking = async (spec: QemuSpec, options = {}) => {
    const built = buildQemuCore(spec);
    const extracted = await extractInMemory(built.core, options);
    judge(built, extracted.bytes);
    return { ...extracted, built, codes: extracted.machine.warnings.map(({ code }) => code) };
  };
  const missing = (ranges: readonly { coverage: { missing: number } }[]) =>
    ranges.reduce((total, { coverage }) => total + coverage.missing, 0);

  test("a shared file the filter kept out is named with its bit, and counted as missing, not zero", async () => {
    const blocks = [{ ...mainRam(), shared: true, file: "/dev/shm/vm1.ram", dump: false }, ...firmware()];
    const { codes, machine, ranges, bytes } = await lacking({ blocks });
    expect(codes).toContain("RAM001");
    expect(machine.warnings.find(({ code }) => code === "RAM001")?.message).toMatch(
      /pc\.ram.*\/dev\/shm\/vm1\.ram.*bit 3/,
    );
    expect(missing(ranges)).toBe(0x2_0000);
    expect(physicalAt(readVmcore(bytes), 0, 4096)).toBeUndefined();
  });

  test("--ram fills in what is missing", async () => {
    const blocks = [{ ...mainRam(), shared: true, file: "/dev/shm/vm1.ram", dump: false }, ...firmware()];
    const ram = buildQemuCore({ blocks }).truth.blocks.find(({ idstr }) => idstr === "pc.ram")!.bytes;
    const { built, ranges, bytes, codes } = await lacking(
      { blocks },
      { ram: new Map([["pc.ram", new MemorySource(ram)]]) },
    );
    const read = readVmcore(bytes);
    for (const range of built.truth.ranges) {
      expect(physicalAt(read, range.start, range.end - range.start)?.equals(range.bytes)).toBe(true);
    }
    expect(missing(ranges)).toBe(0);
    expect(codes).not.toContain("RAM001");
  });

  test("a memfd needs bit 1, hugetlbfs bit 5 or 6", async () => {
    const memfd = { ...mainRam(), shared: true, file: "/memfd:memory-backend-memfd (deleted)", dump: false };
    const huge = { ...dimm(), shared: true, file: "/dev/hugepages/dimm", pageSize: 2 ** 21, dump: false };
    const { machine } = await lacking({ blocks: [memfd, huge, ...firmware()] });
    const messages = machine.warnings.map(({ code, message }) => `${code} ${message}`).join("\n");
    expect(messages).toMatch(/RAM001.*pc\.ram.*bit 1/);
    expect(messages).toMatch(/RAM003.*dimm0.*bit 6/);
  });

  test("dump-guest-core=off is told apart from memory that was never written to", async () => {
    const off = await lacking({
      blocks: [{ ...mainRam(), dump: false }, ...firmware().map((block) => ({ ...block, dump: false }))],
      argv: ["qemu-system-x86_64", "-machine", "pc,dump-guest-core=off"],
    });
    expect(off.codes).toContain("RAM002");
    const [bios, ...others] = firmware();
    const untouched = { ...vga(), dump: false, contents: Buffer.alloc(0x4000) };
    const on = await lacking({ blocks: [mainRam(), untouched, bios!, ...others] });
    expect(on.codes).toEqual([]);
    expect(on.ranges.find(({ source }) => source.endsWith("vga.vram"))?.coverage).toEqual({
      present: 0,
      zero: 0x4000,
      excluded: 0,
      missing: 0,
    });
  });

  describe("private memory that is not in the core", () => {
    const bare = (block: QemuSpec["blocks"] & object) => block.map((one) => ({ ...one, dump: false }));
    const zeros = { contents: Buffer.alloc(0x2_0000), dump: false };

    test("was never written to where its backend has dump=on, and so were ROMs where all is missing", async () => {
      for (const roms of [
        firmware(),
        bare(firmware().map((rom) => ({ ...rom, contents: Buffer.alloc(0) }))),
      ]) {
        const blocks = [{ ...mainRam(), ...zeros, backendDump: true }, ...roms];
        const { codes, ranges, machine } = await lacking({ blocks });
        expect(codes).toEqual([]);
        expect(missing(ranges)).toBe(0);
        expect(machine.incomplete.size).toBe(0);
      }
    });

    test("was excluded where its backend has dump=off, whatever else it is", async () => {
      const memfd = { shared: true, file: "/memfd:memory-backend-memfd (deleted)" };
      for (const backing of [{}, memfd, { shared: true, file: "/dev/shm/ram" }]) {
        const ram = { ...mainRam(), dump: false, backendDump: false, ...backing };
        const { machine, ranges } = await lacking({ blocks: [ram, ...firmware()] });
        expect(missing(ranges)).toBe(0x2_0000);
        expect(machine.warnings).toMatchObject([
          { code: "RAM002", message: expect.stringMatching(/\(dump=off on the backend\)$/) },
        ]);
      }
    });

    test("was excluded under dump-guest-core=off, even with dump=on, and ROMs with it", async () => {
      const blocks = [{ ...mainRam(), dump: false, backendDump: true }, ...bare(firmware())];
      const argv = ["qemu-system-x86_64", "-machine", "pc,dump-guest-core=off"];
      const { ranges, machine } = await lacking({ blocks, argv });
      expect(missing(ranges)).toBe(0x2_4000);
      expect(machine.warnings.map(({ message }) => message)).toEqual([
        expect.stringMatching(/pc\.ram .*\(dump-guest-core=off\)$/),
        expect.stringMatching(/pc\.bios .*\(dump-guest-core=off\)$/),
      ]);
    });

    test("may be either where its backend is not known", async () => {
      const blocks = [{ ...mainRam(), dump: false }, ...bare(firmware())];
      const patch: QemuSpec["patch"] = ({ process, addresses, layout }) =>
        process.put(addresses.get("region:pc.ram")! - layout.backendRegion + 49, 1, 7);
      const { machine } = await lacking({ blocks, patch });
      expect(machine.warnings[0]?.message).toMatch(
        /\(dump-guest-core=off, dump=off on the backend, or it was never written to, or whoever made the core left it out\)$/,
      );
    });

    test("is not in the file behind it once it was written to", async () => {
      const ram = { ...mainRam(), file: "/srv/ram", dump: false };
      const blocks = [{ ...ram, backendDump: false }, ...firmware()];
      const { machine } = await lacking({ blocks });
      expect(machine.warnings).toMatchObject([
        { code: "RAM002", hint: expect.not.stringContaining("--ram") },
      ]);
      const contents = new Map([["pc.ram", new MemorySource(Buffer.alloc(0x2_0000))]]);
      const filled = (await extractInMemory(buildQemuCore({ blocks }).core, { ram: contents })).machine;
      expect(filled.warnings.map(({ code }) => code)).toEqual(["RAM010"]);
      const unwritten = { blocks: [{ ...ram, backendDump: true }, ...firmware()] };
      expect((await lacking(unwritten)).machine.warnings).toMatchObject([
        { code: "RAM001", hint: expect.stringContaining("--ram pc.ram=/srv/ram") },
      ]);
      expect((await lacking(unwritten, { ram: contents })).codes).toEqual([]);
    });
  });

  test("memory that a confidential guest may have made private is named", async () => {
    const blocks = [{ ...mainRam(), guestMemfd: true }, { ...dimm(), guestMemfd: true }, ...firmware()];
    const { machine } = await lacking({ blocks });
    expect(machine.warnings).toMatchObject([
      { code: "RAM009", message: expect.stringMatching(/pc\.ram, dimm0 private/) },
    ]);
  });

  test("a core truncated in the middle of RAM keeps what is there", async () => {
    const built = buildQemuCore({ blocks: [mainRam(), ...firmware()] });
    const ram = built.truth.blocks.find(({ idstr }) => idstr === "pc.ram")!;
    const at = built.truth.fileOffset(ram.host)! + 0x8000 + 100;
    const { machine, ranges, image } = await extractInMemory(built.core.subarray(0, at));
    expect(image.truncated).toBe(true);
    expect(machine.warnings.map(({ code }) => code)).toContain("RAM004");
    expect(ranges[0]?.coverage).toMatchObject({ missing: 0x4000 });
  });

  test("one block in many PT_LOADs, several blocks in one", async () => {
    const [bios, ...others] = firmware();
    await lacking({
      blocks: [
        { ...mainRam(), split: [0x1000, 0x8000, 0x1_0000] },
        { ...bios!, joinPrevious: true },
        ...others,
      ],
    });
  });
});

describe("KVM", () => {
  test("registers are current only where vcpu_dirty says so", async () => {
    const { core } = buildQemuCore({
      accel: "kvm",
      vcpus: [
        { registers: longMode(0), dirty: true },
        { registers: userMode(1), dirty: false },
      ],
    });
    const { guest, machine } = await extractInMemory(core);
    expect(machine.accelerator).toBe("kvm");
    expect(guest.vcpus.map(({ trust }) => trust)).toEqual(["current", "may-be-stale"]);
    expect(machine.warnings.find(({ code }) => code === "REG001")?.message).toMatch(/1 vCPU \(1\)/);
  });

  test.each(layouts)("vcpu_dirty of QEMU %s", async (layout) => {
    for (const dirty of [false, true]) {
      const vcpus = [longMode(0), userMode(1), longMode(2)].map((registers) => ({ registers, dirty }));
      const { guest } = await extractInMemory(buildQemuCore({ layout, accel: "kvm", vcpus }).core);
      const expected = dirty ? "current" : "may-be-stale";
      expect(guest.vcpus.map(({ trust }) => trust)).toEqual([expected, expected, expected]);
    }
  });
});

describe("which accelerator", () => {
  const vcpus = [{ registers: longMode(0) }, { registers: userMode(1) }];
  const argv = ["qemu-system-x86_64", "-machine", "pc"];
  const withoutFiles = (notes: Buffer[]) => notes.filter((bytes) => bytes.readUInt32LE(8) !== 0x4649_4c45);
  const of = async (spec: QemuSpec) => {
    const { guest, machine } = await extractInMemory(buildQemuCore({ vcpus, argv, ...spec }).core);
    return { accelerator: machine.accelerator, trust: guest.vcpus.map(({ trust }) => trust), machine };
  };
  const current = ["current", "current"];
  const stale = ["may-be-stale", "may-be-stale"];

  test("TCG shows by its translated code, also where no files are named", async () => {
    expect(await of({})).toMatchObject({ accelerator: "tcg", trust: current });
    expect(await of({ notes: withoutFiles })).toMatchObject({ accelerator: "tcg", trust: current });
  });

  test("TCG that keeps its code in a memfd, or of which only the command line is left", async () => {
    const arrange = (segments: NamedSegment[]) => segments.filter(({ name }) => name !== "code");
    expect(await of({ arrange })).toMatchObject({ accelerator: undefined, trust: stale });
    const named = [...argv, "-accel", "tcg,split-wx=on"];
    expect(await of({ arrange, argv: named })).toMatchObject({ accelerator: "tcg", trust: current });
    const blocks = [mainRam(), { ...dimm(), file: "/memfd:tcg-jit (deleted)" }, ...firmware()];
    expect(await of({ arrange, blocks })).toMatchObject({ accelerator: "tcg", trust: current });
  });

  test("what shows neither KVM nor TCG is not TCG: the registers may be stale", async () => {
    const { machine, ...found } = await of({ accel: "xen", argv: [...argv, "-accel", "xen"] });
    expect(found).toEqual({ accelerator: undefined, trust: stale });
    expect(machine.warnings).toMatchObject([
      { code: "REG001", message: expect.stringMatching(/an accelerator may have held .* 2 vCPUs \(0, 1\)/) },
    ]);
  });

  test("a list of accelerators: the one that is seen", async () => {
    const both = [...argv, "-machine", "accel=kvm:tcg"];
    expect(await of({ argv: both })).toMatchObject({ accelerator: "tcg", trust: current });
    expect(await of({ argv: both, accel: "kvm" })).toMatchObject({ accelerator: "kvm", trust: stale });
    expect(await of({ argv: both, accel: "kvm", notes: withoutFiles })).toMatchObject({ accelerator: "kvm" });
  });
});

describe("vCPUs by the shape of their registers alone", () => {
  test.each(layouts)("QEMU %s", async (layout) => {
    const vcpus = [longMode(0), longMode(1), longMode(2)].map((registers) => ({ registers }));
    const built = buildQemuCore({
      layout,
      vcpus,
      decoys: [],
      patch: ({ process, addresses }) => {
        for (const i of [0, 1, 2]) {
          const name = Number(process.read(addresses.get(`cpu-memory-${i}`)! + 16, 8).readBigUInt64LE());
          process.putBytes(name, Buffer.from("XXX"));
        }
      },
    });
    const { bytes, guest, machine } = await extractInMemory(built.core);
    judge(built, bytes);
    for (const [i, { state, trust, source }] of guest.vcpus.entries()) {
      const { cr0, cr3, cr4, efer, kernelGsBase, segments } = built.truth.vcpus[i]!.registers;
      expect(state).toMatchObject({ cr0, cr3, cr4, efer, kernelGsBase, segments });
      expect(source).toContain(built.truth.vcpus[i]!.envAddress.toString(16));
      expect(trust).toBe("may-be-stale");
    }
    expect(machine.warnings.map(({ code }) => code)).toContain("REG002");
  });

  test("a stray copy does not decide how wide registers are", async () => {
    const vcpus = [longMode(0), longMode(1), longMode(2)].map((registers) => ({ registers }));
    const { core, truth } = buildQemuCore({
      layout: "11.1",
      vcpus,
      decoys: ["register-copies"],
      patch: ({ process, addresses }) => {
        for (const i of [0, 1, 2]) {
          const name = Number(process.read(addresses.get(`cpu-memory-${i}`)! + 16, 8).readBigUInt64LE());
          process.putBytes(name, Buffer.from("XXX"));
        }
      },
    });
    const { guest } = await extractInMemory(core);
    const found = guest.vcpus.map(({ state }) => state.rsp);
    for (const { registers } of truth.vcpus) expect(found).toContain(registers.rsp);
  });
});

describe("general registers that are all zero", () => {
  const cleared = {
    ...longMode(0),
    ...Object.fromEntries(
      ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"]
        .concat([8, 9, 10, 11, 12, 13, 14, 15].map((n) => `r${n}`))
        .map((name) => [name, 0n]),
    ),
  } as ReturnType<typeof longMode>;

  test.each(layouts)("QEMU %s does not read TCG's own pointers in their place", async (layout) => {
    const { registerCount } = LAYOUTS[layout].env;
    const patch: QemuSpec["patch"] = ({ process, addresses }) => {
      // CPUTLB.f[]: {mask, table} a mode, then icount_decr.
      const env = addresses.get("env:0")!;
      for (let at = env - 24; registerCount === 16 && at > env - 200; at -= 16) {
        process.put(at, 8, 0x1fe0);
        process.put(at + 8, 8, addresses.get("cpu_ases:0")!);
      }
      process.put(env - 8, 8, registerCount === 16 ? 0xffff_0000 : 0);
    };
    const built = buildQemuCore({ layout, vcpus: [{ registers: cleared }], patch });
    const { guest, bytes } = await extractInMemory(built.core);
    judge(built, bytes);
    expect(guest.vcpus[0]!.state).toMatchObject({ rax: 0n, rdx: 0n, rsp: 0n, r14: 0n, cr3: cleared.cr3 });
  });

  test("QEMU 10.0 under KVM does not read can_do_io in their place", async () => {
    const patch: QemuSpec["patch"] = ({ process, addresses }) =>
      process.put(addresses.get("env:0")! - 4, 4, 1);
    const vcpus = [{ registers: cleared, dirty: true }];
    const built = buildQemuCore({ layout: "10.0", accel: "kvm", vcpus, patch });
    judge(built, (await extractInMemory(built.core)).bytes);
  });

  test.each(["11.1", "apx"] as const)("QEMU %s: not with addresses of the host in them", async (layout) => {
    const vcpus = [{ registers: { ...longMode(0), rbx: 0x5555_1000_0000n } }, { registers: longMode(1) }];
    const built = buildQemuCore({ layout, vcpus });
    judge(built, (await extractInMemory(built.core)).bytes);
  });
});

describe("odd machines", () => {
  test("without NT_FILE, which Linux drops beyond 65 535 mappings, AT_PHDR leads to the executable", async () => {
    const { core, truth } = buildQemuCore({
      notes: (notes) => notes.filter((bytes) => bytes.readUInt32LE(8) !== 0x4649_4c45),
    });
    const { machine } = await extractInMemory(core);
    expect(machine.executable).toEqual(truth.exe);
  });

  const vcpus = [longMode(0), userMode(1), longMode(2)].map((registers) => ({ registers, dirty: true }));

  test("a RAMBlock without a name is memory all the same, and does not hide those behind it", async () => {
    const built = buildQemuCore({
      blocks: [mainRam(), dimm(), ...firmware()],
      patch: ({ process, addresses }) => process.put(addresses.get("block:dimm0")! + 76, 1, 0),
    });
    const { bytes, machine } = await extractInMemory(built.core);
    judge(built, bytes);
    expect(machine.blocks).toHaveLength(built.truth.blocks.length);
  });

  test("RAM whose RAMBlock cannot be read is missing, not forgotten", async () => {
    const built = buildQemuCore({
      blocks: [mainRam(), dimm(), ...firmware()],
      patch: ({ process, addresses }) => process.put(addresses.get("block:dimm0")! + 16, 8, 0),
    });
    const { machine, ranges } = await extractInMemory(built.core);
    expect(machine.warnings.map(({ code }) => code)).toContain("RAM006");
    expect(ranges.find(({ start }) => start === 0x1_4000_0000)?.coverage).toMatchObject({ missing: 0x4000 });
  });

  test("a vCPU with impossible registers is left out; the others keep their numbers", async () => {
    const { core } = buildQemuCore({
      vcpus,
      patch: ({ process, addresses }) => process.putBytes(addresses.get("env:1")!, Buffer.alloc(600)),
    });
    const { guest, machine } = await extractInMemory(core);
    expect(guest.vcpus.map(({ index }) => index)).toEqual([0, 2]);
    expect(machine.warnings.find(({ code }) => code === "REG002")?.message).toMatch(/1 vCPU of 3/);
  });

  test("a vCPU that was unplugged is none of the guest's", async () => {
    const { core } = buildQemuCore({
      vcpus,
      accel: "kvm",
      patch: ({ process, addresses }) => process.put(addresses.get("cpu:1")! + 32, 8, 0),
    });
    const { guest, machine } = await extractInMemory(core);
    expect(guest.vcpus.map(({ index, trust }) => [index, trust])).toEqual([
      [0, "current"],
      [2, "current"],
    ]);
    expect(machine.warnings).toEqual([]);
  });

  test("without NT_FILE nobody knows the accelerator: registers are current only where vcpu_dirty says so", async () => {
    const withoutFiles = (notes: Buffer[]) => notes.filter((bytes) => bytes.readUInt32LE(8) !== 0x4649_4c45);
    for (const dirty of [true, false]) {
      const { core } = buildQemuCore({
        accel: "kvm",
        argv: ["/usr/libexec/qemu-kvm"],
        vcpus: vcpus.map((vcpu) => ({ ...vcpu, dirty })),
        notes: withoutFiles,
      });
      const { guest } = await extractInMemory(core);
      expect(guest.vcpus.map(({ trust }) => trust === "current")).toEqual([dirty, dirty, dirty]);
    }
  });

  test("a block mapped from the middle of its file is read from there, unless the file holds the block alone", () => {
    const image = {
      files: [{ start: 0x1000, end: 0x9000, offset: 0x10_0000, path: "/ram" }],
    } as unknown as ProcessImage;
    const block = { host: 0x1000, usedLength: 0x8000 } as RamBlock;
    expect(offsetInFile(image, block, 0x20_0000)).toBe(0x10_0000);
    expect(offsetInFile(image, block, 0x8000)).toBe(0);
  });
});

describe("layouts in doubt", () => {
  test("without the FlatView the tree of memory regions is rendered, and said to be", async () => {
    const built = buildQemuCore({
      blocks: [mainRam(), vga(), ...firmware()],
      patch: ({ process, addresses }) => process.put(addresses.get("flatview")! + 24, 8, 0),
    });
    const { bytes, machine } = await extractInMemory(built.core);
    judge(built, bytes);
    expect(machine.warnings.map(({ code }) => code)).toContain("LAY001");
  });

  test("two layouts that differ are put to the user", async () => {
    const built = buildQemuCore({
      blocks: [mainRam(), ...firmware()],
      regionTree: true,
      flatRanges: (ranges) => ranges.filter(({ start }) => start < 2n ** 32n),
    });
    await expect(extractInMemory(built.core)).rejects.toThrow(UnavailableError);
    await expect(extractInMemory(built.core)).rejects.toMatchObject({
      hint: expect.stringMatching(/--layout.*flat-view.*region-tree/),
    });
    const { ranges } = await extractInMemory(built.core, { layout: "flat-view" });
    expect(ranges.every(({ end }) => end <= 2 ** 32)).toBe(true);
    const tree = await extractInMemory(built.core, { layout: "region-tree" });
    expect(tree.ranges.some(({ start }) => start === 2 ** 32)).toBe(true);
    await expect(extractInMemory(built.core, { layout: "nonsense" })).rejects.toThrow(UnavailableError);
  });

  test("a core of another program", async () => {
    const { core } = buildQemuCore({
      exe: "/usr/bin/sleep",
      decoys: [],
      argv: ["sleep", "1000"],
      patch: ({ process, addresses }) =>
        process.putBytes(addresses.get("address_space_memory")!, Buffer.alloc(64)),
    });
    await expect(extractInMemory(core)).rejects.toThrow(UnsupportedError);
    await expect(extractInMemory(core)).rejects.toThrow(/sleep/);
  });

  test("a QEMU of another kind is named as what it is", async () => {
    const without = async (exe: string) => {
      const patch: QemuSpec["patch"] = ({ process, addresses }) =>
        process.putBytes(addresses.get("address_space_memory")!, Buffer.alloc(64));
      await extractInMemory(buildQemuCore({ decoys: [], exe, patch }).core);
    };
    const [unsupported, unavailable] = [{ exitCode: 3 }, { exitCode: 5 }];
    for (const exe of ["/usr/bin/qemu-x86_64", "/usr/bin/qemu-aarch64_be-static", "/usr/bin/qemu-mips64el"]) {
      await expect(without(exe)).rejects.toMatchObject(unsupported);
      await expect(without(exe)).rejects.toThrow(/user-mode QEMU.* no guest machine/);
    }
    for (const exe of ["/usr/bin/qemu-system-arm", "/usr/bin/qemu-system-aarch64"]) {
      await expect(without(exe)).rejects.toMatchObject(unsupported);
      await expect(without(exe)).rejects.toThrow(/not x86/);
    }
    for (const exe of [
      "/usr/bin/qemu-system-x86_64-microvm",
      "/usr/bin/qemu-system-i386",
      "/usr/libexec/qemu-kvm",
    ]) {
      await expect(without(exe)).rejects.toMatchObject(unavailable);
    }
    await expect(without("/usr/bin/qemu-img")).rejects.toThrow(/no QEMU in this core/);
  });

  test.each([
    ["nor its start", [0x4649_4c45, 6]],
    ["but its start", [0x4649_4c45]],
  ])("a core of a program that has no name, with neither files %s", async (_, without) => {
    const { core } = buildQemuCore({
      decoys: [],
      exe: "",
      argv: [""],
      notes: (notes) => notes.filter((bytes) => !without.includes(bytes.readUInt32LE(8))),
      patch: ({ process, addresses }) =>
        process.putBytes(addresses.get("address_space_memory")!, Buffer.alloc(64)),
    });
    await expect(extractInMemory(core)).rejects.toThrow(/^no QEMU in this core$/);
  });

  test("names and command lines are UTF-8, or bytes", async () => {
    const file = "/srv/größe-имя/ram";
    const blocks = [{ ...mainRam(), shared: true, file, dump: false }, ...firmware()];
    const argv = ["/usr/bin/qemu-system-x86_64", "-name", "日本語 ✓"];
    const { machine, image } = await extractInMemory(buildQemuCore({ blocks, argv }).core);
    expect(machine.commandLine).toEqual(argv);
    expect(image.psargs).toBe(argv.join(" "));
    expect(machine.warnings[0]?.hint).toContain(`--ram 'pc.ram=${file}'`);
  });

  test("a guest that is not x86", async () => {
    const { core } = buildQemuCore({ vcpus: [{ type: "cortex-a57-arm-cpu" }] });
    await expect(extractInMemory(core)).rejects.toThrow(/not x86.*cortex-a57/);
  });
});

describe("the written file", () => {
  test("has the one layout every reader opens", async () => {
    const { bytes } = await extractInMemory(buildQemuCore({ vcpus: [{}, {}] }).core);
    const read = readVmcore(bytes);
    expect(read.machine).toBe(62);
    expect(read.types[0]).toBe(4);
    expect(read.types.filter((type) => type === 4)).toHaveLength(1);
    expect(read.notes.map(({ name, desc }) => [name, desc.length])).toEqual([
      ["CORE", 336],
      ["CORE", 336],
      ["QEMU", 440],
      ["QEMU", 440],
    ]);
    const addresses = read.loads.map(({ paddr }) => paddr);
    expect(addresses).toEqual([...addresses].sort((a, b) => (a < b ? -1 : 1)));
    // crash takes a PT_LOAD with page alignment for a netdump, which has no KASLR.
    expect(read.loads.every(({ align }) => align === 0n)).toBe(true);
  });

  test("raw: the offset is the guest-physical address", async () => {
    const built = buildQemuCore({ blocks: [mainRam({ above: 0 })] });
    const { bytes } = await extractInMemory(built.core, {}, "raw");
    for (const range of built.truth.ranges) {
      expect(bytes.subarray(range.start, range.end).equals(range.bytes)).toBe(true);
    }
    expect(bytes.length).toBe(0x1_8000);
  });
});
