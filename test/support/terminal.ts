import type { Terminal } from "../../src/cli/terminal.ts";
import type { StopSignal } from "../../src/core/errors.ts";

/** A terminal that remembers what it was shown and whose clock stands still unless moved. */
export class FakeTerminal implements Terminal {
  out = "";
  err = "";
  time = 0;
  signal: StopSignal | undefined;
  readonly env: Record<string, string | undefined>;
  readonly stdout: Terminal["stdout"];
  readonly stderr: Terminal["stderr"];

  constructor(options: { isTTY?: boolean; columns?: number; env?: Record<string, string> } = {}) {
    const { isTTY = false, columns, env = {} } = options;
    const size = columns === undefined ? {} : { columns };
    this.env = env;
    this.stdout = {
      isTTY,
      write: (text) => {
        this.out += text;
      },
    };
    this.stderr = {
      isTTY,
      ...size,
      write: (text) => {
        this.err += text;
      },
    };
  }

  readonly signalled = () => this.signal;
  readonly now = () => this.time;
}
