import { readdirSync, type Stats, statSync } from "node:fs";
import { join, sep } from "node:path";
import { attempt } from "./file.ts";

/** A file found below what was named. */
export interface FoundFile {
  readonly path: string;
  /** What was named: the file itself, or the directory above it. */
  readonly root: string;
  /** Names between the two, the file's own last; empty when it was named itself. */
  readonly within: readonly string[];
  readonly size: number;
}

export interface FoundFiles {
  /** Sorted by name within what was named; each file once, whatever names it has. */
  readonly files: readonly FoundFile[];
  /** Links to directories, devices, sockets: not looked into. */
  readonly passedOver: readonly string[];
  /** What lies beyond the bounds, where that is so. */
  readonly beyond: "files" | "depth" | undefined;
}

export const MAX_FILES = 16_384;
export const MAX_DEPTH = 16;

/**
 * Lists the regular files named and those below the directories named. A link to a file is that file, one to a directory
 * is passed over, so nothing goes round in circles.
 * @throws IoError when something that was named cannot be read
 */
export function findArtefacts(paths: readonly string[]): FoundFiles {
  const files: FoundFile[] = [];
  const passedOver: string[] = [];
  const known = new Set<string>();
  let beyond: FoundFiles["beyond"];
  let looked = 0;

  const add = (path: string, root: string, within: readonly string[], named: boolean): void => {
    const stat = named ? attempt(`cannot stat ${path}`, () => statSync(path), { file: path }) : statOf(path);
    if (stat === undefined || stat.isSocket() || (!stat.isFile() && !stat.isDirectory() && !named)) {
      passedOver.push(path);
      return;
    }
    if (stat.isDirectory()) {
      if (named) visit(path, root, within);
      else passedOver.push(path);
      return;
    }
    const identity = `${stat.dev}:${stat.ino}`;
    if (known.has(identity)) return;
    known.add(identity);
    files.push({ path, root, within, size: stat.size });
  };

  const visit = (path: string, root: string, within: readonly string[]): void => {
    if (within.length >= MAX_DEPTH) {
      beyond ??= "depth";
      return;
    }
    const entries = attempt(`cannot list ${path}`, () => readdirSync(path, { withFileTypes: true }), {
      file: path,
    });
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (++looked > MAX_FILES) {
        beyond = "files";
        return;
      }
      const inner = [...within, entry.name];
      const full = join(path, entry.name);
      if (entry.isDirectory()) visit(full, root, inner);
      else add(full, root, inner, false);
    }
  };

  for (const path of paths) {
    const trimmed = path.length > 1 && path.endsWith(sep) ? path.slice(0, -1) : path;
    add(trimmed, trimmed, [], true);
  }
  return { files, passedOver, beyond };
}

/** Of what vanished or cannot be looked at meanwhile: undefined. */
function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}
