import type { MachineFacts } from "./types.ts";

/** libvirt's longest command lines have some ten KiB. */
export const MAX_COMMAND_LINE = 256 * 1024;
const MAX_WORDS = 4096;

/** A program that runs a machine, by its file name: qemu-system-x86_64, qemu-kvm, kvm, or a build of one own. */
const PROGRAM = /(?:^|\/)(?:qemu[\w.-]{0,40}|kvm)$/;
/** libvirt, systemd-run and others put these before the program. */
const MAX_BEFORE = 64;

/**
 * The words of a command line as a file holds it: separated by NULs (/proc/PID/cmdline), or as a shell reads it, with
 * quotes and lines that end in a backslash. Time is linear in the text.
 */
export function wordsOf(text: string): string[] {
  const line = text.slice(0, MAX_COMMAND_LINE);
  if (line.includes("\0")) return line.split("\0", MAX_WORDS).filter((word) => word !== "");
  const words: string[] = [];
  // A run in quotes, an escaped character (a newline: none), or a run of plain ones; white space ends a word.
  const piece = /'([^']*)'?|"((?:[^"\\]|\\.)*)"?|\\(.?)|([^\s'"\\]+)|(\s+)/gs;
  let word: string | undefined;
  for (const [, single, double, escaped, plain, space] of line.matchAll(piece)) {
    if (space !== undefined) {
      if (word !== undefined) words.push(word);
      word = undefined;
      if (words.length >= MAX_WORDS) break;
    } else if (escaped !== "\n") {
      word = `${word ?? ""}${single ?? double?.replace(/\\(.)/gs, "$1") ?? escaped ?? plain ?? ""}`;
    }
  }
  return word === undefined ? words : [...words, word];
}

/** Whether a text is the command line of a QEMU, and little else. */
export function isCommandLine(text: string): boolean {
  if (!/qemu|kvm/.test(text)) return false;
  const words = wordsOf(text.slice(0, 64 * 1024));
  const program = words.findIndex((word) => PROGRAM.test(word));
  const after = words.slice(program + 1);
  // An option has one value at most; a disk image may stand by itself, and what follows in a script.
  const stray = after.filter((word, at) => !word.startsWith("-") && !(after[at - 1] ?? "").startsWith("-"));
  return (
    program >= 0 &&
    stray.length * 4 <= words.length &&
    program < MAX_BEFORE &&
    words.slice(0, program).every((word) => /^\w+=|^[/\w.-]+$/.test(word)) &&
    after.some((word) => /^--?(?:m|smp|machine|M|name|drive|kernel|accel|cpu|device)$/.test(word))
  );
}

/** What a QEMU command line says of its machine; undefined when no program of QEMU is in it. */
export function machineFacts(text: string): MachineFacts | undefined {
  const words = wordsOf(text);
  const at = words.findIndex((word) => PROGRAM.test(word));
  if (at < 0) return undefined;
  const program = words[at]!;
  const options = optionsOf(words.slice(at + 1));
  const all = (name: string): readonly string[] => options.get(name) ?? [];
  const name = nameOf(all("name").at(-1));
  const panicAction = settingOf(all("action"), "panic");
  const timeout = all("append")
    .at(-1)
    ?.match(/(?:^|\s)panic=(-?\d{1,9})(?:\s|$)/)?.[1];
  return {
    ...(name === undefined ? {} : { name }),
    pvpanic: tellsOfPanics(program, all),
    noReboot: options.has("no-reboot") || settingOf(all("action"), "reboot") === "shutdown",
    ...(panicAction === undefined ? {} : { panicAction }),
    ...(timeout === undefined ? {} : { panicTimeout: Number(timeout) }),
  };
}

/** Option without dashes → its values, in order; one without a value has none. */
function optionsOf(words: readonly string[]): ReadonlyMap<string, readonly string[]> {
  const options = new Map<string, string[]>();
  let current: string[] | undefined;
  for (const word of words) {
    if (word.startsWith("-") && word.length > 1) {
      const name = word.replace(/^--?/, "");
      current = options.get(name) ?? [];
      options.set(name, current);
    } else {
      current?.push(word);
      current = undefined;
    }
  }
  return options;
}

/** `guest=web,debug-threads=on` and `web` alike. */
function nameOf(value: string | undefined): string | undefined {
  const [first = ""] = value?.split(",") ?? [];
  const name = settingOf(value === undefined ? [] : [value], "guest") ?? first;
  return name === "" || name.includes("=") ? undefined : name;
}

/** Of `a=1,b=2` the value of a key; the last that has it counts. */
function settingOf(values: readonly string[], key: string): string | undefined {
  const pairs = values.flatMap((value) => value.split(","));
  return pairs.findLast((pair) => pair.startsWith(`${key}=`))?.slice(key.length + 1);
}

/** QEMU: hw/misc/pvpanic*.c; pseries and s390 report by RTAS and PSW; machines of 1.5 had the device built in. */
function tellsOfPanics(program: string, all: (name: string) => readonly string[]): boolean {
  if (/-(?:ppc64|s390x)/.test(program)) return true;
  if (all("device").some((device) => /^pvpanic|"driver"\s*:\s*"pvpanic/.test(device))) return true;
  if (all("cpu").some((cpu) => /\bhv[-_]crash\b(?!=off)/.test(cpu))) return true;
  return [...all("machine"), ...all("M")].some((machine) =>
    /^(?:type=)?pc(?:-i440fx|-q35)?-1\.5\b/.test(machine),
  );
}
