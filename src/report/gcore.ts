import { bytesText, plural, printable, shellWord } from "../core/text.ts";
import { textOf } from "../elf/text.ts";
import type { GcoreResult } from "../jobs/gcore.ts";
import { nameOf } from "../kvm/owner.ts";
import { coverageText } from "./extract.ts";
import { vcpuNotesJson, vcpuNotesText } from "./vmcsinfo.ts";

/** The summary a person reads: which process, what of it is there, what was written. */
export function gcoreText(result: GcoreResult, seconds: number): string {
  const { input, process: chosen, notes, mappings, coverage } = result;
  const [first] = chosen.threads;
  const known = notes.threads.filter(({ registers }) => registers).length;
  const parts = [
    `${bytesOf(first.comm)}, pid ${chosen.pid}`,
    ...chosen.guests.map(({ id }) => `guest ${id}${guestName(result) ? ` (${guestName(result)})` : ""}`),
    plural(chosen.threads.length, "thread"),
    plural(mappings.length, "mapping"),
  ];
  const files = new Set(notes.files.map(({ path }) => path)).size;
  const lines = [
    printable(`${input.path}: process ${parts.join(", ")}`),
    `  ${coverageText(coverage) || "nothing of it"}`,
    `  registers of ${plural(known, "thread")}, ${plural(notes.files.length, "mapping")} of ${plural(files, "file")}`,
    ...(notes.regions.length === 0 ? [] : [`  ${vcpuNotesText(notes.regions)}`]),
    ...closing(result, seconds),
  ];
  return `${lines.join("\n")}\n`;
}

const bytesOf = (text: string): string => textOf(Buffer.from(text, "latin1"));

const guestName = ({ process: chosen }: GcoreResult): string | undefined => {
  const owner = chosen.guests[0]?.vm?.owner;
  const name = owner === undefined ? undefined : nameOf(owner);
  return name === undefined ? undefined : bytesOf(name);
};

function closing(result: GcoreResult, seconds: number): string[] {
  const { output, coverage } = result;
  const gaps = coverage.missing + coverage.excluded;
  const missing = gaps === 0 ? "" : `; ${bytesText(gaps)} of the process are missing`;
  const sizes = `${bytesText(output.size)} long, ${bytesText(output.bytes)} to store`;
  if (output.path === undefined) return [`dry run, nothing written: ${sizes}${missing}`];
  const name = output.path === "-" ? "standard output" : printable(output.path);
  const [first, ...others] = nextCommands(result);
  return [
    `wrote ${name}: ${sizes}, in ${seconds.toFixed(1)} s${missing}`,
    ...(first === undefined ? [] : [`next: ${first}`, ...others.map((command) => `      ${command}`)]),
  ];
}

/** What goes on with the core; nothing of standard output. */
function nextCommands({ input, output: { path }, process: chosen, notes }: GcoreResult): string[] {
  if (path === undefined || path === "-") return [];
  const core = shellWord(path);
  const executable = notes.argv[0] ?? "";
  const debug = executable.startsWith("/")
    ? `gdb ${shellWord(bytesOf(executable))} ${core}`
    : `gdb -c ${core}`;
  const [guest] = chosen.guests;
  if (guest === undefined) return [debug];
  // Of other VMMs only the host's kernel tells where the guest is.
  const source = /qemu/.test(executable) ? core : `${shellWord(input.path)} --guest ${guest.id}`;
  return [`guestcore extract ${source} -o guest.vmcore`, debug];
}

/** `result` of guestcore/gcore/1. */
export const gcoreJson = (result: GcoreResult) => {
  const { process: chosen, notes, mappings, coverage, memory, missing, output } = result;
  return {
    process: {
      pid: chosen.pid,
      comm: bytesOf(chosen.threads[0].comm),
      commandLine: notes.argv.map(bytesOf),
      guests: chosen.guests.map(({ id }) => id),
      guestName: guestName(result),
      threads: notes.threads.map(({ task, registers, floatingPoint, running }) => ({
        pid: task.pid,
        comm: bytesOf(task.comm),
        state: task.state,
        registers,
        floatingPoint,
        running,
      })),
      files: notes.files.map(({ start, end, page, path }) => ({
        start,
        end,
        page: Number(page),
        path: bytesOf(path),
      })),
    },
    mappings: mappings.map(({ start, end, flags, contents, coverage: own }) => ({
      ...addresses({ start, end }),
      flags,
      contents,
      coverage: own,
    })),
    coverage,
    memory,
    missing: missing.map(({ start, end, state }) => ({ ...addresses({ start, end }), state })),
    auxv: notes.auxv,
    vcpuNotes: vcpuNotesJson(notes.regions),
    output,
    next: nextCommands(result),
  };
};

/** Virtual addresses are written as such. */
const addresses = ({ start, end }: { readonly start: number; readonly end: number }) => ({
  start: BigInt(start),
  end: BigInt(end),
});
