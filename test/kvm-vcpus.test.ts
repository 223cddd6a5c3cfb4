import { describe, expect, test } from "vitest";
import { vcpusOf } from "../src/kvm/vcpus.ts";
import { ENCODED_REGISTERS } from "../src/x86/state.ts";
import { kernelIn, kvmTypes, NEW, OLD } from "./support/kvm.ts";
import { DIRECT_MAP } from "./synth/kernel-heap.ts";
import { EXREG_CR3, KVM_LAYOUT, KvmHeap, type KvmMember, NOWHERE, type VcpuSpec } from "./synth/kvm.ts";

const EVERY = Object.keys(KVM_LAYOUT) as KvmMember[];
const SVM = EVERY.filter((path) => /^(vcpu_vmx|vmx_|vmcs_)/.test(path) || path === "kvm.vcpus");

/** A kernel with a VM, and how its vCPUs are read by types that lack some. */
function vm() {
  const heap = new KvmHeap();
  const kvm = heap.kvm();
  const symbols: Record<string, bigint> = {};
  const read = (...without: readonly KvmMember[]) =>
    vcpusOf(kernelIn(heap, kvmTypes(...without), symbols), kvm);
  return { heap, kvm, symbols, read };
}

const indexes = ({ vcpus }: ReturnType<typeof vcpusOf>) => vcpus.map(({ index }) => index);

describe("vCPUs in an xarray (5.17+)", () => {
  test("of one, which its head is", () => {
    const { heap, kvm, read } = vm();
    const vcpu = heap.vcpu(kvm, {
      "kvm_vcpu.vcpu_id": 7n,
      "kvm_vcpu.cpu": 3n,
      "kvm_vcpu.mode": 1n,
      "kvm_vcpu.arch.mp_state": 3n,
      "kvm_vcpu.pid": heap.pid(4711),
    });
    heap.storeVcpus(kvm, [[0, vcpu]]);
    const { vcpus, problems } = read(...NEW);
    expect(problems).toEqual([]);
    expect(vcpus).toMatchObject([
      { address: vcpu, index: 0, id: 7, cpu: 3, inGuest: true, mpState: 3, thread: 4711 },
    ]);
  });

  test("of none, and of several with holes, in two levels", () => {
    const { heap, kvm, read } = vm();
    expect(read(...NEW)).toEqual({ vcpus: [], problems: [] });
    const entries = [0, 1, 3, 40].map((index) => [index, heap.vcpu(kvm, {})] as const);
    heap.storeVcpus(kvm, entries);
    const found = read(...NEW);
    expect(found.vcpus.map(({ index, address }) => [index, address])).toEqual(entries);
    expect(found.problems).toEqual([]);
  });

  test("what never ran has no processor, and what has no thread none", () => {
    const { heap, kvm, read } = vm();
    heap.storeVcpus(kvm, [[0, heap.vcpu(kvm, { "kvm_vcpu.cpu": 0xffff_ffffn })]]);
    expect(read(...NEW).vcpus[0]).toMatchObject({ cpu: undefined, thread: undefined, inGuest: false });
  });

  test("more than may be read of all VMs", () => {
    const { heap, kvm } = vm();
    heap.storeVcpus(
      kvm,
      [0, 1, 2].map((index) => [index, heap.vcpu(kvm, {})] as const),
    );
    const kernel = kernelIn(heap, kvmTypes(...NEW), {});
    const budget = { left: 5 };
    expect(vcpusOf(kernel, kvm, budget)).toMatchObject({ vcpus: { length: 3 }, problems: [] });
    expect(vcpusOf(kernel, kvm, budget)).toMatchObject({
      vcpus: { length: 2 },
      problems: ["of 3 vCPUs 2 are looked at: the host's have too many"],
    });
  });

  test("a vCPU of another VM is none of this one's", () => {
    const { heap, kvm, read } = vm();
    const stranger = heap.vcpu(kvm + 8n, {});
    heap.storeVcpus(kvm, [
      [0, heap.vcpu(kvm, {})],
      [1, stranger],
      [2, heap.vcpu(kvm, {})],
    ]);
    const found = read(...NEW);
    expect(indexes(found)).toEqual([0, 2]);
    expect(found.problems).toEqual([`the vCPU at 0x${stranger.toString(16)} cannot be read`]);
  });

  test("indexes and entries that KVM does not make", () => {
    const { heap, kvm, read } = vm();
    heap.storeVcpus(kvm, [
      [2, heap.vcpu(kvm, {})],
      [3, 0x11n], // a value
      [4, NOWHERE],
      [5, DIRECT_MAP + 0x7fff_0000n],
      [4096, heap.vcpu(kvm, {})], // beyond KVM_MAX_VCPUS
    ]);
    const found = read(...NEW);
    expect(indexes(found)).toEqual([2]);
    expect(found.problems).toEqual([
      "the array of vCPUs has more than 4096",
      "2 vCPUs cannot be read, the first at 0x10",
    ]);
  });

  test.each([
    [NOWHERE + 0x2000n, /^the array of vCPUs is not all in this dump/],
    [0x6n, undefined], // no node below 4096
  ])("a head that leads nowhere: %s", (head, problem) => {
    const { heap, kvm, read } = vm();
    heap.set(heap.place(kvm, "kvm.vcpu_array"), "xarray.xa_head", head | 2n);
    const { vcpus, problems } = read(...NEW);
    expect(vcpus).toEqual([]);
    expect(problems).toEqual(problem === undefined ? [] : [expect.stringMatching(problem)]);
  });

  test("fewer than KVM counts", () => {
    const { heap, kvm, read } = vm();
    heap.write(kvm, "kvm.online_vcpus", 2n);
    heap.storeVcpus(kvm, [[0, heap.vcpu(kvm, {})]]);
    const found = read(...NEW);
    expect(indexes(found)).toEqual([0]);
    expect(found.problems).toEqual(["of 2 vCPUs 1 are where the VM should have them"]);
    expect(read(...NEW, "kvm.online_vcpus").problems).toEqual([]);
  });

  test("an array of more nodes than vCPUs need is not walked on", () => {
    const { heap, kvm, read } = vm();
    const head = heap.take(48 + 16 * 8);
    heap.set(head, "xa_node.shift", 16n);
    // Nodes without an entry: only their number ends the walk.
    let made = 1;
    const below = (node: bigint, shift: number): void => {
      for (let at = 0; at < 16 && made < 600; at++) {
        const child = heap.take(48 + 16 * 8);
        made++;
        heap.set(child, "xa_node.shift", BigInt(shift));
        heap.set(node, "xa_node.slots", child | 2n, at);
        if (shift > 0) below(child, shift - 4);
      }
    };
    below(head, 12);
    heap.set(heap.place(kvm, "kvm.vcpu_array"), "xarray.xa_head", head | 2n);
    const { vcpus, problems } = read(...NEW);
    expect(vcpus).toEqual([]);
    expect(problems).toEqual([expect.stringMatching(/^the array of vCPUs has no end/)]);
  });

  test("a node that is its own child", () => {
    const { heap, kvm, read } = vm();
    heap.storeVcpus(kvm, [
      [0, heap.vcpu(kvm, {})],
      [20, heap.vcpu(kvm, {})],
    ]);
    const head = heap.get(heap.place(kvm, "kvm.vcpu_array") + 16n);
    heap.set(head - 2n, "xa_node.slots", head, 3);
    const found = read(...NEW);
    expect(indexes(found)).toEqual([0, 20]);
    expect(found.problems).toEqual([expect.stringMatching(/^the array of vCPUs makes no sense/)]);
  });
});

