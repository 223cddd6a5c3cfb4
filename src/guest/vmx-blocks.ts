import type { PhysicalMemory } from "../core/memory.ts";
import { decodeEptPointer, type EptPointer } from "../vmx/eptp.ts";
import type { VmcsRegion } from "../vmx/region.ts";
import type { VmcsCandidate } from "../vmx/scan.ts";
import { fieldValue } from "../vmx/score.ts";
import { PageTables } from "../x86/paging.ts";
import { FIVE_LEVEL, FOUR_LEVEL } from "../x86/paging-shapes.ts";
import { CR3_FRAME, CR4_LA57 } from "../x86/registers.ts";
import type { ControlBlock } from "./cluster.ts";
import { tablesAt } from "./second-level.ts";

/** A VMCS that a vCPU of this host has, or may have. */
export interface VmcsBlock extends ControlBlock {
  readonly arch: "vmx";
  readonly candidate: VmcsCandidate;
}

/** "activate secondary controls" and, of those, "enable EPT" (Intel SDM Vol. 3C Tables 25-6, 25-7). */
const SECONDARY = 1n << 31n;
const ENABLE_EPT = 1n << 1n;
const VMCS_SHADOWING = 1n << 14n;
/** Basic exit reasons (Intel SDM Vol. 3D Appendix C). */
const VMLAUNCH = 20n;
const VMRESUME = 24n;

/**
 * The VMCSs that can be this host's: those in a processor's layout. A host that is itself a guest has none of them:
 * what its hypervisor keeps for it are its processor's, and in the host's memory their host state works.
 */
export function hostCandidates(host: PhysicalMemory, candidates: readonly VmcsCandidate[]): VmcsCandidate[] {
  const vmcss = candidates.filter(({ shadow }) => !shadow);
  const own = vmcss.filter(({ layout }) => layout.kind !== "nested");
  return own.length > 0 ? own : vmcss.filter(({ region }) => hostWorks(host, region) === true);
}

/** What clustering needs of a VMCS. */
export function vmcsBlock(host: PhysicalMemory, candidate: VmcsCandidate): VmcsBlock {
  const { region, address } = candidate;
  const hostCr3 = fieldValue(region, "HOST_CR3");
  const owner = fieldValue(region, "VM_EXIT_MSR_LOAD_ADDR");
  const vpid = fieldValue(region, "VIRTUAL_PROCESSOR_ID");
  const eptp = usesEpt(region) ? fieldValue(region, "EPT_POINTER") : undefined;
  const pointer = eptp === undefined ? undefined : decodeEptPointer(eptp);
  return {
    arch: "vmx",
    candidate,
    address,
    root: pointer === undefined ? undefined : { address: pointer.root, shape: pointer.shape },
    process: hostCr3 === undefined ? undefined : hostCr3 & CR3_FRAME,
    owner: owner === 0n ? undefined : owner,
    order: vpid === undefined || vpid === 0n ? undefined : Number(vpid),
    // Where nothing tells which vCPUs ran, clocks that guests have set are none of a VM's.
    clock: usesEpt(region) ? fieldValue(region, "TSC_OFFSET") : undefined,
    runsGuests: runsGuests(region),
    odd: oddity(host, region, pointer),
  };
}

/** A VMCS of another machine, such as a hypervisor's in a guest, or one whose VM is gone. */
function oddity(
  host: PhysicalMemory,
  region: VmcsRegion,
  pointer: EptPointer | undefined,
): ControlBlock["odd"] {
  if (hostWorks(host, region) === false) {
    return { role: "foreign", reason: "its host state does not work in this host's memory" };
  }
  if (pointer !== undefined && tablesAt(host, pointer.root, pointer.shape) === "no-table") {
    return { role: "foreign", reason: "its EPT pointer leads to no tables" };
  }
  return undefined;
}

/**
 * Whether the guest enters guests of its own. KVM shadows the VMCS of a guest's hypervisor, not of that one's guests
 * (arch/x86/kvm/vmx/nested.c, prepare_vmcs02_early); while they run, the vCPU's last exit is the one that entered them.
 */
function runsGuests(region: VmcsRegion): boolean {
  const reason = BigInt.asUintN(16, fieldValue(region, "VM_EXIT_REASON") ?? 0n);
  if (reason === VMLAUNCH || reason === VMRESUME) return true;
  return (secondaryControls(region) & VMCS_SHADOWING) !== 0n;
}

/** Zero while they are not activated. */
function secondaryControls(region: VmcsRegion): bigint {
  const primary = fieldValue(region, "CPU_BASED_VM_EXEC_CONTROL") ?? 0n;
  return (primary & SECONDARY) === 0n ? 0n : (fieldValue(region, "SECONDARY_VM_EXEC_CONTROL") ?? 0n);
}

/** Whether the region's controls turn EPT on; where the layout does not say, a pointer is enough. */
function usesEpt(region: VmcsRegion): boolean {
  const primary = fieldValue(region, "CPU_BASED_VM_EXEC_CONTROL");
  const secondary = fieldValue(region, "SECONDARY_VM_EXEC_CONTROL");
  if (primary === undefined || secondary === undefined) return true;
  return (primary & SECONDARY) !== 0n && (secondary & ENABLE_EPT) !== 0n;
}

/** Whether HOST_CR3's tables, in this memory, map HOST_RIP to code of a kernel. */
function hostWorks(host: PhysicalMemory, region: VmcsRegion): boolean | undefined {
  const cr3 = fieldValue(region, "HOST_CR3");
  const rip = fieldValue(region, "HOST_RIP");
  if (cr3 === undefined || rip === undefined) return undefined;
  const shape = ((fieldValue(region, "HOST_CR4") ?? 0n) & CR4_LA57) === 0n ? FOUR_LEVEL : FIVE_LEVEL;
  const mapping = new PageTables(host, Number(cr3 & CR3_FRAME), shape).translate(rip);
  if (mapping.mapped) return mapping.executable && !mapping.user;
  return mapping.reason === "table-missing" ? undefined : false;
}
