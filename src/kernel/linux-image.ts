import type { Warning } from "../core/warnings.ts";
import type { KernelImage } from "./kernel-image.ts";
import type { Vmcoreinfo } from "./vmcoreinfo.ts";

/** Who says so: the kernel itself, its own page tables, a vCPU's, or the banner in its rodata. */
export type FactSource = "VMCOREINFO" | "page tables" | "linux_banner" | `CR3 of vCPU ${number}`;

/** A value and where it comes from. */
export interface Fact<T> {
  readonly value: T;
  readonly source: FactSource;
}

/** The Linux kernel of a machine, as far as memory and registers tell; what they do not tell is undefined. */
export interface LinuxImage {
  readonly architecture: "x86_64" | "i386";
  /** `uname -r`. */
  readonly release: Fact<string> | undefined;
  /** GNU build-id of vmlinux, hex. */
  readonly buildId: Fact<string> | undefined;
  /** 5 or 4 in long mode, 3 with PAE, else 2. */
  readonly pagingLevels: Fact<number> | undefined;
  /** Physical address of the kernel's page-table root. */
  readonly root: Fact<number> | undefined;
  /** How far KASLR moved the kernel's virtual addresses. */
  readonly kaslrOffset: Fact<bigint> | undefined;
  /** x86_64: physical − (virtual − 0xffffffff80000000) within the image; may be negative. */
  readonly physBase: Fact<number> | undefined;
  /** PAGE_OFFSET: virtual address of physical 0 in the direct map. */
  readonly pageOffset: Fact<bigint> | undefined;
  /** x86_64: the mapping of the kernel's image; on i386 it lies in the direct map. */
  readonly text: Fact<KernelImage> | undefined;
  readonly warnings: readonly Warning[];
}

/** A value with its source, when there is a value. */
export const fact = <T>(value: T | undefined, source: FactSource): Fact<T> | undefined =>
  value === undefined ? undefined : { value, source };

/** What VMCOREINFO alone says, for either architecture. */
export const vmcoreinfoFacts = (vmcoreinfo: Vmcoreinfo | undefined) => ({
  release: fact(vmcoreinfo?.osrelease, "VMCOREINFO"),
  buildId: fact(vmcoreinfo?.buildId, "VMCOREINFO"),
  kaslrOffset: fact(vmcoreinfo?.kernelOffset, "VMCOREINFO"),
});
