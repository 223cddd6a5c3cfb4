import type { ByteSource } from "../core/memory.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import {
  ENCODED_REGISTERS,
  type GeneralRegister,
  type Segment,
  type TableRegister,
  type X86State,
} from "../x86/state.ts";
import type { DumpedCpu } from "./format.ts";
import type { SavedDevice } from "./migration-sections.ts";
import { DeviceState } from "./migration-state.ts";

/** HF_GUEST_MASK (QEMU `target/i386/cpu.h`): the processor is in a guest of its own. */
const GUEST_MODE = 1n << 21n;

/** The order of env.segs (QEMU `target/i386/cpu.h` R_ES …). */
const SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs"] as const;

/** The processors of a stream: its sections "cpu" and "cpu_common" (QEMU `target/i386/machine.c`, `system/cpus.c`). */
export function cpusOf(
  source: ByteSource,
  devices: readonly SavedDevice[],
): { readonly cpus: readonly DumpedCpu[]; readonly warnings: readonly Warning[] } {
  const halted = new Map<number, boolean>();
  for (const device of devices) {
    const value = device.kind === "cpu_common" ? new DeviceState(source, device).number("halted") : undefined;
    if (value !== undefined) halted.set(device.instance, value !== 0n);
  }
  const cpus: DumpedCpu[] = [];
  const unread: number[] = [];
  const nested: number[] = [];
  for (const device of devices.filter(({ kind }) => kind === "cpu")) {
    const saved = new DeviceState(source, device);
    const state = stateOf(saved);
    const index = device.instance;
    if (state === undefined) unread.push(index);
    else {
      const at = `cpu section at offset 0x${device.offset.toString(16)}`;
      cpus.push({ index, state, source: at, halted: halted.get(index) });
      if (((saved.number("env.hflags") ?? 0n) & GUEST_MODE) !== 0n) nested.push(index);
    }
  }
  cpus.sort((a, b) => a.index - b.index);
  return { cpus, warnings: [...unreadWarning(unread), ...nestedWarning(nested)] };
}

const unreadWarning = (unread: readonly number[]): Warning[] =>
  unread.length === 0
    ? []
    : [
        {
          code: "DMP032",
          message: `the registers of ${plural(unread.length, "vCPU")} are not in the form that they should be in: ${unread.slice(0, 8).join(", ")}`,
        },
      ];

const nestedWarning = (nested: readonly number[]): Warning[] =>
  nested.length === 0
    ? []
    : [
        {
          code: "DMP033",
          message: `vCPU ${nested.slice(0, 8).join(", ")} was running a guest of its own: the registers are that guest's`,
        },
      ];

/** Undefined unless every register is there that all versions of QEMU save. */
function stateOf(saved: DeviceState): X86State | undefined {
  const rip = saved.number("env.eip");
  const rflags = saved.number("env.eflags");
  const [cr0, cr2, cr3, cr4] = [0, 2, 3, 4].map((n) => saved.number(`env.cr[${n}]`));
  const segs = SEGMENTS.map((name, i) => [name, segmentAt(saved, "env.segs", i)] as const);
  const ldt = segmentAt(saved, "env.ldt");
  const tr = segmentAt(saved, "env.tr");
  const gdt = tableAt(saved, "env.gdt");
  const idt = tableAt(saved, "env.idt");
  if (rip === undefined || rflags === undefined || cr0 === undefined || cr3 === undefined) return undefined;
  if (cr4 === undefined || gdt === undefined || idt === undefined) return undefined;
  if (ldt === undefined || tr === undefined || segs.some(([, segment]) => segment === undefined))
    return undefined;
  const general = ENCODED_REGISTERS.map((name, i) => [name, saved.number("env.regs", i)]);
  return {
    ...(Object.fromEntries(general) as Record<GeneralRegister, bigint | undefined>),
    rip,
    rflags,
    segments: { ...(Object.fromEntries(segs) as Record<(typeof SEGMENTS)[number], Segment>), ldt, tr },
    gdt,
    idt,
    cr0,
    cr2,
    cr3,
    cr4,
    efer: saved.number("env.efer"),
    kernelGsBase: saved.number("env.kernelgsbase"),
  };
}

function segmentAt(saved: DeviceState, name: string, element = 0): Segment | undefined {
  const [selector, base, limit, flags] = ["selector", "base", "limit", "flags"].map((member) =>
    saved.number(`${name}.${member}`, element),
  );
  if (selector === undefined || base === undefined || limit === undefined || flags === undefined)
    return undefined;
  return { selector: Number(selector), base, limit: Number(limit), flags: Number(flags) };
}

function tableAt(saved: DeviceState, name: string): TableRegister | undefined {
  const segment = segmentAt(saved, name);
  return segment && { base: segment.base, limit: segment.limit };
}
