import { bytesText, hex, hex64, plural, printable } from "../core/text.ts";
import type { KernelResult, ListedTask } from "../jobs/kernel.ts";
import type { KernelParts } from "../kernel/open-kernel.ts";
import { signedHex } from "./guest.ts";

/** Running tasks named in a summary. */
const MAX_RUNNING = 8;
/** Seconds since 1970 up to the year 9999. */
const LATEST = 253_402_300_799;

type Row = readonly [label: string, text: string | undefined];

/** A kernel in a dozen lines; what is not known has none. */
export function kernelSummary(result: KernelResult): string[] {
  const { input, image, state } = result;
  const release = printable(image.release?.value ?? "of unknown release");
  const rows: Row[] = [
    ["build-id", image.buildId?.value],
    ["version", state?.version],
    ["host name", state?.nodeName],
    ["command line", state?.commandLine],
    ["address space", addressSpaceText(result)],
    ["time", timeText(result)],
    ["log", result.crash],
    ["panic", panicText(result)],
    ["CPUs", cpusText(result)],
    ["running", runningText(result)],
    ["tainted", state?.taints === undefined ? undefined : state.taints || "no"],
    ["symbols", symbolsText(result)],
    ["types", typesText(result.parts)],
    ["modules", modulesText(result)],
    ["tasks", tasksText(result)],
  ];
  const width = Math.max(...rows.map(([label]) => label.length));
  return [
    `${printable(input.path)}: Linux ${release}, ${image.architecture}`,
    ...rows.flatMap(([label, text]) =>
      text === undefined ? [] : [`  ${label.padEnd(width)}  ${printable(text)}`],
    ),
  ];
}

function addressSpaceText({ image }: KernelResult): string | undefined {
  const { pagingLevels, kaslrOffset, physBase, pageOffset, text } = image;
  const parts: string[] = [];
  if (pagingLevels !== undefined) parts.push(`${pagingLevels.value}-level paging`);
  if (kaslrOffset !== undefined) parts.push(`KASLR +${hex(kaslrOffset.value)}`);
  if (physBase !== undefined) parts.push(`phys_base ${signedHex(physBase.value)}`);
  if (pageOffset !== undefined) parts.push(`page_offset ${hex64(pageOffset.value)}`);
  if (text !== undefined) parts.push(`image ${hex64(text.value.virtual)}, ${bytesText(text.value.size)}`);
  return parts.length === 0 ? undefined : parts.join(", ");
}

/** `crashed 2026-11-21T17:03:08Z, up 0:01:12`. */
function timeText({ crashTime, state, lastLogged }: KernelResult): string | undefined {
  const clock = state?.clock;
  const parts: string[] = [];
  if (crashTime !== undefined) parts.push(`crashed ${dateText(crashTime)}`);
  else if (clock !== undefined) parts.push(`clock ${dateText(clock.time)}`);
  if (clock?.uptime !== undefined) parts.push(`up ${durationText(clock.uptime)}`);
  else if (lastLogged !== undefined) {
    parts.push(`last record of the log after ${durationText(Number(lastLogged / 1_000_000_000n))}`);
  }
  return parts.length === 0 ? undefined : parts.join(", ");
}

const dateText = (seconds: number): string =>
  seconds > LATEST ? String(seconds) : new Date(seconds * 1000).toISOString().replace(".000Z", "Z");

