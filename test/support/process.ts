import type { ChildProcess } from "node:child_process";
import { readdirSync, readlinkSync } from "node:fs";
import { setTimeout } from "node:timers/promises";

/**
 * Waits until a process has a file open whose path begins so, though it may have no name any more: then it hears
 * signals.
 */
export async function untilOpen({ pid }: ChildProcess, path: string): Promise<void> {
  const isIt = (fd: string): boolean => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith(path);
    } catch {
      return false;
    }
  };
  while (!readdirSync(`/proc/${pid}/fd`).some(isIt)) await setTimeout(20);
}
