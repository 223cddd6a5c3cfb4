import { KernelHeap, linkRbTree, type Row, storeXArray } from "./kernel-heap.ts";

/** KVM's structures as no kernel in particular has them; what older and newer kernels have lies beside each other. */
export const KVM_LAYOUT = {
  "kvm.mm": [24, 8],
  "kvm.memslots": [64, 8, 2],
  "kvm.vm_list": [96, 16],
  "kvm.vcpu_array": [128, 40],
  "kvm.online_vcpus": [180, 4],
  "kvm.vcpus": [200, 8, 8],
  "kvm_memslots.gfn_tree": [16, 8],
  "kvm_memslots.node_idx": [40, 4],
  "kvm_memslots.used_slots": [8, 4],
  "kvm_memslots.id_to_index": [128, 2, 16],
  "kvm_memslots.memslots": [256, 128, 6],
  "kvm_memory_slot.gfn_node": [16, 32, 2],
  "kvm_memory_slot.base_gfn": [80, 8],
  "kvm_memory_slot.npages": [88, 8],
  "kvm_memory_slot.userspace_addr": [104, 8],
  "kvm_memory_slot.flags": [112, 4],
  "kvm_memory_slot.id": [118, 2],
  "kvm_vcpu.kvm": [8, 8],
  "kvm_vcpu.cpu": [16, 4],
  "kvm_vcpu.vcpu_id": [24, 4],
  "kvm_vcpu.mode": [28, 4],
  "kvm_vcpu.pid": [32, 8],
  "kvm_vcpu.arch.regs": [128, 8, 17],
  "kvm_vcpu.arch.regs_dirty": [276, 4],
  "kvm_vcpu.arch.cr0": [280, 8],
  "kvm_vcpu.arch.cr2": [288, 8],
  "kvm_vcpu.arch.cr3": [296, 8],
  "kvm_vcpu.arch.cr4": [304, 8],
  "kvm_vcpu.arch.cr8": [312, 8],
  "kvm_vcpu.arch.efer": [320, 8],
  "kvm_vcpu.arch.xcr0": [328, 8],
  "kvm_vcpu.arch.db": [336, 8, 4],
  "kvm_vcpu.arch.dr6": [368, 8],
  "kvm_vcpu.arch.dr7": [376, 8],
  "kvm_vcpu.arch.mp_state": [384, 4],
  "pid.numbers.nr": [48, 4],
  "vcpu_vmx.vcpu": [64, 512],
  "vcpu_vmx.loaded_vmcs": [584, 8],
  "vcpu_vmx.vmcs01": [592, 40],
  "vcpu_vmx.vmcs01.vmcs": [600, 8],
  "vcpu_vmx.guest_uret_msrs": [640, 24, 7],
  "vmx_uret_msr.data": [8, 8],
  "vcpu_vmx.msr_guest_kernel_gs_base": [840, 8],
  "vcpu_vmx.guest_state_loaded": [848, 1],
  "vcpu_svm.vcpu": [32, 512],
  "vcpu_svm.vmcb01.ptr": [560, 8],
  "vcpu_svm.vmcb": [568, 8],
  "vcpu_svm.vmcb01": [552, 16],
  "vcpu_svm.current_vmcb": [576, 8],
  "vmcs_config.revision_id": [8, 4],
  "vmcs_config.basic": [16, 8],
} as const satisfies Record<string, Row>;

export type KvmMember = keyof typeof KVM_LAYOUT;

export const MEMORY_SLOT = 128;
/** Bit of `regs_dirty`, other than the kernel's. */
export const EXREG_CR3 = 21;
/** Where nothing is mapped. */
export const NOWHERE = 0x10n;

export interface SlotSpec {
  readonly id: number;
  readonly gfn: number | bigint;
  readonly pages: number | bigint;
  readonly hva: bigint;
  readonly flags?: number;
}

/** Members of struct kvm_vcpu and what holds it, by path; numbers of an array from its first element on. */
export type VcpuSpec = Partial<Readonly<Record<KvmMember, bigint | readonly bigint[]>>>;

