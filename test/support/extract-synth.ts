import { openProcessCore } from "../../src/dump/process-core.ts";
import { guestFromQemu } from "../../src/guest/from-qemu.ts";
import { findMachine, type MachineOptions } from "../../src/qemu/machine.ts";
import { planVmcore, type VmcoreFormat } from "../../src/vmcore/plan.ts";
import { type RangeCoverage, writeVmcore } from "../../src/vmcore/write.ts";
import { MemoryOutput, MemorySource, quiet } from "./memory-io.ts";

/** The whole of `extract` without a file system: core in, vmcore out. */
export async function extractInMemory(
  core: Buffer,
  options: MachineOptions = {},
  format: VmcoreFormat = "elf",
) {
  const image = openProcessCore(new MemorySource(core, "core"));
  const machine = findMachine(image, options);
  const guest = guestFromQemu(machine);
  const plan = planVmcore(guest, format);
  const output = new MemoryOutput();
  const ranges: RangeCoverage[] = await writeVmcore({
    guest,
    plan,
    output,
    context: quiet,
    kernel: () => ({ vmcoreinfo: undefined, pageOffset: undefined, image: undefined }),
  });
  return { image, machine, guest, plan, ranges, bytes: output.bytes, finished: output.finished };
}
