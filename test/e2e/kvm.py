# Run by drgn with the addresses of struct kvm as arguments: prints the host's tasks, and what its VMs are by DWARF, as JSON.
import json
import sys

from drgn import Object, cast, container_of
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.rbtree import rbtree_inorder_for_each
from drgn.helpers.linux.xarray import xa_for_each

REGISTERS = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 rip".split()


def processes():
    return list_for_each_entry("struct task_struct", prog["init_task"].tasks.address_of_(), "tasks")


def slots(kvm, space):
    memslots = kvm.memslots[space]
    index = memslots.node_idx.value_()
    for node in rbtree_inorder_for_each(memslots.gfn_tree.address_of_()):
        slot = container_of(node, "struct kvm_memory_slot", f"gfn_node[{index}]")
        if 0 <= slot.id.value_() < 32764:
            yield {
                "addressSpace": space,
                "id": slot.id.value_(),
                "start": slot.base_gfn.value_() * 4096,
                "end": (slot.base_gfn + slot.npages).value_() * 4096,
                "hva": hex(slot.userspace_addr.value_()),
            }


def vcpus(kvm):
    for _, entry in xa_for_each(kvm.vcpu_array.address_of_()):
        vcpu = cast("struct kvm_vcpu *", entry)
        yield {
            "address": hex(vcpu.value_()),
            "id": vcpu.vcpu_id.value_(),
            "regs": {name: hex(vcpu.arch.regs[i].value_()) for i, name in enumerate(REGISTERS)},
            "cr0": hex(vcpu.arch.cr0.value_()),
            "efer": hex(vcpu.arch.efer.value_()),
        }


def vm(address):
    kvm = Object(prog, "struct kvm", address=address)
    return {
        "mm": hex(kvm.mm.value_()),
        "memslots": [slot for space in range(2) for slot in slots(kvm, space)],
        "vcpus": list(vcpus(kvm)),
    }


print(
    json.dumps(
        {
            "tasks": [[task.pid.value_(), task.comm.string_().decode()] for task in processes()],
            "vms": [vm(int(address, 16)) for address in sys.argv[1:]],
        }
    )
)
