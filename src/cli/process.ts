import { IoError, SIGNAL_STATUS, type StopSignal } from "../core/errors.ts";
import { finishedOutputs, removeUnfinished } from "../io/output.ts";
import { letSignalsIn } from "./context.ts";
import { tell } from "./errors.ts";
import { main } from "./main.ts";
import type { Terminal } from "./terminal.ts";

/**
 * Runs the command line in a real process: signals, closed pipes and the exit status. A signal that came while the
 * job ran decides the status even when the job ended just then, unless the output was complete by that time: the
 * status always tells whether there is one.
 */
export async function runProcess(process: NodeJS.Process): Promise<void> {
  let signal: StopSignal | undefined;
  let running = true;
  for (const name of Object.keys(SIGNAL_STATUS) as StopSignal[]) {
    process.on(name, () => {
      // The first lets the job clean up at its next checkpoint; the second does not wait.
      if (signal !== undefined || !running) {
        removeUnfinished();
        process.exit(SIGNAL_STATUS[name]);
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
  const before = finishedOutputs();
  const code = await main(argv, terminal);
  // A job that took no turn of the event loop has not seen its signals yet; the first turn may be half over.
  await letSignalsIn();
  await letSignalsIn();
  running = false;
  const complete = finishedOutputs() > before;
  process.exitCode = signal === undefined || complete ? code : SIGNAL_STATUS[signal];
}
