import { hex } from "../core/text.ts";
import type { VmcoreInfo } from "../jobs/inspect.ts";
import { stateParts, vcpuJson } from "./guest.ts";

type Processor = VmcoreInfo["processors"][number];

/** A processor of a dumped machine: `cpu1  in a guest  rip …  cr3 …  EPTP 0x12e2201e`. */
export function processorLine({ index, state, halted, inGuest }: Processor, width: number): string {
  const [mode, ...parts] = stateParts({ state, halted });
  const place = inGuest === undefined ? mode! : "in a guest";
  const eptp = inGuest === undefined ? [] : [`EPTP ${hex(inGuest.eptp)}`];
  return [`cpu${index}`.padEnd(width), place.padEnd(10), ...parts, ...eptp].join("  ");
}

export const processorJson = ({ index, state, source, halted, inGuest }: Processor) => ({
  ...vcpuJson({ index, state, source, halted, trust: "current" }),
  inGuest,
});
