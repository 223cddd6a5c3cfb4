import { describe, expect, test } from "vitest";
import type { PhysicalMemory } from "../src/core/memory.ts";
import { type ControlBlock, clusterBlocks } from "../src/guest/cluster.ts";
import { classify } from "../src/guest/host-guest.ts";
import { guestsOfBlocks } from "../src/guest/kvm-guests.ts";
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

const every = (table: number, child: number): TableEntry[] =>
  Array.from({ length: 512 }, (_, i): TableEntry => [table, i, BigInt(child) | RWX]);

const ONE = 0x10000;
const SMM = 0x20000;
const INNER = 0x30000;
const TWO = 0x40000;
const TSEG = 0x50000;
const SMBASE = 0x60000;
const memory = memoryFrom(
  tablePieces(
    [
      ...ept(ONE, [0x10_0000, 0x10_1000, 0x10_2000, 0x10_3000]),
      [ONE + 0x3000, 0x30, BigInt(0x10_4000) | RWX],
      // System management mode sees the same memory, but for one page.
      ...ept(SMM, [0x10_0000, 0x10_1000, 0x10_2000, 0x20_0000]),
      ...ept(INNER, [0x10_3000, 0x10_2000]),
      ...ept(TWO, [0x30_0000, 0x30_1000]),
      ...ept(SMBASE, []),
      [SMBASE + 0x3000, 0x30, BigInt(0x31_1000) | RWX],
      [TSEG, 0, BigInt(TSEG + 0x1000) | RWX],
      [TSEG + 0x1000, 0, BigInt(TSEG + 0x2000) | RWX],
      [TSEG + 0x2000, 1, BigInt(TSEG + 0x3000) | RWX],
      [TSEG + 0x3000, 0, BigInt(0x31_0000) | RWX],
    ],
    8,
  ),
);

const root = (address: number) => ({ address, shape: EPT_FOUR_LEVEL });

function block(address: number, others: Partial<ControlBlock> = {}): ControlBlock {
  const nothing = {
    process: 1n,
    owner: undefined,
    order: undefined,
    clock: undefined,
    runsGuests: false,
    odd: undefined,
  };
  return { address, root: root(ONE), ...nothing, ...others };
}

const roles = async (blocks: readonly ControlBlock[]) => {
  const { clusters, others } = await clusterBlocks(memory, blocks);
  return classify(guestsOfBlocks(clusters), others).map(({ block: { address }, role, guest, vcpu }) => [
    address,
    role,
    guest,
    vcpu,
  ]);
};

