import { readdirSync } from "node:fs";
import { join } from "node:path";
import { UnsupportedError } from "../core/errors.ts";
import { attempt } from "./file.ts";

/** A store of records has some hundred files, an archive of them some thousand. */
const MAX_ENTRIES = 16_384;
const MAX_DEPTH = 8;

/**
 * Paths of the regular files in a directory and those below it, in the order of their names; links and devices are passed
 * over.
 * @throws UnsupportedError when there are more than 16384 entries; IoError
 */
export function listTree(directory: string): string[] {
  const files: string[] = [];
  let entries = 0;
  const visit = (path: string, depth: number): void => {
    const listed = attempt(`cannot list ${path}`, () => readdirSync(path, { withFileTypes: true }), {
      file: path,
    });
    entries += listed.length;
    if (entries > MAX_ENTRIES) {
      throw new UnsupportedError(`${directory} has more than ${MAX_ENTRIES} files`, {
        hint: "name the directory that holds the records, not one far above it",
      });
    }
    for (const entry of listed.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const name = join(path, entry.name);
      if (entry.isDirectory() && depth < MAX_DEPTH) visit(name, depth + 1);
      else if (entry.isFile()) files.push(name);
    }
  };
  visit(directory, 0);
  return files;
}