describe("vCPUs in an array (before 5.17)", () => {
  const build = (online: bigint, entries: readonly bigint[] | undefined = undefined) => {
    const { heap, kvm, read } = vm();
    const vcpus = entries ?? [heap.vcpu(kvm, {}), 0n, heap.vcpu(kvm, {}), heap.vcpu(kvm, {})];
    for (const [i, vcpu] of vcpus.entries()) heap.write(kvm, "kvm.vcpus", vcpu, i);
    heap.write(kvm, "kvm.online_vcpus", online);
    return read;
  };

  test("as many as are online, holes left out", () => {
    expect(indexes(build(3n)(...OLD))).toEqual([0, 2]);
    expect(indexes(build(4n)(...OLD))).toEqual([0, 2, 3]);
    expect(indexes(build(0n)(...OLD))).toEqual([]);
  });

  test("a count beyond the array, and none", () => {
    expect(indexes(build(0xffff_ffffn)(...OLD))).toEqual([0, 2, 3]);
    expect(indexes(build(0n)(...OLD, "kvm.online_vcpus"))).toEqual([0, 2, 3]);
  });

  test("types that tell neither", () => {
    expect(build(1n)(...OLD, "kvm.vcpus")).toEqual({
      vcpus: [],
      problems: ["the kernel does not tell where a VM's vCPUs are"],
    });
  });
});

