import { type SpawnSyncOptions, spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join, resolve } from "node:path";
import { test } from "vitest";

export const repository = resolve(import.meta.dirname, "../..");

/** True where an absent tool is a failure and not a reason to skip. */
export const required = process.env.GUESTCORE_E2E_REQUIRED === "1";

export interface Ran {
  /** Exit status; null when a signal ended the process. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Milliseconds; two minutes when not given. */
  readonly timeout?: number;
}

// vmcore-dmesg lives in sbin, which a plain user's PATH may lack.
const path = [process.env.PATH ?? "", "/usr/sbin", "/sbin"].join(delimiter);

/** Runs a program to its end. Its output is read as Latin-1: logs and notes may hold any byte. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Ran {
  const spawnOptions: SpawnSyncOptions = {
    encoding: "latin1",
    input: options.input ?? "",
    maxBuffer: 1 << 30,
    timeout: options.timeout ?? 120_000,
    killSignal: "SIGKILL",
    env: {
      ...process.env,
      PATH: path,
      LC_ALL: "C.UTF-8",
      TERM: "dumb",
      TZ: "UTC",
      DEBUGINFOD_URLS: "",
      ...options.env,
    },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  };
  const { status, signal, stdout, stderr, error } = spawnSync(command, args, spawnOptions);
  if (error !== undefined && status === null && signal === null) throw error;
  return { status, signal, stdout: String(stdout), stderr: String(stderr) };
}

/** Runs a program that must end well. @throws Error with its output when it does not */
export function runWell(command: string, args: readonly string[], options: RunOptions = {}): Ran {
  const ran = run(command, args, options);
  if (ran.status !== 0) {
    const outcome = ran.signal ?? `exit status ${ran.status}`;
    throw new Error(
      `${command} ${args.join(" ")}: ${outcome}\n${ran.stdout.slice(-4000)}${ran.stderr.slice(-4000)}`,
    );
  }
  return ran;
}

/** The command under test. */
export const guestcore = (...args: string[]): Ran =>
  run(process.execPath, [join(repository, "bin/guestcore.js"), ...args]);

/** Which of these programs are not on this machine. */
export const missing = (tools: readonly string[]): string[] => tools.filter((tool) => !installed(tool));

function installed(tool: string): boolean {
  return path.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK);
      return folder !== "";
    } catch {
      return false;
    }
  });
}

/** A test that needs programs: skipped with their names when they are absent, failed where they are required. */
export function testWith(tools: readonly string[], name: string, body: () => void | Promise<void>): void {
  const absent = missing(tools);
  if (absent.length === 0) {
    test(name, body);
  } else if (required) {
    test(name, () => {
      throw new Error(`not installed: ${absent.join(", ")}`);
    });
  } else {
    test.skip(`${name} (not installed: ${absent.join(", ")})`, body);
  }
}
