import { type Dirent, readdirSync, type Stats, statSync } from "node:fs";
import { dirname, join, sep } from "node:path";
import { GuestcoreError } from "../core/errors.ts";
import { attempt } from "./file.ts";

/** A file found below what was named. */
export interface FoundFile {
  readonly path: string;
  /** What was named: the file itself, or the directory above it. */
  readonly root: string;
  /** Names between the two, the file's own last; empty when it was named itself. */
  readonly within: readonly string[];
  readonly size: number;
  /** The same for all names of one file. */
  readonly identity: string;
}

export interface FoundFiles {
  /** Sorted by name within what was named; each file once in a directory, whatever names it has there. */
  readonly files: readonly FoundFile[];
  /** Links to directories, devices, sockets: not looked into. */
  readonly passedOver: readonly string[];
  /** Directories below what was named that could not be listed, and why. */
  readonly unlisted: readonly { readonly path: string; readonly message: string }[];
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
  const unlisted: { path: string; message: string }[] = [];
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
    // Beside another name it is the same artefact; in another directory it may be another VM's as well.
    const place = `${identity} ${dirname(path)}`;
    if (known.has(place)) return;
    known.add(place);
    files.push({ path, root, within, size: stat.size, identity });
  };

  const list = (path: string, within: readonly string[]): Dirent[] => {
    try {
      return attempt(`cannot list ${path}`, () => readdirSync(path, { withFileTypes: true }), { file: path });
    } catch (error) {
      if (within.length === 0 || !(error instanceof GuestcoreError)) throw error;
      unlisted.push({ path, message: error.message });
      return [];
    }
  };

  const visit = (path: string, root: string, within: readonly string[]): void => {
    if (within.length >= MAX_DEPTH) {
      beyond ??= "depth";
      return;
    }
    for (const entry of list(path, within).sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (++looked > MAX_FILES) {
        beyond = "files";
        return;
      }
      const inner = [...within, entry.name];
      const full = join(path, entry.name);
      // Node decodes names: the bytes of one that is no UTF-8 are lost.
      if (entry.name.includes("\ufffd") && statOf(full) === undefined) {
        unlisted.push({ path: full, message: `cannot look at ${full}: its name is not UTF-8; rename it` });
      } else if (entry.isDirectory()) visit(full, root, inner);
      else add(full, root, inner, false);
    }
  };

  for (const path of paths) {
    const trimmed = path.length > 1 && path.endsWith(sep) ? path.slice(0, -1) : path;
    add(trimmed, trimmed, [], true);
  }
  return { files, passedOver, unlisted, beyond };
}

/** Of what vanished or cannot be looked at meanwhile: undefined. */
function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}
