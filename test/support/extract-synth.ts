import { openProcessCore } from "../../src/dump/process-core.ts";
import { guestFromQemu } from "../../src/guest/from-qemu.ts";
import { describeLinux, type LinuxImage } from "../../src/kernel/linux.ts";
import { VmcoreinfoScanner } from "../../src/kernel/vmcoreinfo-scan.ts";
import { findMachine, type MachineOptions } from "../../src/qemu/machine.ts";
import { planVmcore, type VmcoreFormat } from "../../src/vmcore/plan.ts";
import { writeVmcore } from "../../src/vmcore/write.ts";
import { MemoryOutput, MemorySource, quiet } from "./memory-io.ts";

/** The whole of `extract` without a file system: core in, vmcore out. */
export async function extractInMemory(
  core: Buffer,
  options: MachineOptions = {},
  format: VmcoreFormat = "elf",
) {
  const image = openProcessCore(new MemorySource(core, "core"));
  const machine = await findMachine(image, options);
  const guest = guestFromQemu(machine);
  const plan = await planVmcore(guest, format);
  const output = new MemoryOutput();
  const states = guest.vcpus.map(({ state }) => state);
  const scanner = new VmcoreinfoScanner(guest.memory, { states });
  let linux: LinuxImage | undefined;
  const { ranges } = await writeVmcore({
    guest,
    plan,
    output,
    context: quiet,
    observe: (bytes, address) => {
      scanner.scan(bytes, address);
    },
    kernel: async () => {
      const { best } = scanner.result;
      linux = await describeLinux(guest.memory, { states, vmcoreinfo: best?.vmcoreinfo });
      const text = best && Buffer.from(best.vmcoreinfo.text, "latin1");
      return { vmcoreinfo: text, pageOffset: linux?.pageOffset?.value, image: linux?.text?.value };
    },
  });
  return { image, machine, guest, plan, ranges, linux, bytes: output.bytes, finished: output.finished };
}
