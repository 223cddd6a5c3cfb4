import type { LinuxKernel } from "../kernel/open-kernel.ts";
import { offsetOf } from "../kernel/types.ts";
import type { Expected, Trust } from "../vmx/infer/claims.ts";
import type { KvmVcpu } from "./vcpus.ts";

/** A field's name and what is known of it; undefined where nothing is. */
export type Known = readonly [name: string, expected: Expected | undefined];

/** Reads members of the structures that KVM has of an Intel vCPU: `kvm_vcpu.…`, `vcpu_vmx.…`, `loaded_vmcs.…`. */
export class VmxView {
  readonly kernel: LinuxKernel;
  /** Whether the vCPU's own VMCS is loaded: while it runs a guest of its own, another one is. */
  readonly isLoaded: boolean;
  readonly #bases: Readonly<Record<string, bigint>>;

  private constructor(kernel: LinuxKernel, bases: Readonly<Record<string, bigint>>) {
    this.kernel = kernel;
    this.#bases = bases;
    this.isLoaded = this.u64("vcpu_vmx.loaded_vmcs") === bases.loaded_vmcs;
  }

  /** @returns undefined where the kernel does not describe struct vcpu_vmx */
  static of(kernel: LinuxKernel, { address }: KvmVcpu): VmxView | undefined {
    const vcpu = offsetOf(kernel.types, "vcpu_vmx.vcpu");
    const vmcs01 = offsetOf(kernel.types, "vcpu_vmx.vmcs01");
    if (vcpu === undefined || vmcs01 === undefined) return undefined;
    const vmx = address - BigInt(vcpu);
    return new VmxView(kernel, { kvm_vcpu: address, vcpu_vmx: vmx, loaded_vmcs: vmx + BigInt(vmcs01) });
  }

  /** Virtual address of a member, by the first path that the kernel has. */
  place(...paths: string[]): bigint | undefined {
    for (const path of paths) {
      const base = this.#bases[path.slice(0, path.indexOf("."))];
      const offset = base === undefined ? undefined : offsetOf(this.kernel.types, path);
      if (base !== undefined && offset !== undefined) return base + BigInt(offset);
    }
    return undefined;
  }

  /** A member of 1, 2, 4 or 8 bytes as its type has it. */
  value(...paths: string[]): bigint | undefined {
    for (const path of paths) {
      const at = this.place(path);
      if (at !== undefined) return this.#read(at, this.kernel.types.member(path)?.size ?? 8);
    }
    return undefined;
  }

  u64(...paths: string[]): bigint | undefined {
    const at = this.place(...paths);
    return at === undefined ? undefined : this.kernel.reader.u64(at);
  }

  /** A variable of the kernel or of a module. */
  variable(name: string, size: number): bigint | undefined {
    const at = this.kernel.symbols.addressOf(name);
    return at === undefined ? undefined : this.#read(at, size);
  }

  /** A variable that each processor has. */
  perCpu(name: string, cpu: number, size: number): bigint | undefined {
    const at = this.kernel.symbols.addressOf(name);
    const base = this.perCpuBase(cpu);
    return at === undefined || base === undefined
      ? undefined
      : this.#read(BigInt.asUintN(64, at + base), size);
  }

  /** `__per_cpu_offset[cpu]`, which is also a processor's GS base in the kernel. */
  perCpuBase(cpu: number): bigint | undefined {
    const table = this.kernel.symbols.addressOf("__per_cpu_offset");
    return table === undefined ? undefined : this.kernel.reader.u64(table + BigInt(8 * cpu));
  }

  /** Physical address of what lies at a virtual one. */
  physical(virtual: bigint | undefined): bigint | undefined {
    if (virtual === undefined || virtual === 0n) return undefined;
    const mapping = this.kernel.reader.space.translate(virtual);
    return mapping.mapped ? BigInt(mapping.physical) : undefined;
  }

  /** Whether the register cache has what the VMCS has of a register (`enum kvm_reg`), newer writes apart. */
  isCached(bit: number | bigint | undefined): boolean {
    return this.#has("kvm_vcpu.arch.regs_avail", bit) && !this.isDirty(bit);
  }

  /** Whether the register cache is newer than the VMCS. */
  isDirty(bit: number | bigint | undefined): boolean {
    return this.#has("kvm_vcpu.arch.regs_dirty", bit);
  }

  #has(path: string, bit: number | bigint | undefined): boolean {
    const bits = this.value(path);
    return bits !== undefined && bit !== undefined && ((bits >> BigInt(bit)) & 1n) === 1n;
  }

  #read(at: bigint, size: number): bigint | undefined {
    const { reader } = this.kernel;
    if (size === 8) return reader.u64(at);
    const value = size === 4 ? reader.u32(at) : size === 2 ? reader.u16(at) : reader.u8(at);
    return value === undefined ? undefined : BigInt(value);
  }
}

/** Nothing where the value is not known. */
export const expect = (
  value: bigint | undefined,
  source: string,
  trust: Trust = "written",
  mask?: bigint,
): Expected | undefined => (value === undefined ? undefined : { value, source, trust, mask });
