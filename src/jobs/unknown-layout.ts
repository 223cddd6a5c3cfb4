import { PAGE_SIZE } from "../core/address.ts";
import type { PhysicalMemory } from "../core/memory.ts";
import { hex, plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { ControlBlock } from "../guest/cluster.ts";
import type { HostGuest } from "../guest/host-guest.ts";
import type { LinuxKernel } from "../kernel/open-kernel.ts";
import { usesVmx } from "../kvm/vcpus.ts";
import { revisionOf } from "../vmx/region.ts";

/** Tells of vCPUs whose VMCSs are in the dump, as KVM says where they are, and of no layout by which they were sought. */
export function unknownLayoutWarnings(
  memory: PhysicalMemory,
  kernel: LinuxKernel,
  guests: readonly HostGuest<ControlBlock>[],
): Warning[] {
  if (!usesVmx(kernel)) return [];
  const page = Buffer.alloc(PAGE_SIZE);
  const revisions = guests
    .flatMap(({ vcpus }) => vcpus)
    .flatMap(({ block, kvm }) => {
      const address = block === undefined ? kvm?.controlBlock : undefined;
      const isThere = address !== undefined && memory.readPage(address, page) === "present";
      return isThere ? [revisionOf(page)] : [];
    });
  if (revisions.length === 0) return [];
  const names = [...new Set(revisions)].map((revision) => hex(revision)).join(", ");
  const message = `the VMCSs of ${plural(revisions.length, "vCPU")}, of revision ${names}, are in no layout known: what they have of registers is unavailable`;
  const hint = "guestcore vmcs layout infer HOST -o vmcsinfo.txt finds it out; name it with --vmcsinfo";
  return [{ code: "VMI012", message, hint }];
}
