import type { KernelResult, ListedTask } from "../jobs/kernel.ts";
import type { AddressFacts, TypeFacts } from "../kernel/lookup.ts";
import type { KernelModule } from "../kernel/modules.ts";
import type { KernelParts } from "../kernel/open-kernel.ts";
import { kernelJson as imageJson } from "./guest.ts";
import { stateCounts } from "./kernel-summary.ts";

/** `result` of guestcore/kernel/1. */
export function kernelJson(result: KernelResult) {
  const { image, parts, state, crash, crashTime, lastLogged, modules, tasks } = result;
  return {
    linux: imageJson(image, undefined).linux,
    machine: {
      nodeName: state?.nodeName ?? null,
      version: state?.version ?? null,
      commandLine: state?.commandLine ?? null,
      taints: state?.taints ?? null,
      crashTime: crashTime ?? null,
      time: state?.clock?.time ?? null,
      uptime: state?.clock?.uptime ?? null,
      lastLogged: lastLogged ?? null,
      crash: crash ?? null,
      panicCpu: state?.panicCpu ?? null,
      cpus: {
        online: state?.cpus.online ?? null,
        present: state?.cpus.present ?? null,
        possible: state?.cpus.possible ?? null,
      },
      running: runningJson(result),
    },
    symbols: symbolsJson(parts),
    types: typesJson(parts),
    modules:
      modules === undefined
        ? null
        : { complete: modules.complete, reason: modules.reason, list: modules.modules.map(moduleJson) },
    tasks:
      tasks === undefined
        ? null
        : {
            complete: tasks.complete,
            states: Object.fromEntries(stateCounts(tasks.tasks)),
            list: tasks.tasks.map(taskJson),
          },
    found: {
      symbols: result.symbols.map(({ query, found }) => ({ query, matches: found.map(matchJson) })),
      types: result.types.map(({ query, found }) => ({ query, match: found ? typeJson(found) : null })),
    },
  };
}

/** By processor; the idle task has no pid of its own. */
function runningJson({ state, tasks }: KernelResult) {
  const byAddress = new Map(tasks?.tasks.map((task) => [task.address, task]));
  return [...(state?.running ?? [])].map(([cpu, task]) => {
    const { pid = null, comm = null } = byAddress.get(task) ?? {};
    return { cpu, task, pid, comm };
  });
}

function symbolsJson(parts: KernelParts | undefined) {
  const { symbols, symbolSource: source, missing } = parts ?? {};
  return {
    count: symbols?.kernel.size ?? null,
    source: source?.kind ?? null,
    form: source?.kind === "kallsyms" ? source.form : null,
    foundBy: source?.kind === "kallsyms" ? source.source : null,
    file: source?.kind === "vmlinux" ? source.file : null,
    shift: source?.kind === "vmlinux" ? BigInt.asUintN(64, source.shift) : null,
    missing: missing?.symbols ?? null,
  };
}

function typesJson(parts: KernelParts | undefined) {
  return {
    source: parts?.typeSource ?? null,
    btf: (parts?.types?.all ?? []).map(({ name, size, start, end }) => ({ name, size, count: end - start })),
    missing: parts?.missing.types ?? null,
    problems: parts?.problems ?? [],
  };
}

const moduleJson = ({ name, address, state, taints, regions }: KernelModule) => ({
  name,
  address,
  state: state ?? null,
  taints: taints ?? null,
  size: regions.reduce((sum, region) => sum + region.size, 0),
  regions: regions.map(({ base, size }) => ({ base, size })),
});

const taskJson = ({ address, pid, tgid, parent, state, kind, cpu, running, comm, mm }: ListedTask) => ({
  pid,
  tgid,
  parent: parent ?? null,
  comm,
  kind,
  state: state ?? null,
  cpu: cpu ?? null,
  running: running ?? null,
  address,
  mm: mm ?? null,
});

const matchJson = ({ address, symbol, offset, physical, perCpu }: AddressFacts) => ({
  address,
  name: symbol?.name ?? null,
  type: symbol?.type ?? null,
  module: symbol?.module ?? null,
  offset,
  physical: physical ?? null,
  perCpu,
});

const typeJson = (found: TypeFacts) =>
  found.kind === "type"
    ? { kind: found.kind, size: found.size ?? null, text: found.lines }
    : {
        kind: found.kind,
        declaration: found.declaration,
        offset: found.member.offset,
        size: found.member.size,
        count: found.member.count,
        stride: found.member.stride,
        bits: found.member.bits ?? null,
      };
