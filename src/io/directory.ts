import { readdirSync } from "node:fs";
import { UnsupportedError } from "../core/errors.ts";
import { attempt } from "./file.ts";

/** /sys/kernel/btf has a file for each loaded module; distributions build some 4500 modules. */
const MAX_FILES = 16_384;

/**
 * Names of the regular files in a directory, sorted; links, devices and what lies deeper are passed over.
 * @throws UnsupportedError when there are more than 16384 entries; IoError
 */
export function listFiles(directory: string): string[] {
  const entries = attempt(`cannot list ${directory}`, () => readdirSync(directory, { withFileTypes: true }));
  if (entries.length > MAX_FILES) throw new UnsupportedError(`${directory} has more than ${MAX_FILES} files`);
  return entries
    .filter((entry) => entry.isFile())
    .map(({ name }) => name)
    .sort();
}
