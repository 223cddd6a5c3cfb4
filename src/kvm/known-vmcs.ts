import { PAGE_SIZE } from "../core/address.ts";
import type { LinuxKernel } from "../kernel/open-kernel.ts";
import type { Expected, KnownRegion } from "../vmx/infer/claims.ts";
import { knownControls } from "./known-controls.ts";
import { knownGuestState } from "./known-guest.ts";
import { knownHostState } from "./known-host.ts";
import { type KvmVcpu, usesVmx } from "./vcpus.ts";
import { VmxView } from "./vmx-view.ts";

/**
 * A vCPU's VMCS with what KVM knows to be in it (Linux arch/x86/kvm/vmx, 5.4+, where `struct loaded_vmcs` keeps what is
 * written; of older kernels less is known).
 * @returns undefined where its region is not in the dump, or the vCPU is none of Intel's
 */
export function knownVmcs(kernel: LinuxKernel, vcpu: KvmVcpu): KnownRegion | undefined {
  const view = usesVmx(kernel) ? VmxView.of(kernel, vcpu) : undefined;
  const address = vcpu.controlBlock;
  if (view === undefined || address === undefined || address % PAGE_SIZE !== 0) return undefined;
  const bytes = Buffer.alloc(PAGE_SIZE);
  if (kernel.reader.memory.readPage(address, bytes) !== "present") return undefined;
  const all = [...knownHostState(view), ...knownControls(view), ...knownGuestState(view)];
  const known = all.filter((entry): entry is [string, Expected] => entry[1] !== undefined);
  return { address, bytes, known: new Map(known) };
}
