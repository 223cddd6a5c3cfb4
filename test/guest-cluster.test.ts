import { describe, expect, test } from "vitest";
import { type ControlBlock, clusterBlocks } from "../src/guest/cluster.ts";
import { classify, hostGuests } from "../src/guest/host-guest.ts";
import { EPT_FOUR_LEVEL } from "../src/x86/paging-shapes.ts";
import { memoryFrom, type TableEntry, tablePieces } from "./synth/memory.ts";

const RWX = 7n;

/** Tables at `root` and the three pages behind it: 4 KiB pages from guest-physical 0 on. */
const ept = (root: number, pages: readonly number[]): TableEntry[] => [
  [root, 0, BigInt(root + 0x1000) | RWX],
  [root + 0x1000, 0, BigInt(root + 0x2000) | RWX],
  [root + 0x2000, 0, BigInt(root + 0x3000) | RWX],
  ...pages.map((page, i): TableEntry => [root + 0x3000, i, BigInt(page) | RWX]),
];

const ONE = 0x10000;
const SMM = 0x20000;
const INNER = 0x30000;
const TWO = 0x40000;
const memory = memoryFrom(
  tablePieces(
    [
      ...ept(ONE, [0x10_0000, 0x10_1000, 0x10_2000, 0x10_3000]),
      // System management mode sees the same memory, but for one page.
      ...ept(SMM, [0x10_0000, 0x10_1000, 0x10_2000, 0x20_0000]),
      ...ept(INNER, [0x10_3000, 0x10_2000]),
      ...ept(TWO, [0x30_0000, 0x30_1000]),
    ],
    8,
  ),
);

const root = (address: number) => ({ address, shape: EPT_FOUR_LEVEL });

function block(address: number, others: Partial<ControlBlock> = {}): ControlBlock {
  const nothing = { process: 1n, owner: undefined, order: undefined, odd: undefined };
  return { address, root: root(ONE), ...nothing, ...others };
}

const roles = (blocks: readonly ControlBlock[]) => {
  const { clusters, others } = clusterBlocks(memory, blocks);
  return classify(hostGuests(clusters), others).map(({ block: { address }, role, guest, vcpu }) => [
    address,
    role,
    guest,
    vcpu,
  ]);
};

describe("control blocks", () => {
  test("of one process and one set of tables are one guest, vCPUs in the order of their VPIDs", () => {
    expect(
      roles([block(0x5000, { order: 2 }), block(0x6000, { order: 1 }), block(0x7000, { order: 3 })]),
    ).toEqual([
      [0x5000, "vcpu", 1, 1],
      [0x6000, "vcpu", 1, 0],
      [0x7000, "vcpu", 1, 2],
    ]);
  });

  test("that never ran go with their process", () => {
    expect(roles([block(0x5000, { order: 1 }), block(0x6000, { order: 2, root: undefined })])).toEqual([
      [0x5000, "vcpu", 1, 0],
      [0x6000, "vcpu", 1, 1],
    ]);
  });

  test("of a process none of whose vCPUs ran are a guest without memory", () => {
    const { clusters } = clusterBlocks(memory, [block(0x5000, { root: undefined })]);
    expect(hostGuests(clusters)).toMatchObject([{ id: 1, root: undefined, vcpus: [{ index: 0 }] }]);
  });

  test("of two processes are two guests, in the order in which their vCPUs were made", () => {
    const first = block(0x9000, { process: 2n, root: root(TWO), order: 1 });
    expect(roles([block(0x5000, { order: 2 }), first])).toEqual([
      [0x5000, "vcpu", 2, 0],
      [0x9000, "vcpu", 1, 0],
    ]);
  });

  test("with other tables of the same memory are the same guest: system management mode", () => {
    expect(
      roles([
        block(0x5000, { order: 1, owner: 1n }),
        block(0x6000, { order: 2, owner: 2n }),
        block(0x7000, { order: 3, owner: 3n, root: root(SMM) }),
      ]),
    ).toEqual([
      [0x5000, "vcpu", 1, 0],
      [0x6000, "vcpu", 1, 1],
      [0x7000, "vcpu", 1, 2],
    ]);
  });

  test("of one process with tables that share nothing are two guests", () => {
    expect(roles([block(0x5000, { order: 1 }), block(0x6000, { order: 2, root: root(TWO) })])).toEqual([
      [0x5000, "vcpu", 1, 0],
      [0x6000, "vcpu", 2, 0],
    ]);
  });

  test("of an owner that has one already are of its guest's guest, whichever was found first", () => {
    expect(
      roles([
        block(0x5000, { order: 2, owner: 1n, root: root(INNER) }),
        block(0x6000, { order: 1, owner: 1n }),
      ]),
    ).toEqual([
      [0x5000, "nested", 1, undefined],
      [0x6000, "vcpu", 1, 0],
    ]);
  });

  test("of one owner, VPID and set of tables: the second is a copy", () => {
    expect(roles([block(0x5000, { order: 1, owner: 1n }), block(0x6000, { order: 1, owner: 1n })])).toEqual([
      [0x5000, "vcpu", 1, 0],
      [0x6000, "copy", 1, undefined],
    ]);
  });

  test("that are shown to be something else are of no guest of this host", () => {
    expect(
      roles([
        block(0x5000),
        block(0x6000, { odd: { role: "foreign", reason: "its host state does not work" } }),
        block(0x7000, {
          odd: { role: "nested", reason: "no VMSAVE went to it" },
          process: undefined,
          root: root(INNER),
        }),
      ]),
    ).toEqual([
      [0x5000, "vcpu", 1, 0],
      [0x6000, "foreign", undefined, undefined],
      [0x7000, "nested", undefined, undefined],
    ]);
  });

  test("without a process go by their tables", () => {
    const unknown = { process: undefined };
    expect(
      roles([block(0x5000, unknown), block(0x6000, { ...unknown, root: root(TWO) }), block(0x7000, unknown)]),
    ).toEqual([
      [0x5000, "vcpu", 1, 0],
      [0x6000, "vcpu", 2, 0],
      [0x7000, "vcpu", 1, 1],
    ]);
  });
});
