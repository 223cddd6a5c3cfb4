import { IoError } from "../core/errors.ts";
import { removeUnfinished } from "../io/output.ts";
import { letSignalsIn } from "./context.ts";
import { tell } from "./errors.ts";
import { main } from "./main.ts";
import type { Terminal } from "./terminal.ts";

const STATUS = { SIGINT: 130, SIGTERM: 143 } as const;

/** Runs the command line in a real process: signals, closed pipes and the exit status. */
export async function runProcess(process: NodeJS.Process): Promise<void> {
  let signal: keyof typeof STATUS | undefined;
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      // The first lets the job clean up at its next checkpoint; the second does not wait.
      if (signal !== undefined) {
        removeUnfinished();
        process.exit(STATUS[name]);
      }
      signal = name;
    });
  }
  const argv = process.argv.slice(2);
  const terminal: Terminal = {
    stdout: process.stdout,
    stderr: process.stderr,
    signalled: () => signal,
    now: () => performance.now(),
    env: process.env,
  };
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    removeUnfinished();
    // A reader that closed its pipe has seen enough.
    if (error.code === "EPIPE") process.exit(141);
    const failure = new IoError(`cannot write to standard output: ${error.message}`, { cause: error });
    process.exit(tell(failure, { json: false, color: "auto", debug: false }, terminal));
  });
  // Nobody reads what went wrong; the exit status still tells.
  process.stderr.on("error", () => {});
  const code = await main(argv, terminal);
  // A job that took no turn of the event loop has not seen its signals yet.
  await letSignalsIn();
  process.exitCode = code === 0 && signal !== undefined ? STATUS[signal] : code;
}
