import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Memslot, MemslotBudget, memslotsOf } from "../src/kvm/memslots.ts";
import { kernelIn, kvmTypes, NEW, OLD } from "./support/kvm.ts";
import { KvmHeap, type KvmMember, MEMORY_SLOT, NOWHERE, type SlotSpec } from "./synth/kvm.ts";

const HVA = 0x7f00_0000_0000n;
const RAM: readonly SlotSpec[] = [
  { id: 5, gfn: 0x100, pages: 0x700, hva: HVA + 0x10_0000n },
  { id: 0, gfn: 0, pages: 0xa0, hva: HVA },
  { id: 1, gfn: 0xf_ffc0, pages: 0x40, hva: HVA + 0x800_0000n, flags: 2 },
];

/** As they come out: ascending. */
const slotsOf = (specs: readonly SlotSpec[], addressSpace = 0): Memslot[] =>
  specs
    .map(({ id, gfn, pages, hva, flags = 0 }) => ({
      addressSpace,
      id,
      start: Number(gfn) * 4096,
      end: (Number(gfn) + Number(pages)) * 4096,
      hva,
      flags,
    }))
    .sort((a, b) => a.start - b.start);

/** Memslots of a VM with trees, of address space 0 only unless `smm` is given. */
function treeVm(specs: readonly SlotSpec[], active: 0 | 1 = 0, smm: readonly SlotSpec[] = []) {
  const heap = new KvmHeap();
  const kvm = heap.kvm();
  const { memslots, slots } = heap.slotTree(specs, active);
  heap.write(kvm, "kvm.memslots", memslots);
  heap.write(kvm, "kvm.memslots", heap.slotTree(smm, active).memslots, 1);
  const budget = new MemslotBudget();
  const read = (...without: KvmMember[]) =>
    memslotsOf(kernelIn(heap, kvmTypes(...NEW, ...without)), kvm, budget);
  return { heap, kvm, memslots, slots, read, budget };
}

function arrayVm(specs: readonly SlotSpec[], used = specs.length) {
  const heap = new KvmHeap();
  const kvm = heap.kvm();
  const memslots = heap.slotArray(specs, used);
  heap.write(kvm, "kvm.memslots", memslots);
  heap.write(kvm, "kvm.memslots", heap.slotArray([]), 1);
  const read = (...without: KvmMember[]) => memslotsOf(kernelIn(heap, kvmTypes(...OLD, ...without)), kvm);
  return { heap, kvm, memslots, read };
}

describe("memslots in trees (5.17+)", () => {
  test.each([0, 1] as const)("of the set %i, which is in use, ascending", (active) => {
    expect(treeVm(RAM, active).read()).toEqual({ slots: slotsOf(RAM), problems: [] });
  });

  test("more than may be read of all VMs", () => {
    const { read, budget } = treeVm(RAM);
    budget.left = 2;
    const { slots, problems } = read();
    expect(slots.length).toBe(2);
    expect(problems).toEqual(["the tree of memslots is not looked at whole: the host's VMs have too many"]);
    expect(budget.left).toBe(0);
  });

  test("a VM without any", () => {
    expect(treeVm([]).read()).toEqual({ slots: [], problems: [] });
  });

  test("those of system management mode follow", () => {
    const smm = [{ id: 0, gfn: 0xa0, pages: 0x20, hva: HVA + 0xa_0000n }];
    expect(treeVm(RAM, 1, smm).read().slots).toEqual([...slotsOf(RAM), ...slotsOf(smm, 1)]);
  });

  test("slots of KVM's own, and those just removed, are left out", () => {
    const own = [32_764, 32_765, 32_766].map((id, i) => ({ id, gfn: 0xf_ee00 + i, pages: 1, hva: HVA }));
    const gone = { id: 3, gfn: 0x5000, pages: 0, hva: 0xffff_8880_1234_5678n };
    const last = { id: 32_763, gfn: 0x6000, pages: 1, hva: HVA };
    expect(treeVm([...RAM, ...own, gone, last]).read()).toEqual({
      slots: slotsOf([...RAM, last]),
      problems: [],
    });
  });

  test.each([
    ["more than 52 bits of guest-physical memory", { gfn: 2n ** 40n, pages: 1n }],
    ["a size that wraps", { gfn: 1n, pages: 2n ** 64n - 1n }],
    ["an address within a page", { hva: HVA + 8n }],
    ["an address of the kernel", { hva: 0xffff_8880_0000_0000n }],
    ["an address up to the kernel's", { hva: 2n ** 56n - 4096n, pages: 2 }],
  ])("a slot with %s makes no sense, and costs no other", (_, change) => {
    const { read, slots } = treeVm([...RAM, { id: 9, gfn: 0x8000, pages: 1, hva: HVA, ...change }]);
    expect(read()).toEqual({
      slots: slotsOf(RAM),
      problems: [`the memslot at 0x${slots[3]!.toString(16)} makes no sense`],
    });
  });

  test("a slot that is not in the dump", () => {
    const { heap, memslots, read } = treeVm(RAM);
    heap.write(memslots, "kvm_memslots.gfn_tree", NOWHERE);
    expect(read()).toEqual({
      slots: [],
      problems: ["the tree of memslots is not all in this dump (at 0x10)"],
    });
  });

  test("a tree that leads back to itself gives every slot once", () => {
    const { heap, slots, read } = treeVm(RAM);
    const node = (slot: bigint) => heap.place(slot, "kvm_memory_slot.gfn_node");
    const lowest = node(slots[1]!);
    heap.set(lowest, "rb_node.rb_left", node(slots[0]!));
    const found = read();
    expect(found.slots).toEqual(slotsOf(RAM));
    expect(found.problems).toEqual([expect.stringMatching(/^the tree of memslots leads back to itself/)]);
  });

  test("a set in use that there is not", () => {
    const { heap, memslots, read } = treeVm(RAM);
    heap.write(memslots, "kvm_memslots.node_idx", 2n);
    expect(read()).toEqual({ slots: [], problems: ["memslots of address space 0 cannot be read"] });
  });

  test("pointers to memslots that lead nowhere", () => {
    const { heap, kvm, read } = treeVm(RAM);
    heap.write(kvm, "kvm.memslots", 0n, 1);
    expect(read()).toEqual({
      slots: slotsOf(RAM),
      problems: ["memslots of address space 1 cannot be read"],
    });
  });

  test.each(["kvm_memory_slot.base_gfn", "kvm_memory_slot.id", "kvm_memory_slot.gfn_node"] as const)(
    "types without %s",
    (path) => {
      expect(treeVm(RAM).read(path).problems).toEqual([
        "memslots of address space 0 cannot be read",
        "memslots of address space 1 cannot be read",
      ]);
    },
  );

  test("types without struct kvm's", () => {
    expect(treeVm(RAM).read("kvm.memslots").problems).toEqual([
      "the kernel does not tell struct kvm.memslots",
    ]);
  });
});

