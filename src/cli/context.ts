import { type Command, Option } from "commander";
import { InterruptedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { printable } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { COLOR_MODES, type ColorMode, paint, wantsColor } from "./color.ts";
import { PROGRESS_MODES, type ProgressMode, progressSink } from "./progress.ts";
import type { Terminal } from "./terminal.ts";

/** Options of every command with a result. */
export interface ResultFlags {
  readonly json: boolean;
  readonly jsonFile?: string;
}

/** Options of every command that reads a dump. */
export interface JobFlags extends ResultFlags {
  readonly progress: ProgressMode;
  readonly quiet: boolean;
  readonly color: ColorMode;
  readonly debug: boolean;
  readonly tmpdir?: string;
}

export const withResultOptions = (command: Command): Command =>
  command
    .option("--json", "print the result as JSON", false)
    .option("--json-file <file>", "write the result as JSON to a file as well");

export const withJobOptions = (command: Command): Command =>
  withResultOptions(command)
    .addOption(new Option("--progress <how>", "progress on stderr").choices(PROGRESS_MODES).default("auto"))
    .option("-q, --quiet", "no progress and no warnings on stderr", false)
    .option("--tmpdir <dir>", "where compressed input is unpacked (default: $TMPDIR, else /var/tmp)");

/** Options of every command; called last, for it looks at those that are there. */
export const withCommonOptions = (command: Command): Command =>
  withForce(command)
    .addOption(new Option("--color <when>", "colour on stderr").choices(COLOR_MODES).default("auto"))
    .option("--debug", "show where in guestcore an error arose", false);

/** A result that can be written to a file can replace one. */
function withForce(command: Command): Command {
  const has = (name: string) => command.options.some(({ long }) => long === name);
  if (!has("--json-file") || has("--force")) return command;
  return command.option("--force", "replace an existing --json-file", false);
}

/** The event loop is given a turn at most this often; a turn costs a few microseconds. */
const TURN_MS = 20;

export function jobContext(terminal: Terminal, flags: Omit<JobFlags, keyof ResultFlags>): JobContext {
  const { stderr, now, env } = terminal;
  const progress = progressSink(terminal, flags.quiet ? "none" : flags.progress);
  const color = wantsColor(flags.color, stderr.isTTY === true, env);
  let turned = Number.NEGATIVE_INFINITY;
  return {
    progress,
    warn: (warning) => {
      if (flags.quiet) return;
      progress.clear();
      stderr.write(warningText(warning, color));
    },
    checkpoint: async () => {
      if (now() - turned < TURN_MS) return;
      await letSignalsIn();
      turned = now();
      const signal = terminal.signalled();
      if (signal !== undefined) throw new InterruptedError(signal);
    },
    temporaryDirectories: temporaryDirectories(flags.tmpdir, env),
  };
}

/** Signal handlers run only between turns of the event loop, and a turn begins with them. */
export const letSignalsIn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** /var/tmp before /tmp: an unpacked core is large, and /tmp often lies in memory. */
function temporaryDirectories(chosen: string | undefined, env: Terminal["env"]): string[] {
  if (chosen !== undefined) return [chosen];
  return env.TMPDIR === undefined || env.TMPDIR === "" ? ["/var/tmp", "/tmp", "."] : [env.TMPDIR];
}

function warningText({ code, message, hint }: Warning, color: boolean): string {
  return `${paint(color, "warning", `warning ${code}:`)} ${printable(message)}\n${hintText(hint, color)}`;
}

/** The line below an error or warning that says what to do about it. */
export const hintText = (hint: string | undefined, color: boolean): string =>
  hint === undefined ? "" : `  ${paint(color, "hint", "hint:")} ${printable(hint)}\n`;