describe("control blocks", () => {
  const VMCS = DIRECT_MAP + 0x12_3000n;
  const build = (members: VcpuSpec, module: "vcpu_vmx" | "vcpu_svm") => {
    const { heap, kvm, read, symbols } = vm();
    heap.storeVcpus(kvm, [[0, heap.vcpu(kvm, members, module)]]);
    return { heap, symbols, block: (...without: KvmMember[]) => read(...without).vcpus[0]!.controlBlock };
  };

  test("the VMCS of a vCPU, wherever the struct kvm_vcpu lies in its vcpu_vmx", () => {
    const { block } = build({ "vcpu_vmx.vmcs01.vmcs": VMCS }, "vcpu_vmx");
    expect(block(...NEW)).toBe(0x12_3000);
    expect(block(...NEW, "vcpu_vmx.vmcs01.vmcs")).toBeUndefined();
  });

  test("the VMCB of a vCPU: vmcb01, and before 5.13 the only one", () => {
    const { block } = build({ "vcpu_svm.vmcb01.ptr": VMCS, "vcpu_svm.vmcb": VMCS + 0x1000n }, "vcpu_svm");
    expect(block(...SVM)).toBe(0x12_3000);
    expect(block(...SVM, "vcpu_svm.vmcb01.ptr")).toBe(0x12_4000);
  });

  test("a vCPU that runs a guest of its own: another VMCS, or since 5.13 VMCB, is current", () => {
    const isNested = (
      module: "vcpu_vmx" | "vcpu_svm",
      path: KvmMember,
      own: KvmMember,
      without: KvmMember[],
    ) => {
      const { heap, kvm, read } = vm();
      const vcpu = heap.vcpu(kvm, {}, module);
      heap.storeVcpus(kvm, [[0, vcpu]]);
      const holder = vcpu - BigInt(KVM_LAYOUT[`${module}.vcpu`][0]);
      const tell = (pointer: bigint, ...more: KvmMember[]) => {
        heap.write(holder, path, pointer);
        return read(...without, ...more).vcpus[0]!.inNested;
      };
      const other = holder + 8n;
      const home = heap.place(holder, own);
      return [tell(home), tell(other), tell(0n), tell(other, path), tell(other, own)];
    };
    const expected = [false, true, false, false, false];
    expect(isNested("vcpu_vmx", "vcpu_vmx.loaded_vmcs", "vcpu_vmx.vmcs01", [...NEW])).toEqual(expected);
    expect(isNested("vcpu_svm", "vcpu_svm.current_vmcb", "vcpu_svm.vmcb01", SVM)).toEqual(expected);
  });

  test("a pointer that leads nowhere", () => {
    expect(build({ "vcpu_vmx.vmcs01.vmcs": NOWHERE }, "vcpu_vmx").block(...NEW)).toBeUndefined();
  });

  test.each(["vmcs_config.revision_id", "vmcs_config.basic"] as const)(
    "of both types the one that runs: %s tells",
    (path) => {
      const both: KvmMember[] = ["kvm.vcpus"];
      const other = path === "vmcs_config.basic" ? "vmcs_config.revision_id" : "vmcs_config.basic";
      const vmx = build({ "vcpu_vmx.vmcs01.vmcs": VMCS }, "vcpu_vmx");
      vmx.symbols.vmcs_config = vmx.heap.take(64);
      vmx.heap.write(vmx.symbols.vmcs_config, path, 0x2bn);
      expect(vmx.block(...both, other)).toBe(0x12_3000);
      const svm = build({ "vcpu_svm.vmcb01.ptr": VMCS }, "vcpu_svm");
      svm.symbols.vmcs_config = svm.heap.take(64);
      expect(svm.block(...both, other)).toBe(0x12_3000);
      expect(build({ "vcpu_svm.vmcb01.ptr": VMCS }, "vcpu_svm").block(...both)).toBe(0x12_3000);
    },
  );
});

