import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ElfVmcore } from "../src/dump/elf-vmcore.ts";
import { readElf } from "../src/elf/header.ts";
import { tablesAt } from "../src/guest/second-level.ts";
import { FileSource } from "../src/io/file.ts";
import { presentChunks } from "../src/kernel/chunks.ts";
import { entryChecks } from "../src/svm/entry-checks.ts";
import { relateVmcbs } from "../src/svm/relate.ts";
import { VmcbScanner } from "../src/svm/scan.ts";
import { stateOf } from "../src/svm/state.ts";
import { fieldNumber, fieldValue } from "../src/svm/vmcb.ts";
import { PageTables } from "../src/x86/paging.ts";
import { NPT_FOUR_LEVEL } from "../src/x86/paging-shapes.ts";
import type { X86State } from "../src/x86/state.ts";

/** kdump of a real KVM/AMD host with two QEMU guests: `db1`, stopped, and `web1`, one vCPU of it in guest mode. */
const DATA = join(
  process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../shared/data"),
  "svm/two-guests",
);
const zstd = spawnSync("zstd", ["--version"]).status === 0;
const reason = !existsSync(DATA) ? `no ${DATA}` : !zstd ? "no zstd command" : undefined;

describe.skipIf(reason !== undefined)(
  `svm/two-guests${reason === undefined ? "" : ` (skipped: ${reason})`}`,
  () => {
    const folder = mkdtempSync(join(tmpdir(), "guestcore-svm-"));
    afterAll(() => rmSync(folder, { recursive: true }));
    const truth = (name: string): string =>
      reason === undefined ? readFileSync(join(DATA, "truth", name), "latin1") : "";
    const { memory, scanner } = reason === undefined ? scanned(folder) : empty();
    const found = relateVmcbs(scanner.candidates);
    const vcpus = truthOf(truth("drgn-with-debuginfo.txt"));
    const at = (address: number) => found.find((vmcb) => vmcb.address === address)!;

    test("all VMCBs and host save areas are found, and nothing else passes even the first look", () => {
      expect(found.map(({ address, kind }) => [address, kind])).toEqual([
        [0x3691_9000, "guest"],
        [0x369c_1000, "guest"],
        [0x379b_8000, "host-save-area"],
        [0x379b_9000, "host-save-area"],
        [0x37d3_a000, "guest"],
      ]);
      expect(vcpus.map(({ address }) => address).sort()).toEqual(
        found.filter(({ kind }) => kind === "guest").map(({ address }) => address),
      );
      expect(scanner.candidates.map(({ score }) => score.value)).toEqual([1, 1, 1, 1, 1]);
      expect(scanner).toMatchObject({ rejected: 0, overflowed: false });
    });

    test("fields are what drgn reads with debug information", () => {
      for (const { address, fields } of vcpus) {
        for (const [name, value] of Object.entries(fields)) {
          expect(fieldValue(at(address).vmcb, name as "rip"), `${name} of ${address}`).toBe(value);
        }
        expect(at(address).vmcb.uncovered).toEqual([]);
        expect(entryChecks(at(address).vmcb).filter(({ passed }) => !passed)).toEqual([]);
      }
    });

    test("vCPUs are grouped by VM, and each processor names the one it ran last", () => {
      const [web0, db, area0, area1, web1] = found;
      expect([web0, web1, db].map((vmcb) => vmcb!.group)).toEqual([0x37df_7000, 0x37df_7000, 0x37af_6000]);
      expect(new Set([web0, web1, db].map((vmcb) => vmcb!.hypervisor)).size).toBe(1);
      expect(web0!.lastRunBy).toEqual([area0!.address]);
      expect(web1!.lastRunBy).toEqual([area1!.address]);
      expect(db!.lastRunBy).toEqual([]);
      // KVM with CONFIG_HYPERV writes the index of the vCPU.
      expect([web0, web1].map((vmcb) => fieldNumber(vmcb!.vmcb, "hv_vp_id"))).toEqual([0, 1]);
    });

    test("registers of the stopped guest are those QEMU shows, but for RIP, which is before the HLT", () => {
      const { state, caveats } = stateOf(at(0x369c_1000).vmcb)!;
      const registers = truth("db1.info-registers.txt");
      const register = (name: string) =>
        BigInt(`0x${new RegExp(`\\b${name} *=([0-9a-f]+)`).exec(registers)![1]}`);
      const NAMES = {
        rax: "RAX",
        rsp: "RSP",
        rflags: "RFL",
        cr0: "CR0",
        cr2: "CR2",
        cr3: "CR3",
        cr4: "CR4",
        efer: "EFER",
      };
      for (const [name, qemu] of Object.entries(NAMES))
        expect(state[name as "rax"], name).toBe(register(qemu));
      expect(state.rip).toBe(register("RIP") - 1n);
      expect(caveats.join()).toMatch(/VMEXIT_HLT/);
      expect(segmentsText(state)).toEqual(qemuSegments(registers));
    });

    test("N_CR3 leads to tables, which translate as QEMU does", () => {
      for (const [address, name] of [
        [0x3691_9000, "web1"],
        [0x369c_1000, "db1"],
      ] as const) {
        const { vmcb } = at(address);
        expect(tablesAt(memory, Number(fieldValue(vmcb, "nested_cr3")), NPT_FOUR_LEVEL)).toBe("tables");
        const tables = new PageTables(memory, Number(fieldValue(vmcb, "nested_cr3")), NPT_FOUR_LEVEL);
        const lines = [
          ...truth(`${name}.gpa2.txt`).matchAll(
            /Host physical address for (0x[0-9a-f]+) .*is (0x[0-9a-f]+)/g,
          ),
        ];
        let same = 0;
        for (const [, guest, host] of lines) {
          const mapping = tables.translate(BigInt(guest!));
          if (!mapping.mapped) continue;
          expect(mapping.physical, guest).toBe(Number(host));
          same++;
        }
        expect(same, `${name}: of ${lines.length}`).toBeGreaterThan(lines.length / 2);
      }
    });

    test("a root of another guest's physical address is no table of the host", () => {
      const { vmcb } = at(0x369c_1000);
      expect(tablesAt(memory, Number(fieldValue(vmcb, "cr3")), NPT_FOUR_LEVEL)).not.toBe("tables");
    });
  },
);

