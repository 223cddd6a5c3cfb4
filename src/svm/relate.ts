import { hex } from "../core/text.ts";
import { groupKey, type VmcbKind } from "./kind.ts";
import type { VmcbCandidate } from "./scan.ts";
import { decodeVmcb, fieldNumber, fieldValue, type Vmcb } from "./vmcb.ts";

/** A candidate seen beside the others. */
export interface RelatedVmcb {
  readonly address: number;
  readonly vmcb: Vmcb;
  readonly kind: VmcbKind;
  readonly reasons: readonly string[];
  /** Root of the nested page tables, without the memory-encryption bit: one VM, or one guest of a VM. */
  readonly group: number | undefined;
  /** The I/O permission map: one hypervisor. Undefined for a host save area. */
  readonly hypervisor: number | undefined;
  /** Host save areas of the processors that ran this VMCB last. */
  readonly lastRunBy: readonly number[];
  /** Other VMCBs of what looks like the same vCPU, the first 16. */
  readonly twins: readonly number[];
}

const MAX_TWINS = 16;

/**
 * Looks at candidates together. VMRUN leaves the VMCB's address in the RAX of the host save area (APM Vol. 2 §15.5.1),
 * so a processor names the VMCB it last ran; of several VMCBs of one vCPU those that none names are copies.
 * @param encryptionMask address bits that are none (`sme_mask`)
 */
export function relateVmcbs(candidates: readonly VmcbCandidate[], encryptionMask = 0n): RelatedVmcb[] {
  const pages = candidates.map((candidate) => ({ ...candidate, vmcb: decodeVmcb(candidate.bytes) }));
  const address = (value: bigint): number => Number(value & ~encryptionMask);
  const runners = groupBy(
    pages.filter(({ vmcb }) => vmcb.controlUnused),
    ({ vmcb }) => String(address(fieldValue(vmcb, "rax"))),
  );
  const vcpus = groupBy(pages, ({ vmcb }) => vcpuKey(vmcb, encryptionMask));
  const ranLast = (at: number): number[] => (runners.get(String(at)) ?? []).map((area) => area.address);
  return pages.map(({ address: at, vmcb, kind, reasons }) => {
    const key = vcpuKey(vmcb, encryptionMask);
    const others = key === undefined ? [] : (vcpus.get(key) ?? []).filter((other) => other.address !== at);
    const lastRunBy = vmcb.controlUnused ? [] : ranLast(at);
    const live = others.find((other) => ranLast(other.address).length > 0);
    const verdict = twinVerdict({ kind, reasons }, lastRunBy, live?.address, others.length);
    return {
      address: at,
      vmcb,
      ...verdict,
      group: groupKey(vmcb, encryptionMask),
      hypervisor: vmcb.controlUnused ? undefined : address(fieldValue(vmcb, "iopm_base_pa")),
      lastRunBy,
      twins: others.slice(0, MAX_TWINS).map((other) => other.address),
    };
  });
}

interface Verdict {
  readonly kind: VmcbKind;
  readonly reasons: readonly string[];
}

function twinVerdict(
  { kind, reasons }: Verdict,
  lastRunBy: readonly number[],
  live: number | undefined,
  twins: number,
): Verdict {
  if (lastRunBy.length > 0) {
    const areas = lastRunBy.map((area) => hex(area)).join(", ");
    return { kind, reasons: [...reasons, `the VMCB last run by the processor with host save area ${areas}`] };
  }
  if (live !== undefined) {
    return {
      kind: "copy",
      reasons: [...reasons, `the same vCPU as ${hex(live)}, which a processor ran last`],
    };
  }
  if (twins === 0) return { kind, reasons };
  return { kind, reasons: [...reasons, "another VMCB is of the same vCPU: one of them is a copy"] };
}

/**
 * What two VMCBs of one vCPU share and two vCPUs do not: beside VM and hypervisor the MSR map, which KVM keeps per
 * vCPU, and where the guest's processor has its TSS and GDT. The two VMCBs of a vCPU that runs a nested guest differ.
 */
function vcpuKey(vmcb: Vmcb, encryptionMask: bigint): string | undefined {
  const group = groupKey(vmcb, encryptionMask);
  if (group === undefined || fieldNumber(vmcb, "asid") === 0) return undefined;
  const parts = ["iopm_base_pa", "msrpm_base_pa", "asid", "tr.base", "gdtr.base"] as const;
  return [group, ...parts.map((name) => fieldValue(vmcb, name))].join(" ");
}

/** Items by key; those without a key are left out. */
function groupBy<T>(items: readonly T[], keyOf: (item: T) => string | undefined): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    if (key === undefined) continue;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}