/** `2 days 3:04:05`. */
function durationText(seconds: number): string {
  const days = Math.floor(seconds / 86_400);
  const clock = [Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  const [hours, ...rest] = clock;
  const text = [hours, ...rest.map((part) => String(part).padStart(2, "0"))].join(":");
  return days === 0 ? text : `${plural(days, "day")} ${text}`;
}

function panicText({ state, tasks }: KernelResult): string | undefined {
  const cpu = state?.panicCpu;
  if (cpu === undefined) return undefined;
  const running = state?.running.get(cpu);
  const task = tasks?.tasks.find(({ address }) => address === running);
  return `on CPU ${cpu}${task === undefined ? "" : `, which ran ${taskText(task)}`}`;
}

const taskText = ({ pid, comm }: ListedTask): string => `${comm} (${pid})`;

function cpusText({ state }: KernelResult): string | undefined {
  if (state === undefined) return undefined;
  const { online, present, possible } = state.cpus;
  const parts = (
    [
      [online, "online"],
      [present, "present"],
      [possible, "possible"],
    ] as const
  ).flatMap(([cpus, what]) => (cpus === undefined ? [] : [`${cpus.length} ${what}`]));
  return parts.length === 0 ? undefined : parts.join(", ");
}

/** What processors run but for idle tasks, which no list has. */
function runningText({ state, tasks }: KernelResult): string | undefined {
  if (state === undefined || tasks === undefined || state.running.size === 0) return undefined;
  const byAddress = new Map(tasks.tasks.map((task) => [task.address, task]));
  const busy = [...state.running].flatMap(([cpu, address]) => {
    const task = byAddress.get(address);
    return task === undefined ? [] : [`CPU ${cpu}: ${taskText(task)}`];
  });
  if (busy.length === 0) return "nothing: all CPUs are idle";
  const more = busy.length - MAX_RUNNING;
  return [...busy.slice(0, MAX_RUNNING), ...(more > 0 ? [`and ${more} more`] : [])].join(", ");
}

function symbolsText({ parts }: KernelResult): string | undefined {
  if (parts === undefined) return undefined;
  const { symbols, symbolSource: source } = parts;
  if (symbols === undefined || source === undefined) return "not known";
  const of = symbols.modules.modules.map((module) => symbols.symbolsOf(module)?.symbols.size ?? 0);
  const more = of.reduce((sum, count) => sum + count, 0);
  const modules = more === 0 ? "" : `; ${more} of modules`;
  return `${symbols.kernel.size} ${sourceText(source)}${modules}`;
}

function sourceText(source: NonNullable<KernelParts["symbolSource"]>): string {
  if (source.kind === "vmlinux") return `of ${source.file}, moved by ${hex(source.shift)}`;
  const place = source.source === "VMCOREINFO" ? "found by VMCOREINFO" : "found by a search";
  return `of kallsyms (${source.form}, ${place})`;
}

function typesText(parts: KernelParts | undefined): string | undefined {
  if (parts === undefined) return undefined;
  const [own, ...others] = parts.types?.all ?? [];
  if (own === undefined) return "not known";
  const where = parts.typeSource === "file" ? ", of a file" : "";
  const modules = others.length === 0 ? "" : `; ${plural(others.length, "module")}`;
  return `${own.end - own.start} in ${bytesText(own.size)} of BTF${where}${modules}`;
}

function modulesText({ modules }: KernelResult): string | undefined {
  if (modules === undefined) return undefined;
  const size = modules.modules
    .flatMap(({ regions }) => regions)
    .reduce((sum, region) => sum + region.size, 0);
  return `${modules.modules.length}${size === 0 ? "" : `, ${bytesText(size)}`}`;
}

/** `93, of which 12 processes, 4 further threads, 77 of the kernel: 2 R, 46 S, 45 I`. */
function tasksText({ tasks }: KernelResult): string | undefined {
  if (tasks === undefined) return undefined;
  const kinds = { process: 0, thread: 0, kernel: 0 };
  for (const { kind } of tasks.tasks) kinds[kind]++;
  const states = [...stateCounts(tasks.tasks)].map(([state, count]) => `${count} ${state}`);
  const of = `${plural(kinds.process, "process", "processes")}, ${plural(kinds.thread, "further thread")}, ${kinds.kernel} of the kernel`;
  return `${tasks.tasks.length}: ${of}; ${states.join(", ")}`;
}

/** How many tasks are in each state, the most frequent first; "?" of those whose state is not known. */
export function stateCounts(tasks: readonly ListedTask[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { state = "?" } of tasks) counts.set(state, (counts.get(state) ?? 0) + 1);
  return new Map([...counts].sort(([a, first], [b, second]) => second - first || (a < b ? -1 : 1)));
}
