import type { LinuxKernel } from "../../src/kernel/open-kernel.ts";
import type { KernelTypes } from "../../src/kernel/types.ts";
import { FOUR_LEVEL } from "../../src/x86/paging-shapes.ts";
import { CONSTANTS, LAYOUT, PAGE_STRUCT } from "../synth/kernel-heap.ts";
import { EXREG_CR3, KVM_LAYOUT, type KvmHeap, type KvmMember, MEMORY_SLOT } from "../synth/kvm.ts";
import { readerOf } from "./kernel-heap.ts";
import { symbolsOf, typesOf } from "./kernel-tables.ts";

/** The types of the imaginary kernel, but for members that the one at hand does not have. */
export function kvmTypes(...without: readonly KvmMember[]): KernelTypes {
  const members = Object.entries({ ...LAYOUT, ...KVM_LAYOUT }).filter(
    ([path]) => !(without as readonly string[]).includes(path),
  );
  return typesOf(
    Object.fromEntries(members),
    { page: PAGE_STRUCT, kvm_memory_slot: MEMORY_SLOT },
    { ...CONSTANTS, VCPU_EXREG_CR3: BigInt(EXREG_CR3) },
  );
}

/** Slots in trees, vCPUs in an xarray, run by kvm-intel: 5.17+. */
export const NEW: readonly KvmMember[] = ["kvm.vcpus", "kvm_memslots.id_to_index", "vcpu_svm.vcpu"];
/** Before 5.17. */
export const OLD: readonly KvmMember[] = ["kvm.vcpu_array", "kvm_memslots.gfn_tree", "vcpu_svm.vcpu"];

/** The kernel in a heap. */
export const kernelIn = (
  heap: KvmHeap,
  types: KernelTypes,
  symbols: Readonly<Record<string, bigint>> = {},
): LinuxKernel =>
  ({
    reader: readerOf(heap.pieces),
    types,
    symbols: symbolsOf(symbols),
    shape: FOUR_LEVEL,
  }) as unknown as LinuxKernel;