describe("memslots in an array (before 5.17)", () => {
  test("as many as are in use", () => {
    expect(arrayVm(RAM).read()).toEqual({ slots: slotsOf(RAM), problems: [] });
    // The array falls: what is in use comes first.
    expect(arrayVm(RAM, 2).read().slots).toEqual(slotsOf([RAM[0]!, RAM[2]!]));
  });

  test("all of the array where none are counted (before 4.17)", () => {
    expect(arrayVm(RAM, 0).read("kvm_memslots.used_slots")).toEqual({ slots: slotsOf(RAM), problems: [] });
  });

  test("ids from id_to_index's last three on are KVM's own", () => {
    const specs = [12, 13, 14, 15].map((id) => ({ id, gfn: 0x9000 + id, pages: 1, hva: HVA }));
    expect(
      arrayVm(specs)
        .read()
        .slots.map(({ id }) => id),
    ).toEqual([12]);
    expect(
      arrayVm(specs)
        .read("kvm_memslots.id_to_index")
        .slots.map(({ id }) => id),
    ).toEqual([12, 13, 14, 15]);
  });

  test("a count beyond what KVM allows is bounded and told", () => {
    const { heap, memslots, read } = arrayVm(RAM);
    heap.write(memslots, "kvm_memslots.used_slots", 0xffff_ffffn);
    const { slots, problems } = read();
    expect(slots).toEqual(slotsOf(RAM));
    expect(problems).toEqual([
      "of 4294967295 memslots 32767 are looked at",
      expect.stringMatching(/^\d{5} memslots cannot be read, the first at 0xffff8880/),
    ]);
  });

  test("types without the slots' size", () => {
    const { heap, kvm } = arrayVm(RAM);
    const types = kvmTypes(...OLD);
    expect(memslotsOf(kernelIn(heap, { ...types, sizeOf: () => undefined }), kvm).slots).toEqual([]);
  });
});

test("both ways tell the same of the same slots", () => {
  const spec = fc.record({
    gfn: fc.nat(2 ** 20),
    pages: fc.nat(2 ** 12),
    hva: fc.nat(2 ** 30).map((page) => BigInt(page) * 4096n),
    flags: fc.constantFrom(0, 1, 2, 3),
  });
  const specs = fc
    .uniqueArray(spec, { maxLength: 12, selector: ({ gfn }) => gfn })
    .map((all) => all.map((one, id) => ({ ...one, id })));
  fc.assert(
    fc.property(specs, fc.constantFrom(0 as const, 1 as const), (slots, active) => {
      const expected = slotsOf(slots.filter(({ pages }) => pages > 0));
      expect(treeVm(slots, active).read()).toEqual({ slots: expected, problems: [] });
      expect(arrayVm(slots).read().slots).toEqual(expected);
    }),
    { seed: 11, numRuns: 100 },
  );
});

test("whatever bytes the structures have, slots are sound and bounded", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(64 + 3 * MEMORY_SLOT - 8), fc.bigInt(0n, 2n ** 64n - 1n)), { maxLength: 6 }),
      fc.boolean(),
      (words, tree) => {
        const { heap, memslots, read } = tree ? treeVm(RAM) : arrayVm(RAM);
        for (const [at, word] of words) {
          const pointer = word % 3n === 0n ? memslots + (word % 448n) : word;
          heap.put(memslots + BigInt(at & ~7), pointer);
        }
        for (const { start, end, hva } of read().slots) {
          expect(end).toBeGreaterThan(start);
          expect(end).toBeLessThanOrEqual(2 ** 52);
          expect(hva % 4096n).toBe(0n);
        }
      },
    ),
    { seed: 12, numRuns: 200 },
  );
});
