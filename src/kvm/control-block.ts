import { PAGE_SIZE } from "../core/address.ts";
import { u64big, viewOf } from "../core/bytes.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { KvmVms } from "./vms.ts";

/** Bytes behind a struct kvm_vcpu that are looked at: a vCPU's own block is named near their beginning. */
const REACH = PAGE_SIZE;
/** Physical addresses have 52 bits at most. */
const PHYSICAL_LIMIT = 1n << 52n;
const UPPER_HALF = 1n << 63n;
const IN_PAGE = BigInt(PAGE_SIZE - 1);

/**
 * The vCPUs with the control blocks that no type led to: kernels before 5.11 have no types of modules, and none of struct
 * vcpu_vmx and vcpu_svm then. Both begin with the struct kvm_vcpu, and have a pointer to the vCPU's own VMCS or VMCB
 * behind it, before those for a guest's guest.
 * @param blocks physical addresses of VMCSs and VMCBs that were found in the host's memory
 */
export function withControlBlocks(kernel: Kernel, kvm: KvmVms, blocks: ReadonlySet<number>): KvmVms {
  const named = new Set(kvm.vms.flatMap(({ vcpus }) => vcpus.map(({ controlBlock }) => controlBlock)));
  const vms = kvm.vms.map((vm) => {
    const vcpus = vm.vcpus.map((vcpu) => {
      if (vcpu.controlBlock !== undefined) return vcpu;
      const controlBlock = blockBehind(kernel, vcpu.address, blocks);
      if (controlBlock === undefined || named.has(controlBlock)) return vcpu;
      named.add(controlBlock);
      return { ...vcpu, controlBlock };
    });
    return { ...vm, vcpus };
  });
  return { ...kvm, vms };
}

function blockBehind({ reader, types }: Kernel, vcpu: bigint, blocks: ReadonlySet<number>) {
  const size = types.sizeOf("kvm_vcpu");
  const bytes = size === undefined ? undefined : reader.bytes(vcpu + BigInt(size), REACH);
  if (bytes === undefined) return undefined;
  const view = viewOf(bytes);
  for (let at = 0; at < REACH; at += 8) {
    const value = u64big(view, at);
    if (value === 0n || (value & IN_PAGE) !== 0n) continue;
    const physical = physicalOf(reader, value);
    if (physical !== undefined && blocks.has(physical)) return physical;
  }
  return undefined;
}

/** KVM keeps the address of a VMCS or VMCB as the kernel sees it, and as the processor does. */
function physicalOf({ space }: Kernel["reader"], value: bigint): number | undefined {
  if (value < PHYSICAL_LIMIT) return Number(value);
  const mapping = value < UPPER_HALF ? undefined : space.translate(value);
  return mapping?.mapped === true ? mapping.physical : undefined;
}
