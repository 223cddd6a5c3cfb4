import { describe, expect, test } from "vitest";
import { nameOf } from "../src/kvm/owner.ts";
import { kvmVms } from "../src/kvm/vms.ts";
import { kernelIn, kvmTypes, NEW } from "./support/kvm.ts";
import { DIRECT_MAP } from "./synth/kernel-heap.ts";
import { KvmHeap, type KvmMember, NOWHERE } from "./synth/kvm.ts";

const ARGUMENTS_AT = 0x1000n;

/** A host of some VMs, the first made first, each of a process of its own. */
function host(names: readonly string[]) {
  const heap = new KvmHeap();
  const list = heap.take(16);
  const init = heap.take(400);
  const vms = names.map((name, i) => {
    const mm = process(heap, `qemu\0-name\0${name}\0`);
    const kvm = heap.kvm();
    heap.write(kvm, "kvm.mm", mm);
    const slot = { id: 0, gfn: 0, pages: 16, hva: 0x7f00_0000_0000n };
    heap.write(kvm, "kvm.memslots", heap.slotTree([slot], 0).memslots);
    heap.write(kvm, "kvm.memslots", heap.slotTree([], 0).memslots, 1);
    heap.storeVcpus(kvm, [[0, heap.vcpu(kvm, {})]]);
    return { kvm, mm, task: task(heap, 100 + i, name, mm) };
  });
  heap.link([init, ...vms.map(({ task }) => task)].map((one) => heap.at(one, "task_struct.tasks")));
  const links = vms.map(({ kvm }) => heap.place(kvm, "kvm.vm_list"));
  heap.link([list, ...links.toReversed()]);
  const symbols: Record<string, bigint> = { init_task: init, vm_list: list };
  const read = (...without: KvmMember[]) => kvmVms(kernelIn(heap, kvmTypes(...NEW, ...without), symbols));
  return { heap, list, links, vms, symbols, read };
}

/** An mm_struct of 4 levels of tables, whose command line is this. */
function process(heap: KvmHeap, text: string): bigint {
  const mm = heap.take(160);
  const page = heap.take(4096, 4096);
  heap.text(page, text);
  let below = page;
  for (let level = 1; level <= 4; level++) {
    const table = heap.take(4096, 4096);
    const index = level === 1 ? ARGUMENTS_AT / 4096n : 0n;
    heap.put(table + 8n * index, (below - DIRECT_MAP) | 7n);
    below = table;
  }
  heap.set(mm, "mm_struct.pgd", below);
  heap.set(mm, "mm_struct.arg_start", ARGUMENTS_AT);
  heap.set(mm, "mm_struct.arg_end", ARGUMENTS_AT + BigInt(text.length));
  return mm;
}

function task(heap: KvmHeap, pid: number, comm: string, mm: bigint): bigint {
  const at = heap.take(400);
  heap.set(at, "task_struct.pid", BigInt(pid));
  heap.set(at, "task_struct.tgid", BigInt(pid));
  heap.text(heap.at(at, "task_struct.comm"), comm.slice(0, 15));
  heap.set(at, "task_struct.mm", mm);
  const signal = heap.take(64);
  heap.set(at, "task_struct.signal", signal);
  heap.link([heap.at(signal, "signal_struct.thread_head"), heap.at(at, "task_struct.thread_node")]);
  return at;
}

