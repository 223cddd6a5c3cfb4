import type { Command } from "commander";
import type { StopSignal } from "../core/errors.ts";

/** The process as commands see it; tests bring their own. */
export interface Terminal {
  readonly stdout: {
    write(text: string | Uint8Array): unknown;
    readonly isTTY?: boolean;
    readonly columns?: number;
  };
  readonly stderr: { write(text: string): unknown; readonly isTTY?: boolean; readonly columns?: number };
  /** The last signal that asked to stop, if any. */
  readonly signalled: () => StopSignal | undefined;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** What a command's file exports: it adds itself to the program. */
export type AddCommand = (program: Command, terminal: Terminal) => Command;
