import { basename } from "node:path";
import { isStoreFile } from "./triage-artefact.ts";
import type { Source } from "./triage-group.ts";

/**
 * Records of one crash may lie in several directories: systemd-pstore has one for each second, and people keep copies. Those
 * of a VM are read together.
 */
export function withOneStore(sources: readonly Source[]): readonly Source[] {
  const stores = sources.filter(isRecords);
  const [first] = stores;
  if (first === undefined || stores.length === 1) return sources;
  const files = stores.flatMap((store) => store.files);
  const store = { ...first, path: commonDirectory(stores.map(({ path }) => path)) ?? first.path, files };
  return sources.flatMap((source) => (source === first ? [store] : isRecords(source) ? [] : [source]));
}

const isRecords = ({ kind, files, failure }: Source): boolean =>
  kind === "pstore" && failure === undefined && isStoreFile(basename(files[0]!.path));

/** The nearest directory above all; undefined where that is no place of theirs. */
function commonDirectory(paths: readonly string[]): string | undefined {
  const [first, ...others] = paths.map((path) => path.split("/"));
  const same = first!.findIndex((part, index) => others.some((other) => other[index] !== part));
  const common = (same < 0 ? first! : first!.slice(0, same)).join("/");
  return common === "" ? undefined : common;
}
