import { type Coverage, noCoverage } from "../core/coverage.ts";
import { bytesText, hex, hexAddress, plural, printable } from "../core/text.ts";
import type { ControlBlock } from "../guest/cluster.ts";
import { archOf, type HostGuest } from "../guest/host-guest.ts";
import { LARGE_GAP } from "../guest/second-level.ts";
import type { Block, HostDump } from "../jobs/host.ts";
import { nameOf, shownName } from "../kvm/owner.ts";
import { type KvmVcpu, MP_STATES } from "../kvm/vcpus.ts";
import type { KvmVm } from "../kvm/vms.ts";
import type { RangeCoverage } from "../vmcore/write.ts";

/** What the host is, in a few words. */
export const hostName = ({ linux }: Pick<HostDump, "linux">): string =>
  linux?.release === undefined ? "a host" : `a Linux ${printable(linux.release.value)} host`;

/** "Intel VMX", "AMD SVM", both, or that neither was found. */
export function virtualizationOf({ guests }: Pick<HostDump, "guests">): string {
  const kinds = new Set(guests.flatMap(({ vcpus }) => vcpus.map(({ block }) => block?.arch)));
  const names = [...(kinds.has("vmx") ? ["Intel VMX"] : []), ...(kinds.has("svm") ? ["AMD SVM"] : [])];
  if (names.length > 0) return names.join(" and ");
  return kinds.size === 0 ? "no vCPU found" : "no VMCS or VMCB found";
}

export const guestCount = ({ guests }: Pick<HostDump, "guests">): string => plural(guests.length, "guest");

export const hostFactsJson = (host: HostDump) => ({
  release: host.linux?.release?.value,
  kdump: host.kdump,
  kvmUnknown: host.kvmUnknown,
  layouts: { source: host.choice.source, names: host.choice.layouts.map(({ name }) => name) },
});

export const guestJson = ({ id, root, vcpus, vm }: HostGuest<Block>) => ({
  id,
  ...(vm === undefined ? {} : vmJson(vm)),
  arch: archOf({ vcpus }),
  root: rootJson(root),
  vcpus: vcpus.map(({ index, block, kvm }) => ({
    index,
    address: block?.address,
    ...(kvm === undefined ? {} : kvmVcpuJson(kvm)),
  })),
});

const vmJson = ({ owner, address, slots, problems }: KvmVm) => ({
  name: owner === undefined ? undefined : nameOf(owner),
  pid: owner?.task.tgid,
  process: owner?.task.comm,
  kvm: address,
  memslots: slots.map(({ addressSpace, id, start, end, hva, flags }) => ({
    addressSpace,
    id,
    start,
    end,
    hva,
    flags,
  })),
  problems,
});

const kvmVcpuJson = ({ id, cpu, thread, inGuest, mpState, address }: KvmVcpu) => ({
  id,
  cpu,
  thread,
  inGuest,
  mpState: mpState === undefined ? undefined : (MP_STATES[mpState] ?? String(mpState)),
  kvmVcpu: address,
});

/** `web1, pid 132`, as far as the host's kernel tells; empty where it does not. */
export function vmText(vm: KvmVm | undefined): string {
  const owner = vm?.owner;
  if (owner === undefined) return "";
  return [shownName(owner), `pid ${owner.task.tgid}`].map(printable).join(", ");
}

const rootJson = (root: ControlBlock["root"]) =>
  root === undefined ? null : { address: root.address, tables: root.shape.name };

export const rootText = (root: ControlBlock["root"]): string =>
  root === undefined ? "no second-level tables" : `${root.shape.name} at ${hex(root.address)}`;

/** Ranges with small gaps between them, as people think of RAM. */
interface RangeGroup {
  readonly start: number;
  end: number;
  pieces: number;
  readonly coverage: Coverage;
}

function groupsOf(ranges: readonly RangeCoverage[]): RangeGroup[] {
  const groups: RangeGroup[] = [];
  for (const { start, end, coverage } of ranges) {
    let group = groups.at(-1);
    if (group === undefined || start - group.end >= LARGE_GAP) {
      group = { start, end, pieces: 0, coverage: noCoverage() };
      groups.push(group);
    }
    group.end = end;
    group.pieces++;
    for (const key of ["present", "zero", "excluded", "missing"] as const)
      group.coverage[key] += coverage[key];
  }
  return groups;
}

/**
 * Guest-physical memory as second-level tables show it, a line for each stretch without large gaps.
 * @param describe how a coverage is put into words
 */
export const mappedLines = (
  ranges: readonly RangeCoverage[],
  describe: (coverage: Coverage) => string,
): string[] =>
  groupsOf(ranges).map(({ start, end, pieces, coverage }) => {
    const { present, zero, excluded, missing } = coverage;
    const untouched = end - start - (present + zero + excluded + missing);
    const parts = [describe(coverage)];
    if (untouched > 0) parts.push(`${bytesText(untouched)} not mapped`);
    if (pieces > 1) parts.push(`in ${pieces} pieces`);
    return [
      `${hexAddress(start)}-${hexAddress(end)}`,
      bytesText(end - start).padStart(10),
      parts.join(", "),
    ].join("  ");
  });
