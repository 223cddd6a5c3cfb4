import { totalSize } from "../core/ranges.ts";
import { bytesText, hex, hex64, hexAddress, plural, printable, shellWord } from "../core/text.ts";
import {
  EM_X86_64,
  machineName,
  NT_AUXV,
  NT_FILE,
  NT_PRPSINFO,
  NT_PRSTATUS,
  NT_SIGINFO,
  PT_LOAD,
  PT_NOTE,
  programTypeName,
  typeName,
} from "../elf/constants.ts";
import { isPossible } from "../elf/header.ts";
import type { Note } from "../elf/notes.ts";
import type { ElfInfo, InspectResult, ProcessInfo, QemuInfo, VmcoreInfo } from "../jobs/inspect.ts";
import {
  kernelDetail,
  kernelJson,
  kernelLine,
  rangeLine,
  sourceWidthOf,
  vcpuCount,
  vcpuJson,
  vcpuLine,
} from "./guest.ts";
import { onwardCommand, openingCommands, symbolsHint } from "./next.ts";
import { processorJson, processorLine } from "./processors.ts";

/** One line like file(1), then what is known, then the exact next command; `words` say how the dump was to be read. */
export function infoText(result: InspectResult, allSegments: boolean, words: readonly string[] = []): string {
  const { input, elf, process, vmcore } = result;
  const path = printable(input.path);
  const lines = [`${path}: ${phrase(result)}`, field("size", sizeText(result))];
  if (elf !== undefined) lines.push(...elfLines(elf, allSegments));
  if (process !== undefined) lines.push(...processLines(process));
  if (vmcore !== undefined) lines.push(...vmcoreLines(vmcore));
  lines.push(...factLines(result));
  const [first, ...others] = nextCommands(result, words);
  if (first !== undefined) lines.push(`next: ${first}`, ...others.map((command) => `      ${command}`));
  return `${lines.join("\n")}\n`;
}

const LABEL = 10;
const field = (label: string, text: string): string => `  ${label.padEnd(LABEL)} ${text}`;

function phrase({ identification, elf, process, vmcore }: InspectResult): string {
  if (elf === undefined) return identification.phrase;
  const { header } = elf.elf;
  const kind = `ELF ${header.bits}-bit ${header.littleEndian ? "" : "big-endian "}${machineName(header.machine)}`;
  if (process !== undefined)
    return `${kind} core of ${processName(process)}, ${plural(process.core.threadCount, "thread")}`;
  if (vmcore === undefined) return `${kind} ${typeName(header.type)}`;
  const release = vmcore.vmcoreinfo?.osrelease;
  const kernel = release === undefined ? "" : ` of Linux ${printable(release)}`;
  return `${kind} vmcore${kernel}, ${plural(vmcore.cpus.length, "CPU")}, ${bytesText(totalSize(vmcore.ranges))} of memory`;
}

function processName({ executable, prpsinfo }: ProcessInfo): string {
  const name = printable(executable?.path ?? prpsinfo?.fname ?? "an unknown program");
  return executable?.buildId === undefined ? name : `${name} (build-id ${executable.buildId})`;
}

function sizeText({ input, elf }: InspectResult): string {
  const { size, sizeOnDisk, unpacked } = input;
  const parts =
    unpacked === undefined
      ? [bytesText(size)]
      : [`${bytesText(size)} of ${unpacked.compression}`, `${bytesText(unpacked.size)} unpacked`];
  if (sizeOnDisk < (unpacked?.size ?? size)) parts.push(`${bytesText(sizeOnDisk)} of it not holes`);
  if (elf !== undefined && elf.kind !== "other") {
    const damaged = !elf.elf.programs.every(isPossible);
    if (damaged) parts.push("DAMAGED: segments claim what no file holds");
    else parts.push(elf.lost === 0 ? "whole" : `TRUNCATED: ${bytesText(elf.lost)} are missing at the end`);
  }
  return parts.join(", ");
}

function elfLines({ elf, notes }: ElfInfo, all: boolean): string[] {
  const loads = elf.programs.filter((program) => program.type === PT_LOAD && isPossible(program));
  const sum = (key: "filesz" | "memsz") => bytesText(loads.reduce((total, load) => total + load[key], 0));
  const noteSegments = elf.programs.filter(({ type }) => type === PT_NOTE).length;
  const lines = [
    field(
      "segments",
      `${loads.length} of memory (${sum("filesz")} in the file of ${sum("memsz")}), ${noteSegments} of notes`,
    ),
  ];
  if (notes.length > 0) lines.push(field("notes", noteSummary(notes)));
  if (!all) return lines;
  lines.push(
    "  Type      Offset          VirtAddr            PhysAddr        FileSiz         MemSiz          Flg",
  );
  for (const { type, offset, vaddr, paddr, filesz, memsz, flags } of elf.programs) {
    const letters = ["R", "W", "E"].map((letter, i) => ((flags >> (2 - i)) & 1 ? letter : " ")).join("");
    const numbers = [
      hexAddress(offset),
      hex64(vaddr),
      hexAddress(paddr),
      hexAddress(filesz),
      hexAddress(memsz),
    ];
    lines.push(`  ${programTypeName(type).padEnd(8)}  ${numbers.join("  ")}  ${letters}`.trimEnd());
  }
  return lines;
}

