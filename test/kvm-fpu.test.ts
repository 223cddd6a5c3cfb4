import { describe, expect, test } from "vitest";
import type { Kernel } from "../src/kernel/kernel.ts";
import { guestFpu } from "../src/kvm/fpu.ts";
import { readerOf } from "./support/kernel-heap.ts";
import { symbolsOf, typesOf } from "./support/kernel-tables.ts";
import { KernelHeap } from "./synth/kernel-heap.ts";
import { PROCESS_LAYOUT } from "./synth/process-heap.ts";

type Layout = Readonly<Record<string, number | readonly [number, number, number?]>>;

const COMMON = {
  ...PROCESS_LAYOUT,
  "kvm_vcpu.pid": 16,
  "pid.tasks": 8,
  "task_struct.pid_links": 200,
  "task_struct.thread_info.flags": 0,
} as const;
/** Where a vCPU's FPU lies: since 5.16, from 4.20 to 5.15, before. */
const SWAPPED: Layout = { ...COMMON, "kvm_vcpu.arch.guest_fpu.fpstate": 64 };
const STATE = { "fpu.state": [64, 4096] } as const;
const POINTED: Layout = { ...without(COMMON), ...STATE, "kvm_vcpu.arch.guest_fpu": [64, 8] };
const INSIDE: Layout = { ...without(COMMON), ...STATE, "kvm_vcpu.arch.guest_fpu": [64, 4160] };

function without({ ...layout }: Record<string, unknown>): Layout {
  delete layout["fpu.fpstate"];
  delete layout["fpu.__task_fpstate"];
  return { ...(layout as Layout), "task_struct.thread.fpu": [192, 1024] };
}

const NEED_FPU_LOAD = 1n << 14n;
const kernelOf = (heap: KernelHeap, layout: Layout): Kernel => ({
  reader: readerOf(heap.pieces),
  symbols: symbolsOf({}),
  types: typesOf(layout, { task_struct: 2048 }, {}),
});

/** An XSAVE area of which every byte of x87, SSE and AVX is `fill`. */
function area(heap: KernelHeap, at: bigint, fill: number): void {
  for (let i = 0n; i < 832n; i++) heap.put(at + i, BigInt(fill), 1);
  heap.put(at + 512n, 7n);
  heap.put(at + 520n, (1n << 63n) | 7n);
}

/** A vCPU and the thread that runs it. */
function machine() {
  const heap = new KernelHeap();
  const [vcpu, task, pid] = [heap.take(8192, 64), heap.take(2048, 64), heap.take(64)];
  heap.put(vcpu + 16n, pid);
  heap.put(pid + 8n, task + 200n);
  return { heap, vcpu, task };
}

describe("a vCPU's FPU since 5.16", () => {
  const build = () => {
    const { heap, vcpu, task } = machine();
    const state = heap.take(64 + 832, 64);
    area(heap, state + 64n, 5);
    heap.put(vcpu + 64n, state);
    return { heap, vcpu, task, state, read: () => guestFpu(kernelOf(heap, SWAPPED), vcpu) };
  };

  test("is in its fpstate, whether its thread sleeps or does something else", () => {
    const { heap, task, read } = build();
    expect(read()).toMatchObject({ legacy: { length: 512 }, extended: { length: 832 } });
    heap.put(task + 92n, 1n, 4);
    expect(read()).toMatchObject({ legacy: { length: 512 } });
  });

  test("is the processor's while the thread runs with it, unless it is to be loaded yet", () => {
    const { heap, task, state, read } = build();
    heap.put(task + 192n + 16n, state);
    expect(read()).toMatchObject({ legacy: { length: 512 } });
    heap.put(task + 92n, 1n, 4);
    expect(read()).toBe("in-processor");
    heap.put(task, NEED_FPU_LOAD);
    expect(read()).toMatchObject({ legacy: { length: 512 } });
  });

  test("that was never used, or cannot be read, is not made up", () => {
    const { heap, vcpu, state, read } = build();
    heap.put(state + 64n + 512n, 0n);
    heap.put(state + 64n + 520n, 0n);
    expect(read()).toBe("unused");
    heap.put(vcpu + 64n, 0xffff_8880_7777_0000n);
    expect(read()).toBe("unknown");
    heap.put(vcpu + 64n, 0n);
    expect(read()).toBe("unknown");
    expect(guestFpu(kernelOf(heap, COMMON), vcpu)).toBe("unknown");
  });
});

describe("before", () => {
  /** pt_regs at the top of the thread's stack, in user mode. */
  const inSystemCall = (heap: KernelHeap, task: bigint, number: bigint, argument: bigint) => {
    const stack = heap.take(16_384, 4096);
    heap.put(task + 64n, stack);
    const registers = stack + 16_384n - 168n;
    const set = (index: number, value: bigint) => heap.put(registers + BigInt(8 * index), value);
    set(13, argument);
    set(15, number);
    set(17, 0x33n);
    set(18, 0x202n);
    set(20, 0x2bn);
  };

  test.each([
    ["a struct that KVM points to (4.20–5.15)", POINTED],
    ["in the vCPU's own (4.19)", INSIDE],
  ])("it is in %s", (_, layout) => {
    const { heap, vcpu, task } = machine();
    const fpu = layout === INSIDE ? vcpu + 64n : heap.take(1024, 64);
    if (layout === POINTED) heap.put(vcpu + 64n, fpu);
    area(heap, fpu + 64n, 6);
    const read = () => guestFpu(kernelOf(heap, layout), vcpu);
    expect(read()).toMatchObject({ legacy: { 160: 6 } });
    inSystemCall(heap, task, 16n, 0x4000_aea0n);
    expect(read()).toMatchObject({ legacy: { 160: 6 } });
  });

  test("it is the thread's in KVM_RUN, and the processor's when that runs", () => {
    const { heap, vcpu, task } = machine();
    const fpu = heap.take(1024, 64);
    heap.put(vcpu + 64n, fpu);
    area(heap, fpu + 64n, 6);
    area(heap, task + 192n + 64n, 9);
    inSystemCall(heap, task, 16n, 0xae80n);
    const read = () => guestFpu(kernelOf(heap, POINTED), vcpu);
    expect(read()).toMatchObject({ legacy: { 160: 9 } });
    heap.put(task + 92n, 1n, 4);
    expect(read()).toBe("in-processor");
  });
});