function scanned(folder: string) {
  const file = join(folder, "vmcore");
  const run = spawnSync("zstd", ["-dq", "--long=27", join(DATA, "vmcore.d23.elf.zst"), "-o", file], {
    encoding: "utf8",
  });
  if (run.status !== 0) throw new Error(run.stderr);
  const source = FileSource.open(file);
  const memory = new ElfVmcore(source, readElf(source));
  const scanner = new VmcbScanner();
  for (const { address, bytes } of presentChunks(memory, 0, Number.MAX_SAFE_INTEGER))
    scanner.scan(bytes, address);
  return { memory, scanner };
}

function empty() {
  return { memory: undefined as unknown as ElfVmcore, scanner: new VmcbScanner() };
}

/** `vcpu 0 … vmcb01.pa 0x369c1000 …` and the line of VMCB fields below it. */
function truthOf(listing: string) {
  const pattern =
    /vmcb01\.pa (0x[0-9a-f]+).*\n\s+VMCB asid (\d+) exit (0x\w+) (0x\w+) (0x\w+) np_ctl (0x\w+) N_CR3 (0x\w+) \{(.*)\}/g;
  return [...listing.matchAll(pattern)].map(([, address, asid, code, info1, info2, np, root, save]) => ({
    address: Number(address),
    fields: {
      asid: BigInt(asid!),
      exit_code: BigInt(code!),
      exit_info_1: BigInt(info1!),
      exit_info_2: BigInt(info2!),
      nested_ctl: BigInt(np!),
      nested_cr3: BigInt(root!),
      ...Object.fromEntries(
        [...save!.matchAll(/'(\w+)': '(0x[0-9a-f]+)'/g)].map(([, name, value]) => [name, BigInt(value!)]),
      ),
    },
  }));
}

const QEMU_SEGMENTS = {
  ES: "es",
  CS: "cs",
  SS: "ss",
  DS: "ds",
  FS: "fs",
  GS: "gs",
  LDT: "ldt",
  TR: "tr",
} as const;

/** `CS =0010 0000000000000000 ffffffff 00a09b00` of each segment. */
const qemuSegments = (registers: string): string[] =>
  Object.keys(QEMU_SEGMENTS).map(
    (name) => new RegExp(`^${name} *=(\\w+ \\w+ \\w+ \\w+)`, "m").exec(registers)![1]!,
  );

const segmentsText = ({ segments }: X86State): string[] =>
  Object.values(QEMU_SEGMENTS).map((name) => {
    const { selector, base, limit, flags } = segments[name];
    return [
      selector.toString(16).padStart(4, "0"),
      base.toString(16).padStart(16, "0"),
      limit.toString(16).padStart(8, "0"),
      flags.toString(16).padStart(8, "0"),
    ].join(" ");
  });
