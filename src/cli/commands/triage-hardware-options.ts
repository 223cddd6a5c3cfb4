import type { Command } from "commander";
import { UsageError } from "../../core/errors.ts";
import { STANDARD_INPUT } from "../../io/stream.ts";
import type { JobFlags } from "../context.ts";
import { type FailOnFlags, withFailOn } from "./fail-on.ts";

/** Options of the detectors that look for failing hardware. */
export interface HardwareFlags extends JobFlags, FailOnFlags {
  readonly force: boolean;
}

export const withHardwareOptions = (command: Command): Command =>
  withFailOn(command).option("--force", "replace an existing --json-file", false);

/** @throws UsageError when standard input is named twice */
export function checkPaths(paths: readonly string[]): void {
  if (paths.filter((path) => path === STANDARD_INPUT).length < 2) return;
  throw new UsageError("standard input can be named once", { hint: "save what it has in a file first" });
}
