import { hex } from "../core/text.ts";
import { isStale, type QemuMachine } from "../qemu/machine.ts";
import type { Guest } from "./guest.ts";

/** The guest of a qemu process. */
export function guestFromQemu(machine: QemuMachine): Guest {
  return {
    memory: machine.memory,
    ranges: machine.layout.map(({ start, end, kind, block, blockOffset }) => ({
      start,
      end,
      kind,
      source: block.idstr,
      sourceOffset: blockOffset,
    })),
    vcpus: machine.vcpus.map((vcpu) => ({
      index: vcpu.index,
      state: vcpu.state,
      source: `QEMU CPUX86State at ${hex(vcpu.stateAddress)}`,
      trust: isStale(vcpu, machine.accelerator) ? "may-be-stale" : "current",
      halted: isStale(vcpu, machine.accelerator) ? undefined : vcpu.run?.halted,
    })),
  };
}