describe("control blocks", () => {
  test("of one process and one set of tables are one guest, vCPUs in the order of their VPIDs", async () => {
    expect(
      await roles([block(0x5000, { order: 2 }), block(0x6000, { order: 1 }), block(0x7000, { order: 3 })]),
    ).toEqual([
      [0x5000, "vcpu", 1, 1],
      [0x6000, "vcpu", 1, 0],
      [0x7000, "vcpu", 1, 2],
    ]);
  });

  test("that never ran go with their process", async () => {
    expect(await roles([block(0x5000, { order: 1 }), block(0x6000, { order: 2, root: undefined })])).toEqual([
      [0x5000, "vcpu", 1, 0],
      [0x6000, "vcpu", 1, 1],
    ]);
  });

  test.each([
    ["the VM whose clock is theirs", { clock: -900n }, 1],
    ["the VM whose clock is nearest, where the guest has set it", { clock: -2003n }, 2],
    ["the VM that was made last before them, where no clock tells", { order: 3 }, 2],
    ["the first, where nothing tells", { order: undefined }, 1],
  ])("that never ran, of a process with two VMs, go with %s", async (_, never, guest) => {
    const one = block(0x5000, { order: 1, clock: "clock" in never ? -900n : undefined });
    const two = block(0x6000, { order: 2, root: root(TWO), clock: "clock" in never ? -2000n : undefined });
    const third = block(0x7000, { order: 4, root: undefined, ...never });
    expect(await roles([one, two, third])).toContainEqual([0x7000, "vcpu", guest, expect.any(Number)]);
  });

  test("that never ran are a VM of their own where a VM's clocks are all alike, and theirs another", async () => {
    const ran = [1, 2].map((order) => block(0x5000 + 0x1000 * order, { order, clock: -900n }));
    const never = [3, 4].map((order) =>
      block(0x7000 + 0x1000 * order, { order, root: undefined, clock: -50n }),
    );
    const late = block(0x9000, { order: 5, root: undefined, clock: -900n });
    expect(
      (await roles([...ran, ...never.slice(0, 1), late, ...never.slice(1)])).map(([at, , guest]) => [
        at,
        guest,
      ]),
    ).toEqual([
      [0x6000, 1],
      [0x7000, 1],
      [0x9000, 1],
      [0xa000, 2],
      [0xb000, 2],
    ]);
  });

  test("of a process none of whose vCPUs ran are a guest without memory", async () => {
    const { clusters } = await clusterBlocks(memory, [block(0x5000, { root: undefined })]);
    expect(guestsOfBlocks(clusters)).toMatchObject([{ id: 1, root: undefined, vcpus: [{ index: 0 }] }]);
  });

  test("of two processes are two guests, in the order in which their vCPUs were made", async () => {
    const first = block(0x9000, { process: 2n, root: root(TWO), order: 1 });
    expect(await roles([block(0x5000, { order: 2 }), first])).toEqual([
      [0x5000, "vcpu", 2, 0],
      [0x9000, "vcpu", 1, 0],
    ]);
  });

  test("with other tables of the same memory are the same guest: system management mode", async () => {
    expect(
      await roles([
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

  test("of one process with tables that share nothing are two guests", async () => {
    expect(await roles([block(0x5000, { order: 1 }), block(0x6000, { order: 2, root: root(TWO) })])).toEqual([
      [0x5000, "vcpu", 1, 0],
      [0x6000, "vcpu", 2, 0],
    ]);
  });

  test("of an owner that has one already are of its guest's guest, whichever was found first", async () => {
    expect(
      await roles([
        block(0x5000, { order: 2, owner: 1n, root: root(INNER) }),
        block(0x6000, { order: 1, owner: 1n }),
      ]),
    ).toEqual([
      [0x5000, "nested", 1, undefined],
      [0x6000, "vcpu", 1, 0],
    ]);
  });

  test.each([
    ["an address that comes first", { address: 0x4000, order: 7 }],
    ["a VPID that became free", { address: 0x9000, order: 1 }],
  ])("of a guest's guest with %s are known by tables that map less", async (_, { address, order }) => {
    expect(
      await roles([
        block(0x5000, { order: 7, owner: 1n }),
        block(address, { order, owner: 1n, root: root(INNER) }),
      ]),
    ).toEqual(
      [
        [0x5000, "vcpu", 1, 0],
        [address, "nested", 1, undefined],
      ].sort(([a], [b]) => Number(a) - Number(b)),
    );
  });

  test("of one owner and set of tables: the one that runs guests is the vCPU, whatever its VPID", async () => {
    expect(
      await roles([
        block(0x5000, { order: 7, owner: 1n, runsGuests: true }),
        block(0x9000, { order: 1, owner: 1n }),
      ]),
    ).toEqual([
      [0x5000, "vcpu", 1, 0],
      [0x9000, "nested", 1, undefined],
    ]);
  });

  test.each([
    ["that have no address in common", TSEG],
    ["that differ where SMRAM lies over other memory", SMBASE],
  ])("of one process with tables %s are the same guest", async (_, address) => {
    expect(
      await roles([block(0x5000, { order: 1 }), block(0x6000, { order: 2, root: root(address) })]),
    ).toEqual([
      [0x5000, "vcpu", 1, 0],
      [0x6000, "vcpu", 1, 1],
    ]);
  });

  test("with tables made to waste time end, bounded in work and open to signals", async () => {
    // Each root leads to one table 512 times, and that to another: no leaf in 262 144 tables a root.
    const wide = (at: number): TableEntry[] => [
      ...every(at, 0x10_0000),
      ...every(0x10_0000, 0x10_1000),
      ...every(0x10_1000, 0x10_2000),
    ];
    const roots = Array.from({ length: 64 }, (_, i) => 0x20_0000 + i * 0x1000);
    const hostile = memoryFrom(tablePieces(roots.flatMap(wide), 8));
    let reads = 0;
    const counted: PhysicalMemory = {
      ranges: hostile.ranges,
      extentAt: (...at) => hostile.extentAt(...at),
      readPage: (...at) => {
        reads++;
        return hostile.readPage(...at);
      },
    };
    let turns = 0;
    const blocks = roots.map((address, i) => block(0x5000 + i * 0x1000, { root: root(address) }));
    await clusterBlocks(counted, blocks, async () => void turns++);
    expect(reads).toBeLessThan(1_100_000);
    expect(turns).toBeGreaterThan(64);
  });

  test("of one owner, VPID and set of tables: the second is a copy", async () => {
    expect(
      await roles([block(0x5000, { order: 1, owner: 1n }), block(0x6000, { order: 1, owner: 1n })]),
    ).toEqual([
      [0x5000, "vcpu", 1, 0],
      [0x6000, "copy", 1, undefined],
    ]);
  });

  test("that are shown to be something else are of no guest of this host", async () => {
    expect(
      await roles([
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

  test("without a process go by their tables", async () => {
    const unknown = { process: undefined };
    expect(
      await roles([
        block(0x5000, unknown),
        block(0x6000, { ...unknown, root: root(TWO) }),
        block(0x7000, unknown),
      ]),
    ).toEqual([
      [0x5000, "vcpu", 1, 0],
      [0x6000, "vcpu", 2, 0],
      [0x7000, "vcpu", 1, 1],
    ]);
  });
});
