import type { PhysicalMemory } from "../core/memory.ts";
import { spaceOfVmcoreinfo } from "../kernel/kernel-tables.ts";
import type { LinuxImage } from "../kernel/linux.ts";
import { readUtsname } from "../kernel/utsname.ts";
import type { Vmcoreinfo } from "../kernel/vmcoreinfo.ts";
import type { KernelView } from "../vmcore/kernel-view.ts";

/** What the headers of a vmcore say of its kernel. */
export const viewOfKernel = (
  memory: PhysicalMemory,
  linux: LinuxImage | undefined,
  vmcoreinfo: Vmcoreinfo | undefined,
): KernelView => ({
  is32Bit: linux?.architecture === "i386",
  vmcoreinfo: vmcoreinfo && Buffer.from(vmcoreinfo.text, "latin1"),
  utsname: utsnameOf(memory, linux, vmcoreinfo),
  crashTime: vmcoreinfo?.crashTime,
  physBase: linux?.physBase && BigInt(linux.physBase.value),
  pageOffset: linux?.pageOffset?.value,
  image: linux?.text?.value,
});

/** What the kernel itself says; libkdumpfile believes a kdump-compressed dump only with all of it. */
function utsnameOf(
  memory: PhysicalMemory,
  linux: LinuxImage | undefined,
  vmcoreinfo: Vmcoreinfo | undefined,
): string[] {
  const space = vmcoreinfo && spaceOfVmcoreinfo(memory, vmcoreinfo);
  const own = space && readUtsname(memory, space, vmcoreinfo);
  const machine = linux?.architecture === "i386" ? "i686" : "x86_64";
  if (own === undefined) return ["Linux", "", linux?.release?.value ?? "", "", machine, ""];
  return [own.sysname, own.nodename, own.release, own.version, own.machine, own.domainname];
}
