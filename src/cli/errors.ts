import { GuestcoreError, INTERNAL_ERROR_EXIT, type Where } from "../core/errors.ts";
import { printable } from "../core/text.ts";
import { errorEnvelope } from "../report/json.ts";
import { type ColorMode, paint, wantsColor } from "./color.ts";
import { hintText } from "./context.ts";
import type { Terminal } from "./terminal.ts";

/** An error as users and programs are told it. */
export interface ErrorReport {
  readonly code: string;
  readonly message: string;
  readonly hint: string | undefined;
  readonly where: Where | undefined;
  readonly exitCode: number;
}

/** An error and what caused it, outermost first; bounded, for a chain can be made to close. */
function chainOf(error: unknown): unknown[] {
  const chain: unknown[] = [];
  for (let link = error; link !== undefined && chain.length < 10; link = (link as Error).cause) {
    chain.push(link);
    if (!(link instanceof Error)) break;
  }
  return chain;
}

/** Joins the causes outward into one sentence; the message of one that is no error of ours is in its parent's already. */
export function reportOf(error: unknown): ErrorReport {
  const chain = chainOf(error).filter((link) => link instanceof GuestcoreError);
  const [outermost] = chain;
  if (!(error instanceof GuestcoreError) || outermost === undefined) {
    return {
      code: "internal",
      message: error instanceof Error ? `${error.name}: ${error.message}` : String(error),
      hint: BUG_HINT,
      where: undefined,
      exitCode: INTERNAL_ERROR_EXIT,
    };
  }
  const message = chain.reduce(
    (joined, link) => (joined.includes(link.message) ? joined : `${joined}: ${link.message}`),
    outermost.message,
  );
  const place = chain.map(({ where }) => where);
  const file = place.find((where) => where?.file !== undefined)?.file;
  const offset = place.find((where) => where?.offset !== undefined)?.offset;
  return {
    code: outermost.code,
    message,
    hint: chain.find(({ hint }) => hint !== undefined)?.hint,
    where:
      file === undefined && offset === undefined
        ? undefined
        : { ...(file === undefined ? {} : { file }), ...(offset === undefined ? {} : { offset }) },
    exitCode: outermost.exitCode,
  };
}

const BUG_HINT =
  "this is a bug in guestcore: please report it with the command line and what --debug adds to it";

/** Whether the reader of standard output went away: no error to talk about. */
export const isBrokenPipe = (error: unknown): boolean =>
  chainOf(error).some((link) => (link as NodeJS.ErrnoException | undefined)?.code === "EPIPE");

/** Codes of what decoders throw: they do not know what the file they read is called. */
const OF_A_FILE: ReadonlySet<string> = new Set(["unsupported", "corrupt", "unavailable"]);

/** One line for what is wrong and where, one for what to do. */
function errorText({ code, message, hint, where }: ErrorReport, color: boolean): string {
  // All other messages name their file and place themselves.
  const { file, offset } = OF_A_FILE.has(code) ? (where ?? {}) : {};
  const subject = file === undefined ? "" : `${printable(file)}: `;
  const place = offset === undefined ? "" : ` (at offset ${offset})`;
  const internal = code === "internal" ? "internal error: " : "";
  const line = `${paint(color, "error", "guestcore:")} ${subject}${internal}${printable(message)}${place}\n`;
  return line + hintText(hint, color);
}

/** What decides how an error is told. */
export interface TellFlags {
  readonly json: boolean;
  readonly color: ColorMode;
  readonly debug: boolean;
}

/**
 * Tells of an error on stderr, and on stdout when JSON is expected there.
 * @returns the exit status
 */
export function tell(
  error: unknown,
  { json, color, debug }: TellFlags,
  { stdout, stderr, env }: Terminal,
): number {
  const told = reportOf(error);
  // Gaps are found when the result is out: a second JSON document would only be in the way.
  if (json && told.code !== "gaps") stdout.write(errorEnvelope(told));
  stderr.write(errorText(told, wantsColor(color, stderr.isTTY === true, env)));
  if (debug && error instanceof Error) stderr.write(`${error.stack}\n`);
  return told.exitCode;
}

/** Ends a command whose errors were told one by one. */
export class ToldError extends Error {
  readonly exitCode: number;

  constructor(exitCode: number) {
    super("told already");
    this.exitCode = exitCode;
  }
}