export class KvmHeap extends KernelHeap {
  place(structure: bigint, path: KvmMember, index = 0): bigint {
    const [offset, stride] = KVM_LAYOUT[path];
    return structure + BigInt(offset + index * stride);
  }

  write(structure: bigint, path: KvmMember, value: bigint, index = 0): void {
    this.put(this.place(structure, path, index), value, Math.min(KVM_LAYOUT[path][1], 8));
  }

  /** A struct kvm_memory_slot. */
  slot({ id, gfn, pages, hva, flags = 0 }: SlotSpec, at = this.take(MEMORY_SLOT)): bigint {
    this.write(at, "kvm_memory_slot.base_gfn", BigInt(gfn));
    this.write(at, "kvm_memory_slot.npages", BigInt(pages));
    this.write(at, "kvm_memory_slot.userspace_addr", hva);
    this.write(at, "kvm_memory_slot.flags", BigInt(flags));
    this.write(at, "kvm_memory_slot.id", BigInt(id));
    return at;
  }

  /** A struct kvm_memslots of 5.17+, of which the set `active` is in use; the other one is rubbish. */
  slotTree(specs: readonly SlotSpec[], active: 0 | 1): { memslots: bigint; slots: bigint[] } {
    const memslots = this.take(64);
    const slots = specs.map((spec) => this.slot(spec));
    const ordered = slots
      .map((at, i) => ({ at, gfn: Number(specs[i]!.gfn) }))
      .sort((a, b) => a.gfn - b.gfn)
      .map(({ at }) => at);
    for (const at of slots) {
      const other = this.place(at, "kvm_memory_slot.gfn_node", 1 - active);
      for (let word = 0n; word < 32n; word += 8n) this.put(other + word, NOWHERE);
    }
    const nodes = ordered.map((at) => this.place(at, "kvm_memory_slot.gfn_node", active));
    this.write(memslots, "kvm_memslots.gfn_tree", linkRbTree(this, nodes));
    this.write(memslots, "kvm_memslots.node_idx", BigInt(active));
    return { memslots, slots };
  }

  /** A struct kvm_memslots before 5.17: an array by falling addresses, of which `used` are in use. */
  slotArray(specs: readonly SlotSpec[], used = specs.length): bigint {
    const memslots = this.take(256 + MEMORY_SLOT * Math.max(6, specs.length));
    const falling = [...specs].sort((a, b) => Number(b.gfn) - Number(a.gfn));
    for (const [i, spec] of falling.entries())
      this.slot(spec, this.place(memslots, "kvm_memslots.memslots") + BigInt(i * MEMORY_SLOT));
    this.write(memslots, "kvm_memslots.used_slots", BigInt(used));
    return memslots;
  }

  /** A vCPU of `kvm` within what its module adds. @returns the address of its struct kvm_vcpu */
  vcpu(kvm: bigint, members: VcpuSpec, module: "vcpu_vmx" | "vcpu_svm" = "vcpu_vmx"): bigint {
    const holder = this.take(1024);
    const vcpu = this.place(holder, `${module}.vcpu`);
    this.write(vcpu, "kvm_vcpu.kvm", kvm);
    for (const [path, values] of Object.entries(members) as [KvmMember, bigint | readonly bigint[]][]) {
      const at = path.startsWith("kvm_vcpu.") ? vcpu : holder;
      for (const [i, value] of [values].flat().entries()) this.write(at, path, value as bigint, i);
    }
    return vcpu;
  }

  /** Puts vCPUs at their indexes into the xarray of a struct kvm. */
  storeVcpus(kvm: bigint, entries: readonly (readonly [index: number, vcpu: bigint])[]): void {
    const stored = entries.map(([index, entry]) => ({ index, order: 0, entry }));
    storeXArray(this, this.place(kvm, "kvm.vcpu_array"), stored, "xarray");
  }

  /** A struct pid of the host's own namespace. */
  pid(number: number): bigint {
    const at = this.take(64);
    this.write(at, "pid.numbers.nr", BigInt(number));
    return at;
  }

  /** A struct kvm without slots and vCPUs. */
  kvm(): bigint {
    return this.take(512);
  }
}
