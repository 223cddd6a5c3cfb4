import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { openDump } from "../src/dump/open.ts";
import { FileSource } from "../src/io/file.ts";
import { Btf } from "../src/kernel/btf/btf.ts";
import { btfOfKernel } from "../src/kernel/btf/find.ts";
import { btfOfModules } from "../src/kernel/btf/modules.ts";
import { BtfTypes } from "../src/kernel/btf/types.ts";
import { findImage } from "../src/kernel/kernel-image.ts";
import { tablesOfVmcoreinfo } from "../src/kernel/kernel-tables.ts";
import { KernelReader } from "../src/kernel/reader.ts";
import { Vmcoreinfo } from "../src/kernel/vmcoreinfo.ts";
import { mutantOf } from "./support/mutants.ts";

/** Host dumps of a real KVM/AMD host and a KVM/Intel host, both Linux 6.1.192. */
const DATA = process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../shared/data");
const zstd = spawnSync("zstd", ["--version"]).status === 0;
const reason = !existsSync(join(DATA, "svm")) ? `no ${DATA}` : zstd ? undefined : "no zstd command";
const skipped = reason === undefined ? "" : ` (skipped: ${reason})`;
const folder = mkdtempSync(join(tmpdir(), "guestcore-btf-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** What drgn 0.0.22 says with the debug information of 6.1.192, the same for both builds. */
const OFFSETS = {
  "kvm.mm": 72,
  "kvm.memslots": 4376,
  "kvm.vcpu_array": 4392,
  "kvm.vm_list": 4472,
  "kvm.userspace_pid": 40_408,
  "kvm_memslots.gfn_tree": 32,
  "kvm_memslots.id_hash": 40,
  "kvm_memslots.node_idx": 1064,
  "kvm_memory_slot.base_gfn": 176,
  "kvm_memory_slot.npages": 184,
  "kvm_memory_slot.userspace_addr": 248,
  "kvm_memory_slot.flags": 256,
  "kvm_memory_slot.id": 260,
  "kvm_memory_slot.as_id": 262,
  "kvm_vcpu.cpu": 32,
  "kvm_vcpu.vcpu_id": 36,
  "kvm_vcpu.mode": 48,
  "kvm_vcpu.arch.regs": 296,
  "kvm_vcpu.arch.regs_avail": 432,
  "kvm_vcpu.arch.regs_dirty": 436,
  "kvm_vcpu.arch.cr3": 464,
  "kvm_vcpu.arch.efer": 520,
  "kvm_vcpu.arch.mp_state": 604,
  "kvm_mmu.root.hpa": 64,
  "task_struct.mm": 2272,
  "task_struct.pid": 2416,
  "task_struct.tgid": 2420,
  "task_struct.comm": 2976,
  "mm_struct.pgd": 72,
  "mm_struct.owner": 928,
  "module.name": 24,
  "module.kallsyms": 544,
  "btf_module.module": 16,
  "btf_module.btf": 24,
  "btf.data_size": 80,
  "page._refcount": 52,
};
const AMD = {
  "vcpu_svm.vmcb": 6552,
  "vcpu_svm.vmcb01.pa": 6568,
  "vcpu_svm.current_vmcb": 6592,
  "vcpu_svm.sev_es": 7144,
};
const INTEL = {
  "vcpu_vmx.msr_guest_kernel_gs_base": 6768,
  "vcpu_vmx.vmcs01": 6792,
  "vcpu_vmx.loaded_vmcs": 6952,
  "vcpu_vmx.msr_autoload.guest.val": 6976,
  "vcpu_vmx.nested.current_vmptr": 7976,
  "loaded_vmcs.launched": 20,
  "loaded_vmcs.host_state.rsp": 104,
};

async function open(packed: string) {
  const file = join(folder, packed.replaceAll("/", "-"));
  const run = spawnSync("zstd", ["-dq", "--long=27", join(DATA, packed), "-o", file], { encoding: "utf8" });
  if (run.status !== 0) throw new Error(run.stderr);
  const { memory, notes } = await openDump(FileSource.open(file));
  const vmcoreinfo = new Vmcoreinfo(notes.find(({ name }) => name === "VMCOREINFO")!.desc);
  const tables = tablesOfVmcoreinfo(memory, vmcoreinfo).tables!;
  return {
    reader: new KernelReader(memory, tables),
    image: findImage(tables),
    text: vmcoreinfo.symbol("_stext")!,
  };
}

const offsetsIn = (types: BtfTypes, wanted: Readonly<Record<string, number>>) =>
  Object.fromEntries(Object.keys(wanted).map((path) => [path, types.member(path)?.offset]));

describe.skipIf(reason !== undefined)(`svm/two-guests${skipped}`, async () => {
  if (reason !== undefined) return;
  const truth = join(DATA, "svm/two-guests/truth");
  const kallsyms = spawnSync("xz", ["-dc", join(truth, "l1.kallsyms.xz")], {
    encoding: "latin1",
    maxBuffer: 1 << 26,
  });
  const address = (name: string): bigint =>
    BigInt(`0x${new RegExp(`^([0-9a-f]+) \\w ${name}$`, "m").exec(kallsyms.stdout)![1]}`);
  const { reader, image } = await open("svm/two-guests/vmcore.d23.elf.zst");
  const found = btfOfKernel(reader, { symbols: { addressOf: address } });
  const vmlinux = found.btf!;
  const { modules, problems } = btfOfModules(reader, vmlinux, address("btf_modules"));
  const types = new BtfTypes(vmlinux, modules);

  test("the kernel's BTF lies where its symbols say, and is found without them", () => {
    expect(found).toMatchObject({ virtual: address("__start_BTF"), size: 4_359_789 });
    expect([vmlinux.end, vmlinux.problem]).toEqual([100_751, undefined]);
    expect(btfOfKernel(reader, { image })).toMatchObject({
      virtual: address("__start_BTF"),
      size: 4_359_789,
    });
  });

  test("every loaded module's BTF is there", () => {
    const loaded = readFileSync(join(truth, "l1.modules"), "latin1").matchAll(/^\w+/gm);
    expect(problems).toEqual([]);
    expect(modules.map(({ name }) => name).sort()).toEqual([...loaded].map(([name]) => name).sort());
    const sizes = Object.fromEntries(modules.map(({ name, size }) => [name, size]));
    expect(sizes).toMatchObject({ kvm: 163_002, kvm_amd: 38_506 });
    expect(modules.map(({ problem }) => problem).filter((problem) => problem !== undefined)).toEqual([]);
  });

  test("members are where debug information puts them", () => {
    expect(offsetsIn(types, { ...OFFSETS, ...AMD })).toEqual({ ...OFFSETS, ...AMD });
    const sizes = {
      kvm: 40_504,
      kvm_svm: 40_648,
      kvm_vcpu: 6552,
      vcpu_svm: 7248,
      task_struct: 9792,
      module: 896,
    };
    expect(Object.fromEntries(Object.keys(sizes).map((name) => [name, types.sizeOf(name)]))).toEqual(sizes);
    expect(types.member("kvm_vcpu.arch.regs")).toEqual({ offset: 296, size: 136, count: 17, stride: 8 });
    expect(types.member("vcpu_svm.vgif_enabled")).toMatchObject({
      offset: 7073,
      size: 1,
      bits: { shift: 6, width: 1 },
    });
    expect(types.constant("PG_locked")).toBe(0n);
    expect(types.constant("PG_LEVEL_1G")).toBe(3n);
  });

  test("types are described as pahole does", () => {
    expect(types.describe("kvm_memslots")).toEqual([
      "struct kvm_memslots {              /* size: 1072 */",
      "  u64 generation;                  /* 0 8 */",
      "  atomic_long_t last_used_slot;    /* 8 8 */",
      "  struct rb_root_cached hva_tree;  /* 16 16 */",
      "  struct rb_root gfn_tree;         /* 32 8 */",
      "  struct hlist_head id_hash[128];  /* 40 1024 */",
      "  int node_idx;                    /* 1064 4 */",
      "};",
    ]);
  });

  test("damaged, it still answers, and soon", { timeout: 60_000 }, () => {
    const kernel = reader.bytes(found.btf === undefined ? 0n : found.virtual, vmlinux.size)!;
    const spoilt = { types: 0, whole: 0 };
    for (let seed = 0; seed < 60; seed++) {
      const bytes = mutantOf(kernel, seed, 8, (chance) =>
        chance.below(chance.below(3) === 0 ? 64 : kernel.length - 8),
      );
      const btf = new Btf("vmlinux", bytes);
      spoilt[btf.problem === undefined ? "whole" : "types"]++;
      const damaged = new BtfTypes(btf);
      for (const path of Object.keys(OFFSETS)) damaged.member(path);
      for (const name of ["task_struct", "kvm_vcpu", "page", "sock"]) damaged.describe(name);
      damaged.constant("PG_locked");
      btfOfModules(reader, btf, address("btf_modules"));
    }
    expect(Math.min(spoilt.types, spoilt.whole)).toBeGreaterThan(5);
  });
});

describe.skipIf(reason !== undefined)(`vmx/pattern-guest${skipped}`, async () => {
  if (reason !== undefined) return;
  const { reader, image, text } = await open("vmx/pattern-guest/vmcore.elf.zst");
  const found = btfOfKernel(reader, { image });
  /** Of `btf_modules` behind `_stext` in the vmlinux of 6.1.0-56-cloud-amd64, as nm(1) has it. */
  const { modules, problems } = btfOfModules(reader, found.btf!, text + 0x1b4_4cc0n);

  test("all that the kernel and its modules describe is found without symbols but for one", () => {
    expect(found).toMatchObject({ virtual: text + 0x143_8070n, size: 0x3e_ddba });
    expect([found.btf!.end, found.btf!.problem, problems]).toEqual([95_247, undefined, []]);
    const loaded = readFileSync(join(DATA, "vmx/pattern-guest/truth/modules"), "latin1").matchAll(/^\w+/gm);
    expect(modules.map(({ name }) => name).sort()).toEqual([...loaded].map(([name]) => name).sort());
    const types = new BtfTypes(found.btf!, modules);
    expect(offsetsIn(types, { ...OFFSETS, ...INTEL })).toEqual({ ...OFFSETS, ...INTEL });
    expect(["vcpu_vmx", "loaded_vmcs"].map((name) => types.sizeOf(name))).toEqual([9088, 160]);
    expect(types.of("kvm_intel")?.sizeOf("vcpu_vmx")).toBe(9088);
  });
});
