import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { presentChunks } from "../src/kernel/chunks.ts";
import { describeLinux } from "../src/kernel/linux.ts";
import { findVmcoreinfo, VmcoreinfoScanner } from "../src/kernel/vmcoreinfo-scan.ts";
import { PageTables } from "../src/x86/paging.ts";
import { FOUR_LEVEL } from "../src/x86/paging-shapes.ts";
import type { X86State } from "../src/x86/state.ts";
import { memoryFrom } from "./synth/memory.ts";
import { stateOf } from "./synth/x86-state.ts";

/** A real guest (Debian 6.1, KASLR, 96 MiB) whose serial log holds its own kallsyms and iomem. */
const DATA = join(
  process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../shared/data"),
  "qemu/tiny-q35",
);
const RAM_BYTES = 96 * 2 ** 20;
const zstd = spawnSync("zstd", ["--version"]).status === 0;
const reason = !existsSync(DATA) ? `no ${DATA}` : !zstd ? "no zstd command" : undefined;

describe.skipIf(reason !== undefined)(
  `tiny-q35${reason === undefined ? "" : ` (skipped: ${reason})`}`,
  () => {
    const file = (name: string): string => readFileSync(join(DATA, name), "latin1");
    const log = reason === undefined ? file("serial.log") : "";
    const symbol = (name: string): bigint =>
      BigInt(`0x${new RegExp(`([0-9a-f]{16}) \\S ${name};`).exec(log)![1]}`);
    const memory = memoryFrom(reason === undefined ? [{ address: 0, bytes: ramOf(DATA) }] : []);
    const states = reason === undefined ? statesOf(file("gt-registers.txt")) : [];
    const physicalOf = (virtual: bigint, physBase: number) =>
      Number(virtual - 0xffff_ffff_8000_0000n) + physBase;

    test("the note is where /sys/kernel/vmcoreinfo says", async () => {
      const scanner = new VmcoreinfoScanner(memory, { states });
      for (const { address, bytes } of presentChunks(memory, 0, RAM_BYTES)) scanner.scan(bytes, address);
      const { best, hits } = scanner.result;
      expect(best).toMatchObject({
        address: Number(/vmcoreinfo_note: (0x[0-9a-f]+)/.exec(log)![1]),
        form: "note",
        whole: true,
        tables: "work",
        running: true,
      });
      expect(best?.vmcoreinfo.osrelease).toBe("6.1.0-56-amd64");
      expect(hits.map(({ form }) => form)).toEqual(["note", "data"]);
    });

    test.each([
      ["VMCOREINFO and registers", true, [0, 1]],
      ["VMCOREINFO alone", true, []],
      ["registers alone", false, [0, 1]],
      ["one vCPU in user mode", false, [1]],
    ])("%s describe the kernel as it described itself", async (_, withVmcoreinfo, vcpus) => {
      const vmcoreinfo = withVmcoreinfo ? (await findVmcoreinfo(memory)).best?.vmcoreinfo : undefined;
      const linux = (await describeLinux(memory, {
        vmcoreinfo,
        states: vcpus.map((vcpu) => states[vcpu]!),
      }))!;
      const code = Number.parseInt(/([0-9a-f]+)-[0-9a-f]+ : Kernel code/.exec(log)![1]!, 16);
      const bssEnd = Number.parseInt(/[0-9a-f]+-([0-9a-f]+) : Kernel bss/.exec(log)![1]!, 16);
      expect(linux).toMatchObject({
        release: { value: "6.1.0-56-amd64" },
        pagingLevels: { value: 4 },
        kaslrOffset: { value: symbol("_text") - 0xffff_ffff_8100_0000n },
        text: { value: { virtual: symbol("_text"), physical: code } },
        warnings: [],
      });
      const text = linux.text!.value;
      expect(text.physical + text.size).toBeGreaterThan(bssEnd);
      expect(text.physical + text.size).toBeLessThan(bssEnd + 4 * 2 ** 20);
      const variable = (name: string): bigint => {
        const page = Buffer.alloc(4096);
        const address = physicalOf(symbol(name), linux.physBase!.value);
        memory.readPage(address, page);
        return page.readBigUInt64LE(address % 4096);
      };
      expect(linux.pageOffset!.value).toBe(variable("page_offset_base"));
      expect(BigInt(linux.physBase!.value)).toBe(BigInt.asIntN(64, variable("phys_base")));
    });

    test("the kernel's page tables map all of RAM in the direct map, at its place", async () => {
      const { best } = await findVmcoreinfo(memory);
      const linux = (await describeLinux(memory, { vmcoreinfo: best!.vmcoreinfo, states: [] }))!;
      const base = linux.pageOffset!.value;
      const tables = new PageTables(memory, linux.root!.value, FOUR_LEVEL);
      let size = 0;
      for (const run of tables.mappings(base, base + BigInt(RAM_BYTES))) {
        expect(run.virtual - BigInt(run.physical)).toBe(base);
        expect(run.user).toBe(false);
        size += run.size;
      }
      expect(size).toBeGreaterThan(RAM_BYTES - 2 ** 20);
    });
  },
);

/** The 96 MiB PT_LOAD of the core: physical memory from 0. */
function ramOf(folder: string): Uint8Array {
  const { stdout } = spawnSync("zstd", ["-dc", "--long=27", join(folder, "core.abrt.zst")], {
    maxBuffer: 2 ** 29,
  });
  const headers = Number(stdout.readBigUInt64LE(32));
  for (let i = 0; i < stdout.readUInt16LE(56); i++) {
    const at = headers + 56 * i;
    const offset = Number(stdout.readBigUInt64LE(at + 8));
    if (Number(stdout.readBigUInt64LE(at + 32)) === RAM_BYTES)
      return stdout.subarray(offset, offset + RAM_BYTES);
  }
  throw new Error("the core has no segment of the guest's RAM size");
}

/** What paging needs of QEMU's `info registers -a`. */
function statesOf(registers: string): X86State[] {
  return registers
    .split("CPU#")
    .slice(1)
    .map((cpu) => {
      const value = (name: string) => BigInt(`0x${new RegExp(`${name}=([0-9a-f]+)`).exec(cpu)![1]}`);
      return stateOf({ cr0: value("CR0"), cr3: value("CR3"), cr4: value("CR4"), efer: value("EFER") });
    });
}
