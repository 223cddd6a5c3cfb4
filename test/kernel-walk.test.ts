import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { listNodes } from "../src/kernel/walk/list.ts";
import { mapleEntries } from "../src/kernel/walk/maple-tree.ts";
import { collect } from "../src/kernel/walk/outcome.ts";
import { rbNodes } from "../src/kernel/walk/rb-tree.ts";
import { XArray, xarrayEntries } from "../src/kernel/walk/xarray.ts";
import { HEAP_TYPES, readerOf, renamed } from "./support/kernel-heap.ts";
import {
  DIRECT_MAP,
  KernelHeap,
  linkRbTree,
  type StoredEntry,
  type StoredRange,
  storeMaple,
  storeXArray,
} from "./synth/kernel-heap.ts";
import { random } from "./synth/pattern.ts";

const SEEDED = { seed: 5, numRuns: 150 };
const UNMAPPED = 0x10n;

/** A list with its nodes on pages of their own, so that one can be missing. */
function listOf(count: number) {
  const heap = new KernelHeap((count + 2) * 4096);
  const nodes = Array.from({ length: count + 1 }, () => heap.take(16, 4096));
  heap.link(nodes);
  return { heap, head: nodes[0]!, nodes: nodes.slice(1) };
}

const walkList = ({ heap, head }: ReturnType<typeof listOf>, limit?: number) =>
  collect(listNodes(readerOf(heap.pieces), head, limit));

describe("list_head", () => {
  test.each([0, 1, 2, 50])("of %i nodes", (count) => {
    const list = listOf(count);
    expect(walkList(list)).toEqual({ items: list.nodes, outcome: { complete: true } });
  });

  test("what lies behind a broken pointer is reached from the end", () => {
    const list = listOf(9);
    const [, , third, , fifth] = list.nodes;
    list.heap.put(third!, UNMAPPED);
    const { items, outcome } = walkList(list);
    expect(items).toEqual([...list.nodes.slice(0, 3), ...list.nodes.slice(3).reverse()]);
    expect(outcome).toEqual({ complete: false, reason: "unreadable", address: UNMAPPED });
    list.heap.put(fifth! + 8n, UNMAPPED);
    expect(walkList(list).items.length).toBe(8);
  });

  test("a node that is missing costs that node only", () => {
    const list = listOf(5);
    const lost = Number(list.nodes[1]! & 0xff_ffffn);
    const reader = readerOf([
      { address: 0, bytes: list.heap.bytes.subarray(0, lost) },
      { address: lost + 4096, bytes: list.heap.bytes.subarray(lost + 4096) },
    ]);
    const { items, outcome } = collect(listNodes(reader, list.head));
    expect(items).toEqual([0, 4, 3, 2].map((i) => list.nodes[i]));
    expect(outcome).toEqual({ complete: false, reason: "unreadable", address: list.nodes[1] });
  });

  test("a cycle that leaves out the head ends, and the rest is found", () => {
    const list = listOf(6);
    list.heap.put(list.nodes[3]!, list.nodes[1]!);
    const { items, outcome } = walkList(list);
    expect(new Set(items)).toEqual(new Set(list.nodes));
    expect(outcome).toEqual({ complete: false, reason: "cycle", address: list.nodes[1] });
  });

  test("a limit ends it", () => {
    expect(walkList(listOf(6), 4)).toMatchObject({ items: { length: 4 }, outcome: { reason: "limit" } });
  });
});

describe("rb_root", () => {
  const build = (count: number) => {
    const heap = new KernelHeap();
    const root = heap.take(8);
    const nodes = Array.from({ length: count }, () => heap.take(40));
    heap.put(root, linkRbTree(heap, nodes));
    const walk = (limit?: number, types = HEAP_TYPES) =>
      collect(rbNodes(readerOf(heap.pieces), types, root, limit));
    return { heap, root, nodes, walk };
  };

  test.each([0, 1, 2, 3, 200])("%i nodes come in order", (count) => {
    const { nodes, walk } = build(count);
    expect(walk()).toEqual({ items: nodes, outcome: { complete: true } });
  });

  test("a subtree that cannot be read is left out", () => {
    const { heap, nodes, walk } = build(7);
    heap.set(nodes[1]!, "rb_node.rb_left", UNMAPPED);
    expect(walk()).toEqual({
      items: nodes.slice(1),
      outcome: { complete: false, reason: "unreadable", address: UNMAPPED },
    });
  });

  test("a node that leads back to the root is a cycle", () => {
    const { heap, nodes, walk } = build(7);
    heap.set(nodes[6]!, "rb_node.rb_right", nodes[3]!);
    expect(walk()).toEqual({
      items: nodes,
      outcome: { complete: false, reason: "cycle", address: nodes[3] },
    });
  });

  test("limit, and types that do not tell", () => {
    const { walk } = build(7);
    expect(walk(3)).toMatchObject({ items: { length: 3 }, outcome: { reason: "limit" } });
    expect(walk(9, renamed({ "rb_node.rb_left": undefined }))).toMatchObject({
      items: [],
      outcome: { reason: "unknown-layout" },
    });
  });
});

