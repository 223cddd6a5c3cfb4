import type { LinuxKernel } from "../kernel/open-kernel.ts";
import { listTasks, type TaskList } from "../kernel/tasks.ts";
import { offsetOf } from "../kernel/types.ts";
import { listNodes } from "../kernel/walk/list.ts";
import { collect } from "../kernel/walk/outcome.ts";
import { type Memslot, memslotsOf } from "./memslots.ts";
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

/** A host's processes have at most as many. */
const MAX_VMS = 65_536;

/**
 * The VMs that KVM's `vm_list` has, the newest of which is its first (`kvm_create_vm`); where the list is not whole,
 * those too that a process has open.
 */
export function kvmVms(kernel: LinuxKernel): KvmVms {
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
  return { vms: [...addresses].map((address) => vmAt(kernel, tasks, address)), problem: list.problem };
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

function vmAt(kernel: LinuxKernel, tasks: TaskList, address: bigint): KvmVm {
  const { reader, types } = kernel;
  const at = (path: string) => {
    const offset = offsetOf(types, path);
    return offset === undefined ? undefined : address + BigInt(offset);
  };
  const mm = at("kvm.mm");
  const process = mm === undefined ? undefined : reader.u64(mm);
  const { slots, problems: slotProblems } = memslotsOf(kernel, address);
  const { vcpus, problems: vcpuProblems } = vcpusOf(kernel, address);
  return {
    address,
    mm: process,
    owner: process === undefined ? undefined : ownerOf(kernel, tasks, process),
    slots,
    vcpus,
    problems: [...slotProblems, ...vcpuProblems],
  };
}
