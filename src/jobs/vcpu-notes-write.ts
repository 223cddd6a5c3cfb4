import type { JobContext } from "../core/job.ts";
import type { Warning } from "../core/warnings.ts";
import type { HostGuest } from "../guest/host-guest.ts";
import type { KvmRegisters } from "../kvm/registers.ts";
import type { KvmVcpu } from "../kvm/vcpus.ts";
import type { VmcsLayout } from "../vmx/layout.ts";
import type { KeptRegisters, RegionNote } from "../vmx/region-note.ts";
import { infoOf, type VmcsInfo } from "../vmx/vmcsinfo.ts";
import { type Block, type GuestName, type HostDump, type HostOptions, pickGuest } from "./host.ts";
import type { Input } from "./input.ts";
import { withHost } from "./vmcs.ts";

/** The control blocks of a guest's vCPUs, out of its host's dump. */
export interface VcpuRegions {
  readonly input: Input["facts"];
  /** Number of the guest. */
  readonly guest: number;
  /** Ascending by vCPU; all of one owner. */
  readonly notes: readonly RegionNote[];
  /** Where the fields of these VMCSs are; undefined for VMCBs, which every processor keeps alike. */
  readonly info: VmcsInfo | undefined;
  readonly warnings: readonly Warning[];
}

/**
 * Takes the VMCSs or VMCBs of one guest out of a host's vmcore.
 * @param guest its number or name; undefined where there is one only
 * @throws UnavailableError when there is no such guest; the others as openHost
 */
export const readVcpuRegions = (
  path: string,
  guest: GuestName | undefined,
  options: HostOptions,
  context: JobContext,
): Promise<VcpuRegions> =>
  withHost(path, options, context, (host, { input, warnings }) => {
    const chosen = pickGuest(host, guest);
    return { input, guest: chosen.id, ...regionsOf(host, chosen), warnings };
  });

/** The control blocks of one guest's vCPUs, and their layout. */
export function regionsOf(
  { kdump }: Pick<HostDump, "kdump">,
  guest: HostGuest<Block>,
): Pick<VcpuRegions, "notes" | "info"> {
  const notes = guest.vcpus.flatMap(({ index, block, kvm }): RegionNote[] => {
    if (block === undefined) return [];
    const { arch, address, candidate } = block;
    const owner = arch === "vmx" ? "VMCS" : "VMCB";
    // #VMEXIT writes all of a VMCB; a VMCS may stay in the processor until it is cleared.
    const complete = kdump || (arch === "svm" && kvm?.inGuest === false);
    const note = { owner, vcpu: index, complete, address, bytes: candidate.bytes } as const;
    // Of a vCPU that ran a guest of its own they are that one's.
    if (kvm === undefined || kvm.inNested) return [note];
    return [kvm.registers === undefined ? note : { ...note, kept: keptOf(kvm, kvm.registers) }];
  });
  return { notes, info: infoOfGuest(guest) };
}

const keptOf = ({ address, fpu }: KvmVcpu, registers: KvmRegisters): KeptRegisters => {
  const { general, rip, newer, cr2, cr3, efer } = registers;
  const kept = { address, registers: { general, rip, newer, cr2, cr3, efer } };
  return typeof fpu === "object" ? { ...kept, fpu } : kept;
};

/** By the layout that most of the vCPUs were found by: of two with one revision a vCPU that never ran can fit both. */
function infoOfGuest({ vcpus }: HostGuest<Block>): VmcsInfo | undefined {
  const regions = vcpus.flatMap(({ block }) => (block?.arch === "vmx" ? [block.candidate.region] : []));
  const [first] = regions;
  if (first === undefined) return undefined;
  const counts = new Map<VmcsLayout, number>();
  for (const { layout } of regions) counts.set(layout, (counts.get(layout) ?? 0) + 1);
  const [best] = [...counts].sort((a, b) => b[1] - a[1]);
  return infoOf(best?.[0] ?? first.layout, first.revisionId);
}