describe("registers", () => {
  const REGS = Array.from({ length: 17 }, (_, i) => 0x1000n + BigInt(i));
  const build = (members: VcpuSpec) => {
    const { heap, kvm, read } = vm();
    const vcpu = heap.vcpu(kvm, { "kvm_vcpu.arch.regs": REGS, ...members });
    heap.storeVcpus(kvm, [[0, vcpu]]);
    return (...without: KvmMember[]) => read(...NEW, ...without).vcpus[0]!.registers;
  };

  test("in the order of the instruction encoding, RIP behind", () => {
    const { general, rip } = build({})()!;
    expect(ENCODED_REGISTERS.map((name) => general[name])).toEqual(REGS.slice(0, 16));
    expect([general.rax, general.rsp, general.r15, rip]).toEqual([0x1000n, 0x1004n, 0x100fn, 0x1010n]);
  });

  test.each([
    [0n, {}],
    [1n << 4n, { rsp: true }],
    [1n << 16n, { rip: true }],
    [1n << BigInt(EXREG_CR3), { cr3: true }],
    // Never ran: everything is newer than an empty control block.
    [0xffff_ffffn, { rsp: true, rip: true, cr3: true }],
    [~(1n << 4n) & 0xffff_ffffn, { rip: true, cr3: true }],
  ])("what regs_dirty %s marks is newer", (dirty, newer) => {
    const read = build({ "kvm_vcpu.arch.regs_dirty": dirty });
    expect(read()?.newer).toEqual({ rsp: false, rip: false, cr3: false, ...newer });
  });

  test("system registers", () => {
    const read = build({
      "kvm_vcpu.arch.cr0": 0x8005_0033n,
      "kvm_vcpu.arch.cr2": 0x57_94a9n,
      "kvm_vcpu.arch.cr3": 0x5a4_c000n,
      "kvm_vcpu.arch.cr4": 0x31_06f0n,
      "kvm_vcpu.arch.cr8": 2n,
      "kvm_vcpu.arch.efer": 0xd01n,
      "kvm_vcpu.arch.xcr0": 7n,
      "kvm_vcpu.arch.db": [1n, 2n, 3n, 4n],
      "kvm_vcpu.arch.dr6": 0xffff_0ff0n,
      "kvm_vcpu.arch.dr7": 0x400n,
    });
    expect(read()).toMatchObject({
      cr0: 0x8005_0033n,
      cr2: 0x57_94a9n,
      cr3: 0x5a4_c000n,
      cr4: 0x31_06f0n,
      cr8: 2n,
      efer: 0xd01n,
      xcr0: 7n,
      debug: [1n, 2n, 3n, 4n, 0xffff_0ff0n, 0x400n],
    });
    expect(read("kvm_vcpu.arch.cr2", "kvm_vcpu.arch.efer")).toMatchObject({
      cr2: undefined,
      efer: undefined,
    });
  });

  test("types without them", () => {
    expect(build({})("kvm_vcpu.arch.regs")).toBeUndefined();
    expect(build({})("kvm_vcpu.arch.regs_dirty")).toBeUndefined();
  });
});

describe("MSRs of kvm-intel", () => {
  const build = (numbers: readonly number[], members: VcpuSpec = {}) => {
    const { heap, kvm, read, symbols } = vm();
    const list = heap.take(64);
    symbols.kvm_uret_msrs_list = list;
    for (const [i, number] of numbers.entries()) heap.put(list + BigInt(4 * i), BigInt(number), 4);
    const vcpu = heap.vcpu(kvm, members);
    const holder = vcpu - BigInt(KVM_LAYOUT["vcpu_vmx.vcpu"][0]);
    for (let i = 0; i < 7; i++)
      heap.put(heap.place(holder, "vcpu_vmx.guest_uret_msrs", i) + 8n, 0xa000n + BigInt(i));
    heap.storeVcpus(kvm, [[0, vcpu]]);
    return { symbols, vcpu: (...without: KvmMember[]) => read(...NEW, ...without).vcpus[0]! };
  };
  const NUMBERS = [0xc000_0084, 0xc000_0082, 0xc000_0081, 0xc000_0080, 0xc000_0103, 0x122, 0xc000_0083];

  test("each slot is of the register that the kernel's list names", () => {
    expect(build(NUMBERS).vcpu().msrs).toEqual({
      syscallMask: 0xa000n,
      lstar: 0xa001n,
      star: 0xa002n,
      tscAux: 0xa004n,
      cstar: 0xa006n,
    });
    expect(build(NUMBERS.slice(0, 2)).vcpu().msrs).toEqual({ syscallMask: 0xa000n, lstar: 0xa001n });
  });

  test("without the list, or its slots' types, none is told", () => {
    const { symbols, vcpu } = build(NUMBERS);
    expect(vcpu("vmx_uret_msr.data").msrs).toEqual({});
    expect(vcpu("vcpu_vmx.guest_uret_msrs").msrs).toEqual({});
    delete symbols.kvm_uret_msrs_list;
    expect(vcpu().msrs).toEqual({});
  });

  test("KERNEL_GS_BASE is stale while the processor has it", () => {
    const members = { "vcpu_vmx.msr_guest_kernel_gs_base": 0x7fee_0000n } as const;
    const value = 0x7fee_0000n;
    expect(build([], members).vcpu().kernelGsBase).toEqual({ value, stale: false });
    const loaded = build([], { ...members, "vcpu_vmx.guest_state_loaded": 1n });
    expect(loaded.vcpu().kernelGsBase).toEqual({ value, stale: true });
    expect(loaded.vcpu("vcpu_vmx.guest_state_loaded").kernelGsBase).toEqual({ value, stale: true });
    expect(loaded.vcpu("vcpu_vmx.msr_guest_kernel_gs_base").kernelGsBase).toBeUndefined();
  });

  test("of kvm-amd none: the VMCB has them", () => {
    const { heap, kvm, read } = vm();
    heap.storeVcpus(kvm, [[0, heap.vcpu(kvm, {}, "vcpu_svm")]]);
    expect(read(...SVM).vcpus[0]).toMatchObject({ msrs: {}, kernelGsBase: undefined });
  });
});