const FLAVOURS = {
  xarray: { types: HEAP_TYPES, value: (value: bigint) => (value << 1n) | 1n },
  radix: {
    types: renamed({
      "xarray.xa_head": "radix_tree_root.rnode",
      "xa_node.shift": "radix_tree_node.shift",
      "xa_node.slots": "radix_tree_node.slots",
    }),
    value: (value: bigint) => (value << 2n) | 2n,
  },
} as const;

describe.each(["xarray", "radix"] as const)("%s", (flavour) => {
  const { types, value } = FLAVOURS[flavour];

  const stored = fc
    .array(
      fc.record({
        gap: fc.oneof(fc.nat(3), fc.nat(5000), fc.nat(2 ** 40)),
        order: fc.oneof(fc.constant(0), fc.nat(9)),
        isValue: fc.boolean(),
        content: fc.bigInt(1n, 2n ** 40n),
      }),
      { maxLength: 12 },
    )
    .map((items) => {
      let next = 0;
      return items.map(({ gap, order, isValue, content }): StoredEntry => {
        const index = Math.ceil((next + gap) / 2 ** order) * 2 ** order;
        next = index + 2 ** order;
        return { index, order, entry: isValue ? value(content) : content * 8n };
      });
    });

  const expected = ({ index, order, entry }: StoredEntry) => {
    const pointer = entry % 8n === 0n;
    const shift = flavour === "xarray" ? 1n : 2n;
    return {
      index,
      span: 2 ** order,
      kind: pointer ? "pointer" : "value",
      value: pointer ? entry : entry >> shift,
    };
  };

  const build = (entries: readonly StoredEntry[]) => {
    const heap = new KernelHeap(0x20_0000);
    const root = heap.take(24);
    storeXArray(heap, root, entries, flavour);
    return { heap, root, reader: readerOf(heap.pieces) };
  };

  test("what was stored is found, all and each", () => {
    fc.assert(
      fc.property(stored, fc.array(fc.nat(2 ** 41), { maxLength: 5 }), (entries, others) => {
        const { root, reader } = build(entries);
        const { items, outcome } = collect(xarrayEntries(reader, types, root));
        expect(items).toEqual(entries.map(expected));
        expect(outcome).toEqual({ complete: true });
        const array = new XArray(reader, types, root);
        const places = entries.flatMap(({ index, order }) => [
          index,
          index + 2 ** order - 1,
          index + 2 ** order,
        ]);
        for (const index of [...places, ...others, 2 ** 53 - 1]) {
          const entry = entries.find((one) => index >= one.index && index < one.index + 2 ** one.order);
          const found = array.at(index);
          if (entry !== undefined) expect(found).toEqual(expected(entry));
          else {
            expect(found.kind).toBe("none");
            expect(found.index <= index && index < found.index + found.span).toBe(true);
            // A hole is one throughout.
            for (const { index: at } of entries) {
              expect(at >= found.index && at < found.index + found.span).toBe(false);
            }
          }
        }
      }),
      SEEDED,
    );
  });

  test("a node that is missing leaves out what hangs below it", () => {
    const entries = [0, 20, 40, 70].map((index): StoredEntry => ({ index, order: 0, entry: 0x1000n }));
    const { heap, root, reader } = build(entries);
    const top = (heap.get(heap.at(root, "xarray.xa_head")) & ~3n) as bigint;
    const mark = flavour === "xarray" ? 2n : 1n;
    heap.set(top, "xa_node.slots", (1n << 60n) + mark, 1);
    const { items, outcome } = collect(xarrayEntries(readerOf(heap.pieces), types, root));
    expect(items.map(({ index }) => index)).toEqual([0, 40, 70]);
    expect(outcome).toEqual({ complete: false, reason: "unreadable", address: 1n << 60n });
    expect(new XArray(readerOf(heap.pieces), types, root).at(20)).toMatchObject({
      kind: "unknown",
      index: 16,
      span: 16,
    });
    expect(new XArray(reader, types, root).at(20).kind).toBe("pointer");
    // A child that is as high as its parent: itself.
    heap.set(top, "xa_node.slots", top + mark, 1);
    expect(collect(xarrayEntries(readerOf(heap.pieces), types, root)).outcome).toMatchObject({
      reason: "senseless",
      address: top,
    });
    expect(new XArray(readerOf(heap.pieces), types, root).at(20).kind).toBe("unknown");
  });

  test("an entry that is being changed is unknown, at its index and in the head", () => {
    const entries = [0, 20, 40, 70].map((index): StoredEntry => ({ index, order: 0, entry: 0x1000n }));
    const { heap, root } = build(entries);
    const at = (index: number) => new XArray(readerOf(heap.pieces), types, root).at(index);
    const top = heap.get(heap.at(root, "xarray.xa_head")) & ~3n;
    // XA_RETRY_ENTRY, 256; of the radix tree no slot has these bits.
    const retry = flavour === "xarray" ? (256n << 2n) | 2n : 3n;
    heap.set(top, "xa_node.slots", retry, 1);
    expect(at(20)).toEqual({ index: 16, span: 16, kind: "unknown", value: 0n });
    expect([at(40).kind, at(50).kind]).toEqual(["pointer", "none"]);
    heap.set(root, "xarray.xa_head", retry);
    expect([at(0).kind, at(20).kind]).toEqual(["unknown", "unknown"]);
    heap.set(root, "xarray.xa_head", 0n);
    expect(at(20).kind).toBe("none");
  });

  test("types that do not tell", () => {
    const { root, reader } = build([]);
    const none = renamed({ "xa_node.slots": undefined });
    expect(collect(xarrayEntries(reader, none, root)).outcome).toMatchObject({ reason: "unknown-layout" });
    expect(new XArray(reader, none, root).at(0).kind).toBe("unknown");
  });
});