describe("vm_list", () => {
  test("VMs in the order they were made, each with its process", async () => {
    const { vms, read } = host(["one", "two", "three"]);
    const found = await read();
    expect(found.problem).toBeUndefined();
    expect(found.vms).toMatchObject(
      vms.map(({ kvm, mm, task }, i) => ({
        address: kvm,
        mm,
        owner: { task: { address: task, pid: 100 + i, mm }, argv: ["qemu", "-name", expect.any(String)] },
        slots: [{ id: 0, end: 16 * 4096 }],
        vcpus: [{ index: 0 }],
        problems: [],
      })),
    );
    expect(found.vms.map(({ owner }) => nameOf(owner!))).toEqual(["one", "two", "three"]);
  });

  test("is read with a look at signals at every VM, which may end it", async () => {
    const { heap, symbols } = host(["one", "two", "three"]);
    let looks = 0;
    const kernel = kernelIn(heap, kvmTypes(...NEW), symbols);
    await kvmVms(kernel, async () => void looks++);
    expect(looks).toBe(3);
    const stop = () => Promise.reject(new Error("stopped"));
    await expect(kvmVms(kernel, stop)).rejects.toThrow("stopped");
  });

  test("memslots that two VMs have are of the first", async () => {
    const { heap, vms, read } = host(["one", "two"]);
    const shared = heap.get(heap.place(vms[0]!.kvm, "kvm.memslots"));
    heap.write(vms[1]!.kvm, "kvm.memslots", shared);
    const [one, two] = (await read()).vms;
    expect(one).toMatchObject({ slots: [{ id: 0 }], problems: [] });
    expect(two).toMatchObject({
      slots: [],
      vcpus: [{ index: 0 }],
      problems: [`memslots of address space 0 are another's (at 0x${shared.toString(16)})`],
    });
  });

  test("without VMs", async () => {
    expect(await host([]).read()).toEqual({ vms: [], problem: undefined });
  });

  test("that is broken: what the other end leads to is found, and the rest told to be missing", async () => {
    const { heap, links, vms, read } = host(["one", "two", "three", "four"]);
    heap.put(links[2]!, NOWHERE);
    const found = await read();
    expect(found.problem).toBe("vm_list is not all in this dump (at 0x10)");
    expect(new Set(found.vms.map(({ address }) => address))).toEqual(new Set(vms.map(({ kvm }) => kvm)));
    expect(found.vms.length).toBe(4);
  });

  test("that leads back into itself", async () => {
    const { heap, links, vms, read } = host(["one", "two", "three"]);
    heap.put(links[0]!, links[1]!);
    const found = await read();
    expect(found.problem).toMatch(/^vm_list leads back to itself/);
    expect(found.vms.map(({ address }) => address)).toEqual(vms.map(({ kvm }) => kvm));
  });

  test("that is not in the dump", async () => {
    const { symbols, read } = host(["one"]);
    symbols.vm_list = NOWHERE;
    expect(await read()).toEqual({ vms: [], problem: "vm_list is not all in this dump (at 0x10)" });
  });

  test("that the kernel does not have, or whose struct kvm it does not tell", async () => {
    const { symbols, read } = host(["one"]);
    expect((await read("kvm.vm_list")).problem).toBe("struct kvm is not among the kernel's types");
    delete symbols.vm_list;
    expect((await read()).problem).toMatch(/^the kernel has no .*vm_list/);
  });
});

describe("the process of a VM", () => {
  test("that is none of the tasks: the VM is told all the same", async () => {
    const { heap, vms, read } = host(["one", "two"]);
    heap.write(vms[0]!.kvm, "kvm.mm", heap.take(160));
    const found = await read();
    expect(found.vms.map(({ owner }) => owner && nameOf(owner))).toEqual([undefined, "two"]);
    expect(found.vms[0]).toMatchObject({ slots: [{ id: 0 }], vcpus: [{ index: 0 }], problems: [] });
  });

  test("whose command line is not in the dump", async () => {
    const { heap, vms, read } = host(["one"]);
    heap.set(vms[0]!.mm, "mm_struct.pgd", NOWHERE);
    expect((await read()).vms[0]!.owner).toMatchObject({ task: { pid: 100 }, argv: [] });
  });

  test("without tasks, or types that tell the mm", async () => {
    const { symbols, read } = host(["one"]);
    expect((await read("kvm.mm")).vms[0]).toMatchObject({ mm: undefined, owner: undefined });
    delete symbols.init_task;
    expect((await read()).vms[0]).toMatchObject({ owner: undefined, vcpus: [{ index: 0 }] });
  });
});

describe("the name of a VM", () => {
  const of = (...argv: string[]) => nameOf({ argv } as unknown as Parameters<typeof nameOf>[0]);
  const latin1 = (text: string) => Buffer.from(text).toString("latin1");

  test.each([
    ["guest=a,debug-threads=on", "a"],
    ["debug-threads=on,guest=a", "a"],
    ["a", "a"],
    ["a,process=x", "a"],
    ["a,,b,process=x", "a,b"],
    ["guest=a,,b", "a,b"],
    ["a,,,process=x", "a,"],
    ["guest=,,,,", ",,"],
    ["process=x", undefined],
    ["", ""],
    ["guest=", ""],
    ["with space", "with space"],
    ["guest=x=y", "x=y"],
  ])("-name %s", (value, name) => {
    expect(of("/usr/bin/qemu", "-name", value, "-m", "1G")).toBe(name);
    expect(of("/usr/bin/qemu", "--name", value)).toBe(name);
  });

  test("of Firecracker", () => {
    expect(of("/firecracker", "--api-sock", "/run/x", "--id", "fc")).toBe("fc");
  });

  test("is UTF-8 where it can be", () => {
    expect(of("qemu", "-name", latin1("guest=bücher,process=x"))).toBe("bücher");
    expect(of("firecracker", "--id", latin1("вм"))).toBe("вм");
    expect(of("qemu", "-name", "b\xfccher")).toBe("b\xfccher");
  });

  test("is not told where there is none", () => {
    expect(of()).toBeUndefined();
    expect(of("qemu", "-m", "1G")).toBeUndefined();
    expect(of("qemu", "-name")).toBeUndefined();
    expect(of("kvmtool", "--id")).toBeUndefined();
  });
});
