import { describe, expect, test } from "vitest";
import { withControlBlocks } from "../src/kvm/control-block.ts";
import type { KvmVms } from "../src/kvm/vms.ts";
import { typesOf } from "./support/kernel-tables.ts";
import { kernelIn } from "./support/kvm.ts";
import { DIRECT_MAP } from "./synth/kernel-heap.ts";
import { KvmHeap } from "./synth/kvm.ts";

const SIZE = 512;
const TYPES = typesOf({}, { kvm_vcpu: SIZE });
const BLOCKS = new Set([0x5000, 0x6000, 0x7000]);

/** vCPUs of one VM, each with words behind its struct kvm_vcpu. */
function found(words: readonly (readonly bigint[])[], known: readonly (number | undefined)[] = []) {
  const heap = new KvmHeap();
  const vcpus = words.map((behind, i) => {
    const address = heap.take(SIZE + 4096, 64);
    for (const [place, value] of behind.entries()) heap.put(address + BigInt(SIZE + 8 * place), value);
    return { address, controlBlock: known[i] };
  });
  const vms = { vms: [{ vcpus }] } as unknown as KvmVms;
  const { vms: after } = withControlBlocks(kernelIn(heap, TYPES), vms, BLOCKS);
  return after[0]!.vcpus.map(({ controlBlock }) => controlBlock);
}

describe("a control block that no type leads to", () => {
  test("is found by its physical or its virtual address, the first of them", () => {
    expect(found([[1n, 0x6000n, 0x5000n], [DIRECT_MAP + 0x7000n]])).toEqual([0x6000, 0x7000]);
  });

  test("is one that was found in memory, at the beginning of a page", () => {
    expect(found([[0x8000n, DIRECT_MAP + 0x9000n, 0x6008n, 1n << 60n, 0xffff_f000_0000_0000n]])).toEqual([
      undefined,
    ]);
  });

  test("is no other vCPU's, and where a type leads to one nothing is looked for", () => {
    expect(found([[0x5000n], [0x5000n], [0x7000n]], [0x5000, undefined, 0x6000])).toEqual([
      0x5000,
      undefined,
      0x6000,
    ]);
  });
});
