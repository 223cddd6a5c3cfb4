import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { ConsoleDetector, type ConsoleReport } from "../../src/triage/console/detector.ts";

const root = join(process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../../shared/data"), "triage");
const samples = join(import.meta.dirname, "../../samples/triage");

/** Why the real consoles cannot be read here. */
export const whyNoConsoles: string | undefined = existsSync(join(root, "expected.json"))
  ? undefined
  : `no ${join(root, "expected.json")}`;

export interface ExpectedConsole {
  readonly file: string;
  readonly class: string;
  readonly panic: boolean;
  readonly firstLine?: number | null;
}

/** What is known of each real console. */
export const expectedConsoles = (): ExpectedConsole[] =>
  whyNoConsoles === undefined ? JSON.parse(readFileSync(join(root, "expected.json"), "utf8")) : [];

export const realConsole = (file: string): Buffer => readFileSync(join(root, file));

export const samplePath = (name: string): string => join(samples, name);

export function sampleConsole(name: string): Buffer {
  const bytes = readFileSync(join(samples, name));
  return name.endsWith(".gz") ? gunzipSync(bytes) : bytes;
}

/** Detects in a log that comes in pieces of so many bytes. */
export function detect(log: string | Uint8Array, piece = 4096): ConsoleReport {
  const bytes = typeof log === "string" ? Buffer.from(log) : log;
  const detector = new ConsoleDetector({ source: "console" });
  for (let at = 0; at < bytes.length; at += piece) detector.push(bytes.subarray(at, at + piece));
  return detector.end();
}

/** `class/severity` of each finding. */
export const kinds = ({ findings }: ConsoleReport): string[] =>
  findings.map((finding) => `${finding.class}/${finding.severity}`);

export const titles = ({ findings }: ConsoleReport): string[] => findings.map(({ title }) => title);

/** Writes a kernel's log line by line, each a little later than the one before. */
export class KernelLog {
  #text = "";
  #time: number;
  readonly #caller: string;

  constructor(time = 0, caller = "") {
    this.#time = time;
    this.#caller = caller;
  }

  static stamp = (time: number, caller = ""): string =>
    `[${time.toFixed(6).padStart(12)}]${caller === "" ? "" : `[${caller.padStart(6)}]`} `;

  /** Kernel lines, each with its time. */
  say(...lines: string[]): this {
    for (const line of lines) {
      this.#text += `${KernelLog.stamp(this.#time, this.#caller)}${line}\n`;
      this.#time += 0.001;
    }
    return this;
  }

  /** Lines of others, without. */
  print(...lines: string[]): this {
    this.#text += lines.map((line) => `${line}\n`).join("");
    return this;
  }

  later(seconds: number): this {
    this.#time += seconds;
    return this;
  }

  at(seconds: number): this {
    this.#time = seconds;
    return this;
  }

  boot(release = "6.1.0-1-amd64", commandLine = "console=ttyS0 panic=30 oops=panic"): this {
    this.#time = 0;
    return this.say(
      `Linux version ${release} (a@b) (gcc 12) #1 SMP`,
      `Command line: ${commandLine}`,
      ...Array.from({ length: 12 }, (_, i) => `pci 0000:00:0${i}.0: [8086:1237] type 00 class 0x060000`),
    ).later(1);
  }

  oops(functionName: string, comm = "init"): this {
    return this.say(
      "BUG: kernel NULL pointer dereference, address: 0000000000000000",
      "#PF: supervisor write access in kernel mode",
      "Oops: 0002 [#1] PREEMPT SMP NOPTI",
      `CPU: 1 PID: 121 Comm: ${comm} Tainted: G           OE      6.1.0-1-amd64 #1  Debian 6.1.192-2`,
      `RIP: 0010:${functionName}+0x5/0x20 [lkdtm]`,
      "Call Trace:",
      " <TASK>",
      " vfs_write+0xc7/0x3f0",
      " ? page_add_file_rmap+0xba/0x2f0",
      " ksys_write+0x6b/0xf0",
      " </TASK>",
      "---[ end trace 0000000000000000 ]---",
    );
  }

  panic(reason = "Fatal exception"): this {
    return this.say(
      `Kernel panic - not syncing: ${reason}`,
      "Kernel Offset: 0x1b400000 from 0xffffffff81000000",
    );
  }

  toString(): string {
    return this.#text;
  }
}