const CORE_NOTES: Readonly<Record<number, string>> = {
  [NT_PRSTATUS]: "PRSTATUS",
  2: "FPREGSET",
  [NT_PRPSINFO]: "PRPSINFO",
  [NT_AUXV]: "AUXV",
  [NT_SIGINFO]: "SIGINFO",
  [NT_FILE]: "FILE",
};

/** `CORE PRSTATUS ×7, CORE AUXV, QEMU ×2, VMCOREINFO`. */
function noteSummary(notes: readonly Note[]): string {
  const counts = new Map<string, number>();
  for (const { name, type } of notes) {
    const known = name === "CORE" ? CORE_NOTES[type] : type === 0 ? "" : undefined;
    const label = printable(`${name} ${known ?? hex(type)}`.trim());
    counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  return [...counts].map(([label, count]) => (count === 1 ? label : `${label} ×${count}`)).join(", ");
}

function processLines(process: ProcessInfo): string[] {
  const { qemu, problem, prpsinfo } = process;
  const command = qemu?.machine.commandLine?.join(" ") ?? prpsinfo?.psargs;
  const lines = command === undefined || command === "" ? [] : [field("command", printable(command))];
  if (qemu !== undefined) lines.push(...guestLines(qemu));
  else if (problem !== undefined && isAboutQemu(process)) {
    lines.push(field("guest", printable(problem.message)));
    if (problem.hint !== undefined) lines.push(field("", printable(problem.hint)));
  }
  return lines;
}

/** Of any other program that it is no QEMU goes without saying. */
const isAboutQemu = ({ problem, executable, prpsinfo }: ProcessInfo): boolean =>
  problem?.code === "unavailable" || /qemu|kvm/.test(executable?.path ?? prpsinfo?.fname ?? "");

function guestLines({ machine, guest, linux, search }: QemuInfo): string[] {
  const type = machine.machineType?.replace(/-machine$/, "") ?? "unknown machine";
  const size = bytesText(totalSize(guest.ranges));
  const accelerator = machine.accelerator?.toUpperCase() ?? "unknown accelerator";
  const sourceWidth = sourceWidthOf(guest.ranges);
  const width = `vcpu${guest.vcpus.length}`.length;
  const detail = linux === undefined ? "" : kernelDetail(linux);
  return [
    field("guest", [printable(type), accelerator, vcpuCount(guest.vcpus.length), size].join(", ")),
    ...guest.ranges.map((range) => `    ${rangeLine(range, sourceWidth, range.kind)}`),
    ...guest.vcpus.map((vcpu) => `    ${vcpuLine(vcpu, width)}`),
    field(
      "kernel",
      search === undefined && linux === undefined
        ? "not looked for in this much memory"
        : kernelLine(linux, search),
    ),
    ...(detail === "" ? [] : [field("", detail)]),
  ];
}

function vmcoreLines(vmcore: VmcoreInfo): string[] {
  const { ranges, cpus, processors, linux, parts } = vmcore;
  const lines = [
    ...(parts.length === 0 ? [] : [field("with", parts.map(printable).join(", "))]),
    field("memory", `${bytesText(totalSize(ranges))} in ${plural(ranges.length, "range")}`),
    ...ranges
      .slice(0, MAX_RANGES)
      .map(({ start, end }) => `    ${hexAddress(start)}-${hexAddress(end)}  ${bytesText(end - start)}`),
  ];
  if (ranges.length > MAX_RANGES) lines.push(`    and ${ranges.length - MAX_RANGES} more`);
  for (const [i, { registers }] of cpus.slice(0, MAX_RANGES).entries()) {
    lines.push(`    cpu${i}  rip ${hex64(registers.rip).slice(2)}  rsp ${hex64(registers.rsp).slice(2)}`);
  }
  const width = `cpu${processors.length}`.length;
  for (const cpu of processors.slice(0, MAX_RANGES)) lines.push(`    ${processorLine(cpu, width)}`);
  const others = Math.max(cpus.length, processors.length) - MAX_RANGES;
  if (others > 0) lines.push(`    and ${others} more`);
  lines.push(field("kernel", vmcoreKernel(vmcore)));
  const detail = linux === undefined ? "" : kernelDetail(linux);
  return detail === "" ? lines : [...lines, field("", detail)];
}

const MAX_RANGES = 16;

function vmcoreKernel({ machine, vmcoreinfo, linux, search, hasNote }: VmcoreInfo): string {
  if (linux !== undefined) {
    const line = kernelLine(linux, search);
    return hasNote ? line : `${line} (in memory, not as a note)`;
  }
  if (machine === EM_X86_64) return "no VMCOREINFO, neither as a note nor in memory";
  const release = vmcoreinfo?.osrelease;
  const kernel = release === undefined ? "no VMCOREINFO note" : `Linux ${printable(release)}`;
  return `${kernel}; only the kernels of x86-64 machines are looked into`;
}

/** What the header of another format says: `headerVersion` reads "header version". */
function factLines({ elf, identification }: InspectResult): string[] {
  if (elf !== undefined) return [];
  const facts = Object.entries(identification.facts).map(([key, value]) => ({
    label: key.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`),
    value: printable(String(value)),
  }));
  const width = Math.max(LABEL, ...facts.map(({ label }) => label.length));
  return facts.map(({ label, value }) => `  ${label.padEnd(width)} ${value}`);
}

function nextCommands(
  { input, identification, elf, process, vmcore }: InspectResult,
  words: readonly string[],
): string[] {
  // guestcore alone reads a compressed file as it is, and nothing standard input once more.
  const { saving } = input;
  const unpacking = input.unpacked?.unpacking ?? saving;
  if (process?.qemu !== undefined) {
    return [onwardCommand("extract", input, ["-o", shellWord(`${unpacking?.name ?? input.path}.vmcore`)])];
  }
  if (process?.problem?.hint !== undefined && process.problem.code === "unavailable") return [];
  // A dump that kdump made is of a machine, which may have been a host of others.
  const mayBeHost =
    vmcore?.vmcoreinfo?.get("CRASHTIME") !== undefined ||
    vmcore?.processors.some(({ inGuest }) => inGuest !== undefined);
  // Behind commands that saved it.
  const saved = { path: saving?.name ?? input.path };
  const host = mayBeHost === true ? [onwardCommand("guests", saved, words)] : [];
  if (elf === undefined) {
    // What the user says of a raw image is better than what it looks like.
    const isMapped = words.includes("--map");
    return [
      isMapped ? onwardCommand("convert", input, ["vmcore", ...words]) : identification.advice,
      ...host,
    ];
  }
  const unpack = unpacking === undefined ? [] : [unpacking.command];
  const path = unpacking?.name ?? input.path;
  if (process !== undefined) {
    return [...unpack, `gdb ${shellWord(process.executable?.path ?? "PROGRAM")} ${shellWord(path)}`];
  }
  if (vmcore === undefined) return [...unpack, `readelf -a ${shellWord(path)}`];
  const symbols = symbolsHint(vmcore.linux);
  const commands = openingCommands(path, vmcore.linux, {
    note: vmcore.hasNote,
    kernelAddresses: true,
    headers: elf.elf.programs.length,
  });
  return [...unpack, ...commands, ...host, ...(symbols === undefined ? [] : [`(${symbols})`])];
}

/** `result` of guestcore/info/1. */
export function infoJson(result: InspectResult, words: readonly string[] = []) {
  const { input, identification, elf, process, vmcore } = result;
  return {
    format: identification.format,
    phrase: phrase(result),
    size: input.size,
    sizeOnDisk: input.sizeOnDisk,
    unpacked: unpackedJson(input.unpacked),
    facts: elf === undefined ? identification.facts : {},
    elf: elf === undefined ? null : elfJson(elf),
    process: process === undefined ? null : processJson(process),
    vmcore: vmcore === undefined ? null : vmcoreJson(vmcore),
    next: nextCommands(result, words),
  };
}

const unpackedJson = (unpacked: InspectResult["input"]["unpacked"]) =>
  unpacked === undefined
    ? undefined
    : { compression: unpacked.compression, size: unpacked.size, whole: unpacked.whole };

const elfJson = ({ kind, elf, notes, lost }: ElfInfo) => ({
  kind,
  bits: elf.header.bits,
  littleEndian: elf.header.littleEndian,
  machine: machineName(elf.header.machine),
  type: typeName(elf.header.type),
  truncatedBytes: lost,
  segments: elf.programs.map((program) => ({ ...program, type: programTypeName(program.type) })),
  notes: notes.map(({ name, type, desc, offset }) => ({ name, type, size: desc.length, offset })),
});

const processJson = ({ core, executable, prpsinfo, qemu, problem }: ProcessInfo) => ({
  executable: executable?.path,
  buildId: executable?.buildId,
  psargs: prpsinfo?.psargs,
  pid: prpsinfo?.pid,
  threads: core.threadCount,
  problem: problem?.message,
  machine: qemu?.machine.machineType,
  accelerator: qemu?.machine.accelerator,
  commandLine: qemu?.machine.commandLine,
  ranges: qemu?.guest.ranges,
  vcpus: qemu?.guest.vcpus.map(vcpuJson),
  ...kernelJson(qemu?.linux, qemu?.search),
});

const vmcoreJson = ({
  machine,
  parts,
  ranges,
  cpus,
  processors,
  vmcoreinfo,
  hasNote,
  linux,
}: VmcoreInfo) => ({
  machine: machineName(machine),
  parts,
  ranges,
  cpus,
  processors: processors.map(processorJson),
  vmcoreinfoNote: hasNote,
  linux: kernelJson(linux, undefined).linux,
  vmcoreinfo:
    vmcoreinfo === undefined
      ? null
      : { keys: Object.fromEntries(vmcoreinfo.keys.map((key) => [key, vmcoreinfo.get(key)])) },
});