const ULONG_MAX = 2n ** 64n - 1n;

describe("maple tree", () => {
  const ranges = fc
    .array(fc.tuple(fc.bigInt(1n, 2n ** 50n), fc.boolean()), { minLength: 1, maxLength: 60 })
    .map((items): StoredRange[] => {
      let next = 0n;
      const all = items.map(([size, isEmpty], i) => {
        const range = { first: next, last: next + size - 1n, value: isEmpty ? 0n : BigInt(i + 1) * 0x100n };
        next += size;
        return range;
      });
      return [...all, { first: next, last: ULONG_MAX, value: 0n }];
    });

  const build = (
    stored: readonly StoredRange[],
    fan: number,
    inner: "maple_range_64" | "maple_arange_64",
  ) => {
    const heap = new KernelHeap();
    const tree = heap.take(32);
    storeMaple(heap, tree, stored, fan, inner);
    return {
      heap,
      tree,
      walk: (limit?: number) => collect(mapleEntries(readerOf(heap.pieces), HEAP_TYPES, tree, limit)),
    };
  };

  test("ranges come in order, whatever the shape of the tree", () => {
    fc.assert(
      fc.property(
        ranges,
        fc.integer({ min: 2, max: 8 }),
        fc.constantFrom("maple_range_64" as const, "maple_arange_64" as const),
        (stored, fan, inner) => {
          expect(build(stored, fan, inner).walk()).toEqual({
            items: stored.filter(({ value }) => value !== 0n),
            outcome: { complete: true },
          });
        },
      ),
      SEEDED,
    );
  });

  const SIXTY = Array.from({ length: 60 }, (_, i): StoredRange => {
    const last = i === 59 ? ULONG_MAX : BigInt(i) * 16n + 15n;
    return { first: BigInt(i) * 16n, last, value: BigInt(i + 1) << 12n };
  });

  test("an empty tree, one entry at 0, a dense node", () => {
    const heap = new KernelHeap();
    const tree = heap.take(32);
    const walk = () => collect(mapleEntries(readerOf(heap.pieces), HEAP_TYPES, tree));
    expect(walk()).toEqual({ items: [], outcome: { complete: true } });
    heap.set(tree, "maple_tree.ma_root", 0xabc0n);
    expect(walk().items).toEqual([{ first: 0n, last: 0n, value: 0xabc0n }]);
    const node = heap.take(256, 256);
    heap.set(node, "maple_node.slot", 0x8000n, 4);
    heap.set(tree, "maple_tree.ma_root", node | (5n << 3n) | 2n);
    expect(walk()).toEqual({ items: [{ first: 4n, last: 4n, value: 0x8000n }], outcome: { complete: true } });
  });

  test("damage costs what hangs below it", () => {
    const { heap, tree, walk } = build(SIXTY, 8, "maple_range_64");
    const root = heap.get(heap.at(tree, "maple_tree.ma_root")) & ~0xffn;
    const slot = heap.at(root, "maple_range_64.slot", 2);
    const good = heap.get(slot);
    const without = SIXTY.filter((_, i) => i < 16 || i >= 24);
    heap.put(slot, (1n << 60n) | (6n << 3n));
    expect(walk()).toEqual({
      items: without,
      outcome: { complete: false, reason: "unreadable", address: 1n << 60n },
    });
    heap.put(slot, good | (15n << 3n)); // a type that there is none of
    expect(walk()).toMatchObject({ items: without, outcome: { reason: "senseless" } });
    heap.put(slot, root | (7n << 3n));
    expect(walk()).toMatchObject({ items: without, outcome: { reason: "cycle", address: root } });
    heap.put(slot, good);
    heap.set(root, "maple_range_64.pivot", 3n, 4); // below the one before
    expect(walk()).toMatchObject({ items: SIXTY.slice(0, 32), outcome: { reason: "senseless" } });
  });

  test("a limit ends it", () => {
    expect(build(SIXTY, 8, "maple_range_64").walk(3)).toMatchObject({
      items: { length: 16 },
      outcome: { reason: "limit" },
    });
  });
});

