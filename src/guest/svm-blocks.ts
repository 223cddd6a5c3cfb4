import type { PhysicalMemory } from "../core/memory.ts";
import { type RelatedVmcb, relateVmcbs } from "../svm/relate.ts";
import type { VmcbCandidate } from "../svm/scan.ts";
import { fieldValue, type Vmcb } from "../svm/vmcb.ts";
import {
  NPT_FIVE_LEVEL,
  NPT_FOUR_LEVEL,
  type PagingShape,
  withoutAddressBits,
} from "../x86/paging-shapes.ts";
import type { ControlBlock } from "./cluster.ts";
import { tablesAt } from "./second-level.ts";

/** AMD APM Vol. 2 §15.25.3. */
export const NP_ENABLE = 1n;

/** A VMCB that a vCPU of this host has, or may have. */
export interface VmcbBlock extends ControlBlock {
  readonly arch: "svm";
  readonly candidate: VmcbCandidate;
  readonly related: RelatedVmcb;
  readonly vmcb: Vmcb;
}

/** What the host's own paging is, which nested paging follows (AMD APM Vol. 2 §15.25.3). */
export interface HostPaging {
  readonly levels: 4 | 5;
  /** The memory-encryption bit, 0n without SME (§7.10). */
  readonly encryptionMask: bigint;
}

/** What clustering needs of VMCBs; host save areas are left out, for they are of processors. */
export function vmcbBlocks(
  host: PhysicalMemory,
  candidates: readonly VmcbCandidate[],
  { levels, encryptionMask }: HostPaging,
): VmcbBlock[] {
  const shape = withoutAddressBits(levels === 5 ? NPT_FIVE_LEVEL : NPT_FOUR_LEVEL, encryptionMask);
  return relateVmcbs(candidates, encryptionMask).flatMap((related, i) =>
    related.kind === "host-save-area" ? [] : [blockOf(host, candidates[i]!, related, shape)],
  );
}

function blockOf(
  host: PhysicalMemory,
  candidate: VmcbCandidate,
  related: RelatedVmcb,
  shape: PagingShape,
): VmcbBlock {
  const { vmcb, address, group } = related;
  return {
    arch: "svm",
    candidate,
    related,
    vmcb,
    address,
    root: group === undefined ? undefined : { address: group, shape },
    // A VMCB tells nothing of the process that runs it.
    process: undefined,
    owner: undefined,
    // KVM with Hyper-V support leaves the vCPU's index there, from the second on.
    order: Number(fieldValue(vmcb, "hv_vp_id")),
    clock: (fieldValue(vmcb, "nested_ctl") & NP_ENABLE) === 0n ? undefined : fieldValue(vmcb, "tsc_offset"),
    runsGuests: false,
    odd: oddity(host, related, shape),
  };
}

function oddity(
  host: PhysicalMemory,
  { kind, reasons, group }: RelatedVmcb,
  shape: PagingShape,
): ControlBlock["odd"] {
  const reason = reasons.join("; ");
  if (kind === "copy") return { role: "copy", reason };
  // Nothing but the tables tells a VMCB of this host from another's, or from one whose VM is gone.
  if (group !== undefined && ["no-table", "empty"].includes(tablesAt(host, group, shape))) {
    return { role: "foreign", reason: "its N_CR3 leads to no tables" };
  }
  return kind === "nested-guest" ? { role: "nested", reason } : undefined;
}
