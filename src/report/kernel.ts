import { hex, hex64, hexAddress, plural, printable } from "../core/text.ts";
import type { KernelResult, ListedTask } from "../jobs/kernel.ts";
import type { AddressFacts, TypeFacts } from "../kernel/lookup.ts";
import type { KernelModule } from "../kernel/modules.ts";
import { alignedColumns } from "./columns.ts";
import { kernelSummary } from "./kernel-summary.ts";

/** What of a kernel is shown; nothing of it: the summary. */
export interface KernelFlags {
  readonly modules: boolean;
  readonly tasks: boolean;
  readonly symbol: readonly string[];
  readonly type: readonly string[];
}

/** A kernel for people: what they asked for, else what it is. */
export function kernelText(result: KernelResult, flags: KernelFlags): string {
  const { modules, tasks, symbols, types } = result;
  const isAsked = flags.modules || flags.tasks || symbols.length > 0 || types.length > 0;
  const lines = isAsked
    ? [
        ...symbols.flatMap(({ found }) => found.map(symbolLine)),
        ...types.flatMap(({ query, found }) => (found === undefined ? [] : typeLines(query, found))),
        ...(flags.modules ? moduleLines(modules?.modules ?? []) : []),
        ...(flags.tasks ? taskLines(tasks?.tasks ?? []) : []),
      ]
    : kernelSummary(result);
  return lines.map((line) => `${line}\n`).join("");
}

/** `0xffffffffc0a12350 t kvm_vcpu_kick+0x10 [kvm] at 0x000012345350`. */
function symbolLine({ address, symbol, offset, physical, perCpu }: AddressFacts): string {
  const parts = [hex64(address), symbol?.type ?? "-"];
  const distance = offset === 0n ? "" : `+${hex(offset)}`;
  parts.push(symbol === undefined ? "no symbol" : `${printable(symbol.name)}${distance}`);
  if (symbol?.module !== undefined) parts.push(`[${printable(symbol.module)}]`);
  if (perCpu) parts.push("per-CPU offset or absolute");
  else parts.push(physical === undefined ? "not mapped" : `at ${hexAddress(physical)}`);
  return parts.join(" ");
}

function typeLines(query: string, found: TypeFacts): string[] {
  if (found.kind === "type") return found.lines.map(printable);
  const { offset, size, count, stride, bits } = found.member;
  const array = count > 1 ? `, ${count} of ${stride}` : "";
  const field = bits === undefined ? "" : `, ${plural(bits.width, "bit")} from bit ${bits.shift} on`;
  const comment = `offset ${offset}, size ${size}${array}${field}`;
  return [`${printable(query)}: ${printable(found.declaration)}; /* ${comment} */`];
}

const totalSize = ({ regions }: KernelModule): number => regions.reduce((sum, { size }) => sum + size, 0);

function moduleLines(modules: readonly KernelModule[]): string[] {
  const rows = modules.map((module) => {
    const [first] = module.regions;
    return [
      printable(module.name),
      first === undefined ? "?" : String(totalSize(module)),
      first === undefined ? "?" : hex64(first.base),
      module.state ?? "?",
      module.taints ?? "",
    ];
  });
  return alignedColumns([["module", "size", "base", "state", "taints"], ...rows]);
}

function taskLines(tasks: readonly ListedTask[]): string[] {
  const rows = tasks.map(({ pid, tgid, parent, state, cpu, running, kind, comm }) => [
    String(pid),
    String(tgid),
    String(parent ?? "?"),
    state ?? "?",
    cpu === undefined ? "?" : `${cpu}${running ? "*" : ""}`,
    kind === "kernel" ? `[${printable(comm)}]` : printable(comm),
  ]);
  return alignedColumns([["pid", "tgid", "ppid", "state", "cpu", "name"], ...rows]);
}
