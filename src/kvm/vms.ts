import type { LinuxKernel } from "../kernel/open-kernel.ts";
import { listTasks, type Task, tasksByMm } from "../kernel/tasks.ts";
import { offsetOf } from "../kernel/types.ts";
import { listNodes } from "../kernel/walk/list.ts";
import { collect } from "../kernel/walk/outcome.ts";
import { type Memslot, MemslotBudget, memslotsOf } from "./memslots.ts";
import { type Owner, ownerOf } from "./owner.ts";
import { problemText } from "./problem.ts";
import { type KvmVcpu, vcpusOf } from "./vcpus.ts";
import { vmsOfFiles } from "./vm-files.ts";

/** A virtual machine as KVM knows it (struct kvm, Linux include/linux/kvm_host.h). */
export interface KvmVm {
  /** Of its struct kvm. */
  readonly address: bigint;
  /** mm_struct of the process that made it. */
  readonly mm: bigint | undefined;
  /** That process; undefined where it is not among the kernel's tasks. */
  readonly owner: Owner | undefined;
  readonly slots: readonly Memslot[];
  readonly vcpus: readonly KvmVcpu[];
  /** What could not be read of it. */
  readonly problems: readonly string[];
}

export interface KvmVms {
  /** In the order they were made. */
  readonly vms: readonly KvmVm[];
  /** Why there are no more. */
  readonly problem: string | undefined;
}

/** VMs of a host, more than any runs. */
const MAX_VMS = 4096;
/** vCPUs of all of them. */
const MAX_VCPUS = 2 ** 16;

/**
 * The VMs that KVM's `vm_list` has, the newest of which is its first (`kvm_create_vm`); where the list is not whole,
 * those too that a process has open.
 */
export async function kvmVms(kernel: LinuxKernel, checkpoint?: () => Promise<void>): Promise<KvmVms> {
  const { reader, types, symbols } = kernel;
  const link = offsetOf(types, "kvm.vm_list");
  if (link === undefined) return { vms: [], problem: "struct kvm is not among the kernel's types" };
  const list = listed(kernel);
  const isLoaded = symbols.addressOf("kvm_vm_release") !== undefined;
  if (list.addresses.length === 0 && (list.problem === undefined || !isLoaded))
    return { vms: [], problem: list.problem };
  const tasks = listTasks(reader, types, symbols);
  const addresses = new Set(list.addresses.map((node) => node - BigInt(link)).reverse());
  if (list.problem !== undefined) for (const kvm of vmsOfFiles(kernel, tasks)) addresses.add(kvm);
  const owners = tasksByMm(tasks);
  const budgets: Budgets = { slots: new MemslotBudget(), vcpus: { left: MAX_VCPUS } };
  const vms: KvmVm[] = [];
  for (const address of addresses) {
    if (vms.length === MAX_VMS) break;
    vms.push(vmAt(kernel, owners, address, budgets));
    await checkpoint?.();
  }
  const cut =
    addresses.size > vms.length ? `of ${addresses.size} VMs ${vms.length} are looked at` : undefined;
  return { vms, problem: list.problem ?? cut };
}

/** The nodes of `vm_list`. */
function listed({ reader, symbols }: LinuxKernel): {
  addresses: readonly bigint[];
  problem: string | undefined;
} {
  const head = symbols.addressOf("vm_list");
  if (head === undefined) return { addresses: [], problem: "the kernel has no symbol vm_list" };
  const { items, outcome } = collect(listNodes(reader, head, MAX_VMS));
  return { addresses: items, problem: problemText("vm_list", outcome) };
}

/** What may be read of all VMs together: damaged ones may share all that they lead to. */
interface Budgets {
  readonly slots: MemslotBudget;
  readonly vcpus: { left: number };
}

function vmAt(
  kernel: LinuxKernel,
  owners: ReadonlyMap<bigint, Task>,
  address: bigint,
  budgets: Budgets,
): KvmVm {
  const { reader, types } = kernel;
  const at = (path: string) => {
    const offset = offsetOf(types, path);
    return offset === undefined ? undefined : address + BigInt(offset);
  };
  const mm = at("kvm.mm");
  const process = mm === undefined ? undefined : reader.u64(mm);
  const { slots, problems: slotProblems } = memslotsOf(kernel, address, budgets.slots);
  const { vcpus, problems: vcpuProblems } = vcpusOf(kernel, address, budgets.vcpus);
  return {
    address,
    mm: process,
    owner: process === undefined ? undefined : ownerOf(kernel, owners, process),
    slots,
    vcpus,
    problems: [...slotProblems, ...vcpuProblems],
  };
}
