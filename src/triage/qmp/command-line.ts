/** What a QEMU command line says that a crash's fate depends on. */
export interface CommandLine {
  /** Name of the program: `qemu-system-x86_64`. */
  readonly program: string | undefined;
  /** `-name guest=…`. */
  readonly guest: string | undefined;
  /** `-machine`, without its properties; undefined where QEMU chose. */
  readonly machine: string | undefined;
  /** Devices that tell of a panic: `pvpanic`, `pvpanic-pci`, `hv-crash` … */
  readonly panicDevices: readonly string[];
  /** `events=` of a pvpanic device. */
  readonly events: number | undefined;
  /** `-action`, by what it is for: `panic`, `shutdown`, `reboot`, `watchdog`. */
  readonly actions: Readonly<Record<string, string>>;
  readonly noShutdown: boolean;
  readonly noReboot: boolean;
  readonly watchdog: string | undefined;
  /** `-S`: it begins stopped. */
  readonly paused: boolean;
  /** `-incoming`: it begins as the destination of a migration. */
  readonly incoming: boolean;
  /** `-append`. */
  readonly append: string | undefined;
}

/** A command line has more only when it is none. */
const MAX_WORDS = 4096;
const MAX_WORD = 8192;
const MAX_DEVICES = 16;

/** Programs that are QEMU, by the last part of their path. */
const PROGRAM = /^(?:qemu-system-[\w-]{1,32}|qemu-kvm[\w.-]{0,32}|kvm(?:-spice)?|qemu(?:-[a-z])?)$/;

export const isQemu = (word: string): boolean => PROGRAM.test(word.slice(word.lastIndexOf("/") + 1));

/**
 * Reads a command line as a shell, libvirt's log or /proc/PID/cmdline has it.
 * @returns undefined when there is no QEMU option in it
 */
export function readCommandLine(text: string): CommandLine | undefined {
  const words = text.includes("\0") ? text.split("\0", MAX_WORDS) : shellWords(text);
  const start = words.findIndex((word, index) => isQemu(word) || isOption(words, index));
  if (start < 0) return undefined;
  const found = new Found();
  if (!words[start]!.startsWith("-")) found.program = words[start]!.slice(words[start]!.lastIndexOf("/") + 1);
  for (let index = start; index < words.length; index++) {
    const word = words[index]!;
    if (!word.startsWith("-")) continue;
    const name = word.replace(/^--?/, "");
    found.option(name, words[index + 1] ?? "");
    // Its value is no option, whatever it begins with.
    if (VALUED.has(name)) index++;
  }
  return found.result();
}

const VALUED = new Set([
  "append",
  "name",
  "machine",
  "M",
  "device",
  "action",
  "watchdog-action",
  "cpu",
  "incoming",
]);
const isOption = (words: readonly string[], index: number): boolean =>
  /^--?(?:machine|M|device|action|accel|qmp|mon|no-shutdown|append)$/.test(words[index]!);

/** One piece of a word: a quoted part, an escaped character, or plain ones. Each takes time in its own length only. */
const WORD_PART = /'([^']*)(?:'|$)|"((?:[^"\\]|\\.)*)(?:"|$)|\\(.?)|([^\s'"\\]+)|(\s+)/gsy;

/** Splits as a POSIX shell does, without expansions. */
function shellWords(text: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  for (const [, single, double, escaped, plain, space] of text.matchAll(WORD_PART)) {
    if (space !== undefined) {
      if (word !== undefined) words.push(word.slice(0, MAX_WORD));
      word = undefined;
    } else if (escaped === "\n" || escaped === "\r") {
      // A line that goes on.
    } else {
      word = `${word ?? ""}${single ?? double?.replace(/\\(["\\$`\n])/g, "$1") ?? escaped ?? plain ?? ""}`;
    }
    if (words.length === MAX_WORDS) return words;
  }
  if (word !== undefined) words.push(word.slice(0, MAX_WORD));
  return words;
}

class Found {
  program: string | undefined;
  #guest: string | undefined;
  #machine: string | undefined;
  #append: string | undefined;
  #watchdog: string | undefined;
  #events: number | undefined;
  readonly #devices: string[] = [];
  readonly #actions: Record<string, string> = {};
  readonly #flags = new Set<string>();

  option(name: string, value: string): void {
    switch (name) {
      case "name":
        this.#guest = (property(value, "guest") ?? value.split(",", 1)[0])?.slice(0, 200);
        break;
      case "machine":
      case "M":
        this.#machine = property(value, "type") ?? this.#machineOf(value);
        break;
      case "device":
        this.#device(value);
        break;
      case "action":
        for (const [what, how] of pairs(value)) if (ACTIONS.has(what)) this.#actions[what] = how;
        break;
      case "watchdog-action":
        this.#actions.watchdog = value.slice(0, 40);
        break;
      case "watchdog":
        this.#watchdog = value.slice(0, 40);
        break;
      case "cpu":
        if (/,\+?hv[-_](?:crash|passthrough)\b(?!=off)/.test(value)) this.#devices.push("hv-crash");
        break;
      case "append":
        this.#append = value.slice(0, 4096);
        break;
      default:
        if (FLAGS.has(name)) this.#flags.add(name);
    }
  }

  #machineOf(value: string): string | undefined {
    const [first = ""] = value.split(",", 1);
    return first === "" || first.includes("=") ? this.#machine : first.slice(0, 80);
  }

  /** `pvpanic,events=1`, or libvirt's `{"driver":"pvpanic","ioport":1285}`. */
  #device(value: string): void {
    const driver = /^\{.{0,200}?"driver":"([\w-]{1,60})"/.exec(value)?.[1] ?? value.split(",", 1)[0]!;
    if (/^(?:ib700|i6300esb|diag288|itco)$/i.test(driver)) this.#watchdog = driver;
    if (!driver.startsWith("pvpanic") || this.#devices.length >= MAX_DEVICES) return;
    this.#devices.push(driver.slice(0, 40));
    const events = /(?:,events=|"events":)(0x[0-9a-f]{1,2}|\d{1,3})\b/.exec(value)?.[1];
    if (events !== undefined) this.#events = Number(events);
  }

  result(): CommandLine {
    return {
      program: this.program,
      guest: this.#guest,
      machine: this.#machine,
      panicDevices: this.#devices,
      events: this.#events,
      actions: this.#actions,
      noShutdown: this.#flags.has("no-shutdown") || this.#actions.shutdown === "pause",
      noReboot: this.#flags.has("no-reboot") || this.#actions.reboot === "shutdown",
      watchdog: this.#watchdog,
      paused: this.#flags.has("S"),
      incoming: this.#flags.has("incoming"),
      append: this.#append,
    };
  }
}

const ACTIONS = new Set(["panic", "shutdown", "reboot", "watchdog"]);
const FLAGS = new Set(["no-shutdown", "no-reboot", "S", "incoming"]);

/** `a=b,c=d` as pairs. */
const pairs = (value: string): [string, string][] =>
  value
    .slice(0, MAX_WORD)
    .split(",", 64)
    .map((part) => {
      const equals = part.indexOf("=");
      return [part.slice(0, Math.max(0, equals)), part.slice(equals + 1).slice(0, 40)];
    });

const property = (value: string, name: string): string | undefined =>
  pairs(value).find(([key]) => key === name)?.[1];

/** Whether there is an option in a text that this module knows. */
export const isCommandLine = (text: string): boolean => readCommandLine(text) !== undefined;