describe("mutants", () => {
  test("damaged structures end every walk, with a reason or without", () => {
    const heap = new KernelHeap(0x2_0000);
    const [head, root, array, tree] = [heap.take(16), heap.take(8), heap.take(24), heap.take(32)];
    heap.link([head, ...Array.from({ length: 40 }, () => heap.take(16))]);
    heap.put(
      root,
      linkRbTree(
        heap,
        Array.from({ length: 40 }, () => heap.take(40)),
      ),
    );
    const entries = Array.from({ length: 60 }, (_, i) => ({ index: i * 7, order: 0, entry: 0x1000n }));
    storeXArray(heap, array, entries, "xarray");
    const ranges = Array.from({ length: 60 }, (_, i) => ({
      first: BigInt(i) * 8n,
      last: i === 59 ? ULONG_MAX : BigInt(i) * 8n + 7n,
      value: 0x1000n,
    }));
    storeMaple(heap, tree, ranges, 4, "maple_arange_64");
    const end = Number(heap.take(0) & 0xff_ffffn);
    const whole = Buffer.from(heap.bytes);
    const { below, bytes } = random(7);
    let broken = 0;
    for (let i = 0; i < 1500; i++) {
      whole.copy(heap.bytes);
      for (let n = 0; n <= i % 4; n++) heap.bytes.set(bytes(1), 4096 + below(end - 4096));
      // Pointers that lead to other places of the heap do more harm than random ones.
      const at = 4096 + below((end - 4096) / 8) * 8;
      heap.bytes.writeBigUInt64LE(DIRECT_MAP + 4096n + BigInt(below(0x2000)), at);
      const reader = readerOf(heap.pieces);
      const walks = [
        collect(listNodes(reader, head)),
        collect(rbNodes(reader, HEAP_TYPES, root)),
        collect(xarrayEntries(reader, HEAP_TYPES, array)),
        collect(mapleEntries(reader, HEAP_TYPES, tree)),
      ];
      for (const { items, outcome } of walks) {
        expect(items.length).toBeLessThan(20_000);
        if (!outcome.complete) broken++;
      }
      new XArray(reader, HEAP_TYPES, array).at(below(500));
    }
    expect(broken).toBeGreaterThan(500);
  });
});
